"""Columns of texts of one length, made of their bytes and taken apart again."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa


def fixed_width_array(rows: npt.NDArray[np.uint8]) -> pa.LargeStringArray:
    """The texts that rows of ASCII bytes hold; the bytes are not copied."""
    count, width = rows.shape
    offsets = np.arange(count + 1, dtype=np.int64) * width
    return pa.LargeStringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(rows))


def fixed_width_text(rows: npt.NDArray[np.uint8]) -> pl.Series:
    """The same as a String series."""
    return pl.Series(pl.from_arrow(fixed_width_array(rows)))


def words_of_texts(array: pa.LargeStringArray) -> npt.NDArray[np.uint64]:
    """The 64-bit words of texts of one length, a multiple of 8: a row for each text."""
    if not len(array):
        return np.empty((0, 1), np.uint64)
    return np.frombuffer(array.buffers()[2], np.uint64).reshape(len(array), -1)
