"""What becomes of carts, over time and by category: metrics_carts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import polars as pl

from transforms.analytics.calendar import period_starts
from transforms.analytics.metrics.metric import COUNT, Facts, Metric, Partial, Source
from transforms.columnar.money import MONEY, rate_of_counts
from transforms.schema import CART_STATUSES, CART_VALUE_STATUSES, METRICS_CARTS, PERIODS

_KEYS: Final = ("period", "period_start", "category_lvl_1")

_NO_VALUE: Final = ("removed", "carried_over")
"""Statuses of lines that no cart is worth anything for: given back, or told by a later line."""


def cart_sums(lines: pl.DataFrame) -> pl.DataFrame:
    """Sums over the cart lines of the users of one shard.

    Each user, and so each cart, is in one shard: the counts of several shards add up.
    """
    return pl.concat(
        rows.group_by(_KEYS)
        .agg(
            pl.len().alias("lines"),
            pl.struct("user_id", "session").n_unique().alias("carts"),
            pl.col("user_id").n_unique().alias("users"),
            *((pl.col("status") == status).sum().alias(status) for status in CART_STATUSES),
            _value("cart_value", [each for each in CART_STATUSES if each not in _NO_VALUE]),
            *(_value(f"{status}_value", [status]) for status in CART_VALUE_STATUSES),
        )
        .cast(dict.fromkeys(_COUNTS, COUNT))
        for rows in _groupings(lines)
    )


def _value(name: str, statuses: list[str]) -> pl.Expr:
    return pl.col("price").filter(pl.col("status").is_in(statuses)).sum().alias(name)


def _groupings(lines: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """The lines with `_KEYS`: of all, by period, and by category."""
    no_start, no_category = pl.lit(None, pl.Date), pl.lit(None, pl.String)
    of_all = pl.lit("all").alias("period"), no_start.alias("period_start")
    yield lines.with_columns(*of_all, no_category.alias("category_lvl_1"))
    yield lines.with_columns(*of_all)
    for period in PERIODS:
        yield lines.with_columns(
            pl.lit(period).alias("period"),
            period_starts(lines["cart_date"], period).alias("period_start"),
            no_category.alias("category_lvl_1"),
        )


_COUNTS: Final = ("lines", "carts", "users", *CART_STATUSES)

CART_SUMS: Final = Partial(
    name="cart_sums",
    source=Source.CARTS,
    schema=pl.Schema(
        {
            "period": pl.String(),
            "period_start": pl.Date(),
            "category_lvl_1": pl.String(),
            **dict.fromkeys(_COUNTS, COUNT),
            **dict.fromkeys(
                ("cart_value", *(f"{status}_value" for status in CART_VALUE_STATUSES)), MONEY
            ),
        }
    ),
    keys=_KEYS,
    compute=cart_sums,
)


def metrics_carts(partials: Mapping[str, pl.DataFrame], _: Facts) -> pl.DataFrame:
    """The rows of metrics_carts."""
    sums = partials[CART_SUMS.name].sort(_KEYS, nulls_last=True)
    undecided = sums["recovered"] + sums["abandoned"]
    return METRICS_CARTS.conform(
        sums.with_columns(
            abandonment_rate=rate_of_counts(sums["abandoned"], sums["purchased"] + undecided),
            recovery_rate=rate_of_counts(sums["recovered"], undecided),
        )
    )


METRIC: Final = Metric(METRICS_CARTS, (CART_SUMS,), metrics_carts)
