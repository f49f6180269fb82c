"""The second purchase and those after it: metrics_repeat_purchase.

A customer's purchase days are numbered; an occasion is such a day. How long it takes to the next
one is told of those who have reached it, and by Kaplan and Meier's estimate ("Nonparametric
estimation from incomplete observations", 1958) of those too who have not reached it yet.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import polars as pl

from transforms.analytics.calendar import Calendar, period_starts
from transforms.analytics.metrics.metric import Partial, Source, over_time
from transforms.analytics.user_days import UserDays
from transforms.columnar.money import divide_half_up, rate
from transforms.schema import (
    LAST_PURCHASE_NUMBER,
    METRICS_REPEAT_PURCHASE,
    REPURCHASE_WINDOW_DAYS,
)

_PERCENTILES: Final = {
    "p25_days": (1, 4),
    "median_days": (1, 2),
    "p75_days": (3, 4),
    "p90_days": (9, 10),
}

_ELIGIBLE: Final = {f"eligible_{days}": days for days in REPURCHASE_WINDOW_DAYS}

KEYS: Final = ("cohort_start", "purchase_number", "is_reached", "days")

REPURCHASE_COUNTS: Final = pl.Schema(
    {
        "cohort_start": pl.Date(),
        "purchase_number": pl.Int64(),
        "is_reached": pl.Boolean(),
        "days": pl.Int64(),
        "customers": pl.Int64(),
        **dict.fromkeys(_ELIGIBLE, pl.Int64()),
    }
)
"""Columns of the partial aggregate; all but `KEYS` add up.

`days` pass from the occasion before to this one or, where it is not reached, to the last day.
"""


def repurchase_counts(shard: UserDays) -> pl.DataFrame:
    """Partial aggregates of the users of one shard: a `REPURCHASE_COUNTS` frame."""
    days, calendar = shard.days, shard.calendar
    dates = days.select("user_id", "event_date", "purchases")
    bought = dates.filter(pl.col("purchases") > 0).select(
        "user_id",
        "event_date",
        pl.col("event_date").first().over("user_id").alias("cohort_start"),
        (pl.int_range(pl.len(), dtype=pl.Int64).over("user_id") + 2).alias("purchase_number"),
        pl.col("event_date").shift(-1).over("user_id").alias("next_date"),
        (pl.lit(calendar.last) - pl.col("event_date")).dt.total_days().alias("observed"),
    )
    return (
        bought.with_columns(
            period_starts(bought["cohort_start"], "month"),
            is_reached=pl.col("next_date").is_not_null(),
            days=(pl.col("next_date") - pl.col("event_date"))
            .dt.total_days()
            .fill_null(pl.col("observed")),
        )
        .filter(pl.col("purchase_number") <= LAST_PURCHASE_NUMBER)
        .group_by(KEYS)
        .agg(
            pl.len().cast(pl.Int64).alias("customers"),
            *(
                (pl.col("observed") >= days_waited).sum().cast(pl.Int64).alias(name)
                for name, days_waited in _ELIGIBLE.items()
            ),
        )
    )


def metrics_repeat_purchase(counts: pl.DataFrame, calendar: Calendar) -> pl.DataFrame:
    """The rows of metrics_repeat_purchase.

    Args:
        counts: `repurchase_counts` of all shards, one row for each of `KEYS`.
        calendar: The days looked at.
    """
    is_censored = calendar.is_left_censored(counts["cohort_start"], "month")
    all_cohorts = (
        counts.filter(~is_censored)
        .group_by(KEYS[1:])
        .agg(pl.col("customers", *_ELIGIBLE).sum())
        .select(pl.lit(None, pl.Date).alias("cohort_start"), pl.all())
    )
    counts = pl.concat((counts.select(REPURCHASE_COUNTS.names()), all_cohorts)).sort(KEYS)
    keys = ("cohort_start", "purchase_number")
    is_reached = pl.col("is_reached")
    rows = (
        counts.group_by(keys)
        .agg(
            pl.col("customers").sum().alias("at_risk"),
            pl.col("customers").filter(is_reached).sum().alias("reached"),
            pl.col(*_ELIGIBLE).sum(),
            *(
                pl.col(name)
                .filter(is_reached & (pl.col("days") <= days_waited))
                .sum()
                .alias(f"reached_{days_waited}")
                for name, days_waited in _ELIGIBLE.items()
            ),
        )
        .sort(keys, nulls_last=True)
    )
    waits = {key: _waits(part) for key, part in counts.partition_by(keys, as_dict=True).items()}
    of_rows = pl.DataFrame(
        [waits[key] for key in rows.select(keys).iter_rows()],
        schema={name: METRICS_REPEAT_PURCHASE.polars_schema()[name] for name in _WAITS},
        orient="row",
    )
    return METRICS_REPEAT_PURCHASE.conform(
        rows.hstack(of_rows).with_columns(
            reach_rate=rate(rows["reached"], rows["at_risk"]),
            **{
                f"repurchase_rate_{days}": rate(rows[f"reached_{days}"], rows[f"eligible_{days}"])
                for days in REPURCHASE_WINDOW_DAYS
            },
        )
    )


_WAITS: Final = (*_PERCENTILES, "mean_days", "km_median_days")


def _waits(counts: pl.DataFrame) -> tuple[int | Decimal | None, ...]:
    """The columns `_WAITS` of a cohort and occasion."""
    reached: dict[int, int] = {}
    left: dict[int, int] = {}
    for is_reached, days, customers in counts.select("is_reached", "days", "customers").iter_rows():
        (reached if is_reached else left)[days] = customers
    total = sum(reached.values())
    mean = None
    if total:
        of_days = sum(days * customers for days, customers in reached.items())
        mean = Decimal(divide_half_up(100 * of_days, total)).scaleb(-2)
    return (
        *(percentile(reached, part, whole) for part, whole in _PERCENTILES.values()),
        mean,
        kaplan_meier_median(reached, left),
    )


def percentile(counts: dict[int, int], part: int, whole: int) -> int | None:
    """The smallest value with at least part / whole of all counts up to it; None of nothing.

    >>> percentile({1: 1, 5: 1, 9: 2}, 1, 2), percentile({1: 1, 5: 1, 9: 2}, 3, 4)
    (5, 9)
    """
    total, up_to = sum(counts.values()), 0
    for value in sorted(counts):
        up_to += counts[value]
        if whole * up_to >= part * total:
            return value
    return None


def kaplan_meier_median(reached: dict[int, int], left: dict[int, int]) -> int | None:
    """The smallest time at which at most half are estimated not to have reached something.

    Args:
        reached: How many have reached it after how many days.
        left: How many have not, and were observed for how many days.

    Returns:
        The days, exactly: the survival function is a fraction of integers. None where it stays
        above one half.

    >>> kaplan_meier_median({10: 1, 20: 1}, {15: 2})
    20
    """
    at_risk = sum(reached.values()) + sum(left.values())
    survival, out_of = 1, 1
    for days in sorted(reached.keys() | left.keys()):
        if days in reached:
            survival *= at_risk - reached[days]
            out_of *= at_risk
            if 2 * survival <= out_of:
                return days
        at_risk -= reached.get(days, 0) + left.get(days, 0)
    return None


METRIC: Final = over_time(
    METRICS_REPEAT_PURCHASE,
    Partial("repeat_purchase", Source.USER_DAYS, REPURCHASE_COUNTS, KEYS, repurchase_counts),
    metrics_repeat_purchase,
)
