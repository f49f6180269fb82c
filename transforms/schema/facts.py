"""The fact tables."""

from __future__ import annotations

import polars as pl

from transforms.schema.types import (
    BOOL,
    DATE,
    FLAG,
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
    revenue,
    totals,
)
from transforms.schema.values import (
    EVENT_TYPES,
    FUNNEL_STAGES,
    LENGTH_BUCKET_UP_TO,
    LENGTH_BUCKETS,
    LOW_TIER_BELOW,
    MEDIUM_TIER_UP_TO,
    QUALITY_TIERS,
    bounds_of,
)

FCT_EVENTS = Table(
    name="fct_events",
    grain="one row per kept event",
    key=("event_id",),
    partition_by="event_date",
    cluster_by=("user_id",),
    large=True,
    columns=(
        required(
            "event_id",
            STRING,
            "Lower-case hex MD5 of event_time (as YYYY-MM-DD HH:MM:SS), event_type, user_id, "
            "product_id and user_session, joined by |; the event's identity.",
        ),
        required(
            "event_time", TIMESTAMP, "When it happened (UTC); fractions of a second are cut off."
        ),
        required("event_date", DATE, "UTC date of event_time."),
        required("event_type", STRING, "What the user did.", accepted=EVENT_TYPES),
        required("user_id", STRING, "Who did it."),
        required("user_session", STRING, "Session name as given in the CSV."),
        required("session_id", STRING, "The fct_sessions row that holds the event."),
        required("product_id", STRING, "The product that was viewed, carted or bought."),
        Column("brand", STRING, "Brand, lower-case."),
        Column("category_code", STRING, "Dotted category path, lower-case."),
        Column("category_id", STRING, "Category of the product at the time of the event."),
        required("price", NUMERIC, "Price of the product at the time of the event.", minimum=0),
        required("quantity", INT64, "Always 1: an event is about one item.", accepted=(1,)),
        required("is_view", INT64, "1 for a view, else 0.", accepted=FLAG),
        required("is_cart_add", INT64, "1 for an addition to the cart, else 0.", accepted=FLAG),
        required("is_cart_remove", INT64, "1 for a removal from the cart, else 0.", accepted=FLAG),
        required("is_purchase", INT64, "1 for a purchase, else 0.", accepted=FLAG),
        revenue("Price of a purchase; NULL for other events."),
    ),
    row_checks=(
        RowCheck(
            "event_date_of_event_time", pl.col("event_date") != pl.col("event_time").dt.date()
        ),
        RowCheck(
            "revenue_of_purchases_only",
            pl.col("revenue").is_not_null() != (pl.col("is_purchase") == 1),
        ),
        RowCheck(
            "one_event_flag",
            pl.sum_horizontal("is_view", "is_cart_add", "is_cart_remove", "is_purchase") != 1,
        ),
        RowCheck(
            "zero_price_purchase",
            (pl.col("is_purchase") == 1) & (pl.col("price") == 0),
            Severity.WARN,
        ),
    ),
    measures={"events": pl.len()} | totals("revenue", purchases="is_purchase"),
)


FCT_SESSIONS = Table(
    name="fct_sessions",
    grain="one row per session",
    key=("session_id",),
    partition_by="session_start_date",
    cluster_by=("user_id",),
    large=True,
    columns=(
        required(
            "session_id",
            STRING,
            "user_session, with _timeout_1, _timeout_2, … after each gap of more than "
            "--session_timeout_seconds (3600) between neighbouring events.",
        ),
        required("user_id", STRING, "The session's user: the largest, as text, of its events."),
        required("session_start_time", TIMESTAMP, "Time of the first event (UTC)."),
        required("session_end_time", TIMESTAMP, "Time of the last event (UTC)."),
        required("session_start_date", DATE, "UTC date of session_start_time."),
        required("session_length", INT64, "Seconds from start to end.", minimum=0),
        required("event_count", INT64, "Events.", minimum=1),
        required("unique_product_count", INT64, "Distinct products.", minimum=1),
        count("view_count", "Views."),
        count("cart_additions", "Additions to the cart."),
        count("cart_removals", "Removals from the cart."),
        count("purchase_count", "Purchases."),
        Column("total_revenue", NUMERIC, "Sum of purchases; NULL where there is none.", minimum=0),
        required("reached_view", INT64, "1 where a product was viewed.", accepted=FLAG),
        required("reached_cart", INT64, "1 where a product was carted.", accepted=FLAG),
        required("reached_purchase", INT64, "1 where a product was bought.", accepted=FLAG),
        required(
            "funnel_stage",
            STRING,
            "The furthest stage reached: purchase, else cart, else view, else no_activity.",
            accepted=FUNNEL_STAGES,
        ),
        required("is_converting_session", INT64, "1 where purchase_count > 0.", accepted=FLAG),
        required(
            "session_quality_tier",
            STRING,
            f"Low: under {LOW_TIER_BELOW.seconds} seconds or under {LOW_TIER_BELOW.events} events; "
            f"Medium: of the others, up to {MEDIUM_TIER_UP_TO.seconds} seconds and up to "
            f"{MEDIUM_TIER_UP_TO.events} events; High: the rest.",
            accepted=QUALITY_TIERS,
        ),
        required(
            "session_length_bucket",
            STRING,
            f"By session_length, in seconds: {bounds_of(LENGTH_BUCKET_UP_TO)}.",
            accepted=LENGTH_BUCKETS,
        ),
    ),
    row_checks=(
        RowCheck(
            "session_end_not_before_start",
            pl.col("session_end_time") < pl.col("session_start_time"),
        ),
        RowCheck(
            "event_count_of_types",
            pl.sum_horizontal("view_count", "cart_additions", "cart_removals", "purchase_count")
            != pl.col("event_count"),
        ),
        RowCheck(
            "revenue_of_converting_sessions_only",
            pl.col("total_revenue").is_not_null() != (pl.col("purchase_count") > 0),
        ),
    ),
    measures={"sessions": pl.len()}
    | totals(
        events="event_count",
        views="view_count",
        cart_adds="cart_additions",
        cart_removes="cart_removals",
        purchases="purchase_count",
        revenue="total_revenue",
    ),
)


