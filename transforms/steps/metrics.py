"""The fourth stage: metrics, of what all shards add up to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsIter

from transforms.analytics.metrics.metric import Facts
from transforms.analytics.metrics.registry import PARTIALS, metric_tables
from transforms.audit.merging import MERGES
from transforms.columnar.grouping import EVENT_SUMS
from transforms.schema import TableBatch
from transforms.shuffle.coder import NamedFrame, Payload
from transforms.shuffle.combine import CombineFrames
from transforms.shuffle.partition import StoreFrames
from transforms.shuffle.stores import FrameStore, collect_frames
from transforms.steps.catalogue import read_catalogue
from transforms.steps.plan import Plan


class AddPartials(beam.PTransform[Any, Any]):
    """PCollection[NamedFrame] of partial aggregates → PCollection[Payload], added up.

    Args:
        plan: How frames cross.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self._plan = plan

    def expand(self, pcoll: beam.PCollection[NamedFrame]) -> beam.PCollection[Payload]:
        """Merge the frames of each name."""
        merges = {**MERGES, **{name: partial.merge for name, partial in PARTIALS.items()}}
        merged: beam.PCollection[Payload] = (
            pcoll
            | "Add" >> CombineFrames(merges, is_distributed=self._plan.is_distributed)
            | "Store" >> beam.ParDo(StoreFrames(self._plan.store))
        )
        return merged


@beam.typehints.with_output_types(TableBatch)
class ComputeMetrics(beam.DoFn):
    """Impulse → the metrics tables."""

    def __init__(self, store: FrameStore) -> None:
        self._store = store

    def process(
        self, _: object, partials: Iterable[Payload], catalogue: Iterable[Payload]
    ) -> Iterator[TableBatch]:
        """Compute all metrics."""
        found = read_catalogue(self._store, catalogue, "category_id", *EVENT_SUMS)
        tables = metric_tables(collect_frames(self._store, partials), Facts(found))
        for name, frame in tables:
            yield name, frame, {}


class BuildMetrics(beam.PTransform[Any, Any]):
    """Pipeline → PCollection[TableBatch]: the metrics tables.

    Args:
        plan: How frames cross.
        partials: `AddPartials` of all stages.
        catalogue: Payloads of the catalogue.
    """

    def __init__(
        self,
        plan: Plan,
        partials: beam.PCollection[Payload],
        catalogue: beam.PCollection[Payload],
    ) -> None:
        super().__init__()
        self._plan = plan
        self._partials = partials
        self._catalogue = catalogue

    def expand(self, pbegin: beam.Pipeline) -> beam.PCollection[TableBatch]:
        """Compute all metrics on one worker."""
        tables: beam.PCollection[TableBatch] = (
            pbegin
            | "Start" >> beam.Impulse()
            | "ComputeMetrics"
            >> beam.ParDo(
                ComputeMetrics(self._plan.store), AsIter(self._partials), AsIter(self._catalogue)
            )
        )
        return tables
