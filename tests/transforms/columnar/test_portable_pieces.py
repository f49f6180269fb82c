"""Pieces that leave the process: they come back as they were, wherever they are read."""

import base64
import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from tests.transforms.columnar.test_packing import VALUES
from tests.transforms.frames import at, events
from transforms.columnar.checksum import event_checksum
from transforms.columnar.portable_pieces import (
    can_encode,
    decode_pieces,
    encode_pieces,
    is_encoded,
)
from transforms.columnar.product_codes import PRODUCT_CODE, PRODUCT_COLUMNS, with_product_codes
from transforms.errors import RunError
from transforms.shuffle.coder import FrameCoder
from transforms.shuffle.stores import InlineStore, SpillStore

NULLABLE = {name: (dtype, st.none() | values) for name, (dtype, values) in VALUES.items()}
PRODUCTS = {
    "product_id": (pl.Int64(), st.integers(0, 5)),
    "category_id": (pl.Int64(), st.none() | st.integers(0, 3) | st.just(2**62)),
    "category_code": (pl.Categorical(), st.none() | st.sampled_from(["", "a.b", "é.ü"])),
    "brand": (pl.Categorical(), st.none() | st.text(max_size=3)),
}
COLUMNS = {**NULLABLE, **PRODUCTS}
SCHEMA = pl.Schema({name: dtype for name, (dtype, _) in COLUMNS.items()})
ROWS = st.lists(st.tuples(*(values for _, values in COLUMNS.values())), min_size=1, max_size=30)


def in_pieces(frames, numbers, count):
    """The rows of each number, and the piece that holds them."""
    order = np.argsort(numbers, kind="stable").astype(np.uint32)
    ends = np.cumsum(np.bincount(numbers, minlength=count))
    full = np.diff(ends, prepend=0) > 0
    return order, list(encode_pieces(frames, order, ends[full].astype(np.int64)))


@settings(max_examples=40)
@given(st.lists(ROWS, min_size=1, max_size=3), st.data())
def test_pieces_come_back_as_they_were(batches, data):
    frames = [
        with_product_codes(pl.DataFrame(rows, schema=SCHEMA, orient="row")) for rows in batches
    ]
    height = sum(map(len, batches))
    assert can_encode(frames[0].schema)
    numbers = data.draw(st.lists(st.integers(0, 4), min_size=height, max_size=height))

    order, pieces = in_pieces(frames, np.array(numbers), 5)

    assert len(pieces) == len(set(numbers))
    assert all(map(is_encoded, pieces))
    expected = pl.concat(frames)[order]
    for together in (decode_pieces(pieces), pl.concat(decode_pieces([one]) for one in pieces)):
        assert_frame_equal(together, expected, categorical_as_str=True)


def test_what_cannot_be_encoded_goes_another_way():
    assert not can_encode(pl.Schema({"text": pl.String()}))
    assert not can_encode(pl.Schema({"list": pl.List(pl.Int64())}))
    assert not can_encode(pl.Schema({"code": pl.Categorical(pl.Categories("mine"))}))
    frames = [pl.DataFrame({"n": [1]}), pl.DataFrame({"n": [2]}).clear(), pl.DataFrame({"n": [3]})]
    payloads = [payload for frame in frames for payload in InlineStore().put(frame)]
    assert [is_encoded(payload) for payload in payloads] == [True, False, True]
    assert InlineStore().read(payloads)["n"].to_list() == [1, 3]


@pytest.mark.parametrize("at_byte", [0, 30, -1])
def test_a_piece_that_was_cut_or_is_another_is_refused(at_byte):
    (piece,) = InlineStore().put(events({"brand": "a"}))
    with pytest.raises((ValueError, OSError)):
        decode_pieces([piece[:at_byte] if at_byte else b"x" * len(piece)])
    (other,) = InlineStore().put(pl.DataFrame({"n": [1]}))
    with pytest.raises(ValueError, match="pieces of different frames"):
        decode_pieces([piece, other])


