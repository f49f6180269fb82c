"""Staged Parquet: where the tables' batches are written before the audit."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.coders import RowCoder, registry
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.pvalue import TaggedOutput

from transforms.columns import arrow_column
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


Encoded = dict[str, pa.Array]
"""Columns of text that are not in the frame, as Parquet will store them, by name."""

TableBatch = tuple[str, pl.DataFrame, Encoded]
"""Rows of a table, whole for any key: its name, the frame, its encoded columns."""


def dictionary_array(numbers: npt.NDArray[Any], texts: pl.Series) -> pa.Array:
    """A dictionary-encoded column whose distinct values are known.

    Parquet would otherwise hash every value to find them, at 70 ns each.

    Args:
        numbers: The row of each value in the texts, of 32 bits; −1 for NULL.
        texts: The values (String), each once: Parquet gives up a dictionary that repeats one.
    """
    indexes = numbers.view(np.int32)
    return pa.DictionaryArray.from_arrays(
        arrow_column(indexes, pa.int32(), indexes >= 0), texts.to_arrow(compat_level=_COMPATIBLE)
    )


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
        else frame[column.name].to_arrow(compat_level=_COMPATIBLE)
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


_COMPATIBLE: Final = pl.CompatLevel.oldest()
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
        name, frame, encoded = element
        table = TABLES_BY_NAME[name]
        yield TaggedOutput(self.AUDIT, ("checks", check_batch(table, frame, encoded)))
        measures = measure_batch(table, frame)
        if measures.height:
            yield TaggedOutput(self.AUDIT, ("measures", measures))
        if frame.height:
            yield stage(frame, table, self._directory, encoded)
