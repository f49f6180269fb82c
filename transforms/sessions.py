"""Sessions: which events belong together, and fct_events and fct_sessions made of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
from numba import types

from transforms.cleaning import Cleaned
from transforms.event_ids import event_ids
from transforms.events import EVENT_SUMS, add_event, is_type, sums_of_arrays
from transforms.exact import halves_of_money
from transforms.kernels import Bytes, Integers, Numbers, Words, filled, given, kernel
from transforms.products import IndexedProducts
from transforms.runs import aggregate_runs, run_numbers, run_starts
from transforms.schema import (
    FCT_EVENTS,
    FCT_SESSIONS,
    FUNNEL_STAGES,
    LENGTH_BUCKETS,
    QUALITY_TIERS,
)
from transforms.sinks import TableBatch, dictionary_array
from transforms.texts import fixed_width_array


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


def sessionize(cleaned: Cleaned, products: IndexedProducts, timeout_seconds: int) -> Sessions:
    """Cut each user_session where neighbouring events are more than the timeout apart.

    Args:
        cleaned: The kept events.
        products: Their products.
        timeout_seconds: The longest gap within a session.
    """
    events = cleaned.events
    session_index = np.empty(events.height, np.uint32)
    starts = np.empty(events.height, np.uint32)
    sums = np.empty((events.height, len(EVENT_SUMS) - 1), np.int64)
    revenue = np.empty((events.height, 2), np.uint64)
    visit_count, session_count = _sum_visits(
        events["session_number"].to_numpy(),
        events["event_time"].to_physical().to_numpy(),
        events["user_id"].to_numpy(),
        events["event_type"].to_physical().to_numpy(),
        halves_of_money(events["price"]),
        timeout_seconds * _SECOND,
        session_index,
        starts,
        sums,
        revenue,
    )
    unique_products = np.zeros(session_count, np.int64)
    _count_products(session_index, products.index.to_numpy(), len(products.text), unique_products)
    index = pl.Series("session_index", session_index)
    visits = _visits(events, index, starts[:visit_count], sums[:visit_count], revenue[:visit_count])
    sessions = _session_table(visits, pl.Series(unique_products), cleaned.user_sessions)
    return Sessions(events.with_columns(index), visits, sessions, cleaned.user_sessions)


def _visits(
    events: pl.DataFrame,
    session_index: pl.Series,
    starts: Numbers,
    sums: Integers,
    revenue: Words,
) -> pl.DataFrame:
    first = pl.Series(starts)
    last = first.shift(-1, fill_value=events.height) - 1
    times = events["event_time"]
    return pl.DataFrame(
        {
            "session_index": session_index.gather(first),
            "session_number": events["session_number"].gather(first),
            "user_id": events["user_id"].gather(first),
            "event_time": times.gather(first),
            "last_event_time": times.gather(last),
        }
    ).with_columns(*sums_of_arrays(sums, revenue), event_date=pl.col("event_time").dt.date())


_SECOND = 1_000_000  # microseconds
_DAY = 86_400 * _SECOND


@kernel(
    types.UniTuple(types.int64, 2)(
        given(types.uint32),
        given(types.int64),
        given(types.int64),
        given(types.uint8),
        given(types.uint64, 2),
        types.int64,
        filled(types.uint32),
        filled(types.uint32),
        filled(types.int64, 2),
        filled(types.uint64, 2),
    )
)
def _sum_visits(
    numbers: Numbers,
    times: Integers,
    users: Integers,
    event_types: Bytes,
    prices: Words,
    timeout: int,
    session_index: Numbers,
    starts: Numbers,
    sums: Integers,
    revenue: Words,
) -> tuple[int, int]:
    """Cut sorted events into sessions and visits, and sum over these.

    Args:
        numbers: Each event's `session_number`.
        times: Microseconds.
        users: Ids.
        event_types: Numbers of `EVENT_TYPES`.
        prices: Low and high half.
        timeout: Microseconds.
        session_index: Filled for each event.
        starts: Filled with the first event of each visit.
        sums: Filled for each visit: events, then those of each type.
        revenue: Filled for each visit: low and high half.

    Returns:
        The number of visits and of sessions.
    """
    visit, session = -1, -1
    for row in range(len(numbers)):
        new_session = (
            row == 0 or numbers[row] != numbers[row - 1] or times[row] - times[row - 1] > timeout
        )
        session += new_session
        session_index[row] = session
        if (
            new_session
            or users[row] != users[row - 1]
            or times[row] // _DAY != times[row - 1] // _DAY
        ):
            visit += 1
            starts[visit] = row
            sums[visit] = 0
            revenue[visit] = 0
        add_event(sums, revenue, visit, event_types, prices, row)
    return visit + 1, session + 1


@kernel(types.void(given(types.uint32), given(types.uint32), types.int64, filled(types.int64)))
def _count_products(
    session_index: Numbers,
    products: Numbers,
    product_count: int,
    unique_products: Integers,
) -> None:
    """Count each session's distinct products; its events are neighbours."""
    last_session = np.full(product_count, -1, np.int64)
    for row in range(len(products)):
        if last_session[products[row]] != session_index[row]:
            last_session[products[row]] = session_index[row]
            unique_products[session_index[row]] += 1


