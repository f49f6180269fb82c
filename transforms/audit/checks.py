"""The audit: checks of every table, sums that must agree across tables, and the rows' balance.

Each batch of a table is checked as it is staged; rows of equal keys are in one batch, because
batches are shards. What the batches report adds up: the audit needs no second pass over the data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import polars as pl
import pyarrow as pa

from transforms.columnar.key_index import count_keys
from transforms.columnar.texts import words_of_texts
from transforms.errors import RunError
from transforms.schema import DATA_QUALITY, Column, ColumnType, RowCheck, Severity, Table

CHECKED = pl.Schema(
    {
        "table_name": pl.String(),
        "check_name": pl.String(),
        "severity": pl.String(),
        "failing_rows": pl.Int64(),
    }
)
"""Columns of what a batch reports of its checks."""


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


def checked(
    table: Table, check_name: str, failing_rows: int, severity: Severity = Severity.ERROR
) -> pl.DataFrame:
    """A `CHECKED` frame of one check that was made elsewhere."""
    return pl.DataFrame(
        [(table.name, check_name, severity.value, failing_rows)],
        schema=CHECKED,
        orient="row",
    )


def warned(*found: tuple[str, str, int]) -> pl.DataFrame:
    """A `CHECKED` frame of warnings: table, check and failing rows."""
    return pl.DataFrame(
        [(table, check, Severity.WARN.value, rows) for table, check, rows in found],
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
    failed = _failed(quality.filter(pl.col("severity") == Severity.ERROR.value))
    if failed:
        lines = "\n".join(f"  {table}: {check} ({rows:,} rows)" for table, check, rows in failed)
        raise RunError(
            f"the audit failed, so nothing was published; the last good tables stay:\n{lines}\n"
            "This is a fault of the program, not of the input: please report it with these lines."
        )


def require_no_warnings(quality: pl.DataFrame) -> None:
    """Stop a run that is told to stop at warnings.

    Raises:
        RunError: Names every warning, in one line.
    """
    failed = _failed(quality.sort("table_name", "check_name"))
    if failed:
        warnings = ", ".join(f"{table}: {check} ({rows:,})" for table, check, rows in failed)
        raise RunError(
            f"there are warnings, and --fail_on_warnings is given, so nothing was published; "
            f"the last good tables stay: {warnings}"
        )


def _failed(quality: pl.DataFrame) -> list[tuple[str, str, int]]:
    """Table, check and failing rows of the checks that have failed."""
    failed = quality.filter(~pl.col("passed"))
    return failed.select("table_name", "check_name", "failing_rows").rows()
