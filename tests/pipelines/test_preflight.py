"""What a local destination and this machine must offer, found before any work."""

import errno
import fcntl
import os
import threading
from pathlib import Path

import pytest

from pipelines import preflight
from pipelines.options import UsageError, parse_arguments
from tests.oracle.grammar import COLUMNS


@pytest.fixture
def options(tmp_path):
    file = tmp_path / "events.csv"
    file.write_text(",".join(COLUMNS))
    parsed, _ = parse_arguments([f"--input={file}", f"--output={tmp_path / 'w'}"])
    return parsed


def test_a_folder_is_left_as_it_was(options):
    (file,) = preflight.check(options, "run")
    assert file.path == options.input[0]
    assert list(Path(options.output).iterdir()) == []


@pytest.mark.parametrize(
    ("module", "call", "lacking"),
    [
        (fcntl, "flock", "locks (flock), which"),
        (os, "symlink", "symbolic links, by which"),
        (os, "link", "hard links, by which"),
    ],
)
def test_what_a_file_system_lacks_is_named(options, monkeypatch, module, call, lacking):
    def refuse(*_):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(module, call, refuse)
    with pytest.raises(UsageError) as met:
        preflight.check(options, "run")
    message = str(met.value)
    assert message.startswith(f"--output: {options.output} is on a file system without {lacking}")
    assert "(Operation not supported); choose a folder on another" in message
    assert "\n" not in message
    assert list(Path(options.output).iterdir()) == []


def test_a_full_disk_is_named(options, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(UsageError, match=r"cannot be written \(No space left on device\)"):
        preflight.check(options, "run")


def test_too_few_threads_are_named_and_do_not_hang(options, monkeypatch):
    start = threading.Thread.start
    before = threading.active_count()

    def limited(thread):
        if threading.active_count() >= before + 5:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    with pytest.raises(UsageError, match=r"needs 64 threads and may start 5: .*ulimit -u"):
        preflight.check(options, "run")
    assert threading.active_count() == before
