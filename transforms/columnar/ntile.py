"""Exact NTILE over data that is spread over shards, in two passes and little memory.

The users are never gathered. In the first pass each shard sends every m-th of its sorted keys, with
the number of keys each stands for; merged, these bracket the key at any rank within about N / 500
keys. In the second pass each shard counts what lies below the bracket and sends what lies in it;
counting on from there gives the key at that rank exactly. (Munro and Paterson, "Selection and
sorting with limited storage", 1980, with one sample of each shard.)

A key is `(value, user)`: `value` any ordered type, `user` text that breaks ties by its bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import polars as pl

_SAMPLES: Final = 1024  # keys that a shard sends in the first pass


KEY: Final = ("value", "user")


@dataclass(frozen=True)
class Bracket:
    """Where the first key of a tile lies.

    Attributes:
        tile: The tile, from 2.
        rank: Number of keys before it.
        low: A key known to be before it, or None for the very beginning.
        high: A key known not to be before it.
    """

    tile: int
    rank: int
    low: tuple[Any, str] | None
    high: tuple[Any, str]


def sample_keys(keys: pl.DataFrame) -> pl.DataFrame:
    """The first pass on one shard.

    Args:
        keys: Columns `value`, `user`: distinct, in any order.

    Returns:
        Columns `value`, `user`, `weight` (keys from the sample before, exclusive, to this one),
        `slack` (keys that may hide between two samples, in the first row; else 0).
    """
    step = max(1, keys.height // _SAMPLES)
    position = pl.int_range(pl.len(), dtype=pl.Int64)
    return (
        keys.sort(KEY)
        .with_columns(position=position)
        .filter((pl.col("position") % step == step - 1) | (pl.col("position") == pl.len() - 1))
        .with_columns(
            weight=pl.col("position") - pl.col("position").shift(1, fill_value=-1),
            slack=pl.when(position == 0).then(step - 1).otherwise(0).cast(pl.Int64),
        )
        .drop("position")
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


def bracket_tiles(samples: pl.DataFrame, tiles: int) -> list[Bracket]:
    """Bracket the first key of each tile.

    Args:
        samples: `sample_keys` of all shards.
        tiles: Number of tiles.
    """
    merged = samples.sort(KEY).with_columns(at_least=pl.col("weight").cum_sum())
    slack = int(merged["slack"].sum())
    total = int(merged["weight"].sum())
    brackets = []
    for tile, rank in tile_ranks(total, tiles).items():
        # Of all keys, at_least to at_least + slack are not behind a sample.
        low = merged.filter(pl.col("at_least") + slack <= rank).select(KEY).tail(1).rows()
        high = merged.filter(pl.col("at_least") > rank).select(KEY).head(1).rows()
        brackets.append(Bracket(tile, rank, low[0] if low else None, high[0]))
    return brackets


def at_or_after(key: tuple[Any, str], value: pl.Expr, value_type: pl.DataType) -> pl.Expr:
    """True where (`value`, `user`) is `key` or behind it."""
    first = pl.lit(key[0], value_type)
    return (value > first) | ((value == first) & (pl.col("user") >= pl.lit(key[1])))


def bracketed_keys(keys: pl.DataFrame, brackets: list[Bracket]) -> pl.DataFrame:
    """The second pass on one shard.

    Returns:
        One row per tile and key in its bracket, and one per tile with NULL for a key that holds
        the number of keys before the bracket: columns `tile`, `value`, `user`, `before`.
    """
    value, value_type = pl.col("value"), keys.schema["value"]
    parts = [pl.DataFrame(schema=_bracketed_schema(value_type))]
    for bracket in brackets:
        remaining = keys
        if bracket.low is not None:
            remaining = keys.filter(
                at_or_after(bracket.low, value, value_type) & ~_is_key(bracket.low, value_type)
            )
        inside = remaining.filter(
            ~at_or_after(bracket.high, value, value_type) | _is_key(bracket.high, value_type)
        )
        parts += [
            inside.select(
                pl.lit(bracket.tile, pl.Int64).alias("tile"),
                *KEY,
                pl.lit(None, pl.Int64).alias("before"),
            ),
            pl.DataFrame(
                [(bracket.tile, None, None, keys.height - remaining.height)],
                schema=_bracketed_schema(value_type),
                orient="row",
            ),
        ]
    return pl.concat(parts)


def _is_key(key: tuple[Any, str], value_type: pl.DataType) -> pl.Expr:
    return (pl.col("value") == pl.lit(key[0], value_type)) & (pl.col("user") == pl.lit(key[1]))


def _bracketed_schema(value_type: pl.DataType) -> dict[str, pl.DataType]:
    return {
        "tile": pl.Int64(),
        "value": value_type,
        "user": pl.String(),
        "before": pl.Int64(),
    }


def first_keys(bracketed: pl.DataFrame, brackets: list[Bracket]) -> dict[int, tuple[Any, str]]:
    """The first key of each tile.

    Args:
        bracketed: `bracketed_keys` of all shards.
        brackets: The brackets they were made with.
    """
    keys = {}
    for bracket in brackets:
        rows = bracketed.filter(pl.col("tile") == bracket.tile)
        before = int(rows["before"].sum())
        inside = rows.filter(pl.col("before").is_null()).sort(KEY)
        keys[bracket.tile] = inside.select(KEY).row(bracket.rank - before)
    return keys


def tile_of(first: dict[int, tuple[Any, str]], value: pl.Expr, value_type: pl.DataType) -> pl.Expr:
    """The tile of (`value`, `user`) (Int64), by the first key of each tile but the first."""
    return pl.sum_horizontal(
        pl.lit(1, pl.Int64),
        *(at_or_after(key, value, value_type).cast(pl.Int64) for key in first.values()),
    )
