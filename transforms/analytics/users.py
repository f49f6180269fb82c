"""Users: what a session shard knows of a user, and dim_users made of it."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from transforms.analytics.catalogue import Catalogue
from transforms.analytics.classes import class_of
from transforms.analytics.user_days import user_ends
from transforms.columnar.money import MONEY, average_money, rate_of_counts
from transforms.rules import FrequencyUnit, UserThresholds
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

USER_SESSIONS: Final = pl.Schema({"user_id": pl.Int64(), **SESSION_SUM_TYPES})
"""Columns of what the sessions add to their users."""


_PURCHASE_COUNTS: Final = ("purchase_count", "order_count", "purchase_day_count")


def session_measures(sessions: pl.DataFrame, *keys: str) -> pl.DataFrame:
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


def combine_users(
    days: pl.DataFrame,
    orders: pl.DataFrame,
    sessions: pl.DataFrame,
    frequency_unit: FrequencyUnit,
) -> pl.DataFrame:
    """Combine what is known of the users of one shard.

    Args:
        days: `combine_user_days` of the shard.
        orders: `number_orders` of the shard.
        sessions: `session_measures` by `user_id` (Int64) of all session shards.
        frequency_unit: What `frequency` counts.

    Returns:
        One row per user: `user_id` (Int64), `user` (its text), the columns of dim_users that need
        no other option, `frequency` (how often the user has bought), and `SESSION_SUMS`.
    """
    ends = user_ends(days)
    starts = np.append(0, ends[:-1])[: len(ends)]
    # Rows are sorted, so that most of a user's columns lie at the user's first or last row.
    users = days.select("user_id", "first_event_time")[starts].with_columns(
        days["last_event_time"].gather(ends - 1),
        event_count=np.add.reduceat(days["events"].to_numpy(), starts),
    )
    bought = (
        days.select("user_id", "event_date", "purchases", "orders", "revenue")
        .filter(pl.col("purchases") > 0)
        .group_by("user_id")
        .agg(
            pl.col("event_date").min().alias("first_purchase_date"),
            pl.col("event_date").max().alias("last_purchase_date"),
            pl.col("purchases").sum().alias("purchase_count"),
            pl.col("orders").sum().alias("order_count"),
            pl.len().cast(pl.Int64).alias("purchase_day_count"),
            pl.col("revenue").sum().alias("total_revenue"),
        )
    )
    sums = sessions.group_by("user_id").agg(pl.col(SESSION_SUMS).sum())
    first_orders = orders.filter("is_first_order").select(
        "user_id", pl.col("revenue").alias("first_order_value")
    )
    return (
        users.join(bought, on="user_id", how="left")
        .join(sums, on="user_id", how="left")
        .join(first_orders, on="user_id", how="left")
        .with_columns(
            pl.col(*_PURCHASE_COUNTS, *SESSION_SUMS).fill_null(0),
            user=pl.col("user_id").cast(pl.String),
        )
        .with_columns(
            frequency=pl.col({"items": "purchase_count", "orders": "order_count"}[frequency_unit])
        )
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
    purchases, orders = pl.col("purchase_count"), pl.col("order_count")
    has_purchase = purchases > 0
    per_purchase, per_order = (
        pl.when(has_purchase).then(n).otherwise(1) for n in (purchases, orders)
    )
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
                average_money(pl.col("total_revenue"), per_purchase)
            ),
            avg_basket_value=pl.when(has_purchase).then(
                average_money(pl.col("total_revenue"), per_order)
            ),
            avg_items_per_order=rate_of_counts(users["purchase_count"], users["order_count"]),
            customer_lifespan_days=(pl.col("last_purchase_date") - pl.col("first_purchase_date"))
            .dt.total_days()
            .clip(lower_bound=1),
            days_since_last_purchase=(today - pl.col("last_purchase_date")).dt.total_days(),
            days_to_first_purchase=(
                pl.col("first_purchase_date") - pl.col("first_event_time").dt.date()
            ).dt.total_days(),
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
            customer_lifecycle_stage=class_of(pl.col("frequency"), LIFECYCLE_STAGE_UP_TO).cast(
                pl.String
            ),
            order_lifecycle_stage=class_of(orders, LIFECYCLE_STAGE_UP_TO),
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
        basket_events: `basket_events.basket_events` of them; none where what sells is left out.
        dataset_end: The largest first_purchase_date of all users; None where nobody has bought.
        cohort_observation_window_days: Days a customer of a churn cohort must have been observed.
        catalogue: Products and categories.
    """

    users: pl.DataFrame
    buyers: pl.DataFrame
    exposures: pl.DataFrame
    purchases: pl.DataFrame
    basket_events: pl.DataFrame
    dataset_end: dt.date | None
    cohort_observation_window_days: int
    catalogue: Catalogue


def user_table(described: pl.DataFrame) -> pl.DataFrame:
    """The rows of dim_users."""
    return DIM_USERS.conform(described.with_columns(user_id="user"))
