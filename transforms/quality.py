"""The audit: checks of every table, sums that must agree across tables, and the rows' balance.

Each batch of a table is checked as it is staged; rows of equal keys are in one batch, because
batches are shards. What the batches report adds up: the audit needs no second pass over the data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import polars as pl
import pyarrow as pa

from transforms.errors import RunError
from transforms.events import MONEY
from transforms.numbering import count_keys
from transforms.schema import (
    DATA_QUALITY,
    REJECT_REASONS,
    Column,
    ColumnType,
    RowCheck,
    Severity,
    Table,
)
from transforms.texts import words_of_texts

CHECKED = pl.Schema(
    {
        "table_name": pl.String(),
        "check_name": pl.String(),
        "severity": pl.String(),
        "failing_rows": pl.Int64(),
    }
)
"""Columns of what a batch reports of its checks."""

MEASURED = pl.Schema({"table_name": pl.String(), "measure": pl.String(), "value": MONEY})
"""Columns of what a batch reports of its sums."""

COUNTED = pl.Schema({"count": pl.String(), "rows": pl.Int64()})
"""Columns of what a step reports of the rows that went through it."""

DROP_REASONS: Final = ("duplicate", "multi_brand_product", "missing_session")


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


def check_batch(table: Table, frame: pl.DataFrame, encoded: Mapping[str, pa.Array]) -> pl.DataFrame:
    """Check one batch of a table.

    Args:
        table: The table.
        frame: Rows of it, whole for any key, but for the encoded columns.
        encoded: The columns of text that are not in the frame.

    Returns:
        A `CHECKED` frame: one row per check of the table.
    """
    rules = [*_column_checks(table, frame, encoded), *table.row_checks]
    failures = (rule.failing.sum().cast(pl.Int64).alias(rule.name) for rule in rules)
    counts = frame.select(failures).row(0)
    failing = [(rule.name, rule.severity, count) for rule, count in zip(rules, counts, strict=True)]
    if table.key:
        failing.append(("unique_key", Severity.ERROR, _surplus_keys(table.key, frame, encoded)))
    return pl.DataFrame(
        [(table.name, name, severity.value, count) for name, severity, count in failing],
        schema=CHECKED,
        orient="row",
    )


def _surplus_keys(key: Sequence[str], frame: pl.DataFrame, encoded: Mapping[str, pa.Array]) -> int:
    """The number of rows whose key an earlier row has."""
    if key[0] in encoded:  # texts of one length, and no other column
        (texts,) = (encoded[name] for name in key)
        return len(texts) - count_keys(words_of_texts(texts))
    keys = frame.select(key)
    # Keys of different hashes are different; only where hashes meet need they be compared.
    if keys.hash_rows().n_unique() == keys.height:
        return 0
    return keys.height - keys.n_unique()


def _column_checks(
    table: Table, frame: pl.DataFrame, encoded: Mapping[str, pa.Array]
) -> Iterable[RowCheck]:
    """The checks that follow from the columns' declarations."""
    for column in table.columns:
        if column.name in encoded:
            if column.required:
                nulls = pl.lit(encoded[column.name].null_count)
                yield RowCheck(f"not_null_{column.name}", pl.int_range(pl.len()) < nulls)
            continue
        value = pl.col(column.name)
        if column.required:
            yield RowCheck(f"not_null_{column.name}", value.is_null())
        if column.accepted:
            yield RowCheck(f"accepted_{column.name}", _not_accepted(column, frame))
        if column.minimum is not None:
            yield RowCheck(f"minimum_{column.name}", value < column.minimum)


def _not_accepted(column: Column, frame: pl.DataFrame) -> pl.Expr:
    dtype = frame.schema[column.name]
    if isinstance(dtype, pl.Enum) and set(dtype.categories) <= set(column.accepted):
        return pl.lit(value=False)  # the type holds nothing else
    value = pl.col(column.name)
    if column.type is ColumnType.STRING:
        return ~value.cast(pl.String).is_in(column.accepted)
    numbers = sorted(int(number) for number in column.accepted)
    if numbers == list(range(numbers[0], numbers[-1] + 1)):
        return (value < numbers[0]) | (value > numbers[-1])
    return ~value.is_in(numbers)


