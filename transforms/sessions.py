"""Sessions: which events belong together, and fct_events and fct_sessions made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from numba import types

from transforms.cleaning import Cleaned
from transforms.event_ids import event_ids
from transforms.events import EVENT_SUMS, add_event, is_type, sums_of_arrays
from transforms.exact import halves_of_money
from transforms.kernels import Bytes, Flag, Integers, Numbers, Words, filled, given, kernel
from transforms.numbering import number_keys
from transforms.schema import (
    FCT_EVENTS,
    FCT_SESSIONS,
    FUNNEL_STAGES,
    LENGTH_BUCKETS,
    QUALITY_TIERS,
)
from transforms.sinks import TableBatch, dictionary_array
from transforms.texts import fixed_width_array
from transforms.variants import EncodedColumn


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


def sessionize(cleaned: Cleaned, products: EncodedColumn, timeout_seconds: int) -> Sessions:
    """Cut each user_session where neighbouring events are more than the timeout apart.

    Args:
        cleaned: The kept events.
        products: Their products.
        timeout_seconds: The longest gap within a session.
    """
    events = cleaned.events
    session_index = np.empty(events.height, np.uint32)
    of_visits, of_sessions = _Groups(events.height), _Groups(events.height)
    ordinals = np.empty(events.height, np.uint32)
    of_visits.count, of_sessions.count, is_shared = _cut_events(
        events["session_number"].to_numpy(),
        events["event_time"].to_physical().to_numpy(),
        events["user_id"].to_numpy(),
        events["event_type"].to_physical().to_numpy(),
        halves_of_money(events["price"]),
        timeout_seconds * _SECOND,
        session_index,
        ordinals,
        *of_visits.arrays,
        *of_sessions.arrays,
    )
    unique_products = np.zeros(of_sessions.count, np.int64)
    _count_products(session_index, products.numbers, len(products.texts), unique_products)
    events = events.with_columns(pl.Series("session_index", session_index))
    visits = of_visits.frame(events, ("session_index", "session_number", "user_id"))
    visits = visits.with_columns(event_date=pl.col("event_time").dt.date())
    grouped = of_sessions.frame(events, ("session_index", "session_number", "user_id"))
    if is_shared:
        grouped = _with_largest_user(grouped, visits)
    ids = _session_ids(grouped, ordinals[: of_sessions.count], cleaned.user_sessions)
    sessions = _session_table(grouped, ids, pl.Series(unique_products))
    return Sessions(events, visits, sessions, cleaned.user_sessions)


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


_SECOND = 1_000_000  # microseconds
_DAY = 86_400 * _SECOND


_GROUPS = (filled(types.uint32), filled(types.int64, 2), filled(types.uint64, 2))


@kernel(
    types.Tuple((types.int64, types.int64, types.boolean))(
        given(types.uint32),
        given(types.int64),
        given(types.int64),
        given(types.uint8),
        given(types.uint64, 2),
        types.int64,
        filled(types.uint32),
        filled(types.uint32),
        *_GROUPS,
        *_GROUPS,
    )
)
def _cut_events(
    numbers: Numbers,
    times: Integers,
    users: Integers,
    event_types: Bytes,
    prices: Words,
    timeout: int,
    session_index: Numbers,
    ordinals: Numbers,
    visit_starts: Numbers,
    visit_sums: Integers,
    visit_revenue: Words,
    session_starts: Numbers,
    session_sums: Integers,
    session_revenue: Words,
) -> tuple[int, int, Flag]:
    """Cut sorted events into sessions and visits, and sum over them.

    Args:
        numbers: Each event's `session_number`.
        times: Microseconds.
        users: Ids.
        event_types: Numbers of `EVENT_TYPES`.
        prices: Low and high half.
        timeout: Microseconds.
        session_index: Filled for each event.
        ordinals: Filled with the number of each session within its `session_number`, from 0.
        visit_starts: Filled with the first event of each visit.
        visit_sums: Filled for each visit: events, then those of each type.
        visit_revenue: Filled for each visit: low and high half.
        session_starts: The same for each session.
        session_sums: The same for each session.
        session_revenue: The same for each session.

    Returns:
        The number of visits and of sessions, and whether any session has several users.
    """
    visit, session = -1, -1
    is_shared: Flag = False
    for row in range(len(numbers)):
        is_new = row == 0 or numbers[row] != numbers[row - 1]
        new_session = is_new or times[row] - times[row - 1] > timeout
        if new_session:
            session += 1
            ordinals[session] = 0 if is_new else ordinals[session - 1] + 1
            session_starts[session] = row
            session_sums[session] = 0
            session_revenue[session] = 0
        session_index[row] = session
        new_user = not new_session and users[row] != users[row - 1]
        is_shared = is_shared or new_user
        if new_session or new_user or times[row] // _DAY != times[row - 1] // _DAY:
            visit += 1
            visit_starts[visit] = row
            visit_sums[visit] = 0
            visit_revenue[visit] = 0
        add_event(session_sums, session_revenue, session, event_types, prices, row)
        add_event(visit_sums, visit_revenue, visit, event_types, prices, row)
    return visit + 1, session + 1, is_shared


@kernel(types.void(given(types.uint32), given(types.int32), types.int64, filled(types.int64)))
def _count_products(
    session_index: Numbers,
    products: npt.NDArray[np.int32],
    product_count: int,
    unique_products: Integers,
) -> None:
    """Count each session's distinct products; its events are neighbours."""
    last_session = np.full(product_count, len(unique_products), np.uint32)
    for row in range(len(products)):
        if last_session[products[row]] != session_index[row]:
            last_session[products[row]] = session_index[row]
            unique_products[session_index[row]] += 1


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
_BUCKET = pl.Enum(LENGTH_BUCKETS)


def _session_ids(grouped: pl.DataFrame, ordinals: Numbers, user_sessions: pl.Series) -> pl.Series:
    """The session_id of each session: its user_session, numbered from the second one on."""
    ids = user_sessions.gather(grouped["session_number"]).alias("session_id")
    later = np.flatnonzero(ordinals)
    if not len(later):
        return ids
    numbers = pl.Series(ordinals[later]).cast(pl.String)
    return ids.scatter(later, ids.gather(later) + "_timeout_" + numbers)


def _with_largest_user(grouped: pl.DataFrame, visits: pl.DataFrame) -> pl.DataFrame:
    """Replace `user_id` by the largest as text, where a session has several."""
    session = pl.col("session_index")
    shared = visits.filter(
        (session == session.shift()) & (pl.col("user_id") != pl.col("user_id").shift())
    ).select("session_index")
    largest = (
        visits.join(shared, on="session_index", how="semi")
        .group_by("session_index")
        .agg(pl.col("user_id").cast(pl.String).max().cast(pl.Int64).alias("largest"))
    )
    return grouped.join(
        largest, on="session_index", how="left", maintain_order="left"
    ).with_columns(pl.coalesce("largest", "user_id").alias("user_id"))


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


def event_table(shard: Sessions, products: Mapping[str, EncodedColumn]) -> TableBatch:
    """The rows of fct_events, in the order of `shard.events`.

    Texts are handed over as Parquet will store them: all are known once per session, visit or
    variant, and need no hashing to be found again.

    Args:
        shard: The sessions.
        products: What the events say of their products, by column.
    """
    events, visits = shard.events, shard.visits
    users, first_visits = number_keys(visits["user_id"].to_numpy())
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
            "event_id": fixed_width_array(event_ids(events, shard.user_sessions)),
            "user_id": dictionary_array(
                np.repeat(users, visits["events"]),
                visits["user_id"].gather(first_visits).cast(pl.String),
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
