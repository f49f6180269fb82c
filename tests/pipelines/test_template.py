"""The flex template: what is generated, what the offline checks find, what a launch passes on."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import template
from pipelines.options import OPTIONS, parse_arguments

CHECKED_FILES = (
    *(".dockerignore", "LICENSE", "MANIFEST.in", "Makefile", "cloudbuild.yaml", "pyproject.toml"),
    *("requirements-dev.lock", "requirements-uv.lock", "requirements.in", "requirements.lock"),
    *("setup.py", "templates/Dockerfile", "templates/launch.py", "templates/metadata.json"),
)
PARAMETERS = json.loads(template.metadata())["parameters"]
OPTIONS_BY_NAME = {option.name: option for option in OPTIONS}
FORM_OPTIONS = [option for option in OPTIONS if not option.command_line_only]


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A copy of the files that the checks look at."""
    for name in CHECKED_FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(template.ROOT / name, tmp_path / name)
    for name in ("pipelines", "transforms"):
        (tmp_path / name).mkdir()
    return tmp_path


def change(path: Path, pattern: str, replacement: str) -> None:
    text = path.read_text()
    changed = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    assert changed != text
    path.write_text(changed)


def test_parameters_are_the_options():
    assert [parameter["name"] for parameter in PARAMETERS] == [
        option.name for option in FORM_OPTIONS
    ]
    assert {parameter["name"] for parameter in PARAMETERS}.isdisjoint(
        {"runner", "project", "region", "estimate"}
    )


def test_a_parameter_in_full():
    timeout = next(p for p in PARAMETERS if p["name"] == "session_timeout_seconds")
    assert timeout == {
        "name": "session_timeout_seconds",
        "label": "Session timeout",
        "helpText": "Seconds between neighbouring events beyond which the next session starts. "
        "For example: 1800",
        "groupName": "Rules",
        "isOptional": True,
        "paramType": "NUMBER",
        "regexes": [OPTIONS_BY_NAME["session_timeout_seconds"].pattern],
        "defaultValue": "3600",
    }


def test_a_launch_passes_every_parameter(monkeypatch):
    """The launcher writes `--name=value` for each, flags included."""
    monkeypatch.setattr("pipelines.configuration.read_configuration", str)
    options, beam_arguments = parse_arguments(
        [f"--{option.name}={option.example}" for option in FORM_OPTIONS]
    )
    assert beam_arguments == []
    assert options.input == ("gs://bucket/2019-*.csv.gz",)
    for option in FORM_OPTIONS:
        expected = option.parse(option.example)
        assert getattr(options, option.name) == ((expected,) if option.several else expected)


def test_defaults_of_the_form_are_those_of_the_command_line():
    required = ["--input=gs://bucket/x.csv", "--output=gs://bucket/w"]
    defaults = [
        f"--{parameter['name']}={parameter['defaultValue']}"
        for parameter in PARAMETERS
        if "defaultValue" in parameter
    ]
    assert parse_arguments(required + defaults) == parse_arguments(required)


@pytest.mark.parametrize(
    ("text", "accepted"),
    [
        ("gs://b/a.csv", True),
        ("gs://b/a.csv,gs://b/2019-*.csv.gz", True),
        ("a.csv", False),
        ("gs://b/a.csv gs://b/b.csv", False),
    ],
)
def test_the_form_takes_inputs_in_buckets_only(text, accepted):
    pattern = next(p for p in PARAMETERS if p["name"] == "input")["regexes"][0]
    assert bool(re.search(pattern, text)) is accepted


@pytest.mark.parametrize(
    ("name", "pattern", "replacement", "problem"),
    [
        ("templates/metadata.json", "3600", "1800", r'-      "defaultValue": "1800"'),
        ("templates/Dockerfile", r"_sdk:[\d.]+", "_sdk:2.0.0", "Beam ['2.0.0']"),
        ("requirements.lock", r"^apache-beam==[\d.]+", "apache-beam==2.0.0", "make lock"),
        ("templates/Dockerfile", r"beam_python3\.11", "beam_python3.12", "Python ['3.11', '3.12']"),
        ("templates/Dockerfile", r"python311", "python312", "Python ['3.11', '3.12']"),
        ("setup.py", r">=3\.11,", ">=3.12,", "setup.py supports ['3.12', '3.13']"),
        ("cloudbuild.yaml", r"python:3\.11\.\d+", "python:3.12.1", "but one is wanted"),
        ("templates/Dockerfile", r"launcher-base:\S+", "launcher-base:latest", "not pinned"),
        ("templates/Dockerfile", "^COPY pipelines", "COPY pipeline", "there is no such file"),
        (".dockerignore", "^!transforms$", "", "COPY transforms: .dockerignore leaves it out"),
        ("cloudbuild.yaml", "templates/Dockerfile", "templates/Docker", "no such file"),
        ("cloudbuild.yaml", "make check", "make chek", "make chek: there is no such target"),
    ],
)
def test_what_the_checks_find(checkout, name, pattern, replacement, problem):
    change(checkout / name, pattern, replacement)
    found = "\n".join(template.problems(checkout))
    assert problem in found


@pytest.mark.parametrize(
    ("name", "pattern", "replacement", "problem"),
    [
        ("cloudbuild.yaml", "^steps:", "stages:", "check-jsonschema:"),
        ("templates/Dockerfile", "^WORKDIR /template", "WORKDIR template", "hadolint:"),
    ],
)
def test_what_the_linters_find(checkout, name, pattern, replacement, problem):
    change(checkout / name, pattern, replacement)
    (found,) = template.lint(checkout)
    assert found.startswith(problem)


def test_the_copy_is_right_before_it_is_changed(checkout):
    assert list(template.problems(checkout)) == []


def test_image_and_specification_carry_the_same_tag():
    text = (template.ROOT / template.BUILD).read_text()
    image = re.search(r"_IMAGE: \S+:(\S+)", text)
    specification = re.search(r"_TEMPLATE: \S+/customer-analytics-(\S+)\.json", text)
    assert image[1] == specification[1] == "${BUILD_ID}"


def test_check_from_the_command_line():
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.template", "--check"],
        cwd=template.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "The flex template agrees with the code.\n")


def test_stale_metadata_fails_the_check(checkout, monkeypatch, capsys):
    monkeypatch.setattr(template, "ROOT", checkout)
    (checkout / template.METADATA).write_text("{}\n")
    assert template.main(["--check"]) == 1
    assert "python -m pipelines.template" in capsys.readouterr().out
    assert template.main([]) == 0
    assert template.main(["--check"]) == 0


def test_kernels_of_the_image_are_compiled_for_every_worker(tmp_path):
    """Numba keeps in its cache, and looks for, what is compiled for this name and no features."""
    dockerfile = (template.ROOT / "templates/Dockerfile").read_text(encoding="utf-8")
    names = re.findall(r"(NUMBA_CPU_\w+)=(\S*)", dockerfile)
    assert dockerfile.index("NUMBA_CPU_NAME") < dockerfile.index("import transforms")
    asked = (
        "from numba.core.registry import cpu_target; "
        "print(cpu_target.target_context.codegen().magic_tuple())"
    )
    done = subprocess.run(
        [sys.executable, "-c", asked],
        env={**os.environ, **dict(names)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip().endswith("'x86-64-v3', '')")
