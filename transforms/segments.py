"""Metrics by segment of users: metrics_rfm_segments, metrics_user_segments, metrics_rfm_grid."""

from __future__ import annotations

import polars as pl

from transforms.exact import average_money, rate
from transforms.funnel import USER_DIMENSIONS
from transforms.schema import METRICS_RFM_GRID, METRICS_RFM_SEGMENTS, METRICS_USER_SEGMENTS

_SUMS = (
    "customers",
    "purchasers",
    "churned_customers",
    "purchases",
    "sessions",
    "revenue",
    "sum_of_order_values",
)


def user_sums(segmented: pl.DataFrame) -> pl.DataFrame:
    """Partial aggregates of users by lifecycle stage, activity status and RFM segment.

    Args:
        segmented: Users of a shard with the columns of dim_users and `rfm_segment`.
    """
    return segmented.group_by(USER_DIMENSIONS).agg(
        pl.len().cast(pl.Int64).alias("customers"),
        pl.col("has_purchase_history").sum().cast(pl.Int64).alias("purchasers"),
        pl.col("is_churned").sum().alias("churned_customers"),
        pl.col("purchase_count").sum().alias("purchases"),
        pl.col("session_count").sum().alias("sessions"),
        pl.col("total_revenue").sum().alias("revenue"),
        pl.col("avg_order_value").sum().alias("sum_of_order_values"),
    )


def _with_shares(rows: pl.DataFrame, partials: pl.DataFrame) -> pl.DataFrame:
    """Add the rates that segments share. A user has an LTV where they have a purchase."""
    everyone, everything = (
        pl.repeat(partials[name].sum(), rows.height, dtype=partials.schema[name], eager=True)
        for name in ("customers", "revenue")
    )
    return rows.with_columns(
        churn_rate=rate(rows["churned_customers"], rows["customers"]),
        avg_ltv=rate(rows["revenue"], rows["purchasers"]),
        customer_share=rate(rows["customers"], everyone),
        revenue_share=rate(rows["revenue"], everything),
    )


def metrics_rfm_segments(partials: pl.DataFrame) -> pl.DataFrame:
    """The rows of metrics_rfm_segments, of `user_sums` of all user shards."""
    rows = partials.group_by("rfm_segment").agg(pl.col(_SUMS).sum()).sort("rfm_segment")
    return METRICS_RFM_SEGMENTS.conform(
        _with_shares(rows, partials).with_columns(
            avg_order_value=rate(rows["sum_of_order_values"], rows["purchasers"]),
            avg_purchase_count=rate(rows["purchases"], rows["customers"]),
            avg_session_count=rate(rows["sessions"], rows["customers"]),
        )
    )


def metrics_user_segments(partials: pl.DataFrame) -> pl.DataFrame:
    """The rows of metrics_user_segments, of `user_sums` of all user shards."""
    overall = partials.with_columns(overall=pl.lit("all"))
    rows = pl.concat(
        overall.group_by(pl.col(dimension).alias("value"))
        .agg(pl.col(_SUMS).sum())
        .sort("value")
        .with_columns(dimension=pl.lit(dimension))
        for dimension in ("overall", "activity_status", "customer_lifecycle_stage")
    )
    return METRICS_USER_SEGMENTS.conform(
        _with_shares(rows, partials).with_columns(
            purchaser_rate=rate(rows["purchasers"], rows["customers"])
        )
    )


def score_sums(scored: pl.DataFrame) -> pl.DataFrame:
    """Partial aggregates of the buyers of a shard by recency and frequency score."""
    return scored.group_by("recency_score", "frequency_score").agg(
        pl.len().cast(pl.Int64).alias("customers"),
        pl.col("purchase_count").sum().alias("purchases"),
        pl.col("total_revenue").sum().alias("revenue"),
    )


def metrics_rfm_grid(partials: pl.DataFrame) -> pl.DataFrame:
    """The rows of metrics_rfm_grid, of `score_sums` of all user shards."""
    keys = ("recency_score", "frequency_score")
    return METRICS_RFM_GRID.conform(
        partials.group_by(keys)
        .agg(pl.col("customers", "purchases", "revenue").sum())
        .with_columns(avg_order_value=average_money(pl.col("revenue"), pl.col("purchases")))
        .sort(keys)
    )
