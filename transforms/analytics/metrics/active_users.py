"""Users active on a day, in a week and in four: metrics_active_users.

Nothing is counted distinct. A user's days open windows of 7 and 28 days; where the union of a
user's windows begins the number of active users goes up by one, behind its end down by one.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl

from transforms.analytics.calendar import Calendar, dates_of
from transforms.analytics.metrics.metric import Partial, Source, over_time
from transforms.analytics.user_days import ActiveDays, UserDays, active_days
from transforms.columnar.day_series import open_windows
from transforms.columnar.money import rate
from transforms.schema import ACTIVE_WINDOW_DAYS, ACTIVITIES, METRICS_ACTIVE_USERS

_CHANGES: Final = {f"{name}_users": days for name, days in ACTIVE_WINDOW_DAYS.items()}

KEYS: Final = ("activity", "event_date")

ACTIVE_USER_CHANGES: Final = pl.Schema(
    {
        "activity": pl.String(),
        "event_date": pl.Date(),
        **dict.fromkeys(_CHANGES, pl.Int64()),
    }
)
"""Columns of the partial aggregate: by how much each number changes; all but `KEYS` add up."""


def active_user_changes(shard: UserDays) -> pl.DataFrame:
    """Partial aggregates of the users of one shard.

    Returns:
        An `ACTIVE_USER_CHANGES` frame of the days on which a number may change.
    """
    days, calendar = shard.days, shard.calendar
    return pl.concat(
        _changes(active_days(days, activity), calendar).select(
            pl.lit(activity).alias("activity"), pl.all()
        )
        for activity in ACTIVITIES
    )


def _changes(active: ActiveDays, calendar: Calendar) -> pl.DataFrame:
    met = active.dates
    places = np.unique(np.concatenate([met, *(met + width for width in _CHANGES.values())]))
    places = places[places <= calendar.last_day]
    opened = np.searchsorted(places, met).astype(np.int32)
    changes = {name: np.zeros(len(places), np.int64) for name in _CHANGES}
    for name, width in _CHANGES.items():
        closed = np.searchsorted(places, met + width).astype(np.int32)
        closed[closed == len(places)] = -1
        open_windows(active.ends, active.numbers, met, opened, closed, width, changes[name])
    return pl.DataFrame({"event_date": dates_of(places), **changes})


def metrics_active_users(changes: pl.DataFrame, calendar: Calendar) -> pl.DataFrame:
    """The rows of metrics_active_users.

    Args:
        changes: `active_user_changes` of all shards, one row for each of `KEYS`.
        calendar: The days looked at.
    """
    days = calendar.series("day").select(pl.col("period_start").alias("event_date"))
    age = (pl.col("event_date") - pl.lit(calendar.first)).dt.total_days()
    rows = (
        pl.concat(
            days.select(pl.lit(activity).alias("activity"), pl.all()) for activity in ACTIVITIES
        )
        .join(changes, on=KEYS, how="left")
        .sort(KEYS)
        .with_columns(
            pl.col(*_CHANGES).fill_null(0).cum_sum().over("activity"),
            *(
                (age >= ACTIVE_WINDOW_DAYS[name] - 1).alias(f"{name}_is_complete")
                for name in ("weekly", "monthly")
            ),
        )
    )
    daily, weekly, monthly = (rows[name] for name in _CHANGES)
    return METRICS_ACTIVE_USERS.conform(
        rows.with_columns(
            stickiness=rate(daily, monthly),
            daily_of_weekly=rate(daily, weekly),
            weekly_of_monthly=rate(weekly, monthly),
        ).with_columns(
            pl.when("weekly_is_complete").then("daily_of_weekly").alias("daily_of_weekly"),
            pl.when("monthly_is_complete").then(pl.col("stickiness", "weekly_of_monthly")),
        )
    )


METRIC: Final = over_time(
    METRICS_ACTIVE_USERS,
    Partial("active_users", Source.USER_DAYS, ACTIVE_USER_CHANGES, KEYS, active_user_changes),
    metrics_active_users,
)
