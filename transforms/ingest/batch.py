"""The event batch: what one element of the pipeline holds between parsing and the tables."""

from __future__ import annotations

import polars as pl

from transforms.columnar.money import MONEY
from transforms.columnar.product_codes import VARIANT
from transforms.ingest.session_keys import SESSION_KEY
from transforms.schema import EVENT_TYPES

EVENT_TYPE = pl.Enum(EVENT_TYPES)


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
