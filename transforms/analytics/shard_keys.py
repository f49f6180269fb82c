"""Which rows meet in one shard."""

from __future__ import annotations

import polars as pl

from transforms.columnar.key_index import hash_integers, hash_keys


def session_shard_key(events: pl.DataFrame) -> pl.Series:
    """Shard key of an event: its session; without one its user, so that duplicates still meet."""
    sessions = hash_integers(events["session_high"] ^ events["session_low"])
    if not events["session_high"].null_count():
        return sessions
    users = hash_integers(events["user_id"])
    return pl.select(
        pl.when(events["session_high"].is_null()).then(users).otherwise(sessions)
    ).to_series()


def product_shard_key(frame: pl.DataFrame) -> pl.Series:
    """Shard key of a frame with a `product_id`."""
    return hash_integers(frame["product_id"])


def user_shard_key(frame: pl.DataFrame) -> pl.Series:
    """Shard key of a frame with a `user_id`."""
    return hash_integers(frame["user_id"])


def pair_shard_key(frame: pl.DataFrame) -> pl.Series:
    """Shard key of a frame with a `product_a` and a `product_b`."""
    return pl.Series(hash_keys(frame["product_a"].to_numpy(), frame["product_b"].to_numpy()))
