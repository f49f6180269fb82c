"""A sum over rows that is the same in whatever order, pieces and process they are added up."""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl
from numba import types

from transforms.columnar.arrays import without_nulls
from transforms.columnar.kernels import (
    AHEAD,
    Bytes,
    Integers,
    Numbers,
    Word,
    Words,
    given,
    kernel,
    mixed,
    prefetch,
)
from transforms.columnar.money import Halves, halves_of_money
from transforms.columnar.product_codes import VARIANT, variant_hashes

CHECKSUM_BITS: Final = 40
"""Of a checksum: 2²³ of them add up in 64 bits."""


def event_checksum(events: pl.DataFrame) -> int:
    """The sum of hashes of all that event batches tell, modulo two to the `CHECKSUM_BITS`.

    Args:
        events: Rows of event batches, of whose product the columns are hashed, not its number.
    """
    total = _sum_of_hashes(
        events["event_time"].cast(pl.Int64).to_numpy(),
        events["event_type"].to_physical().to_numpy(),
        halves_of_money(events["price"]),
        events["user_id"].to_numpy(),
        without_nulls(events["session_high"], 0),
        without_nulls(events["session_low"], 0),
        events[VARIANT].to_numpy(),
        variant_hashes(),
    )
    return int(total) & ((1 << CHECKSUM_BITS) - 1)


@kernel(
    types.uint64(
        *(given(types.int64), given(types.uint8), given(types.uint64, 2), given(types.int64)),
        *(given(types.uint64), given(types.uint64), given(types.uint32), given(types.uint64)),
    )
)
def _sum_of_hashes(
    times: Integers,
    kinds: Bytes,
    prices: Halves,
    users: Integers,
    session_high: Words,
    session_low: Words,
    variants: Numbers,
    hashes: Words,
) -> Word:
    total = Word(0)
    for row in range(len(times)):
        if row + AHEAD < len(times):
            prefetch(hashes, np.int64(variants[row + AHEAD]))
        hashed = mixed(hashes[variants[row]], Word(times[row]) ^ (Word(kinds[row]) << Word(56)))
        hashed = mixed(hashed, prices[row, 0] ^ (prices[row, 1] << Word(48)))
        hashed = mixed(hashed, Word(users[row]))
        hashed = mixed(hashed, session_high[row])
        total += mixed(hashed, session_low[row])
    return total
