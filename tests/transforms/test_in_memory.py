"""All tables of random input against plain SQL, on any number of shards."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracle.compare import assert_tables_equal
from tests.oracle.oracle import oracle_tables
from tests.oracle.product import product_tables
from tests.oracle.strategies import csv_bytes, runs


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
