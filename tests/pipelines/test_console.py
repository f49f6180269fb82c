"""The command: what it imports and shows, and how signals and streams that fail end a run."""

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from pipelines import console
from pipelines.template import ROOT
from tests.oracle.grammar import COLUMNS
from tests.oracle.strategies import GOOD_ROW
from tests.pipelines.running import arguments

SLOW = ("apache_beam", "google", "grpc", "numba", "numpy", "polars", "pyarrow", "duckdb")
MODULE = [sys.executable, "-m", "pipelines.customer_analytics"]


@pytest.fixture
def small_csv(tmp_path) -> Path:
    path = tmp_path / "small.csv"
    path.write_text(f"{','.join(COLUMNS)}\n{','.join(GOOD_ROW)}\n")
    return path


def finish(command: list[str], **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120, **options
    )


# What is imported ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        ([], 2),
        (["--input=a", "--output=b", "--as_of=yesterday"], 2),
        (["--input=a", "--output=b", "--bigquery_dataset=p.d"], 2),
    ],
)
def test_nothing_slow_is_imported_before_the_arguments_are_read(given, code):
    done = finish([sys.executable, "-X", "importtime", *MODULE[1:], *given])
    assert done.returncode == code
    imported = re.findall(r"^import time: .*\| +([\w.]+)$", done.stderr, re.MULTILINE)
    assert "pipelines.console" in imported
    assert {name.partition(".")[0] for name in imported}.isdisjoint(SLOW)


def test_an_option_that_may_be_one_of_beam_is_looked_up_there():
    done = finish([*MODULE, "--input=a", "--output=b", "--tempp_location=c"])
    assert (done.returncode, done.stderr) == (
        2,
        "customer-analytics: unknown option --tempp_location=c; did you mean --temp_location?\n",
    )


def test_the_version_is_that_of_the_package():
    done = finish([*MODULE, "--version"])
    version = metadata.version("estore-analytics")
    assert (done.returncode, done.stdout) == (0, f"customer-analytics {version}\n")


# Logs ---------------------------------------------------------------------------------------------


def test_logs_are_shown_from_the_level_that_is_asked_for(tmp_path, small_csv, capsys):
    assert console.main(arguments([small_csv], tmp_path / "w", log_level="INFO")) == 0
    shown = capsys.readouterr().err.splitlines()
    assert any(re.match(r"[\d: ,-]+ INFO apache_beam\.", line) for line in shown)
    assert not any(" DEBUG " in line for line in shown)
    assert console.main(arguments([small_csv], tmp_path / "w")) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("level", "shown"), [("error", 2), ("critical", 0)])
def test_what_workers_print_is_logged(level, shown, capsys):
    with console.logs(level), console.quiet_workers():
        print("first\nsecond", file=sys.stderr)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" ERROR ")[2] for line in lines] == [
        "customer-analytics: first",
        "customer-analytics: second",
    ][:shown]


def test_the_level_of_the_log_is_no_option_of_the_tables():
    with pytest.raises(console.UsageError, match="'loud' is not one of debug, info, warning"):
        console.parse_arguments(["--input=a", "--output=b", "--log_level=loud"])
    options, _ = console.parse_arguments(["--input=a", "--output=b", "--log_level=debug"])
    assert "log_level" not in options.as_json()
