"""Are the tables of two contenders equal? By fingerprint, so that 40 million rows take seconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb

from transforms.schema import TABLES, ColumnType, Table

COMPARED: Final = tuple(
    table for table in TABLES if not table.appended and table.group not in ("clv", "selling")
)
"""Every table that the input alone decides, but those of models; the others are about the run."""

_DUCKDB_TYPES: Final = {
    ColumnType.STRING: "VARCHAR",
    ColumnType.INT64: "BIGINT",
    ColumnType.FLOAT64: "DOUBLE",
    ColumnType.NUMERIC: "DECIMAL(38,9)",
    ColumnType.BOOL: "BOOLEAN",
    ColumnType.DATE: "DATE",
    ColumnType.TIMESTAMP: "TIMESTAMP WITH TIME ZONE",
}
_EXAMPLES: Final = 3


class DifferentTablesError(Exception):
    """Two contenders do not agree; the message shows the table."""


@dataclass(frozen=True)
class Fingerprint:
    """What is the same for equal tables, whatever the order of their rows and files.

    Attributes:
        types: DuckDB type of each column, in order.
        rows: Number of rows.
        hashes: Sum of the 64-bit hashes of all rows; None where there are none.
    """

    types: Mapping[str, str]
    rows: int
    hashes: int | None


def tables_named(names: Iterable[str]) -> tuple[Table, ...]:
    """The compared tables of these names."""
    return tuple(table for table in COMPARED if table.name in set(names))


def fingerprint(folder: Path, table: Table) -> Fingerprint:
    """Take the fingerprint of a table's Parquet files in FOLDER/TABLE.

    Raises:
        DifferentTablesError: There are none.
    """
    if not any((folder / table.name).glob("*.parquet")):
        raise DifferentTablesError(f"{folder} has no {table.name}")
    with _connected() as connection:
        rows = _rows_of(folder, table)
        types = {name: kind for name, kind, *_ in connection.execute(f"DESCRIBE {rows}").fetchall()}
        columns = ", ".join(types)
        ((count, hashes),) = connection.execute(
            f"SELECT count(*), sum(hash({columns})) FROM ({rows})"
        ).fetchall()
    return Fingerprint(types, count, hashes)


def require_equal(actual: Path, expected: Path, tables: Iterable[Table] = COMPARED) -> None:
    """Check that two folders hold the same tables: the same columns, types and rows.

    Args:
        actual: Folder of Parquet files by table.
        expected: The same, to compare with.
        tables: Which of them.

    Raises:
        DifferentTablesError: Names the first table that differs, and shows how.
    """
    for table in tables:
        found, wanted = fingerprint(actual, table), fingerprint(expected, table)
        required = {column.name: _DUCKDB_TYPES[column.type] for column in table.columns}
        for folder, types in ((actual, found.types), (expected, wanted.types)):
            if list(types.items()) != list(required.items()):
                raise DifferentTablesError(
                    f"{folder}/{table.name} has columns {dict(types)}, not {required}"
                )
        if found != wanted:
            raise DifferentTablesError(_difference(actual, expected, table, found, wanted))


def _difference(
    actual: Path, expected: Path, table: Table, found: Fingerprint, wanted: Fingerprint
) -> str:
    lines = [
        f"{table.name} differs: {found.rows:,} rows in {actual}, {wanted.rows:,} in {expected}"
    ]
    with _connected() as connection:
        for this, other in ((actual, expected), (expected, actual)):
            lines.append(f"only in {this}:")
            lines += [
                f"  {row}"
                for row in connection.execute(
                    f"({_rows_of(this, table)} EXCEPT ALL {_rows_of(other, table)}) "
                    f"ORDER BY ALL LIMIT {_EXAMPLES}"
                ).fetchall()
            ]
    return "\n".join(lines)


def _rows_of(folder: Path, table: Table) -> str:
    return f"SELECT * FROM read_parquet('{folder}/{table.name}/*.parquet')"


def _connected() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    return connection
