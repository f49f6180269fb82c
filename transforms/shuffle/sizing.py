"""How many shards there are, how large they are, and how they are reached: of the input's size.

A piece is what one bundle sends to one shard, at a cost of its own whatever is in it. So that
pieces do not shrink as the input grows, ranges of the input grow with the number of shards, and
beyond what a range can feed, frames cross in two levels: to a group of shards, then to a shard.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

SHARD_BYTES: Final = 48 << 20  # of CSV: about 360,000 events
SMALL_BYTES: Final = 24 << 20  # of CSV, for which a second worker would bring nothing

_LARGEST_RANGE: Final = 192 << 20  # of CSV, whose events fit into a buffer of `PartitionFrames`

PIECE_BYTES: Final = 160 << 10
"""CSV of which a bundle should send each shard the events, at least: about 1,240 of them."""


def session_shards(csv_bytes: int, workers: int) -> int:
    """Number of session shards: enough for memory, and for every worker to have some.

    Args:
        csv_bytes: Size of the input, decompressed.
        workers: How many work beside each other.

    >>> session_shards(1 << 20, workers=8), session_shards(50 << 30, workers=8)
    (1, 1067)
    """
    return max(1, -(-csv_bytes // SHARD_BYTES), min(workers, csv_bytes // SMALL_BYTES))


def user_shards(shards: int) -> int:
    """Number of shards of users, of whom there are fewer than sessions."""
    return -(-shards // 4)


def product_shards(shards: int) -> int:
    """Number of shards of products."""
    return -(-shards // 16)


def least_range(shards: int) -> int:
    """CSV that a range of the input, which is a bundle's worth, should have at least.

    Args:
        shards: Number of session shards.

    >>> [least_range(shards) >> 20 for shards in (8, 1132, 113_200)]
    [1, 176, 52]
    """
    return session_levels(shards).most_parts * PIECE_BYTES


class Levels(NamedTuple):
    """How frames reach their shards.

    Attributes:
        shards: Number of shards.
        groups: Groups of neighbouring shards that are reached first; 1 where there is one level.
        slices: Parts of a group, of any of its rows, that are sent on beside each other.
    """

    shards: int
    groups: int = 1
    slices: int = 1

    @property
    def group_shards(self) -> int:
        """Shards of a group, of which the last group may have fewer."""
        return -(-self.shards // self.groups)

    @property
    def most_parts(self) -> int:
        """Parts into which frames are cut at once."""
        return self.shards if self.groups == 1 else max(self.groups, self.group_shards)

    @property
    def passes(self) -> int:
        """How often a frame is sent."""
        return 1 if self.groups == 1 else 2


def _levels(shards: int, bundle_bytes: int) -> Levels:
    """How frames reach their shards.

    Args:
        shards: Number of shards.
        bundle_bytes: CSV of which a bundle sends what it makes.
    """
    of_group = math.isqrt(shards - 1) + 1
    if shards * PIECE_BYTES <= bundle_bytes or shards == of_group:
        return Levels(shards)
    slice_bytes = max(SHARD_BYTES, 2 * of_group * PIECE_BYTES)
    return Levels(shards, -(-shards // of_group), -(-of_group * SHARD_BYTES // slice_bytes))


def session_levels(shards: int) -> Levels:
    """How events reach the shards of sessions, of ranges of the input.

    >>> session_levels(1132).passes, session_levels(11_320)
    (1, Levels(shards=11320, groups=106, slices=107))
    """
    return _levels(shards, _LARGEST_RANGE)


def user_levels(shards: int) -> Levels:
    """How what session shards say of users reaches theirs.

    Args:
        shards: Number of session shards.
    """
    return _levels(user_shards(shards), SHARD_BYTES)


def product_levels(shards: int) -> Levels:
    """How what is said of products reaches their shards.

    Args:
        shards: Number of session shards.
    """
    return _levels(product_shards(shards), SHARD_BYTES)


def event_pieces(csv_bytes: int, shards: int, range_bytes: int) -> int:
    """Number of pieces in which events cross, over all passes.

    Args:
        csv_bytes: Size of the input, decompressed.
        shards: Number of session shards.
        range_bytes: CSV in a range of the input.

    >>> event_pieces(64 << 20, shards=2, range_bytes=64 << 20)
    2
    """
    levels, ranges = session_levels(shards), -(-csv_bytes // range_bytes)
    if levels.passes == 1:
        return ranges * shards
    return ranges * levels.groups + shards * levels.slices
