"""Numbers of keys, against a dictionary."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.columnar.arrays import NO_CODE
from transforms.columnar.key_index import (
    Numbering,
    count_distinct,
    count_keys,
    number_codes,
    number_keys,
    rows_in_order,
)

KEYS = st.lists(st.tuples(st.sampled_from([0, 1, -1, 2**63 - 1]), st.integers(0, 3)), max_size=60)


@given(st.lists(KEYS, min_size=1, max_size=4))
def test_keys_are_numbered_in_the_order_in_which_they_are_first_seen(batches):
    numbering, known = Numbering(2), {}
    for keys in batches:
        new = [key for key in dict.fromkeys(keys) if key not in known]
        known |= {key: len(known) + place for place, key in enumerate(new)}
        numbers, firsts = numbering.add(
            np.array([key[0] for key in keys], np.int64),
            np.array([key[1] for key in keys], np.uint32),
        )
        assert numbers.tolist() == [known[key] for key in keys]
        assert firsts.tolist() == [keys.index(key) for key in new]
        assert numbering.count == len(known)
        assert numbering.keys.view(np.int64).tolist() == [list(key) for key in known]


@given(KEYS)
def test_distinct_keys_are_counted(keys):
    first, second = (np.array([key[place] for key in keys], np.int64) for place in range(2))
    assert count_keys(first, second) == len(set(keys))


@pytest.mark.parametrize("twice", [0, 1, 700])
def test_keys_that_occur_twice_are_found_among_many(twice):
    keys = np.arange(20_000, dtype=np.int64) << 40
    assert count_keys(np.concatenate([keys, keys[:twice]])) == 20_000


@given(st.lists(st.integers(0, 5), max_size=40))
def test_rows_are_ordered_by_their_numbers_and_otherwise_stay(numbers):
    order, ends = rows_in_order(np.array(numbers, np.uint32), 7)
    assert order.tolist() == sorted(range(len(numbers)), key=numbers.__getitem__)
    assert ends.tolist() == [sum(each <= number for each in numbers) for number in range(7)]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 1, -1, 2**63 - 1, -(2**63)]), st.integers(0, 4), st.integers(0, 2)
        ),
        max_size=60,
    )
)
def test_distinct_items_are_counted_in_each_group_of_each_grouping(rows):
    items, *groupings = (
        np.array([row[place] for row in rows], dtype)
        for place, dtype in enumerate((np.int64, np.uint32, np.uint32))
    )
    for place, counts in enumerate(count_distinct(items, groupings, 6), start=1):
        pairs = {(row[0], row[place]) for row in rows}
        assert counts.tolist() == [sum(pair[1] == group for pair in pairs) for group in range(6)]


def test_many_keys_that_hash_alike_are_told_apart():
    keys = np.arange(50_000, dtype=np.int64) << 40
    numbers, firsts = number_keys(np.concatenate([keys, keys]))
    assert numbers.tolist() == list(range(50_000)) * 2
    assert firsts.tolist() == list(range(50_000))


def test_keys_go_on_where_there_was_room_for_none():
    numbering = Numbering(1)
    for start in range(0, 40_000, 1000):
        numbers, firsts = numbering.add(np.arange(start, start + 2000))
        assert numbers.tolist() == list(range(start, start + 2000))
        assert len(firsts) == (1000 if start else 2000)


def test_a_matrix_has_a_key_in_each_row():
    numbers, firsts = number_keys(np.array([[1, 2, 3], [1, 2, 4], [1, 2, 3]], np.uint64))
    assert (numbers.tolist(), firsts.tolist()) == ([0, 1, 0], [0, 1])


@pytest.mark.parametrize("keys", [np.empty((0, 4), np.uint64), np.empty(0, np.int64)])
def test_of_no_keys_there_are_no_numbers(keys):
    numbers, firsts = number_keys(keys)
    assert len(numbers) == len(firsts) == 0


@given(st.data(), st.integers(1, 3), st.integers(1, 6))
def test_codes_are_numbered_in_the_order_in_which_they_are_first_seen(data, width, items):
    code = st.sampled_from([0, 1, 2, 300, NO_CODE])
    row = st.lists(code, min_size=width, max_size=width)
    codes = data.draw(st.lists(row, min_size=items, max_size=items))
    rows = data.draw(st.lists(st.integers(0, items - 1), max_size=20))
    found = number_codes(
        np.array(rows, np.uint32), np.array(codes, np.uint32), np.full(width, 301, np.int64)
    )
    for column, (numbers, firsts) in enumerate(found):
        of_rows = [codes[item][column] for item in rows]
        distinct = list(dict.fromkeys(found for found in of_rows if found != NO_CODE))
        assert numbers.tolist() == [
            -1 if found == NO_CODE else distinct.index(found) for found in of_rows
        ]
        assert firsts.tolist() == [rows[of_rows.index(found)] for found in distinct]
