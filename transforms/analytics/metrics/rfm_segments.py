"""Metrics by segment of users: metrics_rfm_segments, metrics_user_segments, metrics_rfm_grid."""

from __future__ import annotations

import polars as pl

from transforms.analytics.metrics.funnel import USER_DIMENSIONS
from transforms.columnar.money import rate
from transforms.schema import METRICS_RFM_SEGMENTS

USER_SUMS = (
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


def with_shares(rows: pl.DataFrame, partials: pl.DataFrame) -> pl.DataFrame:
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
    rows = partials.group_by("rfm_segment").agg(pl.col(USER_SUMS).sum()).sort("rfm_segment")
    return METRICS_RFM_SEGMENTS.conform(
        with_shares(rows, partials).with_columns(
            avg_order_value=rate(rows["sum_of_order_values"], rows["purchasers"]),
            avg_purchase_count=rate(rows["purchases"], rows["customers"]),
            avg_session_count=rate(rows["sessions"], rows["customers"]),
        )
    )
