"""Who put what into a cart, took it out or bought it: the events that sales are told by.

They are a fraction of all events, and meet by user when users are described: who bought a product
after putting it into a cart days ago is known only where all of a user's events are.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from transforms.analytics.sessions import Sessions
from transforms.columnar.money import MONEY
from transforms.columnar.product_codes import PRODUCT_CODE
from transforms.ingest.batch import EVENT_TYPE, is_type

BASKET_EVENTS: Final = pl.Schema(
    {
        "user_id": pl.Int64(),
        "session": pl.UInt64(),
        "event_time": pl.Datetime("us", "UTC"),
        "event_type": EVENT_TYPE,
        "price": MONEY,
        "order": pl.UInt32(),
        PRODUCT_CODE: pl.UInt32(),
    }
)
"""Columns of `basket_events`."""


def basket_events(shard: Sessions, purchases: pl.DataFrame, number: int) -> pl.DataFrame:
    """The cart adds, removals and purchases of a session shard.

    Args:
        shard: The sessions.
        purchases: Their `orders.ordered_purchases`.
        number: Number of the session shard.

    Returns:
        A `BASKET_EVENTS` frame: `session` unique over all shards; `order` unique within a session,
        NULL for what is no purchase.
    """
    carted = shard.events.filter(is_type("cart") | is_type("remove_from_cart"))
    bought = purchases.with_columns(event_type=pl.lit("purchase", EVENT_TYPE))
    return pl.concat(
        rows.select(
            "user_id",
            (pl.col("session_index").cast(pl.UInt64) + (number << 32)).alias("session"),
            "event_time",
            "event_type",
            "price",
            order.alias("order"),
            PRODUCT_CODE,
        )
        for rows, order in (
            (carted, pl.lit(None, pl.UInt32)),
            (bought, pl.col("order").cast(pl.UInt32)),
        )
    )
