"""What is bought together: pairs of products, counted by shards of pairs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import apache_beam as beam
import polars as pl
from apache_beam.pvalue import AsIter

from transforms.analytics.product_pairs import (
    add_up_baskets,
    best_pairs,
    frequent_pairs,
    metrics_product_pairs,
)
from transforms.analytics.shard_keys import pair_shard_key
from transforms.rules import Rules
from transforms.schema import METRICS_PRODUCT_PAIRS, TableBatch
from transforms.shuffle.coder import Group, NamedFrame, Payload
from transforms.shuffle.combine import CombineFrames
from transforms.shuffle.partition import GroupFrames, StoreFrames
from transforms.shuffle.stores import FrameStore, collect_frames, take_frames
from transforms.steps.plan import Plan
from transforms.steps.side_inputs import read_frame

PRODUCT_PAIRS_FRAME: Final = "product_pairs"

PRODUCT_BASKETS_FRAME: Final = "product_baskets"

_BEST: Final = "best_pairs"


@beam.typehints.with_output_types(NamedFrame)
class CountPairs(beam.DoFn):
    """Counts of the pairs of a shard → ("best_pairs", `BEST_PAIRS` frame)."""

    def __init__(self, rules: Rules, store: FrameStore) -> None:
        self._rules = rules
        self._store = store

    def start_bundle(self) -> None:
        """The baskets are read once a bundle."""
        self._baskets: pl.DataFrame | None = None

    def process(self, element: Group, baskets: Iterable[Payload]) -> Iterator[NamedFrame]:
        """Count the pairs of one shard.

        Raises:
            RunError: The engine has lost a side input: what has pairs has baskets.
        """
        if self._baskets is None:
            self._baskets = read_frame(self._store, baskets, PRODUCT_BASKETS_FRAME)
        pairs = take_frames(self._store, element[1])[PRODUCT_PAIRS_FRAME]
        yield _BEST, frequent_pairs(pairs, self._baskets, self._rules.min_pair_baskets)


@beam.typehints.with_output_types(TableBatch)
class DescribePairs(beam.DoFn):
    """Impulse → metrics_product_pairs."""

    def __init__(self, store: FrameStore) -> None:
        self._store = store

    def process(
        self, _: object, pairs: Iterable[Payload], baskets: Iterable[Payload]
    ) -> Iterator[TableBatch]:
        """Describe all pairs.

        Raises:
            RunError: The engine has lost a side input: what has pairs has baskets.
        """
        best = collect_frames(self._store, pairs).get(_BEST)
        if best is None:
            yield METRICS_PRODUCT_PAIRS.name, METRICS_PRODUCT_PAIRS.empty_frame(), {}
            return
        of_all = read_frame(self._store, baskets, PRODUCT_BASKETS_FRAME)
        yield METRICS_PRODUCT_PAIRS.name, metrics_product_pairs(best, of_all), {}


class BuildProductPairs(beam.PTransform[Any, Any]):
    """PCollection[NamedFrame] of counts of pairs → PCollection[TableBatch].

    Args:
        plan: The rules.
        baskets: Counts of baskets, named `PRODUCT_BASKETS_FRAME`.
    """

    def __init__(self, plan: Plan, baskets: beam.PCollection[NamedFrame]) -> None:
        super().__init__()
        self._plan = plan
        self._baskets = baskets

    def expand(self, pcoll: beam.PCollection[NamedFrame]) -> beam.PCollection[TableBatch]:
        """Add up the baskets, count pairs by shard, keep the best of all."""
        plan, store = self._plan, self._plan.store
        baskets = (
            self._baskets
            | "AddBaskets"
            >> CombineFrames(
                {PRODUCT_BASKETS_FRAME: add_up_baskets}, is_distributed=plan.is_distributed
            )
            | "StoreBaskets" >> beam.ParDo(StoreFrames(store))
        )
        best = (
            pcoll
            | "ShufflePairs"
            >> GroupFrames(plan.product_levels, {PRODUCT_PAIRS_FRAME: pair_shard_key}, store)
            | "CountPairs" >> beam.ParDo(CountPairs(plan.run.rules, store), AsIter(baskets))
            | "BestPairs" >> CombineFrames({_BEST: best_pairs}, is_distributed=plan.is_distributed)
            | "StorePairs" >> beam.ParDo(StoreFrames(store))
        )
        tables: beam.PCollection[TableBatch] = (
            pcoll.pipeline
            | "Start" >> beam.Impulse()
            | "DescribePairs" >> beam.ParDo(DescribePairs(store), AsIter(best), AsIter(baskets))
        )
        return tables
