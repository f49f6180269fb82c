"""Products and categories: what a session shard knows of them, dim_products and dim_categories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numba import types

from transforms.events import EVENT_SUMS, add_event, sums_of_arrays
from transforms.exact import Halves, add_money, halves_of_money
from transforms.kernels import Bytes, Integers, Numbers, filled, given, kernel, number_keys
from transforms.schema import (
    CATEGORY_LEVELS,
    DIM_CATEGORIES,
    DIM_PRODUCTS,
    UNKNOWN_CATEGORY,
)


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


def index_products(events: pl.DataFrame) -> IndexedProducts:
    """Find the products of kept events and sum over their variants."""
    index, first_events = number_keys(events["product_id"].to_numpy())
    first_of_variants = np.empty(events.height, np.uint32)
    sums = np.empty((events.height, len(EVENT_SUMS) - 1), np.int64)
    revenue = np.empty((events.height, 2), np.uint64)
    count = _sum_variants(
        index,
        len(first_events),
        events["brand"].to_physical().fill_null(_NO_CODE).to_numpy(),
        events["category_code"].to_physical().fill_null(_NO_CODE).to_numpy(),
        events["category_id"].fill_null(_NO_CATEGORY).to_numpy(),
        events["event_type"].to_physical().to_numpy(),
        halves_of_money(events["price"]),
        first_of_variants,
        sums,
        revenue,
    )
    return IndexedProducts(
        pl.Series(index),
        events["product_id"].gather(first_events).cast(pl.String),
        _sums_frame(events, first_of_variants[:count], sums[:count], revenue[:count]),
    )


_TEXTS = ("brand", "category_code")
_NO_CODE = 2**32 - 1
_NO_CATEGORY = -1  # ids are not negative


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
        sums: Filled for each variant: events, then those of each type.
        revenue: Filled for each variant.

    Returns:
        The number of variants.
    """
    found = 0
    latest = np.full(product_count, -1, np.int64)
    earlier = np.empty(len(products), np.int64)  # the product's variant before this one
    for row in range(len(products)):
        variant = latest[products[row]]
        while variant >= 0:
            first = firsts[variant]
            if (
                brands[first] == brands[row]
                and categories[first] == categories[row]
                and codes[first] == codes[row]
            ):
                break
            variant = earlier[variant]
        if variant < 0:
            variant = found
            found += 1
            earlier[variant] = latest[products[row]]
            latest[products[row]] = variant
            firsts[variant] = row
            sums[variant] = 0
            revenue[variant] = 0
        add_event(sums, revenue, variant, event_types, prices, row)
    return found


def add_up(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Add up partial aggregates: `IndexedProducts.sums` of several shards to one like it."""
    rows = pl.concat(parts, rechunk=True)
    numbers, firsts = number_keys(
        rows["product_id"].to_numpy(),
        *(rows[name].to_physical().cast(pl.Int64).fill_null(-1).to_numpy() for name in _TEXTS),
        rows["category_id"].fill_null(_NO_CATEGORY).to_numpy(),
    )
    sums = np.zeros((len(firsts), len(EVENT_SUMS) - 1), np.int64)
    revenue = np.zeros((len(firsts), 2), np.uint64)
    counts = np.ascontiguousarray(rows.select(EVENT_SUMS[:-1]).to_numpy())
    _add_rows(numbers, counts, halves_of_money(rows["revenue"]), sums, revenue)
    return _sums_frame(rows, firsts, sums, revenue)


def _sums_frame(
    rows: pl.DataFrame, firsts: Numbers, sums: Integers, revenue: Halves
) -> pl.DataFrame:
    """Variants as they stand in their first rows, and what was summed over them."""
    return rows.select(pl.col(_VARIANT).gather(firsts)).with_columns(*sums_of_arrays(sums, revenue))


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
