"""Cleaning: duplicates, products of several brands, events without a session.

The rules are in the contract's order: a row that is a duplicate counts as one, whatever else is
wrong with it; brands are compared among the rows that survive that; sessions come last.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from transforms.events import EVENT_KEY
from transforms.runs import aggregate_runs, run_starts
from transforms.shuffle import hash_integers, hash_text

DUPLICATE_ORDER = ("category_id", "category_code", "brand", "price")
"""Which of equal rows stays: the first by these columns, NULL last, text by its bytes."""


def session_shard(events: pl.DataFrame) -> pl.Series:
    """Shard key of an event: its session; without one its user, so that duplicates still meet."""
    sessions = hash_text(events["user_session"])
    if not events["user_session"].null_count():
        return sessions
    users = hash_integers(events["user_id"])
    return pl.select(
        pl.when(events["user_session"].is_null()).then(users).otherwise(sessions)
    ).to_series()


def product_shard(frame: pl.DataFrame) -> pl.Series:
    """Shard key of a frame with a `product_id`."""
    return hash_integers(frame["product_id"])


def user_shard(frame: pl.DataFrame) -> pl.Series:
    """Shard key of a frame with a `user_id`."""
    return hash_integers(frame["user_id"])


# Products whose variants differ ------------------------------------------------------------------

VARIANTS = ("product_id", "brand", "category_id")


def product_variants(events: pl.DataFrame) -> pl.DataFrame:
    """The (product_id, brand, category_id) of events, each once or a few times."""
    ordered = events.select(VARIANTS).sort("product_id")
    return aggregate_runs(ordered, run_starts(ordered, VARIANTS), first=VARIANTS)


def ambiguous_products(variants: pl.DataFrame) -> pl.DataFrame:
    """Products that occur with more than one brand or category_id.

    Args:
        variants: Variants of the products of one shard, duplicates allowed.

    Returns:
        Columns `product_id`, `many_brands`, `many_categories` (Boolean), one row per product for
        which either is true. NULL counts as a category, not as a brand.
    """
    return (
        variants.group_by("product_id")
        .agg(
            many_brands=pl.col("brand").drop_nulls().n_unique() > 1,
            many_categories=pl.col("category_id").n_unique() > 1,
        )
        .filter(pl.col("many_brands") | pl.col("many_categories"))
    )


def candidate_brands(events: pl.DataFrame, candidates: pl.Series) -> pl.DataFrame:
    """The brands that candidates for a multi-brand product keep once duplicates are gone.

    Before duplicates are dropped a product may show brands that it does not have after it, so the
    candidates' rows, and only they, are looked at a second time.

    Args:
        events: All events of a shard.
        candidates: Products with several brands among all rows.

    Returns:
        Columns `product_id`, `brand`: distinct, without NULL.
    """
    suspects = events.filter(pl.col("product_id").is_in(candidates.implode()))
    return drop_duplicates(suspects).select("product_id", "brand").drop_nulls().unique()


def multi_brand_products(brands: pl.DataFrame) -> pl.Series:
    """Products with more than one brand, of the candidates' brands in all shards."""
    return (
        brands.group_by("product_id")
        .agg(pl.col("brand").cast(pl.String).n_unique())
        .filter(pl.col("brand") > 1)["product_id"]
    )


# Rows ---------------------------------------------------------------------------------------------


def drop_duplicates(events: pl.DataFrame) -> pl.DataFrame:
    """Keep the first, by `DUPLICATE_ORDER`, of rows that are equal in `EVENT_KEY`."""
    order = [
        pl.col(name).cast(pl.String) if name in ("category_code", "brand") else pl.col(name)
        for name in DUPLICATE_ORDER
    ]
    return events.sort(order, nulls_last=True).unique(EVENT_KEY, keep="first", maintain_order=False)


@dataclass(frozen=True)
class Cleaned:
    """The events of a shard after cleaning, and how many were dropped and why.

    Attributes:
        events: Kept events: an event batch sorted by (`session_number`, `event_time`), with the
            column `session_number` (UInt32) that numbers the `user_session` values of the shard.
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


_SECONDS_BITS = 38  # of the seconds from year 1 to year 9999
_YEAR_1 = 62_135_596_800  # seconds from year 1 to 1970


def clean(events: pl.DataFrame, multi_brand: pl.Series) -> Cleaned:
    """Drop duplicates, events of multi-brand products and events without a session.

    Args:
        events: All events of a shard: duplicates are in the same shard.
        multi_brand: The products of several brands.
    """
    without = events.filter(pl.col("user_session").is_null())
    if without.height:
        events = events.filter(pl.col("user_session").is_not_null())
        unique = drop_duplicates(without)
    else:
        unique = without
    missing = unique.filter(~pl.col("product_id").is_in(multi_brand.implode())).height

    ordered, user_sessions = _order_by_session(events)
    distinct = _drop_neighbouring_duplicates(ordered)
    kept = distinct
    if multi_brand.len():
        kept = distinct.filter(~pl.col("product_id").is_in(multi_brand.implode()))
    return Cleaned(
        kept.drop("time_key"),
        user_sessions,
        duplicate=(without.height - unique.height) + (events.height - distinct.height),
        multi_brand_product=(unique.height - missing) + (distinct.height - kept.height),
        missing_session=missing,
    )


def _order_by_session(events: pl.DataFrame) -> tuple[pl.DataFrame, pl.Series]:
    """Number the sessions and sort by (session, time) with one 64-bit key.

    Sorting 36-character strings, or several columns, costs ten times as much.

    Returns:
        The sorted events with `session_number` and `time_key` for `user_session`, and the text of
        each number.
    """
    encoded = events["user_session"].to_arrow().dictionary_encode()
    number = pl.Series("session_number", encoded.indices, dtype=pl.UInt32)
    text = pl.Series("user_session", pl.Series(encoded.dictionary), dtype=pl.String)
    if text.len() >> (64 - _SECONDS_BITS):
        raise ValueError(f"{text.len()} sessions in one shard, more than 2^{64 - _SECONDS_BITS}")
    seconds = events["event_time"].dt.epoch("s") + _YEAR_1
    time_key = number.cast(pl.UInt64) * (1 << _SECONDS_BITS) + seconds.cast(pl.UInt64)
    return (
        events.drop("user_session")
        .with_columns(number, time_key.alias("time_key"))
        .sort("time_key"),
        text,
    )


def _drop_neighbouring_duplicates(ordered: pl.DataFrame) -> pl.DataFrame:
    """Drop duplicates of sorted events: they share session and second, so they are neighbours."""
    time_key = ordered["time_key"]
    same = time_key == time_key.shift(1)
    close = (same | same.shift(-1)).fill_null(value=False)
    if not close.any():
        return ordered
    near = ordered.with_row_index("row").filter(close)
    # EVENT_KEY, with the session by its number.
    unique = drop_duplicates(near.with_columns(user_session="session_number"))
    dropped = near.join(unique, on="row", how="anti")["row"]
    if not dropped.len():
        return ordered
    keep = pl.repeat(value=True, n=ordered.height, eager=True).scatter(dropped, values=False)
    return ordered.filter(keep)