FCT_ORDERS = Table(
    name="fct_orders",
    group="time",
    grain="one row per order: purchases of a user and session, each soon after the one before",
    key=("order_id",),
    partition_by="order_date",
    cluster_by=("user_id",),
    large=True,
    columns=(
        required(
            "order_id",
            STRING,
            "Lower-case hex MD5 of user_id, session_id and order_time (as YYYY-MM-DD HH:MM:SS), "
            "joined by |.",
        ),
        required("user_id", STRING, "Who bought."),
        required("session_id", STRING, "The fct_sessions row that holds the purchases."),
        required("order_time", TIMESTAMP, "Time of the first purchase (UTC)."),
        required("order_date", DATE, "UTC date of order_time."),
        required(
            "item_count",
            INT64,
            "Purchase events: those of one user and session, in time order, as long as neighbours "
            "are at most --order_gap_seconds (1) apart.",
            minimum=1,
        ),
        required("product_count", INT64, "Distinct products.", minimum=1),
        revenue("Sum of the purchases.", required=True),
        required(
            "order_number",
            INT64,
            "1 for the user's first order, 2 for the next: by order_time, then order_id.",
            minimum=1,
        ),
        Column(
            "days_since_previous_order",
            INT64,
            "Days from the date of the user's order before; NULL for the first.",
            minimum=0,
        ),
        required(
            "seconds_in_session", INT64, "Seconds from session_start_time to order_time.", minimum=0
        ),
        required("is_first_order", BOOL, "True where order_number is 1."),
    ),
    row_checks=(
        RowCheck(
            "order_date_of_order_time", pl.col("order_date") != pl.col("order_time").dt.date()
        ),
        RowCheck("products_are_items", pl.col("product_count") > pl.col("item_count")),
        RowCheck("first_order_is_first", pl.col("is_first_order") != (pl.col("order_number") == 1)),
        RowCheck(
            "first_order_has_none_before",
            pl.col("is_first_order") != pl.col("days_since_previous_order").is_null(),
        ),
    ),
    measures={"orders": pl.len()} | totals("revenue", purchases="item_count"),
)


FCT_USER_DAYS = Table(
    name="fct_user_days",
    group="time",
    grain="one row per user and day with a kept event",
    key=("user_id", "event_date"),
    partition_by="event_date",
    cluster_by=("user_id",),
    large=True,
    columns=(
        required("user_id", STRING, "The user."),
        required("event_date", DATE, "The UTC date."),
        required("events", INT64, "Events.", minimum=1),
        count("views", "Views."),
        count("cart_adds", "Additions to the cart."),
        count("cart_removes", "Removals from the cart."),
        count("purchases", "Purchases."),
        count("orders", "Orders of that order_date."),
        count("sessions", "Sessions in fct_sessions with this user_id that start that day."),
        revenue("Sum of purchases; 0 where there is none.", required=True),
    ),
    row_checks=(
        RowCheck(
            "events_of_types",
            pl.sum_horizontal("views", "cart_adds", "cart_removes", "purchases")
            != pl.col("events"),
        ),
        RowCheck("orders_of_purchases", pl.col("orders") > pl.col("purchases")),
        RowCheck(
            "revenue_of_purchases_only", (pl.col("purchases") == 0) & (pl.col("revenue") != 0)
        ),
    ),
    measures=totals("events", "purchases", "orders", "revenue"),
)
