"""Runs that are killed, or whose calls fail, at any point: no state is torn, every row counts.

20 kills and 10 failing calls; more by `--campaign=N`. All are of one warehouse: each run meets what
the ones before it left.
"""

import errno
import json
import os
import random
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import polars as pl
import pytest

from tests.conftest import skip_or_fail
from tests.oracle.compare import assert_tables_equal
from tests.oracle.grammar import COLUMNS
from tests.oracle.strategies import GOOD_ROW
from tests.pipelines.running import ROOT, arguments, contents, last_run, published
from transforms.schema import TABLES
from transforms.warehouse.local import LOCK

GOOD = dict(zip(COLUMNS, GOOD_ROW, strict=True))
CALLS = ("rename", "link", "fsync", "open")
ERRORS = (errno.EIO, errno.ENOSPC, errno.EMFILE, errno.EACCES)
SECONDS = 120
"""A run that takes so long hangs: it is a matter of seconds."""


class Driver:
    """A process that is ready to run the pipeline: see driver.py."""

    def __init__(self, shim: Path, temporary: Path) -> None:
        environment = {**os.environ, "LD_PRELOAD": str(shim), "TMPDIR": str(temporary)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.campaign.driver"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait_until_ready(self) -> None:
        assert self._line(seconds=10 * SECONDS) == "ready\n", "it may have to compile kernels"

    def begin(self, given: list[str], output: Path, call: str = "", nth: int = 0, error: int = 0):
        told = {"arguments": given, "below": f"{output}/", "call": call, "nth": nth, "error": error}
        self.process.stdin.write(json.dumps(told) + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict | None:
        """What came of it; None where the process was killed."""
        line = self._line()
        return json.loads(line) if line else None

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()

    def _line(self, seconds: int = SECONDS) -> str:
        if not select.select([self.process.stdout], [], [], seconds)[0]:
            self.end()
            pytest.fail(f"hangs for {seconds} seconds")
        return self.process.stdout.readline()


class Campaign:
    """One warehouse, and two inputs that are published in turn."""

    def __init__(self, folder: Path, shim: Path) -> None:
        self.output = folder / "warehouse"
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        self.inputs = [write_input(folder / f"{name}.csv", rows) for name, rows in INPUTS.items()]
        self.shim = shim
        self.state: int | None = None  # the input whose tables are published
        self.tried = 0  # the input of the last run
        self.spare = Driver(shim, self.temporary)
        self.driver = self.next_driver()
        self.expected = []
        self.calls = {}
        for number, path in enumerate(self.inputs):
            reference = folder / f"reference{number}"
            self.driver.begin(arguments([path], reference), self.output)
            assert self.driver.answer()["code"] == 0
            self.expected.append(contents(published(reference)))

    def next_driver(self) -> Driver:
        """One that is ready; another starts while it works."""
        driver, self.spare = self.spare, Driver(self.shim, self.temporary)
        driver.wait_until_ready()
        return driver

    def begin(self, call: str = "", nth: int = 0, error: int = 0) -> None:
        self.tried = 1 - self.tried
        given = arguments([self.inputs[self.tried]], self.output)
        self.driver.begin(given, self.output, call, nth, error)

    def run(self) -> None:
        """A run without a fault: publishes, and counts the calls."""
        self.begin()
        answer = self.driver.answer()
        assert (answer["code"], answer["stderr"]) == (0, "")
        self.calls = answer["calls"]
        self.require_state({self.tried})

    def kill(self, call: str, nth: int) -> None:
        self.begin(call, nth)
        answer = self.driver.answer()
        if answer is not None:
            assert (answer["code"], answer["stderr"]) == (0, ""), "there were fewer calls"
            self.require_state({self.tried})
        else:
            self.after_kill()

    def kill_after(self, seconds: float) -> None:
        self.begin()
        time.sleep(seconds)
        self.driver.process.kill()
        self.driver.answer()
        self.after_kill()

    def after_kill(self) -> None:
        self.driver.end()
        self.driver = self.next_driver()
        self.require_state({self.state, self.tried})

    def fail(self, call: str, nth: int, error: int) -> None:
        self.begin(call, nth, error)
        answer = self.driver.answer()
        assert answer is not None, "the process has died"
        if answer["code"] == 0:
            self.require_state({self.tried})
        else:
            assert answer["code"] in (1, 2)
            self.require_state({self.state})
        said = answer["stderr"]
        assert said.count("\n") == said.count("customer-analytics: ") <= 1, said
        assert answer["code"] == 0 or said, "a failure is explained"
        assert "Traceback" not in said

    def require_state(self, inputs: set[int | None]) -> None:
        """Fail unless the tables are all those of one of the inputs."""
        if not (self.output / "_current").exists():
            assert None in inputs, "nothing is published"
            return
        run_id = json.loads((self.output / "_current" / "manifest.json").read_text())["run_id"]
        tables = published(self.output)
        row = last_run(tables)
        assert row["run_id"] == run_id
        found = next(
            number for number, path in enumerate(self.inputs) if str(path) in row["inputs"]
        )
        assert found in inputs
        dropped = ("after_as_of", "duplicate", "multi_brand_product", "missing_session", "rejected")
        accounted = row["events_kept"] + sum(row[f"{reason}_rows"] for reason in dropped)
        assert row["rows_read"] == accounted == len(INPUTS["ab"[found]])
        current = {
            name: table.filter(pl_mask(table, run_id)) if "run_id" in table.column_names else table
            for name, table in tables.items()
        }
        assert_tables_equal(contents(current), self.expected[found])
        assert json.loads(row["table_rows"]) == {
            name: table.num_rows for name, table in current.items() if name != "pipeline_runs"
        }
        with duckdb.connect(str(self.output / "warehouse.duckdb"), read_only=True) as connection:
            connection.execute("SET file_search_path = ?", [str(self.output)])
            for table in TABLES:
                rows = connection.sql(f"SELECT count(*) FROM {table.name}").fetchall()
                assert rows == [(tables[table.name].num_rows,)], table.name
        self.state = found

    def require_tidy(self) -> None:
        """Fail if a run an hour later finds anything that dead runs left, and leaves it."""
        then = time.time() - 3600
        for path in (*self.output.glob("_probe_*"), *self.temporary.iterdir()):
            os.utime(path, (then, then))
        self.run()
        left = [path.name for path in self.temporary.iterdir() if any(path.iterdir())]
        assert left == []
        assert not (self.output / "_staging").exists()
        assert len(list((self.output / "_runs").iterdir())) <= 2
        names = {"_current", "_runs", LOCK, "report.html", "manifest.json", "warehouse.duckdb"}
        names |= {table.name for table in TABLES}
        assert {path.name for path in self.output.iterdir()} <= names


def pl_mask(table, run_id):
    return (pl.DataFrame(table)["run_id"] == run_id).to_arrow()


def rows_of(names: str) -> list[dict[str, str]]:
    """Events of some users, and rows that are dropped or rejected."""
    rows = [
        GOOD | {"user_id": str(user), "user_session": f"{name}{user}", "event_type": kind}
        for name in names
        for user in range(3)
        for kind in ("view", "cart", "purchase")
    ]
    return [*rows, rows[0], GOOD | {"user_session": ""}, GOOD | {"price": "dear"}]


INPUTS = {"a": rows_of("pqr"), "b": rows_of("st")}


def write_input(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("\n".join([",".join(COLUMNS), *(",".join(row.values()) for row in rows)]))
    return path


@pytest.fixture(scope="module")
def shim(tmp_path_factory) -> Path:
    """`faults.c`, compiled."""
    compiler = shutil.which("cc")
    if compiler is None:
        skip_or_fail("needs a C compiler to make calls fail: apt-get install gcc libc6-dev")
    path = tmp_path_factory.mktemp("shim") / "faults.so"
    source = Path(__file__).with_name("faults.c")
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-o", path, source, "-ldl"], check=True
    )
    return path


@pytest.fixture(scope="module")
def campaign(tmp_path_factory, shim):
    made = Campaign(tmp_path_factory.mktemp("campaign"), shim)
    yield made
    made.driver.end()
    made.spare.end()


def points(calls: dict[str, int], number: int, seed: int) -> list[tuple[str, int]]:
    """Calls at which something happens: each kind in turn, spread over the run, the last too."""
    chosen = random.Random(seed)
    return [
        (call, calls[call] if turn == 0 else chosen.randint(1, calls[call]))
        for turn in range(-(-number // len(CALLS)))
        for call in CALLS
    ][:number]


@pytest.mark.timeout(0)
def test_a_run_that_is_killed_leaves_one_state_or_the_other(campaign, pytestconfig):
    number = pytestconfig.getoption("--campaign")
    campaign.run()
    started = time.perf_counter()
    campaign.run()  # appends to tables, and removes the run before
    seconds = time.perf_counter() - started
    assert all(campaign.calls[call] > 2 for call in CALLS), "the shim counts"
    at_random = random.Random(number)
    for call, nth in points(campaign.calls, number - number // 5, seed=number):
        campaign.kill(call, nth)
    for _ in range(number // 5):
        campaign.kill_after(at_random.uniform(0, seconds))
    campaign.require_tidy()


@pytest.mark.timeout(0)
def test_a_call_that_fails_is_one_line_and_leaves_the_state(campaign, pytestconfig):
    number = pytestconfig.getoption("--campaign") // 2
    campaign.run()
    campaign.run()
    for turn, (call, nth) in enumerate(points(campaign.calls, number, seed=number + 1)):
        campaign.fail(call, nth, ERRORS[turn % len(ERRORS)])
    campaign.require_tidy()
