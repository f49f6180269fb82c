"""Who comes back, how long after the first time: metrics_cohort_retention.

A rate is over those users of a cohort who could be observed for the whole window: what cannot be
known yet is NULL, never 0.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import polars as pl

from transforms.analytics.calendar import (
    Calendar,
    dates_of,
    first_days,
)
from transforms.analytics.metrics.metric import Partial, Source, over_time
from transforms.analytics.user_days import ActiveDays, UserDays, active_days
from transforms.columnar.day_series import (
    BRACKET,
    CALENDAR,
    COHORT_COUNTS,
    COHORT_MONEY,
    ROLLING,
    add_cohort_windows,
)
from transforms.columnar.kernels import Integers
from transforms.columnar.money import MONEY, average_money, money_by_name, rate
from transforms.schema import (
    BRACKETS_UP_TO,
    COHORTS_BY,
    METRICS_COHORT_RETENTION,
    ROLLING_DAYS,
    Activity,
    CohortBy,
    Period,
    RetentionMethod,
)


class _Windows(NamedTuple):
    """A way to cut the time since a user's start.

    Attributes:
        method: Its name.
        period: Length of the windows.
        cohorts: Length of the periods whose users make a cohort.
        code: The method, as the kernel takes it.
        bounds: Of rolling windows their length; of brackets the last day of each.
    """

    method: RetentionMethod
    period: Period
    cohorts: Period
    code: int
    bounds: tuple[int, ...]

    def cells(self, calendar: Calendar) -> int:
        """How many windows of cohorts there can be, with one before the first of each."""
        cohorts = len(calendar.indexes(self.cohorts))
        windows = {"calendar": cohorts, "bracket": len(self.bounds) + 1}
        if self.method == "rolling":
            windows["rolling"] = (calendar.last_day - calendar.first_day) // self.bounds[0] + 1
        return cohorts * (windows[self.method] + 1)


_WAYS: Final = (
    *(_Windows("calendar", period, period, CALENDAR, ()) for period in ROLLING_DAYS),
    *(
        _Windows("rolling", period, period, ROLLING, (length,))
        for period, length in ROLLING_DAYS.items()
    ),
    _Windows("bracket", "day", "month", BRACKET, BRACKETS_UP_TO),
)

_COHORT: Final = ("cohort_by", "method", "period", "cohort_start")

KEYS: Final = (*_COHORT, "period_number")

RETENTION_SUMS: Final = pl.Schema(
    {
        "cohort_by": pl.String(),
        "method": pl.String(),
        "period": pl.String(),
        "cohort_start": pl.Date(),
        "period_number": pl.Int64(),
        **dict.fromkeys(COHORT_COUNTS, pl.Int64()),
        **dict.fromkeys(COHORT_MONEY, MONEY),
    }
)
"""Columns of the partial aggregate; all but `KEYS` add up.

