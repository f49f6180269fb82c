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


# Where compiled kernels are kept ------------------------------------------------------------------

SMALL = """
import sys
from numba import types
from transforms.columnar.kernels import kernel

@kernel(types.int64(types.int64))
def doubled(number):
    return 2 * number

print(doubled(21), sum(doubled.stats.cache_hits.values()))
"""
NOT_KEPT = (
    "customer-analytics: compiled code cannot be kept ({}), so each run compiles for a minute; "
    "set XDG_CACHE_HOME to a folder that can be written\n"
)


@pytest.fixture
def compute(tmp_path):
    """Compile a small kernel in a process of its own, or find it in the cache."""
    program = tmp_path / "program.py"
    program.write_text(SMALL)
    temporary = tmp_path / "temporary"
    temporary.mkdir()

    def call(*command: str, **environment: str) -> tuple[str, str]:
        done = subprocess.run(
            [sys.executable, *command, str(program)],
            env={"PYTHONPATH": ":".join(sys.path), "TMPDIR": str(temporary), **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert list(temporary.iterdir()) == [], "it goes with the process"
        return done.stdout, done.stderr

    return call


def test_the_cache_is_found_again(tmp_path, compute):
    assert compute(XDG_CACHE_HOME=str(tmp_path)) == ("42 0\n", "")
    assert compute(XDG_CACHE_HOME=str(tmp_path)) == ("42 1\n", "")
    assert compute(HOME=str(tmp_path / "home")) == ("42 0\n", "")
    assert list((tmp_path / "home/.cache/estore-analytics").iterdir())


def test_a_home_that_cannot_be_written_is_said(tmp_path, compute):
    (tmp_path / "file").touch()
    expected = ("42 0\n", NOT_KEPT.format("Not a directory"))
    assert compute(HOME=str(tmp_path / "file")) == expected


def test_a_user_without_a_home_is_said(compute):
    script = """
import pwd, runpy, sys
def getpwuid(number):
    raise KeyError(number)
pwd.getpwuid = getpwuid
runpy.run_path(sys.argv[1])
"""
    expected = ("42 0\n", NOT_KEPT.format("Could not determine home directory."))
    assert compute("-c", script) == expected


def test_a_cache_that_can_only_be_read_is_read(tmp_path, compute):
    compute(XDG_CACHE_HOME=str(tmp_path))
    script = """
import errno, pathlib, runpy, sys, tempfile
unlimited = tempfile.TemporaryFile
def refuse(*arguments, dir=None, **options):
    if dir and pathlib.Path(dir).is_relative_to(CACHE):
        raise PermissionError(errno.EACCES, "Permission denied")
    return unlimited(*arguments, dir=dir, **options)
tempfile.TemporaryFile = refuse
runpy.run_path(sys.argv[1])
"""
    script = script.replace("CACHE", repr(str(tmp_path / "estore-analytics")))
    assert compute("-c", script, XDG_CACHE_HOME=str(tmp_path)) == ("42 1\n", "")


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", [b"", b"damaged", b"\0" * 999])
def test_a_damaged_cache_is_made_anew(tmp_path, compute, suffix, damage):
    compute(XDG_CACHE_HOME=str(tmp_path))
    (path,) = tmp_path.glob(f"estore-analytics/*/*/*.{suffix}")
    path.write_bytes(damage)
    assert compute(XDG_CACHE_HOME=str(tmp_path)) == ("42 0\n", "")
    assert compute(XDG_CACHE_HOME=str(tmp_path)) == ("42 1\n", "")


def test_a_cache_on_a_full_disk_is_said_and_left_out(tmp_path, compute):
    script = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
runpy.run_path(sys.argv[1])
"""
    expected = ("42 0\n", NOT_KEPT.format("File too large"))
    assert compute("-c", script, XDG_CACHE_HOME=str(tmp_path)) == expected
