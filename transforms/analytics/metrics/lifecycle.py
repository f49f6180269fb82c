"""Growth accounting, of users and of revenue: metrics_lifecycle.

Users are new, retained, resurrected or dormant as in Jonathan Hsu's growth accounting (2015), and
revenue is new, resurrected, expansion, contraction or churned with them.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl

from transforms.analytics.calendar import Calendar, dates_of, first_days, period_indexes
from transforms.analytics.metrics.metric import Partial, Source, over_time
from transforms.analytics.user_days import ActiveDays, UserDays, active_days
from transforms.columnar.day_series import PERIOD_COUNTS, PERIOD_MONEY, follow_periods
from transforms.columnar.money import MONEY, money_by_name, rate
from transforms.schema import ACTIVITIES, METRICS_LIFECYCLE, PERIODS, Period

_USERS: Final = tuple(f"{name}_users" for name in PERIOD_COUNTS)

_REVENUE: Final = tuple("revenue" if name == "all" else f"revenue_{name}" for name in PERIOD_MONEY)

KEYS: Final = ("activity", "period", "period_start")

LIFECYCLE_SUMS: Final = pl.Schema(
    {
        "activity": pl.String(),
        "period": pl.String(),
        "period_start": pl.Date(),
        **dict.fromkeys(_USERS, pl.Int64()),
        **dict.fromkeys(_REVENUE, MONEY),
    }
)
"""Columns of the partial aggregate; all but `KEYS` add up."""


def lifecycle_sums(shard: UserDays) -> pl.DataFrame:
    """Partial aggregates of the users of one shard.

    Returns:
        A `LIFECYCLE_SUMS` frame of the periods in which somebody is active or was just before.
    """
    days, calendar = shard.days, shard.calendar
    return pl.concat(
        _followed(active, period, calendar).select(
            pl.lit(activity).alias("activity"), pl.lit(period).alias("period"), pl.all()
        )
        for activity in ACTIVITIES
        for active in (active_days(days, activity),)
        for period in PERIODS
    )


def _followed(active: ActiveDays, period: Period, calendar: Calendar) -> pl.DataFrame:
    met = period_indexes(active.dates, period)
    periods = np.union1d(met, met + 1)
    periods = periods[periods <= calendar.last_index(period)]
    slots = np.searchsorted(periods, met).astype(np.uint32)[active.numbers]
    counts = np.zeros((len(periods), len(_USERS)), np.int64)
    sums = np.zeros((len(periods) * len(_REVENUE), 2), np.uint64)
    follow_periods(active.ends, slots, periods, active.revenue, counts, sums)
    return pl.DataFrame(
        [
            dates_of(first_days(periods, period)).alias("period_start"),
            *(pl.Series(name, counts[:, at]) for at, name in enumerate(_USERS)),
            *money_by_name(_REVENUE, sums),
        ]
    )


def metrics_lifecycle(sums: pl.DataFrame, calendar: Calendar) -> pl.DataFrame:
    """The rows of metrics_lifecycle.

    Args:
        sums: `lifecycle_sums` of all shards, one row for each of `KEYS`.
        calendar: The days looked at.
    """
    periods = pl.concat(
        calendar.series(period).select(
            pl.lit(activity).alias("activity"), pl.lit(period).alias("period"), pl.all()
        )
        for activity in ACTIVITIES
        for period in PERIODS
    )
    rows = (
        periods.join(sums, on=KEYS, how="left")
        .with_columns(pl.col(*_USERS, *_REVENUE).fill_null(0))
        .sort(KEYS)
        .with_columns(
            users_before=_before("active_users"),
            revenue_before=_before("revenue"),
            added=pl.col("new_users") + pl.col("resurrected_users"),
            revenue_lost=pl.col("revenue_contraction") + pl.col("revenue_churned"),
            revenue_added=pl.sum_horizontal(
                "revenue_new", "revenue_resurrected", "revenue_expansion"
            ),
        )
        .with_columns(
            net_users=pl.col("added") - pl.col("dormant_users"),
            revenue_kept=pl.col("revenue_before") - pl.col("revenue_lost"),
        )
        .with_columns(revenue_grown=pl.col("revenue_kept") + pl.col("revenue_expansion"))
    )
    rates = {
        "retention_rate": ("retained_users", "users_before"),
        "churn_rate": ("dormant_users", "users_before"),
        "quick_ratio": ("added", "dormant_users"),
        "gross_revenue_retention": ("revenue_kept", "revenue_before"),
        "net_revenue_retention": ("revenue_grown", "revenue_before"),
        "revenue_quick_ratio": ("revenue_added", "revenue_lost"),
    }
    open_rates = {name: rate(rows[over], rows[under]) for name, (over, under) in rates.items()}
    return METRICS_LIFECYCLE.conform(
        rows.with_columns(**open_rates).with_columns(pl.when("is_complete").then(pl.col(*rates)))
    )


def _before(column: str) -> pl.Expr:
    """The value in the period before; 0 in the first one."""
    return pl.col(column).shift(1).over("activity", "period").fill_null(0)


def lifecycle_failures(table: pl.DataFrame) -> dict[str, int]:
    """Rows of metrics_lifecycle that do not follow from those before them, by check.

    Args:
        table: All of its rows, in any order.
    """
    gained = pl.sum_horizontal("revenue_new", "revenue_resurrected", "revenue_expansion")
    lost = pl.col("revenue_contraction") + pl.col("revenue_churned")
    checks = {
        "active_users_follow": _before("active_users") + pl.col("net_users")
        != pl.col("active_users"),
        "revenue_follows": _before("revenue") + gained - lost != pl.col("revenue"),
    }
    failures = table.sort(KEYS).with_columns(**checks)
    return {name: int(failures[name].sum()) for name in checks}


METRIC: Final = over_time(
    METRICS_LIFECYCLE,
    Partial("lifecycle", Source.USER_DAYS, LIFECYCLE_SUMS, KEYS, lifecycle_sums),
    metrics_lifecycle,
    lifecycle_failures,
)