def _session_table(
    visits: pl.DataFrame, unique_products: pl.Series, user_sessions: pl.Series
) -> pl.DataFrame:
    """Aggregate visits to sessions, in the order of `session_index`."""
    grouped = aggregate_runs(
        visits,
        run_starts(visits, ["session_index"]),
        first=("session_index", "session_number", "user_id", "event_time"),
        last=("last_event_time",),
        sums=EVENT_SUMS,
    ).rename(
        {
            "user_id": "user",
            "event_time": "session_start_time",
            "last_last_event_time": "session_end_time",
            "events": "event_count",
            "views": "view_count",
            "cart_adds": "cart_additions",
            "cart_removes": "cart_removals",
            "purchases": "purchase_count",
            "revenue": "total_revenue",
        }
    )
    added, converting = pl.col("cart_additions") > 0, pl.col("purchase_count") > 0
    return (
        _with_largest_user(grouped, visits)
        .select(
            _session_ids(grouped, user_sessions),
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
        )
        .with_columns(session_quality_tier=quality_tier(), session_length_bucket=length_bucket())
    )


_STAGE = pl.Enum(FUNNEL_STAGES)
_TIER = pl.Enum(QUALITY_TIERS)
_BUCKET = pl.Enum(LENGTH_BUCKETS)


def _session_ids(grouped: pl.DataFrame, user_sessions: pl.Series) -> pl.Series:
    """The session_id of each session: its user_session, numbered from the second one on."""
    numbers = _count_within_runs(grouped, "session_number")
    ids = user_sessions.gather(grouped["session_number"]).alias("session_id")
    later = (numbers > 0).arg_true()
    if not later.len():
        return ids
    return ids.scatter(
        later, ids.gather(later) + "_timeout_" + numbers.gather(later).cast(pl.String)
    )


def _count_within_runs(frame: pl.DataFrame, key: str) -> pl.Series:
    """The number of each row within its run of equal keys, from 0."""
    starts = run_starts(frame, [key])
    return pl.Series(np.arange(frame.height)) - starts.gather(run_numbers(starts, frame.height))


def _with_largest_user(grouped: pl.DataFrame, visits: pl.DataFrame) -> pl.DataFrame:
    """Replace `user` by the largest user_id as text, where a session has several."""
    session = pl.col("session_index")
    shared = visits.filter(
        (session == session.shift()) & (pl.col("user_id") != pl.col("user_id").shift())
    ).select("session_index")
    if not shared.height:
        return grouped
    largest = (
        visits.join(shared, on="session_index", how="semi")
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
        pl.when((length < 150) | (events < 3))
        .then(pl.lit("Low", _TIER))
        .when((length <= 600) & (events <= 10))
        .then(pl.lit("Medium", _TIER))
        .otherwise(pl.lit("High", _TIER))
    )


def length_bucket() -> pl.Expr:
    """Length bucket of a session, of `session_length` (seconds)."""
    length = pl.col("session_length")
    return (
        pl.when(length <= 60)
        .then(pl.lit("Very Short (0-60s)", _BUCKET))
        .when(length <= 300)
        .then(pl.lit("Short (61-300s)", _BUCKET))
        .when(length <= 600)
        .then(pl.lit("Medium (301-600s)", _BUCKET))
        .otherwise(pl.lit("Long (600+s)", _BUCKET))
    )


def event_table(shard: Sessions, products: IndexedProducts) -> TableBatch:
    """The rows of fct_events, in the order of `shard.events`.

    Texts are handed over as Parquet will store them: most are known once per session, visit or
    product, and need no hashing to be found again.
    """
    events, visits = shard.events, shard.visits
    visit = np.repeat(np.arange(visits.height, dtype=np.uint32), visits["events"])
    categories = events["category_id"].to_arrow().dictionary_encode()
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
            "brand",
            "category_code",
            "price",
            one.alias("quantity"),
            *(
                pl.when(is_type(event_type)).then(one).otherwise(zero).alias(flag)
                for flag, event_type in flags.items()
            ),
            pl.when(is_type("purchase")).then("price").alias("revenue"),
        ),
        {
            "event_id": fixed_width_array(event_ids(events, shard.user_sessions)),
            "user_id": dictionary_array(visit, visits["user_id"].cast(pl.String)),
            "user_session": dictionary_array(events["session_number"], shard.user_sessions),
            "session_id": dictionary_array(events["session_index"], shard.sessions["session_id"]),
            "product_id": dictionary_array(products.index, products.text),
            "category_id": pa.DictionaryArray.from_arrays(
                categories.indices, categories.dictionary.cast(pa.large_string())
            ),
        },
    )


def session_table(shard: Sessions) -> TableBatch:
    """The rows of fct_sessions."""
    return FCT_SESSIONS.name, FCT_SESSIONS.conform(shard.sessions), {}
