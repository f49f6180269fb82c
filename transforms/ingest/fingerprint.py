"""Whether an input is still the one that a run has read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from transforms.ingest.files import InputFile


def input_fingerprint(files: Iterable[InputFile]) -> str:
    """SHA-256 of the files' names, sizes and times of change, in any order of the files.

    Example:
        >>> len(input_fingerprint([]))
        64
    """
    lines = sorted(f"{file.path}\0{file.version.size}\0{file.version.changed}\n" for file in files)
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()
