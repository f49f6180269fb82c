"""Products that may be of several brands or categories, found before sessions are processed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import AsIter

from transforms.analytics.cleaning import ambiguous_products, candidate_brands, multi_brand_products
from transforms.analytics.session_shard import SuspectProducts
from transforms.analytics.shard_keys import product_shard_key
from transforms.columnar.key_index import with_room
from transforms.columnar.product_codes import VARIANT, ProductFlags, columns_of, known_variants
from transforms.errors import RunError
from transforms.shuffle.coder import Group, NamedFrame, Payload, in_global_window
from transforms.shuffle.partition import GroupFrames
from transforms.shuffle.stores import FrameStore, collect_frames
from transforms.steps.plan import Plan


@beam.typehints.with_input_types(NamedFrame)
@beam.typehints.with_output_types(NamedFrame)
class ProductVariants(beam.DoFn):
    """Event batches → ("variants", frame): products' variants in a bundle, each once."""

    def __init__(self) -> None:
        self._occurs = np.zeros(0, np.bool_)

    def start_bundle(self) -> None:
        """Begin with none."""
        self._occurs = np.zeros(0, np.bool_)

    def process(self, element: NamedFrame) -> None:
        """Take in a batch."""
        name, frame = element
        if name == "events":
            self._occurs = with_room(self._occurs, len(known_variants().product_id))
            self._occurs[frame[VARIANT].to_numpy()] = True

    def finish_bundle(self) -> Iterator[Any]:
        """Send what was found."""
        yield in_global_window(("variants", columns_of(np.flatnonzero(self._occurs))))


@beam.typehints.with_output_types(Payload)
class FindAmbiguousProducts(beam.DoFn):
    """Variants of a product shard → payload "ambiguous": see `ambiguous_products`."""

    def __init__(self, store: FrameStore) -> None:
        self._store = store

    def process(self, element: Group) -> Iterator[Payload]:
        """Look at one shard."""
        _, payloads = element
        found = ambiguous_products(collect_frames(self._store, payloads)["variants"])
        # Also where nothing is found: that no shard has answered is then known to be a fault.
        for payload in self._store.put(found):
            yield "ambiguous", payload


@beam.typehints.with_output_types(Payload)
class FindCandidateBrands(beam.DoFn):
    """Events of a session shard → payload "brands": see `candidate_brands`."""

    def __init__(self, store: FrameStore) -> None:
        self._store = store

    def start_bundle(self) -> None:
        """The candidates are read once a bundle."""
        self._candidates: ProductFlags | None = None

    def process(self, element: Group, ambiguous: Iterable[Payload]) -> Iterator[Payload]:
        """Look at one shard, if any product needs it."""
        if self._candidates is None:
            found = collect_frames(self._store, ambiguous).get("ambiguous")
            if found is None:
                return  # lost by the engine, as `read_suspects` will find
            self._candidates = ProductFlags(found.filter("many_brands")["product_id"])
        if self._candidates.products.len():
            _, payloads = element
            events = self._store.read_variants(
                [payload for name, payload in payloads if name == "events"], self._candidates
            )
            for payload in self._store.put(candidate_brands(events)):
                yield "brands", payload


def read_suspects(
    store: FrameStore, ambiguous: Iterable[Payload], brands: Iterable[Payload]
) -> SuspectProducts:
    """The suspect products, of what `FindAmbiguousProducts` and `FindCandidateBrands` found.

    Raises:
        RunError: The engine has lost one of them.
    """
    found = collect_frames(store, ambiguous).get("ambiguous")
    confirmed = collect_frames(store, brands).get("brands")
    if found is None or (confirmed is None and found["many_brands"].any()):
        raise RunError(LOST)
    multi_brand = (
        found["product_id"].clear() if confirmed is None else multi_brand_products(confirmed)
    )
    return SuspectProducts(
        ProductFlags(multi_brand), ProductFlags(found.filter("many_categories")["product_id"])
    )


LOST: Final = (
    "the engine lost a side input, so the tables would be wrong; nothing was published. Run again; "
    "if it happens again, choose another --runner."
)


class Suspects(NamedTuple):
    """What was found of products.

    Attributes:
        ambiguous: Payloads "ambiguous" of `ambiguous_products`.
        brands: Payloads "brands" of `candidate_brands`.
    """

    ambiguous: beam.PCollection[Payload]
    brands: beam.PCollection[Payload]


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
        """Look at all variants of each product, then at the events of those that differ."""
        plan, store = self._plan, self._plan.store
        ambiguous = (
            pcoll
            | "ProductVariants" >> beam.ParDo(ProductVariants())
            | "ShuffleVariants"
            >> GroupFrames(plan.product_shards, {"variants": product_shard_key}, store)
            | "FindAmbiguousProducts" >> beam.ParDo(FindAmbiguousProducts(store))
        )
        brands = self._by_session | "FindCandidateBrands" >> beam.ParDo(
            FindCandidateBrands(store), AsIter(ambiguous)
        )
        return Suspects(ambiguous, brands)
