import os
import sys

import pytest

from benchmarks import run
from benchmarks.measuring import Cost

OURS = run.Result(run.CONTENDERS["ours"], 1000, [Cost(4, 6, 10**9), Cost(2, 4, 2 * 10**9)])
DUCKDB = run.Result(run.CONTENDERS["duckdb"], 1000, [Cost(6, 10, 10**9), Cost(6, 10, 10**9)])
ROWS = run.Result(run.CONTENDERS["rows"], 100, [Cost(30, 50, 10**9)])


def test_table():
    note = (
        "\\* On the first 100 events, and only fct_events, fct_sessions, dim_users; seconds are "
        "those of 1,000 events at the same rate, memory is that of the sample."
    )
    assert run.describe_results([OURS, DUCKDB, ROWS], 1000).splitlines() == [
        "|  | seconds | × ours | CPU s | × ours | peak memory | × ours | events/s |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| this program | 3.0 (2.0-4.0) | 1.00 | 5.0 | 1.00 | 2.00 GB | 1.00 | 333 |",
        "| DuckDB, SQL | 6.0 (6.0-6.0) | 2.00 | 10.0 | 2.00 | 1.00 GB | 0.50 | 167 |",
        "| Beam, a dict per event \\* | 300.0 | 100.00 | 500.0 | 100.00 | 1.00 GB | 0.50 | 3 |",
        "",
        note,
    ]


def test_machine():
    assert f"{len(os.sched_getaffinity(0))} cores of" in run.describe_machine()
    assert "duckdb 2." in run.describe_machine()


def test_commands():
    command = run.CONTENDERS["ours"].command_on("a/*.csv", run.Path("b"))
    assert command[1:] == [
        *("-m", "pipelines.customer_analytics", "--input", "a/*.csv", "--output", "b"),
        "--without=clv,selling",
    ]


def test_what_is_left_out_is_left_out_by_everybody():
    ours, polars = run.CONTENDERS["ours"], run.CONTENDERS["polars"]
    assert ours.command_on("a", run.Path("b"), ["time"])[-1] == "--without=clv,selling,time"
    assert polars.command_on("a", run.Path("b"), ["time"])[-1] == "b"
    names = {table.name for table in ours.compared(["time"])}
    assert names == {table.name for table in polars.compared(["time"])}
    assert {table.name for table in ours.compared([])} - names == {
        *("fct_orders", "fct_user_days", "snap_user_rfm", "snap_user_status"),
        *("metrics_active_users", "metrics_cohort_retention", "metrics_lifecycle"),
        *("metrics_repeat_purchase", "metrics_segment_history", "metrics_segment_migration"),
        "metrics_stickiness",
    }


def test_who_makes_no_tables_over_time_takes_part_without_them():
    assert run.parse_arguments([]).contenders == ["duckdb"]
    assert run.parse_arguments(["--without=time"]).contenders == ["duckdb", "polars", "rows"]


@pytest.mark.parametrize(
    "wrong",
    [
        ["--rows", "0"],
        ["--repeat", "x"],
        ["--contenders", "spark"],
        ["--contenders", "polars"],
        ["--without", "space"],
        ["--skew", "x"],
        ["--gz", "--files", "3"],
    ],
)
def test_wrong_usage(wrong, capsys):
    with pytest.raises(SystemExit, match="2"):
        run.main(wrong)
    assert "error: argument" in capsys.readouterr().err


def arguments(tmp_path, *more):
    return ["--rows", "3000", "--contenders", "duckdb", "--data", str(tmp_path), *more]


@pytest.mark.parametrize("more", [("--files", "3"), ("--without", "time")])
def test_a_comparison(tmp_path, capsys, more):
    assert run.main(arguments(tmp_path, *more)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(f"--rows 3000 --contenders duckdb --data {tmp_path} {' '.join(more)}")
    assert lines[1] == "3,000 events, 0.00 GB of CSV; all tables are equal"
    assert [line.split("|")[1].strip() for line in lines[6:8]] == ["this program", "DuckDB, SQL"]
    assert not (tmp_path / "bench-outputs").exists()


def test_no_time_without_equal_tables(tmp_path, capsys, monkeypatch):
    script = tmp_path / "differing.py"
    script.write_text(
        "import sys, pathlib, duckdb\n"
        "from benchmarks import with_duckdb\n"
        "with_duckdb.write_tables(sys.argv[1], pathlib.Path(sys.argv[2]))\n"
        "path = f'{sys.argv[2]}/dim_users/dim_users.parquet'\n"
        "rows = f\"SELECT * REPLACE (0::BIGINT AS event_count) FROM '{path}'\"\n"
        "duckdb.sql(f\"COPY ({rows}) TO '{path}'\")\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    changed = {
        **run.CONTENDERS,
        "duckdb": run.Contender("differing", ("differing", "INPUT", "OUTPUT"), over_time=True),
    }
    monkeypatch.setattr(run, "CONTENDERS", changed)
    assert run.main(arguments(tmp_path)) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "benchmarks: dim_users differs" in shown.err
