"""Predicted lifetime value of a run of a demo of seven months, as it is published."""

import subprocess
import sys

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from pipelines import generate_events
from tests.oracle.grammar import COLUMNS
from tests.oracle.product import product_tables
from tests.oracle.strategies import GOOD_ROW
from tests.pipelines.running import run
from transforms.schema import TABLES
from transforms.shuffle import sizing

CLV_TABLES = [table for table in TABLES if table.group == "clv"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    path = tmp_path_factory.mktemp("demo") / "events.csv"
    generate_events.main(["--rows=100000", "--seed=1", f"--output={path}"])
    return path


def test_a_demo_passes_and_is_predicted_alike_on_any_shards(demo, tmp_path, monkeypatch):
    monkeypatch.setattr(sizing, "user_shards", lambda _: 7)
    found = {name: pl.from_arrow(table) for name, table in run([demo], tmp_path).items()}
    validation = found["metrics_clv_validation"]
    assert validation.filter("selected").select("model", "passed").rows() == [("mbg_nbd", True)]
    users = found["dim_user_clv"]
    assert set(users["model_status"]) == {"ok"}
    assert users["clv_decile"].null_count() == 0
    warned = found["data_quality"].filter(
        ~pl.col("passed"), pl.col("table_name").str.contains("clv")
    )
    assert warned.is_empty()
    in_memory = product_tables([demo], user_shards=2)
    for table in CLV_TABLES:
        expected = pl.from_arrow(in_memory[table.name]).sort(table.key)
        assert_frame_equal(found[table.name].sort(table.key), expected)


def test_a_model_that_fails_its_test_publishes_no_predictions_and_warns(demo, tmp_path):
    tables = run([demo], tmp_path, clv_max_bias=0)
    found = {name: pl.from_arrow(table) for name, table in tables.items()}
    users = found["dim_user_clv"]
    assert set(users["model_status"]) == {"failed_validation: bias"}
    assert users["p_alive"].null_count() == users.height
    warned = found["data_quality"].filter(~pl.col("passed"), severity="warn")
    assert ("metrics_clv_validation", "selected_passed") in warned.select(
        "table_name", "check_name"
    ).rows()


def test_where_nobody_bought_nobody_is_predicted(tmp_path):
    path = tmp_path / "events.csv"
    path.write_text(f"{','.join(COLUMNS)}\n{','.join(GOOD_ROW)}\n")
    tables = run([path], tmp_path / "w", without="time,selling")
    assert tables["dim_users"].num_rows == 1
    assert tables["dim_user_clv"].num_rows == 0


def test_without_clv_nothing_of_it_is_there(demo, tmp_path):
    code = (
        "import sys; from pipelines import customer_analytics;"
        f"assert customer_analytics.main(['--input={demo}', '--output={tmp_path}',"
        "'--without=clv']) == 0;"
        "sys.exit('scipy.special' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=300)
    assert done.returncode == 0
    for table in CLV_TABLES:
        assert not (tmp_path / table.name).exists()
