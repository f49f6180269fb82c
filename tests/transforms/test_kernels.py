"""Compiled functions against what they replace."""

import hashlib
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.cleaning import mark_neighbours, sort_groups
from transforms.kernels import count_bytes, number_keys

KEYS = st.lists(st.tuples(st.sampled_from([0, 1, -1, 2**63 - 1]), st.integers(0, 3)), max_size=60)


@given(KEYS)
def test_keys_are_numbered_in_the_order_of_their_first_rows(keys):
    columns = [np.array([key[place] for key in keys], np.int64) for place in (0, 1)]
    numbers, firsts = number_keys(*columns)
    distinct = list(dict.fromkeys(keys))
    assert numbers.tolist() == [distinct.index(key) for key in keys]
    assert firsts.tolist() == [keys.index(key) for key in distinct]


def test_many_keys_that_hash_alike_are_told_apart():
    keys = np.arange(50_000, dtype=np.int64) << 40
    numbers, firsts = number_keys(np.concatenate([keys, keys]))
    assert numbers.tolist() == list(range(50_000)) * 2
    assert firsts.tolist() == list(range(50_000))


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-3, 3)), max_size=60))
def test_groups_are_sorted_by_time_and_equal_times_keep_their_order(rows):
    numbers = np.array([number for number, _ in rows], np.uint32)
    times = np.array([time for _, time in rows], np.int64)
    order = np.empty(len(rows), np.uint32)
    sort_groups(numbers, 5, times, order)
    assert order.tolist() == sorted(range(len(rows)), key=lambda row: rows[row])
    same = np.empty(len(rows), np.bool_)
    mark_neighbours(numbers[order], times[order], same)
    assert same.tolist() == [rows.count(rows[row]) > 1 for row in order]


@pytest.mark.parametrize("size", [0, 1, 7, 64, 1000])
def test_bytes_are_counted(size):
    data = hashlib.shake_128(b"bytes").digest(size)
    assert count_bytes(np.frombuffer(data, np.uint8), 10) == data.count(10)


IMPORT = "from transforms.kernels import number_keys as n; import numpy as np; n(np.arange(9))"


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


def test_the_frame_of_no_keys_is_empty():
    numbers, firsts = number_keys(pl.Series([], dtype=pl.Int64).to_numpy())
    assert len(numbers) == len(firsts) == 0
