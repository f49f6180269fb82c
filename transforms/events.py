"""The event batch: what one element of the pipeline holds between parsing and the tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from transforms.exact import Halves, add_money, money_of_halves
from transforms.kernels import Bytes, Integer, helper
from transforms.schema import EVENT_TYPES, MONEY_SCALE
from transforms.session_keys import SESSION_KEY

MONEY = pl.Decimal(38, MONEY_SCALE)
"""Exact money, the range of BigQuery's NUMERIC."""

EVENT_TYPE = pl.Enum(EVENT_TYPES)

VARIANT = "variant"

EVENT_BATCH = pl.Schema(
    {
        "event_time": pl.Datetime("us", "UTC"),
        "event_type": EVENT_TYPE,
        "price": MONEY,
        "user_id": pl.Int64(),
        "session_high": pl.UInt64(),
        "session_low": pl.UInt64(),
        VARIANT: pl.UInt32(),
    }
)
"""Columns of an event batch: accepted rows of the CSV, in any order.

`event_time` has whole seconds. The session is its key, see `session_keys`; only it may be NULL. The
variant tells product_id, category_id, category_code and brand, see `variants`.
"""

EVENT_KEY = ("event_time", "event_type", "product_id", "user_id")
"""Columns in which duplicates are equal, besides their session."""

NULLABLE = SESSION_KEY


def is_type(event_type: str) -> pl.Expr:
    """True for events of one type."""
    return pl.col("event_type") == pl.lit(event_type, EVENT_TYPE)


NO_CODE = 2**32 - 1
NO_ID = -1
"""What stands for NULL in kernels: no dictionary is as large, and ids are not negative."""

_TEXTS = pl.Series([], dtype=pl.Categorical)  # keeps alive what codes mean, in all of the process


def codes(texts: pl.Series) -> npt.NDArray[np.uint32]:
    """The codes of a Categorical column, `NO_CODE` for NULL."""
    return without_nulls(texts.to_physical(), NO_CODE)


def texts_of_codes(numbers: pl.Series) -> pl.Series:
    """The Categorical column of which these are the codes, NULL where they are."""
    return numbers.cat.to(_TEXTS.dtype)


def without_nulls(numbers: pl.Series, stand_in: int) -> npt.NDArray[Any]:
    """A column of integers with something that stands for NULL.

    By Arrow: a frame's own operations wait for a pool of threads, which small frames feel.
    """
    if numbers.null_count():
        return np.asarray(numbers.to_arrow().fill_null(stand_in))
    return numbers.to_numpy()


def with_nulls(numbers: npt.NDArray[Any], stand_in: int) -> pl.Series:
    """The column again."""
    column = pl.Series(numbers)
    return column.set(column == stand_in, None)


EVENT_SUMS = ("events", "views", "cart_adds", "cart_removes", "purchases", "revenue")
"""What is summed over events; `revenue` is money, the others counts (Int64).

The four in the middle count the events of each type, in the order of `EVENT_TYPES`.
"""

_PURCHASE = EVENT_TYPES.index("purchase")


@helper
def add_event(
    counts: npt.NDArray[np.int64],
    revenue: Halves,
    at: Integer,
    event_types: Bytes,
    prices: Halves,
    row: Integer,
) -> None:
    """Add an event to a row of sums, in a kernel.

    Args:
        counts: Rows of all `EVENT_SUMS` but the last.
        revenue: Rows of the last.
        at: The row that is added to.
        event_types: Numbers of `EVENT_TYPES`.
        prices: Of the events.
        row: The event.
    """
    counts[at, 0] += 1
    counts[at, 1 + event_types[row]] += 1
    if event_types[row] == _PURCHASE:
        add_money(revenue, at, prices, row)


def sums_of_arrays(counts: npt.NDArray[np.int64], revenue: Halves) -> list[pl.Series]:
    """The columns `EVENT_SUMS` of what kernels have summed."""
    return [
        *(pl.Series(name, counts[:, column]) for column, name in enumerate(EVENT_SUMS[:-1])),
        money_of_halves(revenue).alias(EVENT_SUMS[-1]),
    ]


def validate(batch: pl.DataFrame) -> pl.DataFrame:
    """Return the batch, if it is one.

    Raises:
        ValueError: A column is missing, of another type, or NULL where it may not be.
    """
    if batch.schema != EVENT_BATCH:
        raise ValueError(f"not an event batch: expected {EVENT_BATCH}, found {batch.schema}")
    nulls = {
        name: count
        for name in batch.columns
        if name not in NULLABLE and (count := batch[name].null_count())
    }
    if nulls:
        raise ValueError(f"not an event batch: NULL in required columns {nulls}")
    return batch
