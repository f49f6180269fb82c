"""The command: what it imports and shows, and how signals and streams that fail end a run."""

import errno
import logging
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from importlib import metadata
from pathlib import Path

import pytest

from pipelines import console, generate_events
from pipelines.template import ROOT
from tests.oracle.grammar import COLUMNS
from tests.oracle.strategies import GOOD_ROW
from tests.pipelines.running import arguments, published, run, start, wait_until

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
    level_before = logging.getLogger().level
    with console.logs(level), console.quiet_workers():
        worker = threading.Thread(target=print, args=["first\nsecond"], kwargs={"file": sys.stderr})
        worker.start()
        worker.join()
        print("shown", file=sys.stderr)
    *lines, last = capsys.readouterr().err.splitlines()
    assert last == "shown"
    assert [line.partition(" ERROR ")[2] for line in lines] == [
        "customer-analytics: first",
        "customer-analytics: second",
    ][:shown]
    assert logging.getLogger().level == level_before


def test_the_level_of_the_log_is_no_option_of_the_tables():
    with pytest.raises(console.UsageError, match="'loud' is not one of debug, info, warning"):
        console.parse_arguments(["--input=a", "--output=b", "--log_level=loud"])
    options, _ = console.parse_arguments(["--input=a", "--output=b", "--log_level=debug"])
    assert "log_level" not in options.as_json()


# Signals ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large_csv(tmp_path_factory) -> Path:
    """A file that is worked on for a while."""
    path = tmp_path_factory.mktemp("large") / "large.csv"
    assert generate_events.main(["--rows=200000", "--seed=1", f"--output={path}"]) == 0
    return path


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_modules_are_imported_ends_in_one_line(tmp_path, small_csv, number):
    command = [sys.executable, "-X", "importtime", *MODULE[1:]]
    with subprocess.Popen(
        [*command, *arguments([small_csv], tmp_path / "w")],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while "apache_beam" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(number)
        *_, line = process.stderr.read().splitlines()
    assert process.returncode == 128 + number
    assert line == "customer-analytics: interrupted; nothing was published"
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_stop_clears_up(tmp_path, large_csv, number):
    output = tmp_path / "w"
    process = start([large_csv], output, direct_num_workers=2)
    wait_until(lambda: any((output / "_staging").glob("_shuffle_*/*.frames")), process)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (128 + number, "")
    assert err == "customer-analytics: interrupted; nothing was published\n"
    assert [path.name for path in output.iterdir()] == ["_lock"]


def test_a_signal_that_was_to_be_ignored_is(tmp_path, large_csv):
    """As `nohup` starts a command."""
    output = tmp_path / "w"
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = start([large_csv], output)
    finally:
        signal.signal(signal.SIGHUP, before)
    wait_until((output / "_staging").exists, process)
    process.send_signal(signal.SIGHUP)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err


INTERRUPTED = """
import os, signal, sys, time
from pipelines import console
from transforms.warehouse import local

module, name = sys.argv.pop(1).rsplit(".", 1)
module = sys.modules[module]
unharmed = getattr(module, name)

def interrupted(*arguments, **options):
    setattr(module, name, unharmed)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.5)  # so that what the main thread does then is well under way
    return unharmed(*arguments, **options)

setattr(module, name, interrupted)
console.command()
"""


@pytest.mark.parametrize("step", ["_make_database", "_point"])
def test_what_is_being_published_is_published_whatever_stops_the_run(tmp_path, small_csv, step):
    output = tmp_path / "w"
    run([small_csv], output)
    command = [sys.executable, "-c", INTERRUPTED, f"transforms.warehouse.local.{step}"]
    done = finish([*command, *arguments([small_csv], output, direct_num_workers=2)])
    assert done.returncode == 0
    assert re.fullmatch(
        r"customer-analytics: run \S+ is published; afterwards: interrupted\n", done.stderr
    )
    assert "rows read" in done.stdout
    assert published(output)["pipeline_runs"].num_rows == 2
    assert not (output / "_staging").exists()


def test_what_was_cleared_up_is_not_published(tmp_path, small_csv):
    output = tmp_path / "w"
    run([small_csv], output)
    before = published(output)
    command = [sys.executable, "-c", INTERRUPTED, "pipelines.customer_analytics.render_report"]
    command[2] = command[2].replace("console\n", "console, customer_analytics\n", 1)
    done = finish([*command, *arguments([small_csv], output, direct_num_workers=2)])
    assert done.returncode == 130
    assert done.stderr == "customer-analytics: interrupted; nothing was published\n"
    assert published(output) == before
    assert not (output / "_staging").exists()


@pytest.mark.parametrize("step", ["shutil.rmtree", "pipelines.run.read_totals"])
def test_what_fails_after_the_publication_is_a_warning(
    tmp_path, small_csv, monkeypatch, capsys, step
):
    output = tmp_path / "w"
    run([small_csv], output)
    run([small_csv], output)
    before = published(output)["pipeline_runs"].num_rows
    capsys.readouterr()

    remove = shutil.rmtree

    def fail(path, *, ignore_errors=False, **options):
        if step == "shutil.rmtree" and Path(path).parent.name != "_runs":
            remove(path, ignore_errors=ignore_errors, **options)
        elif not ignore_errors:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    monkeypatch.setattr(step, fail)
    assert console.main(arguments([small_csv], output)) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(r"customer-analytics: run \S+ is published; afterwards: .*output error", line)
    assert published(output)["pipeline_runs"].num_rows == before + 1


# Streams ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streams", [">&-", "2>&-", ">&- 2>&- <&-", ">/dev/full", "2>/dev/full"])
def test_a_stream_that_is_closed_or_full_does_not_change_the_result(tmp_path, small_csv, streams):
    output = tmp_path / "w"
    command = shlex.join([*MODULE, *arguments([small_csv], output, log_level="info")])
    done = finish(["sh", "-c", f"exec {command} {streams}"])
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert published(output)["fct_events"].num_rows == 1
    done = finish(["sh", "-c", f"exec {command} --as_of=never {streams}"])
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)


@pytest.mark.parametrize("ended", ["stdout", "stderr"])
def test_a_pipe_that_ended_does_not_change_the_result(tmp_path, small_csv, ended):
    output = tmp_path / "w"
    reader, writer = os.pipe()
    os.close(reader)
    with subprocess.Popen(
        [*MODULE, *arguments([small_csv], output, log_level="info")],
        cwd=ROOT,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, ended: writer},
    ) as process:
        os.close(writer)
        shown = b"".join(pipe for pipe in process.communicate(timeout=60) if pipe)
    assert (process.returncode, b"Traceback" in shown) == (0, False)
    assert published(output)["fct_events"].num_rows == 1
