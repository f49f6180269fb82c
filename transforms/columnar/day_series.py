"""Kernels over the days of items: rows sorted by item and day, each day of an item once."""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import types

from transforms.columnar.kernels import (
    Integer,
    Integers,
    Numbers,
    Slots,
    Word,
    filled,
    given,
    helper,
    kernel,
    mixed,
)
from transforms.columnar.money import Halves, add_money, is_more_money, subtract_money


@kernel(
    types.int64(
        given(types.uint32),
        given(types.int64),
        given(types.int64),
        given(types.int64, 2),
        given(types.uint64, 2),
        given(types.int64),
        given(types.int64),
        filled(types.uint32),
        filled(types.int64, 2),
        filled(types.uint64, 2),
        filled(types.int64),
        filled(types.int64),
    )
)
def merge_days(
    order: Numbers,
    items: Integers,
    days: Integers,
    counts: Integers,
    money: Halves,
    firsts: Integers,
    lasts: Integers,
    rows: Numbers,
    merged_counts: Integers,
    merged_money: Halves,
    merged_firsts: Integers,
    merged_lasts: Integers,
) -> int:
    """Merge rows of the same item and day.

    A row whose first count is 0 tells no times.

    Args:
        order: The rows, sorted by item and day.
        items: Each row's.
        days: Each row's.
        counts: Each row's, added up.
        money: Each row's, added up.
        firsts: Each row's first time.
        lasts: Each row's last time.
        rows: Filled with a row of each item and day.
        merged_counts: Filled; zeros.
        merged_money: Filled; zeros.
        merged_firsts: Filled with the smallest.
        merged_lasts: Filled with the largest.

    Returns:
        How many items and days there are.
    """
    at = -1
    has_time = False
    for place in range(len(order)):
        row = order[place]
        if place == 0 or items[row] != items[rows[at]] or days[row] != days[rows[at]]:
            at += 1
            rows[at] = row
            has_time = False
        if counts[row, 0]:
            if not has_time or firsts[row] < merged_firsts[at]:
                merged_firsts[at] = firsts[row]
            if not has_time or lasts[row] > merged_lasts[at]:
                merged_lasts[at] = lasts[row]
            has_time = True
        for column in range(counts.shape[1]):
            merged_counts[at, column] += counts[row, column]
        add_money(merged_money, at, money, row)
    return at + 1


PERIOD_COUNTS: Final = ("active", "new", "retained", "resurrected", "dormant")
"""What `follow_periods` counts, in this order."""

PERIOD_MONEY: Final = ("all", "new", "resurrected", "expansion", "contraction", "churned")
"""What `follow_periods` adds up, in this order."""


@kernel(
    types.void(
        given(types.int64),
        given(types.uint32),
        given(types.int64),
        given(types.uint64, 2),
        filled(types.int64, 2),
        filled(types.uint64, 2),
    )
)
def follow_periods(
    ends: Integers,
    slots: Numbers,
    periods: Integers,
    money: Halves,
    counts: Integers,
    sums: Halves,
) -> None:
    """Follow each item from period to period: when it is new, stays, leaves, comes back.

    Args:
        ends: Where each item's rows end.
        slots: The place of each row's period in `periods`.
        periods: Indexes of periods, ascending: those that occur, and each one after them unless
            it lies after the last.
        money: Each row's.
        counts: Zeros; `PERIOD_COUNTS` are added up, a row for each period.
        sums: Zeros; `PERIOD_MONEY` are added up, as many rows for each period.
    """
    own = np.zeros((2, 2), np.uint64)  # of this period, and of the one before
    kinds = 6
    row = np.int64(0)
    for end in ends:
        before = np.int64(-1)
        while row < end:
            slot = np.int64(slots[row])
            own[0] = 0
            while row < end and slots[row] == slot:
                add_money(own, 0, money, row)
                row += 1
            at = slot * kinds
            counts[slot, 0] += 1
            add_money(sums, at, own, 0)
            if before < 0:
                counts[slot, 1] += 1
                add_money(sums, at + 1, own, 0)
            elif periods[slot] == periods[before] + 1:
                counts[slot, 2] += 1
                if is_more_money(own, 0, own, 1):
                    add_money(sums, at + 3, own, 0)
                    subtract_money(sums, at + 3, own, 1)
                else:
                    add_money(sums, at + 4, own, 1)
                    subtract_money(sums, at + 4, own, 0)
            else:
                counts[slot, 3] += 1
                add_money(sums, at + 2, own, 0)
                counts[before + 1, 4] += 1
                add_money(sums, (before + 1) * kinds + 5, own, 1)
            before = slot
            own[1] = own[0]
        if 0 <= before < len(periods) - 1 and periods[before + 1] == periods[before] + 1:
            counts[before + 1, 4] += 1
            add_money(sums, (before + 1) * kinds + 5, own, 1)


