"""Compares tables by their contents, in any order of rows and columns, and shows what differs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa
import pyarrow.types as kinds

from .oracle import TABLE_KEYS

ROWS_SHOWN = 5

KINDS = (
    ("boolean", kinds.is_boolean),
    ("integer", kinds.is_integer),
    ("decimal", kinds.is_decimal),
    ("float", kinds.is_floating),
    ("date", kinds.is_date),
    ("timestamp", kinds.is_timestamp),
    ("text", lambda kind: kinds.is_string(kind) or kinds.is_large_string(kind)),
    ("text", kinds.is_string_view),
    ("null", kinds.is_null),
)

Row = tuple[object, ...]


def assert_tables_equal(actual: Mapping[str, pa.Table], expected: Mapping[str, pa.Table]) -> None:
    """Fail unless both hold the same tables with the same columns and the same rows.

    Rows are compared as a multiset. Values must be equal exactly and of the same kind (an integer
    is no decimal, a decimal is no float), but their width, scale or encoding does not matter;
    times are compared as UTC.
    """
    problems = [f"{name}: missing" for name in expected if name not in actual]
    problems += [f"{name}: not expected" for name in actual if name not in expected]
    for name in expected:
        if name in actual:
            problems += table_differences(
                actual[name], expected[name], key=TABLE_KEYS.get(name, ()), name=name
            )
    if problems:
        raise AssertionError("tables differ\n" + "\n".join(problems))


def table_differences(
    actual: pa.Table, expected: pa.Table, *, key: Sequence[str], name: str
) -> list[str]:
    """Lines that say how the tables differ; none where they are equal."""
    names = expected.column_names
    problems = [
        f"{name}.{column}: missing" for column in names if column not in actual.schema.names
    ]
    problems += [
        f"{name}.{column}: not expected" for column in actual.column_names if column not in names
    ]
    if problems:
        return problems
    actual = plain(actual.select(names))
    expected = plain(expected)
    for column in names:
        kind, expected_kind = kind_of(actual, column), kind_of(expected, column)
        if kind != expected_kind and "null" not in (kind, expected_kind):
            problems.append(f"{name}.{column}: is {kind}, expected {expected_kind}")
    if problems:
        return problems
    actual_rows = Counter(rows_of(actual))
    expected_rows = Counter(rows_of(expected))
    if actual_rows == expected_rows:
        return []
    return [
        f"{name}: {actual.num_rows} rows, expected {expected.num_rows}",
        *row_differences(
            (actual_rows - expected_rows).elements(),
            (expected_rows - actual_rows).elements(),
            columns=names,
            key=key,
        ),
    ]


def row_differences(
    surplus: Iterable[Row], lacking: Iterable[Row], *, columns: list[str], key: Sequence[str]
) -> list[str]:
    """The first rows that only one side has, side by side where their keys are equal."""
    positions = [columns.index(column) for column in key] or list(range(len(columns)))
    by_key: dict[Row, tuple[list[Row], list[Row]]] = defaultdict(lambda: ([], []))
    for side, rows in enumerate((surplus, lacking)):
        for row in rows:
            by_key[tuple(row[position] for position in positions)][side].append(row)

    lines = []
    for values in sorted(by_key, key=repr)[:ROWS_SHOWN]:
        actual_rows, expected_rows = by_key[values]
        if len(actual_rows) == len(expected_rows) == 1:
            label = ", ".join(f"{columns[p]}={v!r}" for p, v in zip(positions, values, strict=True))
            lines.append(f"  {label}")
            lines += [
                f"    {column}: {actual!r}, expected {expected!r}"
                for column, actual, expected in zip(
                    columns, actual_rows[0], expected_rows[0], strict=True
                )
                if actual != expected
            ]
        else:
            lines += [f"  not expected: {described(row, columns)}" for row in actual_rows]
            lines += [f"  missing: {described(row, columns)}" for row in expected_rows]
    if len(by_key) > ROWS_SHOWN:
        lines.append(f"  and {len(by_key) - ROWS_SHOWN} more keys")
    return lines


def described(row: Row, columns: list[str]) -> str:
    """The row with its column names."""
    return ", ".join(f"{column}={value!r}" for column, value in zip(columns, row, strict=True))


def plain(table: pa.Table) -> pa.Table:
    """The table without dictionaries, its times as UTC microseconds without a zone."""
    fields = []
    for field in table.schema:
        kind = field.type.value_type if kinds.is_dictionary(field.type) else field.type
        fields.append(
            pa.field(field.name, pa.timestamp("us") if kinds.is_timestamp(kind) else kind)
        )
    return table.cast(pa.schema(fields))


def kind_of(table: pa.Table, column: str) -> str:
    """What a column holds, without width, scale or encoding."""
    kind = table.schema.field(column).type
    return next((label for label, matches in KINDS if matches(kind)), str(kind))


def rows_of(table: pa.Table) -> Iterable[Row]:
    """The rows as tuples."""
    return zip(*(column.to_pylist() for column in table.columns), strict=True)
