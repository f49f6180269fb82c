"""Who was exposed to what category, and who bought what.

An event counts for the category of its product in dim_products, which is known only when all events
are. Sums come from the products. Distinct sessions and users need to know who saw what: the
session shards send each (session, user, category) once, which is a fraction of the events.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl

from transforms.analytics.catalogue import Catalogue
from transforms.columnar.grouping import find_exposures
from transforms.columnar.kernels import Numbers
from transforms.columnar.money import MONEY
from transforms.columnar.product_codes import (
    PRODUCT_CODE,
    ProductFlags,
    columns_of,
    known_codes,
    with_products,
)
from transforms.ingest.batch import is_type

EXPOSURES: Final = pl.Schema(
    {
        "user_id": pl.Int64(),
        "is_user": pl.Boolean(),
        "session": pl.UInt64(),
        "category_id": pl.Int64(),
        "product_id": pl.Int64(),
    }
)
"""Columns of `category_exposures`."""

PURCHASES: Final = pl.Schema(
    {
        "user_id": pl.Int64(),
        "product_id": pl.Int64(),
        "purchases": pl.Int64(),
        "revenue": MONEY,
    }
)
"""Columns of `product_purchases`."""


def category_exposures(events: pl.DataFrame, ambiguous: ProductFlags, shard: int) -> pl.DataFrame:
    """Who was exposed to what, each once.

    A row is counted in the user shard of its `user_id`. A session of several users would be counted
    in several, so its rows are parted: one per user and category, without the session, and one per
    category, with the session, in the shard of its largest user.

    Args:
        events: Kept events of a session shard with `session_number`, sorted by it.
        ambiguous: Products that occur with several category_ids. Any other product's category in
            dim_products is that of its events; these are sent themselves.
        shard: Number of the session shard.

    Returns:
        An `EXPOSURES` frame: `is_user` where the row counts for the user; `session` unique over all
        shards, NULL where the row does not count for one; `product_id` NULL unless the product is
        ambiguous; `category_id` then is.
    """
    is_ambiguous = ambiguous.known()
    room = len(is_ambiguous)  # other threads may have numbered more since
    products, categories, *_ = known_codes().codes[:room].T
    exposed = np.empty(events.height, np.uint32)
    count, has_shared = find_exposures(
        events["session_number"].to_numpy(),
        events["user_id"].to_numpy(),
        events[PRODUCT_CODE].to_numpy(),
        np.where(is_ambiguous, room + 1 + products, np.minimum(categories, room)),
        np.zeros(2 * room + 1, np.uint32),
        exposed,
    )
    distinct = events["session_number", "user_id", PRODUCT_CODE][exposed[:count]]
    product_codes = distinct[PRODUCT_CODE].to_numpy()
    described = columns_of(product_codes, ("category_id", "product_id"))
    is_product = pl.Series(is_ambiguous[product_codes])
    rows = distinct.select(
        "user_id",
        pl.lit(value=True).alias("is_user"),
        (pl.col("session_number").cast(pl.UInt64) + (shard << 32)).alias("session"),
        pl.when(~is_product).then(described["category_id"]).alias("category_id"),
        pl.when(is_product).then(described["product_id"]).alias("product_id"),
    )
    if not has_shared:
        return rows
    return _part_shared(rows.unique())


def _part_shared(exposed: pl.DataFrame) -> pl.DataFrame:
    """Part the rows of sessions of several users: see `category_exposures`."""
    is_shared = pl.col("user_id").n_unique().over("session") > 1
    shared, others = exposed.filter(is_shared), exposed.filter(~is_shared)
    of_users = shared.with_columns(session=pl.lit(None, pl.UInt64)).unique()
    of_sessions = shared.with_columns(
        user_id=pl.col("user_id").max().over("session"), is_user=pl.lit(value=False)
    ).unique()
    return pl.concat([others, of_users, of_sessions])


def product_purchases(events: pl.DataFrame) -> pl.DataFrame:
    """Who bought what: a `PURCHASES` frame."""
    return (
        with_products(events.filter(is_type("purchase")))
        .group_by("user_id", "product_id")
        .agg(pl.len().cast(pl.Int64).alias("purchases"), pl.col("price").sum().alias("revenue"))
    )


def subcategories(rows: pl.DataFrame, found: Catalogue) -> Numbers:
    """The number of each row's subcategory, of exposures or purchases."""
    # Most exposures name no product, and most products are not bought in this shard.
    named = rows.select("product_id").drop_nulls().unique()
    products = found.products.join(named, on="product_id", how="semi")
    numbers = [
        rows.select(key)
        .join(table.select(key, "subcategory"), on=key, how="left", maintain_order="left")
        .get_column("subcategory")
        for key, table in (("product_id", products), ("category_id", found.categories))
        if key in rows.columns
    ]
    return pl.select(pl.coalesce(*numbers, 0)).to_series().to_numpy()
