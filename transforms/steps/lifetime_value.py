"""Predicted lifetime value, of the purchases of all users.

The graph imports this module only where lifetime value is predicted: the libraries of its models
are slow to import.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import apache_beam as beam
from apache_beam.pvalue import AsIter, TaggedOutput

from transforms.analytics.clv import Split, split
from transforms.analytics.lifetime_value import (
    COUNT_MERGES,
    DECILES,
    SUM_MERGES,
    FittedModels,
    Merge,
    TestedModels,
    choose_model,
    customer_counts,
    decile_brackets,
    decile_candidates,
    decile_samples,
    first_of_deciles,
    first_purchase,
    fit_customers,
    group_tables,
    predictions,
    rank_predictions,
    sums_of_test,
)
from transforms.errors import RunError
from transforms.rules import ClvOptions, Rules
from transforms.schema import DIM_USER_CLV, TableBatch
from transforms.shuffle.coder import NamedFrame, Payload
from transforms.shuffle.combine import CombineFrames
from transforms.shuffle.partition import StoreFrames
from transforms.shuffle.stores import FrameStore, collect_frames, store_all, store_frames
from transforms.steps.plan import Plan
from transforms.steps.sessions import read_calendar
from transforms.steps.side_inputs import LOST, read_element, read_frame


@beam.typehints.with_output_types(dt.date)
class FindFirstPurchase(beam.DoFn):
    """A payload of `PURCHASE_HISTORIES` → the first purchase day of its users."""

    def __init__(self, store: FrameStore) -> None:
        self._store = store

    def process(self, element: Payload) -> Iterator[dt.date]:
        """Look at one payload."""
        yield first_purchase(self._store.read([element[1]]))


@beam.typehints.with_output_types(Split)
class SplitDays(beam.DoFn):
    """Impulse → the days of the fits and of the test: once."""

    def __init__(self, rules: Rules, store: FrameStore) -> None:
        self._rules = rules
        self._store = store

    def process(
        self, _: object, first: Iterable[dt.date], dates: Iterable[Payload]
    ) -> Iterator[Split]:
        """Split the days."""
        calendar = read_calendar(self._store, dates, self._rules.as_of)
        begin = next(iter(first), None)
        if begin is not None and calendar is None:
            raise RunError(LOST)
        as_of = self._rules.as_of if calendar is None else calendar.last
        yield split(begin, as_of, self._rules.clv)


@beam.typehints.with_output_types(NamedFrame)
class CountCustomers(beam.DoFn):
    """A payload of `PURCHASE_HISTORIES` → the frames of `customer_counts`."""

    def __init__(self, store: FrameStore) -> None:
        self._store = store

    def process(self, element: Payload, days: Iterable[Split]) -> Iterator[NamedFrame]:
        """Count the customers of one payload.

        Raises:
            RunError: The engine has lost a side input.
        """
        known = read_element(days)
        if known.first_purchase is None:  # this payload has a purchase
            raise RunError(LOST)
        yield from customer_counts(self._store.read([element[1]]), known).items()


@beam.typehints.with_output_types(FittedModels)
class FitModels(beam.DoFn):
    """Impulse → all models, fitted: once."""

    def __init__(self, store: FrameStore) -> None:
        self._store = store

    def process(
        self, _: object, counts: Iterable[Payload], days: Iterable[Split]
    ) -> Iterator[FittedModels]:
        """Fit the models.

        Raises:
            RunError: The engine has lost a side input.
        """
        known, found = read_element(days), collect_frames(self._store, counts)
        if known.first_purchase is not None and not found:
            raise RunError(LOST)
        yield fit_customers(found, known)


@beam.typehints.with_output_types(NamedFrame)
class TestModels(beam.DoFn):
    """A payload of `PURCHASE_HISTORIES` → the frames of `sums_of_test`."""

    __test__ = False  # no class of tests

    def __init__(self, store: FrameStore) -> None:
        self._store = store

    def process(self, element: Payload, fitted: Iterable[FittedModels]) -> Iterator[NamedFrame]:
        """Test the models on the users of one payload.

        Raises:
            RunError: The engine has lost a side input.
        """
        yield from sums_of_test(self._store.read([element[1]]), read_element(fitted)).items()


@beam.typehints.with_output_types(TestedModels, tables=TableBatch)
class ChooseModel(beam.DoFn):
    """Impulse → the model that predicts: once. On the tag `tables`, what the test says."""

    TABLES: Final = "tables"

    def __init__(self, options: ClvOptions, store: FrameStore) -> None:
        self._options = options
        self._store = store

    def process(
        self, _: object, sums: Iterable[Payload], fitted: Iterable[FittedModels]
    ) -> Iterator[TestedModels | TaggedOutput[str, Any]]:
        """Choose.

        Raises:
            RunError: The engine has lost a side input.
        """
        models, found = read_element(fitted), collect_frames(self._store, sums)
        if models.calibration.customers and not found:
            raise RunError(LOST)
        tested, tables = choose_model(found, models, self._options)
        for name, rows in tables.items():
            yield TaggedOutput(self.TABLES, (name, rows, {}))
        yield tested


@beam.typehints.with_output_types(Payload, samples=Payload)
class Predict(beam.DoFn):
    """A payload of `PURCHASE_HISTORIES` → payloads of `predictions`.

    On the tag `samples`, payloads of `decile_samples`.
    """

    SAMPLES: Final = "samples"

    def __init__(self, options: ClvOptions, store: FrameStore) -> None:
        self._options = options
        self._store = store

    def process(
        self, element: Payload, tested: Iterable[TestedModels]
    ) -> Iterator[Payload | TaggedOutput[str, Any]]:
        """Predict for the users of one payload.

        Raises:
            RunError: The engine has lost a side input.
        """
        predicted = predictions(self._store.read([element[1]]), read_element(tested), self._options)
        for name, frame in predicted.items():
            samples = {DECILES: decile_samples(name, frame)}
            for payload in store_frames(self._store, samples):
                yield TaggedOutput(self.SAMPLES, payload)
        yield from store_frames(self._store, predicted)


@beam.typehints.with_output_types(Payload)
class BracketDeciles(beam.DoFn):
    """Impulse → payloads "brackets" of `decile_brackets`: once."""

    def __init__(self, store: FrameStore) -> None:
        self._store = store

    def process(self, _: object, samples: Iterable[Payload]) -> Iterator[Payload]:
        """Bracket the deciles."""
        found = collect_frames(self._store, samples).get(DECILES)
        yield from store_all(self._store, {"brackets": decile_brackets(found)})


@beam.typehints.with_output_types(Payload)
class FindDecileCandidates(beam.DoFn):
    """A payload of predictions → payloads of `decile_candidates`."""

    def __init__(self, store: FrameStore) -> None:
        self._store = store

    def process(self, element: Payload, brackets: Iterable[Payload]) -> Iterator[Payload]:
        """Look at one payload.

        Raises:
            RunError: The engine has lost a side input.
        """
        name, payload = element
        within = read_frame(self._store, brackets, "brackets")
        found = decile_candidates(name, self._store.read([payload]), within)
        yield from store_frames(self._store, found)


@beam.typehints.with_output_types(Payload)
class ResolveDeciles(beam.DoFn):
    """Impulse → payloads "first" of `first_of_deciles`: once, a few keys."""

    def __init__(self, store: FrameStore) -> None:
        self._store = store

    def process(
        self, _: object, brackets: Iterable[Payload], candidates: Iterable[Payload]
    ) -> Iterator[Payload]:
        """Resolve the deciles.

        Raises:
            RunError: The engine has lost a side input.
        """
        within = read_frame(self._store, brackets, "brackets")
        found = collect_frames(self._store, candidates)
        if within.height and not found:
            raise RunError(LOST)
        yield from store_all(self._store, {"first": first_of_deciles(found, within)})


@beam.typehints.with_output_types(TableBatch, sums=NamedFrame)
class RankPredictions(beam.DoFn):
    """A payload of predictions → rows of dim_user_clv; on the tag `sums`, sums of groups."""

    SUMS: Final = "sums"

    def __init__(self, store: FrameStore) -> None:
        self._store = store

    def process(
        self, element: Payload, first: Iterable[Payload]
    ) -> Iterator[TableBatch | TaggedOutput[str, Any]]:
        """Rank the rows of one payload.

        Raises:
            RunError: The engine has lost a side input.
        """
        name, payload = element
        ranked = rank_predictions(
            name, self._store.read([payload]), read_frame(self._store, first, "first")
        )
        if ranked.users is not None:
            yield DIM_USER_CLV.name, ranked.users, {}
        for sums in ranked.sums.items():
            yield TaggedOutput(self.SUMS, sums)


@beam.typehints.with_output_types(TableBatch)
class DescribeGroups(beam.DoFn):
    """Impulse → metrics_clv_deciles and metrics_clv_predictions: once."""

    def __init__(self, store: FrameStore) -> None:
        self._store = store

    def process(
        self, _: object, sums: Iterable[Payload], tested: Iterable[TestedModels]
    ) -> Iterator[TableBatch]:
        """Make the tables.

        Raises:
            RunError: The engine has lost a side input.
        """
        models, found = read_element(tested), collect_frames(self._store, sums)
        if models.fitted.final.customers and not found:
            raise RunError(LOST)
        for name, rows in group_tables(found, models).items():
            yield name, rows, {}


class PredictedLifetimeValue(NamedTuple):
    """What is made of the purchases.

    Attributes:
        predictions: Rows of dim_user_clv.
        tables: Rows of the other tables of lifetime value, which are small.
    """

    predictions: beam.PCollection[TableBatch]
    tables: beam.PCollection[TableBatch]


class PredictLifetimeValue(beam.PTransform[Any, Any]):
    """PCollection[Payload] of `PURCHASE_HISTORIES` → `PredictedLifetimeValue`.

    What is known of all customers is resolved once and sent to where they are: days, parameters of
    the models, which of them predicts, and the bounds of the deciles.

    Args:
        plan: The rules.
        dates: Payloads of the first and last date.
    """

    def __init__(self, plan: Plan, dates: beam.PCollection[Payload]) -> None:
        super().__init__()
        self._plan = plan
        self._dates = dates

    def expand(self, pcoll: beam.PCollection[Payload]) -> PredictedLifetimeValue:
        """Fit, test, predict, rank."""
        rules, store = self._plan.run.rules, self._plan.store
        start = pcoll.pipeline | "Start" >> beam.Impulse()
        first = (
            pcoll
            | "FindFirstPurchase" >> beam.ParDo(FindFirstPurchase(store))
            | "Earliest" >> beam.CombineGlobally(min).without_defaults()
        )
        days = AsIter(
            start
            | "SplitDays" >> beam.ParDo(SplitDays(rules, store), AsIter(first), AsIter(self._dates))
        )
        counts = (
            pcoll
            | "CountCustomers" >> beam.ParDo(CountCustomers(store), days)
            | "AddCounts" >> self._add(COUNT_MERGES)
            | "StoreCounts" >> beam.ParDo(StoreFrames(store))
        )
        fitted = AsIter(start | "FitModels" >> beam.ParDo(FitModels(store), AsIter(counts), days))
        sums = (
            pcoll
            | "TestModels" >> beam.ParDo(TestModels(store), fitted)
            | "AddSums" >> self._add(SUM_MERGES)
            | "StoreSums" >> beam.ParDo(StoreFrames(store))
        )
        chosen = start | "ChooseModel" >> beam.ParDo(
            ChooseModel(rules.clv, store), AsIter(sums), fitted
        ).with_outputs(ChooseModel.TABLES, main="model")
        predicted = pcoll | "Predict" >> beam.ParDo(
            Predict(rules.clv, store), AsIter(chosen.model)
        ).with_outputs(Predict.SAMPLES, main="predictions")
        ranked = predicted.predictions | "RankPredictions" >> beam.ParDo(
            RankPredictions(store),
            AsIter(self._rank(predicted.predictions, predicted[Predict.SAMPLES])),
        ).with_outputs(RankPredictions.SUMS, main="tables")
        by_group = (
            ranked[RankPredictions.SUMS]
            | "AddGroups" >> self._add(SUM_MERGES)
            | "StoreGroups" >> beam.ParDo(StoreFrames(store))
        )
        groups = start | "DescribeGroups" >> beam.ParDo(
            DescribeGroups(store), AsIter(by_group), AsIter(chosen.model)
        )
        return PredictedLifetimeValue(
            ranked.tables,
            (chosen[ChooseModel.TABLES], groups) | "Tables" >> beam.Flatten(),
        )

    def _add(self, merges: Mapping[str, Merge]) -> CombineFrames:
        return CombineFrames(merges, is_distributed=self._plan.is_distributed)

    def _rank(
        self, predicted: beam.PCollection[Payload], samples: beam.PCollection[Payload]
    ) -> beam.PCollection[Payload]:
        """Payloads of the first key of each decile."""
        store = self._plan.store
        brackets = (
            predicted.pipeline
            | "StartBrackets" >> beam.Impulse()
            | "BracketDeciles" >> beam.ParDo(BracketDeciles(store), AsIter(samples))
        )
        candidates = predicted | "FindDecileCandidates" >> beam.ParDo(
            FindDecileCandidates(store), AsIter(brackets)
        )
        first: beam.PCollection[Payload] = (
            predicted.pipeline
            | "StartDeciles" >> beam.Impulse()
            | "ResolveDeciles"
            >> beam.ParDo(ResolveDeciles(store), AsIter(brackets), AsIter(candidates))
        )
        return first
