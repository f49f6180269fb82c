"""Blocks of a file: whole lines, laid out for kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from transforms.kernels import WINDOW, Bytes

PADDING: Final = b"\n" * WINDOW
"""What is behind the lines, so that kernels may look a window at a time."""


@dataclass(frozen=True)
class Block:
    """Whole lines of a file; the last may lack its end.

    Attributes:
        offset: Where they begin in the file, after decompression.
        padded: The lines and `PADDING`.
    """

    offset: int
    padded: Bytes

    @classmethod
    def of(cls, offset: int, *parts: bytes) -> Block:
        """Put a block together."""
        return cls(offset, np.frombuffer(b"".join((*parts, PADDING)), np.uint8))

    def __len__(self) -> int:
        """Bytes of the lines."""
        return len(self.padded) - len(PADDING)

    def data(self, start: int = 0, end: int | None = None) -> bytes:
        """A part of the lines."""
        return self.padded[start : len(self) if end is None else end].tobytes()

    def behind(self, offset: int) -> Block:
        """What lies behind an offset in the file."""
        return Block(max(offset, self.offset), self.padded[max(0, offset - self.offset) :])
