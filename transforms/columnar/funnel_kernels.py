"""How far entities get in a funnel: one pass over the events of each.

An event's mask tells which steps it matches, the first in bit 0, and above them, from bit
`EXCLUSION_BIT` on, which exclusions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from numba import types

from transforms.columnar.kernels import (
    Flag,
    Integer,
    Integers,
    Numbers,
    Word,
    Words,
    filled,
    given,
    helper,
    kernel,
    trailing_zeros,
)

EXCLUSION_BIT: Final = 16

_NEVER: Final = np.iinfo(np.int64).min
"""The start of a chain that is not there."""

_FEW: Final = 16
"""Events of one second that are sorted by insertion."""

_NOTHING: Final = EXCLUSION_BIT
"""The rank of an event that matches nothing, behind those of all steps."""

Masks = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class Furthest:
    """How far each entity got.

    Attributes:
        level: The most steps of a chain.
        start: The row that begins the attempt in which the level was first reached; not set where
            it is 0.
        waits: For each level that was reached how long it took when it was first reached, in the
            unit of the times; 0 for the first.
    """

    level: npt.NDArray[np.uint8]
    start: Numbers
    waits: Integers


@dataclass(frozen=True)
class Grouped:
    """Events, parted by entity.

    Attributes:
        order: Rows of events, those of an entity together, in the order of time.
        ends: Where the rows of each entity end.
        times: Each event's time; differences must not overflow.
        masks: Each event's mask.
        ids: Each event's id, 32 bytes; of those of one time and rank the smaller comes first.
    """

    order: Numbers
    ends: Integers
    times: Integers
    masks: Masks
    ids: Words


def walk_steps(
    events: Grouped, steps: int, window: int, exclusions: Integers, *, is_strict: bool
) -> Furthest:
    """The furthest that each entity got through steps that follow each other.

    Args:
        events: The events; those of one time are put into their order.
        steps: How many steps there are.
        window: The longest time from the first to the last event of a chain.
        exclusions: A row for each: the steps, from 1, after and before which it must not fall.
        is_strict: Whether each event of a chain must be the one right after the one before.
    """
    found = _none_yet(len(events.ends), steps)
    _walk_steps(
        events.order,
        events.ends,
        events.times,
        events.masks,
        events.ids,
        window,
        exclusions,
        is_strict,
        found.level,
        found.start,
        found.waits,
    )
    return found


def gather_steps(events: Grouped, steps: int, window: int) -> Furthest:
    """The most steps that each entity took within a window, in any order.

    Args:
        events: The events; those of one time are put into their order. Each counts for the first
            step that it matches.
        steps: How many steps there are.
        window: The longest time from the first to the last event.
    """
    found = _none_yet(len(events.ends), steps)
    _gather_steps(
        events.order,
        events.ends,
        events.times,
        events.masks,
        events.ids,
        window,
        found.level,
        found.start,
        found.waits,
    )
    return found


def _none_yet(entities: int, steps: int) -> Furthest:
    return Furthest(
        np.zeros(entities, np.uint8),
        np.zeros(entities, np.uint32),
        np.zeros((entities, steps), np.int64),
    )


@helper
def _rank(mask: Integer) -> Integer:
    """The rank of an event among those of its time: an exclusion, then the steps."""
    if mask >> EXCLUSION_BIT:
        return -1
    return np.int64(trailing_zeros(np.uint64(mask))) if mask else _NOTHING


@helper
def _is_before(masks: Masks, ids: Words, row: Integer, other: Integer) -> Flag:
    """Whether an event comes before another of the same time."""
    rank, other_rank = _rank(masks[row]), _rank(masks[other])
    if rank != other_rank:
        return rank < other_rank
    for word in range(ids.shape[1]):
        differing = ids[row, word] ^ ids[other, word]
        if differing:
            shift = np.uint64(trailing_zeros(differing) // 8 * 8)
            byte, other_byte = ids[row, word] >> shift, ids[other, word] >> shift
            is_less: Flag = byte & np.uint64(255) < other_byte & np.uint64(255)
            return is_less
    return False


@helper
def _swapped(word: Word) -> Word:
    """A word's bytes in the other order, so that words compare as their bytes do."""
    swapped = Word(0)
    for place in range(0, 64, 8):
        swapped |= (word >> Word(place) & Word(255)) << Word(56 - place)
    return swapped


