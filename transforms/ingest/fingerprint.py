"""Whether an input is still the one that a run has read."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple

from transforms.errors import InputError
from transforms.ingest.files import InputFile, is_in_bucket
from transforms.ingest.local_files import printable

_SAMPLE_BYTES: Final = 1 << 20
_THREADS: Final = 8

FileStates = Mapping[str, str]
"""What tells each input file from any later one of its name, by name."""


def file_states(files: Sequence[InputFile]) -> dict[str, str]:
    """The states of input files, as they were when the run began.

    Size and time of change; of a local file also SHA-256 of its first, middle and last megabyte,
    as a copy may keep the time of what it replaces.

    Raises:
        InputError: A local file cannot be read.
    """
    with ThreadPoolExecutor(_THREADS) as threads:
        return dict(zip(map(_name, files), threads.map(_state, files), strict=True))


def _name(file: InputFile) -> str:
    """A file's name as text, whatever bytes the disk has for it."""
    path = file.path if is_in_bucket(file.path) else Path(file.path).resolve()
    return os.fsencode(path).decode(errors="backslashreplace")


def _state(file: InputFile) -> str:
    stored = f"{file.version.size} {file.version.changed}"
    return stored if is_in_bucket(file.path) else f"{stored} {_sampled(file)}"


def _sampled(file: InputFile) -> str:
    last = max(0, file.size - _SAMPLE_BYTES)
    digest = hashlib.sha256()
    try:
        with Path(file.path).open("rb") as stream:
            for start in sorted({0, last // 2, last}):
                stream.seek(start)
                digest.update(stream.read(_SAMPLE_BYTES))
    except OSError as error:
        raise InputError(f"{printable(file.path)}: cannot be read ({error.strerror})") from error
    return digest.hexdigest()


def input_fingerprint(files: FileStates, options: Mapping[str, Any], code_version: str) -> str:
    """SHA-256 of all that decides what a run publishes.

    Args:
        files: `file_states`.
        options: The options that decide tables, JSON values.
        code_version: The version of this program.

    Example:
        >>> len(input_fingerprint({}, {}, "1"))
        64
    """
    document = json.dumps([dict(files), dict(options), code_version], sort_keys=True)
    return hashlib.sha256(document.encode()).hexdigest()


class InputChange(NamedTuple):
    """How many files of an input are not as they were for an earlier run."""

    new_files: int
    changed_files: int
    missing_files: int


def input_change(files: FileStates, earlier: FileStates) -> InputChange:
    """Compare the files of a run with those of an earlier one.

    >>> input_change({"a": "1", "b": "2"}, {"b": "3", "c": "4"})
    InputChange(new_files=1, changed_files=1, missing_files=1)
    """
    return InputChange(
        len(files.keys() - earlier.keys()),
        sum(files[name] != earlier[name] for name in files.keys() & earlier.keys()),
        len(earlier.keys() - files.keys()),
    )
