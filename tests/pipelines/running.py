"""Runs the pipeline as a user does, in this process, and reads what it published."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest

from pipelines import customer_analytics
from tests.oracle.compare import assert_tables_equal
from tests.oracle.oracle import LIFETIME_VALUE, oracle_tables
from transforms.schema import TABLES

ROOT = Path(__file__).resolve().parents[2]
NOT_IN_ORACLE = ("data_quality", "pipeline_runs")
COUNTS = {
    "rows_read": "rows_read",
    "events_kept": "events_kept",
    "after_as_of": "after_as_of_rows",
    "duplicate": "duplicate_rows",
    "multi_brand_product": "multi_brand_product_rows",
    "missing_session": "missing_session_rows",
    "rejected": "rejected_rows",
    "as_of": "as_of",
}
"""The oracle's counts, and the columns of pipeline_runs that must say the same."""


def arguments(files: Iterable[Path | str], output: Path, **options: Any) -> list[str]:
    """The command line of a run that fails for no number of rejected rows or kept events."""
    options = {"max_rejected_ratio": 1, "allow_empty": "true", **options}
    return [
        "--input",
        *map(str, files),
        f"--output={output}",
        *(f"--{name}={value}" for name, value in options.items()),
    ]


def run(files: Iterable[Path | str], output: Path, **options: Any) -> dict[str, pa.Table]:
    """Run the pipeline; return what it published."""
    assert customer_analytics.main(arguments(files, output, **options)) == 0
    return published(output)


def published(output: Path) -> dict[str, pa.Table]:
    """All tables of a warehouse, from their Parquet files."""
    return {
        table.name: pl.read_parquet(output / table.name / "*.parquet").to_arrow()
        for table in TABLES
        if (output / table.name).exists()
    }


def published_in_duckdb(output: Path) -> dict[str, pa.Table]:
    """All tables of a warehouse, as DuckDB shows them to someone in its folder."""
    with duckdb.connect(str(output / "warehouse.duckdb"), read_only=True) as connection:
        connection.execute("SET file_search_path = ?", [str(output)])
        return {
            name: _with_zones(connection.sql(f"FROM {name}").to_arrow_table())
            for (name,) in connection.sql("SELECT table_name FROM duckdb_tables()").fetchall()
            + connection.sql("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
        }


def _with_zones(table: pa.Table) -> pa.Table:
    """The times of DuckDB's file, which are in UTC and do not say so, as Parquet has them."""
    naive, utc = pa.timestamp("us"), pa.timestamp("us", "UTC")
    return table.cast(
        pa.schema(
            [field.with_type(utc) if field.type == naive else field for field in table.schema]
        )
    )


def last_run(tables: dict[str, pa.Table]) -> dict[str, Any]:
    """The newest row of pipeline_runs."""
    return max(tables["pipeline_runs"].to_pylist(), key=lambda row: row["started_at"])


def contents(tables: dict[str, pa.Table]) -> dict[str, pa.Table]:
    """The tables that depend on the input only, without what names the run."""
    tables = {name: table for name, table in tables.items() if name not in NOT_IN_ORACLE}
    return {
        **tables,
        "rejected_rows": tables["rejected_rows"].drop_columns("run_id"),
    }


def assert_as_oracle(tables: dict[str, pa.Table], files: Iterable[Path], **options: Any) -> None:
    """Fail unless the tables of a first run are what the oracle makes of the same files."""
    if options.get("without") == "time":
        options = {**options, "without_time": True}
        del options["without"]
    expected = oracle_tables(list(files), **options)
    counts = expected.pop("counts").to_pylist()[0]
    for table in TABLES:
        if table.group == "history" and options.get("history") == "none":
            del expected[table.name]  # the oracle has it empty
    known = contents(tables)
    if not set(LIFETIME_VALUE) & set(expected):
        known = {name: table for name, table in known.items() if name not in LIFETIME_VALUE}
    assert_tables_equal(known, expected)
    row = last_run(tables)
    assert {name: row[column] for name, column in COUNTS.items()} == {
        name: counts[name] for name in COUNTS
    }


def start(files: Iterable[Path | str], output: Path, **options: Any) -> subprocess.Popen[str]:
    """Start a run as a process of its own, with a process group as a terminal gives it."""
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "pipelines.customer_analytics",
            *arguments(files, output, **options),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )


def wait_until(happened: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait for something that a process does while it runs."""
    while not happened():
        if process.poll() is not None:
            pytest.fail(f"ended too early: {process.communicate()}")
        time.sleep(0.01)
