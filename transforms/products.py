"""Products and categories: what a session shard knows of them, dim_products and dim_categories."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numba import types

from transforms.events import (
    EVENT_SUMS,
    NO_ID,
    add_event,
    codes,
    sums_of_arrays,
    without_nulls,
)
from transforms.exact import Halves, add_money, halves_of_money
from transforms.kernels import AHEAD, Bytes, Integers, Numbers, filled, given, kernel, prefetch
from transforms.numbering import number_keys, with_room
from transforms.schema import (
    CATEGORY_LEVELS,
    DIM_CATEGORIES,
    DIM_PRODUCTS,
    UNKNOWN_CATEGORY,
)
from transforms.variants import Variants


@dataclass(frozen=True)
class IndexedProducts:
    """The products of a session shard's events.

    Attributes:
        index: The row of `text` of each event's product (UInt32).
        text: The product_ids, each once.
        sums: One row per product and (`brand`, `category_id`, `category_code`), with `product_id`
            and `EVENT_SUMS`.
    """

    index: pl.Series
    text: pl.Series
    sums: pl.DataFrame


_VARIANT = ("product_id", "brand", "category_id", "category_code")
_OF_TEXTS, _OF_CATEGORY, _EARLIER = range(len(EVENT_SUMS) - 1, len(EVENT_SUMS) + 2)
"""Columns behind the counts: brand and category_code, category_id, the product's variant before."""


def index_products(events: pl.DataFrame) -> IndexedProducts:
    """Find the products of kept events and sum over their variants."""
    index, first_events = number_keys(events["product_id"].to_numpy())
    first_of_variants = np.empty(events.height, np.uint32)
    sums = np.empty((events.height, _EARLIER + 1), np.int64)
    revenue = np.empty((events.height, 2), np.uint64)
    count = _sum_variants(
        index,
        len(first_events),
        codes(events["brand"]),
        codes(events["category_code"]),
        without_nulls(events["category_id"], NO_ID),
        events["event_type"].to_physical().to_numpy(),
        halves_of_money(events["price"]),
        first_of_variants,
        sums,
        revenue,
    )
    return IndexedProducts(
        pl.Series(index),
        events["product_id"].gather(first_events).cast(pl.String),
        events[list(_VARIANT)][first_of_variants[:count]].with_columns(
            *sums_of_arrays(sums[:count], revenue[:count])
        ),
    )


@kernel(
    types.int64(
        given(types.uint32),
        types.int64,
        given(types.uint32),
        given(types.uint32),
        given(types.int64),
        given(types.uint8),
        given(types.uint64, 2),
        filled(types.uint32),
        filled(types.int64, 2),
        filled(types.uint64, 2),
    )
)
def _sum_variants(
    products: Numbers,
    product_count: int,
    brands: Numbers,
    codes: Numbers,
    categories: Integers,
    event_types: Bytes,
    prices: Halves,
    firsts: Numbers,
    sums: Integers,
    revenue: Halves,
) -> int:
    """Sum over the variants of products.

    Args:
        products: Each event's product, by its number.
        product_count: Number of products.
        brands: Codes.
        codes: Codes of category_code.
        categories: Ids.
        event_types: Numbers of `EVENT_TYPES`.
        prices: Low and high half.
        firsts: Filled with the first event of each variant.
        sums: Filled for each variant: events, then those of each type, and what tells variants
            apart, all on one cache line.
        revenue: Filled for each variant.

    Returns:
        The number of variants.
    """
    found = 0
    latest = np.full(product_count, -1, np.int64)
    for row in range(len(products)):
        ahead = latest[products[min(row + AHEAD, len(products) - 1)]]
        if ahead >= 0:
            prefetch(sums, ahead * sums.shape[1])
        texts = np.int64(brands[row]) << 32 | codes[row]
        variant = latest[products[row]]
        while variant >= 0 and not (
            sums[variant, _OF_TEXTS] == texts and sums[variant, _OF_CATEGORY] == categories[row]
        ):
            variant = sums[variant, _EARLIER]
        if variant < 0:
            variant = found
            found += 1
            firsts[variant] = row
            sums[variant] = 0
            sums[variant, _OF_TEXTS] = texts
            sums[variant, _OF_CATEGORY] = categories[row]
            sums[variant, _EARLIER] = latest[products[row]]
            latest[products[row]] = variant
            revenue[variant] = 0
        add_event(sums, revenue, variant, event_types, prices, row)
    return found


