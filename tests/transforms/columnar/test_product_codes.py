"""Product codes: numbered once in a process, told by columns outside it."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from tests.transforms.frames import events, flags_of
from transforms.columnar.arrays import NO_CODE, NO_ID
from transforms.columnar.product_codes import (
    PRODUCT_CODE,
    PRODUCT_COLUMNS,
    encoded_columns,
    interned,
    known_codes,
    number_products,
    portable,
    with_products,
)
from transforms.ingest.batch import EVENT_BATCH
from transforms.shuffle.coder import decode_frame, encode_frame

ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "product_id": st.integers(0, 3) | st.just(2**63 - 1),
            "category_id": st.sampled_from([0, 1, 2**63 - 1, None]),
            "category_code": st.sampled_from(["x.y", "x", None]),
            "brand": st.sampled_from(["a", "é", "x", None]),
        }
    ),
    max_size=30,
)


def told(frame: pl.DataFrame) -> list[tuple[object, ...]]:
    """What a batch says of its products, row by row."""
    return with_products(frame).select(PRODUCT_COLUMNS).rows()


@given(ROWS)
def test_a_number_stands_for_its_columns(rows):
    frame = events(*rows)
    expected = [tuple(row[name] for name in PRODUCT_COLUMNS) for row in rows]
    assert told(frame) == expected
    assert len(set(expected)) == frame[PRODUCT_CODE].n_unique()
    assert events(*rows[::-1])[PRODUCT_CODE].to_list() == frame[PRODUCT_CODE].to_list()[::-1]


@given(ROWS)
def test_columns_are_encoded_with_each_text_once(rows):
    for name, column in encoded_columns(events(*rows)[PRODUCT_CODE].to_numpy()).items():
        texts = column.texts.to_list()
        assert len(texts) == len(set(texts))
        assert [None if number < 0 else texts[number] for number in column.numbers] == [
            None if row[name] is None else str(row[name]) for row in rows
        ]


@given(ROWS)
def test_frames_leave_the_process_with_columns_and_come_back_with_numbers(rows):
    frame = events(*rows)
    assert PRODUCT_CODE not in portable(frame).columns
    assert interned(portable(frame)).schema == EVENT_BATCH
    assert_frame_equal(decode_frame(encode_frame(frame, "lz4")), frame)


def test_frames_without_variants_stay_as_they_are():
    frame = pl.DataFrame({"product_id": [1], "brand": ["a"]})
    assert portable(frame) is frame
    assert interned(frame) is frame


def test_threads_number_alike():
    """Each asks for products that no other has asked for, and for those of all others."""
    first, size = 2**40, 4000

    def number(thread: int) -> list[tuple[int, int]]:
        found = []
        for part in range(8):
            ids = first + np.arange(size) * (thread + 1) + part * size
            codes = np.full(size, NO_CODE, np.uint32)
            numbers = number_products(ids, np.full(size, NO_ID), codes, codes)
            assert (known_codes().product_id[numbers] == ids).all()
            found += zip(ids.tolist(), numbers.tolist(), strict=True)
        return found

    with ThreadPoolExecutor(4) as threads:
        pairs = {pair for found in threads.map(number, range(4)) for pair in found}
    assert len({number for _, number in pairs}) == len(pairs) == len({id_ for id_, _ in pairs})


@pytest.mark.parametrize("wanted", [(), (1,), (1, 2**63 - 1)])
def test_flags_tell_which_variants_are_of_some_products(wanted):
    flags = flags_of(*wanted)
    other = events({"product_id": 5})[PRODUCT_CODE].to_numpy()
    assert not flags.known()[other].any()
    # Also those that were numbered later.
    for product in (1, 2, 2**63 - 1):
        frame = events({"product_id": product, "brand": f"{wanted}"})
        assert flags.known()[frame[PRODUCT_CODE].to_numpy()].tolist() == [product in wanted]
