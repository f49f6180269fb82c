"""The conversion funnel: metrics_funnel."""

from __future__ import annotations

import polars as pl

from transforms.analytics.users import SESSION_SUMS, session_terms
from transforms.columnar.money import rate
from transforms.schema import METRICS_FUNNEL, NO_RFM_SEGMENT

SESSION_DIMENSIONS = ("session_start_date", "session_quality_tier", "session_length_bucket")


USER_DIMENSIONS = ("customer_lifecycle_stage", "activity_status", "rfm_segment")


def session_funnel(sessions: pl.DataFrame) -> pl.DataFrame:
    """Partial aggregates of a frame of fct_sessions by `SESSION_DIMENSIONS`."""
    terms = session_terms(sessions, *SESSION_DIMENSIONS)
    return terms.group_by(SESSION_DIMENSIONS).agg(pl.col(SESSION_SUMS).sum())


def with_segment(described: pl.DataFrame, scored: pl.DataFrame) -> pl.DataFrame:
    """Give users their RFM segment; those without a purchase get `No RFM Score`."""
    return described.join(
        scored.select("user_id", "rfm_segment"), on="user_id", how="left"
    ).with_columns(pl.col("rfm_segment").fill_null(NO_RFM_SEGMENT))


def user_funnel(segmented: pl.DataFrame) -> pl.DataFrame:
    """Partial aggregates of users by `USER_DIMENSIONS`: the sums over their sessions.

    Args:
        segmented: `with_segment` of a user shard.
    """
    return segmented.group_by(USER_DIMENSIONS).agg(pl.col(SESSION_SUMS).sum())


def metrics_funnel(by_session: pl.DataFrame, by_user: pl.DataFrame) -> pl.DataFrame:
    """The rows of metrics_funnel.

    Args:
        by_session: `session_funnel` of all session shards.
        by_user: `user_funnel` of all user shards.
    """
    overall = by_session.with_columns(overall=pl.lit("all"))
    rows = pl.concat(
        _by_dimension(partials, dimension)
        for partials, dimensions in (
            (overall, ("overall", *SESSION_DIMENSIONS)),
            (by_user, USER_DIMENSIONS),
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
