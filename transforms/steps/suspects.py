"""Products that may be of several brands or categories, found before sessions are processed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import apache_beam as beam
import numpy as np
import polars as pl
from apache_beam.pvalue import AsIter

from transforms.analytics.cleaning import (
    AMBIGUOUS,
    ambiguous_products,
    candidate_brands,
    multi_brand_products,
)
from transforms.analytics.session_shard import SuspectProducts
from transforms.analytics.shard_keys import product_shard_key
from transforms.audit.balance import counted
from transforms.audit.merging import MERGES
from transforms.columnar.key_index import with_room
from transforms.columnar.product_codes import PRODUCT_CODE, ProductFlags, columns_of, known_codes
from transforms.errors import RunError
from transforms.shuffle.coder import Group, NamedFrame, Payload, in_global_window
from transforms.shuffle.combine import CombineFrames, Merge
from transforms.shuffle.partition import GroupFrames, StoreFrames
from transforms.shuffle.stores import FrameStore, collect_frames
from transforms.steps.plan import Plan
from transforms.steps.side_inputs import LOST

ANSWERS: Final = "answers"
"""The name of a `COUNTED` frame of the shards that have answered."""


@beam.typehints.with_input_types(NamedFrame)
@beam.typehints.with_output_types(NamedFrame)
class ProductCodes(beam.DoFn):
    """Event batches → ("product_codes", frame): product codes in a bundle, each once."""

    def __init__(self) -> None:
        self._occurs = np.zeros(0, np.bool_)

    def start_bundle(self) -> None:
        """Begin with none."""
        self._occurs = np.zeros(0, np.bool_)

    def process(self, element: NamedFrame) -> None:
        """Take in a batch."""
        name, frame = element
        if name == "events":
            self._occurs = with_room(self._occurs, len(known_codes().product_id))
            self._occurs[frame[PRODUCT_CODE].to_numpy()] = True

    def finish_bundle(self) -> Iterator[Any]:
        """Send what was found."""
        yield in_global_window(("product_codes", columns_of(np.flatnonzero(self._occurs))))


@beam.typehints.with_output_types(NamedFrame)
class FindAmbiguousProducts(beam.DoFn):
    """Product codes of a product shard → ("ambiguous", frame): see `ambiguous_products`.

    Also `ANSWERS`, of each shard.
    """

    def __init__(self, store: FrameStore) -> None:
        self._store = store

    def process(self, element: Group) -> Iterator[NamedFrame]:
        """Look at one shard."""
        _, payloads = element
        product_codes = collect_frames(self._store, payloads).get("product_codes")
        if product_codes is not None:
            yield "ambiguous", ambiguous_products(product_codes)
        yield ANSWERS, counted({ANSWERS: 1})


@beam.typehints.with_output_types(NamedFrame)
class FindCandidateBrands(beam.DoFn):
    """Events of a session shard → ("brands", frame): see `candidate_brands`.

    Also `ANSWERS`, of each shard.
    """

    def __init__(self, product_shards: int, store: FrameStore) -> None:
        self._product_shards = product_shards
        self._store = store

    def start_bundle(self) -> None:
        """The candidates are read once a bundle."""
        self._candidates: ProductFlags | None = None

    def process(self, element: Group, ambiguous: Iterable[Payload]) -> Iterator[NamedFrame]:
        """Look at one shard, if any product needs it.

        Raises:
            RunError: The engine has lost what a shard has found.
        """
        if self._candidates is None:
            found = read_answers(self._store, ambiguous, self._product_shards)
            products = found.get("ambiguous", AMBIGUOUS.to_frame())
            self._candidates = ProductFlags(products.filter("many_brands")["product_id"])
        if self._candidates.products.len():
            _, payloads = element
            of_events = [payload for name, payload in payloads if name == "events"]
            if of_events:
                events = self._store.read_products(of_events, self._candidates)
                yield "brands", candidate_brands(events)
        yield ANSWERS, counted({ANSWERS: 1})


class ShardCounts(NamedTuple):
    """How many shards there are, each of which answers."""

    products: int
    sessions: int


def read_answers(
    store: FrameStore, payloads: Iterable[Payload], shards: int
) -> dict[str, pl.DataFrame]:
    """What shards have found, merged.

    Args:
        store: Where it is.
        payloads: A side input of it.
        shards: How many shards there are, each of which has answered.

    Raises:
        RunError: The engine has lost what some of them have found.
    """
    found = collect_frames(store, payloads)
    answers = found.pop(ANSWERS, counted({}))
    if answers["rows"].sum() != shards:
        raise RunError(LOST)
    return found


def read_suspects(
    store: FrameStore, ambiguous: Iterable[Payload], brands: Iterable[Payload], shards: ShardCounts
) -> SuspectProducts:
    """The suspect products, of what `FindAmbiguousProducts` and `FindCandidateBrands` found.

    Args:
        store: Where it is.
        ambiguous: What shards of products found.
        brands: What shards of sessions found.
        shards: How many shards of each there are.

    Raises:
        RunError: The engine has lost some of it.
    """
    found = read_answers(store, ambiguous, shards.products)
    products = found.get("ambiguous", AMBIGUOUS.to_frame())
    found = read_answers(store, brands, shards.sessions)
    confirmed = found.get("brands")
    multi_brand = (
        products["product_id"].clear() if confirmed is None else multi_brand_products(confirmed)
    )
    return SuspectProducts(
        ProductFlags(multi_brand), ProductFlags(products.filter("many_categories")["product_id"])
    )


def _together(frame: pl.DataFrame) -> pl.DataFrame:
    """Rows of which those of one shard are of no other."""
    return frame.rechunk()


def _distinct(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.unique()


_MERGES: Final[Mapping[str, Merge]] = {
    "ambiguous": _together,
    "brands": _distinct,
    ANSWERS: MERGES["counts"],
}


class Suspects(NamedTuple):
    """What was found of products.

    Attributes:
        ambiguous: Payloads "ambiguous" of `ambiguous_products`, and `ANSWERS`.
        brands: Payloads "brands" of `candidate_brands`, and `ANSWERS`.
        shards: How many shards have answered each.
    """

    ambiguous: beam.PCollection[Payload]
    brands: beam.PCollection[Payload]
    shards: ShardCounts


class FindSuspects(beam.PTransform[Any, Any]):
    """PCollection[NamedFrame] of event batches → `Suspects`.

    Args:
        plan: The numbers of shards.
        by_session: The same events by session: brands count only once duplicates are gone.
    """

    def __init__(self, plan: Plan, by_session: beam.PCollection[Group]) -> None:
        super().__init__()
        self._plan = plan
        self._by_session = by_session

    def expand(self, pcoll: beam.PCollection[NamedFrame]) -> Suspects:
        """Look at all product codes of each product, then at the events of those that differ."""
        plan, store = self._plan, self._plan.store
        shards = ShardCounts(plan.product_levels.shards, plan.session_levels.shards)
        ambiguous = (
            pcoll
            | "ProductCodes" >> beam.ParDo(ProductCodes())
            | "ShuffleProductCodes"
            >> GroupFrames(
                plan.product_levels, {"product_codes": product_shard_key}, store, with_empty=True
            )
            | "FindAmbiguousProducts" >> beam.ParDo(FindAmbiguousProducts(store))
            | "MergeAmbiguous" >> CombineFrames(_MERGES, is_distributed=plan.is_distributed)
            | "StoreAmbiguous" >> beam.ParDo(StoreFrames(store))
        )
        brands = (
            self._by_session
            | "FindCandidateBrands"
            >> beam.ParDo(FindCandidateBrands(shards.products, store), AsIter(ambiguous))
            | "MergeBrands" >> CombineFrames(_MERGES, is_distributed=plan.is_distributed)
            | "StoreBrands" >> beam.ParDo(StoreFrames(store))
        )
        return Suspects(ambiguous, brands, shards)
