"""Buyers by recency and frequency: metrics_rfm_grid."""

from __future__ import annotations

import polars as pl

from transforms.columnar.money import average_money
from transforms.schema import METRICS_RFM_GRID


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
