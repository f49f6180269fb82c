"""The event batch: what one element of the pipeline holds between parsing and the tables."""

from __future__ import annotations

import polars as pl

from transforms.schema import EVENT_TYPES, MONEY_SCALE

MONEY = pl.Decimal(38, MONEY_SCALE)
"""Exact money, the range of BigQuery's NUMERIC."""

EVENT_TYPE = pl.Enum(EVENT_TYPES)

EVENT_BATCH = pl.Schema(
    {
        "event_time": pl.Datetime("us", "UTC"),
        "event_type": EVENT_TYPE,
        "product_id": pl.Int64(),
        "category_id": pl.Int64(),
        "category_code": pl.Categorical(),
        "brand": pl.Categorical(),
        "price": MONEY,
        "user_id": pl.Int64(),
        "user_session": pl.String(),
    }
)
"""Columns of an event batch: accepted rows of the CSV, in any order.

`event_time` has whole seconds. `category_code` and `brand` are lower-case and dictionary-encoded.
Only `category_id`, `category_code`, `brand` and `user_session` may be NULL.
"""

EVENT_KEY = ("event_time", "event_type", "product_id", "user_id", "user_session")
"""Columns in which duplicates are equal."""

NULLABLE = ("category_id", "category_code", "brand", "user_session")


def is_type(event_type: str) -> pl.Expr:
    """True for events of one type."""
    return pl.col("event_type") == pl.lit(event_type, EVENT_TYPE)


EVENT_SUMS = ("events", "views", "cart_adds", "cart_removes", "purchases", "revenue")
"""What is summed over events; `revenue` is money, the others counts (Int64)."""


def event_values() -> list[pl.Expr]:
    """What an event adds to each of `EVENT_SUMS`."""
    counts = {
        "views": "view",
        "cart_adds": "cart",
        "cart_removes": "remove_from_cart",
        "purchases": "purchase",
    }
    return [
        pl.lit(1, pl.Int64).alias("events"),
        *(is_type(event_type).cast(pl.Int64).alias(name) for name, event_type in counts.items()),
        pl.when(is_type("purchase")).then("price").otherwise(pl.lit(0, MONEY)).alias("revenue"),
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
