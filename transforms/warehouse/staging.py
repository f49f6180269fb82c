"""Staged Parquet: where the tables' batches are written before the audit."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator, Sequence
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
        size: Its bytes.
    """

    table: str
    path: str
    rows: int
    size: int


registry.register_coder(StagedFile, RowCoder)


FILE_NAME: Final = r"(?:w-?\d+-)?(?:[A-Za-z0-9_-]+_)?[0-9a-f]{32}\.parquet"
"""What staged files are called, a regular expression; `window_of` reads the number behind `w`."""


WINDOW_DAYS: Final = 4000
"""Days of a window; the rows of a partitioned file are of one, because a load job of BigQuery may
fill no more partitions."""


_WINDOW: Final = re.compile(r"(?:.*/)?w(-?\d+)-[^/]*")


def window_of(path: str) -> int:
    """The window of the days in a staged file; 0 for a table without partitions."""
    found = _WINDOW.fullmatch(path)
    return 0 if found is None else int(found[1])


def arrow_table(
    frame: pl.DataFrame, table: Table, encoded: Encoded, *, is_of_today: bool = True
) -> pa.Table:
    """The rows of a table in Arrow, required columns not nullable.

    Args:
        frame: The rows, as `Table.conform` gives them, but for the encoded columns.
        table: Their table.
        encoded: The encoded columns.
        is_of_today: False where an earlier version made the rows, and may have lacked columns.
    """
    columns = [
        encoded[column.name]
        if column.name in encoded
        else frame[column.name].to_arrow(compat_level=COMPATIBLE)
        for column in table.columns
    ]
    fields = [
        pa.field(column.name, array.type, nullable=not (column.required and is_of_today))
        for column, array in zip(table.columns, columns, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def stage(
    frame: pl.DataFrame,
    table: Table,
    directory: str,
    encoded: Encoded | None = None,
    *,
    prefix: str = "",
    is_of_today: bool = True,
) -> StagedFile:
    """Write a batch of a table as a Parquet file of its own, and read back what its footer says.

    Every attempt writes under a new name; a file counts only where the manifest names it.

    Args:
        frame: The rows, as `Table.conform` gives them, but for the encoded columns.
        table: Their table.
        directory: Staging folder of the run.
        encoded: The encoded columns.
        prefix: What the file's name begins with.
        is_of_today: False where an earlier version made the rows, and may have lacked columns.

    Raises:
        RunError: The file does not hold the rows. (NULL in a required column it cannot have: such
            columns are written as not nullable.)
    """
    path = FileSystems.join(directory, table.name, f"{prefix}{uuid.uuid4().hex}.parquet")
    with FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        pq.write_table(
            arrow_table(frame, table, encoded or {}, is_of_today=is_of_today),
            file,
            # One row group a file and whole dictionaries: both are as large as a shard.
            row_group_size=max(1, frame.height),
            dictionary_pagesize_limit=1 << 30,
            store_schema=False,
            **_layout(table),
        )
    return StagedFile(table.name, path, frame.height, _require_rows(path, frame.height))


def _require_rows(path: str, rows: int) -> int:
    """Check a file that was just written by its own footer; return its bytes."""
    try:
        with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            found = f"{pq.read_metadata(file).num_rows:,} rows"
            size: int = file.seek(0, os.SEEK_END) or file.tell()
    except pa.ArrowInvalid as error:
        found = f"no Parquet ({error})"
    if found != f"{rows:,} rows":
        raise RunError(
            f"{path}: written with {rows:,} rows, read back with {found}; nothing was published. "
            "Run again; if it happens again, check the storage."
        )
    return size


def stage_batch(
    frame: pl.DataFrame, table: Table, directory: str, encoded: Encoded
) -> Iterator[StagedFile]:
    """Write a batch of a table, a partitioned one as a file for each window of its days.

    Args:
        frame: The rows, as `Table.conform` gives them, but for the encoded columns.
        table: Their table.
        directory: Staging folder of the run.
        encoded: The encoded columns.
    """
    if table.partition_by is None:
        yield stage(frame, table, directory, encoded)
        return
    windows = frame[table.partition_by].cast(pl.Int32) // WINDOW_DAYS
    found = windows.unique().sort().to_list()
    for window in found:
        if len(found) == 1:
            rows, texts = frame, encoded
        else:
            kept = windows == window
            rows = frame.filter(kept)
            texts = {name: array.filter(kept.to_arrow()) for name, array in encoded.items()}
        yield stage(rows, table, directory, texts, prefix=f"w{window}-")


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
