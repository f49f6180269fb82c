"""Sessions: which events belong together, and fct_events and fct_sessions made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from transforms.analytics.classes import class_of
from transforms.analytics.cleaning import Cleaned
from transforms.columnar.arrays import dictionary_array
from transforms.columnar.grouping import (
    EVENT_SUMS,
    SECOND,
    count_products,
    cut_events,
    sums_of_arrays,
)
from transforms.columnar.kernels import Bytes, Numbers
from transforms.columnar.key_index import number_keys
from transforms.columnar.money import halves_of_money
from transforms.columnar.product_codes import EncodedColumn
from transforms.columnar.texts import fixed_width_array
from transforms.ingest.batch import is_type
from transforms.schema import (
    FCT_EVENTS,
    FCT_SESSIONS,
    FUNNEL_STAGES,
    LENGTH_BUCKET_UP_TO,
    LOW_TIER_BELOW,
    MEDIUM_TIER_UP_TO,
    QUALITY_TIERS,
    TableBatch,
)


@dataclass(frozen=True)
class Sessions:
    """The sessions of a shard.

    Attributes:
        events: Kept events sorted by session and time, with `session_index` (UInt32), the row of
            `sessions` that holds the event, beside the columns of `Cleaned.events`.
        session_days: Sums over runs of events of one session, user and date, in their order:
            `session_index`, `session_number`, `user_id`, `event_date`, `event_time` (of the first
            event), `last_event_time`, and `EVENT_SUMS`. There are little more than sessions, so
            what sums over them is cheap.
        sessions: A frame of fct_sessions, with `user` (Int64, the user_id as a number) beside its
            columns.
        user_sessions: The text of each `session_number`.
    """

    events: pl.DataFrame
    session_days: pl.DataFrame
    sessions: pl.DataFrame
    user_sessions: pl.Series


def sessionize(cleaned: Cleaned, products: EncodedColumn, timeout_seconds: int) -> Sessions:
    """Cut each user_session where neighbouring events are more than the timeout apart.

    Args:
        cleaned: The kept events.
        products: Their products.
        timeout_seconds: The longest gap within a session.
    """
    events = cleaned.events
    session_index = np.empty(events.height, np.uint32)
    of_session_days, of_sessions = _Groups(events.height), _Groups(events.height)
    ordinals = np.empty(events.height, np.uint32)
    of_session_days.count, of_sessions.count, is_shared = cut_events(
        events["session_number"].to_numpy(),
        events["event_time"].to_physical().to_numpy(),
        events["user_id"].to_numpy(),
        events["event_type"].to_physical().to_numpy(),
        halves_of_money(events["price"]),
        timeout_seconds * SECOND,
        session_index,
        ordinals,
        *of_session_days.arrays,
        *of_sessions.arrays,
    )
    unique_products = np.zeros(of_sessions.count, np.int64)
    count_products(session_index, products.numbers, len(products.texts), unique_products)
    events = events.with_columns(pl.Series("session_index", session_index))
    session_days = of_session_days.frame(events, ("session_index", "session_number", "user_id"))
    session_days = session_days.with_columns(event_date=pl.col("event_time").dt.date())
    grouped = of_sessions.frame(events, ("session_index", "session_number", "user_id"))
    if is_shared:
        grouped = _with_largest_user(grouped, session_days)
    ids = _session_ids(grouped, ordinals[: of_sessions.count], cleaned.user_sessions)
    sessions = _session_table(grouped, ids, pl.Series(unique_products))
    return Sessions(events, session_days, sessions, cleaned.user_sessions)


class _Groups:
    """Groups of neighbouring events, as a kernel fills them.

    Attributes:
        count: Groups filled.
        arrays: The first event of each group, its `EVENT_SUMS` but for the last, and the last.
    """

    def __init__(self, rows: int) -> None:
        self.count = 0
        self.arrays = (
            np.empty(rows, np.uint32),
            np.empty((rows, len(EVENT_SUMS) - 1), np.int64),
            np.empty((rows, 2), np.uint64),
        )

    def frame(self, events: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
        """Columns of each group's first event, its first and last time, and `EVENT_SUMS`."""
        starts, sums, revenue = self.arrays
        first = pl.Series(starts[: self.count])
        last = first.shift(-1, fill_value=events.height) - 1
        return pl.DataFrame(
            [
                *(events[name].gather(first) for name in (*names, "event_time")),
                events["event_time"].gather(last).alias("last_event_time"),
                *sums_of_arrays(sums[: self.count], revenue[: self.count]),
            ]
        )


