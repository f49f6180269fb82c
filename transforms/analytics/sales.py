"""Who carts and buys a product or a brand, and what share of all revenue it brings."""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl

from transforms.columnar.money import exact_units, rate_of_counts, shares
from transforms.ingest.batch import is_type
from transforms.schema import ABC_CLASSES

SALES: Final = ("orders", "carters", "buyers", "carted_buyers", "repeat_buyers")
"""Counts of distinct orders and users; `carted_buyers` have carted it and bought it."""

_BEFORE_B, _BEFORE_C = (4, 5), (19, 20)
"""The share of all revenue from which on a row is not A, and not B."""


def sales(events: pl.DataFrame, key: str) -> pl.DataFrame:
    """Distinct orders and users of the users of one shard.

    Each user, and so each order, is in one shard: the counts of several shards add up.

    Args:
        events: `BASKET_EVENTS` of a user shard.
        key: The column that tells the product or brand.

    Returns:
        One row for each value of the key: the key and `SALES`.
    """
    bought = events.filter(is_type("purchase"))
    carters = events.filter(is_type("cart")).select(key, "user_id").unique()
    buyers = (
        bought.select(key, "user_id", day=pl.col("event_time").dt.date())
        .unique()
        .group_by(key, "user_id")
        .len("days")
        .join(carters.with_columns(has_carted=True), on=[key, "user_id"], how="left")
        .group_by(key)
        .agg(
            pl.len().alias("buyers"),
            pl.col("has_carted").sum().alias("carted_buyers"),
            (pl.col("days") > 1).sum().alias("repeat_buyers"),
        )
    )
    orders = bought.select(key, "session", "order").unique().group_by(key).len("orders")
    return (
        pl.concat([orders, carters.group_by(key).len("carters"), buyers], how="diagonal")
        .group_by(key)
        .agg(pl.col(SALES).sum().cast(pl.Int64))
    )


def with_sales_rates(rows: pl.DataFrame) -> pl.DataFrame:
    """Products or brands with the rates of their `EVENT_SUMS` and `SALES`."""
    return rows.with_columns(
        rate_of_counts(rows[over], rows[under]).alias(name)
        for name, over, under in (
            ("view_to_cart_rate", "cart_adds", "views"),
            ("view_to_purchase_rate", "purchases", "views"),
            ("cart_to_purchase_rate", "carted_buyers", "carters"),
            ("repeat_buyer_rate", "repeat_buyers", "buyers"),
        )
    )


def with_revenue_ranks(rows: pl.DataFrame, tie: str) -> pl.DataFrame:
    """Products or brands, ranked by `revenue`, the largest first.

    Args:
        rows: One row for each.
        tie: The column that decides among equal revenues, the smallest first; without NULL.

    Returns:
        The rows by rank, with `revenue_rank`, `revenue_share`, `cumulative_share` and `abc_class`.
    """
    ranked = rows.sort("revenue", tie, descending=[True, False])
    units = exact_units(ranked["revenue"])
    up_to = np.cumsum(units) if len(units) else units
    whole = up_to[-1] if len(units) else 0
    before = up_to - units
    (a_over, a_under), (b_over, b_under) = _BEFORE_B, _BEFORE_C
    is_a = before * a_under < whole * a_over
    is_b = before * b_under < whole * b_over
    a, b, c = ABC_CLASSES
    return ranked.with_columns(
        pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias("revenue_rank"),
        shares(units, whole).alias("revenue_share"),
        shares(up_to, whole).alias("cumulative_share"),
        pl.Series(
            "abc_class",
            np.where(units == 0, c, np.where(is_a, a, np.where(is_b, b, c))).astype(str),
            pl.String,
        ),
    )
