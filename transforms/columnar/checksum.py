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
from transforms.columnar.product_codes import PRODUCT_CODE, code_hashes

CHECKSUM_BITS: Final = 40
"""Of a checksum: 2²³ of them add up in 64 bits."""


# Odd numbers without a pattern: digits of π.
_FACTORS: Final = tuple(
    map(
        Word,
        (
            *(0x243F6A8885A308D3, 0x13198A2E03707345, 0xA4093822299F31D1, 0x082EFA98EC4E6C89),
            *(0x452821E638D01377, 0xBE5466CF34E90C6D, 0xC0AC29B7C97C50DD),
        ),
    )
)


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
        events[PRODUCT_CODE].to_numpy(),
        code_hashes(),
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
    product_codes: Numbers,
    hashes: Words,
) -> Word:
    """Multilinear hashes, mixed once: their products do not wait for each other."""
    total = Word(0)
    rows = len(times)
    for row in range(rows):
        prefetch(hashes, np.int64(product_codes[min(row + AHEAD, rows - 1)]))
        hashed = hashes[product_codes[row]] + Word(times[row]) * _FACTORS[0]
        hashed += Word(kinds[row]) * _FACTORS[1]
        hashed += prices[row, 0] * _FACTORS[2] + prices[row, 1] * _FACTORS[3]
        hashed += Word(users[row]) * _FACTORS[4]
        hashed += session_high[row] * _FACTORS[5] + session_low[row] * _FACTORS[6]
        total += mixed(Word(0), hashed ^ (hashed >> Word(29)))
    return total
