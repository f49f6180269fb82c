"""Staged Parquet: where the tables' batches are written before the audit."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import apache_beam as beam
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.coders import RowCoder, registry
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.pvalue import TaggedOutput

from transforms.errors import RunError
from transforms.quality import check_batch, measure_batch
from transforms.schema import TABLES_BY_NAME, ColumnType, Table
from transforms.shuffle import NamedFrame


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


Dictionaries = dict[str, tuple[pl.Series, pl.Series]]
"""For text columns whose distinct values are known: the row (UInt32) of each value, the values."""

TableBatch = tuple[str, pl.DataFrame, Dictionaries]
"""Rows of a table, whole for any key: its name, the frame, the dictionaries of its columns."""


def arrow_table(frame: pl.DataFrame, table: Table, dictionaries: Dictionaries) -> pa.Table:
    """The rows of a table in Arrow: required columns not nullable, known dictionaries in place.

    Args:
        frame: The rows, as `Table.conform` gives them.
        table: Their table.
        dictionaries: For some of its columns; the column's text is then taken from there. Parquet
            would otherwise hash every value to find its dictionary, at 70 ns each.
    """
    columns = [
        pa.DictionaryArray.from_arrays(
            dictionaries[column.name][0].cast(pl.Int32).to_arrow(),
            dictionaries[column.name][1].to_arrow(compat_level=_COMPATIBLE),
        )
        if column.name in dictionaries
        else frame[column.name].to_arrow(compat_level=_COMPATIBLE)
        for column in table.columns
    ]
    fields = [
        pa.field(column.name, array.type, nullable=not column.required)
        for column, array in zip(table.columns, columns, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def stage(
    frame: pl.DataFrame, table: Table, directory: str, dictionaries: Dictionaries | None = None
) -> StagedFile:
    """Write a batch of a table as a Parquet file of its own.

    Every attempt writes under a new name; a file counts only where the manifest names it.

    Args:
        frame: The rows, as `Table.conform` gives them.
        table: Their table.
        directory: Staging folder of the run.
        dictionaries: Of some of the columns.
    """
    path = FileSystems.join(directory, table.name, f"{uuid.uuid4().hex}.parquet")
    # A value that occurs once needs no dictionary, nor the statistics that help no query.
    texts = {column.name for column in table.columns if column.type in _WITHOUT_STATISTICS}
    plain = {column.name for column in table.columns if column.type is ColumnType.TIMESTAMP}
    plain |= set(table.key if len(table.key) == 1 else ())
    with FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        pq.write_table(
            arrow_table(frame, table, dictionaries or {}),
            file,
            # Level 1 halves the size of Snappy's files at the same speed.
            compression="zstd",
            compression_level=1,
            use_dictionary=[name for name in table.column_names if name not in plain],
            write_statistics=[name for name in table.column_names if name not in texts],
            # One row group a file and whole dictionaries: both are as large as a shard.
            row_group_size=max(1, frame.height),
            dictionary_pagesize_limit=1 << 30,
            store_schema=False,
        )
    return StagedFile(table.name, path, frame.height)


_COMPATIBLE: Final = pl.CompatLevel.oldest()
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


@beam.typehints.with_input_types(TableBatch)
@beam.typehints.with_output_types(StagedFile, audit=NamedFrame)
class StageTables(beam.DoFn):
    """TableBatch → StagedFile, and on the tag `audit` what the audit needs of it.

    The audit gets `checks` (CHECKED) and `measures` (MEASURED) frames.
    """

    AUDIT: Final = "audit"

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def process(self, element: TableBatch) -> Iterator[StagedFile | TaggedOutput[str, Any]]:
        """Check and write one batch."""
        name, frame, dictionaries = element
        table = TABLES_BY_NAME[name]
        yield TaggedOutput(self.AUDIT, ("checks", check_batch(table, frame)))
        measures = measure_batch(table, frame)
        if measures.height:
            yield TaggedOutput(self.AUDIT, ("measures", measures))
        if frame.height:
            yield stage(frame, table, self._directory, dictionaries)
