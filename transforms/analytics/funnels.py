"""Funnels of a shop's own: how far sessions get, and what is counted of it.

The semantics are those of `columnar.funnel_kernels`; here events are matched and parted by entity,
and attempts are counted by what they are broken down by.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import polars as pl

from transforms.analytics.calendar import period_starts
from transforms.analytics.sessions import Sessions
from transforms.columnar.funnel_kernels import (
    EXCLUSION_BIT,
    Furthest,
    Grouped,
    Masks,
    gather_steps,
    walk_steps,
)
from transforms.columnar.grouping import SECOND, sort_groups
from transforms.columnar.kernels import Flags, Integers, Numbers, Words
from transforms.columnar.key_index import number_keys, rows_in_order
from transforms.columnar.money import MONEY
from transforms.columnar.product_codes import PRODUCT_CODE, EncodedColumn, encoded_columns
from transforms.funnels import (
    ALL,
    CATEGORY_COLUMNS,
    MOST_STEPS,
    MOST_VALUES,
    NO_VALUE,
    OTHER_VALUES,
    OVERALL,
    PERIOD_BREAKDOWNS,
    SESSION_BREAKDOWNS,
    USER_BREAKDOWNS,
    EventFilter,
    Funnel,
)
from transforms.ingest.batch import EVENT_TYPE
from transforms.schema import (
    EVENT_TYPES,
    LENGTH_BUCKETS,
    MONEY_SCALE,
    QUALITY_TIERS,
    Period,
)

_DAY: Final = 86_400 * SECOND

_NO_WINDOW: Final = np.iinfo(np.int64).max

VALUE_KEYS: Final = ("funnel", "breakdown", "value")
"""What counts are broken down by: the place of the funnel, the breakdown, its value."""

_VALUE_TYPES: Final = {"funnel": pl.Int64(), "breakdown": pl.String(), "value": pl.String()}

KEPT_VALUES: Final = pl.Schema(_VALUE_TYPES)
"""Columns of `kept_values`."""

LEVELS: Final = pl.Schema(
    {**_VALUE_TYPES, "level": pl.Int64(), "open_until": pl.Int64(), "entities": pl.Int64()}
)
"""Columns of counts of entities by level.

`open_until` is the number of the last day on which the attempt may go on; NULL where it is through.
"""

WAITS: Final = pl.Schema(
    {**_VALUE_TYPES, "step": pl.Int64(), "seconds": pl.Int64(), "entities": pl.Int64()}
)
"""Columns of counts of entities by how long they took to a step, from the second on."""

USERS: Final = pl.Schema({**_VALUE_TYPES, "level": pl.Int64(), "users": pl.Int64()})
"""Columns of counts of users by the highest level of their entities."""

USER_LEVELS: Final = pl.Schema(
    {
        "user_id": pl.Int64(),
        "funnel": pl.Int64(),
        "breakdown": pl.Categorical(),
        "value": pl.Categorical(),
        "level": pl.Int64(),
    }
)
"""Columns of the levels of users, as they meet by user."""


ATTEMPTS: Final = pl.Schema(
    {
        "user_id": pl.Int64(),
        "funnel": pl.Int64(),
        "level": pl.Int64(),
        "open_until": pl.Int64(),
        **{f"wait_{step}": pl.Int64() for step in range(2, MOST_STEPS + 1)},
    }
)
"""Columns of the attempts of entities, as they meet by user where funnels need what users are.

`open_until` is as in `LEVELS`; of steps that a funnel does not have the seconds are 0.
"""

FUNNEL_EVENTS: Final = pl.Schema(
    {
        "user_id": pl.Int64(),
        "event_time": pl.Datetime("us", "UTC"),
        "event_type": EVENT_TYPE,
        "price": MONEY,
        "event_id": pl.UInt64(),
        "session_quality_tier": pl.Enum(QUALITY_TIERS),
        "session_length_bucket": pl.Enum(LENGTH_BUCKETS),
        PRODUCT_CODE: pl.UInt32(),
    }
)
"""Columns of events that meet by user; of `event_id` the first 16 digits, which only part ties.

