"""Variants of products: the distinct values of columns that tell them apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from transforms.events import (
    EVENT_BATCH,
    NO_CODE,
    NO_ID,
    codes,
    texts_of_codes,
    with_nulls,
    without_nulls,
)
from transforms.kernels import Numbers
from transforms.numbering import Numbering


class Variants:
    """Numbers variants from 0 on, over any number of frames."""

    def __init__(self, names: Sequence[str]) -> None:
        """Begin with none.

        Args:
            names: Their columns, of an event batch: ids and texts.
        """
        self._names = names
        self._numbering = Numbering(len(names))

    @property
    def count(self) -> int:
        """How many there are so far."""
        return self._numbering.count

    def add(self, frame: pl.DataFrame) -> Numbers:
        """The number of each row's variant."""
        numbers, _ = self._numbering.add(
            *(
                codes(frame[name]) if _is_text(name) else without_nulls(frame[name], NO_ID)
                for name in self._names
            )
        )
        return numbers

    def frame(self) -> pl.DataFrame:
        """The variants, in the order of their numbers."""
        return pl.DataFrame(
            {
                name: texts_of_codes(with_nulls(keys.astype(np.uint32), NO_CODE))
                if _is_text(name)
                else with_nulls(keys.astype(np.int64), NO_ID)
                for name, keys in zip(self._names, self._numbering.keys.T, strict=True)
            }
        )


def _is_text(name: str) -> bool:
    return EVENT_BATCH[name] == pl.Categorical
