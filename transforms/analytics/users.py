"""Users: what a session shard knows of a user, and dim_users made of it."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Final

import polars as pl

from transforms.analytics.catalogue import Catalogue
from transforms.analytics.classes import class_of
from transforms.columnar.money import MONEY, average_money
from transforms.rules import UserThresholds
from transforms.schema import DIM_USERS, LIFECYCLE_STAGE_UP_TO

SESSION_SUMS: Final = (
    "sessions",
    "sessions_reached_view",
    "sessions_reached_cart",
    "sessions_reached_purchase",
    "bounced_sessions",
    "session_events",
    "session_purchases",
    "session_revenue",
)
"""What is summed over a user's sessions; `session_revenue` is money, the others counts."""

SESSION_SUM_TYPES: Final = {
    name: MONEY if name == "session_revenue" else pl.Int64() for name in SESSION_SUMS
}
"""Their types."""

USER_DAYS: Final = pl.Schema(
    {
        "user_id": pl.Int64(),
        "event_date": pl.Date(),
        "first_event_time": pl.Datetime("us", "UTC"),
        "last_event_time": pl.Datetime("us", "UTC"),
        "event_count": pl.Int64(),
        "purchase_count": pl.Int64(),
        "revenue": MONEY,
    }
)
"""Columns of `user_days`."""

USER_SESSIONS: Final = pl.Schema({"user_id": pl.Int64(), **SESSION_SUM_TYPES})
"""Columns of what the sessions add to their users."""


def user_days(visits: pl.DataFrame) -> pl.DataFrame:
    """Partial aggregates of `Sessions.visits`, a `USER_DAYS` frame.

    A user and date may occur several times; revenue is 0 where nothing was bought.
    """
    return visits.select(
        "user_id",
        "event_date",
        pl.col("event_time").alias("first_event_time"),
        "last_event_time",
        pl.col("events").alias("event_count"),
        pl.col("purchases").alias("purchase_count"),
        "revenue",
    )


def session_terms(sessions: pl.DataFrame, *keys: str) -> pl.DataFrame:
    """What each session adds to sums: the keys and the columns of `SESSION_SUMS`.

    Args:
        sessions: A frame of fct_sessions, with the keys among its columns.
        keys: Columns to keep.
    """
    return sessions.select(
        *keys,
        pl.lit(1, pl.Int64).alias("sessions"),
        pl.col("reached_view").alias("sessions_reached_view"),
        pl.col("reached_cart").alias("sessions_reached_cart"),
        pl.col("reached_purchase").alias("sessions_reached_purchase"),
        (pl.col("event_count") == 1).cast(pl.Int64).alias("bounced_sessions"),
        pl.col("event_count").alias("session_events"),
        pl.col("purchase_count").alias("session_purchases"),
        pl.col("total_revenue").fill_null(0).alias("session_revenue"),
    )


def combine_users(days: pl.DataFrame, sessions: pl.DataFrame) -> pl.DataFrame:
    """Combine the partial aggregates of the users of one shard.

    Args:
        days: `user_days` of all session shards.
        sessions: `session_terms` by `user_id` (Int64) of all session shards.

    Returns:
        One row per user: `user_id` (Int64), `user` (its text), the columns of dim_users that need
        no option, and `SESSION_SUMS`.
    """
    bought = pl.col("purchase_count") > 0
    users = days.group_by("user_id").agg(
        pl.col("first_event_time").min(),
        pl.col("last_event_time").max(),
        pl.col("event_count").sum(),
        pl.col("event_date").filter(bought).min().alias("first_purchase_date"),
        pl.col("event_date").filter(bought).max().alias("last_purchase_date"),
        pl.col("purchase_count").sum(),
        pl.col("revenue").sum().alias("total_revenue"),
    )
    sums = sessions.group_by("user_id").agg(pl.col(SESSION_SUMS).sum())
    return users.join(sums, on="user_id", how="left").with_columns(
        pl.col(SESSION_SUMS).fill_null(0),
        pl.when(pl.col("purchase_count") > 0).then("total_revenue").alias("total_revenue"),
        user=pl.col("user_id").cast(pl.String),
    )


