"""Exact NTILE at snapshots over shards, against NTILE by hand."""

from collections import defaultdict
from datetime import date, timedelta
from decimal import Decimal

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.columnar import ntile as ntile_module
from transforms.columnar.money import MONEY
from transforms.columnar.ntile import (
    bracket_tiles,
    bracketed_keys,
    first_keys,
    order_keys,
    places_of,
    sample_keys,
    tile_ranks,
)

SCHEMA = {"value": MONEY, "user_id": pl.Int64(), "begin": pl.Int32(), "end": pl.Int32()}
SNAPSHOTS = 4
USERS = [0, 1, 9, 10, 11, 90, 99, 100, 101, 999, 1000, 10**17, 10**18, 2**63 - 1, *range(30, 60)]
VALUES = [Decimal(0), Decimal("0.01"), Decimal(1), Decimal(2), Decimal("2e20")]


def frame(keys, schema=SCHEMA) -> pl.DataFrame:
    return pl.DataFrame(keys, schema=schema, orient="row").sort("user_id", "begin")


@st.composite
def lifetimes(draw):
    """Keys of users that hold from one change to the next, the last to the end."""
    keys = []
    for user in draw(st.lists(st.sampled_from(USERS), unique=True, min_size=1)):
        begins = sorted(draw(st.sets(st.integers(0, SNAPSHOTS - 1), min_size=1)))
        for begin, end in zip(begins, [*begins[1:], SNAPSHOTS], strict=True):
            keys.append((draw(st.sampled_from(VALUES)), user, begin, end))
    return keys


def ntile(keys, tiles: int) -> dict[tuple[Decimal, int], int]:
    """The tile of each key, counted out one by one."""
    size, larger = divmod(len(keys), tiles)
    sizes = [size + (tile < larger) for tile in range(tiles)]
    numbers = [tile + 1 for tile, count in enumerate(sizes) for _ in range(count)]
    ordered = sorted(keys, key=lambda key: (key[0], str(key[1])))
    return dict(zip(ordered, numbers, strict=True))


def tiles_at_snapshots(shards, tiles: int, snapshots: int = SNAPSHOTS, schema=SCHEMA):
    ordered = [order_keys(frame(keys, schema), snapshots) for keys in shards]
    samples = pl.concat(sample_keys(keys, tiles) for keys in ordered)
    brackets = bracket_tiles(samples, tiles)
    candidates, before = zip(*(bracketed_keys(keys, brackets) for keys in ordered), strict=True)
    first = first_keys(pl.concat(candidates), pl.concat(before), brackets)
    found = defaultdict(dict)
    for keys in ordered:
        places = places_of(keys, first["value"], first["user_id"])
        for place, (value, user, begin, end) in enumerate(keys.keys.iter_rows()):
            for snapshot in range(begin, end):
                bounds = places[(first["snapshot"] == snapshot).to_numpy()]
                found[snapshot][value, user] = 1 + int((place >= bounds).sum())
    return samples, pl.concat(candidates), found


@settings(max_examples=150, deadline=None)
@given(
    keys=lifetimes(),
    shards=st.integers(1, 4),
    tiles=st.sampled_from([1, 2, 5, 7]),
    samples=st.sampled_from([1, 2, 3, 10, 64]),
)
def test_tiles_are_exact_at_every_snapshot_however_the_users_are_spread(
    keys, shards, tiles, samples
):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ntile_module, "_SAMPLES", samples)
        spread = [[key for key in keys if key[1] % shards == shard] for shard in range(shards)]
        _, _, found = tiles_at_snapshots(spread, tiles)
    for snapshot in range(SNAPSHOTS):
        now = [(value, user) for value, user, begin, end in keys if begin <= snapshot < end]
        assert found[snapshot] == ntile(now, tiles)


@pytest.mark.parametrize("spread", ["by hash", "by value", "all in one"])
def test_tiles_of_many_keys_are_exact_and_found_with_few_of_them(spread):
    number = np.random.default_rng(1).permutation(20_000)
    values = [Decimal(int(one % 997)) / 100 for one in number]
    keys = [(value, user, 0, 1) for user, value in enumerate(values)]
    shard_of = {
        "by hash": lambda key: key[1] % 4,
        "by value": lambda key: int(key[0] * 100) // 300,
        "all in one": lambda _: 0,
    }[spread]
    shards = [[key for key in keys if shard_of(key) == shard] for shard in range(4)]
    samples, candidates, found = tiles_at_snapshots(shards, 5, snapshots=1)
    assert found[0] == ntile([key[:2] for key in keys], 5)
    assert samples.height <= 4 * (64 + 4 * 5)
    assert samples["weight"].sum() == 20_000
    if spread == "by hash":
        assert candidates.height < 2000


def test_a_candidate_of_many_snapshots_is_sent_once():
    snapshots = 100
    keys = [(Decimal(user), user, user % 3, snapshots) for user in range(1000)]
    _, candidates, found = tiles_at_snapshots([keys[::2], keys[1::2]], 5, snapshots)
    assert candidates.height == candidates.unique().height < 1000
    assert found[99] == ntile([key[:2] for key in keys], 5)


def test_dates_are_ordered_as_dates():
    days = [date(1969, 12, 30) + timedelta(days=number) for number in range(5)]
    keys = [(day, user, 0, 1) for user, day in enumerate(days)]
    schema = {**SCHEMA, "value": pl.Date()}
    _, _, found = tiles_at_snapshots([keys[1:3], keys[:1], keys[3:]], 5, 1, schema)
    assert found[0] == {key[:2]: tile for tile, key in enumerate(keys, start=1)}


def test_without_keys_there_are_no_tiles():
    samples, candidates, found = tiles_at_snapshots([[], []], 5)
    assert (samples.height, candidates.height, found) == (0, 0, {})


@given(st.integers(0, 60), st.integers(1, 9))
def test_ranks_of_tiles_are_where_tiles_begin(total, tiles):
    keys = [(number, "") for number in range(total)]
    numbers = list(ntile(keys, tiles).values())
    assert tile_ranks(total, tiles) == {
        tile: numbers.index(tile) for tile in range(2, tiles + 1) if tile in numbers
    }