class ProductSums:
    """Adds up the `IndexedProducts.sums` of any number of session shards."""

    def __init__(self) -> None:
        self._variants = Variants(_VARIANT)
        self._sums = np.zeros((0, len(EVENT_SUMS) - 1), np.int64)
        self._revenue = np.zeros((0, 2), np.uint64)

    @property
    def count(self) -> int:
        """The variants so far."""
        return self._variants.count

    def add(self, shard: pl.DataFrame) -> None:
        """Take in the sums of a shard."""
        numbers = self._variants.add(shard)
        if self.count > len(self._sums):
            self._sums = with_room(self._sums, self.count)
            self._revenue = with_room(self._revenue, self.count)
        counts = np.ascontiguousarray(shard.select(EVENT_SUMS[:-1]).to_numpy())
        _add_rows(numbers, counts, halves_of_money(shard["revenue"]), self._sums, self._revenue)

    def frame(self) -> pl.DataFrame:
        """The sums over all of them, as those of a shard."""
        return self._variants.frame().with_columns(
            *sums_of_arrays(self._sums[: self.count], self._revenue[: self.count])
        )


@kernel(
    types.void(
        given(types.uint32),
        given(types.int64, 2),
        given(types.uint64, 2),
        filled(types.int64, 2),
        filled(types.uint64, 2),
    )
)
def _add_rows(
    numbers: Numbers,
    counts: Integers,
    money: Halves,
    sums: Integers,
    revenue: Halves,
) -> None:
    """Add each row of counts and money to the sums of its number."""
    for row in range(len(numbers)):
        ahead = np.int64(numbers[min(row + AHEAD, len(numbers) - 1)])
        prefetch(sums, ahead * sums.shape[1])
        prefetch(revenue, ahead * revenue.shape[1])
        for column in range(counts.shape[1]):
            sums[numbers[row], column] += counts[row, column]
        add_money(revenue, numbers[row], money, row)


def combine_products(sums: pl.DataFrame) -> pl.DataFrame:
    """Combine the partial aggregates of the products of one shard.

    Args:
        sums: `IndexedProducts.sums` of all session shards.

    Returns:
        One row per product: `product_id`, `brand` and `category_id` of its most frequent pair
        (ties: the first brand, then the first category_id, NULL last), and `EVENT_SUMS`.
    """
    pairs = (
        sums.with_columns(pl.col("brand").cast(pl.String))
        .group_by("product_id", "brand", "category_id")
        .agg(pl.col("events").sum())
        .sort(
            "product_id",
            "events",
            "brand",
            "category_id",
            descending=[False, True, False, False],
            nulls_last=True,
        )
        .unique("product_id", keep="first", maintain_order=True)
        .drop("events")
    )
    return pairs.join(
        sums.group_by("product_id").agg(pl.col(EVENT_SUMS).sum()), on="product_id", how="left"
    )


def category_codes(sums: pl.DataFrame) -> pl.DataFrame:
    """Events by category and code.

    Args:
        sums: `IndexedProducts.sums`, or what this function returned, of any number of shards.

    Returns:
        One row per (`category_id`, `category_code`) with `events`; category_id is not NULL.
    """
    return (
        sums.filter(pl.col("category_id").is_not_null())
        .with_columns(pl.col("category_code").cast(pl.String))
        .group_by("category_id", "category_code")
        .agg(pl.col("events").sum())
    )


@dataclass(frozen=True)
class Catalogue:
    """The shop's products and categories; they fit on one worker.

    Attributes:
        products: `combine_products` of all shards with `category_code` and the category levels.
        categories: One row per `category_id` with `category_code` and the category levels.
    """

    products: pl.DataFrame
    categories: pl.DataFrame


def catalogue(products: pl.DataFrame, codes: pl.DataFrame) -> Catalogue:
    """Give categories their codes and products their categories.

    Args:
        products: `combine_products` of all shards.
        codes: `category_codes` of all shards.
    """
    categories = (
        category_codes(codes)
        # Any code goes before none, however frequent none is.
        .sort(
            pl.col("category_code").is_null(),
            pl.col("events"),
            "category_code",
            descending=[False, True, False],
        )
        .unique("category_id", keep="first", maintain_order=True)
        .sort("category_id")
        .select("category_id", "category_code", *_levels())
    )
    return Catalogue(
        products.join(categories, on="category_id", how="left").sort("product_id"), categories
    )


def _levels() -> list[pl.Expr]:
    """The parts of the dotted `category_code`."""
    parts = pl.col("category_code").str.split(".")
    return [
        parts.list.get(position, null_on_oob=True).alias(level)
        for position, level in enumerate(CATEGORY_LEVELS)
    ]


def product_table(found: Catalogue) -> pl.DataFrame:
    """The rows of dim_products."""
    return DIM_PRODUCTS.conform(found.products)


def category_table(found: Catalogue) -> pl.DataFrame:
    """The rows of dim_categories."""
    return DIM_CATEGORIES.conform(found.categories.rename({"category_id": "raw_category_id"}))


def metric_levels() -> list[pl.Expr]:
    """`category_lvl_1`, `unknown` where there is none, and `category_lvl_2`, for metrics."""
    return [pl.col("category_lvl_1").fill_null(UNKNOWN_CATEGORY), pl.col("category_lvl_2")]
