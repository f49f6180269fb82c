"""On how many days of a week or month users are active: metrics_stickiness."""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl

from transforms.analytics.calendar import Calendar, dates_of, first_days
from transforms.analytics.metrics.metric import Partial, Source, over_time
from transforms.analytics.user_days import UserDays, active_days
from transforms.columnar.key_index import number_keys
from transforms.columnar.money import rate
from transforms.schema import ACTIVITIES, METRICS_STICKINESS, Period

_PERIODS: Final[tuple[Period, ...]] = ("week", "month")

KEYS: Final = ("activity", "period", "period_start", "active_days")

ACTIVE_DAY_COUNTS: Final = pl.Schema(
    {
        "activity": pl.String(),
        "period": pl.String(),
        "period_start": pl.Date(),
        "active_days": pl.Int64(),
        "users": pl.Int64(),
    }
)
"""Columns of the partial aggregate; `users` add up."""


def active_day_counts(shard: UserDays) -> pl.DataFrame:
    """Partial aggregates of the users of one shard: an `ACTIVE_DAY_COUNTS` frame."""
    days = shard.days
    found = []
    for activity in ACTIVITIES:
        active = active_days(days, activity)
        for period in _PERIODS:
            indexes = active.indexes(period)
            starts = active.run_starts(indexes)
            lengths = np.diff(starts, append=len(indexes))
            numbers, firsts = number_keys(indexes[starts], lengths)
            found.append(
                pl.select(
                    pl.lit(activity).alias("activity"),
                    pl.lit(period).alias("period"),
                    dates_of(first_days(indexes[starts[firsts]], period)).alias("period_start"),
                    pl.Series("active_days", lengths[firsts]),
                    pl.Series("users", np.bincount(numbers)),
                )
            )
    return pl.concat(found)


def metrics_stickiness(counts: pl.DataFrame, calendar: Calendar) -> pl.DataFrame:
    """The rows of metrics_stickiness.

    Args:
        counts: `active_day_counts` of all shards, one row for each of `KEYS`.
        calendar: The days looked at.
    """
    *period, _ = KEYS
    rows = counts.sort(KEYS).with_columns(
        users_at_least=pl.col("users").cum_sum(reverse=True).over(period),
        active_users=pl.col("users").sum().over(period),
    )
    is_complete = [calendar.is_complete(rows["period_start"], name) for name in _PERIODS]
    return METRICS_STICKINESS.conform(
        rows.with_columns(
            share=rate(rows["users"], rows["active_users"]),
            is_complete=pl.when(pl.col("period") == _PERIODS[0])
            .then(is_complete[0])
            .otherwise(is_complete[1]),
        )
    )


METRIC: Final = over_time(
    METRICS_STICKINESS,
    Partial("stickiness", Source.USER_DAYS, ACTIVE_DAY_COUNTS, KEYS, active_day_counts),
    metrics_stickiness,
)
