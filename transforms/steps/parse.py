"""Ranges of the input to event batches."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

import apache_beam as beam
import polars as pl
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput

from transforms.audit.balance import counted
from transforms.ingest.files import InputRanges, read_blocks
from transforms.ingest.parsing import parse_block
from transforms.schema import REJECTED_ROWS, TableBatch
from transforms.shuffle.coder import NamedFrame
from transforms.steps.progress import Progress


@beam.typehints.with_input_types(InputRanges)
@beam.typehints.with_output_types(NamedFrame, rejected=TableBatch, counts=NamedFrame)
class ParseRanges(beam.DoFn):
    """InputRanges → ("events", event batch); on the tag `rejected`, ("rejected_rows", frame).

    On the tag `counts`: ("counts", COUNTED frame) of the rows read and rejected.
    """

    REJECTED: Final = "rejected"
    COUNTS: Final = "counts"

    def __init__(self, run_id: str, progress: Progress) -> None:
        self._run_id = run_id
        self._progress = progress
        self._rows_read = Metrics.counter(type(self), "rows_read")
        self._rows_rejected = Metrics.counter(type(self), "rows_rejected")
        self._bytes_read = Metrics.counter(type(self), "csv_bytes_read")
        self._milliseconds = Metrics.distribution(type(self), "parse_msec")

    def process(self, element: InputRanges) -> Iterator[NamedFrame | TaggedOutput[str, Any]]:
        """Parse ranges of files of one header, block by block."""
        header = element[0].file.header
        for block in read_blocks(element):
            started = time.monotonic()
            parsed = parse_block(block, header)
            self._milliseconds.update(int((time.monotonic() - started) * 1000))
            counts = {"rows_read": parsed.rows_read, "rejected": parsed.rejected.height}
            self._rows_read.inc(parsed.rows_read)
            self._bytes_read.inc(len(block))
            if parsed.rejected.height:
                self._rows_rejected.inc(parsed.rejected.height)
                for reason, rows in parsed.rejected.group_by("reason").len().iter_rows():
                    counts[reason] = rows
                    Metrics.counter(type(self), f"rows_rejected_{reason}").inc(rows)
                rejected = REJECTED_ROWS.conform(
                    parsed.rejected.with_columns(run_id=pl.lit(self._run_id))
                )
                yield TaggedOutput(self.REJECTED, (REJECTED_ROWS.name, rejected, {}))
            yield TaggedOutput(self.COUNTS, ("counts", counted(counts)))
            yield "session_names", parsed.session_names
            yield "events", parsed.events
            self._progress.add("parse", parsed.rows_read, len(block))
