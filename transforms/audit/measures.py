"""Sums that must agree across tables."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import polars as pl

from transforms.audit.checks import CHECKED
from transforms.columnar.money import MONEY
from transforms.schema import Severity, Table

MEASURED = pl.Schema({"table_name": pl.String(), "measure": pl.String(), "value": MONEY})
"""Columns of what a batch reports of its sums."""


def _sum(column: str) -> pl.Expr:
    return pl.col(column).sum()


def _where(dimension: str, value: str | int, columns: Mapping[str, str]) -> dict[str, pl.Expr]:
    return {
        measure: pl.col(column).filter(pl.col(dimension) == value).sum()
        for measure, column in columns.items()
    }


_SAME_NAMES: Final = {name: name for name in ("events", "sessions", "purchases", "revenue")}


MEASURES: Mapping[str, Mapping[str, pl.Expr]] = MappingProxyType(
    {
        "fct_events": {
            "events": pl.len(),
            "purchases": _sum("is_purchase"),
            "revenue": _sum("revenue"),
        },
        "fct_sessions": {
            "sessions": pl.len(),
            "events": _sum("event_count"),
            "purchases": _sum("purchase_count"),
            "revenue": _sum("total_revenue"),
        },
        "dim_users": {
            "users": pl.len(),
            "buyers": _sum("has_purchase_history"),
            "sessions": _sum("session_count"),
            "events": _sum("event_count"),
            "purchases": _sum("purchase_count"),
            "revenue": _sum("total_revenue"),
        },
        "dim_user_rfm": {"buyers": pl.len()},
        "metrics_funnel": _where("dimension", "overall", _SAME_NAMES),
        "metrics_periods": _where("period", "day", _SAME_NAMES),
        "metrics_rfm_grid": {
            "buyers": _sum("customers"),
            "purchases": _sum("purchases"),
            "revenue": _sum("revenue"),
        },
        "metrics_rfm_segments": {
            "users": _sum("customers"),
            "sessions": _sum("sessions"),
            "purchases": _sum("purchases"),
            "revenue": _sum("revenue"),
        },
        "metrics_user_segments": _where(
            "dimension",
            "overall",
            {
                "users": "customers",
                "buyers": "purchasers",
                "sessions": "sessions",
                "purchases": "purchases",
                "revenue": "revenue",
            },
        ),
        "metrics_categories": _where(
            "level", 1, {name: name for name in ("events", "purchases", "revenue")}
        ),
        "metrics_category_rfm": {"purchases": _sum("purchases"), "revenue": _sum("revenue")},
    }
)
"""Sums over tables; a measure is equal in all tables that have it."""


def measure_batch(table: Table, frame: pl.DataFrame) -> pl.DataFrame:
    """Sum one batch of a table: a `MEASURED` frame, empty where the table has no measures."""
    measures = MEASURES.get(table.name, {})
    if not measures:
        return pl.DataFrame(schema=MEASURED)
    sums = frame.select(
        expression.cast(MONEY).fill_null(0).alias(name) for name, expression in measures.items()
    )
    return sums.unpivot(variable_name="measure", value_name="value").select(
        pl.lit(table.name).alias("table_name"), "measure", "value"
    )


def check_measures(measured: pl.DataFrame) -> pl.DataFrame:
    """Compare each measure with that of the first table that has it: a `CHECKED` frame."""
    sums = {
        (table, measure): value
        for table, measure, value in measured.group_by("table_name", "measure")
        .agg(pl.col("value").sum())
        .iter_rows()
    }
    first: dict[str, str] = {}
    rows = []
    for table, measures in MEASURES.items():
        for measure in measures:
            source = first.setdefault(measure, table)
            if source != table:
                equal = sums.get((table, measure), 0) == sums.get((source, measure), 0)
                rows.append(
                    (table, f"{measure}_as_in_{source}", Severity.ERROR.value, int(not equal))
                )
    return pl.DataFrame(rows, schema=CHECKED, orient="row")