What no funnel asks for is the same in all rows, and so takes no room.
"""


@dataclass(frozen=True)
class FunnelCounts:
    """What is counted of a shard.

    Attributes:
        levels: A `LEVELS` frame.
        waits: A `WAITS` frame.
        users: A `USERS` frame.
    """

    levels: pl.DataFrame
    waits: pl.DataFrame
    users: pl.DataFrame


@dataclass(frozen=True)
class FollowedFunnels:
    """What the entities of a shard tell of funnels.

    Attributes:
        counts: What it can count; no users, who may be in several shards.
        user_levels: A `USER_LEVELS` frame.
        attempts: An `ATTEMPTS` frame, of funnels that are broken down by what users are.
    """

    counts: FunnelCounts
    user_levels: pl.DataFrame
    attempts: pl.DataFrame


@dataclass(frozen=True)
class FunnelEvents:
    """Events that funnels look at.

    Attributes:
        rows: `event_time`, `event_type`, `price` and the product code.
        products: What they say of their products, by column.
        ids: The event_id of each, 32 bytes as words.
    """

    rows: pl.DataFrame
    products: Mapping[str, EncodedColumn]
    ids: Words

    @property
    def times(self) -> Integers:
        """Microseconds."""
        return self.rows["event_time"].to_physical().to_numpy()


def session_funnels(
    shard: Sessions,
    products: Mapping[str, EncodedColumn],
    ids: npt.NDArray[np.uint8],
    funnels: Sequence[Funnel],
    timeout_seconds: int,
) -> FollowedFunnels:
    """Follow the sessions of a shard through the funnels of scope `session`.

    Args:
        shard: The sessions.
        products: What `shard.events` say of their products.
        ids: The `event_ids` of `shard.events`.
        funnels: The funnels.
        timeout_seconds: The longest gap within a session.
    """
    events = FunnelEvents(shard.events, products, ids.view(np.uint64))
    following = _Following()
    sessions = shard.events["session_index"].to_numpy()
    ends = shard.sessions["session_end_time"].to_physical().to_numpy()
    users_of_sessions = shard.sessions["user"].to_numpy()
    for place, funnel in enumerate(funnels):
        if funnel.scope != "session":
            continue
        found = attempts(funnel, events, sessions)
        at = sessions[found.start]
        if funnel.window is None:
            until = ends[at] + timeout_seconds * SECOND
        else:
            until = events.times[found.start] + funnel.window * SECOND
        entities = _entities(funnel, found, users_of_sessions[at], until)
        of_session = shard.sessions.select(SESSION_BREAKDOWNS)[at]
        following.add(place, funnel, entities, _values(funnel, events, of_session, found.start))
    return following.done()


def funnel_events(
    shard: Sessions,
    products: Mapping[str, EncodedColumn],
    ids: npt.NDArray[np.uint8],
    funnels: Sequence[Funnel],
) -> pl.DataFrame:
    """The events of a session shard that funnels of scope `user` look at.

    Args:
        shard: The sessions.
        products: What `shard.events` say of their products.
        ids: The `event_ids` of `shard.events`.
        funnels: The funnels.

    Returns:
        A `FUNNEL_EVENTS` frame.
    """
    of_users = [funnel for funnel in funnels if funnel.scope == "user"]
    events = FunnelEvents(shard.events, products, ids.view(np.uint64))
    takes_part = np.zeros(shard.events.height, np.bool_)
    for funnel in of_users:
        takes_part |= _takes_part(funnel, events, event_masks(funnel, events))
    rows = np.flatnonzero(takes_part)
    sent = shard.events[rows]
    of_session = shard.sessions.select(SESSION_BREAKDOWNS)[sent["session_index"]]
    asked = {name for funnel in of_users for name in funnel.asks_for}
    same = {
        "price": pl.lit(0),
        PRODUCT_CODE: pl.col(PRODUCT_CODE).first(),
        **{name: pl.col(name).first() for name in SESSION_BREAKDOWNS},
    }
    return (
        sent.hstack(of_session)
        .with_columns(event_id=pl.Series(_numbers_of_digits(events.ids[rows, :2])))
        .with_columns(
            expression.alias(name) for name, expression in same.items() if name not in asked
        )
        .select(pl.col(name).cast(kind) for name, kind in FUNNEL_EVENTS.items())
    )


def _numbers_of_digits(words: Words) -> Words:
    """The numbers that 16 hexadecimal digits write, lower-case ASCII in two words each (SWAR)."""
    digits = words.byteswap()  # the first digit in the highest byte
    digits = (digits & np.uint64(0x0F0F0F0F0F0F0F0F)) + np.uint64(9) * (
        digits >> np.uint64(6) & np.uint64(0x0101010101010101)
    )
    digits = (digits | digits >> np.uint64(4)) & np.uint64(0x00FF00FF00FF00FF)
    digits = (digits | digits >> np.uint64(8)) & np.uint64(0x0000FFFF0000FFFF)
    digits = (digits | digits >> np.uint64(16)) & np.uint64(0x00000000FFFFFFFF)
    numbers: Words = digits[:, 0] << np.uint64(32) | digits[:, 1]
    return numbers


def user_funnels(sent: pl.DataFrame, funnels: Sequence[Funnel]) -> FollowedFunnels:
    """Follow the users of a shard through the funnels of scope `user`.

    Args:
        sent: `funnel_events` of all session shards, of these users.
        funnels: The funnels.
    """
    numbers, firsts = number_keys(sent["user_id"].to_numpy())
    order, ends = rows_in_order(numbers, len(firsts))
    sort_groups(ends, sent["event_time"].to_physical().to_numpy(), order)
    rows = sent[order]
    # As bytes that compare as the texts do.
    ids = rows["event_id"].to_numpy().byteswap().reshape(-1, 1)
    events = FunnelEvents(rows, encoded_columns(rows[PRODUCT_CODE].to_numpy()), ids)
    users = rows["user_id"].to_numpy()
    following = _Following()
    for place, funnel in enumerate(funnels):
        if funnel.scope != "user" or funnel.window is None:
            continue
        found = attempts(funnel, events, numbers[order])
        until = events.times[found.start] + funnel.window * SECOND
        entities = _entities(funnel, found, users[found.start], until)
        of_session = rows.select(SESSION_BREAKDOWNS)[found.start]
        following.add(place, funnel, entities, _values(funnel, events, of_session, found.start))
    return following.done()


class _Following:
    """Gathers what is counted of funnels, one after the other."""

    def __init__(self) -> None:
        self._levels, self._waits = [LEVELS.to_frame()], [WAITS.to_frame()]
        self._users, self._attempts = [USER_LEVELS.to_frame()], [ATTEMPTS.to_frame()]

    def add(
        self,
        place: int,
        funnel: Funnel,
        entities: pl.DataFrame,
        values: Iterable[tuple[str, pl.Series | None]],
    ) -> None:
        """Count the entities of a funnel by the values of its breakdowns, None for `overall`."""
        for breakdown, of_entities in values:
            told = entities
            if of_entities is not None:
                told = entities.with_columns(of_entities.alias("value"))
            levels, waits = _level_and_wait_counts(told, place, funnel, breakdown)
            self._levels.append(levels)
            self._waits.append(waits)
            self._users.append(_levels_of_users(told, place, breakdown))
        if funnel.user_breakdowns:
            missing = [name for name in ATTEMPTS if name not in (*entities.columns, "funnel")]
            self._attempts.append(
                entities.with_columns(
                    pl.lit(place, pl.Int64).alias("funnel"),
                    *(pl.lit(0, pl.Int64).alias(name) for name in missing),
                ).select(pl.col(name).cast(kind) for name, kind in ATTEMPTS.items())
            )

    def done(self) -> FollowedFunnels:
        """What was gathered."""
        counts = FunnelCounts(pl.concat(self._levels), pl.concat(self._waits), USERS.to_frame())
        return FollowedFunnels(counts, pl.concat(self._users), pl.concat(self._attempts))


def _level_and_wait_counts(
    told: pl.DataFrame, place: int, funnel: Funnel, breakdown: str
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Entities by level, and by their seconds to each step: a `LEVELS` and a `WAITS` frame."""
    waits = [WAITS.to_frame()]
    for step in range(2, len(funnel.steps) + 1):
        reached = told.filter(pl.col("level") >= step).with_columns(
            pl.lit(step, pl.Int64).alias("step"), pl.col(f"wait_{step}").alias("seconds")
        )
        waits.append(_counted(reached, place, breakdown, WAITS))
    return _counted(told, place, breakdown, LEVELS), pl.concat(waits)


