"""A metric is one module and its entry in the schema: everything else follows from them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import polars as pl
import pytest
from numba.core.caching import _CacheLocator

from tests.oracle.grammar import COLUMNS
from tests.oracle.strategies import GOOD_ROW
from tests.pipelines.running import ROOT, arguments
from transforms.columnar import kernels
from transforms.steps import sessions  # noqa: F401 - compiles the kernels, where that is to do

MODULE = '''
"""Events by day of the week: metrics_weekdays."""

import polars as pl

from transforms.analytics.metrics.metric import COUNT, Metric, Partial, Source
from transforms.columnar.money import MONEY
from transforms.schema.metrics import METRICS_WEEKDAYS


def weekday_sums(shard):
    return shard.session_days.group_by(weekday=pl.col("event_date").dt.weekday().cast(COUNT)).agg(
        pl.col("events", "revenue").sum()
    )


WEEKDAYS = Partial(
    name="weekdays",
    source=Source.SESSIONS,
    schema=pl.Schema({"weekday": COUNT, "events": COUNT, "revenue": MONEY}),
    keys=("weekday",),
    compute=weekday_sums,
)

METRIC = Metric(
    METRICS_WEEKDAYS,
    (WEEKDAYS,),
    lambda partials, _: METRICS_WEEKDAYS.conform(partials["weekdays"].sort("weekday")),
)
'''
TABLE = """

METRICS_WEEKDAYS = Table(
    name="metrics_weekdays",
    grain="one row per day of the week with an event",
    key=("weekday",),
    columns=(
        required("weekday", INT64, "1 for Monday to 7.", accepted=tuple(range(1, 8))),
        count("events", "Events of the day."),
        revenue("Sum of purchases; 0 where there is none.", required=True),
    ),
    measures=totals("events", "revenue"),
)
"""
DOCUMENTS = """
from pipelines import docs
print(docs.tables_document())
print(docs.readme_document())
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Path:
    """A copy of the program with one more metric, and its environment's cache of kernels."""
    folder = tmp_path_factory.mktemp("house") / "program"
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("transforms", "pipelines"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    (folder / "docs").mkdir()
    for name in ("README.md", "docs/tables.md.j2"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "transforms/analytics/metrics/weekdays.py").write_text(MODULE)
    with (folder / "transforms/schema/metrics.py").open("a") as file:
        file.write(TABLE)
    # Numba tells a kernel by the path of its module, so that the copy would compile all again.
    compiled = Path(kernels.config.CACHE_DIR)
    cache = folder.parent / "cache" / compiled.parent.name / compiled.name
    for room in ("transforms/columnar", "transforms/ingest"):
        known, copied = (
            _CacheLocator.get_suitable_cache_subpath(str(root / room / "module.py"))
            for root in (ROOT, folder)
        )
        shutil.copytree(compiled / known, cache / copied)
    return folder


def python(house: Path, *given: str) -> str:
    done = subprocess.run(
        [sys.executable, *given],
        cwd=house,
        env={**os.environ, "XDG_CACHE_HOME": str(house.parent / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_new_metric_is_published_and_audited(house, tmp_path):
    line = ",".join(GOOD_ROW)  # of a Tuesday
    rows = [
        line,
        line.replace("view", "purchase").replace("00:00:00", "00:00:05"),
        line.replace("10-01", "10-06"),
    ]
    (tmp_path / "a.csv").write_text("\n".join([",".join(COLUMNS), *rows]))
    output = tmp_path / "w"
    given = arguments([tmp_path / "a.csv"], output)
    python(house, "-m", "pipelines.customer_analytics", *given)

    table = pl.read_parquet(output / "metrics_weekdays" / "*.parquet")
    price = table["revenue"].max()
    assert table.rows() == [(2, 2, price), (7, 1, 0)]
    assert price > 0
    assert table.schema["revenue"] == pl.Decimal(38, 9)
    with duckdb.connect(str(output / "warehouse.duckdb"), read_only=True) as connection:
        assert connection.sql("FROM metrics_weekdays").fetchall() == table.rows()

    quality = pl.read_parquet(output / "data_quality" / "*.parquet")
    checks = quality.filter(table_name="metrics_weekdays").sort("check_name")
    assert checks["check_name"].to_list() == [
        "accepted_weekday",
        "events_as_in_fct_events",
        "minimum_events",
        "minimum_revenue",
        "not_null_events",
        "not_null_revenue",
        "not_null_weekday",
        "revenue_as_in_fct_events",
        "unique_key",
    ]
    assert checks["passed"].all()
    counted = pl.read_parquet(output / "pipeline_runs" / "*.parquet")["table_rows"].item()
    assert json.loads(counted)["metrics_weekdays"] == 2


def test_it_is_documented(house):
    documents = python(house, "-c", DOCUMENTS)
    assert "Events of the day." in documents
    assert "[`metrics_weekdays`](docs/tables.md#metrics_weekdays)" in documents
