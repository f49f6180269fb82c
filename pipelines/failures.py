"""What a person is told of a run that failed: one message, whoever met the failure first.

A worker's exception arrives as the text of its traceback, and the same refusal of the operating
system in the words of Python, Arrow, DuckDB, Polars or NumPy. Here it becomes one sentence: what,
where, how to fix it.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pipelines.options import UsageError
from transforms.errors import InputError, RunError

_STEP: Final = re.compile(r" \[while running '[^']*'\]$")

_OURS: Final = re.compile(
    "(?:{}): ".format(
        "|".join(
            re.escape(f"{error.__module__}.{error.__qualname__}")
            for error in (InputError, RunError)
        )
    )
    + r"(.*?)(?: \[while running '[^']*'\])?"
    r"\s*(?=\n\s*(?:During handling|The above|Traceback)|\Z)",
    re.DOTALL,
)

_ROOM: Final = "{place} cannot be written ({reason}){at}; nothing was published. "
_MAKE_ROOM: Final = _ROOM + "Make room there, or choose another --output."
_PERMIT: Final = _ROOM + "Look at its permissions with ls -ld, or choose another --output."
_MEMORY: Final = (
    "the run was given too little memory ({reason}); nothing was published. Give it more, or "
    "fewer workers: --direct_num_workers=1."
)
_FILES: Final = (
    "the run may not open as many files as it needs ({reason}){at}; nothing was published. "
    "Allow more: ulimit -n 4096"
)
_THREADS: Final = (
    "the run may not start as many threads as it needs ({reason}); nothing was published. "
    "Allow more processes (ulimit -u) and address space (ulimit -v)."
)
_MESSAGES: Final = {
    errno.ENOSPC: _MAKE_ROOM,
    errno.EDQUOT: _MAKE_ROOM,
    errno.EFBIG: _MAKE_ROOM,
    errno.EROFS: _PERMIT,
    errno.EACCES: _PERMIT,
    errno.EPERM: _PERMIT,
    errno.EIO: "{place} cannot be read or written ({reason}){at}; nothing was published. "
    "Look at the disk, for example with dmesg, then run again.",
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
    errno.ENOMEM: _MEMORY,
    errno.EAGAIN: _THREADS,
}
"""By error number, what is said; with the place, the reason and, below the place, the path."""

_WORDS: Final = {
    **{os.strerror(number): number for number in _MESSAGES},
    "MemoryError": errno.ENOMEM,
    "OutOfMemoryException": errno.ENOMEM,
    "can't start new thread": errno.EAGAIN,
}
"""Words of those who do not give the number, and what it would be."""

_NUMBER: Final = re.compile(r"\[[Ee]rrno (\d+)\]|\(os error (\d+)\)")
_SYSTEM_ERROR: Final = re.compile(rf"{_NUMBER.pattern}|{'|'.join(map(re.escape, _WORDS))}")
_PATH: Final = re.compile(r"\[Errno \d+\] [^:\n]+: '([^'\n]+)'")


def translate_failure(error: BaseException, output: str) -> BaseException:
    """Find the error written for the user in what a runner made of it, or write it.

    Args:
        error: What was raised; of several errors in its text, one caused by the other, the first of
            our own is the cause.
        output: The warehouse.

    Returns:
        A RunError where it is understood, or else the same error.
    """
    if isinstance(error, UsageError | KeyboardInterrupt):
        return error
    if isinstance(error, RunError):
        return type(error)(_STEP.sub("", str(error)))
    causes = list(_with_causes(error))
    text = "\n".join(f"{type(one).__module__}.{type(one).__qualname__}: {one}" for one in causes)
    match = _OURS.search(text)
    if match is not None:
        return RunError(match[1])
    refused = next((one for one in causes if isinstance(one, OSError) and one.errno), error)
    message = _of_system(refused, text, output)
    return error if message is None else RunError(message)


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    """An error, and what it was raised from."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _of_system(error: BaseException, text: str, output: str) -> str | None:
    """The message for something that the operating system refused; None where it is not that."""
    if isinstance(error, OSError) and error.errno in _MESSAGES:
        number: int | None = error.errno
        path = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else None
    else:
        number, path = _read_number(text), None
    if number is None:
        return None
    if path is None and (named := _PATH.search(text)):
        path = named[1]
    is_elsewhere = path is not None and not Path(path).absolute().is_relative_to(
        Path(output).absolute()
    )
    return _MESSAGES[number].format(
        place=path if is_elsewhere else output,
        reason=os.strerror(number),
        at="" if is_elsewhere or path is None else f" at {path}",
    )


def _read_number(text: str) -> int | None:
    """The first error number that a text names, of those there is a message for."""
    for found in _SYSTEM_ERROR.finditer(text):
        digits = found[1] or found[2]
        number = int(digits) if digits else _WORDS[found[0]]
        if number in _MESSAGES:
            return number
    return None
