"""Kernels over groups of neighbouring events, and what is summed over events."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl
from numba import types

from transforms.columnar.kernels import (
    AHEAD,
    Bytes,
    Flag,
    Integer,
    Integers,
    Numbers,
    Words,
    filled,
    given,
    helper,
    kernel,
    prefetch,
)
from transforms.columnar.money import MONEY, Halves, add_money, money_of_halves
from transforms.schema import EVENT_TYPES

EVENT_SUMS = ("events", "views", "cart_adds", "cart_removes", "purchases", "revenue")
"""What is summed over events; `revenue` is money, the others counts (Int64).

The four in the middle count the events of each type, in the order of `EVENT_TYPES`.
"""


EVENT_SUM_TYPES = {name: MONEY if name == "revenue" else pl.Int64() for name in EVENT_SUMS}
"""Their types."""

EVENT_RANGES = (
    "first_event_date",
    "last_event_date",
    "last_purchase_date",
    "min_price",
    "max_price",
)
"""The smallest and largest values over events (UTC dates and money); NULL without a purchase."""


EVENT_RANGE_TYPES = {name: MONEY if name.endswith("price") else pl.Date() for name in EVENT_RANGES}
"""Their types."""

_PURCHASE = EVENT_TYPES.index("purchase")


@helper
def add_event(
    counts: npt.NDArray[np.int64],
    revenue: Halves,
    at: Integer,
    event_types: Bytes,
    prices: Halves,
    row: Integer,
) -> None:
    """Add an event to a row of sums, in a kernel.

    Args:
        counts: Rows of all `EVENT_SUMS` but the last.
        revenue: Rows of the last.
        at: The row that is added to.
        event_types: Numbers of `EVENT_TYPES`.
        prices: Of the events.
        row: The event.
    """
    counts[at, 0] += 1
    counts[at, 1 + event_types[row]] += 1
    if event_types[row] == _PURCHASE:
        add_money(revenue, at, prices, row)


def sums_of_arrays(counts: npt.NDArray[np.int64], revenue: Halves) -> list[pl.Series]:
    """The columns `EVENT_SUMS` of what kernels have summed."""
    return [
        *(pl.Series(name, counts[:, column]) for column, name in enumerate(EVENT_SUMS[:-1])),
        money_of_halves(revenue).alias(EVENT_SUMS[-1]),
    ]


@kernel(types.void(given(types.int64), given(types.int64), filled(types.uint32)))
def sort_groups(ends: Integers, times: Integers, order: Numbers) -> None:
    """Sort the rows of each group by time, rows of equal times in the order given.

    Args:
        ends: Where each group's rows end.
        times: Each row's time.
        order: The rows, parted by group; sorted.
    """
    start = 0
    for end in ends:
        for place in range(start + 1, end):
            if times[order[place]] < times[order[place - 1]]:
                rows = order[start:end].copy()
                order[start:end] = rows[np.argsort(times[rows], kind="mergesort")]
                break
        start = end


@kernel(
    types.int64(given(types.uint32), given(types.int64), given(types.uint32), filled(types.uint32))
)
def find_neighbours(numbers: Numbers, times: Integers, order: Numbers, near: Numbers) -> int:
    """Find the rows that have a neighbour of the same group and time.

    Args:
        numbers: Each row's group.
        times: Each row's time.
        order: The rows in the order of (group, time).
        near: Filled with those rows, in that order.

    Returns:
        How many there are.
    """
    count = 0
    was_near = False
    for place in range(1, len(order)):
        row, before = order[place], order[place - 1]
        is_near = times[row] == times[before] and numbers[row] == numbers[before]
        if is_near:
            if not was_near:
                near[count] = before
                count += 1
            near[count] = row
            count += 1
        was_near = is_near
    return count


SECOND = 1_000_000  # microseconds


_DAY = 86_400 * SECOND


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
def cut_events(
    numbers: Numbers,
    times: Integers,
    users: Integers,
    event_types: Bytes,
    prices: Words,
    timeout: int,
    session_index: Numbers,
    ordinals: Numbers,
    session_day_starts: Numbers,
    session_day_sums: Integers,
    session_day_revenue: Words,
    session_starts: Numbers,
    session_sums: Integers,
    session_revenue: Words,
) -> tuple[int, int, Flag]:
    """Cut sorted events into sessions and session days, and sum over them.

    Args:
        numbers: Each event's `session_number`.
        times: Microseconds.
        users: Ids.
        event_types: Numbers of `EVENT_TYPES`.
        prices: Low and high half.
        timeout: Microseconds.
        session_index: Filled for each event.
        ordinals: Filled with the number of each session within its `session_number`, from 0.
        session_day_starts: Filled with the first event of each session day.
        session_day_sums: Filled for each session day: events, then those of each type.
        session_day_revenue: Filled for each session day: low and high half.
        session_starts: The same for each session.
        session_sums: The same for each session.
        session_revenue: The same for each session.

    Returns:
        The number of session days and of sessions, and whether any session has several users.
    """
    session_day, session = -1, -1
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
            session_day += 1
            session_day_starts[session_day] = row
            session_day_sums[session_day] = 0
            session_day_revenue[session_day] = 0
        add_event(session_sums, session_revenue, session, event_types, prices, row)
        add_event(session_day_sums, session_day_revenue, session_day, event_types, prices, row)
    return session_day + 1, session + 1, is_shared


@kernel(types.void(given(types.uint32), given(types.int32), types.int64, filled(types.int64)))
def count_products(
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


@kernel(
    types.void(
        given(types.uint32),
        given(types.uint8),
        given(types.uint64, 2),
        filled(types.int64, 2),
        filled(types.uint64, 2),
    )
)
def add_events(
    product_codes: Numbers, event_types: Bytes, prices: Halves, sums: Integers, revenue: Halves
) -> None:
    """Add events to the sums of their product codes."""
    for row in range(len(product_codes)):
        ahead = np.int64(product_codes[min(row + AHEAD, len(product_codes) - 1)])
        prefetch(sums, ahead * sums.shape[1])
        add_event(sums, revenue, np.int64(product_codes[row]), event_types, prices, row)


NEVER = np.iinfo(np.int64).min
"""What stands for no time."""


RANGE_WORDS = 8
"""Words that a range takes: a line of the cache, so that an event waits for memory once."""


@kernel(
    types.void(
        given(types.uint32),
        given(types.int64),
        given(types.uint8),
        given(types.uint64, 2),
        filled(types.int64, 2),
    )
)
def widen_ranges(
    product_codes: Numbers,
    times: Integers,
    event_types: Bytes,
    prices: Halves,
    ranges: Integers,
) -> None:
    """Widen the ranges of product codes by events.

    Args:
        product_codes: Each event's.
        times: Each event's, microseconds.
        event_types: Numbers of `EVENT_TYPES`.
        prices: Of the events, not negative.
        ranges: For each product code `RANGE_WORDS`: how many events it has, the first and the last
            time, that of the last purchase, `NEVER` without one, and both halves of the smallest
            price and of the largest.
    """
    for row in range(len(product_codes)):
        ahead = np.int64(product_codes[min(row + AHEAD, len(product_codes) - 1)])
        prefetch(ranges, ahead * RANGE_WORDS)
        code, time = np.int64(product_codes[row]), times[row]
        low, high = prices[row, 0], np.int64(prices[row, 1])
        is_new = ranges[code, 0] == 0
        ranges[code, 0] += 1
        if is_new or time < ranges[code, 1]:
            ranges[code, 1] = time
        if is_new or time > ranges[code, 2]:
            ranges[code, 2] = time
        if is_new:
            ranges[code, 3] = NEVER
        if event_types[row] == _PURCHASE:
            ranges[code, 3] = max(ranges[code, 3], time)
        smallest, largest = ranges[code, 5], ranges[code, 7]
        if is_new or high < smallest or (high == smallest and low < np.uint64(ranges[code, 4])):
            ranges[code, 4], ranges[code, 5] = np.int64(low), high
        if is_new or high > largest or (high == largest and low > np.uint64(ranges[code, 6])):
            ranges[code, 6], ranges[code, 7] = np.int64(low), high


@kernel(
    types.Tuple((types.int64, types.boolean))(
        given(types.uint32),
        given(types.int64),
        given(types.uint32),
        given(types.uint32),
        filled(types.uint32),
        filled(types.uint32),
    )
)
def find_exposures(
    sessions: Numbers,
    users: Integers,
    product_codes: Numbers,
    topics: Numbers,
    last_session: Numbers,
    touched: Numbers,
) -> tuple[int, Flag]:
    """Find the first event of each session and topic, and of each change of its users.

    Args:
        sessions: Each event's, in ascending order.
        users: Each event's.
        product_codes: Each event's.
        topics: For each product code what it counts for.
        last_session: Zeros, one for each topic; filled. (Most of them are not even looked at, and
            memory that the system gives as zeros costs nothing until then.)
        touched: Filled with the events.

    Returns:
        How many there are, and whether a session has several users.
    """
    last_event = np.empty(len(last_session), np.uint32)
    count = 0
    has_shared: Flag = False
    for row in range(len(sessions)):
        prefetch(topics, np.int64(product_codes[min(row + AHEAD, len(product_codes) - 1)]))
        topic, session = topics[product_codes[row]], sessions[row]
        has_shared |= row > 0 and session == sessions[row - 1] and users[row] != users[row - 1]
        # 0 is no session here.
        if last_session[topic] != session + 1 or users[last_event[topic]] != users[row]:
            touched[count] = row
            count += 1
            last_session[topic] = session + 1
            last_event[topic] = row
    return count, has_shared
