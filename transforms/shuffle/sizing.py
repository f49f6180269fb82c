"""How many shards there are, and how large they are: it follows from the size of the input."""

from __future__ import annotations

from typing import Final

SHARD_BYTES: Final = 48 << 20  # of CSV: about 360,000 events
SMALL_BYTES: Final = 24 << 20  # of CSV, for which a second worker would bring nothing


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
