"""The first stage: ranges of the input become event batches, and rejected rows are judged."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, Final, NamedTuple

import apache_beam as beam
import polars as pl
from apache_beam.metrics import Metrics
from apache_beam.pvalue import AsIter, TaggedOutput

from transforms.analytics.null_words import NullWords
from transforms.audit.balance import PARSED_CHECKSUM, counted, require_few_rejected, total_counts
from transforms.audit.merging import MERGES
from transforms.audit.plausibility import null_word_count
from transforms.columnar.checksum import event_checksum
from transforms.ingest.batch import until
from transforms.ingest.files import InputRanges, read_blocks
from transforms.ingest.parsing import parse_block
from transforms.ingest.rejections import describe_examples, pick_examples
from transforms.schema import REJECTED_ROWS, TableBatch
from transforms.shuffle.coder import NamedFrame, Payload
from transforms.shuffle.combine import CombineFrames
from transforms.shuffle.partition import StoreFrames
from transforms.shuffle.stores import FrameStore, collect_frames, store_frames
from transforms.steps import counters
from transforms.steps.keep_warehouse import KeepWarehouse
from transforms.steps.plan import Plan
from transforms.steps.progress import Progress
from transforms.warehouse import in_bucket
from transforms.warehouse.rejected_file import write_rejected


@beam.typehints.with_input_types(InputRanges)
@beam.typehints.with_output_types(NamedFrame, rejected=TableBatch, counts=NamedFrame)
class ParseRanges(beam.DoFn):
    """InputRanges → ("events", event batch); on the tag `rejected`, ("rejected_rows", frame).

    On the tag `counts`: ("counts", COUNTED frame) of the rows read and rejected, and of those with
    words for NULL.
    """

    REJECTED: Final = "rejected"
    COUNTS: Final = "counts"

    def __init__(self, run_id: str, as_of: dt.date | None, progress: Progress) -> None:
        self._run_id = run_id
        self._as_of = as_of
        self._progress = progress
        self._rows_read = Metrics.counter(counters.PARSE, "rows_read")
        self._rows_rejected = Metrics.counter(counters.PARSE, "rows_rejected")
        self._bytes_read = Metrics.counter(counters.PARSE, "csv_bytes_read")
        self._milliseconds = Metrics.distribution(counters.PARSE, "parse_msec")

    def setup(self) -> None:
        """Begin with no product code looked at."""
        self._null_words = NullWords()

    def process(self, element: InputRanges) -> Iterator[NamedFrame | TaggedOutput[str, Any]]:
        """Parse ranges of files of one header, block by block."""
        header = element[0].file.header
        for block in read_blocks(element):
            started = time.monotonic()
            parsed = parse_block(block, header)
            self._milliseconds.update(int((time.monotonic() - started) * 1000))
            events = until(parsed.events, self._as_of)
            after = parsed.events.height - events.height
            counts = {
                "rows_read": parsed.rows_read,
                "rejected": parsed.rejected.height,
                "after_as_of": after,
                PARSED_CHECKSUM: event_checksum(events),
            }
            for column, rows in self._null_words.count(events, parsed.session_names).items():
                counts[null_word_count(column)] = rows
            if after:
                Metrics.counter(counters.PARSE, "rows_dropped_after_as_of").inc(after)
            self._rows_read.inc(parsed.rows_read)
            self._bytes_read.inc(len(block))
            if parsed.rejected.height:
                self._rows_rejected.inc(parsed.rejected.height)
                for reason, rows in parsed.rejected.group_by("reason").len().iter_rows():
                    counts[reason] = rows
                    Metrics.counter(counters.PARSE, f"rows_rejected_{reason}").inc(rows)
                rejected = REJECTED_ROWS.conform(
                    parsed.rejected.with_columns(run_id=pl.lit(self._run_id))
                )
                yield TaggedOutput(self.REJECTED, (REJECTED_ROWS.name, rejected, {}))
            yield TaggedOutput(self.COUNTS, ("counts", counted(counts)))
            yield "session_names", parsed.session_names
            yield "events", events
            self._progress.add("parse", parsed.rows_read, len(block))


@beam.typehints.with_output_types(Payload)
class StoreRejected(beam.DoFn):
    """("rejected_rows", frame) → payload "rejected_rows"."""

    def __init__(self, store: FrameStore) -> None:
        self._store = store

    def process(self, element: TableBatch) -> Iterator[Payload]:
        """Store the rows of a block."""
        yield from store_frames(self._store, {element[0]: element[1]})


class KeepRejected(beam.DoFn):
    """Impulse → the name of the file that holds all rejected rows, in the order of the input."""

    def __init__(self, path: str, store: FrameStore) -> None:
        self._path = path
        self._store = store

    def process(self, _: object, rejected: Iterable[Payload]) -> Iterator[str]:
        """Write the file.

        Raises:
            RunError: It cannot be written.
        """
        order = ("source_file", "byte_offset")

        def first_row(payload: bytes) -> tuple[str, int]:
            file, offset = self._store.read([payload]).select(order).min().row(0)
            return file, offset

        payloads = sorted((payload for _, payload in rejected), key=first_row)
        write_rejected((self._store.read([each]).sort(order) for each in payloads), self._path)
        yield self._path


class RequireFewRejected(beam.DoFn):
    """Impulse → one element, if few enough rows were rejected; the steps that wait for it go on."""

    def __init__(self, max_rejected_ratio: float, store: FrameStore) -> None:
        self._ratio = max_rejected_ratio
        self._store = store

    def process(
        self,
        _: object,
        counts: Iterable[Payload],
        examples: Iterable[Payload],
        kept_in: Iterable[str],
    ) -> Iterator[bool]:
        """Judge the counts of all ranges.

        Raises:
            RunError: Too many rows were rejected.
        """
        found = collect_frames(self._store, counts).get("counts", counted({}))
        shown = collect_frames(self._store, examples).get("examples", pl.DataFrame())
        require_few_rejected(
            total_counts(found),
            self._ratio,
            partial(describe_examples, shown),
            kept_in=next(iter(kept_in), None),
        )
        yield True


class RejectedExamples(beam.DoFn):
    """("rejected_rows", frame) → payload "examples": a row of each reason, for an error message."""

    def __init__(self, store: FrameStore) -> None:
        self._store = store

    def process(self, element: tuple[str, pl.DataFrame]) -> Iterator[Payload]:
        """Take a few rows."""
        for payload in self._store.put(pick_examples(element[1])):
            yield "examples", payload


class Parsed(NamedTuple):
    """What the first stage makes.

    Attributes:
        events: ("events", event batch) and ("session_names", `SESSION_NAMES` frame).
        rejected: ("rejected_rows", frame).
        counts: Payloads of ("counts", COUNTED frame): rows read and rejected.
        few_rejected: An element if few enough rows were rejected.
    """

    events: beam.PCollection[NamedFrame]
    rejected: beam.PCollection[TableBatch]
    counts: beam.PCollection[Payload]
    few_rejected: beam.PCollection[bool]


class Parse(beam.PTransform[Any, Any]):
    """Pipeline → `Parsed`.

    Args:
        plan: What to read.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self._plan = plan

    def expand(self, pbegin: beam.Pipeline) -> Parsed:
        """Read, parse, judge."""
        plan = self._plan
        parsed = (
            pbegin
            | "InputRanges" >> beam.Create(plan.ranges)
            | "SpreadRanges" >> beam.Reshuffle()
            | "ParseRanges"
            >> beam.ParDo(
                ParseRanges(plan.run.run_id, plan.run.rules.as_of, plan.progress)
            ).with_outputs(ParseRanges.REJECTED, ParseRanges.COUNTS, main="events")
        )
        counts = (
            parsed[ParseRanges.COUNTS]
            | "AddCounts" >> CombineFrames(MERGES, is_distributed=plan.is_distributed)
            | "StoreCounts" >> beam.ParDo(StoreFrames(plan.store))
        )
        if in_bucket(plan.run.output):
            _ = parsed[ParseRanges.COUNTS] | "KeepWarehouse" >> beam.ParDo(KeepWarehouse(plan.run))
        examples = parsed[ParseRanges.REJECTED] | "RejectedExamples" >> beam.ParDo(
            RejectedExamples(plan.store)
        ).with_output_types(Payload)
        few_rejected = (
            pbegin
            | "Start" >> beam.Impulse()
            | "RequireFewRejected"
            >> beam.ParDo(
                RequireFewRejected(plan.run.max_rejected_ratio, plan.store),
                AsIter(counts),
                AsIter(examples),
                self._keep(pbegin, parsed[ParseRanges.REJECTED]),
            ).with_output_types(bool)
        )
        return Parsed(parsed.events, parsed[ParseRanges.REJECTED], counts, few_rejected)

    def _keep(
        self, pbegin: beam.Pipeline, rejected: beam.PCollection[TableBatch]
    ) -> Iterable[str] | AsIter:
        """The file of all rejected rows, if one is asked for, as a side input: it comes first."""
        plan = self._plan
        if plan.run.rejected_to is None:
            return ()
        payloads = rejected | "StoreRejected" >> beam.ParDo(StoreRejected(plan.store))
        return AsIter(
            pbegin
            | "StartKeeping" >> beam.Impulse()
            | "KeepRejected"
            >> beam.ParDo(
                KeepRejected(plan.run.rejected_to, plan.store), AsIter(payloads)
            ).with_output_types(str)
        )
