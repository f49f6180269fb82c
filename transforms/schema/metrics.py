"""The tables of metrics."""

from __future__ import annotations

import polars as pl

from transforms.schema.types import (
    DATE,
    INT64,
    NUMERIC,
    STRING,
    Column,
    Table,
    count,
    rate,
    required,
    revenue,
    totals,
)
from transforms.schema.values import (
    FUNNEL_DIMENSIONS,
    NO_RFM_SEGMENT,
    PERIODS,
    RFM_SEGMENTS,
    SCORES,
)

METRICS_CHURN = Table(
    name="metrics_churn",
    grain="one row for all eligible customers and one per month of first purchase",
    key=("metric_level", "time_period"),
    columns=(
        required(
            "metric_level",
            STRING,
            "All eligible cohorts, or one cohort month.",
            accepted=("cohort_overall", "by_cohort_month"),
        ),
        required(
            "time_period",
            STRING,
            "all_eligible_cohorts, or the first day of the month of first purchase.",
        ),
        count(
            "total_customers",
            "Customers whose first purchase lies at least --cohort_observation_window_days (90) "
            "before the latest first purchase of all customers.",
        ),
        count(
            "churned_customers",
            "Those of them with one purchase (one order where the frequency unit is orders), or "
            "with no purchase later than that many days after their first.",
        ),
        rate("churn_rate", "churned_customers / total_customers, four decimals; NULL without any."),
        Column("cohort_start", DATE, "Earliest first purchase of these customers."),
        Column("cohort_end", DATE, "Latest first purchase of these customers."),
    ),
)


METRICS_FUNNEL = Table(
    name="metrics_funnel",
    grain="one row per dimension and value",
    key=("dimension", "value"),
    columns=(
        required(
            "dimension",
            STRING,
            "What sessions are split by; the last three are those of the session's user.",
            accepted=FUNNEL_DIMENSIONS,
        ),
        required(
            "value",
            STRING,
            f"Value of the dimension; all for overall, {NO_RFM_SEGMENT} without a purchase.",
        ),
        required("sessions", INT64, "Sessions.", minimum=1),
        count("sessions_reached_view", "Sessions with a view."),
        count("sessions_reached_cart", "Sessions with an addition to the cart."),
        count(
            "sessions_reached_purchase", "Sessions with a purchase, with or without a cart event."
        ),
        count("bounced_sessions", "Sessions of one event."),
        count("events", "Events."),
        count("purchases", "Purchases."),
        revenue("Sum of purchases; 0 where there is none.", required=True),
        rate("view_to_cart_rate", "sessions_reached_cart / sessions_reached_view."),
        rate("cart_to_purchase_rate", "sessions_reached_purchase / sessions_reached_cart."),
        rate("conversion_rate", "sessions_reached_purchase / sessions."),
        rate("bounce_rate", "bounced_sessions / sessions."),
        rate("revenue_per_session", "revenue / sessions."),
        rate("revenue_per_purchasing_session", "revenue / sessions_reached_purchase."),
        rate("view_to_purchase_rate", "sessions_reached_purchase / sessions_reached_view."),
    ),
    measures=totals(
        "events", "sessions", "purchases", "revenue", where=pl.col("dimension") == "overall"
    ),
)


METRICS_RFM_SEGMENTS = Table(
    name="metrics_rfm_segments",
    grain="one row per RFM segment, and one for the users without a purchase",
    key=("rfm_segment",),
    columns=(
        required(
            "rfm_segment",
            STRING,
            f"Segment; {NO_RFM_SEGMENT} for users without a purchase.",
            accepted=(*RFM_SEGMENTS, NO_RFM_SEGMENT),
        ),
        required("customers", INT64, "Users.", minimum=1),
        count("churned_customers", "Users with is_churned."),
        count("purchases", "Purchases."),
        count("sessions", "Sessions."),
        revenue("Sum of purchases; 0 where there is none.", required=True),
        rate("churn_rate", "churned_customers / customers."),
        rate("avg_order_value", "Mean avg_order_value of the users that have one."),
        rate("avg_purchase_count", "Mean purchases of a user."),
        rate("avg_session_count", "Mean sessions of a user."),
        rate("avg_ltv", "Mean customer_ltv of the users that have one."),
        rate("customer_share", "Share of all users."),
        rate("revenue_share", "Share of all revenue."),
    ),
    measures=totals("sessions", "purchases", "revenue", users="customers"),
)


