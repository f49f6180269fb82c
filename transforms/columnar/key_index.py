"""Numbers for the distinct keys of rows, which are columns of integers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
from numba import types

from transforms.columnar.arrays import NO_CODE, without_nulls
from transforms.columnar.kernels import (
    AHEAD,
    Integer,
    Integers,
    Numbers,
    Slots,
    Word,
    Words,
    filled,
    given,
    helper,
    kernel,
    mixed,
    occupy,
    prefetch,
)

_FEWEST_SLOTS: Final = 16


@helper
def _hash_of(keys: Words, row: Integer) -> Word:
    hashed = Word(0)
    for column in range(keys.shape[1]):
        hashed = mixed(hashed, keys[row, column])
    return hashed


class Numbering:
    """Numbers distinct keys from 0 on, in the order in which they are first seen.

    Attributes:
        count: Number of distinct keys so far.
    """

    def __init__(self, width: int) -> None:
        """Begin with none.

        Args:
            width: Columns of a key.
        """
        self.count = 0
        self._keys = np.empty((0, width), np.uint64)
        self._slots = np.empty(0, np.int32)
        self._used_slots = 0

    @property
    def keys(self) -> Words:
        """The distinct keys, a row for each number."""
        return self._keys[: self.count]

    def add(self, *columns: npt.NDArray[Any]) -> tuple[Numbers, Numbers]:
        """Number the keys of more rows.

        Args:
            columns: The keys: columns of integers of at most 64 bits, or one matrix of 64-bit
                ones.

        Returns:
            The number of each row's key, and the first row of each key that is new.
        """
        keys = _matrix(columns)
        known, room = self.count, self.count + len(keys)
        self._keys = with_room(self._keys, room)
        if len(self._slots) < _FEWEST_SLOTS + 4 * room:
            # Few of the slots are in use as long as few keys are distinct, to stay in the cache.
            self._slots = np.empty(_FEWEST_SLOTS + 4 * len(self._keys), np.int32)
            self._used_slots = 0
        numbers, firsts = np.empty(len(keys), np.uint32), np.empty(len(keys), np.uint32)
        self.count, self._used_slots = map(
            int,
            _number_keys(keys, known, self._keys, self._used_slots, self._slots, numbers, firsts),
        )
        return numbers, firsts[: self.count - known].copy()


def number_keys(*columns: npt.NDArray[Any]) -> tuple[Numbers, Numbers]:
    """Number the distinct keys of rows: see `Numbering.add`."""
    keys = _matrix(columns)
    return Numbering(keys.shape[1]).add(keys)


def count_keys(*columns: npt.NDArray[Any]) -> int:
    """The number of distinct keys of rows: for keys of which few or none occur twice."""
    keys = _matrix(columns)
    # Keys of different hashes are different; only those that may meet another need be compared.
    met = np.zeros((1 << (_BITS_A_KEY * len(keys) // 64).bit_length(), 2), np.uint64)
    rows = np.empty(len(keys), np.uint32)
    rows = rows[: _find_meeting(hash_keys(keys), met, rows)]
    return len(keys) - len(rows) + len(number_keys(keys[rows])[1])


_BITS_A_KEY: Final = 16


@kernel(types.int64(given(types.uint64), filled(types.uint64, 2), filled(types.uint32)))
def _find_meeting(hashes: Words, met: Words, rows: Numbers) -> int:
    """Fill in the rows whose hash meets that of another row, and return how many they are.

    Args:
        hashes: Of the rows.
        met: Zeros, a power of two; filled with a bit for each hash that occurs, and beside it one
            for each that occurs again. (Hashes whose last bits are equal are taken for the same.)
        rows: Filled.
    """
    words = Word(len(met) - 1)
    for row in range(len(hashes)):
        place = np.int64((hashes[row] >> Word(6)) & words)
        bit = Word(1) << (hashes[row] & Word(63))
        met[place, 1] |= met[place, 0] & bit
        met[place, 0] |= bit
    count = 0
    for row in range(len(hashes)):
        place = np.int64((hashes[row] >> Word(6)) & words)
        if met[place, 1] >> (hashes[row] & Word(63)) & Word(1):
            rows[count] = row
            count += 1
    return count


def rows_in_order(numbers: Numbers, room: int) -> tuple[Numbers, Integers]:
    """The rows in the order of their numbers, rows of one number as they were.

    Args:
        numbers: Each row's number.
        room: A number above all of them, of the size of their count at most.

    Returns:
        The rows, and for each number where its rows end.
    """
    order, ends = np.empty(len(numbers), np.uint32), np.zeros(room, np.int64)
    _order_rows(numbers, order, ends)
    return order, ends


@kernel(types.void(given(types.uint32), filled(types.uint32), filled(types.int64)))
def _order_rows(numbers: Numbers, order: Numbers, ends: Integers) -> None:
    """Fill in the rows in the order of their numbers, and where the rows of each end."""
    for row in range(len(numbers)):
        ends[numbers[row]] += 1
    total = 0
    for number in range(len(ends)):
        total += ends[number]
        ends[number] = total - ends[number]
    for row in range(len(numbers)):
        number = numbers[row]
        order[ends[number]] = row
        ends[number] += 1


def count_distinct(
    items: npt.NDArray[Any], groupings: Sequence[Numbers], room: int
) -> list[Integers]:
    """The number of distinct items in each group, for several groupings of the same rows.

    Args:
        items: Each row's item, an integer.
        groupings: Each row's group, a number.
        room: A number above all groups.

    Returns:
        For each grouping the counts, at the groups' numbers.
    """
    numbers, firsts = number_keys(items)
    order, _ = rows_in_order(numbers, len(firsts))
    found = []
    for groups in groupings:
        counts = np.zeros(room, np.int64)
        _count_distinct(numbers, order, groups, counts)
        found.append(counts)
    return found


@kernel(
    types.void(given(types.uint32), given(types.uint32), given(types.uint32), filled(types.int64))
)
def _count_distinct(numbers: Numbers, order: Numbers, groups: Numbers, counts: Integers) -> None:
    """Fill in the distinct numbers of each group, of rows in the order of their numbers."""
    last = np.full(len(counts), -1, np.int64)
    for place in range(len(order)):
        row = order[place]
        group = groups[row]
        if last[group] != numbers[row]:
            last[group] = numbers[row]
            counts[group] += 1


def hash_keys(*columns: npt.NDArray[Any]) -> Words:
    """Hashes of the keys of rows, the same on any machine."""
    keys = _matrix(columns)
    hashes = np.empty(len(keys), np.uint64)
    _hash_keys(keys, hashes)
    return hashes


@kernel(types.void(given(types.uint64, 2), filled(types.uint64)))
def _hash_keys(keys: Words, hashes: Words) -> None:
    """Fill in the hash of each key."""
    for row in range(len(keys)):
        hashes[row] = _hash_of(keys, row)


def number_codes(
    items: Numbers, codes: Numbers, rooms: Integers
) -> list[tuple[npt.NDArray[np.int32], Numbers]]:
    """Number the distinct codes of rows from 0 on: small ones, so that nothing need be hashed.

    Args:
        items: Each row's item of `codes`.
        codes: A row of codes for each item, `NO_CODE` for NULL; those of the first column differ
            most.
        rooms: For each column a number above all of its codes.

    Returns:
        For each column of codes the number of each row's, −1 for NULL; and the first item of each
        code that occurs, in this order.
    """
    width = codes.shape[1]
    numbers = np.empty((width, len(items)), np.int32)
    firsts = np.empty((width, len(items)), np.uint32)
    counts = np.zeros(width, np.int64)
    _number_codes(items, codes, rooms, numbers, firsts, counts)
    return [(numbers[column], firsts[column, :count]) for column, count in enumerate(counts)]


@kernel(
    types.void(
        given(types.uint32),
        given(types.uint32, 2),
        given(types.int64),
        filled(types.int32, 2),
        filled(types.uint32, 2),
        filled(types.int64),
    )
)
def _number_codes(
    items: Numbers,
    codes: Numbers,
    rooms: Integers,
    numbers: Slots,
    firsts: Numbers,
    counts: Integers,
) -> None:
    """Fill in what `number_codes` returns, and how many codes of each column occur."""
    width = codes.shape[1]
    starts = np.zeros(width + 1, np.int64)
    for column in range(width):
        starts[column + 1] = starts[column] + rooms[column]
    number_of = np.full(starts[width], -1, np.int32)
    for row in range(len(items)):
        ahead, near = min(row + AHEAD, len(items) - 1), min(row + AHEAD // 2, len(items) - 1)
        prefetch(codes, np.int64(items[ahead]) * width)
        prefetch(number_of, np.int64(codes[items[near], 0]))
        for column in range(width):
            code = codes[items[row], column]
            number = np.int32(-1)
            if code != NO_CODE:
                number = number_of[starts[column] + code]
                if number < 0:
                    number = np.int32(counts[column])
                    number_of[starts[column] + code] = number
                    firsts[column, counts[column]] = items[row]
                    counts[column] += 1
            numbers[column, row] = number


def _matrix(columns: Sequence[npt.NDArray[Any]]) -> Words:
    """The columns side by side."""
    first, *others = columns
    if not others and first.itemsize == np.uint64().itemsize:
        words = first.view(np.uint64)
        return words if words.ndim > 1 else words[:, np.newaxis]
    keys = np.empty((len(first), len(columns)), np.uint64)
    for place, column in enumerate(columns):
        keys[:, place] = column.view(f"u{column.itemsize}")
    return keys


def with_room(rows: npt.NDArray[Any], room: int) -> npt.NDArray[Any]:
    """An array with room for so many rows: itself, or one of at least twice as many, with zeros."""
    if room <= len(rows):
        return rows
    larger = np.zeros((max(room, 2 * len(rows)), *rows.shape[1:]), rows.dtype)
    larger[: len(rows)] = rows
    return larger


@helper
def _spread(keys: Words, count: Integer, used_slots: Integer, slots: Slots) -> None:
    """Spread keys over the slots in use."""
    slots[:used_slots] = -1
    for number in range(count):
        occupy(slots, used_slots, _hash_of(keys, number), number)


@kernel(
    types.UniTuple(types.int64, 2)(
        given(types.uint64, 2),
        types.int64,
        filled(types.uint64, 2),
        types.int64,
        filled(types.int32),
        filled(types.uint32),
        filled(types.uint32),
    )
)
def _number_keys(
    keys: Words,
    known: Integer,
    known_keys: Words,
    used_slots: Integer,
    slots: Slots,
    numbers: Numbers,
    firsts: Numbers,
) -> tuple[Integer, Integer]:
    """Number keys.

    Args:
        keys: The keys of the rows.
        known: Number of keys that are known.
        known_keys: They, with room for those that are new.
        used_slots: How many of the slots are in use, a power of two; 0 where none is yet.
        slots: The numbers of keys, at their hashes, −1 where there is none; room for
            four a key and `_FEWEST_SLOTS`.
        numbers: Filled for each row.
        firsts: Filled with the first row of each new key.

    Returns:
        The number of keys that are known now, and how many of the slots are in use.
    """
    count: Integer = known
    used: Integer = used_slots
    number: Integer
    if used == 0:
        used = _FEWEST_SLOTS
        while used < 2 * (count + len(keys)):
            used *= 2
        _spread(known_keys, count, used, slots)
    width = keys.shape[1]
    hashes = np.empty(AHEAD, np.uint64)
    for row in range(-AHEAD, len(keys)):
        # The slots that rows ahead will look at are asked for, and later the keys they lead to.
        ahead, near = row + AHEAD, row + AHEAD // 2
        hashed = hashes[row % AHEAD]
        if ahead < len(keys):
            hashes[ahead % AHEAD] = _hash_of(keys, ahead)
            prefetch(slots, np.int64(hashes[ahead % AHEAD] & Word(used - 1)))
        if 0 <= near < len(keys):
            number = slots[np.int64(hashes[near % AHEAD] & Word(used - 1))]
            if number >= 0:
                prefetch(known_keys, number * width)
        if row < 0:
            continue
        slot = np.int64(hashed & Word(used - 1))
        number = slots[slot]
        while number >= 0:
            equal = True
            for column in range(keys.shape[1]):
                equal = equal and keys[row, column] == known_keys[number, column]
            if equal:
                break
            slot = (slot + 1) & (used - 1)
            number = slots[slot]
        if number < 0:
            number = count
            slots[slot] = number
            for column in range(keys.shape[1]):
                known_keys[number, column] = keys[row, column]
            firsts[count - known] = row
            count += 1
            if 2 * count > used:
                used *= 2
                _spread(known_keys, count, used, slots)
        numbers[row] = number
    return count, used


def hash_integers(integers: pl.Series) -> pl.Series:
    """Hashes of integers of 64 bits (UInt64), the same on any machine; NULL is as 0."""
    return pl.Series(hash_keys(without_nulls(integers, 0)))
