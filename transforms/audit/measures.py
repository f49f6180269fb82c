"""Sums that must agree across tables."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from transforms.audit.checks import CHECKED
from transforms.columnar.money import MONEY
from transforms.schema import TABLES, Severity, Table

MEASURED = pl.Schema({"table_name": pl.String(), "measure": pl.String(), "value": MONEY})
"""Columns of what a batch reports of its sums."""


def measure_batch(table: Table, frame: pl.DataFrame) -> pl.DataFrame:
    """Sum one batch of a table: a `MEASURED` frame, empty where the table has no measures."""
    if not table.measures:
        return pl.DataFrame(schema=MEASURED)
    sums = frame.select(
        expression.cast(MONEY).fill_null(0).alias(name)
        for name, expression in table.measures.items()
    )
    return sums.unpivot(variable_name="measure", value_name="value").select(
        pl.lit(table.name).alias("table_name"), "measure", "value"
    )


def check_measures(measured: pl.DataFrame, tables: Sequence[Table] = TABLES) -> pl.DataFrame:
    """Compare each measure with that of the first table that has it: a `CHECKED` frame.

    Args:
        measured: `measure_batch` of all batches.
        tables: The tables of the run.
    """
    sums = {
        (table, measure): value
        for table, measure, value in measured.group_by("table_name", "measure")
        .agg(pl.col("value").sum())
        .iter_rows()
    }
    first: dict[str, str] = {}
    rows = []
    for table in tables:
        for measure in table.measures:
            source = first.setdefault(measure, table.name)
            if source != table.name:
                equal = sums.get((table.name, measure), 0) == sums.get((source, measure), 0)
                rows.append(
                    (table.name, f"{measure}_as_in_{source}", Severity.ERROR.value, int(not equal))
                )
    return pl.DataFrame(rows, schema=CHECKED, orient="row")
