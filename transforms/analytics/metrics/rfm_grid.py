"""Buyers by recency and frequency: metrics_rfm_grid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import polars as pl

from transforms.analytics.metrics.metric import COUNT, Facts, Metric, Partial, Source
from transforms.analytics.users import DescribedUsers
from transforms.columnar.money import MONEY, average_money
from transforms.schema import METRICS_RFM_GRID

_KEYS: Final = ("recency_score", "frequency_score")


def score_sums(shard: DescribedUsers) -> pl.DataFrame:
    """The buyers of a shard by recency and frequency score."""
    return shard.buyers.group_by(_KEYS).agg(
        pl.len().cast(COUNT).alias("customers"),
        pl.col("purchase_count").sum().alias("purchases"),
        pl.col("total_revenue").sum().alias("revenue"),
    )


SCORE_SUMS: Final = Partial(
    name="score_sums",
    source=Source.USERS,
    schema=pl.Schema(
        {**dict.fromkeys((*_KEYS, "customers", "purchases"), COUNT), "revenue": MONEY}
    ),
    keys=_KEYS,
    compute=score_sums,
)


def metrics_rfm_grid(partials: Mapping[str, pl.DataFrame], _: Facts) -> pl.DataFrame:
    """The rows of metrics_rfm_grid."""
    rows = partials[SCORE_SUMS.name].with_columns(
        avg_order_value=average_money(pl.col("revenue"), pl.col("purchases"))
    )
    return METRICS_RFM_GRID.conform(rows.sort(_KEYS))


METRIC: Final = Metric(METRICS_RFM_GRID, (SCORE_SUMS,), metrics_rfm_grid)
