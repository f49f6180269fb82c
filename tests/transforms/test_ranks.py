"""Exact NTILE over shards, against NTILE by hand."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.columnar import ntile as ntile_module
from transforms.columnar.ntile import (
    bracket_tiles,
    bracketed_keys,
    first_keys,
    sample_keys,
    tile_of,
    tile_ranks,
)

SCHEMA = {"value": pl.Int64(), "user": pl.String()}
KEYS = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 400).map(str)), max_size=120, unique=True
)


def frame(keys) -> pl.DataFrame:
    return pl.DataFrame(keys, schema=SCHEMA, orient="row")


def ntile(keys, tiles: int) -> dict[tuple[int, str], int]:
    """The tile of each key, counted out one by one."""
    size, larger = divmod(len(keys), tiles)
    sizes = [size + (tile < larger) for tile in range(tiles)]
    numbers = [tile + 1 for tile, count in enumerate(sizes) for _ in range(count)]
    return dict(zip(sorted(keys), numbers, strict=True))


def tiles_over_shards(shards: list[list[tuple[int, str]]], tiles: int):
    filled = [frame(keys) for keys in shards if keys]
    brackets = bracket_tiles(pl.concat(map(sample_keys, filled)), tiles)
    candidates = pl.concat(bracketed_keys(keys, brackets) for keys in filled)
    first = first_keys(candidates, brackets)
    numbered = pl.concat(filled).with_columns(tile=tile_of(first, pl.col("value"), pl.Int64()))
    return {(value, user): tile for value, user, tile in numbered.iter_rows()}


@settings(max_examples=200)
@given(
    keys=KEYS.filter(len),
    shards=st.integers(1, 6),
    tiles=st.sampled_from([1, 2, 5, 7]),
    samples=st.sampled_from([1, 2, 3, 10, 1024]),
)
def test_tiles_are_exact_however_the_keys_are_spread(keys, shards, tiles, samples):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ntile_module, "_SAMPLES", samples)
        spread = [keys[shard::shards] for shard in range(shards)]
        assert tiles_over_shards(spread, tiles) == ntile(keys, tiles)


def test_tiles_of_many_keys_in_uneven_shards_are_exact():
    keys = [(number % 97, str(number)) for number in range(20_000)]
    shards = [keys[:3], keys[3:14_000], keys[14_000:]]
    assert tiles_over_shards(shards, 5) == ntile(keys, 5)


def test_samples_are_few_and_stand_for_all_keys():
    keys = frame([(number, str(number)) for number in range(100_000)])
    samples = sample_keys(keys)
    assert samples.height < 2100
    assert samples["weight"].sum() == 100_000


@given(st.integers(0, 60), st.integers(1, 9))
def test_ranks_of_tiles_are_where_tiles_begin(total, tiles):
    keys = [(number, "") for number in range(total)]
    numbers = list(ntile(keys, tiles).values())
    assert tile_ranks(total, tiles) == {
        tile: numbers.index(tile) for tile in range(2, tiles + 1) if tile in numbers
    }
