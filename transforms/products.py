"""Products and categories: what a session shard knows of them, dim_products and dim_categories."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from transforms.events import EVENT_SUMS, event_values
from transforms.runs import aggregate_runs, run_numbers, run_starts
from transforms.schema import CATEGORY_LEVELS, DIM_CATEGORIES, DIM_PRODUCTS, UNKNOWN_CATEGORY


@dataclass(frozen=True)
class IndexedProducts:
    """The products of a session shard's events.

    Attributes:
        index: The row of `text` of each event's product (UInt32).
        text: The product_ids, each once.
        sums: One row per product and (`brand`, `category_id`, `category_code`), or several, with
            `product_id` and `EVENT_SUMS`.
    """

    index: pl.Series
    text: pl.Series
    sums: pl.DataFrame


_VARIANT = ("product_id", "brand", "category_id", "category_code")


def index_products(events: pl.DataFrame) -> IndexedProducts:
    """Find the products of kept events and sum over them, with one sort."""
    order = events["product_id"].arg_sort()
    ordered = events.select(pl.col(*_VARIANT, "event_type", "price").gather(order)).select(
        *_VARIANT, *event_values()
    )
    starts = run_starts(ordered, ["product_id"])
    index = np.empty(events.height, np.uint32)
    index[order.to_numpy()] = run_numbers(starts, events.height).to_numpy()
    return IndexedProducts(
        pl.Series(index, dtype=pl.UInt32),
        ordered["product_id"].gather(starts).cast(pl.String),
        aggregate_runs(ordered, run_starts(ordered, _VARIANT), first=_VARIANT, sums=EVENT_SUMS),
    )


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