def users_without_events(combined: pl.DataFrame, sessions: pl.DataFrame) -> int:
    """Number of users that sessions name and no event does; there are none in a sound run.

    Args:
        combined: `combine_users` of a shard.
        sessions: What it was given of the sessions.
    """
    return sessions.join(combined, on="user_id", how="anti")["user_id"].n_unique()


def describe_users(users: pl.DataFrame, as_of: dt.date, thresholds: UserThresholds) -> pl.DataFrame:
    """Complete combined users to rows of dim_users, beside their other columns.

    Args:
        users: `combine_users` of a shard.
        as_of: The date from which days are counted.
        thresholds: Where the classes of users begin.
    """
    purchases = pl.col("purchase_count")
    has_purchase = purchases > 0
    since_activity = pl.col("days_since_last_activity")
    since_purchase = pl.col("days_since_last_purchase")
    today = pl.lit(as_of, pl.Date)
    return (
        users.with_columns(
            first_event_date=pl.col("first_event_time").dt.date(),
            last_event_date=pl.col("last_event_time").dt.date(),
            session_count=pl.col("sessions"),
            customer_ltv=pl.col("total_revenue"),
            avg_order_value=pl.when(has_purchase).then(
                average_money(
                    pl.col("total_revenue"), pl.when(has_purchase).then(purchases).otherwise(1)
                )
            ),
            customer_lifespan_days=(pl.col("last_purchase_date") - pl.col("first_purchase_date"))
            .dt.total_days()
            .clip(lower_bound=1),
            days_since_last_purchase=(today - pl.col("last_purchase_date")).dt.total_days(),
            has_purchase_history=has_purchase,
        )
        .with_columns(
            days_since_last_activity=(today - pl.col("last_event_date")).dt.total_days(),
            data_quality_flag=pl.when(pl.col("session_count") == 0)
            .then(pl.lit("missing_sessions"))
            .when(
                pl.col("event_count") > thresholds.session_outlier_ratio * pl.col("session_count")
            )
            .then(pl.lit("anomalous_session_ratio")),
            customer_lifecycle_stage=class_of(purchases, LIFECYCLE_STAGE_UP_TO).cast(pl.String),
        )
        .with_columns(
            activity_status=pl.when(~has_purchase)
            .then(pl.lit("prospect"))
            .when(
                (since_purchase > thresholds.churn_days) & (since_activity > thresholds.churn_days)
            )
            .then(pl.lit("churned"))
            .when(since_purchase > thresholds.at_risk_days)
            .then(pl.lit("at_risk"))
            .when(since_purchase > thresholds.declining_days)
            .then(pl.lit("declining"))
            .otherwise(pl.lit("active")),
        )
        .with_columns(is_churned=(pl.col("activity_status") == "churned").cast(pl.Int64))
    )


@dataclass(frozen=True)
class DescribedUsers:
    """The users of a shard, when all that depends on others is known.

    Attributes:
        users: `describe_users`, with `rfm_segment`, `No RFM Score` for those without a purchase.
        buyers: Those with a purchase, with their scores.
        exposures: `category_exposures` of them.
        purchases: `product_purchases` of them.
        dataset_end: The largest first_purchase_date of all users; None where nobody has bought.
        cohort_observation_window_days: Days a customer of a churn cohort must have been observed.
        catalogue: Products and categories.
    """

    users: pl.DataFrame
    buyers: pl.DataFrame
    exposures: pl.DataFrame
    purchases: pl.DataFrame
    dataset_end: dt.date | None
    cohort_observation_window_days: int
    catalogue: Catalogue


def user_table(described: pl.DataFrame) -> pl.DataFrame:
    """The rows of dim_users."""
    return DIM_USERS.conform(described.with_columns(user_id="user"))
