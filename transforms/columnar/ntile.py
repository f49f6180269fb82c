"""Exact NTILE at many snapshots, over data that is spread over shards: two passes, little memory.

A key is `(value, user)`: `value` a date or money, `user` an id that breaks ties by the bytes of its
text. It counts at the snapshots from its `begin` to before its `end`, as a user's value lasts until
the next. The keys of all snapshots are sorted together, once; the keys that count at a snapshot
are the bits of a set in that order, of which a few change from a snapshot to the next.

The users are never gathered. In the first pass each shard sends some of its keys at each snapshot,
with the numbers of keys between them; merged, these bracket the key at any rank. In the second pass
each shard counts what lies below the brackets and sends what lies in one; counting on from there
gives the key at that rank exactly. (Munro and Paterson, "Selection and sorting with limited
storage", 1980, with one sample of each shard.)

**Samples.** Users are spread over shards by a hash, so the first key of a tile lies within a few
sqrt(n) keys of the same tile's in a shard of n keys: the samples are dense there (within 2 sqrt(n),
four standard deviations) and sparse elsewhere. Wherever it lies, the brackets are right; dense
samples only make them narrow.

**Sizes.** With 280 shards of 5,400 buyers and five tiles, 64 samples of each snapshot leave the
first key of a tile within 10,000 keys, 1 % of them. A key that is a candidate at many snapshots is
sent once, so that the candidates are some of the purchase days, however many the snapshots. For
each of two scores (measured: recency, revenue) and their sorted keys:

| snapshots of seven months | samples | counts | candidates, of 4.3 million purchase days |
| --- | --- | --- | --- |
| 37 (weeks, ends of months) | 650,000, 23 MB | 41,000 | 830,000, 26 MB |
| 213 (days) | 3.7 million, 133 MB | 240,000 | 2.7 and 1.7 million, 53 MB |

The first keys themselves are four of each snapshot.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
from numba import types

from transforms.columnar.kernels import (
    Integer,
    Integers,
    Numbers,
    Word,
    Words,
    count_bits,
    filled,
    given,
    helper,
    kernel,
    trailing_zeros,
)
from transforms.columnar.key_index import rows_in_order
from transforms.columnar.money import halves_of_money

_SAMPLES: Final = 64  # keys of each snapshot that a shard sends in the first pass


Keys = npt.NDArray[np.uint64]
"""Keys as kernels take them: a row of four words each, which compare as the keys do."""


_BITS: Final = 64
_SIGN: Final = np.uint64(1 << 63)
_POWERS_OF_TEN: Final = np.array([10**digits for digits in range(20)], np.uint64)


@dataclass(frozen=True)
class OrderedKeys:
    """The keys of a shard, in order.

    Attributes:
        rows: Of each key its row in what was ordered.
        keys: `value`, `user_id`, `begin`, `end` of each.
        words: Each key for kernels.
        snapshots: Number of snapshots.
    """

    rows: Integers
    keys: pl.DataFrame
    words: Keys
    snapshots: int


def order_keys(keys: pl.DataFrame, snapshots: int) -> OrderedKeys:
    """Order the keys of a shard.

    Args:
        keys: Columns `value` (Date or money that is not negative), `user_id` (Int64, not negative,
            ascending), `begin` and `end` (Int32): the first snapshot at which the key counts and
            the one after the last, `begin` < `end`.
        snapshots: Number of snapshots.
    """
    words = _words(keys["value"], keys["user_id"])
    # Sorts keep the order of equals, and the ids ascend: of texts that only differ in zeros at the
    # end the smaller number is the first.
    order = np.argsort(words[:, 2], kind="stable")
    order = order[np.argsort(words[order, 1], kind="stable")]
    if len(order) and (words[:, 0] != words[0, 0]).any():
        order = order[np.argsort(words[order, 0], kind="stable")]
    return OrderedKeys(order, keys[order], np.ascontiguousarray(words[order]), snapshots)


def _words(values: pl.Series, users: pl.Series) -> Keys:
    """Keys for kernels: high and low half of the value, the digits of the user, the user."""
    ids = users.to_numpy()
    words = np.empty((len(ids), 4), np.uint64)
    if values.dtype == pl.Date:
        days = values.to_physical().to_numpy().astype(np.int64)
        words[:, 0] = 0
        words[:, 1] = days.view(np.uint64) ^ _SIGN
    else:
        words[:, 0], words[:, 1] = halves_of_money(values)[:, ::-1].T
    words[:, 2:] = np.column_stack([_digits_first(ids), ids.astype(np.uint64)])
    return words


def _digits_first(ids: Integers) -> Words:
    """Numbers that are ordered as the texts of ids are, equal where those differ in zeros at last.

    >>> _digits_first(np.array([9, 10, 100]))[1:] < _digits_first(np.array([9]))
    array([ True,  True])
    """
    digits = np.maximum(np.searchsorted(_POWERS_OF_TEN, ids.astype(np.uint64), side="right"), 1)
    first: Words = ids.astype(np.uint64) * _POWERS_OF_TEN[19 - digits]
    return first


# Sets of keys --------------------------------------------------------------------------------


def _changes(ordered: OrderedKeys) -> tuple[Numbers, Integers, Numbers, Integers]:
    """The keys by the snapshot at which they begin to count, and by the one at which they end."""
    room = ordered.snapshots + 1
    begun, ended = (
        rows_in_order(ordered.keys[name].to_numpy().astype(np.uint32), room)
        for name in ("begin", "end")
    )
    return *begun, *ended


_CHANGES = (given(types.uint32), given(types.int64), given(types.uint32), given(types.int64))


@helper
def _go_on(
    members: Words,
    begun: Numbers,
    begun_ends: Integers,
    ended: Numbers,
    ended_ends: Integers,
    snapshot: Integer,
) -> int:
    """Bring the set of keys that count from the snapshot before to this one.

    Returns:
        By how many it has grown.
    """
    for at in range(begun_ends[snapshot - 1] if snapshot else 0, begun_ends[snapshot]):
        members[begun[at] // _BITS] |= Word(1) << Word(begun[at] % _BITS)
    for at in range(ended_ends[snapshot - 1] if snapshot else 0, ended_ends[snapshot]):
        members[ended[at] // _BITS] &= ~(Word(1) << Word(ended[at] % _BITS))
    grown: int = begun_ends[snapshot] - ended_ends[snapshot]
    if snapshot:
        grown -= begun_ends[snapshot - 1] - ended_ends[snapshot - 1]
    return grown


@helper
def _count_before(members: Words, place: Integer) -> int:
    """The number of keys of a set before a place."""
    count = 0
    for word in range(place // _BITS):
        count += count_bits(members[word])
    if place % _BITS:
        below = (Word(1) << Word(place % _BITS)) - Word(1)
        count += count_bits(members[place // _BITS] & below)
    return count


@helper
def _nth_bit(word: Word, number: Integer) -> int:
    """The place of a bit of a word that is 1, of which so many are below it."""
    for _ in range(number):
        word &= word - Word(1)
    return trailing_zeros(word)


# The first pass ------------------------------------------------------------------------------


@helper
def _next_rank(
    rank: Integer, count: Integer, tiles: Integer, sparse: Integer, dense: Integer
) -> int:
    """The rank of the sample after the one of a rank: `dense` on near the bounds of tiles."""
    following = rank + sparse
    near = np.int64(2 * math.sqrt(count))
    for tile in range(1, tiles):
        bound = tile * count // tiles
        if rank < bound - near:
            following = min(following, bound - near)
        elif rank < bound + near:
            following = min(following, rank + dense)
    return int(min(following, count - 1))


@kernel(
    types.int64(
        *_CHANGES,
        types.int64,
        types.int64,
        types.int64,
        filled(types.int32),
        filled(types.uint32),
        filled(types.uint32),
        filled(types.uint32),
    )
)
def _sample(
    begun: Numbers,
    begun_ends: Integers,
    ended: Numbers,
    ended_ends: Integers,
    tiles: int,
    sparse_samples: int,
    dense_samples: int,
    snapshots: npt.NDArray[np.int32],
    places: Numbers,
    weights: Numbers,
    next_weights: Numbers,
) -> int:
    """Fill in the samples of each snapshot, as `sample_keys` gives them; returns their number."""
    members = np.zeros(len(begun) // _BITS + 1, np.uint64)
    count = 0
    filled_rows = 0
    for snapshot in range(len(begun_ends) - 1):
        count += _go_on(members, begun, begun_ends, ended, ended_ends, snapshot)
        near = np.int64(2 * math.sqrt(count))
        sparse = count // sparse_samples + 1
        dense = 2 * near * (tiles - 1) // dense_samples + 1
        rank, passed, word = -1, 0, 0
        inside = count_bits(members[0])
        while rank < count - 1:
            following = _next_rank(rank, count, tiles, sparse, dense)
            while passed + inside <= following:
                passed += inside
                word += 1
                inside = count_bits(members[word])
            snapshots[filled_rows] = snapshot
            places[filled_rows] = word * _BITS + _nth_bit(members[word], following - passed)
            weights[filled_rows] = following - rank
            next_weights[filled_rows] = 1
            if rank >= 0:
                next_weights[filled_rows - 1] = following - rank
            filled_rows += 1
            rank = following
    return filled_rows


def sample_keys(ordered: OrderedKeys, tiles: int) -> pl.DataFrame:
    """The first pass on one shard.

    Args:
        ordered: The shard's keys.
        tiles: Number of tiles.

    Returns:
        Some keys of each snapshot, the last among them, in order: `snapshot` (Int32), `value`,
        `user_id`, `weight` (UInt32: keys from the sample before, exclusive, to this one),
        `next_weight` (the weight of the next sample; 1 for the last).
    """
    sparse = max(1, _SAMPLES // 4)
    dense = max(1, _SAMPLES - sparse)
    # Every step is of one of the two kinds, or cut off at the bound of a dense part or the end.
    room = ordered.snapshots * min(len(ordered.rows), sparse + dense + 4 * tiles)
    snapshots = np.empty(room, np.int32)
    places, weights, next_weights = (np.empty(room, np.uint32) for _ in range(3))
    count = _sample(
        *_changes(ordered), tiles, sparse, dense, snapshots, places, weights, next_weights
    )
    return (
        ordered.keys.select("value", "user_id")[places[:count]]
        .insert_column(0, pl.Series("snapshot", snapshots[:count]))
        .with_columns(weight=weights[:count], next_weight=next_weights[:count])
    )


def tile_ranks(total: int, tiles: int) -> dict[int, int]:
    """The rank of the first key of each tile but the first: NTILE, where the first ones are larger.

    Tiles without a key are left out.

    >>> tile_ranks(7, 5)
    {2: 2, 3: 4, 4: 5, 5: 6}
    """
    size, larger = divmod(total, tiles)
    ranks = {tile + 1: tile * size + min(tile, larger) for tile in range(1, tiles)}
    return {tile: rank for tile, rank in ranks.items() if rank < total}


def bracket_tiles(samples: pl.DataFrame, tiles: int) -> pl.DataFrame:
    """Bracket the first key of each tile at each snapshot.

    Args:
        samples: `sample_keys` of all shards.
        tiles: Number of tiles.

    Returns:
        One row per `snapshot` and `tile` (Int32, from 2) that has a key, in that order: `rank`
        (number of keys before its first one), `low_value` and `low_user_id` (a key known to be
        before that; NULL for the very beginning), `high_value` and `high_user_id` (a key known not
        to be before it).
    """
    digits = pl.Series("digits", _digits_first(samples["user_id"].to_numpy()))
    merged = samples.with_columns(digits).sort("snapshot", "value", "digits", "user_id")
    weight, next_weight = (pl.col(name).cast(pl.Int64) for name in ("weight", "next_weight"))
    # Of each shard's keys behind a sample there are as many as the shard's later samples tell,
    # but for those before the first of them.
    merged = merged.with_columns(
        at_least=weight.cum_sum().over("snapshot"),
        at_most=weight.sum().over("snapshot")
        - next_weight.sum().over("snapshot")
        + next_weight.cum_sum().over("snapshot"),
    )
    ranks = [
        (snapshot, tile, rank)
        for snapshot, total in merged.group_by("snapshot", maintain_order=True)
        .agg(weight.sum())
        .iter_rows()
        for tile, rank in tile_ranks(total, tiles).items()
    ]
    bounds = pl.DataFrame(
        ranks, {"snapshot": pl.Int32(), "tile": pl.Int32(), "rank": pl.Int64()}, orient="row"
    )
    starts = merged["snapshot"].search_sorted(bounds["snapshot"]).to_numpy()
    return _with_bounds(merged, bounds, starts)


def _with_bounds(
    merged: pl.DataFrame, bounds: pl.DataFrame, starts: npt.NDArray[np.integer]
) -> pl.DataFrame:
    at_least, at_most = merged["at_least"].to_numpy(), merged["at_most"].to_numpy()
    lows, highs = np.empty(len(starts), np.int64), np.empty(len(starts), np.int64)
    for row, (start, (snapshot, _, rank)) in enumerate(
        zip(starts, bounds.iter_rows(), strict=True)
    ):
        end = int(merged["snapshot"].search_sorted(snapshot, side="right"))
        highs[row] = start + np.searchsorted(at_least[start:end], rank, side="right")
        lows[row] = start + np.searchsorted(at_most[start:end], rank, side="right") - 1
    low = pl.Series(np.where(lows >= starts, lows, -1))
    keys = merged.select("value", "user_id")
    return pl.concat(
        [
            bounds,
            keys.select(pl.all().gather(low.set(low < 0, None)).name.prefix("low_")),
            keys.select(pl.all().gather(pl.Series(highs)).name.prefix("high_")),
        ],
        how="horizontal",
    )


# The second pass -----------------------------------------------------------------------------


@kernel(types.void(given(types.uint64, 2), given(types.uint64, 2), filled(types.int64)))
def _find_places(ordered: Keys, wanted: Keys, places: Integers) -> None:
    """Fill in for each wanted key how many of the ordered ones are before it."""
    for row in range(len(wanted)):
        low, high = 0, len(ordered)
        while low < high:
            middle = (low + high) // 2
            is_before = False
            for word in range(ordered.shape[1]):
                if ordered[middle, word] != wanted[row, word]:
                    is_before = ordered[middle, word] < wanted[row, word]
                    break
            if is_before:
                low = middle + 1
            else:
                high = middle
        places[row] = low


def places_of(ordered: OrderedKeys, values: pl.Series, users: pl.Series) -> Integers:
    """How many keys of a shard, of all snapshots, are before each of some keys."""
    return _places(ordered, _words(values, users))


def _places(ordered: OrderedKeys, wanted: Keys) -> Integers:
    places = np.empty(len(wanted), np.int64)
    _find_places(ordered.words, wanted, places)
    return places


@kernel(
    types.void(
        *_CHANGES,
        given(types.int32),
        given(types.int64),
        given(types.int64),
        filled(types.int64),
        filled(types.bool_),
    )
)
def _look_into(
    begun: Numbers,
    begun_ends: Integers,
    ended: Numbers,
    ended_ends: Integers,
    snapshots: npt.NDArray[np.int32],
    lows: Integers,
    highs: Integers,
    before: Integers,
    is_candidate: npt.NDArray[np.bool_],
) -> None:
    """Fill in the number of keys before each bracket, and which keys lie in one."""
    members = np.zeros(len(begun) // _BITS + 1, np.uint64)
    bracket = 0
    for snapshot in range(len(begun_ends) - 1):
        _go_on(members, begun, begun_ends, ended, ended_ends, snapshot)
        while bracket < len(snapshots) and snapshots[bracket] == snapshot:
            before[bracket] = _count_before(members, lows[bracket])
            for place in range(lows[bracket], highs[bracket]):
                if members[place // _BITS] >> Word(place % _BITS) & Word(1):
                    is_candidate[place] = True
            bracket += 1


def bracketed_keys(
    ordered: OrderedKeys, brackets: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The second pass on one shard.

    Args:
        ordered: The shard's keys.
        brackets: `bracket_tiles`.

    Returns:
        The keys that lie in a bracket at any of their snapshots: `value`, `user_id`, `begin`,
        `end`; and for each bracket (`snapshot`, `tile`) the number of keys `before` it (Int64).
    """
    lows, highs = _bracket_places(ordered, brackets)
    before = np.zeros(brackets.height, np.int64)
    is_candidate = np.zeros(len(ordered.rows), np.bool_)
    _look_into(
        *_changes(ordered),
        brackets["snapshot"].to_numpy(),
        lows,
        highs,
        before,
        is_candidate,
    )
    return (
        ordered.keys.filter(pl.Series(is_candidate)),
        brackets.select("snapshot", "tile", before=pl.Series(before)),
    )