def _session_table(
    grouped: pl.DataFrame, session_ids: pl.Series, unique_products: pl.Series
) -> pl.DataFrame:
    """The sessions, in the order of `session_index`, with their users as numbers too."""
    grouped = grouped.rename(
        {
            "user_id": "user",
            "event_time": "session_start_time",
            "last_event_time": "session_end_time",
            "events": "event_count",
            "views": "view_count",
            "cart_adds": "cart_additions",
            "cart_removes": "cart_removals",
            "purchases": "purchase_count",
            "revenue": "total_revenue",
        }
    )
    added, converting = pl.col("cart_additions") > 0, pl.col("purchase_count") > 0
    return grouped.select(
        session_ids,
        pl.col("user").cast(pl.String).alias("user_id"),
        "session_start_time",
        "session_end_time",
        pl.col("session_start_time").dt.date().alias("session_start_date"),
        (pl.col("session_end_time") - pl.col("session_start_time"))
        .dt.total_seconds()
        .alias("session_length"),
        "event_count",
        unique_products.alias("unique_product_count"),
        "view_count",
        "cart_additions",
        "cart_removals",
        "purchase_count",
        pl.when(converting).then("total_revenue").alias("total_revenue"),
        (pl.col("view_count") > 0).cast(pl.Int64).alias("reached_view"),
        added.cast(pl.Int64).alias("reached_cart"),
        converting.cast(pl.Int64).alias("reached_purchase"),
        pl.when(converting)
        .then(pl.lit("purchase", _STAGE))
        .when(added)
        .then(pl.lit("cart", _STAGE))
        .when(pl.col("view_count") > 0)
        .then(pl.lit("view", _STAGE))
        .otherwise(pl.lit("no_activity", _STAGE))
        .alias("funnel_stage"),
        converting.cast(pl.Int64).alias("is_converting_session"),
        "user",
    ).with_columns(session_quality_tier=quality_tier(), session_length_bucket=length_bucket())


_STAGE = pl.Enum(FUNNEL_STAGES)


_TIER = pl.Enum(QUALITY_TIERS)


def _session_ids(grouped: pl.DataFrame, ordinals: Numbers, user_sessions: pl.Series) -> pl.Series:
    """The session_id of each session: its user_session, numbered from the second one on."""
    ids = user_sessions.gather(grouped["session_number"]).alias("session_id")
    later = np.flatnonzero(ordinals)
    if not len(later):
        return ids
    numbers = pl.Series(ordinals[later]).cast(pl.String)
    return ids.scatter(later, ids.gather(later) + "_timeout_" + numbers)


def _with_largest_user(grouped: pl.DataFrame, session_days: pl.DataFrame) -> pl.DataFrame:
    """Replace `user_id` by the largest as text, where a session has several."""
    session = pl.col("session_index")
    shared = session_days.filter(
        (session == session.shift()) & (pl.col("user_id") != pl.col("user_id").shift())
    ).select("session_index")
    largest = (
        session_days.join(shared, on="session_index", how="semi")
        .group_by("session_index")
        .agg(pl.col("user_id").cast(pl.String).max().cast(pl.Int64).alias("largest"))
    )
    return grouped.join(
        largest, on="session_index", how="left", maintain_order="left"
    ).with_columns(pl.coalesce("largest", "user_id").alias("user_id"))


def quality_tier() -> pl.Expr:
    """Quality tier of a session, of `session_length` (seconds) and `event_count`."""
    length, events = pl.col("session_length"), pl.col("event_count")
    is_low = (length < LOW_TIER_BELOW.seconds) | (events < LOW_TIER_BELOW.events)
    is_medium = (length <= MEDIUM_TIER_UP_TO.seconds) & (events <= MEDIUM_TIER_UP_TO.events)
    low, medium, high = (pl.lit(tier, _TIER) for tier in QUALITY_TIERS)
    return pl.when(is_low).then(low).when(is_medium).then(medium).otherwise(high)


def length_bucket() -> pl.Expr:
    """Length bucket of a session, of `session_length` (seconds)."""
    return class_of(pl.col("session_length"), LENGTH_BUCKET_UP_TO)


def event_table(shard: Sessions, products: Mapping[str, EncodedColumn], ids: Bytes) -> TableBatch:
    """The rows of fct_events, in the order of `shard.events`.

    Texts are handed over as Parquet will store them: all are known once per session, session_day or
    product code, and need no hashing to be found again.

    Args:
        shard: The sessions.
        products: What the events say of their products, by column.
        ids: `event_ids` of them.
    """
    events, session_days = shard.events, shard.session_days
    users, first_rows = number_keys(session_days["user_id"].to_numpy())
    one, zero = pl.lit(1, pl.Int64), pl.lit(0, pl.Int64)
    flags = {
        "is_view": "view",
        "is_cart_add": "cart",
        "is_cart_remove": "remove_from_cart",
        "is_purchase": "purchase",
    }
    return (
        FCT_EVENTS.name,
        events.select(
            "event_time",
            pl.col("event_time").dt.date().alias("event_date"),
            "event_type",
            "price",
            one.alias("quantity"),
            *(
                pl.when(is_type(event_type)).then(one).otherwise(zero).alias(flag)
                for flag, event_type in flags.items()
            ),
            pl.when(is_type("purchase")).then("price").alias("revenue"),
        ),
        {
            "event_id": fixed_width_array(ids),
            "user_id": dictionary_array(
                np.repeat(users, session_days["events"]),
                session_days["user_id"].gather(first_rows).cast(pl.String),
            ),
            "user_session": dictionary_array(
                events["session_number"].to_numpy(), shard.user_sessions
            ),
            "session_id": dictionary_array(
                events["session_index"].to_numpy(), shard.sessions["session_id"]
            ),
        }
        | {name: dictionary_array(*column) for name, column in products.items()},
    )


def session_table(shard: Sessions) -> TableBatch:
    """The rows of fct_sessions."""
    return FCT_SESSIONS.name, FCT_SESSIONS.conform(shard.sessions), {}
