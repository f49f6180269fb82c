"""Metrics by product category: metrics_categories."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import polars as pl

from transforms.analytics.catalogue import metric_levels
from transforms.analytics.category_exposures import subcategories
from transforms.analytics.metrics.metric import COUNT, Facts, Metric, Partial, Source
from transforms.analytics.users import DescribedUsers
from transforms.columnar.grouping import EVENT_SUMS
from transforms.columnar.key_index import count_distinct, number_keys
from transforms.columnar.money import rate
from transforms.schema import METRICS_CATEGORIES

_LEVELS: Final = ("category_lvl_1", "category_lvl_2")


def exposure_counts(shard: DescribedUsers) -> pl.DataFrame:
    """Distinct sessions and users of a user shard by category, of level 1 and of level 2."""
    exposed, found = shard.exposures, shard.catalogue
    levels = found.subcategories
    top_of, tops = number_keys(levels["category_lvl_1"].rank("dense").to_numpy())
    numbers = subcategories(exposed, found)
    by_top, by_sub = [], []
    for name, items, is_counted in (
        ("user_sessions", exposed["session"], exposed["session"].is_not_null()),
        ("users", exposed["user_id"], exposed["is_user"]),
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


EXPOSURE_COUNTS: Final = Partial(
    name="exposure_counts",
    source=Source.USERS,
    schema=pl.Schema(
        {
            "level": COUNT,
            **dict.fromkeys(_LEVELS, pl.String()),
            "user_sessions": COUNT,
            "users": COUNT,
        }
    ),
    keys=("level", *_LEVELS),
    compute=exposure_counts,
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


def metrics_categories(partials: Mapping[str, pl.DataFrame], facts: Facts) -> pl.DataFrame:
    """The rows of metrics_categories."""
    products = facts.catalogue.products.with_columns(metric_levels())
    keys = ("level", *_LEVELS)
    sums = _by_level(products, pl.col(EVENT_SUMS).sum()).join(
        partials[EXPOSURE_COUNTS.name],
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


METRIC: Final = Metric(METRICS_CATEGORIES, (EXPOSURE_COUNTS,), metrics_categories)
