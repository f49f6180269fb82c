"""Funnels of a shop's own, against plain SQL and on their own."""

import tempfile
from pathlib import Path

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.oracle.compare import assert_tables_equal
from tests.oracle.examples import csv_text
from tests.oracle.oracle import oracle_tables
from tests.oracle.product import product_tables
from tests.oracle.strategies import clickstream_rows, configurations


def assert_as_oracle(rows, *, most_values=1000, shards=(1, 1), **options):
    """Compare metrics_funnels, and no other table."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.csv"
        path.write_text(csv_text(rows), encoding="utf-8")
        expected = oracle_tables([path], only_funnels=True, most_values=most_values, **options)
        actual = product_tables(
            [path],
            session_shards=shards[0],
            user_shards=shards[1],
            without=frozenset({"time", "clv"}),
            **options,
        )
    assert_tables_equal(*({"metrics_funnels": of["metrics_funnels"]} for of in (actual, expected)))


@settings(max_examples=80, deadline=None, phases=[Phase.generate])
@given(
    rows=clickstream_rows(max_visits=8),
    config=configurations(),
    shards=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    timeout=st.sampled_from([60, 3600, 86_400]),
)
def test_any_funnel_is_as_in_sql(rows, config, shards, timeout):
    assert_as_oracle(rows, shards=shards, config=config, session_timeout_seconds=timeout)
