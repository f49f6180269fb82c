"""Every table of the warehouse: columns, types, grain, keys, partitioning and checks.

This module is the only description of the tables. The Parquet files, the DuckDB views, the
BigQuery schemas, the audit and the documentation are derived from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

import polars as pl

MONEY_SCALE = 9
"""Decimal places of NUMERIC, as in BigQuery."""


class ColumnType(Enum):
    """A BigQuery type; the other systems' types are derived from it."""

    STRING = "STRING"
    INT64 = "INT64"
    FLOAT64 = "FLOAT64"
    NUMERIC = "NUMERIC"
    BOOL = "BOOL"
    DATE = "DATE"
    TIMESTAMP = "TIMESTAMP"

    @property
    def polars(self) -> pl.DataType:
        """The Polars type of a column of this type."""
        return _POLARS_TYPES[self]


_POLARS_TYPES: Mapping[ColumnType, pl.DataType] = MappingProxyType(
    {
        ColumnType.STRING: pl.String(),
        ColumnType.INT64: pl.Int64(),
        ColumnType.FLOAT64: pl.Float64(),
        ColumnType.NUMERIC: pl.Decimal(38, MONEY_SCALE),
        ColumnType.BOOL: pl.Boolean(),
        ColumnType.DATE: pl.Date(),
        ColumnType.TIMESTAMP: pl.Datetime("us", "UTC"),
    }
)


