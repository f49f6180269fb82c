"""How what is reported of batches and steps adds up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Final

import polars as pl


def _add_up(frame: pl.DataFrame, *, keys: tuple[str, ...]) -> pl.DataFrame:
    return frame.group_by(keys).agg(pl.all().sum())


MERGES: Final[Mapping[str, Callable[[pl.DataFrame], pl.DataFrame]]] = MappingProxyType(
    {
        "counts": partial(_add_up, keys=("count",)),
        "checks": partial(_add_up, keys=("table_name", "check_name", "severity")),
        "measures": partial(_add_up, keys=("table_name", "measure")),
    }
)
"""For frames of `COUNTED`, `CHECKED` and `MEASURED`, by the name under which they are sent."""
