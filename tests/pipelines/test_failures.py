"""What a person is told of a failure: one line, by the error's number, whoever met it."""

import errno
import os

import numpy as np
import pyarrow as pa
import pytest
from duckdb import IOException

from pipelines.failures import translate_failure
from pipelines.options import UsageError
from transforms.errors import InputError, RunError

WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)


def told(error: BaseException, output: str = "w") -> str:
    """The message of the one line that a failure becomes."""
    translated = translate_failure(error, output)
    assert type(translated) is RunError
    message = str(translated)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("number", WRITING)
def test_where_and_why_nothing_can_be_written(number):
    reason = os.strerror(number)
    message = told(OSError(number, reason, "w/_lock"))
    assert message.startswith(f"w cannot be written ({reason}) at w/_lock; nothing was published. ")
    assert message.endswith("or choose another --output.")


def test_what_is_not_in_the_output_is_named_alone():
    message = told(OSError(errno.ENOSPC, "full", "/elsewhere/spill"))
    assert message.startswith("/elsewhere/spill cannot be written (No space left on device); ")


@pytest.mark.parametrize(
    ("error", "beginning"),
    [
        (OSError(errno.EIO, "", "w/x"), "w cannot be read or written (Input/output error) at w/x;"),
        (OSError(errno.EMFILE, ""), "the run may not open as many files as it needs (Too many"),
        (OSError(errno.ENFILE, ""), "the run may not open as many files as it needs (Too many"),
        (OSError(errno.ENOMEM, ""), "the run was given too little memory (Cannot allocate memory)"),
        (MemoryError(), "the run was given too little memory (Cannot allocate memory)"),
        (pa.ArrowMemoryError("malloc of size 7 failed"), "the run was given too little memory ("),
        (RuntimeError("can't start new thread"), "the run may not start as many threads as it"),
        (
            IOException(
                'IO Error: Could not write file "w/warehouse.duckdb": No space left on device'
            ),
            "w cannot be written (No space left on device)",
        ),
        (
            RuntimeError(
                "Traceback (most recent call last):\n  File ...\nOSError: [Errno 5] Error writing "
                "bytes to file. Detail: [errno 5] Input/output error [while running 'Stage']"
            ),
            "w cannot be read or written (Input/output error);",
        ),
        (
            RuntimeError("polars.exceptions.ComputeError: Disk quota exceeded (os error 122)"),
            "w cannot be written (Disk quota exceeded);",
        ),
        (
            RuntimeError("...\nPermissionError: [Errno 13] Permission denied: 'w/a' [while ...]"),
            "w cannot be written (Permission denied) at w/a;",
        ),
        (
            RuntimeError(
                "...\nOSError: [Errno 18] Invalid cross-device link: 'w/a' -> 'w/b'\n"
                "During handling ...\nOSError: [Errno 28] No space left on device"
            ),
            "w cannot be written (No space left on device)",
        ),
    ],
)
def test_refusals_of_the_system_in_everybodys_words(error, beginning):
    message = told(error)
    assert message.startswith(beginning)
    assert "; nothing was published. " in message


def test_numpy_out_of_memory():
    with pytest.raises(MemoryError) as met:
        np.empty(1 << 58, np.uint8)
    assert told(met.value).startswith("the run was given too little memory")


@pytest.mark.parametrize("error", [InputError, RunError])
def test_our_own_errors_are_found_in_the_text_of_a_worker(error):
    text = (
        f"Traceback (most recent call last):\n  File ...\n{error.__module__}.{error.__name__}: "
        "a.csv: damaged.\nCheck it. [while running 'Parse']\n\nDuring handling of the above "
        "exception, another ...\nOSError: [Errno 28] No space left on device"
    )
    assert str(translate_failure(RuntimeError(text), "w")) == "a.csv: damaged.\nCheck it."


def test_what_says_it_already_stays():
    for error in (UsageError("Permission denied"), KeyboardInterrupt(), LookupError("a")):
        assert translate_failure(error, "w") is error
    named = translate_failure(InputError("a [while running 'Parse']"), "w")
    assert (type(named), str(named)) == (InputError, "a")


def test_what_an_error_was_raised_from_counts():
    error = RuntimeError("Unable to translate InputRanges")
    error.__cause__ = OSError(errno.ENOSPC, "full", "w/x")
    assert told(error).startswith("w cannot be written (No space left on device) at w/x; ")
