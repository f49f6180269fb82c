"""Shards of sessions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput

from transforms.analytics.catalogue import ProductSums
from transforms.analytics.session_shard import (
    BY_USER,
    PARTIALS_OF_SESSIONS,
    PRODUCT_SUMS,
    TOUCHES_BY_USER,
    SuspectProducts,
    session_shard_frames,
)
from transforms.ingest.session_keys import SESSION_NAMES
from transforms.rules import Rules
from transforms.schema import TableBatch
from transforms.shuffle.coder import Group, NamedFrame, Payload, in_global_window
from transforms.shuffle.stores import FrameStore, take_frames
from transforms.steps.catalogue import read_suspects
from transforms.steps.progress import Progress


@beam.typehints.with_output_types(
    TableBatch, users=NamedFrame, touches=NamedFrame, products=NamedFrame, partials=NamedFrame
)
class ProcessSessionShards(beam.DoFn):
    """Events of a session shard → its tables; on tags, what goes on to users, products, metrics."""

    USERS: Final = "users"
    TOUCHES: Final = "touches"
    PRODUCTS: Final = "products"
    PARTIALS: Final = "partials"

    def __init__(self, rules: Rules, store: FrameStore, progress: Progress) -> None:
        self._rules = rules
        self._store = store
        self._progress = progress
        self._rows = {
            "fct_events": Metrics.counter(type(self), "events_kept"),
            "fct_sessions": Metrics.counter(type(self), "sessions"),
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
            self._suspects = read_suspects(self._store, ambiguous, brands)
        received = take_frames(self._store, payloads)
        events = received.pop("events")
        tables, frames = session_shard_frames(
            events,
            received.get("session_names", SESSION_NAMES.to_frame()),
            self._suspects,
            self._product_sums,
            timeout_seconds=self._rules.session_timeout_seconds,
            shard=shard,
        )
        for table, rows, _ in tables:
            self._rows[table].inc(rows.height)
        for count, rows in frames["counts"].iter_rows():
            if count != "events_kept":
                Metrics.counter(type(self), f"rows_dropped_{count}").inc(rows)
        read = events.height
        del events, received
        while tables:
            yield tables.pop(0)
        for tag, names in (
            (self.USERS, BY_USER),
            (self.TOUCHES, TOUCHES_BY_USER),
            (self.PARTIALS, PARTIALS_OF_SESSIONS),
        ):
            for name in names:
                yield TaggedOutput(tag, (name, frames.pop(name)))
        self._progress.add("sessionize", read)

    def finish_bundle(self) -> Iterator[Any]:
        """Send the sums: most shards know most products."""
        sums = (PRODUCT_SUMS, self._product_sums.frame())
        yield TaggedOutput(self.PRODUCTS, in_global_window(sums))
