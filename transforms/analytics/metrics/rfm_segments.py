"""Users by RFM segment: metrics_rfm_segments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import polars as pl

from transforms.analytics.metrics.funnel import USER_DIMENSIONS
from transforms.analytics.metrics.metric import COUNT, Facts, Metric, Partial, Source
from transforms.analytics.users import DescribedUsers
from transforms.columnar.money import MONEY, rate
from transforms.schema import METRICS_RFM_SEGMENTS


def user_sums(shard: DescribedUsers) -> pl.DataFrame:
    """The users of a shard by lifecycle stage, activity status and RFM segment."""
    return shard.users.group_by(USER_DIMENSIONS).agg(
        pl.len().cast(COUNT).alias("customers"),
        pl.col("has_purchase_history").sum().cast(COUNT).alias("purchasers"),
        pl.col("is_churned").sum().alias("churned_customers"),
        pl.col("purchase_count").sum().alias("purchases"),
        pl.col("session_count").sum().alias("sessions"),
        pl.col("total_revenue").sum().alias("revenue"),
        pl.col("avg_order_value").sum().alias("sum_of_order_values"),
    )


USER_SUMS: Final = Partial(
    name="user_sums",
    source=Source.USERS,
    schema=pl.Schema(
        {
            **dict.fromkeys(USER_DIMENSIONS, pl.String()),
            "customers": COUNT,
            "purchasers": COUNT,
            "churned_customers": COUNT,
            "purchases": COUNT,
            "sessions": COUNT,
            "revenue": MONEY,
            "sum_of_order_values": MONEY,
        }
    ),
    keys=USER_DIMENSIONS,
    compute=user_sums,
)


def by_dimension(users: pl.DataFrame, dimension: str) -> pl.DataFrame:
    """Add up `USER_SUMS` by one of its dimensions: columns `value` and the sums."""
    sums = pl.col(name for name in USER_SUMS.schema if name not in USER_SUMS.keys)
    return users.group_by(pl.col(dimension).alias("value")).agg(sums.sum()).sort("value")


def with_shares(rows: pl.DataFrame, users: pl.DataFrame) -> pl.DataFrame:
    """Add the rates that segments share. A user has an LTV where they have a purchase."""
    everyone, everything = (
        pl.repeat(users[name].sum(), rows.height, dtype=users.schema[name], eager=True)
        for name in ("customers", "revenue")
    )
    return rows.with_columns(
        churn_rate=rate(rows["churned_customers"], rows["customers"]),
        avg_ltv=rate(rows["revenue"], rows["purchasers"]),
        customer_share=rate(rows["customers"], everyone),
        revenue_share=rate(rows["revenue"], everything),
    )


def metrics_rfm_segments(partials: Mapping[str, pl.DataFrame], _: Facts) -> pl.DataFrame:
    """The rows of metrics_rfm_segments."""
    users = partials[USER_SUMS.name]
    rows = by_dimension(users, "rfm_segment").rename({"value": "rfm_segment"})
    return METRICS_RFM_SEGMENTS.conform(
        with_shares(rows, users).with_columns(
            avg_order_value=rate(rows["sum_of_order_values"], rows["purchasers"]),
            avg_purchase_count=rate(rows["purchases"], rows["customers"]),
            avg_session_count=rate(rows["sessions"], rows["customers"]),
        )
    )


METRIC: Final = Metric(METRICS_RFM_SEGMENTS, (USER_SUMS,), metrics_rfm_segments)
