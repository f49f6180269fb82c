"""What a command costs: seconds, CPU seconds and peak memory of all its processes (Linux)."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_INTERVAL: Final = 0.05  # seconds between looks at the processes
_LARGEST_SHARE: Final = 0.05  # of a core, that looking may take: 13 ms for each GB in use
_ERROR_LINES: Final = 20
_PROC: Final = Path("/proc")
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class CommandFailedError(Exception):
    """A measured command failed; the message ends with what it said last."""


@dataclass(frozen=True)
class Cost:
    """What a command took.

    Attributes:
        seconds: From its start to its end.
        cpu_seconds: Of all its processes together.
        peak_bytes: Largest proportional set size (PSS) of all its processes together: pages that
            they share count once, the page cache does not count.
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int


def measure(command: Sequence[str], environment: Mapping[str, str]) -> Cost:
    """Run a command in a session of its own and watch all processes in it.

    Whatever is left of them when the command ends, or the caller is interrupted, is killed.

    Raises:
        CommandFailedError: Its exit code is not 0.
    """
    with tempfile.TemporaryFile() as output:
        cpu_before = _cpu_seconds_of_children()
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            start_new_session=True,
        )
        watched = _Watched(process.pid)
        try:
            while process.poll() is None:
                spent = watched.look()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(_INTERVAL, spent / _LARGEST_SHARE))
            seconds = time.perf_counter() - started
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process.returncode:
            output.seek(0)
            said = output.read().decode(errors="replace").splitlines()[-_ERROR_LINES:]
            raise CommandFailedError(
                f"exit code {process.returncode} of {' '.join(command)}\n" + "\n".join(said)
            )
    # Each misses some: the first what follows the last look, the second children nobody waited for.
    cpu_seconds = max(watched.cpu_seconds, _cpu_seconds_of_children() - cpu_before)
    return Cost(seconds, cpu_seconds, watched.peak_bytes)


def _cpu_seconds_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class _Watched:
    """The processes of a session, as seen so far."""

    def __init__(self, session: int) -> None:
        self._session = session
        self._ticks: dict[int, int] = {}
        self.peak_bytes = 0

    @property
    def cpu_seconds(self) -> float:
        """CPU seconds of all processes, as of the last look at each."""
        return sum(self._ticks.values()) / _TICKS

    def look(self) -> float:
        """Look once; return the CPU seconds that it took."""
        before = time.thread_time()
        total = 0
        for folder in _PROC.glob("[0-9]*"):
            # A process may end while it is looked at.
            with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
                # The name in the second field may hold anything; what follows has no brackets.
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == self._session:
                    self._ticks[int(folder.name)] = int(fields[11]) + int(fields[12])
                    total += _proportional_bytes(folder)
        self.peak_bytes = max(self.peak_bytes, total)
        return time.thread_time() - before


def _proportional_bytes(folder: Path) -> int:
    for line in (folder / "smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) << 10
    return 0