def _bracket_places(ordered: OrderedKeys, brackets: pl.DataFrame) -> tuple[Integers, Integers]:
    """Where the keys of each bracket begin and end: behind its low key, with its high key."""
    value, user = (brackets[f"low_{name}"] for name in ("value", "user_id"))
    known = value.is_not_null()
    lows = np.zeros(brackets.height, np.int64)
    lows[known.to_numpy()] = _places_behind(ordered, value.filter(known), user.filter(known))
    return lows, _places_behind(ordered, brackets["high_value"], brackets["high_user_id"])


def _places_behind(ordered: OrderedKeys, values: pl.Series, users: pl.Series) -> Integers:
    """How many keys of a shard are not behind each of some keys: those before the next id's."""
    words = _words(values, users)
    words[:, 3] += np.uint64(1)
    return _places(ordered, words)


@kernel(
    types.void(
        *_CHANGES,
        given(types.int32),
        given(types.int64),
        given(types.int64),
        filled(types.int64),
    )
)
def _count_on(
    begun: Numbers,
    begun_ends: Integers,
    ended: Numbers,
    ended_ends: Integers,
    snapshots: npt.NDArray[np.int32],
    lows: Integers,
    ranks: Integers,
    places: Integers,
) -> None:
    """Fill in the place of the key of a rank among those from a place on, for each bracket."""
    members = np.zeros(len(begun) // _BITS + 1, np.uint64)
    bracket = 0
    for snapshot in range(len(begun_ends) - 1):
        _go_on(members, begun, begun_ends, ended, ended_ends, snapshot)
        while bracket < len(snapshots) and snapshots[bracket] == snapshot:
            rank = ranks[bracket] + _count_before(members, lows[bracket])
            word, passed = 0, 0
            while passed + count_bits(members[word]) <= rank:
                passed += count_bits(members[word])
                word += 1
            places[bracket] = word * _BITS + _nth_bit(members[word], rank - passed)
            bracket += 1


def first_keys(
    candidates: pl.DataFrame, before: pl.DataFrame, brackets: pl.DataFrame
) -> pl.DataFrame:
    """The first key of each tile at each snapshot.

    Args:
        candidates: The keys of `bracketed_keys`, of all shards.
        before: Its numbers, of all shards.
        brackets: The brackets they were made with.

    Returns:
        Columns `snapshot`, `tile`, `value`, `user_id`, in this order of rows.
    """
    keys = ("snapshot", "tile")
    totals = before.group_by(keys).agg(pl.col("before").sum())
    ranks = brackets.join(totals, on=keys, how="left", maintain_order="left")
    # At every snapshot with a bracket a candidate counts.
    snapshots = int(candidates["end"].max() or 0)  # type: ignore[arg-type] # an integer
    ordered = order_keys(candidates.sort("user_id"), snapshots)
    lows, _ = _bracket_places(ordered, brackets)
    places = np.empty(brackets.height, np.int64)
    _count_on(
        *_changes(ordered),
        brackets["snapshot"].to_numpy(),
        lows,
        (ranks["rank"] - ranks["before"]).to_numpy(),
        places,
    )
    return pl.concat(
        [brackets.select(keys), ordered.keys.select("value", "user_id")[places]], how="horizontal"
    )
