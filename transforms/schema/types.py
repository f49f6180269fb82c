"""What a table is: columns, types, keys, checks; and how frames are made to fit it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

import polars as pl
import pyarrow as pa

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
        group: What `--without` leaves out with it; None for the tables that are always there.
        row_checks: Rules beyond NOT NULL, accepted values and minimum.
        measures: Sums over the table; one of a name is equal in all tables that have it.
    """

    name: str
    grain: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    partition_by: str | None = None
    cluster_by: tuple[str, ...] = ()
    appended: bool = False
    large: bool = False
    group: str | None = None
    row_checks: tuple[RowCheck, ...] = ()
    measures: Mapping[str, pl.Expr] = field(default_factory=dict, hash=False)

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


STRING, INT64, FLOAT64 = ColumnType.STRING, ColumnType.INT64, ColumnType.FLOAT64
NUMERIC, BOOL = ColumnType.NUMERIC, ColumnType.BOOL
DATE, TIMESTAMP = ColumnType.DATE, ColumnType.TIMESTAMP

FLAG = (0, 1)


def required(name: str, kind: ColumnType, description: str, **rules: object) -> Column:
    """A column that is never NULL."""
    return Column(name, kind, description, required=True, **rules)  # type: ignore[arg-type]


def count(name: str, description: str) -> Column:
    """A number of things."""
    return Column(name, INT64, description, required=True, minimum=0)


def revenue(description: str, *, required: bool = False) -> Column:
    """The sum of purchases."""
    return Column("revenue", NUMERIC, description, required=required, minimum=0)


def rate(name: str, description: str) -> Column:
    """A quotient; NULL where there is nothing to divide by."""
    return Column(name, FLOAT64, description, minimum=0)


def totals(*columns: str, where: pl.Expr | None = None, **renamed: str) -> dict[str, pl.Expr]:
    """Measures that are sums of columns.

    Args:
        columns: Those that are called as the measure is.
        where: The rows that count, in a table that sums the same things several times.
        renamed: The other columns, by measure.
    """
    named = dict(zip(columns, columns, strict=True)) | renamed
    chosen = pl.lit(value=True) if where is None else where
    return {measure: pl.col(column).filter(chosen).sum() for measure, column in named.items()}


Encoded = dict[str, pa.Array]
"""Columns of text that are not in the frame, as Parquet will store them, by name."""

TableBatch = tuple[str, pl.DataFrame, Encoded]
"""Rows of a table, whole for any key: its name, the frame, its encoded columns."""