class Severity(Enum):
    """What a failing check does: an error stops the publication, a warning is only recorded."""

    ERROR = "error"
    WARN = "warn"


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        name: Column name.
        type: BigQuery type.
        description: What the value means, for the reader of the table.
        required: True where NULL is not allowed.
        accepted: The only values allowed, where they can be listed.
        minimum: Smallest value allowed, where there is one.
    """

    name: str
    type: ColumnType
    description: str
    required: bool = False
    accepted: tuple[str | int, ...] = ()
    minimum: int | None = None


@dataclass(frozen=True)
class RowCheck:
    """A rule that every row of a table keeps; `failing` is true for a row that breaks it."""

    name: str
    failing: pl.Expr
    severity: Severity = Severity.ERROR


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        name: Table name.
        grain: What one row is ("one row per …").
        columns: The columns, in order.
        key: Columns that identify a row; empty for an append-only log without one.
        partition_by: DATE column of BigQuery's daily partitioning.
        cluster_by: BigQuery clustering columns.
        appended: True where a run adds its rows to those of earlier runs, False where it
            replaces the whole table.
        large: True where the table grows with the events. DuckDB then gets a view on the Parquet
            files rather than a copy: loading costs 1.4 microseconds a row, as much as the run.
        row_checks: Rules beyond NOT NULL, accepted values and minimum.
    """

    name: str
    grain: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    partition_by: str | None = None
    cluster_by: tuple[str, ...] = ()
    appended: bool = False
    large: bool = False
    row_checks: tuple[RowCheck, ...] = ()

    @property
    def column_names(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return tuple(column.name for column in self.columns)

    @property
    def required_columns(self) -> tuple[str, ...]:
        """The names of the columns that are never NULL."""
        return tuple(column.name for column in self.columns if column.required)

    def polars_schema(self) -> pl.Schema:
        """The Polars schema of a frame of this table."""
        return pl.Schema({column.name: column.type.polars for column in self.columns})

    def empty_frame(self) -> pl.DataFrame:
        """A frame of this table without rows."""
        return pl.DataFrame(schema=self.polars_schema())

    def conform(self, frame: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
        """Put the columns of a frame into this table's order and types.

        A dictionary-encoded (Categorical or Enum) text column stays encoded: it is the same
        values, and Parquet writes it several times faster.

        Raises:
            polars.exceptions.ColumnNotFoundError: The frame lacks a column.
        """
        lazy = frame.lazy()
        encoded = {
            name
            for name, dtype in lazy.collect_schema().items()
            if isinstance(dtype, pl.Categorical | pl.Enum)
        }
        return lazy.select(
            pl.col(column.name)
            if column.type is ColumnType.STRING and column.name in encoded
            else pl.col(column.name).cast(column.type.polars)
            for column in self.columns
        ).collect()


_STRING, _INT64, _FLOAT64 = ColumnType.STRING, ColumnType.INT64, ColumnType.FLOAT64
_NUMERIC, _BOOL, _DATE, _TIMESTAMP = (
    ColumnType.NUMERIC,
    ColumnType.BOOL,
    ColumnType.DATE,
    ColumnType.TIMESTAMP,
)
_FLAG = (0, 1)

EVENT_TYPES = ("view", "cart", "remove_from_cart", "purchase")
FUNNEL_STAGES = ("purchase", "cart", "view", "no_activity")
QUALITY_TIERS = ("Low", "Medium", "High")
LENGTH_BUCKETS = (
    "Very Short (0-60s)",
    "Short (61-300s)",
    "Medium (301-600s)",
    "Long (600+s)",
)
ACTIVITY_STATUSES = ("active", "declining", "at_risk", "churned", "prospect")
LIFECYCLE_STAGES = ("Prospect", "First-Time Buyer", "Repeat Customer", "Loyal Customer")
RFM_SEGMENTS = (
    "Champions",
    "Loyal Customers",
    "Potential Loyalists",
    "Recent Customers",
    "Promising",
    "Needs Attention",
    "About To Sleep",
    "At Risk",
    "Lost",
)
NO_RFM_SEGMENT = "No RFM Score"
UNKNOWN_CATEGORY = "unknown"
CATEGORY_LEVELS = tuple(f"category_lvl_{level}" for level in range(1, 5))
REJECT_REASONS = (
    "malformed_row",
    "bad_event_time",
    "bad_event_type",
    "bad_product_id",
    "bad_category_id",
    "bad_price",
    "bad_user_id",
    "bad_user_session",
)
"""Why a row is rejected, in the order in which the reasons are tried."""


def _required(name: str, kind: ColumnType, description: str, **rules: object) -> Column:
    return Column(name, kind, description, required=True, **rules)  # type: ignore[arg-type]


def _count(name: str, description: str) -> Column:
    return Column(name, _INT64, description, required=True, minimum=0)


def _revenue(description: str, *, required: bool = False) -> Column:
    return Column("revenue", _NUMERIC, description, required=required, minimum=0)


def _rate(name: str, description: str) -> Column:
    return Column(name, _FLOAT64, description, minimum=0)


FCT_EVENTS = Table(
    name="fct_events",
    grain="one row per kept event",
    key=("event_id",),
    partition_by="event_date",
    cluster_by=("user_id",),
    large=True,
    columns=(
        _required(
            "event_id",
            _STRING,
            "Lower-case hex MD5 of event_time, event_type, user_id, product_id and user_session, "
            "joined by |; the event's identity.",
        ),
        _required("event_time", _TIMESTAMP, "When the event happened (UTC, whole seconds)."),
        _required("event_date", _DATE, "UTC date of event_time."),
        _required("event_type", _STRING, "What the user did.", accepted=EVENT_TYPES),
        _required("user_id", _STRING, "Who did it."),
        _required("user_session", _STRING, "Session name as given in the CSV."),
        _required("session_id", _STRING, "The fct_sessions row that holds the event."),
        _required("product_id", _STRING, "The product that was viewed, carted or bought."),
        Column("brand", _STRING, "Brand, lower-case."),
        Column("category_code", _STRING, "Dotted category path, lower-case."),
        Column("category_id", _STRING, "Category of the product at the time of the event."),
        _required("price", _NUMERIC, "Price of the product at the time of the event.", minimum=0),
        _required("quantity", _INT64, "Always 1: an event is about one item.", accepted=(1,)),
        _required("is_view", _INT64, "1 for a view, else 0.", accepted=_FLAG),
        _required("is_cart_add", _INT64, "1 for an addition to the cart, else 0.", accepted=_FLAG),
        _required(
            "is_cart_remove", _INT64, "1 for a removal from the cart, else 0.", accepted=_FLAG
        ),
        _required("is_purchase", _INT64, "1 for a purchase, else 0.", accepted=_FLAG),
        _revenue("Price of a purchase; NULL for other events."),
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
)

FCT_SESSIONS = Table(
    name="fct_sessions",
    grain="one row per session",
    key=("session_id",),
    partition_by="session_start_date",
    cluster_by=("user_id",),
    large=True,
    columns=(
        _required(
            "session_id",
            _STRING,
            "user_session, with _timeout_1, _timeout_2, … after each gap longer than the timeout.",
        ),
        _required("user_id", _STRING, "The session's user: the largest, as text, of its events."),
        _required("session_start_time", _TIMESTAMP, "Time of the first event (UTC)."),
        _required("session_end_time", _TIMESTAMP, "Time of the last event (UTC)."),
        _required("session_start_date", _DATE, "UTC date of session_start_time."),
        _required("session_length", _INT64, "Seconds from start to end.", minimum=0),
        _required("event_count", _INT64, "Events.", minimum=1),
        _required("unique_product_count", _INT64, "Distinct products.", minimum=1),
        _count("view_count", "Views."),
        _count("cart_additions", "Additions to the cart."),
        _count("cart_removals", "Removals from the cart."),
        _count("purchase_count", "Purchases."),
        Column("total_revenue", _NUMERIC, "Sum of purchases; NULL where there is none.", minimum=0),
        _required("reached_view", _INT64, "1 where a product was viewed.", accepted=_FLAG),
        _required("reached_cart", _INT64, "1 where a product was carted.", accepted=_FLAG),
        _required("reached_purchase", _INT64, "1 where a product was bought.", accepted=_FLAG),
        _required("funnel_stage", _STRING, "The furthest stage reached.", accepted=FUNNEL_STAGES),
        _required("is_converting_session", _INT64, "1 where purchase_count > 0.", accepted=_FLAG),
        _required(
            "session_quality_tier",
            _STRING,
            "Low: under 150 s or under 3 events; Medium: up to 600 s and 10 events; else High.",
            accepted=QUALITY_TIERS,
        ),
        _required(
            "session_length_bucket",
            _STRING,
            "session_length in four classes.",
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
)

DIM_USERS = Table(
    name="dim_users",
    grain="one row per user with a kept event",
    key=("user_id",),
    cluster_by=("user_id",),
    large=True,
    columns=(
        _required("user_id", _STRING, "The user."),
        _required("first_event_time", _TIMESTAMP, "Time of the user's first event (UTC)."),
        _required("last_event_time", _TIMESTAMP, "Time of the user's last event (UTC)."),
        _required("first_event_date", _DATE, "UTC date of first_event_time."),
        _required("last_event_date", _DATE, "UTC date of last_event_time."),
        _count("session_count", "Sessions in fct_sessions with this user_id."),
        _required("event_count", _INT64, "Kept events.", minimum=1),
        _count("purchase_count", "Purchases."),
        Column("total_revenue", _NUMERIC, "Sum of purchases; NULL where there is none.", minimum=0),
        Column("customer_ltv", _NUMERIC, "Lifetime value so far: total_revenue.", minimum=0),
        Column(
            "avg_order_value",
            _NUMERIC,
            "total_revenue / purchase_count, two decimals.",
            minimum=0,
        ),
        Column("first_purchase_date", _DATE, "UTC date of the first purchase."),
        Column("last_purchase_date", _DATE, "UTC date of the last purchase."),
        Column(
            "customer_lifespan_days",
            _INT64,
            "Days from the first to the last purchase, at least 1.",
            minimum=1,
        ),
        _required("days_since_last_activity", _INT64, "as_of − last_event_date."),
        Column("days_since_last_purchase", _INT64, "as_of − last_purchase_date."),
        _required(
            "activity_status",
            _STRING,
            "How long ago the user last bought; prospect without a purchase.",
            accepted=ACTIVITY_STATUSES,
        ),
        _required("is_churned", _INT64, "1 where activity_status is churned.", accepted=_FLAG),
        _required("has_purchase_history", _BOOL, "True with at least one purchase."),
        Column(
            "data_quality_flag",
            _STRING,
            "Why the user's figures deserve distrust, where they do.",
            accepted=("missing_sessions", "anomalous_session_ratio"),
        ),
        _required(
            "customer_lifecycle_stage",
            _STRING,
            "By purchases: 0, 1, 2-5, more.",
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
        RowCheck("ltv_equals_revenue", pl.col("customer_ltv").ne_missing(pl.col("total_revenue"))),
        RowCheck(
            "missing_sessions", pl.col("data_quality_flag") == "missing_sessions", Severity.WARN
        ),
        RowCheck(
            "anomalous_session_ratio",
            pl.col("data_quality_flag") == "anomalous_session_ratio",
            Severity.WARN,
        ),
        RowCheck("activity_after_as_of", pl.col("days_since_last_activity") < 0, Severity.WARN),
    ),
)

_SCORES = (1, 2, 3, 4, 5)

DIM_USER_RFM = Table(
    name="dim_user_rfm",
    grain="one row per user with a purchase",
    key=("user_id",),
    cluster_by=("rfm_segment",),
    large=True,
    columns=(
        _required("user_id", _STRING, "The user."),
        _required(
            "recency_score", _INT64, "5: the fifth that bought most recently.", accepted=_SCORES
        ),
        _required(
            "frequency_score", _INT64, "Fifth of the percent rank of purchases.", accepted=_SCORES
        ),
        _required("monetary_score", _INT64, "5: the fifth with most revenue.", accepted=_SCORES),
        _required("rfm_score", _INT64, "Sum of the three scores.", minimum=3),
        _required("rfm_segment", _STRING, "Segment by the three scores.", accepted=RFM_SEGMENTS),
    ),
    row_checks=(
        RowCheck(
            "score_is_sum",
            pl.sum_horizontal("recency_score", "frequency_score", "monetary_score")
            != pl.col("rfm_score"),
        ),
    ),
)

DIM_PRODUCTS = Table(
    name="dim_products",
    grain="one row per product in fct_events",
    key=("product_id",),
    columns=(
        _required("product_id", _STRING, "The product."),
        Column("brand", _STRING, "Brand of its most frequent (brand, category_id) pair."),
        Column("category_id", _STRING, "Category of its most frequent (brand, category_id) pair."),
        Column("category_code", _STRING, "Code of that category in dim_categories."),
        *(
            Column(level, _STRING, f"Part {number} of category_code.")
            for number, level in enumerate(CATEGORY_LEVELS, start=1)
        ),
    ),
)

DIM_CATEGORIES = Table(
    name="dim_categories",
    grain="one row per category_id in fct_events",
    key=("raw_category_id",),
    columns=(
        _required("raw_category_id", _STRING, "category_id of the events."),
        Column("category_code", _STRING, "Most frequent code among its events."),
        *(
            Column(level, _STRING, f"Part {number} of category_code.")
            for number, level in enumerate(CATEGORY_LEVELS, start=1)
        ),
    ),
)

METRICS_CHURN = Table(
    name="metrics_churn",
    grain="one row for all eligible customers and one per month of first purchase",
    key=("metric_level", "time_period"),
    columns=(
        _required(
            "metric_level",
            _STRING,
            "All eligible cohorts, or one cohort month.",
            accepted=("cohort_overall", "by_cohort_month"),
        ),
        _required("time_period", _STRING, "all_eligible_cohorts, or the month's first day."),
        _count("total_customers", "Customers whose observation window is complete."),
        _count("churned_customers", "Those that did not buy again after the window."),
        _rate("churn_rate", "churned_customers / total_customers, four decimals."),
        Column("cohort_start", _DATE, "Smallest first purchase date."),
        Column("cohort_end", _DATE, "Largest first purchase date."),
    ),
)

FUNNEL_DIMENSIONS = (
    "overall",
    "session_start_date",
    "session_quality_tier",
    "session_length_bucket",
    "customer_lifecycle_stage",
    "activity_status",
    "rfm_segment",
)

METRICS_FUNNEL = Table(
    name="metrics_funnel",
    grain="one row per dimension and value",
    key=("dimension", "value"),
    columns=(
        _required("dimension", _STRING, "What sessions are split by.", accepted=FUNNEL_DIMENSIONS),
        _required("value", _STRING, "Value of the dimension; all for overall."),
        _required("sessions", _INT64, "Sessions.", minimum=1),
        _count("sessions_reached_view", "Sessions with a view."),
        _count("sessions_reached_cart", "Sessions with an addition to the cart."),
        _count("sessions_reached_purchase", "Sessions with a purchase."),
        _count("bounced_sessions", "Sessions of one event."),
        _count("events", "Events."),
        _count("purchases", "Purchases."),
        _revenue("Sum of purchases; 0 where there is none.", required=True),
        _rate("view_to_cart_rate", "sessions_reached_cart / sessions_reached_view."),
        _rate("cart_to_purchase_rate", "sessions_reached_purchase / sessions_reached_cart."),
        _rate("conversion_rate", "sessions_reached_purchase / sessions."),
        _rate("bounce_rate", "bounced_sessions / sessions."),
        _rate("revenue_per_session", "revenue / sessions."),
        _rate("revenue_per_purchasing_session", "revenue / sessions_reached_purchase."),
    ),
)

METRICS_RFM_SEGMENTS = Table(
    name="metrics_rfm_segments",
    grain="one row per RFM segment, and one for the users without a purchase",
    key=("rfm_segment",),
    columns=(
        _required("rfm_segment", _STRING, "Segment.", accepted=(*RFM_SEGMENTS, NO_RFM_SEGMENT)),
        _required("customers", _INT64, "Users.", minimum=1),
        _count("churned_customers", "Users with is_churned."),
        _count("purchases", "Purchases."),
        _count("sessions", "Sessions."),
        _revenue("Sum of purchases; 0 where there is none.", required=True),
        _rate("churn_rate", "churned_customers / customers."),
        _rate("avg_order_value", "Mean of the users' own avg_order_value."),
        _rate("avg_purchase_count", "Mean purchases of a user."),
        _rate("avg_session_count", "Mean sessions of a user."),
        _rate("avg_ltv", "Mean customer_ltv of the users that have one."),
        _rate("customer_share", "Share of all users."),
        _rate("revenue_share", "Share of all revenue."),
    ),
)

METRICS_CATEGORIES = Table(
    name="metrics_categories",
    grain="one row per (category_lvl_1, category_lvl_2), and one per category_lvl_1",
    key=("level", "category_lvl_1", "category_lvl_2"),
    columns=(
        _required("level", _INT64, "1: a top-level category; 2: a subcategory.", accepted=(1, 2)),
        _required("category_lvl_1", _STRING, "Top-level category; unknown where there is none."),
        Column("category_lvl_2", _STRING, "Subcategory; NULL at level 1 and where there is none."),
        _required("events", _INT64, "Events.", minimum=1),
        _count("views", "Views."),
        _count("cart_adds", "Additions to the cart."),
        _count("purchases", "Purchases."),
        _required("user_sessions", _INT64, "Distinct user_session.", minimum=1),
        _required("users", _INT64, "Distinct users.", minimum=1),
        _revenue("Sum of purchases; 0 where there is none.", required=True),
        _rate("purchase_rate", "purchases / events."),
        _rate("cart_add_rate", "cart_adds / events."),
        _rate("avg_views_per_session", "views / user_sessions."),
    ),
)

METRICS_CATEGORY_RFM = Table(
    name="metrics_category_rfm",
    grain="one row per (category_lvl_1, rfm_segment) with a purchase",
    key=("category_lvl_1", "rfm_segment"),
    columns=(
        _required("category_lvl_1", _STRING, "Top-level category; unknown where there is none."),
        _required("rfm_segment", _STRING, "Segment of the buyer.", accepted=RFM_SEGMENTS),
        _required("purchases", _INT64, "Purchases.", minimum=1),
        _revenue("Sum of purchases.", required=True),
    ),
)

PERIODS = ("day", "week", "month")

METRICS_PERIODS = Table(
    name="metrics_periods",
    grain="one row per day, ISO week and month with an event",
    key=("period", "period_start"),
    columns=(
        _required("period", _STRING, "Length of the period.", accepted=PERIODS),
        _required("period_start", _DATE, "First day; of a week its Monday."),
        _count("users", "Distinct users with an event in the period."),
        _count("purchasing_users", "Distinct users with a purchase in the period."),
        _count("events", "Events."),
        _count("views", "Views."),
        _count("cart_adds", "Additions to the cart."),
        _count("purchases", "Purchases."),
        _count("sessions", "Sessions that start in the period."),
        _count("converting_sessions", "Those of them with a purchase."),
        _revenue("Sum of purchases; 0 where there is none.", required=True),
        _rate("conversion_rate", "converting_sessions / sessions."),
        Column("avg_order_value", _NUMERIC, "revenue / purchases, two decimals.", minimum=0),
    ),
)

METRICS_USER_SEGMENTS = Table(
    name="metrics_user_segments",
    grain="one row per dimension and value",
    key=("dimension", "value"),
    columns=(
        _required(
            "dimension",
            _STRING,
            "What users are split by.",
            accepted=("overall", "activity_status", "customer_lifecycle_stage"),
        ),
        _required("value", _STRING, "Value of the dimension; all for overall."),
        _required("customers", _INT64, "Users.", minimum=1),
        _count("purchasers", "Users with a purchase."),
        _count("churned_customers", "Users with is_churned."),
        _count("purchases", "Purchases."),
        _count("sessions", "Sessions."),
        _revenue("Sum of purchases; 0 where there is none.", required=True),
        _rate("purchaser_rate", "purchasers / customers."),
        _rate("churn_rate", "churned_customers / customers."),
        _rate("avg_ltv", "Mean customer_ltv of the users that have one."),
        _rate("customer_share", "Share of all users."),
        _rate("revenue_share", "Share of all revenue."),
    ),
)

METRICS_RFM_GRID = Table(
    name="metrics_rfm_grid",
    grain="one row per (recency_score, frequency_score) that occurs",
    key=("recency_score", "frequency_score"),
    columns=(
        _required("recency_score", _INT64, "Recency score.", accepted=_SCORES),
        _required("frequency_score", _INT64, "Frequency score.", accepted=_SCORES),
        _required("customers", _INT64, "Users with a purchase.", minimum=1),
        _required("purchases", _INT64, "Purchases.", minimum=1),
        _revenue("Sum of purchases.", required=True),
        _required("avg_order_value", _NUMERIC, "revenue / purchases, two decimals.", minimum=0),
    ),
)

REJECTED_ROWS = Table(
    name="rejected_rows",
    grain="one row per rejected CSV row and run",
    key=("run_id", "source_file", "byte_offset"),
    appended=True,
    columns=(
        _required("run_id", _STRING, "The run that rejected the row."),
        _required("source_file", _STRING, "File the row stands in."),
        _required(
            "byte_offset",
            _INT64,
            "Offset of the row's first byte in the file, after decompression.",
            minimum=0,
        ),
        _required("reason", _STRING, "First rule the row breaks.", accepted=REJECT_REASONS),
        _required(
            "raw", _STRING, "The row's text, invalid bytes replaced, cut at 10,000 characters."
        ),
    ),
)

DATA_QUALITY = Table(
    name="data_quality",
    grain="one row per run, table and check",
    key=("run_id", "table_name", "check_name"),
    appended=True,
    columns=(
        _required("run_id", _STRING, "The run that was checked."),
        _required("table_name", _STRING, "The table that was checked."),
        _required("check_name", _STRING, "The rule."),
        _required(
            "severity",
            _STRING,
            "error stops the publication, warn is recorded.",
            accepted=tuple(severity.value for severity in Severity),
        ),
        _count("failing_rows", "Rows that break the rule."),
        _required("passed", _BOOL, "True where no row breaks the rule."),
    ),
)

PIPELINE_RUNS = Table(
    name="pipeline_runs",
    grain="one row per run",
    key=("run_id",),
    appended=True,
    columns=(
        _required("run_id", _STRING, "The run."),
        _required("started_at", _TIMESTAMP, "When the run began (UTC)."),
        Column("finished_at", _TIMESTAMP, "When the tables were audited (UTC)."),
        Column("published_at", _TIMESTAMP, "When the last table was live (UTC)."),
        _required(
            "status", _STRING, "State of the publication.", accepted=("publishing", "published")
        ),
        Column("as_of", _DATE, "Date from which days since an activity are counted."),
        _required("inputs", _STRING, "Input globs, a JSON list."),
        _count("rows_read", "Rows of the input."),
        _count("events_kept", "Rows of fct_events."),
        _count("duplicate_rows", "Rows dropped as duplicates."),
        _count("multi_brand_product_rows", "Rows dropped for a product of several brands."),
        _count("missing_session_rows", "Rows dropped for want of a session."),
        _count("rejected_rows", "Rows rejected."),
        _required("rejected_by_reason", _STRING, "Rejected rows by reason, a JSON object."),
        _required("table_rows", _STRING, "Rows by table, a JSON object."),
        _required("options", _STRING, "Options of the run, a JSON object."),
        _required("code_version", _STRING, "Version of estore-analytics."),
    ),
)

TABLES: tuple[Table, ...] = (
    FCT_EVENTS,
    FCT_SESSIONS,
    DIM_USERS,
    DIM_USER_RFM,
    DIM_PRODUCTS,
    DIM_CATEGORIES,
    METRICS_CHURN,
    METRICS_FUNNEL,
    METRICS_PERIODS,
    METRICS_RFM_GRID,
    METRICS_RFM_SEGMENTS,
    METRICS_USER_SEGMENTS,
    METRICS_CATEGORIES,
    METRICS_CATEGORY_RFM,
    REJECTED_ROWS,
    DATA_QUALITY,
    PIPELINE_RUNS,
)

TABLES_BY_NAME: Mapping[str, Table] = MappingProxyType({table.name: table for table in TABLES})
