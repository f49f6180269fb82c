"""Packed frames: they come back as they were, in as few bytes as hold them."""

from datetime import UTC, date, timedelta
from decimal import Decimal

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from tests.transforms.frames import at
from transforms.columnar.money import MONEY
from transforms.columnar.packing import (
    ALIGNMENT,
    Layout,
    Part,
    Piece,
    can_pack,
    pack,
    unpack,
    unpack_rows,
)
from transforms.ingest.batch import EVENT_BATCH, EVENT_TYPE

MOST = 2**63 - 1
VALUES = {
    "integer": (pl.Int64(), st.integers(-MOST - 1, MOST) | st.integers(0, 300)),
    "word": (pl.UInt64(), st.integers(0, 2**64 - 1)),
    "number": (pl.UInt32(), st.integers(0, 2**32 - 1)),
    "truth": (pl.Boolean(), st.booleans()),
    "day": (pl.Date(), st.dates()),
    "time": (pl.Datetime("us", "UTC"), st.datetimes(timezones=st.just(UTC))),
    "second": (
        pl.Datetime("us", "UTC"),
        st.integers(0, 10**9).map(at),
    ),
    "money": (MONEY, st.integers(-(10**38) + 1, 10**38 - 1).map(lambda n: Decimal(n).scaleb(-9))),
    "cents": (MONEY, st.integers(-(10**9), 10**9).map(lambda n: Decimal(n).scaleb(-2))),
    "kind": (EVENT_TYPE, st.sampled_from(EVENT_TYPE.categories.to_list())),
    "text": (pl.Categorical(), st.text(max_size=5)),
}
SCHEMA = pl.Schema({name: dtype for name, (dtype, _) in VALUES.items()})


def frames(rows):
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def pieces_of(packed, *bounds):
    """Cut what was packed into pieces of some rows, in one file."""
    layout, columns = packed
    file, pieces = b"", []
    for start, end in bounds:
        data = b"".join(column[start:end].tobytes() for column in columns)
        assert len(data) == (end - start) * layout.row_bytes
        pieces.append((end - start, len(file)))
        file += data + bytes(-len(data) % ALIGNMENT)
    mapped = np.frombuffer(file, np.uint8)
    return [Piece(layout, rows, mapped, start) for rows, start in pieces if rows]


ROWS = st.lists(st.tuples(*(st.none() | values for _, values in VALUES.values())), max_size=8)


@given(st.lists(ROWS, min_size=1, max_size=3), st.randoms(use_true_random=False), st.data())
def test_frames_come_back_in_the_order_wanted(batches, random, data):
    batches = [frames(rows) for rows in batches]
    expected = pl.concat(batches)
    if not expected.height:
        return
    order = list(range(expected.height))
    random.shuffle(order)
    cut = data.draw(st.integers(0, len(order)))
    pieces = pieces_of(pack(batches, np.array(order, np.uint32)), (0, cut), (cut, len(order)))
    assert_frame_equal(unpack(pieces), expected[order], categorical_as_str=True)

    any_wanted = st.lists(st.booleans(), min_size=len(order), max_size=len(order))
    is_wanted = np.array(data.draw(any_wanted), np.bool_)
    numbers = expected.with_columns(key=pl.int_range(pl.len()))
    pieces = pieces_of(pack([numbers], np.array(order, np.uint32)), (0, cut), (cut, len(order)))
    assert_frame_equal(
        unpack_rows(pieces, "key", is_wanted),
        numbers[order].filter(pl.Series(is_wanted[order])),
        categorical_as_str=True,
    )


def test_pieces_may_differ_in_their_layouts_and_files():
    batches = [
        frames([(2**40 * number, number, number, True, None, None, None, None, None, None, None)])
        for number in (1, 2, 3)
    ]
    pieces = [
        piece
        for batch in batches
        for piece in pieces_of(pack([batch, batch], np.arange(2, dtype=np.uint32)), (0, 1), (1, 2))
    ]
    assert_frame_equal(unpack(pieces), pl.concat(batch for batch in batches for _ in range(2)))
    found = unpack_rows(pieces, "word", np.array([False, True, False, True]))
    assert found["word"].to_list() == [1, 1, 3, 3]


@pytest.mark.parametrize(
    ("values", "dtype", "size"),
    [
        ([5, 5, 5], pl.Int64, 0),
        ([MOST - 255, MOST], pl.Int64, 1),
        ([-1, 255], pl.Int64, 2),
        ([0, 2**32 - 1], pl.Int64, 4),
        ([0, 2**32], pl.Int64, 8),
        ([-MOST - 1, MOST], pl.Int64, 8),
        ([date(2019, 1, 1), date(2019, 9, 1)], pl.Date, 1),
        ([at(), at(days=400)], EVENT_BATCH["event_time"], 4),
        ([at(), at(days=400) + timedelta(microseconds=1)], EVENT_BATCH["event_time"], 8),
        ([Decimal("0.01"), Decimal("20000000.00")], MONEY, 4),
        ([Decimal("0.010000001"), Decimal("20000000.00")], MONEY, 8),
        ([Decimal(0), Decimal(10) ** 12], MONEY, 9),
        ([1, None], pl.Int64, 2),
    ],
)
def test_columns_take_few_bytes(values, dtype, size):
    layout, _ = pack(
        [pl.DataFrame({"value": pl.Series(values, dtype=dtype)})], np.arange(2, dtype=np.uint32)
    )
    assert layout.row_bytes == size


def test_what_cannot_be_packed():
    assert can_pack(SCHEMA)
    assert can_pack(EVENT_BATCH)
    for dtype in (pl.String(), pl.Float64(), pl.Decimal(38, 2), pl.List(pl.Int64())):
        assert not can_pack(pl.Schema({**SCHEMA, "other": dtype}))


def test_a_layout_is_plain_data():
    own = {"own": pl.Categorical(pl.Categories("brands", "shop", pl.UInt16))}
    for schema in (EVENT_BATCH, SCHEMA, pl.Schema(own)):
        layout = Layout(schema, tuple((Part(1, -5),) * (2 + (t == MONEY)) for t in schema.dtypes()))
        assert Layout.decode(layout.encode()) == layout


@pytest.mark.parametrize(
    ("schema", "parts"),
    [
        ({"a": pl.Int64()}, ((Part(3, 0), Part(0, 1)),)),
        ({"a": pl.Int64()}, ((Part(8, 0, 0), Part(0, 1)),)),
        ({"a": pl.Int64()}, ((Part(8, 2**63), Part(0, 1)),)),
        ({"a": pl.Int64()}, ((Part(8, 0.5), Part(0, 1)),)),
        ({"a": pl.Int64()}, ((Part(8, 0),),)),
        ({"a": MONEY}, ((Part(8, 0), Part(0, 1)),)),
        ({"a": pl.String()}, ((Part(8, 0), Part(0, 1)),)),
        ({"a": pl.Object()}, ((Part(8, 0), Part(0, 1)),)),
    ],
)
def test_a_layout_that_nobody_packed_is_refused(schema, parts):
    with pytest.raises(ValueError, match="no layout of packed frames"):
        Layout.decode(Layout(pl.Schema(schema), parts).encode())


@given(st.binary(max_size=40), st.integers(0, 40))
def test_bytes_that_are_no_layout_are_refused(noise, start):
    encoded = Layout(pl.Schema({"a": pl.Int64()}), ((Part(8, 0), Part(0, 1)),)).encode()
    for damaged in (noise, encoded[: min(start, len(encoded) - 1)]):
        with pytest.raises(ValueError, match="no layout"):
            Layout.decode(damaged)
