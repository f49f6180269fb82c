"""Classes of numbers by their bounds."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

import polars as pl


def class_of(value: pl.Expr, up_to: Mapping[str, int | None]) -> pl.Expr:
    """The class of a number: the first whose bound it does not exceed.

    Args:
        value: Integers.
        up_to: The largest number of each class, ascending; None for the last one.

    Returns:
        An Enum of the classes.
    """
    classes = pl.Enum(list(up_to))
    *bounded, (last, _) = up_to.items()
    return reduce(
        lambda otherwise, bound: (
            pl.when(value <= bound[1]).then(pl.lit(bound[0], classes)).otherwise(otherwise)
        ),
        reversed(bounded),
        pl.lit(last, classes),
    )