def checked(table: Table, check_name: str, failing_rows: int) -> pl.DataFrame:
    """A `CHECKED` frame of one check that was made elsewhere; it must not fail."""
    return pl.DataFrame(
        [(table.name, check_name, Severity.ERROR.value, failing_rows)],
        schema=CHECKED,
        orient="row",
    )


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


def counted(counts: Mapping[str, int]) -> pl.DataFrame:
    """A `COUNTED` frame."""
    return pl.DataFrame(list(counts.items()), schema=COUNTED, orient="row")


def total_counts(counts: pl.DataFrame) -> dict[str, int]:
    """Add up `COUNTED` frames; every count of the balance is there, 0 where nothing was counted."""
    names = ("rows_read", "events_kept", *DROP_REASONS, "rejected", *REJECT_REASONS)
    summed = dict(counts.group_by("count").agg(pl.col("rows").sum()).rows())
    return {name: int(summed.get(name, 0)) for name in names}


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


def check_balance(counts: Mapping[str, int]) -> pl.DataFrame:
    """Check that every row read is kept, dropped for a reason, or rejected: a `CHECKED` frame."""
    accounted = counts["events_kept"] + counts["rejected"]
    accounted += sum(counts[reason] for reason in DROP_REASONS)
    missing = abs(counts["rows_read"] - accounted)
    return pl.DataFrame(
        [("fct_events", "every_row_accounted_for", Severity.ERROR.value, missing)],
        schema=CHECKED,
        orient="row",
    )


def quality_table(run_id: str, parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The rows of data_quality, of all `CHECKED` frames of a run."""
    keys = ("table_name", "check_name", "severity")
    return DATA_QUALITY.conform(
        pl.concat(parts)
        .group_by(keys)
        .agg(pl.col("failing_rows").sum())
        .sort(keys)
        .with_columns(run_id=pl.lit(run_id), passed=pl.col("failing_rows") == 0)
    )


def require_passed(quality: pl.DataFrame) -> None:
    """Stop the run if a check that must not fail has failed.

    Raises:
        RunError: Names every such check.
    """
    failed = quality.filter(~pl.col("passed") & (pl.col("severity") == Severity.ERROR.value))
    if failed.height:
        lines = "\n".join(
            f"  {table}: {check} ({rows:,} rows)"
            for table, check, rows in failed.select(
                "table_name", "check_name", "failing_rows"
            ).iter_rows()
        )
        raise RunError(
            f"the audit failed, so nothing was published; the last good tables stay:\n{lines}\n"
            "This is a fault of the program, not of the input: please report it with these lines."
        )


def require_few_rejected(
    counts: Mapping[str, int], examples: pl.DataFrame, max_rejected_ratio: float
) -> None:
    """Stop the run if too many rows were rejected.

    Args:
        counts: `total_counts`.
        examples: Some rejected rows.
        max_rejected_ratio: The share of the rows read that may be rejected.

    Raises:
        RunError: Counts the reasons and shows three rows.
    """
    if counts["rejected"] <= max_rejected_ratio * counts["rows_read"]:
        return
    share = counts["rejected"] / counts["rows_read"]
    reasons = ", ".join(
        f"{reason} {counts[reason]:,}" for reason in REJECT_REASONS if counts[reason]
    )
    shown = "\n".join(
        f"  {file} at byte {offset}: {reason}: {raw[:200]!r}"
        for file, offset, reason, raw in examples.sort("source_file", "byte_offset")
        .head(3)
        .iter_rows()
    )
    raise RunError(
        f"{counts['rejected']:,} of {counts['rows_read']:,} rows were rejected ({share:.2%}), more "
        f"than --max_rejected_ratio={max_rejected_ratio} allows; nothing was published.\n"
        f"Reasons: {reasons}\nFor example:\n{shown}"
    )
