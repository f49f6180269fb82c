"""The conversion funnel: metrics_funnel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import polars as pl

from transforms.analytics.metrics.metric import Facts, Metric, Partial, Source
from transforms.analytics.sessions import Sessions
from transforms.analytics.users import (
    SESSION_SUM_TYPES,
    SESSION_SUMS,
    DescribedUsers,
    session_measures,
)
from transforms.columnar.money import rate
from transforms.schema import LENGTH_BUCKETS, METRICS_FUNNEL, QUALITY_TIERS

SESSION_DIMENSIONS: Final = ("session_start_date", "session_quality_tier", "session_length_bucket")


USER_DIMENSIONS: Final = ("customer_lifecycle_stage", "activity_status", "rfm_segment")


def session_funnel(shard: Sessions) -> pl.DataFrame:
    """The sessions of a shard by `SESSION_DIMENSIONS`."""
    measures = session_measures(shard.sessions, *SESSION_DIMENSIONS)
    return measures.group_by(SESSION_DIMENSIONS).agg(pl.col(SESSION_SUMS).sum())


SESSION_FUNNEL: Final = Partial(
    name="session_funnel",
    source=Source.SESSIONS,
    schema=pl.Schema(
        {
            "session_start_date": pl.Date(),
            "session_quality_tier": pl.Enum(QUALITY_TIERS),
            "session_length_bucket": pl.Enum(LENGTH_BUCKETS),
            **SESSION_SUM_TYPES,
        }
    ),
    keys=SESSION_DIMENSIONS,
    compute=session_funnel,
)


def user_funnel(shard: DescribedUsers) -> pl.DataFrame:
    """The sessions of the users of a shard by `USER_DIMENSIONS`."""
    return shard.users.group_by(USER_DIMENSIONS).agg(pl.col(SESSION_SUMS).sum())


USER_FUNNEL: Final = Partial(
    name="user_funnel",
    source=Source.USERS,
    schema=pl.Schema({**dict.fromkeys(USER_DIMENSIONS, pl.String()), **SESSION_SUM_TYPES}),
    keys=USER_DIMENSIONS,
    compute=user_funnel,
)


def metrics_funnel(partials: Mapping[str, pl.DataFrame], _: Facts) -> pl.DataFrame:
    """The rows of metrics_funnel."""
    overall = partials[SESSION_FUNNEL.name].with_columns(overall=pl.lit("all"))
    rows = pl.concat(
        _by_dimension(partials, dimension)
        for partials, dimensions in (
            (overall, ("overall", *SESSION_DIMENSIONS)),
            (partials[USER_FUNNEL.name], USER_DIMENSIONS),
        )
        for dimension in dimensions
    ).rename(
        {
            "session_events": "events",
            "session_purchases": "purchases",
            "session_revenue": "revenue",
        }
    )
    views, carts, bought = (
        rows[f"sessions_reached_{stage}"] for stage in ("view", "cart", "purchase")
    )
    return METRICS_FUNNEL.conform(
        rows.with_columns(
            view_to_cart_rate=rate(carts, views),
            cart_to_purchase_rate=rate(bought, carts),
            view_to_purchase_rate=rate(bought, views),
            conversion_rate=rate(bought, rows["sessions"]),
            bounce_rate=rate(rows["bounced_sessions"], rows["sessions"]),
            revenue_per_session=rate(rows["revenue"], rows["sessions"]),
            revenue_per_purchasing_session=rate(rows["revenue"], bought),
        )
    )


def _by_dimension(partials: pl.DataFrame, dimension: str) -> pl.DataFrame:
    """Sum partial aggregates by one dimension; a user without a session adds no row."""
    return (
        partials.group_by(pl.col(dimension).cast(pl.String).alias("value"))
        .agg(pl.col(SESSION_SUMS).sum())
        .filter(pl.col("sessions") > 0)
        .sort("value")
        .select(pl.lit(dimension).alias("dimension"), "value", *SESSION_SUMS)
    )


METRIC: Final = Metric(METRICS_FUNNEL, (SESSION_FUNNEL, USER_FUNNEL), metrics_funnel)
