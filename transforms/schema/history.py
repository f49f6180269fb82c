"""The tables of history: the states of customers as versions, and metrics of snapshots."""

from __future__ import annotations

from typing import Final

import polars as pl

from transforms.schema.dimensions import SCORE_IS_SUM
from transforms.schema.types import (
    BOOL,
    DATE,
    FLAG,
    INT64,
    NUMERIC,
    STRING,
    Column,
    RowCheck,
    Table,
    count,
    rate,
    required,
    revenue,
    totals,
)
from transforms.schema.values import (
    ACTIVITY_STATUSES,
    HISTORY_DIMENSIONS,
    LIFECYCLE_STAGES,
    MIGRATION_DIMENSIONS,
    MIGRATION_PERIODS,
    RFM_SEGMENTS,
    SCORES,
)

_AS_THEN: Final = "What a run with as_of at the snapshots of the version gives in"


_VALIDITY = (
    required("user_id", STRING, "The user."),
    required("valid_from", DATE, "First snapshot date of the version: it was so from here on."),
    Column(
        "valid_to",
        DATE,
        "The snapshot date after its last one, not part of it; NULL for the version of as_of.",
    ),
    required("is_current", BOOL, "True where the version is that of as_of."),
)


_VALIDITY_CHECKS = (
    RowCheck("valid_to_after_valid_from", pl.col("valid_to") <= pl.col("valid_from")),
    RowCheck("current_without_valid_to", pl.col("is_current") != pl.col("valid_to").is_null()),
)


SNAP_USER_RFM = Table(
    name="snap_user_rfm",
    group="history",
    grain="one row per user and version of the scores: a run of snapshots at which they are equal",
    key=("user_id", "valid_from"),
    partition_by="valid_from",
    cluster_by=("user_id",),
    large=True,
    columns=(
        *_VALIDITY,
        required("recency_score", INT64, f"{_AS_THEN} dim_user_rfm.", accepted=SCORES),
        required("frequency_score", INT64, f"{_AS_THEN} dim_user_rfm.", accepted=SCORES),
        required("monetary_score", INT64, f"{_AS_THEN} dim_user_rfm.", accepted=SCORES),
        required("rfm_score", INT64, "Sum of the three scores.", minimum=3),
        required(
            "rfm_segment",
            STRING,
            f"Segment of these scores. {_AS_THEN} dim_user_rfm.",
            accepted=RFM_SEGMENTS,
        ),
        Column(
            "previous_segment",
            STRING,
            "Segment of the user's version before; NULL for the first.",
            accepted=RFM_SEGMENTS,
        ),
    ),
    row_checks=(
        *_VALIDITY_CHECKS,
        SCORE_IS_SUM,
    ),
    measures={"buyers": pl.col("is_current").sum()},
)


SNAP_USER_STATUS = Table(
    name="snap_user_status",
    group="history",
    grain="one row per user and version: a run of snapshots at which status and sums are equal",
    key=("user_id", "valid_from"),
    partition_by="valid_from",
    cluster_by=("user_id",),
    large=True,
    columns=(
        *_VALIDITY,
        required(
            "activity_status",
            STRING,
            f"{_AS_THEN} dim_users.",
            accepted=ACTIVITY_STATUSES,
        ),
        required("is_churned", INT64, "1 where activity_status is churned.", accepted=FLAG),
        count("purchase_count", "Purchases to date."),
        count("order_count", "Orders to date."),
        Column("customer_ltv", NUMERIC, "Revenue to date; NULL without a purchase.", minimum=0),
        required(
            "customer_lifecycle_stage",
            STRING,
            f"{_AS_THEN} dim_users.",
            accepted=LIFECYCLE_STAGES,
        ),
        Column(
            "previous_status",
            STRING,
            "activity_status of the user's version before; NULL for the first.",
            accepted=ACTIVITY_STATUSES,
        ),
    ),
    row_checks=(
        *_VALIDITY_CHECKS,
        RowCheck(
            "churned_by_status",
            (pl.col("activity_status") == "churned") != (pl.col("is_churned") == 1),
        ),
        RowCheck(
            "revenue_of_purchasers_only",
            pl.col("customer_ltv").is_not_null() != (pl.col("purchase_count") > 0),
        ),
        RowCheck("orders_within_purchases", pl.col("order_count") > pl.col("purchase_count")),
    ),
    measures={"users": pl.col("is_current").sum()}
    | totals(
        purchases="purchase_count",
        orders="order_count",
        revenue="customer_ltv",
        where=pl.col("is_current"),
    ),
)


METRICS_SEGMENT_HISTORY = Table(
    name="metrics_segment_history",
    group="history",
    grain="one row per snapshot date, dimension and value with a customer",
    key=("snapshot_date", "dimension", "value"),
    columns=(
        required("snapshot_date", DATE, "The day at whose end the customers are seen."),
        required("dimension", STRING, "What customers are split by.", accepted=HISTORY_DIMENSIONS),
        required("value", STRING, "Value of the dimension; all for overall."),
        required("customers", INT64, "Users with an event by then.", minimum=1),
        count("churned_customers", "Users with is_churned then."),
        count("purchases", "Their purchases to date."),
        count("orders", "Their orders to date."),
        revenue("Sum of their purchases to date; 0 where there is none.", required=True),
        count("purchases_since", "Their purchases after the snapshot before, or ever."),
        required("revenue_since", NUMERIC, "Sum of those purchases.", minimum=0),
        count("entered", "Users whose value was another at the snapshot before, or none."),
        rate("customer_share", "Share of all customers of the snapshot."),
        rate("revenue_share", "Share of all revenue to date."),
    ),
    row_checks=(
        RowCheck("churned_within_customers", pl.col("churned_customers") > pl.col("customers")),
        RowCheck("entered_within_customers", pl.col("entered") > pl.col("customers")),
        RowCheck("purchases_since_within_all", pl.col("purchases_since") > pl.col("purchases")),
    ),
)


METRICS_SEGMENT_MIGRATION = Table(
    name="metrics_segment_migration",
    group="history",
    grain="one row per complete period, dimension, value before and value after that occur",
    key=("period", "snapshot_date", "dimension", "from_value", "to_value"),
    columns=(
        required("period", STRING, "Length of the period.", accepted=MIGRATION_PERIODS),
        required("snapshot_date", DATE, "Last day of the period."),
        required("dimension", STRING, "What customers move in.", accepted=MIGRATION_DIMENSIONS),
        required("from_value", STRING, "Value at the end of the period before; New: no event yet."),
        required("to_value", STRING, "Value at the end of the period."),
        required("customers", INT64, "Users that moved, or stayed.", minimum=1),
        count("purchases", "Their purchases in the period."),
        revenue("Sum of their purchases in the period; 0 where there is none.", required=True),
        rate("from_share", "Share of the customers of from_value."),
        rate("to_share", "Share of the customers of to_value."),
    ),
)
