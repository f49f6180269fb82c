"""Compiled functions against what they replace."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import types

from transforms.columnar.grouping import find_neighbours, sort_groups
from transforms.columnar.kernels import WINDOW, count_bits, equal_bytes, kernel
from transforms.columnar.kernels import given as given_array
from transforms.columnar.key_index import rows_in_order


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-3, 3)), max_size=60))
def test_groups_are_sorted_by_time_and_equal_times_keep_their_order(rows):
    numbers = np.array([number for number, _ in rows], np.uint32)
    times = np.array([time for _, time in rows], np.int64)
    order, ends = rows_in_order(numbers, 5)
    sort_groups(ends, times, order)
    assert order.tolist() == sorted(range(len(rows)), key=lambda row: rows[row])
    near = np.empty(len(rows), np.uint32)
    count = find_neighbours(numbers, times, order, near)
    assert near[:count].tolist() == [row for row in order if rows.count(rows[row]) > 1]


@kernel(types.UniTuple(types.uint64, 2)(given_array(types.uint8), types.int64, types.uint8))
def marks_and_their_count(data, position, byte):
    marks = equal_bytes(data, position, byte)
    return marks, count_bits(marks)


@given(st.binary(min_size=WINDOW, max_size=WINDOW + 9), st.integers(0, 9), st.integers(0, 255))
def test_a_window_has_a_bit_for_each_byte_that_is_equal(data, position, byte):
    position = min(position, len(data) - WINDOW)
    window = data[position : position + WINDOW]
    marks, count = marks_and_their_count(np.frombuffer(data, np.uint8), position, byte)
    assert [marks >> bit & 1 for bit in range(WINDOW)] == [other == byte for other in window]
    assert count == window.count(byte)


IMPORT = """
import numpy as np
from transforms.columnar.key_index import number_keys
number_keys(np.arange(9))
"""


@pytest.mark.parametrize("home", ["writable", "read-only"])
def test_kernels_work_wherever_home_is(tmp_path, home):
    (tmp_path / "file").touch()
    cache = tmp_path if home == "writable" else tmp_path / "file"
    result = subprocess.run(
        [sys.executable, "-c", IMPORT],
        env={"XDG_CACHE_HOME": str(cache), "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert any(tmp_path.glob("estore-analytics/kernels-*/*/*.nbc")) == (home == "writable")
