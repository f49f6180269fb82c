"""The dimension tables."""

from __future__ import annotations

import polars as pl

from transforms.schema.types import (
    BOOL,
    DATE,
    FLAG,
    FLOAT64,
    INT64,
    NUMERIC,
    STRING,
    TIMESTAMP,
    Column,
    RowCheck,
    Severity,
    Table,
    count,
    required,
    totals,
)
from transforms.schema.values import (
    ACTIVITY_STATUSES,
    CATEGORY_LEVELS,
    LIFECYCLE_STAGE_UP_TO,
    LIFECYCLE_STAGES,
    RFM_SEGMENTS,
    SCORES,
    bounds_of,
    segments_by_scores,
)

DIM_USERS = Table(
    name="dim_users",
    grain="one row per user with a kept event",
    key=("user_id",),
    cluster_by=("user_id",),
    large=True,
    columns=(
        required("user_id", STRING, "The user."),
        required("first_event_time", TIMESTAMP, "Time of the user's first event (UTC)."),
        required("last_event_time", TIMESTAMP, "Time of the user's last event (UTC)."),
        required("first_event_date", DATE, "UTC date of first_event_time."),
        required("last_event_date", DATE, "UTC date of last_event_time."),
        count(
            "session_count",
            "Sessions in fct_sessions with this user_id; 0 where each session of the user also has "
            "a user of a larger id.",
        ),
        required("event_count", INT64, "Kept events.", minimum=1),
        count("purchase_count", "Purchases."),
        Column("total_revenue", NUMERIC, "Sum of purchases; NULL where there is none.", minimum=0),
        Column("customer_ltv", NUMERIC, "Lifetime value so far: total_revenue.", minimum=0),
        Column(
            "avg_order_value",
            NUMERIC,
            "total_revenue / purchase_count, two decimals.",
            minimum=0,
        ),
        Column("first_purchase_date", DATE, "UTC date of the first purchase."),
        Column("last_purchase_date", DATE, "UTC date of the last purchase."),
        Column(
            "customer_lifespan_days",
            INT64,
            "Days from first_purchase_date to last_purchase_date, at least 1; NULL without a "
            "purchase.",
            minimum=1,
        ),
        required("days_since_last_activity", INT64, "Days from last_event_date to as_of."),
        Column(
            "days_since_last_purchase",
            INT64,
            "Days from last_purchase_date to as_of; NULL without a purchase.",
        ),
        required(
            "activity_status",
            STRING,
            "prospect: no purchase; churned: more than --churn_threshold_days (60) since the last "
            "purchase and since the last activity; at_risk: of the others, more than "
            "--at_risk_threshold_days (45) since the last purchase; declining: more than "
            "--declining_threshold_days (30); active: the rest.",
            accepted=ACTIVITY_STATUSES,
        ),
        required("is_churned", INT64, "1 where activity_status is churned.", accepted=FLAG),
        required("has_purchase_history", BOOL, "True with at least one purchase."),
        Column(
            "data_quality_flag",
            STRING,
            "Why the user's figures deserve distrust, where they do: missing_sessions where "
            "session_count is 0; anomalous_session_ratio where event_count / session_count is more "
            "than --session_outlier_ratio (200).",
            accepted=("missing_sessions", "anomalous_session_ratio"),
        ),
        required(
            "customer_lifecycle_stage",
            STRING,
            f"By purchase_count: {bounds_of(LIFECYCLE_STAGE_UP_TO)}. By order_count instead where "
            "the frequency unit is orders.",
            accepted=LIFECYCLE_STAGES,
        ),
        count("order_count", "Orders: purchases of one checkout count once."),
        count("purchase_day_count", "UTC dates with a purchase."),
        Column(
            "avg_basket_value", NUMERIC, "total_revenue / order_count, two decimals.", minimum=0
        ),
        Column(
            "avg_items_per_order", FLOAT64, "purchase_count / order_count, six decimals.", minimum=1
        ),
        Column("first_order_value", NUMERIC, "Revenue of the first order.", minimum=0),
        Column(
            "days_to_first_purchase",
            INT64,
            "Days from first_event_date to first_purchase_date; NULL without a purchase.",
            minimum=0,
        ),
        required(
            "order_lifecycle_stage",
            STRING,
            f"By order_count: {bounds_of(LIFECYCLE_STAGE_UP_TO)}.",
            accepted=LIFECYCLE_STAGES,
        ),
    ),
    row_checks=(
        RowCheck(
            "last_event_not_before_first", pl.col("last_event_time") < pl.col("first_event_time")
        ),
        RowCheck(
            "last_purchase_not_before_first",
            pl.col("last_purchase_date") < pl.col("first_purchase_date"),
        ),
        RowCheck(
            "revenue_of_purchasers_only",
            pl.col("total_revenue").is_not_null() != pl.col("has_purchase_history"),
        ),
        RowCheck(
            "orders_of_purchasers_only",
            (pl.col("order_count") > 0) != pl.col("has_purchase_history"),
        ),
        RowCheck(
            "purchases_of_orders_of_days",
            (pl.col("order_count") > pl.col("purchase_count"))
            | (pl.col("purchase_day_count") > pl.col("purchase_count")),
        ),
        RowCheck("ltv_equals_revenue", pl.col("customer_ltv").ne_missing(pl.col("total_revenue"))),
        RowCheck(
            "missing_sessions", pl.col("data_quality_flag") == "missing_sessions", Severity.WARN
        ),
        RowCheck(
            "anomalous_session_ratio",
            pl.col("data_quality_flag") == "anomalous_session_ratio",
            Severity.WARN,
        ),
        RowCheck("activity_after_as_of", pl.col("days_since_last_activity") < 0),
    ),
    measures={"users": pl.len()}
    | totals(
        buyers="has_purchase_history",
        sessions="session_count",
        events="event_count",
        purchases="purchase_count",
        orders="order_count",
        revenue="total_revenue",
    ),
)


