"""The catalogue: products and their categories, of the sums over their events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.pvalue import AsIter

from transforms.analytics.catalogue import (
    CATEGORY_CODES,
    PRODUCTS,
    Catalogue,
    catalogue,
    category_codes,
    category_table,
    combine_products,
    product_table,
)
from transforms.analytics.session_shard import PRODUCT_SUMS
from transforms.analytics.shard_keys import product_shard_key
from transforms.schema import TableBatch
from transforms.shuffle.coder import Group, NamedFrame, Payload
from transforms.shuffle.partition import GroupFrames
from transforms.shuffle.stores import FrameStore, collect_frames, store_frames
from transforms.steps.plan import Plan


@beam.typehints.with_output_types(Payload)
class CombineProducts(beam.DoFn):
    """Product sums of a product shard → payloads "products" and "category_codes"."""

    def __init__(self, store: FrameStore) -> None:
        self._store = store

    def process(self, element: Group) -> Iterator[Payload]:
        """Combine one shard."""
        sums = collect_frames(self._store, element[1])[PRODUCT_SUMS]
        yield from store_frames(
            self._store,
            {
                "products": combine_products(sums),
                "category_codes": category_codes(sums),
            },
        )


def read_catalogue(store: FrameStore, payloads: Iterable[Payload], *columns: str) -> Catalogue:
    """The catalogue, from what `CombineProducts` sent.

    Args:
        store: Where it is.
        payloads: What was sent.
        columns: Those of the products that are needed, `category_id` among them; none for all.
    """
    frames = collect_frames(store, payloads)
    found = frames.get("products", PRODUCTS.to_frame())
    return catalogue(
        found.select(columns or found.columns),
        frames.get("category_codes", CATEGORY_CODES.to_frame()),
    )


@beam.typehints.with_output_types(TableBatch)
class DescribeCatalogue(beam.DoFn):
    """Impulse → dim_products and dim_categories."""

    def __init__(self, store: FrameStore) -> None:
        self._store = store

    def process(self, _: object, payloads: Iterable[Payload]) -> Iterator[TableBatch]:
        """Describe all products and categories."""
        found = read_catalogue(self._store, payloads)
        yield "dim_products", product_table(found), {}
        yield "dim_categories", category_table(found), {}


class Catalogued(NamedTuple):
    """What is made of the products.

    Attributes:
        payloads: What `read_catalogue` takes.
        tables: Rows of dim_products and dim_categories.
    """

    payloads: beam.PCollection[Payload]
    tables: beam.PCollection[TableBatch]


class BuildCatalogue(beam.PTransform[Any, Any]):
    """PCollection[NamedFrame] of product sums → `Catalogued`.

    Args:
        plan: The numbers of shards.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self._plan = plan

    def expand(self, pcoll: beam.PCollection[NamedFrame]) -> Catalogued:
        """Combine by product, then describe all."""
        plan, store = self._plan, self._plan.store
        payloads = (
            pcoll
            | "ShuffleProducts"
            >> GroupFrames(plan.product_levels, {PRODUCT_SUMS: product_shard_key}, store)
            | "CombineProducts" >> beam.ParDo(CombineProducts(store))
        )
        tables = (
            pcoll.pipeline
            | "Start" >> beam.Impulse()
            | "DescribeCatalogue" >> beam.ParDo(DescribeCatalogue(store), AsIter(payloads))
        )
        return Catalogued(payloads, tables)
