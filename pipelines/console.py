"""The command: how it starts and ends, its streams and signals. Light until arguments are read.

A command ends in one line for each way in which it can: published, failed, wrong, or stopped.
"""

from __future__ import annotations

import atexit
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from types import FrameType
from typing import Final, NoReturn, TextIO, cast

from pipelines.options import UsageError, parse_arguments
from transforms.errors import InputError, RunError

PROGRAM: Final = "customer-analytics"
CHECK_CONFIG: Final = "check-config"
_NOTHING: Final = "nothing was published"
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_ACROSS_SHELLS: Final = 128  # what a shell adds to the number of the signal that ended a command


class StoppedBySignal(KeyboardInterrupt):
    """A signal asks the run to stop.

    Args:
        number: The signal.

    Attributes:
        exit_code: What the command ends with.
        outcome: What became of the run.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = _ACROSS_SHELLS + number
        self.outcome = _NOTHING


def say(message: str) -> None:
    """Print a line for the person at the command, beside what the run prints."""
    print(f"{PROGRAM}: {message}", file=sys.stderr, flush=True)


# Signals ------------------------------------------------------------------------------------------


def _leave(number: int, _: FrameType | None) -> NoReturn:
    """End the process at once: nothing is begun, and imports swallow exceptions."""
    os.write(2, f"\n{PROGRAM}: interrupted; {_NOTHING}\n".encode())
    os._exit(_ACROSS_SHELLS + number)


def _stop(number: int, _: FrameType | None) -> NoReturn:
    """Stop the run, once: a second signal must not stop the clean-up."""
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise StoppedBySignal(number)


def _handle(handler: signal.Handlers | object) -> None:
    """Set the handler of all signals but those that whoever started the command had ignored."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)  # type: ignore[arg-type]


@contextmanager
def stoppable() -> Iterator[None]:
    """Have signals raise `StoppedBySignal` in the block.

    Entered when everything is imported: Polars' own handler, which it sets when it is imported,
    would have the main thread wait on for its workers (it restarts system calls).
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    _handle(_stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            # What was begun is over: from here on, only the end is left.
            signal.signal(number, signal.SIG_IGN if handler is _leave else handler)


# Streams ------------------------------------------------------------------------------------------


class _Lenient(io.FileIO):
    """A stream whose reader may be gone, or its disk full: what cannot be written is dropped."""

    def write(self, data: bytes | memoryview) -> int:  # type: ignore[override]
        """Write, or pretend to."""
        size = memoryview(data).nbytes
        try:
            written = super().write(data)
        except OSError:
            return size
        return size if written is None else written


def guard_streams() -> None:
    """Let no stream decide over the run: one that is closed, full or not read any more is left out.

    A closed one is opened on nothing, or the next file that the run opens would get its number, and
    with it what libraries write there.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout, sys.stderr = _lenient(1, sys.stdout), _lenient(2, sys.stderr)


def _lenient(number: int, stream: TextIO | None) -> io.TextIOWrapper:
    raw = _Lenient(number, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(cast(io.RawIOBase, raw)),
        encoding=getattr(stream, "encoding", None),
        errors="backslashreplace",
        line_buffering=number == 2 or raw.isatty(),  # noqa: PLR2004 - standard error
    )


class _WorkersLogged(io.TextIOBase):
    """Standard error: what the main thread prints is shown, what others print becomes log lines."""

    def __init__(self, shown: TextIO) -> None:
        self.shown = shown
        self._line = threading.local()

    def write(self, text: str) -> int:
        """Show the text, or log the lines that are complete."""
        if threading.current_thread() is threading.main_thread():
            return self.shown.write(text)
        *lines, self._line.text = (getattr(self._line, "text", "") + text).split("\n")
        for line in lines:
            logging.getLogger(PROGRAM).error("%s", line)
        return len(text)

    def flush(self) -> None:
        """Show what is kept back."""
        self.shown.flush()


def error_stream() -> TextIO:
    """Standard error, in which any thread may tell the person something."""
    return sys.stderr.shown if isinstance(sys.stderr, _WorkersLogged) else sys.stderr


@contextmanager
def quiet_workers() -> Iterator[None]:
    """Log what the runner's threads print; what they met arrives as an exception.

    Beam's workers print their tracebacks, also after the run was stopped, and log them too.
    """
    shown, threading.excepthook = threading.excepthook, lambda _: None
    try:
        with redirect_stderr(_WorkersLogged(error_stream())):
            yield
    finally:
        threading.excepthook = shown


@contextmanager
def logs(level: str) -> Iterator[None]:
    """Show on standard error what is logged at a level and above."""
    handler = logging.StreamHandler(error_stream())
    handler.setLevel(level.upper())  # Prism's log lines get their level behind the loggers
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    level_before = root.level
    root.setLevel(level.upper())
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level_before)


# The command --------------------------------------------------------------------------------------


def check_config(files: Sequence[str]) -> str:
    """What a configuration file says, in a line.

    Raises:
        UsageError: It is wrong, or not one file is given.
    """
    from pipelines import configuration  # noqa: PLC0415 - only here

    if len(files) != 1:
        raise UsageError(f"{CHECK_CONFIG} needs one file: {PROGRAM} {CHECK_CONFIG} FILE.toml")
    try:
        found = configuration.read_configuration(files[0])
    except configuration.ConfigurationError as error:
        raise UsageError(str(error)) from error
    return f"{files[0]} is right; funnels: {', '.join(each.name for each in found.funnels)}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the pipeline from the command line; the exit code is as --help says."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if given[:1] == [CHECK_CONFIG]:
            print(check_config(given[1:]))
            return 0
        options, beam_arguments = parse_arguments(given)
        with logs(options.log_level), quiet_workers():
            from pipelines.run import run_pipeline  # noqa: PLC0415 - Beam takes seconds to import

            run_pipeline(options, beam_arguments)
    except StoppedBySignal as stopped:
        say(f"interrupted; {stopped.outcome}")
        return stopped.exit_code
    except RunError as error:
        say(str(error))
        return 2 if isinstance(error, InputError) else 1
    except UsageError as error:
        say(str(error))
        return 2
    return 0


def command() -> NoReturn:
    """Run the pipeline as a command.

    What libraries have asked to be done at exit is done; freeing the million objects of Beam and
    LLVM one by one, which takes the interpreter a second, is left to the operating system. What a
    worker in this process says of an engine that is gone would follow the last line, and is hidden.
    """
    _handle(_leave)
    guard_streams()
    with quiet_workers():
        code = main()
        sys.stdout.flush()
        sys.stderr.flush()
        atexit._run_exitfuncs()  # noqa: SLF001 - has no public name
        os._exit(code)
