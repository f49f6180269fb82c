"""Users of whom a session shard has many rows: these are added up before they are sent.

All rows of a user meet in one shard of users. Most users have a row or two in a session shard, of
which nothing can be added up; a robot or a shared account may have half of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import polars as pl

from transforms.columnar.key_index import number_keys

_SAMPLE: Final = 4096  # rows that are looked at: adding up costs as much as it saves, or more
_MOST_DISTINCT: Final = 0.75


def add_up_hot(
    rows: pl.DataFrame, keys: list[str], add_up: Callable[[pl.DataFrame], pl.DataFrame]
) -> pl.DataFrame:
    """Rows, added up if a quarter of them or more repeat a key.

    Args:
        rows: Rows that add up, of any number for each key.
        keys: Columns of integers or dates, without NULL.
        add_up: Adds up rows of equal keys, and keeps the columns.
    """
    if not rows.height:
        return rows
    sample = rows.select(keys).gather_every(-(-rows.height // _SAMPLE))
    columns = [sample[key].to_physical().to_numpy().astype(np.int64) for key in keys]
    _, distinct = number_keys(*columns)
    return add_up(rows) if len(distinct) <= _MOST_DISTINCT * sample.height else rows
