"""Cohort churn: metrics_churn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import polars as pl

from transforms.analytics.calendar import period_starts
from transforms.analytics.metrics.metric import COUNT, Facts, Metric, Partial, Source
from transforms.analytics.users import DescribedUsers
from transforms.columnar.money import rate
from transforms.schema import METRICS_CHURN

_CHURN_DECIMALS: Final = 4


def cohort_sums(shard: DescribedUsers) -> pl.DataFrame:
    """The eligible customers of a shard by month of first purchase."""
    window = pl.duration(days=shard.cohort_observation_window_days)
    first, last = pl.col("first_purchase_date"), pl.col("last_purchase_date")
    eligible = shard.buyers.filter(pl.lit(shard.dataset_end, pl.Date) - first >= window)
    return (
        eligible.with_columns(month=period_starts(eligible["first_purchase_date"], "month"))
        .group_by("month")
        .agg(
            pl.len().cast(COUNT).alias("total_customers"),
            ((pl.col("frequency") == 1) | (last - first <= window))
            .sum()
            .cast(COUNT)
            .alias("churned_customers"),
            first.min().alias("cohort_start"),
            first.max().alias("cohort_end"),
        )
    )


COHORT_SUMS: Final = Partial(
    name="cohort_sums",
    source=Source.USERS,
    schema=pl.Schema(
        {
            "month": pl.Date(),
            "total_customers": COUNT,
            "churned_customers": COUNT,
            "cohort_start": pl.Date(),
            "cohort_end": pl.Date(),
        }
    ),
    keys=("month",),
    compute=cohort_sums,
    minima=("cohort_start",),
    maxima=("cohort_end",),
)


def metrics_churn(partials: Mapping[str, pl.DataFrame], _: Facts) -> pl.DataFrame:
    """The rows of metrics_churn."""
    of_months = partials[COHORT_SUMS.name]
    overall = of_months.select(
        pl.lit("cohort_overall").alias("metric_level"),
        pl.lit("all_eligible_cohorts").alias("time_period"),
        pl.col("total_customers", "churned_customers").sum(),
        pl.col("cohort_start").min(),
        pl.col("cohort_end").max(),
    )
    months = of_months.sort("month").select(
        pl.lit("by_cohort_month").alias("metric_level"),
        pl.col("month").cast(pl.String).alias("time_period"),
        pl.all().exclude("month"),
    )
    rows = pl.concat([overall, months])
    return METRICS_CHURN.conform(
        rows.with_columns(
            churn_rate=rate(rows["churned_customers"], rows["total_customers"], _CHURN_DECIMALS)
        )
    )


METRIC: Final = Metric(METRICS_CHURN, (COHORT_SUMS,), metrics_churn)