# Two processes ------------------------------------------------------------------------------------
EVENTS = [
    {"product_id": number, "brand": f"brand {number % 7}", "category_code": f"c.{number % 3}"}
    for number in range(20)
]
WRITER = """
import base64, json, sys
import numpy as np
from tests.transforms.frames import events
from transforms.columnar.checksum import event_checksum
from transforms.shuffle.coder import FrameCoder
from transforms.shuffle.stores import InlineStore, SpillStore

rows = json.loads(sys.argv[1])
events(*reversed(rows))  # numbers products and texts in another order than who reads
batch = events(*rows)
((_, piece),) = InlineStore().put_parts([batch], np.zeros(len(rows), np.uint32), 1)
((_, spilled),) = SpillStore(sys.argv[2]).put_parts([batch], np.zeros(len(rows), np.uint32), 1)
told = {"piece": piece, "frame": FrameCoder().encode(batch), "spilled": spilled}
told = {name: base64.b64encode(payload).decode() for name, payload in told.items()}
print(json.dumps({**told, "checksum": event_checksum(batch)}))
"""


@pytest.fixture(scope="module")
def other_process(tmp_path_factory):
    """What another process has encoded, and its own batch of the same events."""
    folder = tmp_path_factory.mktemp("spill")
    batch = events(*EVENTS)
    done = subprocess.run(
        [sys.executable, "-c", WRITER, json.dumps(EVENTS), str(folder)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    told = json.loads(done.stdout)
    checksum = told.pop("checksum")
    payloads = {name: base64.b64decode(payload) for name, payload in told.items()}
    return folder, batch, payloads, checksum


def test_what_another_process_has_encoded_is_read_as_it_was_there(other_process):
    _, batch, told, checksum = other_process
    for read in (InlineStore().read([told["piece"]]), FrameCoder().decode(told["frame"])):
        assert_frame_equal(read, batch, categorical_as_str=True)
    assert event_checksum(batch) == checksum


def test_what_another_process_has_spilled_is_refused(other_process):
    folder, _, told, _ = other_process
    with pytest.raises(RunError, match="only the process that wrote them can read"):
        SpillStore(str(folder)).read([told["spilled"]])


def test_a_forked_process_is_another(tmp_path, monkeypatch):
    ((_, payload),) = SpillStore(str(tmp_path)).put_parts([events({})], np.zeros(1, np.uint32), 1)
    monkeypatch.setattr(os, "getpid", lambda: 1)
    with pytest.raises(RunError, match="only the process that wrote them can read"):
        SpillStore(str(tmp_path)).read([payload])


# The checksum -------------------------------------------------------------------------------------
SOME = [{"brand": "a"}, {"event_type": "purchase"}, {"user_session": None, "category_id": 3}]


def test_a_checksum_adds_up_in_any_order_and_parts():
    batch = events(*SOME, *SOME)
    total = event_checksum(batch)
    assert event_checksum(batch.reverse()) == total
    parts = (event_checksum(batch.slice(row, 2)) for row in (0, 2, 4))
    assert (sum(parts) - total) % 2**40 == 0
    assert event_checksum(batch.clear()) == 0


@pytest.mark.parametrize(
    "change",
    [
        {"event_time": at(1)},
        {"event_type": "cart"},
        {"product_id": 2},
        {"category_id": 1},
        {"category_code": "a"},
        {"brand": "b"},
        {"price": Decimal("1.01")},
        {"user_id": 8},
        {"user_session": "t"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_checksum_knows_every_column(change):
    changed = {**SOME[0], **change}
    assert event_checksum(events(changed, *SOME[1:])) != event_checksum(events(*SOME))


def test_texts_of_two_columns_are_not_taken_for_each_other():
    one = events({"brand": "x", "category_code": "y"})
    other = events({"brand": "y", "category_code": "x"})
    assert event_checksum(one) != event_checksum(other)
    assert set(PRODUCT_COLUMNS).isdisjoint(one.columns)
    assert PRODUCT_CODE in one.columns
