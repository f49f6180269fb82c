"""A whole run with funnels of its own, and what it keeps of their configuration."""

import hashlib

import pytest

from pipelines import generate_events
from tests.oracle.compare import assert_tables_equal
from tests.oracle.oracle import oracle_tables
from tests.pipelines.running import last_run, run

CONFIG = """
[[funnel]]
name = "shop"
breakdown = ["brand", "rfm_segment", "session_quality_tier"]
step = [{name = "view", event = ["view"]}, {name = "purchase", event = ["purchase"]}]

[[funnel]]
name = "by_user"
scope = "user"
hold = ["product_id"]
breakdown = ["category_lvl_1", "activity_status"]
step = [{name = "view", event = ["view"]}, {name = "purchase", event = ["purchase"]}]
exclude = [{event = ["remove_from_cart"], after = 1, before = 2}]

[[funnel]]
name = "any"
scope = "user"
order = "unordered"
window = "1h"
step = [{name = "dear", price_min = 100.5}, {name = "cheap", price_max = 20}]
"""


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("funnels")
    events, config = folder / "events.csv", folder / "shop.toml"
    generate_events.main(["--rows", "5000", "--seed", "3", "--output", str(events)])
    config.write_text(CONFIG)
    made = run([events], folder / "warehouse", config=config, without="time,clv")
    return made, oracle_tables([events], config=CONFIG, only_funnels=True)


def test_the_table_is_as_in_sql(tables):
    made, expected = tables
    assert made["metrics_funnels"].num_rows > 100
    assert_tables_equal({"metrics_funnels": made["metrics_funnels"]}, expected)


def test_the_run_keeps_the_text_and_its_hash(tables):
    row = last_run(tables[0])
    assert row["config"] == CONFIG
    assert row["config_sha256"] == hashlib.sha256(CONFIG.encode()).hexdigest()


def test_what_is_left_out_is_not_there(tmp_path):
    events = tmp_path / "events.csv"
    generate_events.main(["--rows", "300", "--seed", "3", "--output", str(events)])
    made = run([events], tmp_path / "warehouse", without="selling,time,clv")
    assert "metrics_funnels" not in made
    assert last_run(made)["config"] is None