SCORE_IS_SUM = RowCheck(
    "score_is_sum",
    pl.sum_horizontal("recency_score", "frequency_score", "monetary_score") != pl.col("rfm_score"),
)


DIM_USER_RFM = Table(
    name="dim_user_rfm",
    grain="one row per user with a purchase",
    key=("user_id",),
    cluster_by=("rfm_segment",),
    large=True,
    columns=(
        required("user_id", STRING, "The user."),
        required(
            "recency_score",
            INT64,
            "NTILE(5) over days_since_last_purchase descending, then user_id as text: 5 for the "
            "fifth that bought most recently.",
            accepted=SCORES,
        ),
        required(
            "frequency_score",
            INT64,
            "By the percent rank p, (buyers with fewer purchases) / (buyers − 1), 0 for a single "
            "buyer: 1 below 0.2, 2 below 0.4, 3 below 0.6, 4 below 0.8, else 5. Orders count "
            "instead of purchases where the frequency unit is orders.",
            accepted=SCORES,
        ),
        required(
            "monetary_score",
            INT64,
            "NTILE(5) over total_revenue ascending, then user_id as text: 5 for the fifth with "
            "most revenue.",
            accepted=SCORES,
        ),
        required("rfm_score", INT64, "Sum of the three scores.", minimum=3),
        required(
            "rfm_segment",
            STRING,
            "The first that the scores of recency, frequency and monetary value fit: "
            f"{segments_by_scores()}.",
            accepted=RFM_SEGMENTS,
        ),
    ),
    row_checks=(SCORE_IS_SUM,),
    measures={"buyers": pl.len()},
)


_CATEGORY_LEVELS = tuple(
    Column(level, STRING, f"Part {number} of category_code, between its dots; NULL where none.")
    for number, level in enumerate(CATEGORY_LEVELS, start=1)
)


DIM_PRODUCTS = Table(
    name="dim_products",
    grain="one row per product in fct_events",
    key=("product_id",),
    columns=(
        required("product_id", STRING, "The product."),
        Column(
            "brand",
            STRING,
            "Brand of the most frequent (brand, category_id) pair of its events; of equally "
            "frequent ones the first by brand, then by category_id as a number, NULL last.",
        ),
        Column("category_id", STRING, "Category of the same pair."),
        Column("category_code", STRING, "Code of that category in dim_categories."),
        *_CATEGORY_LEVELS,
    ),
)


DIM_CATEGORIES = Table(
    name="dim_categories",
    grain="one row per category_id in fct_events",
    key=("raw_category_id",),
    columns=(
        required("raw_category_id", STRING, "category_id of the events."),
        Column(
            "category_code",
            STRING,
            "Most frequent code among its events, NULL only where there is none; of equally "
            "frequent ones the first.",
        ),
        *_CATEGORY_LEVELS,
    ),
)
