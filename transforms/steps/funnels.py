"""Within the third stage: which values funnels are broken down by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import apache_beam as beam

from transforms.analytics.funnels import kept_values
from transforms.analytics.metrics.registry import PARTIALS
from transforms.shuffle.coder import NamedFrame, Payload
from transforms.shuffle.combine import CombineFrames
from transforms.shuffle.stores import FrameStore, store_all
from transforms.steps.plan import Plan

KEPT_VALUES_FRAME: Final = "kept_values"

_LEVELS: Final = "funnel_levels"


@beam.typehints.with_input_types(NamedFrame)
@beam.typehints.with_output_types(Payload)
class FindKeptValues(beam.DoFn):
    """Merged counts of entities by level → payloads of `kept_values`."""

    def __init__(self, store: FrameStore) -> None:
        self._store = store

    def process(self, element: NamedFrame) -> Iterator[Payload]:
        """Find them, also where there are none."""
        _, levels = element
        yield from store_all(self._store, {KEPT_VALUES_FRAME: kept_values(levels)})


class KeepValues(beam.PTransform[Any, Any]):
    """PCollection[NamedFrame] of partial aggregates of all entities → PCollection[Payload].

    Which values have most entities is known only of all, and needed where users are counted, of
    whom one may have several of the others.

    Args:
        plan: How frames cross.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self._plan = plan

    def expand(self, pcoll: beam.PCollection[NamedFrame]) -> beam.PCollection[Payload]:
        """Add up the levels, and find the values."""
        merges = {_LEVELS: PARTIALS[_LEVELS].merge}
        kept: beam.PCollection[Payload] = (
            pcoll
            | "Levels" >> beam.Filter(_is_of_levels).with_output_types(NamedFrame)
            | "Add" >> CombineFrames(merges, is_distributed=self._plan.is_distributed)
            | "FindKeptValues" >> beam.ParDo(FindKeptValues(self._plan.store))
        )
        return kept


def _is_of_levels(element: NamedFrame) -> bool:
    return element[0] == _LEVELS
