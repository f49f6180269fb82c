"""Staged Parquet: where the tables' batches are written before the audit."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.coders import RowCoder, registry
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from transforms.columnar.arrays import COMPATIBLE
from transforms.errors import RunError
from transforms.schema import ColumnType, Encoded, Table


class StagedFile(NamedTuple):
    """One staged file.

    Attributes:
        table: Name of the table.
        path: Where it is.
        rows: Rows in it.
    """

    table: str
    path: str
    rows: int


registry.register_coder(StagedFile, RowCoder)


def arrow_table(frame: pl.DataFrame, table: Table, encoded: Encoded) -> pa.Table:
    """The rows of a table in Arrow, required columns not nullable.

    Args:
        frame: The rows, as `Table.conform` gives them, but for the encoded columns.
        table: Their table.
        encoded: The encoded columns.
    """
    columns = [
        encoded[column.name]
        if column.name in encoded
        else frame[column.name].to_arrow(compat_level=COMPATIBLE)
        for column in table.columns
    ]
    fields = [
        pa.field(column.name, array.type, nullable=not column.required)
        for column, array in zip(table.columns, columns, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def stage(
    frame: pl.DataFrame, table: Table, directory: str, encoded: Encoded | None = None
) -> StagedFile:
    """Write a batch of a table as a Parquet file of its own.

    Every attempt writes under a new name; a file counts only where the manifest names it.

    Args:
        frame: The rows, as `Table.conform` gives them, but for the encoded columns.
        table: Their table.
        directory: Staging folder of the run.
        encoded: The encoded columns.
    """
    path = FileSystems.join(directory, table.name, f"{uuid.uuid4().hex}.parquet")
    with FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        pq.write_table(
            arrow_table(frame, table, encoded or {}),
            file,
            # One row group a file and whole dictionaries: both are as large as a shard.
            row_group_size=max(1, frame.height),
            dictionary_pagesize_limit=1 << 30,
            store_schema=False,
            **_layout(table),
        )
    return StagedFile(table.name, path, frame.height)


def _layout(table: Table) -> dict[str, Any]:
    """How Parquet stores the columns of a table."""
    once = set(table.key if len(table.key) == 1 else ())
    once |= {column.name for column in table.columns if column.type in _SELDOM_EQUAL}
    layout: dict[str, Any] = {
        "use_dictionary": [name for name in table.column_names if name not in once],
        "write_statistics": [
            column.name for column in table.columns if column.type not in _WITHOUT_STATISTICS
        ],
    }
    if not table.large:
        return layout | {"compression": "zstd", "compression_level": 1}
    # What is left after dictionaries is random: ids and hashes. Zstandard takes half of their
    # bytes for half of the time that a run spends writing.
    return layout | {
        "compression": {
            column.name: "snappy" if column.type is ColumnType.NUMERIC else "none"
            for column in table.columns
        }
    }


_SELDOM_EQUAL: Final = {ColumnType.TIMESTAMP, ColumnType.NUMERIC}


_WITHOUT_STATISTICS: Final = {ColumnType.STRING, ColumnType.NUMERIC}


def read_staged(table: Table, files: Sequence[StagedFile]) -> pl.DataFrame:
    """Read back what is staged of a table."""
    frames = [table.empty_frame()]
    for staged in files:
        if staged.table == table.name:
            with FileSystems.open(
                staged.path, compression_type=CompressionTypes.UNCOMPRESSED
            ) as file:
                frames.append(table.conform(pl.read_parquet(file.read())))
    return pl.concat(frames)


def require_staged(files: list[StagedFile]) -> None:
    """Check what was staged against what was meant to be, by the files' own footers.

    Raises:
        RunError: A file is damaged or has other rows. (NULL in a required column it cannot have:
            such columns are written as not nullable.)
    """
    for staged in files:
        with FileSystems.open(staged.path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            footer = pq.read_metadata(file)
        if footer.num_rows != staged.rows:
            raise RunError(
                f"{staged.path}: staged with {staged.rows:,} rows, found {footer.num_rows:,}; "
                "nothing was published. Run again; if it happens again, check the storage."
            )
