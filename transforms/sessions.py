"""Sessions: which events belong together, and fct_events and fct_sessions made of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from transforms.cleaning import Cleaned
from transforms.event_ids import event_ids
from transforms.events import EVENT_SUMS, event_values, is_type
from transforms.products import IndexedProducts
from transforms.runs import aggregate_runs, run_numbers, run_starts
from transforms.schema import FCT_EVENTS, FCT_SESSIONS
from transforms.sinks import Dictionaries


@dataclass(frozen=True)
class Sessions:
    """The sessions of a shard.

    Attributes:
        events: Kept events sorted by session and time, with `session_index` (UInt32), the row of
            `sessions` that holds the event, beside the columns of `Cleaned.events`.
        visits: Sums over runs of events of one session, user and date, in the order of the events:
            `session_index`, `session_number`, `user_id`, `event_date`, `event_time` (of the first
            event), `last_event_time`, and `EVENT_SUMS`. There are little more than sessions, so
            what sums over them is cheap.
        sessions: A frame of fct_sessions, with `user` (Int64, the user_id as a number) beside its
            columns.
        user_sessions: The text of each `session_number`.
    """

    events: pl.DataFrame
    visits: pl.DataFrame
    sessions: pl.DataFrame
    user_sessions: pl.Series


def sessionize(cleaned: Cleaned, timeout_seconds: int) -> Sessions:
    """Cut each user_session where neighbouring events are more than the timeout apart."""
    gap = pl.col("event_time").diff() > pl.duration(seconds=timeout_seconds)
    new = (pl.col("session_number") != pl.col("session_number").shift()) | gap
    events = cleaned.events.with_columns(
        session_index=(new.fill_null(value=True).cast(pl.UInt32).cum_sum() - 1)
    )
    visits = _visits(events)
    return Sessions(
        events, visits, _session_table(events, visits, cleaned.user_sessions), cleaned.user_sessions
    )


def _visits(events: pl.DataFrame) -> pl.DataFrame:
    keys = ("session_index", "user_id", "event_date")
    summed = events.select(
        "session_index",
        "session_number",
        "user_id",
        "event_time",
        pl.col("event_time").dt.date().alias("event_date"),
        *event_values(),
    )
    return aggregate_runs(
        summed,
        run_starts(summed, keys),
        first=(*keys, "session_number", "event_time"),
        last=("event_time",),
        sums=EVENT_SUMS,
    )


def _session_table(
    events: pl.DataFrame, visits: pl.DataFrame, user_sessions: pl.Series
) -> pl.DataFrame:
    """Aggregate events to sessions, in the order of `session_index`."""
    products = events.group_by("session_index", maintain_order=True).agg(
        pl.col("product_id").n_unique().cast(pl.Int64).alias("unique_product_count")
    )
    grouped = visits.group_by("session_index", maintain_order=True).agg(
        pl.col("session_number").first(),
        pl.col("user_id").min().alias("smallest_user"),
        pl.col("user_id").max().alias("user"),
        pl.col("event_time").first().alias("session_start_time"),
        pl.col("last_event_time").last().alias("session_end_time"),
        pl.col("events").sum().alias("event_count"),
        pl.col("views").sum().alias("view_count"),
        pl.col("cart_adds").sum().alias("cart_additions"),
        pl.col("cart_removes").sum().alias("cart_removals"),
        pl.col("purchases").sum().alias("purchase_count"),
        pl.col("revenue").sum().alias("total_revenue"),
    )
    grouped = _with_largest_user(grouped, events).with_columns(
        products["unique_product_count"],
        user_session=user_sessions.gather(grouped["session_number"]),
        number_in_user_session=_count_within_runs(grouped, "session_number"),
        session_length=(
            pl.col("session_end_time") - pl.col("session_start_time")
        ).dt.total_seconds(),
        converting=pl.col("purchase_count") > 0,
    )
    return grouped.select(
        pl.when(pl.col("number_in_user_session") == 0)
        .then(pl.col("user_session"))
        .otherwise(pl.format("{}_timeout_{}", "user_session", "number_in_user_session"))
        .alias("session_id"),
        pl.col("user").cast(pl.String).alias("user_id"),
        "session_start_time",
        "session_end_time",
        pl.col("session_start_time").dt.date().alias("session_start_date"),
        "session_length",
        "event_count",
        "unique_product_count",
        "view_count",
        "cart_additions",
        "cart_removals",
        "purchase_count",
        pl.when("converting").then("total_revenue").alias("total_revenue"),
        (pl.col("view_count") > 0).cast(pl.Int64).alias("reached_view"),
        (pl.col("cart_additions") > 0).cast(pl.Int64).alias("reached_cart"),
        pl.col("converting").cast(pl.Int64).alias("reached_purchase"),
        pl.when("converting")
        .then(pl.lit("purchase"))
        .when(pl.col("cart_additions") > 0)
        .then(pl.lit("cart"))
        .when(pl.col("view_count") > 0)
        .then(pl.lit("view"))
        .otherwise(pl.lit("no_activity"))
        .alias("funnel_stage"),
        pl.col("converting").cast(pl.Int64).alias("is_converting_session"),
        quality_tier().alias("session_quality_tier"),
        length_bucket().alias("session_length_bucket"),
        "user",
    )


def _count_within_runs(frame: pl.DataFrame, key: str) -> pl.Series:
    """The number of each row within its run of equal keys, from 0."""
    starts = run_starts(frame, [key])
    return pl.Series(np.arange(frame.height)) - starts.gather(run_numbers(starts, frame.height))


def _with_largest_user(grouped: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """Replace `user` by the largest user_id as text, where a session has several."""
    shared = grouped.filter(pl.col("smallest_user") != pl.col("user")).select("session_index")
    if not shared.height:
        return grouped
    largest = (
        events.join(shared, on="session_index", how="semi")
        .group_by("session_index")
        .agg(pl.col("user_id").cast(pl.String).max().cast(pl.Int64).alias("largest"))
    )
    return grouped.join(
        largest, on="session_index", how="left", maintain_order="left"
    ).with_columns(pl.coalesce("largest", "user").alias("user"))


def quality_tier() -> pl.Expr:
    """Quality tier of a session, of `session_length` (seconds) and `event_count`."""
    length, events = pl.col("session_length"), pl.col("event_count")
    return (
        pl.when((length < 150) | (events < 3))  # noqa: PLR2004 - the contract's own figures
        .then(pl.lit("Low"))
        .when((length <= 600) & (events <= 10))  # noqa: PLR2004
        .then(pl.lit("Medium"))
        .otherwise(pl.lit("High"))
    )


def length_bucket() -> pl.Expr:
    """Length bucket of a session, of `session_length` (seconds)."""
    length = pl.col("session_length")
    return (
        pl.when(length <= 60)  # noqa: PLR2004 - the contract's own figures
        .then(pl.lit("Very Short (0-60s)"))
        .when(length <= 300)  # noqa: PLR2004
        .then(pl.lit("Short (61-300s)"))
        .when(length <= 600)  # noqa: PLR2004
        .then(pl.lit("Medium (301-600s)"))
        .otherwise(pl.lit("Long (600+s)"))
    )


def event_table(shard: Sessions, products: IndexedProducts) -> tuple[pl.DataFrame, Dictionaries]:
    """The rows of fct_events, in the order of `shard.events`.

    Returns:
        The rows, and dictionaries of their texts: most of these are known once per session, visit
        or product, and need no hashing to be found again.
    """
    events = shard.events
    visit = np.repeat(np.arange(shard.visits.height, dtype=np.uint32), shard.visits["events"])
    categories = events["category_id"].to_arrow().dictionary_encode()
    dictionaries = {
        "user_id": (pl.Series(visit), shard.visits["user_id"].cast(pl.String)),
        "user_session": (events["session_number"], shard.user_sessions),
        "session_id": (events["session_index"], shard.sessions["session_id"]),
        "product_id": (products.index, products.text),
        "category_id": (
            pl.Series(categories.indices, dtype=pl.UInt32),
            pl.Series(categories.dictionary, dtype=pl.Int64).cast(pl.String),
        ),
    }
    texts = {name: values.gather(index) for name, (index, values) in dictionaries.items()}
    one, zero = pl.lit(1, pl.Int64), pl.lit(0, pl.Int64)
    flags = {
        "is_view": "view",
        "is_cart_add": "cart",
        "is_cart_remove": "remove_from_cart",
        "is_purchase": "purchase",
    }
    return FCT_EVENTS.conform(
        events.with_columns(
            event_id=event_ids(
                events, texts["user_id"], texts["product_id"], texts["user_session"]
            ),
            event_date=pl.col("event_time").dt.date(),
            quantity=one,
            revenue=pl.when(is_type("purchase")).then("price"),
            **texts,
            **{
                flag: pl.when(is_type(event_type)).then(one).otherwise(zero)
                for flag, event_type in flags.items()
            },
        )
    ), dictionaries


def session_table(shard: Sessions) -> pl.DataFrame:
    """The rows of fct_sessions."""
    return FCT_SESSIONS.conform(shard.sessions)
