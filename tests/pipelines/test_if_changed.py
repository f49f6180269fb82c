"""Runs that are started again and again, and compute only where something has changed."""

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

from pipelines import preflight
from pipelines.customer_analytics import main
from pipelines.options import parse_arguments
from pipelines.resuming import unchanged_state
from tests.pipelines.running import arguments
from transforms.ingest.files import InputFile, Version
from transforms.ingest.fingerprint import file_states, input_fingerprint
from transforms.ingest.grammar import parse_header
from transforms.rules import TABLE_GROUPS

HEADER = (
    "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session\n"
)
VIEW = "2019-10-{:02} 00:00:00 UTC,view,1,1,,,5,{},abc\n"
CHANGES = ("input_files", "new_files", "changed_files", "missing_files")


def write(path: Path, day: int, user: int = 1) -> None:
    """Write a file of one event."""
    path.write_text(HEADER + VIEW.format(day, user))


class Service:
    """A folder of input, and a warehouse that a trigger fills."""

    def __init__(self, folder: Path, capsys) -> None:
        self.input = folder / "input"
        self.input.mkdir()
        self.output = folder / "w"
        self._capsys = capsys

    def trigger(self, **options) -> str | tuple:
        """What a run says where it does nothing; else what it found changed."""
        options = {"if_changed": "true", "without": ",".join(TABLE_GROUPS)} | options
        before = self.latest()
        code = main(arguments([self.input], self.output, **options))
        shown = self._capsys.readouterr()
        if code:
            return shown.err
        latest = self.latest()
        if before is not None and latest["run_id"] == before["run_id"]:
            return shown.out
        return tuple(latest[name] for name in CHANGES)

    def latest(self) -> dict | None:
        """The newest row of pipeline_runs."""
        if not self.output.exists():
            return None
        runs = pl.read_parquet(self.output / "pipeline_runs" / "*.parquet")
        return runs.sort("published_at").row(-1, named=True)


@pytest.fixture
def service(tmp_path, capsys) -> Service:
    return Service(tmp_path, capsys)


def test_a_run_takes_what_is_new_and_nothing_twice(service):
    write(service.input / "1.csv", 1)
    assert service.trigger() == (1, None, None, None)
    first = service.latest()
    day = first["published_at"].date()
    assert service.trigger() == f"nothing new since {first['run_id']} ({day}); nothing was done\n"

    write(service.input / "2.csv", 2)
    (service.input / "broken.csv").write_text("no header\n")
    assert "broken.csv" in service.trigger()  # fails, and is forgotten
    (service.input / "broken.csv").unlink()
    assert service.trigger() == (2, 1, 0, 0)

    write(service.input / "2.csv", 2, user=2)
    assert service.trigger() == (2, 0, 1, 0)
    (service.input / "1.csv").unlink()
    write(service.input / "3.csv", 3)
    assert service.trigger() == (2, 1, 0, 1)
    assert service.trigger(session_timeout_seconds=60) == (2, 0, 0, 0)  # other tables
    assert service.trigger(session_timeout_seconds=60).startswith("nothing new since ")
    assert service.latest()["events_kept"] == 2


def test_of_two_triggers_at_once_the_later_finds_nothing_new(service, monkeypatch):
    write(service.input / "1.csv", 1)
    check = preflight.check

    def other_first(*arguments):
        monkeypatch.setattr(preflight, "check", check)
        assert service.trigger() == (1, None, None, None)
        return check(*arguments)

    monkeypatch.setattr(preflight, "check", other_first)
    service.trigger()
    runs = pl.read_parquet(service.output / "pipeline_runs" / "*.parquet")
    assert runs.height == 1


def stored(path: Path) -> InputFile:
    status = path.stat()
    version = Version(status.st_size, status.st_mtime_ns, status.st_ino)
    return InputFile(str(path), version, status.st_size, parse_header(HEADER.encode(), ""), 0)


@pytest.mark.parametrize("at", [0, 2_500_000, 4_999_999])
def test_a_copy_that_keeps_size_and_time_is_seen(tmp_path, at):
    path = tmp_path / "events.csv"
    content = bytearray(5_000_000)
    states = []
    for byte in (0, 1):
        content[at] = byte
        path.write_bytes(content)
        os.utime(path, ns=(0, 1))
        states.append(file_states([stored(path)]))
    assert states[0].keys() == states[1].keys()
    assert states[0] != states[1]


def test_the_fingerprint_is_of_files_options_and_version():
    base = ({"a": "1"}, {"as_of": None}, "1")
    others = [
        ({"a": "2"}, {"as_of": None}, "1"),
        ({"b": "1"}, {"as_of": None}, "1"),
        ({"a": "1"}, {"as_of": "2020-01-01"}, "1"),
        ({"a": "1"}, {"as_of": None}, "2"),
    ]
    prints = {input_fingerprint(*parts) for parts in (base, *others)}
    assert len(prints) == len(others) + 1
    assert input_fingerprint({"b": "2", "a": "1"}, {}, "") == input_fingerprint(
        {"a": "1", "b": "2"}, {}, ""
    )


def test_another_dataset_is_something_to_do():
    options, _ = parse_arguments(
        ["--input=gs://abc/x.csv", "--output=gs://abc/w", "--bigquery_dataset=my-project.one"]
    )
    manifest = {
        "run_id": "r",
        "input_fingerprint": "f",
        "options": {"bigquery_dataset": "my-project.one"},
    }
    warehouse = SimpleNamespace(current=lambda: manifest)
    assert unchanged_state(warehouse, options, "f") == manifest
    assert unchanged_state(warehouse, options, "g") is None
    assert unchanged_state(warehouse, replace(options, bigquery_dataset=None), "f") is None