METRICS_CATEGORIES = Table(
    name="metrics_categories",
    grain="one row per (category_lvl_1, category_lvl_2), and one per category_lvl_1",
    key=("level", "category_lvl_1", "category_lvl_2"),
    columns=(
        required("level", INT64, "1: a top-level category; 2: a subcategory.", accepted=(1, 2)),
        required(
            "category_lvl_1",
            STRING,
            "Top-level category of the event's product in dim_products; unknown where there is "
            "none.",
        ),
        Column("category_lvl_2", STRING, "Subcategory; NULL at level 1 and where there is none."),
        required("events", INT64, "Events.", minimum=1),
        count("views", "Views."),
        count("cart_adds", "Additions to the cart."),
        count("purchases", "Purchases."),
        required("user_sessions", INT64, "Distinct user_session of the events.", minimum=1),
        required("users", INT64, "Distinct users of the events.", minimum=1),
        revenue("Sum of purchases; 0 where there is none.", required=True),
        rate("purchase_rate", "purchases / events."),
        rate("cart_add_rate", "cart_adds / events."),
        rate("avg_views_per_session", "views / user_sessions."),
    ),
    measures=totals("events", "purchases", "revenue", where=pl.col("level") == 1),
)


METRICS_CATEGORY_RFM = Table(
    name="metrics_category_rfm",
    grain="one row per (category_lvl_1, rfm_segment) with a purchase",
    key=("category_lvl_1", "rfm_segment"),
    columns=(
        required("category_lvl_1", STRING, "Top-level category; unknown where there is none."),
        required("rfm_segment", STRING, "Segment of the buyer.", accepted=RFM_SEGMENTS),
        required("purchases", INT64, "Purchases.", minimum=1),
        revenue("Sum of purchases.", required=True),
    ),
    measures=totals("purchases", "revenue"),
)


METRICS_PERIODS = Table(
    name="metrics_periods",
    grain="one row per day, ISO week and month with an event",
    key=("period", "period_start"),
    columns=(
        required("period", STRING, "Length of the period.", accepted=PERIODS),
        required("period_start", DATE, "First day; of a week its Monday."),
        count("users", "Distinct users with an event in the period."),
        count("purchasing_users", "Distinct users with a purchase in the period."),
        count("events", "Events."),
        count("views", "Views."),
        count("cart_adds", "Additions to the cart."),
        count("purchases", "Purchases."),
        count("sessions", "Sessions that start in the period."),
        count("converting_sessions", "Those of them with a purchase."),
        revenue("Sum of purchases; 0 where there is none.", required=True),
        rate("conversion_rate", "converting_sessions / sessions."),
        Column("avg_order_value", NUMERIC, "revenue / purchases, two decimals.", minimum=0),
        count("orders", "Orders of an order_date in the period."),
        Column("avg_basket_value", NUMERIC, "revenue / orders, two decimals.", minimum=0),
        rate("items_per_order", "purchases / orders."),
    ),
    measures=totals(
        "events", "sessions", "purchases", "orders", "revenue", where=pl.col("period") == "day"
    ),
)


METRICS_USER_SEGMENTS = Table(
    name="metrics_user_segments",
    grain="one row per dimension and value",
    key=("dimension", "value"),
    columns=(
        required(
            "dimension",
            STRING,
            "What users are split by.",
            accepted=("overall", "activity_status", "customer_lifecycle_stage"),
        ),
        required("value", STRING, "Value of the dimension; all for overall."),
        required("customers", INT64, "Users.", minimum=1),
        count("purchasers", "Users with a purchase."),
        count("churned_customers", "Users with is_churned."),
        count("purchases", "Purchases."),
        count("sessions", "Sessions."),
        revenue("Sum of purchases; 0 where there is none.", required=True),
        rate("purchaser_rate", "purchasers / customers."),
        rate("churn_rate", "churned_customers / customers."),
        rate("avg_ltv", "Mean customer_ltv of the users that have one."),
        rate("customer_share", "Share of all users."),
        rate("revenue_share", "Share of all revenue."),
    ),
    measures=totals(
        "sessions",
        "purchases",
        "revenue",
        where=pl.col("dimension") == "overall",
        users="customers",
        buyers="purchasers",
    ),
)


METRICS_RFM_GRID = Table(
    name="metrics_rfm_grid",
    grain="one row per (recency_score, frequency_score) that occurs",
    key=("recency_score", "frequency_score"),
    columns=(
        required("recency_score", INT64, "Recency score.", accepted=SCORES),
        required("frequency_score", INT64, "Frequency score.", accepted=SCORES),
        required("customers", INT64, "Users with a purchase.", minimum=1),
        required("purchases", INT64, "Purchases.", minimum=1),
        revenue("Sum of purchases.", required=True),
        required("avg_order_value", NUMERIC, "revenue / purchases, two decimals.", minimum=0),
    ),
    measures=totals("purchases", "revenue", buyers="customers"),
)