@helper
def _sort_run(order: Numbers, masks: Masks, ids: Words, start: Integer, end: Integer) -> None:
    """Sort events of one time."""
    if end - start <= _FEW:
        for place in range(start + 1, end):
            row, at = order[place], place
            while at > start and _is_before(masks, ids, row, order[at - 1]):
                order[at] = order[at - 1]
                at -= 1
            order[at] = row
        return
    # A robot may have thousands in a second: stable sorts, by what decides least first.
    for word in range(ids.shape[1] - 1, -2, -1):
        rows = order[start:end].copy()
        keys = np.empty(len(rows), np.uint64)
        for place in range(len(rows)):
            if word < 0:
                keys[place] = _rank(masks[rows[place]]) + 1
            else:
                keys[place] = _swapped(ids[rows[place], word])
        order[start:end] = rows[np.argsort(keys, kind="mergesort")]


@helper
def _sort_ties(
    order: Numbers, times: Integers, masks: Masks, ids: Words, start: Integer, end: Integer
) -> None:
    """Sort the events of each time of an entity."""
    first = start
    for place in range(start + 1, end + 1):
        if place == end or times[order[place]] != times[order[first]]:
            if place - first > 1:
                _sort_run(order, masks, ids, first, place)
            first = place


_FURTHEST: Final = (filled(types.uint8), filled(types.uint32), filled(types.int64, 2))

_EVENTS: Final = (
    filled(types.uint32),
    given(types.int64),
    given(types.int64),
    given(types.uint32),
    given(types.uint64, 2),
)


@kernel(types.void(*_EVENTS, types.int64, given(types.int64, 2), types.boolean, *_FURTHEST))
def _walk_steps(
    order: Numbers,
    ends: Integers,
    times: Integers,
    masks: Masks,
    ids: Words,
    window: int,
    exclusions: Integers,
    is_strict: Flag,
    levels: npt.NDArray[np.uint8],
    starts: Numbers,
    waits: Integers,
) -> None:
    """Keep for each level the latest start of a chain that may go on; see `walk_steps`."""
    steps = waits.shape[1]
    start_times, start_rows = np.empty(steps, np.int64), np.empty(steps, np.uint32)
    begin = 0
    for entity in range(len(ends)):
        end = ends[entity]
        _sort_ties(order, times, masks, ids, begin, end)
        start_times[:] = _NEVER
        level = 0
        for place in range(begin, end):
            row = order[place]
            mask, time = masks[row], times[row]
            if mask >> EXCLUSION_BIT:
                for exclusion in range(len(exclusions)):
                    if mask >> (EXCLUSION_BIT + exclusion) & 1:
                        after, before = exclusions[exclusion]
                        start_times[after - 1 : before - 1] = _NEVER
            # From the last step down: an event takes one step of a chain.
            for step in range(steps - 1, -1, -1):
                is_taken = mask >> step & 1 and (
                    step == 0
                    or (start_times[step - 1] != _NEVER and time - start_times[step - 1] <= window)
                )
                if not is_taken:
                    if is_strict:
                        start_times[step] = _NEVER
                    continue
                start_times[step] = time if step == 0 else start_times[step - 1]
                start_rows[step] = row if step == 0 else start_rows[step - 1]
                if step == level:
                    waits[entity, step] = time - start_times[step]
                    starts[entity] = start_rows[step]
                    level += 1
        levels[entity] = level
        begin = end


@kernel(types.void(*_EVENTS, types.int64, *_FURTHEST))
def _gather_steps(
    order: Numbers,
    ends: Integers,
    times: Integers,
    masks: Masks,
    ids: Words,
    window: int,
    levels: npt.NDArray[np.uint8],
    starts: Numbers,
    waits: Integers,
) -> None:
    """Move a window over the events of each entity; see `gather_steps`."""
    steps = waits.shape[1]
    counts = np.empty(steps, np.int64)
    begin = 0
    for entity in range(len(ends)):
        end = ends[entity]
        _sort_ties(order, times, masks, ids, begin, end)
        counts[:] = 0
        level, distinct, last = 0, 0, begin
        for place in range(begin, end):
            time = times[order[place]]
            while last < end and times[order[last]] - time <= window:
                step = _rank(masks[order[last]])
                distinct += counts[step] == 0
                counts[step] += 1
                last += 1
            if distinct > level:
                # The steps of this window in turn, to see when each more of them was there.
                seen, taken = np.uint32(0), 0
                for within in range(place, last):
                    bit = np.uint32(1) << np.uint32(_rank(masks[order[within]]))
                    if not seen & bit:
                        seen |= bit
                        if taken >= level:
                            waits[entity, taken] = times[order[within]] - time
                        taken += 1
                level = distinct
                starts[entity] = order[place]
            step = _rank(masks[order[place]])
            counts[step] -= 1
            distinct -= counts[step] == 0
        levels[entity] = level
        begin = end
