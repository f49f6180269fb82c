"""Users by status and lifecycle stage: metrics_user_segments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import polars as pl

from transforms.analytics.metrics.metric import Facts, Metric
from transforms.analytics.metrics.rfm_segments import USER_SUMS, by_dimension, with_shares
from transforms.columnar.money import rate
from transforms.schema import METRICS_USER_SEGMENTS


def metrics_user_segments(partials: Mapping[str, pl.DataFrame], _: Facts) -> pl.DataFrame:
    """The rows of metrics_user_segments."""
    users = partials[USER_SUMS.name].with_columns(overall=pl.lit("all"))
    rows = pl.concat(
        by_dimension(users, dimension).with_columns(dimension=pl.lit(dimension))
        for dimension in ("overall", "activity_status", "customer_lifecycle_stage")
    )
    return METRICS_USER_SEGMENTS.conform(
        with_shares(rows, users).with_columns(
            purchaser_rate=rate(rows["purchasers"], rows["customers"])
        )
    )


METRIC: Final = Metric(METRICS_USER_SEGMENTS, (USER_SUMS,), metrics_user_segments)
