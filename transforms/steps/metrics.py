"""The fourth stage: metrics, of what all shards add up to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

import apache_beam as beam
from apache_beam.pvalue import AsIter, TaggedOutput

from transforms.analytics.metrics.metric import Facts
from transforms.analytics.metrics.registry import PARTIALS, finish_metrics
from transforms.audit.checks import checked
from transforms.audit.merging import MERGES
from transforms.rules import Rules
from transforms.schema import TableBatch
from transforms.shuffle.coder import NamedFrame, Payload
from transforms.shuffle.combine import CombineFrames
from transforms.shuffle.partition import StoreFrames
from transforms.shuffle.stores import FrameStore, collect_frames
from transforms.steps.catalogue import read_catalogue
from transforms.steps.plan import Plan
from transforms.steps.sessions import read_calendar


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


@beam.typehints.with_output_types(TableBatch, checks=NamedFrame)
class ComputeMetrics(beam.DoFn):
    """Impulse → the metrics tables; on the tag `checks`, ("checks", CHECKED frame)."""

    CHECKS: Final = "checks"

    def __init__(self, rules: Rules, store: FrameStore) -> None:
        self._rules = rules
        self._store = store

    def process(
        self,
        _: object,
        partials: Iterable[Payload],
        catalogue: Iterable[Payload],
        dates: Iterable[Payload],
    ) -> Iterator[TableBatch | TaggedOutput[str, Any]]:
        """Compute all metrics."""
        facts = Facts(
            read_catalogue(self._store, catalogue),
            read_calendar(self._store, dates, self._rules.as_of),
            self._rules,
        )
        for table, rows, failures in finish_metrics(collect_frames(self._store, partials), facts):
            for name, failing in failures.items():
                yield TaggedOutput(self.CHECKS, ("checks", checked(table, name, failing)))
            yield table.name, rows, {}


class BuiltMetrics(NamedTuple):
    """What is made of the partial aggregates.

    Attributes:
        tables: Rows of the metrics tables.
        checks: ("checks", CHECKED frame) of rules between rows.
    """

    tables: beam.PCollection[TableBatch]
    checks: beam.PCollection[NamedFrame]


class BuildMetrics(beam.PTransform[Any, Any]):
    """Pipeline → `BuiltMetrics`.

    Args:
        plan: How frames cross.
        partials: `AddPartials` of all stages.
        catalogue: Payloads of the catalogue.
        dates: Payloads of the first and last date.
    """

    def __init__(
        self,
        plan: Plan,
        partials: beam.PCollection[Payload],
        catalogue: beam.PCollection[Payload],
        dates: beam.PCollection[Payload],
    ) -> None:
        super().__init__()
        self._plan = plan
        self._partials = partials
        self._catalogue = catalogue
        self._dates = dates

    def expand(self, pbegin: beam.Pipeline) -> BuiltMetrics:
        """Compute all metrics on one worker."""
        made = (
            pbegin
            | "Start" >> beam.Impulse()
            | "ComputeMetrics"
            >> beam.ParDo(
                ComputeMetrics(self._plan.run.rules, self._plan.store),
                AsIter(self._partials),
                AsIter(self._catalogue),
                AsIter(self._dates),
            ).with_outputs(ComputeMetrics.CHECKS, main="tables")
        )
        return BuiltMetrics(made.tables, made[ComputeMetrics.CHECKS])
