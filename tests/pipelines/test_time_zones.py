"""Dates and times agree, wherever the warehouse is looked at."""

import json
import os
import subprocess
import sys

import pytest

from tests.oracle.grammar import COLUMNS
from tests.oracle.strategies import GOOD_ROW
from tests.pipelines.running import run
from transforms.schema import TABLES, ColumnType

QUERIES = """
import duckdb, json
with duckdb.connect("warehouse.duckdb", read_only=True) as connection:
    print(json.dumps([
        connection.sql(query).fetchall()
        for query in (
            "SELECT current_setting('TimeZone')",
            "SELECT event_time::VARCHAR, event_date::VARCHAR FROM fct_events ORDER BY ALL",
            "SELECT count(*) FROM fct_events WHERE event_time::DATE <> event_date",
            "SELECT count(*) FROM fct_events WHERE event_time < TIMESTAMP '2019-10-01 12:00:00'",
            "SELECT table_name, column_name, data_type FROM duckdb_columns() "
            "WHERE data_type LIKE 'TIMESTAMP%' AND NOT internal ORDER BY ALL",
            "SELECT count(*) FROM pipeline_runs WHERE abs(epoch(started_at) - epoch(now())) > 3600",
        )
    ]))
"""


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory):
    """Two events, of the first and of the last second of a day."""
    folder = tmp_path_factory.mktemp("zones")
    line = ",".join(GOOD_ROW)
    assert "2019-10-01 00:00:00" in line
    rows = [line, line.replace("00:00:00", "23:59:59")]
    (folder / "a.csv").write_text("\n".join([",".join(COLUMNS), *rows]))
    run([folder / "a.csv"], folder / "w")
    return folder / "w"


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/Los_Angeles"])
def test_dates_and_times_of_duckdb_agree_in_any_time_zone(warehouse, zone):
    shown = subprocess.run(
        [sys.executable, "-c", QUERIES],
        cwd=warehouse,
        env={**os.environ, "TZ": zone},
        capture_output=True,
        text=True,
        check=True,
    )
    [[[found]], events, [[apart]], [[before_noon]], columns, [[wrong]]] = json.loads(shown.stdout)
    assert found == zone
    assert events == [
        ["2019-10-01 00:00:00", "2019-10-01"],
        ["2019-10-01 23:59:59", "2019-10-01"],
    ]
    assert (apart, before_noon, wrong) == (0, 1, 0)
    assert columns == sorted(
        [table.name, column.name, "TIMESTAMP"]
        for table in TABLES
        for column in table.columns
        if column.type is ColumnType.TIMESTAMP
    )