def _entities(
    funnel: Funnel, found: Furthest, user_ids: Integers, open_until: Integers
) -> pl.DataFrame:
    """The entities: `user_id`, `level`, `open_until` as in `LEVELS`, and `wait_2` and so on.

    Args:
        funnel: The funnel.
        found: How far they got.
        user_ids: Their users.
        open_until: Until when they may go on, in microseconds.
    """
    is_through = pl.Series(found.level == len(funnel.steps))
    return pl.DataFrame(
        {
            "user_id": user_ids,
            "level": found.level,
            "open_until": pl.Series(open_until // _DAY).set(is_through, None),
            **{
                f"wait_{step}": found.waits[:, step - 1] // SECOND
                for step in range(2, len(funnel.steps) + 1)
            },
        }
    )


def _counted(told: pl.DataFrame, place: int, breakdown: str, schema: pl.Schema) -> pl.DataFrame:
    """Count entities by the columns of a schema, of those with a `value` by that too."""
    keys = [name for name in schema if name in told.columns]
    return _named(told.group_by(keys).agg(entities=pl.len()), place, breakdown, schema)


def _levels_of_users(told: pl.DataFrame, place: int, breakdown: str) -> pl.DataFrame:
    keys = [name for name in ("user_id", "value") if name in told.columns]
    return _named(told.group_by(keys).agg(pl.col("level").max()), place, breakdown, USER_LEVELS)


def _named(counted: pl.DataFrame, place: int, breakdown: str, schema: pl.Schema) -> pl.DataFrame:
    """The rows of a schema, of a funnel and a breakdown, their values as text."""
    if "value" in counted.columns:
        value = pl.col("value").cast(pl.String).fill_null(NO_VALUE)
    else:
        value = pl.lit(ALL)
    named = {"funnel": pl.lit(place), "breakdown": pl.lit(breakdown), "value": value}
    return counted.select(
        named.get(name, pl.col(name)).cast(kind).alias(name) for name, kind in schema.items()
    )


# Attempts -----------------------------------------------------------------------------------------


def attempts(funnel: Funnel, events: FunnelEvents, owners: Numbers) -> Furthest:
    """How far each entity got that took the first step, or any where they have no order.

    Args:
        funnel: The funnel.
        events: The events; those of an owner are neighbours, in the order of time.
        owners: Whose each event is.
    """
    masks = event_masks(funnel, events)
    grouped = _grouped(funnel, events, masks, owners)
    steps = len(funnel.steps)
    window = _NO_WINDOW if funnel.window is None else funnel.window * SECOND
    if funnel.order == "unordered":
        found = gather_steps(grouped, steps, window)
    else:
        between = [(each.after, each.before) for each in funnel.exclusions]
        found = walk_steps(
            grouped,
            steps,
            window,
            np.array(between, np.int64).reshape(-1, 2),
            is_strict=funnel.order == "strict",
        )
    entered = np.flatnonzero(found.level)
    return Furthest(found.level[entered], found.start[entered], found.waits[entered])


def _grouped(funnel: Funnel, events: FunnelEvents, masks: Masks, owners: Numbers) -> Grouped:
    """The events that take part, by entity."""
    order = np.flatnonzero(_takes_part(funnel, events, masks)).astype(np.uint32)
    if funnel.hold:
        held = [_column(events, name).numbers for name in funnel.hold]
        keys, firsts = number_keys(owners[order], *(column[order] for column in held))
        places, ends = rows_in_order(keys, len(firsts))
        order = order[places]
    else:
        of_rows = owners[order]
        ends = np.append(np.flatnonzero(of_rows[1:] != of_rows[:-1]) + 1, len(order))
        ends = ends[: len(order)].astype(np.int64)
    return Grouped(order, ends, events.times, masks, events.ids)


def _takes_part(funnel: Funnel, events: FunnelEvents, masks: Masks) -> Flags:
    """Which events an entity's attempts are made of."""
    takes_part = np.ones(len(masks), np.bool_) if funnel.order == "strict" else masks != 0
    for name in funnel.hold:
        takes_part &= _column(events, name).numbers >= 0
    return takes_part


def event_masks(funnel: Funnel, events: FunnelEvents) -> Masks:
    """Which steps and exclusions of a funnel each event matches: see `columnar.funnel_kernels`."""
    filters = [
        *((bit, step.filter) for bit, step in enumerate(funnel.steps)),
        *((EXCLUSION_BIT + bit, each.filter) for bit, each in enumerate(funnel.exclusions)),
    ]
    of_types = np.zeros(len(EVENT_TYPES), np.uint32)
    for bit, wanted in filters:
        for number, event_type in enumerate(EVENT_TYPES):
            if not wanted.events or event_type in wanted.events:
                of_types[number] |= np.uint32(1 << bit)
    masks: Masks = of_types[events.rows["event_type"].to_physical().to_numpy()]
    for bit, wanted in filters:
        for is_met in _conditions(wanted, events):
            masks[~is_met] &= np.uint32(~(1 << bit) & 0xFFFFFFFF)
    return masks


def _conditions(wanted: EventFilter, events: FunnelEvents) -> Iterator[Flags]:
    """For each condition beyond the event type whether the events meet it."""
    for name, values in wanted.properties:
        column = _column(events, name)
        # The last one is of −1, which stands for NULL.
        is_among = np.append(column.texts.is_in(list(values)).to_numpy(), np.False_)
        yield is_among[column.numbers]
    price = events.rows["price"]
    if wanted.price_min is not None:
        yield (price >= _bound(wanted.price_min, ROUND_CEILING)).to_numpy()
    if wanted.price_max is not None:
        yield (price <= _bound(wanted.price_max, ROUND_FLOOR)).to_numpy()


def _bound(price: Decimal, rounding: str) -> Any:
    """A price that money can be, which bounds the same money."""
    billionths = int(price.scaleb(MONEY_SCALE).to_integral_value(rounding))
    return pl.Series([Decimal(billionths).scaleb(-MONEY_SCALE)], dtype=MONEY)


def _column(events: FunnelEvents, name: str) -> EncodedColumn:
    """A property of the events' products."""
    if name not in CATEGORY_COLUMNS:
        return events.products[name]
    codes = events.products["category_code"]
    level = CATEGORY_COLUMNS.index(name)
    parts = codes.texts.str.split(".").list.get(level, null_on_oob=True)
    texts = parts.drop_nulls().unique(maintain_order=True)
    # The last one is of −1, which stands for NULL.
    numbers = np.append(
        parts.cast(pl.Enum(texts)).to_physical().cast(pl.Int32).fill_null(-1).to_numpy(),
        np.int32(-1),
    )
    return EncodedColumn(numbers[codes.numbers].astype(np.int32), texts)


# Breakdowns ---------------------------------------------------------------------------------------


def _values(
    funnel: Funnel, events: FunnelEvents, of_session: pl.DataFrame, starts: Numbers
) -> Iterator[tuple[str, pl.Series | None]]:
    """The values of the breakdowns for attempts that begin with events; None of `overall`.

    They become text only when they are counted; what users are is known later.

    Args:
        funnel: The funnel.
        events: The events.
        of_session: The `SESSION_BREAKDOWNS` of the sessions that attempts begin in.
        starts: The rows of the events that they begin with.
    """
    yield OVERALL, None
    for breakdown in funnel.breakdowns:
        if breakdown in USER_BREAKDOWNS:
            continue
        if breakdown in SESSION_BREAKDOWNS:
            yield breakdown, of_session[breakdown]
        elif breakdown in PERIOD_BREAKDOWNS:
            dates = events.rows["event_time"].gather(starts).dt.date()
            yield breakdown, period_starts(dates, cast(Period, breakdown))
        else:
            numbers, texts = _column(events, breakdown)
            found = pl.Series(numbers[starts])
            known = found.set(found < 0, None).cast(pl.UInt32)
            yield breakdown, known.cat.to(pl.Enum(texts))


def kept_values(levels: pl.DataFrame) -> pl.DataFrame:
    """The values that are told by name, of breakdowns that have more than `MOST_VALUES`.

    Args:
        levels: `LEVELS` frames of all shards.

    Returns:
        A `KEPT_VALUES` frame: the values with most entities, of equal ones the smaller text.
    """
    counted = levels.group_by(VALUE_KEYS).agg(pl.col("entities").sum())
    within = VALUE_KEYS[:-1]
    return (
        counted.filter(pl.len().over(within) > MOST_VALUES)
        .sort(*within, "entities", "value", descending=[False, False, True, False])
        .group_by(within, maintain_order=True)
        .head(MOST_VALUES)
        .select(VALUE_KEYS)
    )


def with_other_values(counts: pl.DataFrame, kept: pl.DataFrame) -> pl.DataFrame:
    """Rows with `VALUE_KEYS`, `(other)` in place of the values that are not told by name.

    Args:
        counts: The rows.
        kept: `kept_values` of all shards.
    """
    if not kept.height:
        return counts
    within = list(VALUE_KEYS[:-1])
    marked = counts.join(
        kept.with_columns(is_kept=pl.lit(value=True)), on=VALUE_KEYS, how="left"
    ).join(
        kept.select(within).unique().with_columns(is_cut=pl.lit(value=True)), on=within, how="left"
    )
    is_other = pl.col("is_cut").is_not_null() & pl.col("is_kept").is_null()
    return marked.with_columns(
        value=pl.when(is_other).then(pl.lit(OTHER_VALUES)).otherwise("value")
    ).select(counts.columns)


def user_counts(
    user_levels: pl.DataFrame,
    attempted: pl.DataFrame,
    users: pl.DataFrame,
    funnels: Sequence[Funnel],
    kept: pl.DataFrame,
) -> FunnelCounts:
    """What is counted of the users of a shard when all of them are known.

    Args:
        user_levels: `USER_LEVELS` frames of all shards, of these users.
        attempted: `ATTEMPTS` frames of the same.
        users: The users: `user_id` and the `USER_BREAKDOWNS`.
        funnels: The funnels.
        kept: `kept_values` of all shards.
    """
    told = with_other_values(
        user_levels.with_columns(pl.col("breakdown", "value").cast(pl.String)), kept
    )
    highest = told.group_by("user_id", *VALUE_KEYS).agg(pl.col("level").max())
    levels, waits, counted = [LEVELS.to_frame()], [WAITS.to_frame()], [_users_by_level(highest)]
    for place, funnel in enumerate(funnels):
        for breakdown in funnel.user_breakdowns:
            values = users.select("user_id", pl.col(breakdown).alias("value"))
            entities = attempted.filter(pl.col("funnel") == place).drop("funnel")
            found = _level_and_wait_counts(
                entities.join(values, on="user_id", how="left"), place, funnel, breakdown
            )
            levels.append(found[0])
            waits.append(found[1])
            of_all = highest.filter(
                pl.col("funnel") == place, pl.col("breakdown") == OVERALL
            ).select("user_id", "funnel", "level", pl.lit(breakdown).alias("breakdown"))
            by_value = of_all.join(values, on="user_id", how="left").with_columns(
                pl.col("value").cast(pl.String).fill_null(NO_VALUE)
            )
            counted.append(_users_by_level(by_value))
    return FunnelCounts(pl.concat(levels), pl.concat(waits), pl.concat(counted))


def _users_by_level(highest: pl.DataFrame) -> pl.DataFrame:
    """A `USERS` frame of users by their highest level."""
    return (
        highest.group_by(*VALUE_KEYS, "level")
        .agg(pl.len().cast(pl.Int64).alias("users"))
        .select(USERS.names())
    )
