"""All tables of random input against plain SQL, on any number of shards."""

import tempfile
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracle.compare import assert_tables_equal
from tests.oracle.examples import csv_text
from tests.oracle.grammar import parse_event_time
from tests.oracle.oracle import oracle_tables
from tests.oracle.product import product_tables
from tests.oracle.strategies import csv_bytes, runs

pytestmark = pytest.mark.timeout(900)  # many examples in a test


@settings(max_examples=40, deadline=None)
@given(run=runs())
def test_as_of_gives_the_past_as_it_was(run):
    """Rows after it change nothing, in no table."""
    rows, options = run
    days = sorted(day for row in rows if (day := day_of(row)) is not None)
    middle = days[len(days) // 2] if days else date(2019, 10, 20)
    last = options.pop("as_of", None) or middle
    early = [row for row in rows if day_of(row) is None or day_of(row) <= last]
    with tempfile.TemporaryDirectory() as folder:
        tables = []
        for name, some in (("all.csv", rows), ("early.csv", early)):
            path = Path(folder) / name
            path.write_text(csv_text(some), encoding="utf-8")
            tables.append(product_tables([path], as_of=last, **options))
    for of_run in tables:
        del of_run["rejected_rows"]
    assert_tables_equal(*tables)


def day_of(row):
    """The UTC date of a row; None of one that is rejected."""
    time = parse_event_time(row["event_time"])
    return None if time is None else time.date()


@settings(max_examples=60, deadline=None)
@given(data=st.data(), run=runs(), shards=st.tuples(st.integers(1, 4), st.integers(1, 4)))
def test_tables_are_those_of_the_oracle(data, run, shards):
    rows, options = run
    session_shards, user_shards = shards
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.csv"
        path.write_bytes(data.draw(csv_bytes(rows)))
        expected = oracle_tables([path], **options)
        actual = product_tables(
            [path], session_shards=session_shards, user_shards=user_shards, **options
        )
    del expected["counts"]
    assert_tables_equal(actual, expected)
