"""The second stage: the events of a shard are cleaned and cut into sessions."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.pvalue import AsIter, TaggedOutput

from transforms.analytics.calendar import Calendar, calendar_of
from transforms.analytics.catalogue import ProductSums
from transforms.analytics.product_pairs import BasketCounts
from transforms.analytics.session_shard import (
    BY_USER,
    EXPOSURES_BY_USER,
    PRODUCT_SUMS,
    SuspectProducts,
    merge_dates,
    session_shard,
)
from transforms.audit.balance import ARRIVED_CHECKSUM, DROP_REASONS, counted
from transforms.audit.checks import checked
from transforms.columnar.checksum import event_checksum
from transforms.ingest.session_keys import SESSION_NAMES
from transforms.rules import Rules
from transforms.schema import METRICS_PRODUCT_PAIRS, Severity, TableBatch
from transforms.shuffle.coder import Group, NamedFrame, Payload, in_global_window
from transforms.shuffle.combine import CombineFrames
from transforms.shuffle.partition import StoreFrames
from transforms.shuffle.stores import FrameStore, collect_frames, take_frames
from transforms.steps import counters
from transforms.steps.plan import Plan
from transforms.steps.product_pairs import PRODUCT_BASKETS_FRAME, PRODUCT_PAIRS_FRAME
from transforms.steps.progress import Progress
from transforms.steps.suspects import ShardCounts, Suspects, read_suspects


@beam.typehints.with_output_types(
    TableBatch,
    by_user=NamedFrame,
    exposures=NamedFrame,
    products=NamedFrame,
    partials=NamedFrame,
    dates=NamedFrame,
    pairs=NamedFrame,
    baskets=NamedFrame,
)
class ProcessSessionShards(beam.DoFn):
    """Events of a session shard → its tables; on tags, what goes on to users, products, metrics."""

    BY_USER: Final = "by_user"
    EXPOSURES: Final = "exposures"
    PRODUCTS: Final = "products"
    PARTIALS: Final = "partials"
    DATES: Final = "dates"
    PAIRS: Final = "pairs"
    BASKETS: Final = "baskets"

    def __init__(
        self, rules: Rules, shards: ShardCounts, store: FrameStore, progress: Progress
    ) -> None:
        self._rules = rules
        self._shards = shards
        self._store = store
        self._progress = progress
        self._rows = {
            "fct_events": Metrics.counter(counters.SESSIONS, "events_kept"),
            "fct_sessions": Metrics.counter(counters.SESSIONS, "sessions"),
        }

    def start_bundle(self) -> None:
        """Begin without sums; the suspect products are read once a bundle."""
        self._product_sums = ProductSums()
        self._suspects: SuspectProducts | None = None

    def process(
        self,
        element: Group,
        ambiguous: Iterable[Payload],
        brands: Iterable[Payload],
        few_rejected: Iterable[bool],
    ) -> Iterator[TableBatch | TaggedOutput[str, Any]]:
        """Process one shard.

        Raises:
            RunError: The engine has lost a side input.
        """
        if not any(few_rejected):
            # The run has failed, for a better reason than what else may be missing here. (Were it
            # only lost, the audit would miss the rows of this shard.)
            return
        shard, payloads = element
        if self._suspects is None:
            self._suspects = read_suspects(self._store, ambiguous, brands, self._shards)
        received = take_frames(self._store, payloads)
        events = received.pop("events", None)
        if events is None:
            return
        read, checksum = events.height, event_checksum(events)
        made = session_shard(
            events,
            received.get("session_names", SESSION_NAMES.to_frame()),
            self._suspects,
            self._product_sums,
            rules=self._rules,
            shard=shard,
        )
        del events, received
        for table, rows, _ in made.tables:
            self._rows[table].inc(rows.height)
        for reason in (reason for reason in DROP_REASONS if reason in made.counts):
            Metrics.counter(counters.SESSIONS, f"rows_dropped_{reason}").inc(made.counts[reason])
        while made.tables:
            yield made.tables.pop(0)
        for tag, names in ((self.BY_USER, BY_USER), (self.EXPOSURES, EXPOSURES_BY_USER)):
            for name in (name for name in names if name in made.by_user):
                yield TaggedOutput(tag, (name, made.by_user.pop(name)))
        yield TaggedOutput(self.DATES, ("dates", made.dates))
        yield TaggedOutput(
            self.PARTIALS, ("counts", counted(made.counts | {ARRIVED_CHECKSUM: checksum}))
        )
        for partial in made.partials.items():
            yield TaggedOutput(self.PARTIALS, partial)
        yield from self._of_baskets(made.baskets)
        self._progress.add("sessionize", read)

    def _of_baskets(self, found: BasketCounts | None) -> Iterator[TaggedOutput[str, Any]]:
        """What is counted of baskets, and, as a warning, those that are too large to be."""
        if found is None:
            return
        yield TaggedOutput(self.PAIRS, (PRODUCT_PAIRS_FRAME, found.pairs))
        yield TaggedOutput(self.BASKETS, (PRODUCT_BASKETS_FRAME, found.baskets))
        skipped = checked(METRICS_PRODUCT_PAIRS, "baskets_are_paired", found.skipped, Severity.WARN)
        yield TaggedOutput(self.PARTIALS, ("checks", skipped))

    def finish_bundle(self) -> Iterator[Any]:
        """Send the sums: most shards know most products."""
        sums = (PRODUCT_SUMS, self._product_sums.frame())
        yield TaggedOutput(self.PRODUCTS, in_global_window(sums))


class ProcessedSessions(NamedTuple):
    """What the second stage makes.

    Attributes:
        tables: Rows of fct_events and fct_sessions.
        by_user: The frames of `BY_USER`.
        exposures: The frames of `EXPOSURES_BY_USER`.
        products: (`PRODUCT_SUMS`, frame).
        partials: Partial aggregates, and "counts".
        dates: Payloads of `SessionShard.dates` of all shards.
        pairs: Counts of pairs of products; none where what sells is left out.
        baskets: Counts of baskets; likewise.
    """

    tables: beam.PCollection[TableBatch]
    by_user: beam.PCollection[NamedFrame]
    exposures: beam.PCollection[NamedFrame]
    products: beam.PCollection[NamedFrame]
    partials: beam.PCollection[NamedFrame]
    dates: beam.PCollection[Payload]
    pairs: beam.PCollection[NamedFrame]
    baskets: beam.PCollection[NamedFrame]


class ProcessSessions(beam.PTransform[Any, Any]):
    """PCollection[Group] of events by session → `ProcessedSessions`.

    Args:
        plan: The rules.
        suspects: Products to treat in a way of their own.
        few_rejected: An element if the run may go on.
    """

    def __init__(
        self, plan: Plan, suspects: Suspects, few_rejected: beam.PCollection[bool]
    ) -> None:
        super().__init__()
        self._plan = plan
        self._suspects = suspects
        self._few_rejected = few_rejected

    def expand(self, pcoll: beam.PCollection[Group]) -> ProcessedSessions:
        """Process each shard."""
        plan, step = self._plan, ProcessSessionShards
        made = pcoll | "ProcessShards" >> beam.ParDo(
            step(plan.run.rules, self._suspects.shards, plan.store, plan.progress),
            AsIter(self._suspects.ambiguous),
            AsIter(self._suspects.brands),
            AsIter(self._few_rejected),
        ).with_outputs(
            *(step.BY_USER, step.EXPOSURES, step.PRODUCTS, step.PARTIALS, step.DATES),
            *(step.PAIRS, step.BASKETS),
            main="tables",
        )
        dates = (
            made[step.DATES]
            | "AddDates"
            >> CombineFrames({"dates": merge_dates}, is_distributed=plan.is_distributed)
            | "StoreDates" >> beam.ParDo(StoreFrames(plan.store))
        )
        return ProcessedSessions(
            made.tables,
            made[step.BY_USER],
            made[step.EXPOSURES],
            made[step.PRODUCTS],
            made[step.PARTIALS],
            dates,
            made[step.PAIRS],
            made[step.BASKETS],
        )


def read_calendar(
    store: FrameStore, dates: Iterable[Payload], as_of: dt.date | None
) -> Calendar | None:
    """The calendar of a run, of `ProcessedSessions.dates`; None where no event was kept."""
    found = collect_frames(store, dates).get("dates")
    return None if found is None else calendar_of(found, as_of)
