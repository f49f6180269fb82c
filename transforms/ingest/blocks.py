"""Blocks of a file: whole lines, laid out for kernels."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from transforms.columnar.kernels import WINDOW, Bytes

PADDING: Final = b"\n" * WINDOW
"""What is behind the lines, so that kernels may look a window at a time."""


class Origin(NamedTuple):
    """Where lines come from.

    Attributes:
        position: Where they begin in the block.
        path: Their file.
        offset: Where they begin in the file, after decompression.
    """

    position: int
    path: str
    offset: int


@dataclass(frozen=True)
class Block:
    """Whole lines of a file, or of several small ones; the last may lack its end.

    Attributes:
        origins: Where the lines come from, by their positions.
        padded: The lines and `PADDING`.
    """

    origins: Sequence[Origin]
    padded: Bytes

    @classmethod
    def of(cls, path: str, offset: int, *parts: bytes) -> Block:
        """Put a block of lines of one file together."""
        return cls([Origin(0, path, offset)], _padded(parts))

    @classmethod
    def joined(cls, blocks: Sequence[Block]) -> Block:
        """Put blocks behind each other that `can_be_joined`."""
        origins, position = [], 0
        for block in blocks:
            origins += [
                origin._replace(position=position + origin.position) for origin in block.origins
            ]
            position += len(block)
        return cls(origins, _padded([block.data() for block in blocks]))

    def __len__(self) -> int:
        """Bytes of the lines."""
        return len(self.padded) - len(PADDING)

    @property
    def can_be_joined(self) -> bool:
        """Whether other lines may follow: the last line has its end, and no quote is open."""
        data = self.data()
        return data.endswith(b"\n") and b'"' not in data

    @property
    def offset(self) -> int:
        """Where the lines of the first file begin in it."""
        return self.origins[0].offset

    def data(self, start: int = 0, end: int | None = None) -> bytes:
        """A part of the lines."""
        return self.padded[start : len(self) if end is None else end].tobytes()

    def place(self, position: int) -> tuple[str, int]:
        """The file, and the offset in it, of a position."""
        index = bisect_right(self.origins, position, key=lambda origin: origin.position) - 1
        origin = self.origins[index]
        return origin.path, origin.offset + position - origin.position

    def behind(self, offset: int) -> Block:
        """What lies behind an offset in the file, of a block of one."""
        (origin,) = self.origins
        skipped = max(0, offset - origin.offset)
        return Block([origin._replace(offset=origin.offset + skipped)], self.padded[skipped:])


def _padded(parts: Sequence[bytes]) -> Bytes:
    return np.frombuffer(b"".join((*parts, PADDING)), np.uint8)
