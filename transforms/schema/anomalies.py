"""The table of days that are unlike those before."""

from __future__ import annotations

import polars as pl

from transforms.schema.types import (
    BOOL,
    DATE,
    FLOAT64,
    NUMERIC,
    STRING,
    Column,
    RowCheck,
    Table,
    count,
    required,
)
from transforms.schema.values import ANOMALY_METRICS, ANOMALY_STATUSES


def _known(name: str, description: str) -> Column:
    return Column(name, NUMERIC, f"{description}; NULL without 4 days of the baseline.", minimum=0)


METRICS_ANOMALIES = Table(
    name="metrics_anomalies",
    group="selling",
    grain="one row per metric, value of a dimension, and day with an event",
    key=("metric", "dimension", "value", "event_date"),
    columns=(
        required(
            "metric",
            STRING,
            "What is judged: a column of metrics_periods, or the view_to_cart_rate of "
            "metrics_funnel; a rate has no row where it is NULL.",
            accepted=ANOMALY_METRICS,
        ),
        required(
            "dimension",
            STRING,
            "What days are split by; by category_lvl_1 revenue, orders and purchases.",
            accepted=("overall", "category_lvl_1"),
        ),
        required(
            "value",
            STRING,
            "Value of the dimension: all for overall; each category with a purchase, unknown for "
            "none.",
        ),
        required("event_date", DATE, "The day."),
        required("actual", NUMERIC, "The metric of the day, six decimals.", minimum=0),
        count(
            "baseline_days",
            "Days of the baseline: the latest earlier ones of the same weekday that are ok or "
            "have too little history, at most 8.",
        ),
        _known("expected", "Median of the baseline, six decimals"),
        _known(
            "scale",
            "What a usual day is off by, six decimals: the largest of 1.4826 · the median "
            "distance from expected, 0.05 · expected, and, of counts, the root of expected",
        ),
        _known("lower", "expected − max(3.5 · scale, 0.2 · expected), at least 0"),
        _known("upper", "expected + max(3.5 · scale, 0.2 · expected)"),
        Column(
            "score",
            FLOAT64,
            "(actual − expected) / scale, six decimals; NULL without 4 days of the baseline, on "
            "an incomplete day, and where 0 is expected.",
        ),
        required(
            "is_anomaly",
            BOOL,
            "True where |score| > 3.5 and actual is off by 0.2 · expected or more.",
        ),
        Column(
            "direction",
            STRING,
            "high or low: on which side of expected an anomaly is; else NULL.",
            accepted=("high", "low"),
        ),
        required(
            "status",
            STRING,
            "The first that applies. incomplete_day: the last day, where its last event is "
            "before 23:00. too_little_history: fewer than 4 days of the baseline. anomaly. ok.",
            accepted=ANOMALY_STATUSES,
        ),
    ),
    row_checks=(
        RowCheck("anomaly_by_status", pl.col("is_anomaly") != (pl.col("status") == "anomaly")),
        RowCheck(
            "direction_of_anomalies", pl.col("is_anomaly") != pl.col("direction").is_not_null()
        ),
        RowCheck(
            "bounds_in_order",
            (pl.col("lower") > pl.col("expected")) | (pl.col("expected") > pl.col("upper")),
        ),
    ),
)