@kernel(
    types.void(
        given(types.int64),
        given(types.uint32),
        given(types.int64),
        given(types.int32),
        given(types.int32),
        types.int64,
        filled(types.int64),
    )
)
def open_windows(
    ends: Integers,
    numbers: Numbers,
    days: Integers,
    opened: Slots,
    closed: Slots,
    width: int,
    changes: Integers,
) -> None:
    """Add the changes of the number of items that have a day among the last so many.

    Each day of an item opens a window of `width` days; +1 where their union begins, −1 behind its
    end.

    Args:
        ends: Where each item's rows end.
        numbers: Each row's day, numbered.
        days: The day of each number.
        opened: For each number the place of its day in `changes`.
        closed: For each number the place of the day behind its window, −1 where it does not
            matter.
        width: Days.
        changes: Zeros; added to.
    """
    row = 0
    for end in ends:
        last = np.int64(-1)
        while row < end:
            number = np.int64(numbers[row])
            if last < 0 or days[number] >= days[last] + width:
                if last >= 0:
                    changes[closed[last]] -= 1
                changes[opened[number]] += 1
            last = number
            row += 1
        if last >= 0 and closed[last] >= 0:
            changes[closed[last]] -= 1


CALENDAR: Final = 0
"""Windows are periods, by their indexes."""

ROLLING: Final = 1
"""Windows have one length."""

BRACKET: Final = 2
"""Windows end so many days after the start, each at its own number."""

COHORT_COUNTS: Final = (
    "ending",
    "retained",
    "retained_buyers",
    "later",
    "later_buyers",
    "purchases",
    "orders",
)
"""What `add_cohort_windows` counts, in this order."""

COHORT_MONEY: Final = ("revenue", "base_ending", "revenue_ending")
"""What `add_cohort_windows` adds up, in this order."""


@helper
def _window(
    method: Integer, bounds: Integers, first_index: Integer, index: Integer, age: Integer
) -> Integer:
    """The number of the window that holds a day.

    Args:
        method: `CALENDAR`, `ROLLING` or `BRACKET`.
        bounds: Of rolling windows their length; of brackets the last day of each.
        first_index: Index of the period that holds the start.
        index: Index of the period that holds the day.
        age: Days from the start.
    """
    number: Integer = 0
    if method == CALENDAR:
        number = index - first_index
    elif method == ROLLING:
        number = age // bounds[0]
    else:
        while number < len(bounds) and age > bounds[number]:
            number += 1
    return number


@helper
def _cell(
    keys: Integers, slots: Slots, cells: Integers, cohort: Integer, number: Integer
) -> Integer:
    """The place of a cohort's window, which is a new one where it has none yet.

    Args:
        keys: The cohort and the number of each place.
        slots: Places + 1 at their hashes; a power of two of them.
        cells: How many places are taken.
        cohort: The cohort.
        number: The window's.
    """
    at: Integer
    hashed = mixed(Word(cohort) << Word(32), Word(number))
    slot = np.int64(hashed & Word(len(slots) - 1))
    while slots[slot]:
        at = np.int64(slots[slot] - 1)
        if keys[at, 0] == cohort and keys[at, 1] == number:
            return at
        slot = (slot + 1) & (len(slots) - 1)
    at = cells[0]
    cells[0] += 1
    slots[slot] = at + 1
    keys[at, 0], keys[at, 1] = cohort, number
    return at


