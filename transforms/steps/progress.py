"""Progress of a local run: workers note what they did, the main process adds it up.

Beam's metrics are not readable while the local runner runs. A worker appends a record to a file of
its own in the run's spill folder; where there is no such folder, nothing is noted.
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from transforms.owned_files import no_follow

STEPS: Final = ("parse", "sessionize", "users")


_RECORD: Final = struct.Struct("<BQQ")


_SUFFIX: Final = ".progress"


@dataclass(frozen=True)
class Progress:
    """Where progress is noted.

    Attributes:
        directory: The run's spill folder, or None to note nothing.
    """

    directory: str | None

    def add(self, step: str, rows: int, size: int = 0) -> None:
        """Note that a step has done so many more rows, and bytes of CSV."""
        if self.directory is not None:
            record = _RECORD.pack(STEPS.index(step), rows, size)
            path = Path(self.directory) / f"{os.getpid()}{_SUFFIX}"
            with open(path, "ab", opener=no_follow) as file:
                file.write(record)

    def read(self) -> tuple[Counter[str], int]:
        """The rows done by step, and the bytes of CSV parsed."""
        rows: Counter[str] = Counter()
        parsed = 0
        if self.directory is not None:
            for path in Path(self.directory).glob(f"*{_SUFFIX}"):
                data = path.read_bytes()
                for step, done, size in _RECORD.iter_unpack(
                    data[: len(data) // _RECORD.size * _RECORD.size]
                ):
                    rows[STEPS[step]] += done
                    parsed += size
        return rows, parsed
