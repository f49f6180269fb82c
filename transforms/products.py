"""Products and categories: what a session shard knows of them, dim_products and dim_categories."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from transforms.events import is_type
from transforms.schema import CATEGORY_LEVELS, DIM_CATEGORIES, DIM_PRODUCTS, UNKNOWN_CATEGORY

EVENT_SUMS = ("events", "views", "cart_adds", "purchases", "revenue")
"""What is summed over events; `revenue` is money, the others counts."""


def event_sums() -> list[pl.Expr]:
    """Aggregations of events to `EVENT_SUMS`."""
    purchase = is_type("purchase")
    return [
        pl.len().cast(pl.Int64).alias("events"),
        is_type("view").sum().cast(pl.Int64).alias("views"),
        is_type("cart").sum().cast(pl.Int64).alias("cart_adds"),
        purchase.sum().cast(pl.Int64).alias("purchases"),
        pl.col("price").filter(purchase).sum().alias("revenue"),
    ]


def product_sums(events: pl.DataFrame) -> pl.DataFrame:
    """Partial aggregates of kept events.

    Returns:
        One row per (`product_id`, `brand`, `category_id`, `category_code`) with `EVENT_SUMS`.
    """
    return events.group_by("product_id", "brand", "category_id", "category_code").agg(
        event_sums()
    )


def combine_products(sums: pl.DataFrame) -> pl.DataFrame:
    """Combine the partial aggregates of the products of one shard.

    Args:
        sums: `product_sums` of all session shards.

    Returns:
        One row per product: `product_id`, `brand` and `category_id` of its most frequent pair (ties:
        the first brand, then the first category_id, NULL last), and `EVENT_SUMS`.
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
        sums: `product_sums`, or what this function returned, of any number of shards.

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
