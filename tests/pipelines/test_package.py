"""The package, built and installed as workers get it: from the sdist, not editable."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from pipelines import generate_events
from pipelines.template import ROOT
from tests.cloud.servers import find_uv
from tests.pipelines.running import published

SOURCES = ("pipelines", "transforms")
FILES = ("LICENSE", "MANIFEST.in", "pyproject.toml", "requirements.in", "setup.py")


def call(*command, cwd):
    done = subprocess.run(
        command,
        cwd=cwd,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel that is built from the sdist."""
    source = tmp_path_factory.mktemp("source")
    for name in FILES:
        shutil.copy(ROOT / name, source)
    for name in SOURCES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    call(sys.executable, "-m", "build", "--no-isolation", str(source), cwd=source)
    (path,) = (source / "dist").glob("*.whl")
    return path


def test_the_wheel_holds_all_that_the_program_reads(wheel):
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == {
        str(path.relative_to(ROOT))
        for name in SOURCES
        for path in (ROOT / name).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


def test_the_installed_wheel_runs_the_pipeline(wheel, tmp_path):
    environment = tmp_path / "environment"
    call(sys.executable, "-m", "venv", "--without-pip", str(environment), cwd=tmp_path)
    python = environment / "bin/python"
    call(find_uv(), "pip", "install", "--no-deps", "--python", python, wheel, cwd=tmp_path)
    # The dependencies are this environment's: a path file adds their folder, but not the path
    # files in it, and so not the editable install of the program.
    site = environment / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    (site / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    generate_events.main(["--rows=500", "--seed=1", f"--output={tmp_path / 'events.csv'}"])

    place = call(python, "-c", "import transforms; print(transforms.__file__)", cwd=tmp_path)
    call(
        environment / "bin/customer-analytics",
        "--input=events.csv",
        "--output=warehouse",
        cwd=tmp_path,
    )

    assert Path(place.strip()).is_relative_to(environment)
    assert published(tmp_path / "warehouse")["fct_events"].num_rows > 0