`retained`, `purchases`, `orders` and `revenue` are of eligible users in the window. The others are
of users for whom the window is the last of some: `ending` of the complete ones (−1 where there is
none), `later` of the complete ones that begin before or on their last active day; `base_ending`
and `revenue_ending` are the revenue of the `ending` users in their first window, and in all that
are complete. Sums over windows make of them what a row tells.
"""


def retention_sums(shard: UserDays) -> pl.DataFrame:
    """Partial aggregates of the users of one shard: a `RETENTION_SUMS` frame."""
    days, calendar = shard.days, shard.calendar
    active = active_days(days, "visit")
    dates = active.dates[active.numbers]
    bought = np.column_stack([days[name].to_numpy() for name in ("purchases", "orders")])
    indexes = {period: active.indexes(period) for period in ROLLING_DAYS}
    return pl.concat(
        _summed(active, dates, bought, indexes, cohort_by=cohort_by, way=way, calendar=calendar)
        for cohort_by in COHORTS_BY
        for way in _WAYS
    )


def _summed(
    active: ActiveDays,
    days: Integers,
    bought: Integers,
    indexes: dict[Period, Integers],
    *,
    cohort_by: CohortBy,
    way: _Windows,
    calendar: Calendar,
) -> pl.DataFrame:
    # As little as there can be: pages of zeros that are touched here and there take time.
    room = min(len(active.numbers) + 3 * len(active.ends), way.cells(calendar))
    slots = np.zeros(1 << (2 * room).bit_length(), np.int32)
    keys = np.empty((room, 2), np.int64)
    counts = np.zeros((room, len(COHORT_COUNTS)), np.int64)
    sums = np.zeros((len(COHORT_MONEY) * room, 2), np.uint64)
    found = add_cohort_windows(
        active.ends,
        days,
        indexes[way.cohorts],
        bought,
        active.revenue,
        cohort_by == "first_purchase",
        way.code,
        np.array(way.bounds, np.int64),
        calendar.last_day,
        calendar.last_index(way.cohorts),
        calendar.last_complete_index(way.cohorts),
        slots,
        keys,
        counts,
        sums,
    )
    return pl.select(
        pl.lit(cohort_by).alias("cohort_by"),
        pl.lit(way.method).alias("method"),
        pl.lit(way.period).alias("period"),
        dates_of(first_days(keys[:found, 0], way.cohorts)).alias("cohort_start"),
        pl.Series("period_number", keys[:found, 1]),
        *(pl.Series(name, counts[:found, at]) for at, name in enumerate(COHORT_COUNTS)),
        *money_by_name(COHORT_MONEY, sums[: len(COHORT_MONEY) * found]),
    )


def metrics_cohort_retention(sums: pl.DataFrame, calendar: Calendar) -> pl.DataFrame:
    """The rows of metrics_cohort_retention.

    Args:
        sums: `retention_sums` of all shards, one row for each of `KEYS`.
        calendar: The days looked at.
    """
    cohorts = _with_windows(sums)
    cohorts = cohorts.with_columns(
        is_left_censored=pl.when(pl.col("period") == "week")
        .then(calendar.is_left_censored(cohorts["cohort_start"], "week"))
        .otherwise(calendar.is_left_censored(cohorts["cohort_start"], "month"))
    )
    numbers = [name for name in cohorts.columns if name not in {*KEYS, "is_left_censored"}]
    all_cohorts = (
        cohorts.filter(~pl.col("is_left_censored"))
        .group_by(name for name in KEYS if name != "cohort_start")
        .agg(pl.col(numbers).sum())
        .with_columns(cohort_start=pl.lit(None, pl.Date), is_left_censored=pl.lit(value=False))
    )
    rows = pl.concat((cohorts, all_cohorts.select(cohorts.columns)))
    keys = METRICS_COHORT_RETENTION.key
    rows = pl.concat(_of_activity(rows, activity) for activity in _COUNTED)
    rows = rows.sort(keys, nulls_last=True)
    eligible, has_eligible = pl.col("eligible_users"), pl.col("eligible_users") > 0
    return METRICS_COHORT_RETENTION.conform(
        rows.with_columns(
            retention_rate=rate(rows["retained_users"], rows["eligible_users"]),
            unbounded_retention_rate=rate(rows["retained_later_users"], rows["eligible_users"]),
            revenue_retention_rate=rate(rows["revenue"], rows["base_revenue"]),
            cumulative_revenue_per_user=pl.when(has_eligible).then(
                average_money(pl.col("cumulative_revenue"), eligible.clip(lower_bound=1))
            ),
            is_complete=eligible == pl.col("cohort_users"),
        )
    )


_COUNTED: Final[dict[Activity, tuple[str, str]]] = {
    "visit": ("retained", "later"),
    "purchase": ("retained_buyers", "later_buyers"),
}
"""Whom each activity retains, in the window, and in it or later."""


def _of_activity(rows: pl.DataFrame, activity: Activity) -> pl.DataFrame:
    retained, later = _COUNTED[activity]
    return rows.select(
        pl.exclude([name for names in _COUNTED.values() for name in names]),
        pl.lit(activity).alias("activity"),
        pl.col(retained).alias("retained_users"),
        pl.col(later).alias("retained_later_users"),
    )


def _with_windows(sums: pl.DataFrame) -> pl.DataFrame:
    """A row for each window that has begun, with what sums over windows tell."""
    windows = (
        sums.group_by(_COHORT)
        .agg(pl.int_ranges(-1, pl.col("period_number").max() + 1).alias("period_number"))
        .explode("period_number")
    )
    to_the_end = ("ending", "later", "later_buyers", "base_ending")
    return (
        windows.join(sums, on=KEYS, how="left")
        .with_columns(pl.col(*COHORT_COUNTS, *COHORT_MONEY).fill_null(0))
        .sort(KEYS)
        .with_columns(
            cohort_users=pl.col("ending").sum().over(_COHORT),
            # Users that are no longer eligible leave with all that they have spent.
            cumulative_revenue=(pl.col("revenue") - pl.col("revenue_ending").shift(1, fill_value=0))
            .cum_sum()
            .over(_COHORT),
            **{name: pl.col(name).cum_sum(reverse=True).over(_COHORT) for name in to_the_end},
        )
        .filter(pl.col("period_number") >= 0)
        .rename({"ending": "eligible_users", "base_ending": "base_revenue"})
        .drop("revenue_ending")
    )


METRIC: Final = over_time(
    METRICS_COHORT_RETENTION,
    Partial("cohort_retention", Source.USER_DAYS, RETENTION_SUMS, KEYS, retention_sums),
    metrics_cohort_retention,
)
