"""Columns made of the arrays that kernels fill."""

from __future__ import annotations

from typing import Any, Final

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


def dictionary_array(numbers: npt.NDArray[Any], texts: pl.Series) -> pa.Array:
    """A dictionary-encoded column whose distinct values are known.

    Parquet would otherwise hash every value to find them, at 70 ns each.

    Args:
        numbers: The row of each value in the texts, of 32 bits; −1 for NULL.
        texts: The values (String), each once: Parquet gives up a dictionary that repeats one.
    """
    indexes = numbers.view(np.int32)
    return pa.DictionaryArray.from_arrays(
        arrow_column(indexes, pa.int32(), indexes >= 0), texts.to_arrow(compat_level=COMPATIBLE)
    )


COMPATIBLE: Final = pl.CompatLevel.oldest()


NO_CODE = 2**32 - 1


NO_ID = -1
"""What stands for NULL in kernels: no dictionary is as large, and ids are not negative."""


_TEXTS = pl.Series([], dtype=pl.Categorical)  # keeps alive what codes mean, in all of the process


def codes(texts: pl.Series) -> npt.NDArray[np.uint32]:
    """The codes of a Categorical column, `NO_CODE` for NULL."""
    return without_nulls(texts.to_physical(), NO_CODE)


def texts_of_codes(numbers: pl.Series) -> pl.Series:
    """The Categorical column of which these are the codes, NULL where they are."""
    return numbers.cat.to(_TEXTS.dtype)


def without_nulls(numbers: pl.Series, stand_in: int) -> npt.NDArray[Any]:
    """A column of integers with something that stands for NULL.

    By Arrow: a frame's own operations wait for a pool of threads, which small frames feel.
    """
    if numbers.null_count():
        return np.asarray(numbers.to_arrow().fill_null(stand_in))
    return numbers.to_numpy()


def with_nulls(numbers: npt.NDArray[Any], stand_in: int) -> pl.Series:
    """The column again."""
    column = pl.Series(numbers)
    return column.set(column == stand_in, None)
