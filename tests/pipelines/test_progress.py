"""What a person sees while a run works."""

import io
import struct

import pytest

from pipelines import progress as shown
from transforms.steps.progress import Progress


def test_what_workers_note_adds_up(tmp_path, monkeypatch):
    progress = Progress(str(tmp_path))
    progress.add("parse", 10, 1000)
    progress.add("users", 3)
    monkeypatch.setattr("os.getpid", lambda: 1)
    progress.add("parse", 5, 500)
    progress.add("sessionize", 4)
    rows, parsed = progress.read()
    assert rows == {"parse": 15, "sessionize": 4, "users": 3}
    assert parsed == 1500
    assert len(list(tmp_path.iterdir())) == 2


def test_a_record_that_is_half_written_is_not_read(tmp_path):
    progress = Progress(str(tmp_path))
    progress.add("parse", 10, 1000)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes() + struct.pack("<B", 0))
    assert progress.read() == ({"parse": 10}, 1000)


def test_without_a_folder_nothing_is_noted():
    progress = Progress(None)
    progress.add("parse", 1, 1)
    assert progress.read() == ({}, 0)


@pytest.mark.parametrize(
    ("notes", "line"),
    [
        ([], "reading  0 rows"),
        ([("parse", 1000, 10)], "reading  1,000 rows  100 events/s"),
        (
            [("parse", 100_000, 500)],
            "reading  100,000 rows  10,000 events/s   20%  about 40 s left",
        ),
        (
            [("parse", 200_000, 1000), ("sessionize", 100_000, 0)],
            "sessions  100,000 rows  20,000 events/s   70%  about 4 s left",
        ),
        (
            [("parse", 200_000, 1000), ("sessionize", 200_000, 0), ("users", 70, 0)],
            "users and metrics  70 users  20,000 events/s",
        ),
    ],
)
def test_a_line_names_the_stage_the_rate_and_the_time_left(tmp_path, notes, line):
    progress = Progress(str(tmp_path))
    for note in notes:
        progress.add(*note)
    assert shown.describe(progress, 1000, 10) == line


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def wait_for(stream: io.StringIO, text: str) -> None:
    while text not in stream.getvalue():
        pass


def test_a_terminal_has_one_line_that_goes_away(tmp_path, monkeypatch):
    monkeypatch.setattr(shown, "_TERMINAL_SECONDS", 0.001)
    progress, stream = Progress(str(tmp_path)), Terminal()
    with shown.reporting(progress, 100, stream):
        progress.add("parse", 7, 1)
        wait_for(stream, "\r\x1b[Kreading  7 rows")
    assert "\n" not in stream.getvalue()
    assert stream.getvalue().endswith("\r\x1b[K")


def test_a_log_has_plain_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(shown, "_LOG_SECONDS", 0.001)
    progress, stream = Progress(str(tmp_path)), io.StringIO()
    with shown.reporting(progress, 100, stream):
        progress.add("parse", 7, 1)
        wait_for(stream, "reading  7 rows")
    assert "\x1b" not in stream.getvalue()
    assert stream.getvalue().endswith("\n")


def test_nothing_is_shown_where_nothing_is_noted():
    stream = Terminal()
    with shown.reporting(Progress(None), 100, stream):
        pass
    assert stream.getvalue() == ""
