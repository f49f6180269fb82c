"""Products and categories: what a session shard knows of them, dim_products and dim_categories."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from transforms.columnar.grouping import (
    EVENT_RANGE_TYPES,
    EVENT_RANGES,
    EVENT_SUM_TYPES,
    EVENT_SUMS,
    NEVER,
    RANGE_WORDS,
    add_events,
    sums_of_arrays,
    widen_ranges,
)
from transforms.columnar.kernels import Integers
from transforms.columnar.key_index import with_room
from transforms.columnar.money import halves_of_money, money_of_halves
from transforms.columnar.product_codes import PRODUCT_CODE, columns_of, known_codes
from transforms.schema import CATEGORY_LEVELS, DIM_CATEGORIES, DIM_PRODUCTS, UNKNOWN_CATEGORY


class ProductSums:
    """Sums and ranges over the events of product codes, of any number of session shards."""

    def __init__(self) -> None:
        self._sums = np.zeros((0, len(EVENT_SUMS) - 1), np.int64)
        self._revenue = np.zeros((0, 2), np.uint64)
        self._ranges = np.zeros((0, RANGE_WORDS), np.int64)

    def add(self, events: pl.DataFrame, *, has_ranges: bool = True) -> None:
        """Take in kept events; without their ranges, which only tables of what sells need."""
        count = len(known_codes().product_id)
        self._sums = with_room(self._sums, count)
        self._revenue = with_room(self._revenue, count)
        self._ranges = with_room(self._ranges, count)
        product_codes = events[PRODUCT_CODE].to_numpy()
        event_types = events["event_type"].to_physical().to_numpy()
        prices = halves_of_money(events["price"])
        add_events(product_codes, event_types, prices, self._sums, self._revenue)
        if has_ranges:
            times = events["event_time"].to_physical().to_numpy()
            widen_ranges(product_codes, times, event_types, prices, self._ranges)

    def frame(self) -> pl.DataFrame:
        """A row for each code that occurs: `PRODUCT_COLUMNS`, `EVENT_SUMS` and `EVENT_RANGES`.

        Without ranges, dates are NULL and prices 0.
        """
        found = np.flatnonzero(self._sums[:, 0])
        ranged, *words = self._ranges[found].T
        first, last, last_purchase = np.where(ranged > 0, words[:3], NEVER)
        prices = words[3:]
        smallest, largest = (
            money_of_halves(np.column_stack(prices[at : at + 2]).view(np.uint64)) for at in (0, 2)
        )
        ranges = (_dates(first), _dates(last), _dates(last_purchase), smallest, largest)
        return columns_of(found).with_columns(
            *sums_of_arrays(self._sums[found], self._revenue[found]),
            *(column.alias(name) for name, column in zip(EVENT_RANGES, ranges, strict=True)),
        )


def _dates(times: Integers) -> pl.Series:
    """The dates of times (microseconds); NULL for `NEVER`."""
    dates: pl.Series = pl.Series(times).cast(pl.Datetime("us", "UTC")).dt.date()
    return dates.set(pl.Series(times == NEVER), None)


def merged_ranges() -> list[pl.Expr]:
    """`EVENT_RANGES` of rows, each with its own."""
    return [
        pl.col(name).min() if name.startswith(("first", "min")) else pl.col(name).max()
        for name in EVENT_RANGES
    ]


PRODUCTS: Final = pl.Schema(
    {
        "product_id": pl.Int64(),
        "brand": pl.String(),
        "category_id": pl.Int64(),
        **EVENT_SUM_TYPES,
        **EVENT_RANGE_TYPES,
    }
)
"""Columns of `combine_products`."""

CATEGORY_CODES: Final = pl.Schema(
    {"category_id": pl.Int64(), "category_code": pl.String(), "events": pl.Int64()}
)
"""Columns of `category_codes`."""


def combine_products(sums: pl.DataFrame) -> pl.DataFrame:
    """Combine the partial aggregates of the products of one shard.

    Args:
        sums: `ProductSums.frame` of all session shards.

    Returns:
        One row per product: `product_id`, `brand` and `category_id` of its most frequent pair
        (ties: the first brand, then the first category_id, NULL last), `EVENT_SUMS` and
        `EVENT_RANGES`.
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
        sums.group_by("product_id").agg(pl.col(EVENT_SUMS).sum(), *merged_ranges()),
        on="product_id",
        how="left",
    )


def category_codes(sums: pl.DataFrame) -> pl.DataFrame:
    """Events by category and code.

    Args:
        sums: `ProductSums.frame`, or what this function returned, of any number of shards.

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
        products: `combine_products` of all shards with `category_code`, the category levels, and
            `subcategory` (UInt32), the number of a subcategory, NULL without category.
        categories: One row per `category_id` with `category_code`, the category levels and
            `subcategory`.
        subcategories: The distinct `metric_levels`, a row for each number; the first is that of
            what has no category.
    """

    products: pl.DataFrame
    categories: pl.DataFrame
    subcategories: pl.DataFrame


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
    levels = categories.select("category_id", *metric_levels())
    subcategories = pl.concat([_NO_CATEGORY, levels.drop("category_id")]).unique(
        maintain_order=True
    )
    numbered = levels.join(
        subcategories.with_row_index("subcategory"),
        on=subcategories.columns,
        nulls_equal=True,
    ).select("category_id", "subcategory")
    categories = categories.join(numbered, on="category_id", maintain_order="left")
    return Catalogue(
        products.join(categories, on="category_id", how="left"), categories, subcategories
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
    return DIM_PRODUCTS.conform(found.products.sort("product_id"))


def category_table(found: Catalogue) -> pl.DataFrame:
    """The rows of dim_categories."""
    return DIM_CATEGORIES.conform(found.categories.rename({"category_id": "raw_category_id"}))


def metric_levels() -> list[pl.Expr]:
    """`category_lvl_1`, `unknown` where there is none, and `category_lvl_2`, for metrics."""
    return [pl.col("category_lvl_1").fill_null(UNKNOWN_CATEGORY), pl.col("category_lvl_2")]


_NO_CATEGORY: Final = pl.DataFrame(
    {"category_lvl_1": None, "category_lvl_2": None},
    schema={"category_lvl_1": pl.String, "category_lvl_2": pl.String},
).select(metric_levels())
