"""What a person sees while a local run works: a line on a terminal, log lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TextIO

from transforms.steps.progress import Progress

_TERMINAL_SECONDS: Final = 0.2
_LOG_SECONDS: Final = 10.0
_PARSE_SHARE: Final = 0.4  # of a run's time, measured at 10M and 40M events
_TITLES: Final = {
    "parse": "reading",
    "sessionize": "sessions",
    "users": "users and metrics",
}


def describe(progress: Progress, csv_bytes: int, seconds: float) -> str:
    """One line: the stage, its rows, the rate, and the time left where it can be known."""
    rows, parsed_bytes = progress.read()
    read = rows["parse"]
    stage = next((step for step in ("users", "sessionize") if rows[step]), "parse")
    line = f"{_TITLES[stage]}  {rows[stage]:,} {'users' if stage == 'users' else 'rows'}"
    if not read or seconds <= 0:
        return line
    line += f"  {read / seconds:,.0f} events/s"
    share = _PARSE_SHARE * min(1.0, parsed_bytes / max(1, csv_bytes))
    share += (1 - _PARSE_SHARE) * min(1.0, rows["sessionize"] / read)
    if stage != "users" and share > 0.05:  # noqa: PLR2004 - earlier, the rate says little
        line += f"  {share:4.0%}  about {seconds * (1 - share) / share:,.0f} s left"
    return line


@contextmanager
def reporting(progress: Progress, csv_bytes: int, stream: TextIO) -> Iterator[None]:
    """Show progress until the block ends.

    Args:
        progress: Where the workers note it.
        csv_bytes: Bytes of CSV of the whole input, about.
        stream: Where to write.
    """
    if progress.directory is None:
        yield
        return
    done = threading.Event()
    terminal = stream.isatty()
    started = time.monotonic()

    def show() -> None:
        while not done.wait(_TERMINAL_SECONDS if terminal else _LOG_SECONDS):
            line = describe(progress, csv_bytes, time.monotonic() - started)
            stream.write(f"\r\x1b[K{line}" if terminal else f"{line}\n")
            stream.flush()

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        if terminal:
            stream.write("\r\x1b[K")
            stream.flush()
