"""Staged Parquet: where the tables' batches are written before the audit."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Final, NamedTuple

import apache_beam as beam
import polars as pl
import pyarrow.parquet as pq
from apache_beam.coders import RowCoder, registry
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from transforms.errors import RunError
from transforms.quality import check_batch, measure_batch
from transforms.schema import TABLES_BY_NAME, Table
from transforms.shuffle import NamedFrame

_ROW_GROUP_ROWS: Final = 1 << 18


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


def stage(frame: pl.DataFrame, table: Table, directory: str) -> StagedFile:
    """Write a batch of a table as a Parquet file of its own.

    Every attempt writes under a new name; a file counts only where the manifest names it.

    Args:
        frame: The rows, as `Table.conform` gives them.
        table: Their table.
        directory: Staging folder of the run.
    """
    path = FileSystems.join(directory, table.name, f"{uuid.uuid4().hex}.parquet")
    with FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        # Level 1 halves the size at the price of Snappy.
        frame.write_parquet(
            file, compression="zstd", compression_level=1, row_group_size=_ROW_GROUP_ROWS
        )
    return StagedFile(table.name, path, frame.height)


def require_staged(files: list[StagedFile]) -> None:
    """Check what was staged against what was meant to be, by the files' own footers.

    Raises:
        RunError: A file is damaged, or has other rows, or NULL in a required column.
    """
    for staged in files:
        with FileSystems.open(
            staged.path, compression_type=CompressionTypes.UNCOMPRESSED
        ) as file:
            footer = pq.read_metadata(file)
        nulls = {
            column.path_in_schema
            for group in map(footer.row_group, range(footer.num_row_groups))
            for column in map(group.column, range(footer.num_columns))
            if column.statistics is not None and column.statistics.null_count
        }
        required = nulls.intersection(TABLES_BY_NAME[staged.table].required_columns)
        if footer.num_rows != staged.rows or required:
            raise RunError(
                f"{staged.path}: staged with {staged.rows:,} rows, found {footer.num_rows:,}"
                + (f" and NULL in {', '.join(sorted(required))}" if required else "")
                + "; nothing was published. Run again; if it happens again, check the storage."
            )


@beam.typehints.with_input_types(NamedFrame)
class StageTables(beam.DoFn):
    """NamedFrame of a table → StagedFile, and on the tag `audit` what the audit needs of it.

    The audit gets `checks` (CHECKED) and `measures` (MEASURED) frames.
    """

    AUDIT: Final = "audit"

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def process(self, element: NamedFrame) -> Iterator[StagedFile | beam.pvalue.TaggedOutput]:
        """Check and write one batch."""
        name, frame = element
        table = TABLES_BY_NAME[name]
        yield beam.pvalue.TaggedOutput(self.AUDIT, ("checks", check_batch(table, frame)))
        measures = measure_batch(table, frame)
        if measures.height:
            yield beam.pvalue.TaggedOutput(self.AUDIT, ("measures", measures))
        if frame.height:
            yield stage(frame, table, self._directory)
