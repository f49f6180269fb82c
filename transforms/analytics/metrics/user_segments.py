"""Users by status and lifecycle stage: metrics_user_segments."""

from __future__ import annotations

import polars as pl

from transforms.analytics.metrics.rfm_segments import USER_SUMS, with_shares
from transforms.columnar.money import rate
from transforms.schema import METRICS_USER_SEGMENTS


def metrics_user_segments(partials: pl.DataFrame) -> pl.DataFrame:
    """The rows of metrics_user_segments, of `user_sums` of all user shards."""
    overall = partials.with_columns(overall=pl.lit("all"))
    rows = pl.concat(
        overall.group_by(pl.col(dimension).alias("value"))
        .agg(pl.col(USER_SUMS).sum())
        .sort("value")
        .with_columns(dimension=pl.lit(dimension))
        for dimension in ("overall", "activity_status", "customer_lifecycle_stage")
    )
    return METRICS_USER_SEGMENTS.conform(
        with_shares(rows, partials).with_columns(
            purchaser_rate=rate(rows["purchasers"], rows["customers"])
        )
    )