@kernel(
    types.int64(
        given(types.int64),
        given(types.int64),
        given(types.int64),
        given(types.int64, 2),
        given(types.uint64, 2),
        types.boolean,
        types.int64,
        given(types.int64),
        types.int64,
        types.int64,
        types.int64,
        filled(types.int32),
        filled(types.int64, 2),
        filled(types.int64, 2),
        filled(types.uint64, 2),
    )
)
def add_cohort_windows(
    ends: Integers,
    days: Integers,
    indexes: Integers,
    bought: Integers,
    money: Halves,
    by_purchase: bool,
    method: int,
    bounds: Integers,
    last_day: int,
    last_index: int,
    last_complete_index: int,
    slots: Slots,
    keys: Integers,
    counts: Integers,
    sums: Halves,
) -> int:
    """Add items to the windows of their cohorts.

    An item's windows are numbered from that of its start on. Only windows that end by the last day
    are added to; the last of them (−1 where there is none) is the item's *ending* window. Counts
    and money at the ending window hold for it and all before it.

    Args:
        ends: Where each item's rows end.
        days: Each row's.
        indexes: Index of the period that holds each row's day; of an item's start, its cohort.
        bought: Each row's purchases and orders.
        money: Each row's.
        by_purchase: Whether an item starts on its first day with a purchase, rather than on its
            first one.
        method: `CALENDAR`, `ROLLING` or `BRACKET`.
        bounds: Of rolling windows their length; of brackets the last day of each.
        last_day: The last one that is looked at.
        last_index: Index of the period that holds it.
        last_complete_index: Index of the last period that ends by it.
        slots: Zeros; a power of two, more than there are keys.
        keys: Room for a key a row and three an item; filled with cohort and window.
        counts: Zeros; `COHORT_COUNTS` are added up, a row for each key.
        sums: Zeros; `COHORT_MONEY` are added up, three rows for each key.

    Returns:
        The number of keys. Each window that has begun has one, or a later one of its cohort.
    """
    cells = np.zeros(1, np.int64)
    minus: Integer = np.int64(-1)
    own = np.zeros((2, 2), np.uint64)  # in the first window; in all that are complete
    begin = np.int64(0)
    for end in ends:
        row = begin
        begin = end
        if by_purchase:
            while row < end and bought[row, 0] == 0:
                row += 1
        if row == end:
            continue
        start, cohort = days[row], indexes[row]
        begun = _window(method, bounds, cohort, last_index, last_day - start)
        # A window is complete if the one of the next day is another.
        ending = _window(method, bounds, cohort, last_complete_index + 1, last_day + 1 - start) - 1
        if method == BRACKET:
            begun = min(begun, len(bounds) - 1)
        _cell(keys, slots, cells, cohort, begun)
        at_end = _cell(keys, slots, cells, cohort, ending)
        counts[at_end, 0] += 1
        if ending < 0:
            continue
        own[:] = 0
        number, at, last, last_bought = minus, minus, minus, minus
        has_bought = False
        while row < end:
            window = _window(method, bounds, cohort, indexes[row], days[row] - start)
            last = window
            if bought[row, 0]:
                last_bought = window
            if window <= ending:
                if window != number:
                    number, has_bought = window, False
                    at = _cell(keys, slots, cells, cohort, number)
                    counts[at, 1] += 1
                if bought[row, 0]:
                    if not has_bought:
                        counts[at, 2] += 1
                        has_bought = True
                    counts[at, 5] += bought[row, 0]
                    counts[at, 6] += bought[row, 1]
                    add_money(sums, 3 * at, money, row)
                    add_money(own, 1, money, row)
                    if number == 0:
                        add_money(own, 0, money, row)
            row += 1
        counts[_cell(keys, slots, cells, cohort, min(last, ending)), 3] += 1
        if last_bought >= 0:
            counts[_cell(keys, slots, cells, cohort, min(last_bought, ending)), 4] += 1
        add_money(sums, 3 * at_end + 1, own, 0)
        add_money(sums, 3 * at_end + 2, own, 1)
    return int(cells[0])
