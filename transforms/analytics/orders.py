"""Orders: purchase events that are one checkout, and fct_orders made of them.

A shop writes a checkout of several items as several purchase events of one second, or of a few.
Counting those as orders makes one checkout a loyal customer.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from transforms.analytics.sessions import Sessions
from transforms.columnar.md5 import hex_digest
from transforms.columnar.money import MONEY
from transforms.columnar.product_codes import PRODUCT_CODE, EncodedColumn
from transforms.ingest.batch import is_type
from transforms.schema import FCT_ORDERS

ORDERS: Final = pl.Schema(
    {
        "user_id": pl.Int64(),
        "session_id": pl.String(),
        "order_time": pl.Datetime("us", "UTC"),
        "item_count": pl.Int64(),
        "product_count": pl.Int64(),
        "revenue": MONEY,
        "seconds_in_session": pl.Int64(),
    }
)
"""Columns of orders, as they meet by user."""


def ordered_purchases(shard: Sessions, products: EncodedColumn, gap_seconds: int) -> pl.DataFrame:
    """The purchases of a session shard, and the order that each is part of.

    An order is the purchase events of one user and session, in time order, as long as neighbours
    are at most the gap apart. None goes on in another shard.

    Args:
        shard: The sessions.
        products: The products of `shard.events`.
        gap_seconds: The longest gap within an order.

    Returns:
        The purchases, order by order: `session_index`, `user_id`, `event_time`, `price`,
        `product_code`, `product` (its number in `products`) and `order` (UInt32, 1, 2, … in the
        shard).
    """
    is_purchase = shard.events.select(is_type("purchase")).to_series()
    owner = ("session_index", "user_id")
    bought = (
        shard.events.select(*owner, "event_time", "price", PRODUCT_CODE)
        .filter(is_purchase)
        .with_columns(product=pl.Series(products.numbers[is_purchase.to_numpy()]))
        .sort(*owner, "event_time", maintain_order=True)
    )
    continues = pl.all_horizontal(
        *(pl.col(name) == pl.col(name).shift() for name in owner),
        pl.col("event_time") - pl.col("event_time").shift() <= pl.duration(seconds=gap_seconds),
    )
    return bought.with_columns(order=(~continues.fill_null(value=False)).cum_sum())


def find_orders(shard: Sessions, purchases: pl.DataFrame) -> pl.DataFrame:
    """The orders of a session shard.

    Args:
        shard: The sessions.
        purchases: Their `ordered_purchases`.

    Returns:
        An `ORDERS` frame, of one row per order.
    """
    orders = (
        purchases.group_by("session_index", "user_id", "order", maintain_order=True)
        .agg(
            pl.col("event_time").min().alias("order_time"),
            pl.len().cast(pl.Int64).alias("item_count"),
            pl.col("product").n_unique().cast(pl.Int64).alias("product_count"),
            pl.col("price").sum().alias("revenue"),
        )
        .drop("order")
    )
    of_session = shard.sessions.select("session_id", "session_start_time")[orders["session_index"]]
    since_start = orders["order_time"] - of_session["session_start_time"]
    return orders.select(
        "user_id",
        of_session["session_id"],
        pl.all().exclude("user_id", "session_index"),
        since_start.dt.total_seconds().alias("seconds_in_session"),
    )


def number_orders(orders: pl.DataFrame) -> pl.DataFrame:
    """Identify and number the orders of the users of one shard.

    Args:
        orders: `find_orders` of all session shards.

    Returns:
        The orders, sorted by user and number, with `user` (the text of `user_id`) and the columns
        of fct_orders beside theirs.
    """
    named = orders.with_columns(
        order_date=pl.col("order_time").dt.date(), user=pl.col("user_id").cast(pl.String)
    )
    texts = named.select(
        pl.concat_str(
            "user",
            "session_id",
            pl.col("order_time").dt.strftime("%Y-%m-%d %H:%M:%S"),
            separator="|",
        )
    ).to_series()
    ids = pl.Series("order_id", [hex_digest(text) for text in texts], dtype=pl.String)
    is_next = pl.col("user_id") == pl.col("user_id").shift()
    return (
        named.with_columns(ids)
        .sort("user_id", "order_time", "order_id")
        .with_columns(
            order_number=pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over("user_id"),
            days_since_previous_order=pl.when(is_next).then(
                (pl.col("order_date") - pl.col("order_date").shift()).dt.total_days()
            ),
        )
        .with_columns(is_first_order=pl.col("order_number") == 1)
    )


def order_table(numbered: pl.DataFrame) -> pl.DataFrame:
    """The rows of fct_orders, of `number_orders` of a user shard."""
    return FCT_ORDERS.conform(numbered.with_columns(user_id="user"))
