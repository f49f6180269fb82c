"""Predictions against plain SQL on what is published; and the queries of the documentation."""

import datetime as dt
import re
from pathlib import Path

import duckdb
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from benchmarks.clv import simulated_purchase_days
from transforms.analytics.in_memory import tables_in_memory
from transforms.ingest.batch import ROWS
from transforms.rules import Rules

SQL = Path(__file__).with_name("lifetime_value.sql").read_text(encoding="utf-8")
GROUPS_SQL = (
    Path(__file__)
    .with_name("tables")
    .joinpath("metrics_clv_predictions.sql")
    .read_text(encoding="utf-8")
    .removeprefix("CREATE TABLE metrics_clv_predictions AS\n")
)
DOCUMENT = Path(__file__).parents[2] / "docs/lifetime-value.md"
RULES = Rules(without=frozenset({"time"}))


def tables_of(purchase_days: pl.DataFrame, user_shards: int = 1) -> dict[str, pl.DataFrame]:
    """The tables of purchases, one a user and day."""
    rows = purchase_days.select(
        event_time=pl.col("event_date").cast(pl.Datetime("us", "UTC")) + dt.timedelta(hours=12),
        event_type=pl.lit("purchase"),
        product_id=pl.lit(1),
        category_id=None,
        category_code=None,
        brand=None,
        price="revenue",
        user_id="user_id",
        user_session=pl.format("{}-{}", "user_id", "event_date"),
    )
    return tables_in_memory(rows.cast(dict(ROWS)), RULES, user_shards=user_shards)


def connected(tables: dict[str, pl.DataFrame], purchase_days: pl.DataFrame):
    connection = duckdb.connect()
    for name, table in tables.items():
        connection.register(name, table.to_arrow())
    days = purchase_days.with_columns(pl.col("user_id").cast(pl.String))
    connection.register("purchase_days", days.to_arrow())
    return connection


@settings(max_examples=3, deadline=None)
@given(
    seed=st.integers(0, 1000),
    rate=st.sampled_from([(0.5, 40), (1.5, 60)]),
    loss=st.sampled_from([(0.9, 1.6), (1.5, 3.0)]),
    shards=st.integers(1, 4),
)
def test_predictions_follow_from_the_published_parameters(seed, rate, loss, shards):
    purchase_days = simulated_purchase_days(4_000, seed, days=400, frequency=(*rate, *loss))
    tables = tables_of(purchase_days, shards)
    users = tables["dim_user_clv"].sort("user_id")
    assume(set(users["model_status"]) == {"ok"})  # the test on unseen days may fail by chance
    with connected(tables, purchase_days) as connection:
        expected = connection.sql(SQL).pl().sort("user_id")
        groups = connection.sql(GROUPS_SQL).pl().sort("dimension", "value")
    assert users["user_id"].to_list() == expected["user_id"].to_list()
    assert users["clv_decile"].to_list() == expected["clv_decile"].to_list()
    for name in ("p_alive", "p_purchase_30d", "p_purchase_90d", "p_purchase_365d"):
        assert users[name].to_numpy() == pytest.approx(expected[name].to_numpy(), abs=1.5e-6)
    value = users["expected_purchase_value"].cast(pl.Float64).to_numpy()
    assert value == pytest.approx(expected["expected_purchase_value"].to_numpy(), abs=0.0051)
    found = tables["metrics_clv_predictions"].sort("dimension", "value")
    interval = ("expected_purchases_90d_low", "expected_purchases_90d_high")
    assert_frame_equal(found.drop(interval), groups.drop(interval))
    (overall,) = found.filter(dimension="overall").to_dicts()
    low, high = (overall[name] for name in interval)
    assert low < overall["expected_purchases_90d"] < high
    assert found.filter(pl.col("dimension") != "overall").select(interval).null_count().row(0) == (
        found.height - 1,
        found.height - 1,
    )


def test_the_queries_of_the_documentation_answer():
    purchase_days = simulated_purchase_days(3_000, 1)
    queries = re.findall(r"```sql\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert len(queries) == 3
    with connected(tables_of(purchase_days), purchase_days) as connection:
        deciles, lost, segments = (connection.sql(query).pl() for query in queries)
    assert deciles["clv_decile"].to_list() == list(range(1, 11))
    assert deciles["share_of_predicted"].is_sorted(descending=True)
    assert lost.height
    assert (lost["p_alive"] < 0.3).all()
    assert segments["customers"].sum() == purchase_days["user_id"].n_unique()
