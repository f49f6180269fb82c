"""Cohort churn: metrics_churn."""

from __future__ import annotations

import datetime as dt

import polars as pl

from transforms.columnar.money import rate
from transforms.schema import METRICS_CHURN

_CHURN_DECIMALS = 4


def cohort_sums(users: pl.DataFrame, dataset_end: dt.date | None, window_days: int) -> pl.DataFrame:
    """Partial aggregates of the eligible customers of a shard by month of first purchase.

    Args:
        users: Combined users of a shard.
        dataset_end: The largest first_purchase_date of all users; None where nobody has bought.
        window_days: Days a customer must have been observed, and in which a second purchase is not
            yet loyalty.
    """
    window = pl.duration(days=window_days)
    first, last = pl.col("first_purchase_date"), pl.col("last_purchase_date")
    return (
        users.filter(pl.lit(dataset_end, pl.Date) - first >= window)
        .group_by(first.dt.truncate("1mo").alias("month"))
        .agg(
            pl.len().cast(pl.Int64).alias("total_customers"),
            ((pl.col("purchase_count") == 1) | (last - first <= window))
            .sum()
            .cast(pl.Int64)
            .alias("churned_customers"),
            first.min().alias("cohort_start"),
            first.max().alias("cohort_end"),
        )
    )


def metrics_churn(partials: pl.DataFrame) -> pl.DataFrame:
    """The rows of metrics_churn, of `cohort_sums` of all user shards."""
    sums = [
        pl.col("total_customers").sum(),
        pl.col("churned_customers").sum(),
        pl.col("cohort_start").min(),
        pl.col("cohort_end").max(),
    ]
    overall = partials.select(sums).select(
        pl.lit("cohort_overall").alias("metric_level"),
        pl.lit("all_eligible_cohorts").alias("time_period"),
        pl.all(),
    )
    months = (
        partials.group_by("month")
        .agg(sums)
        .sort("month")
        .select(
            pl.lit("by_cohort_month").alias("metric_level"),
            pl.col("month").cast(pl.String).alias("time_period"),
            pl.all().exclude("month"),
        )
    )
    rows = pl.concat([overall, months])
    return METRICS_CHURN.conform(
        rows.with_columns(
            churn_rate=rate(rows["churned_customers"], rows["total_customers"], _CHURN_DECIMALS)
        )
    )
