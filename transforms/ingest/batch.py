"""The event batch: what one element of the pipeline holds between parsing and the tables."""

from __future__ import annotations

import datetime as dt

import polars as pl

from transforms.columnar.money import MONEY
from transforms.columnar.product_codes import PRODUCT_CODE, PRODUCT_COLUMNS, with_product_codes
from transforms.ingest.session_keys import SESSION_NAMES, session_key
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
        PRODUCT_CODE: pl.UInt32(),
    }
)
"""Columns of an event batch: accepted rows of the CSV, in any order.

`event_time` has whole seconds. The session is its key, see `session_keys`; only it may be NULL. The
product code tells product_id, category_id, category_code and brand, see `product_codes`.
"""


EVENT_KEY = ("event_time", "event_type", "product_id", "user_id")
"""Columns in which duplicates are equal, besides their session."""


def is_type(event_type: str) -> pl.Expr:
    """True for events of one type."""
    return pl.col("event_type") == pl.lit(event_type, EVENT_TYPE)


ROWS = pl.Schema(
    {
        "event_time": pl.Datetime("us", "UTC"),
        "event_type": EVENT_TYPE,
        "product_id": pl.Int64(),
        "category_id": pl.Int64(),
        "category_code": pl.String(),
        "brand": pl.String(),
        "price": MONEY,
        "user_id": pl.Int64(),
        "user_session": pl.String(),
    }
)
"""Columns of accepted rows as they are read; the last one and those of the product may be NULL."""


def event_batch(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The event batch of some rows, and the names of their sessions that the keys do not tell.

    For a few rows; the parser makes batches of blocks of bytes.

    Args:
        rows: A `ROWS` frame.

    Returns:
        An `EVENT_BATCH` and a `SESSION_NAMES` frame.
    """
    names = rows["user_session"].drop_nulls().unique(maintain_order=True)
    keys = pl.DataFrame(
        [(name, *session_key(name)) for name in names],
        schema={
            "user_session": pl.String(),
            "session_high": pl.UInt64(),
            "session_low": pl.UInt64(),
            "is_told": pl.Boolean(),
        },
        orient="row",
    )
    keyed = rows.join(keys, on="user_session", how="left", maintain_order="left").with_columns(
        pl.col("category_code", "brand").cast(pl.Categorical)
    )
    told = [*(name for name in EVENT_BATCH if name != PRODUCT_CODE), *PRODUCT_COLUMNS]
    return with_product_codes(keyed.select(told)), keys.filter(~pl.col("is_told")).select(
        SESSION_NAMES.names()
    )


def until(events: pl.DataFrame, last: dt.date | None) -> pl.DataFrame:
    """The events up to a date, that day included; all of them where it is None."""
    if last is None:
        return events
    return events.filter(pl.col("event_time").dt.date() <= last)
