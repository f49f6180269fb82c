"""Cleaning: duplicates, products of several brands, events without a session.

The rules are in the contract's order: a row that is a duplicate counts as one, whatever else is
wrong with it; brands are compared among the rows that survive that; sessions come last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from transforms.columnar.grouping import find_neighbours, sort_groups
from transforms.columnar.kernels import Integers, Numbers
from transforms.columnar.key_index import number_keys, rows_in_order
from transforms.columnar.product_codes import PRODUCT_CODE, ProductFlags, with_products
from transforms.ingest.batch import EVENT_KEY
from transforms.ingest.session_keys import SESSION_KEY, session_texts

DUPLICATE_ORDER = ("category_id", "category_code", "brand", "price")
"""Which of equal rows stays: the first by these columns, NULL last, text by its bytes."""


AMBIGUOUS = pl.Schema(
    {"product_id": pl.Int64(), "many_brands": pl.Boolean(), "many_categories": pl.Boolean()}
)
"""Columns of `ambiguous_products`."""


def ambiguous_products(product_codes: pl.DataFrame) -> pl.DataFrame:
    """Products that occur with more than one brand or category_id.

    Args:
        product_codes: `product_id`, `brand` and `category_id` of the products of one shard, any
            number of times.

    Returns:
        An `AMBIGUOUS` frame, one row per product for which either is true. NULL counts as a
        category, not as a brand.
    """
    return (
        product_codes.group_by("product_id")
        .agg(
            many_brands=pl.col("brand").drop_nulls().n_unique() > 1,
            many_categories=pl.col("category_id").n_unique() > 1,
        )
        .filter(pl.col("many_brands") | pl.col("many_categories"))
    )


def candidate_brands(events: pl.DataFrame) -> pl.DataFrame:
    """The brands that candidates for a multi-brand product keep once duplicates are gone.

    Before duplicates are dropped a product may show brands that it does not have after it, so the
    candidates' rows, and only they, are looked at a second time.

    Args:
        events: All events of a shard that are of products with several brands among all rows.

    Returns:
        Columns `product_id`, `brand`: distinct, without NULL.
    """
    return drop_duplicates(events).select("product_id", "brand").drop_nulls().unique()


def multi_brand_products(brands: pl.DataFrame) -> pl.Series:
    """Products with more than one brand, of the candidates' brands in all shards."""
    return (
        brands.group_by("product_id")
        .agg(pl.col("brand").cast(pl.String).n_unique())
        .filter(pl.col("brand") > 1)["product_id"]
    )


def drop_duplicates(events: pl.DataFrame, session: Sequence[str] = SESSION_KEY) -> pl.DataFrame:
    """Keep the first, by `DUPLICATE_ORDER`, of rows that are equal in `EVENT_KEY`.

    Args:
        events: The rows.
        session: The columns that tell their sessions.

    Returns:
        The rows that stay, `with_products`.
    """
    order = [
        pl.col(name).cast(pl.String) if name in ("category_code", "brand") else pl.col(name)
        for name in DUPLICATE_ORDER
    ]
    return (
        with_products(events)
        .sort(order, nulls_last=True)
        .unique((*EVENT_KEY, *session), keep="first", maintain_order=False)
    )


@dataclass(frozen=True)
class Cleaned:
    """The events of a shard after cleaning, and how many were dropped and why.

    Attributes:
        events: Kept events sorted by (`session_number`, `event_time`): an event batch with the
            column `session_number` (UInt32), which numbers the sessions of the shard, in place of
            their keys.
        user_sessions: The text of each `session_number`.
        duplicate: Rows dropped as duplicates.
        multi_brand_product: Rows dropped for a product of several brands.
        missing_session: Rows dropped for want of a session.
    """

    events: pl.DataFrame
    user_sessions: pl.Series
    duplicate: int
    multi_brand_product: int
    missing_session: int


def clean(events: pl.DataFrame, names: pl.DataFrame, multi_brand: ProductFlags) -> Cleaned:
    """Drop duplicates, events of multi-brand products and events without a session.

    Args:
        events: All events of a shard: duplicates are in the same shard.
        names: The names of its sessions that their keys do not tell.
        multi_brand: The products of several brands.
    """
    without = events.filter(pl.col("session_high").is_null())
    if without.height:
        events = events.filter(pl.col("session_high").is_not_null())
        unique = drop_duplicates(without)
    else:
        unique = without
    is_multi_brand = multi_brand.known()
    missing = int(np.count_nonzero(~is_multi_brand[unique[PRODUCT_CODE].to_numpy()]))

    numbers, firsts = number_keys(*(events[name].to_numpy() for name in SESSION_KEY))
    numbered = events.drop(SESSION_KEY).with_columns(session_number=pl.Series(numbers))
    order = _by_session_and_time(numbered, len(firsts))
    duplicates = _duplicates(numbered, order)
    is_kept = ~is_multi_brand[events[PRODUCT_CODE].to_numpy()]
    is_kept[duplicates] = False
    order = order[is_kept[order]]
    return Cleaned(
        numbered[order],
        session_texts(events.select(SESSION_KEY)[firsts], names),
        duplicate=(without.height - unique.height) + len(duplicates),
        multi_brand_product=(unique.height - missing)
        + (events.height - len(duplicates) - len(order)),
        missing_session=missing,
    )


def _by_session_and_time(events: pl.DataFrame, sessions: int) -> Numbers:
    """The rows of events in the order of (`session_number`, `event_time`)."""
    # Parting them leaves each session nearly always sorted: files are in the order of time.
    order, ends = rows_in_order(events["session_number"].to_numpy(), sessions)
    sort_groups(ends, _times(events), order)
    return order


def _duplicates(events: pl.DataFrame, order: Numbers) -> Numbers:
    """The rows to drop: they share session and second, so in this order they are neighbours."""
    near = np.empty(events.height, np.uint32)
    count = find_neighbours(events["session_number"].to_numpy(), _times(events), order, near)
    near = near[:count]
    alike = events[near].with_columns(row=pl.Series(near))
    unique = drop_duplicates(alike, session=("session_number",))
    return np.setdiff1d(near, unique["row"].to_numpy(), assume_unique=True)


def _times(events: pl.DataFrame) -> Integers:
    return events["event_time"].cast(pl.Int64).to_numpy()
