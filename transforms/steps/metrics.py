"""The metrics tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import apache_beam as beam

from transforms.analytics.metrics.registry import metric_tables
from transforms.columnar.grouping import EVENT_SUMS
from transforms.schema import TableBatch
from transforms.shuffle.coder import Payload
from transforms.shuffle.stores import FrameStore, collect_frames
from transforms.steps.catalogue import read_catalogue


@beam.typehints.with_output_types(TableBatch)
class ComputeMetrics(beam.DoFn):
    """Impulse → the metrics_* tables."""

    def __init__(self, store: FrameStore) -> None:
        self._store = store

    def process(
        self, _: object, partials: Iterable[Payload], catalogue: Iterable[Payload]
    ) -> Iterator[TableBatch]:
        """Compute all metrics."""
        found = read_catalogue(self._store, catalogue, "category_id", *EVENT_SUMS)
        tables = metric_tables(collect_frames(self._store, partials), found)
        for name, frame in tables.items():
            yield name, frame, {}
