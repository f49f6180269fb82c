"""Metrics by product category: metrics_categories."""

from __future__ import annotations

import polars as pl

from transforms.analytics.catalogue import Catalogue, metric_levels
from transforms.analytics.category_exposures import _LEVELS, subcategories
from transforms.columnar.grouping import EVENT_SUMS
from transforms.columnar.key_index import count_distinct, number_keys
from transforms.columnar.money import rate
from transforms.schema import METRICS_CATEGORIES


def touch_counts(touched: pl.DataFrame, found: Catalogue) -> pl.DataFrame:
    """Distinct sessions and users by category, of the touches of one user shard.

    Returns:
        One row per `level` and category: `level`, `category_lvl_1`, `category_lvl_2`,
        `user_sessions`, `users`; over shards they add up.
    """
    levels = found.subcategories
    top_of, tops = number_keys(levels["category_lvl_1"].rank("dense").to_numpy())
    numbers = subcategories(touched, found)
    by_top, by_sub = [], []
    for name, items, is_counted in (
        ("user_sessions", touched["session"], touched["session"].is_not_null()),
        ("users", touched["user_id"], touched["is_user"]),
    ):
        groups = numbers[is_counted.to_numpy()]
        top, sub = count_distinct(
            items.filter(is_counted).to_numpy(), (top_of[groups], groups), levels.height
        )
        by_top.append(pl.Series(name, top[: len(tops)]))
        by_sub.append(pl.Series(name, sub))
    no_sub = pl.lit(None, pl.String).alias("category_lvl_2")
    of_levels = (
        levels[tops].with_columns(no_sub, *by_top),
        levels.with_columns(by_sub),
    )
    return pl.concat(
        of_level.select(pl.lit(level, pl.Int64).alias("level"), pl.all()).filter(
            (pl.col("user_sessions") > 0) | (pl.col("users") > 0)
        )
        for level, of_level in enumerate(of_levels, start=1)
    )


def _by_level(frame: pl.DataFrame, *aggregations: pl.Expr) -> pl.DataFrame:
    """Aggregate by top-level category (level 1) and by subcategory (level 2)."""
    top = frame.group_by("category_lvl_1").agg(*aggregations)
    sub = frame.group_by(_LEVELS).agg(*aggregations)
    return pl.concat(
        [
            top.with_columns(
                pl.lit(1, pl.Int64).alias("level"),
                pl.lit(None, pl.String).alias("category_lvl_2"),
            ),
            sub.with_columns(pl.lit(2, pl.Int64).alias("level")),
        ],
        how="diagonal",
    ).select("level", *_LEVELS, pl.all().exclude("level", *_LEVELS))


def metrics_categories(found: Catalogue, counts: pl.DataFrame) -> pl.DataFrame:
    """The rows of metrics_categories.

    Args:
        found: The catalogue.
        counts: `touch_counts` of all user shards.
    """
    keys = ("level", *_LEVELS)
    sums = _by_level(found.products.with_columns(metric_levels()), pl.col(EVENT_SUMS).sum()).join(
        counts.group_by(keys).agg(pl.col("user_sessions", "users").sum()),
        on=keys,
        nulls_equal=True,
        how="left",
    )
    return METRICS_CATEGORIES.conform(
        sums.with_columns(
            purchase_rate=rate(sums["purchases"], sums["events"]),
            cart_add_rate=rate(sums["cart_adds"], sums["events"]),
            avg_views_per_session=rate(sums["views"], sums["user_sessions"]),
        ).sort(keys, nulls_last=True)
    )
