"""Columns made of the arrays that kernels fill."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa


def arrow_column(
    values: npt.NDArray[Any], kind: pa.DataType, valid: npt.NDArray[np.bool_] | None = None
) -> pa.Array:
    """The column of some values, which are not copied.

    Args:
        values: Each value, as Arrow stores the type.
        kind: The type in Arrow.
        valid: False where the value is NULL.
    """
    bits = None
    if valid is not None and not valid.all():
        bits = pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(kind, len(values), [bits, pa.py_buffer(values)])


def column(
    values: npt.NDArray[Any], kind: pa.DataType, valid: npt.NDArray[np.bool_] | None = None
) -> pl.Series:
    """The same as a series."""
    return pl.Series(pl.from_arrow(arrow_column(values, kind, valid)))
