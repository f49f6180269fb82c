"""Publication into a folder: one step, whatever happens on the way."""

import itertools
import os
import shutil
from decimal import Decimal
from pathlib import Path

import duckdb
import polars as pl
import pytest

from transforms.errors import RunError
from transforms.schema import METRICS_CATEGORY_RFM, METRICS_RFM_GRID, REJECTED_ROWS, TABLES
from transforms.warehouse import local
from transforms.warehouse.staging import stage

REPLACED = (METRICS_CATEGORY_RFM, METRICS_RFM_GRID)


def publish(output: Path, run_id: str, purchases: int) -> None:
    """Publish a state in which every number is the same."""
    with local.workspace(output, run_id, spill=False) as (staging, _):
        frames = (
            (
                METRICS_CATEGORY_RFM,
                {
                    "category_lvl_1": "a",
                    "rfm_segment": "Lost",
                    "purchases": purchases,
                    "revenue": Decimal(1),
                },
            ),
            (
                METRICS_RFM_GRID,
                {
                    "recency_score": 1,
                    "frequency_score": 1,
                    "customers": 1,
                    "purchases": purchases,
                    "revenue": Decimal(1),
                    "avg_order_value": Decimal(1),
                },
            ),
            (
                REJECTED_ROWS,
                {
                    "run_id": run_id,
                    "source_file": "a.csv",
                    "byte_offset": purchases,
                    "reason": "bad_price",
                    "raw": "x",
                },
            ),
        )
        files = [
            stage(pl.DataFrame([row], schema=table.polars_schema()), table, staging)
            for table, row in frames
        ]
        stage(
            pl.DataFrame([frames[0][1]], schema=frames[0][0].polars_schema()), REPLACED[0], staging
        )
        local.publish(output, run_id, files, {"run_id": run_id})


def state(output: Path) -> tuple[list[int], list[int]]:
    """What a reader sees: the numbers of the replaced tables, and those of the log."""
    replaced = [
        number
        for table in REPLACED
        for number in pl.read_parquet(output / table.name / "*.parquet")["purchases"]
    ]
    log = pl.read_parquet(output / REJECTED_ROWS.name / "*.parquet")["byte_offset"]
    return replaced, sorted(log)


def in_duckdb(output: Path) -> list[int]:
    with duckdb.connect(str(output / "warehouse.duckdb"), read_only=True) as connection:
        return [
            number
            for table in REPLACED
            for (number,) in connection.sql(f"SELECT purchases FROM {table.name}").fetchall()
        ]


def test_a_state_holds_the_files_of_its_manifest_and_every_table(tmp_path):
    publish(tmp_path, "run1", 1)
    assert state(tmp_path) == ([1, 1], [1])
    for table in TABLES:
        frame = pl.read_parquet(tmp_path / table.name / "*.parquet")
        assert frame.columns == list(table.column_names)
    assert not (tmp_path / "_staging").exists()


def test_the_next_state_replaces_tables_and_adds_to_logs(tmp_path):
    for number in (1, 2, 3, 4):
        publish(tmp_path, f"run{number}", number)
        assert state(tmp_path) == ([number] * 2, list(range(1, number + 1)))
        assert in_duckdb(tmp_path) == [number] * 2
    # The state before stays for those who still read it; older ones are gone.
    assert {path.name for path in (tmp_path / "_runs").iterdir()} == {"run3", "run4"}


def test_a_reader_of_the_last_state_is_not_disturbed(tmp_path):
    publish(tmp_path, "run1", 1)
    with duckdb.connect(str(tmp_path / "warehouse.duckdb"), read_only=True) as connection:
        connection.execute("SET file_search_path = ?", [str(tmp_path)])
        publish(tmp_path, "run2", 2)
        assert connection.sql("SELECT purchases FROM metrics_rfm_grid").fetchall() == [(1,)]
        assert connection.sql("SELECT count(*) FROM fct_events").fetchall() == [(0,)]
    assert in_duckdb(tmp_path) == [2, 2]


STEPS = (
    (Path, "rename"),
    (Path, "replace"),
    (Path, "write_text"),
    (Path, "symlink_to"),
    (os, "link"),
    (shutil, "rmtree"),
    (duckdb, "connect"),
)


@pytest.mark.parametrize(("owner", "name"), STEPS, ids=[name for _, name in STEPS])
def test_a_publication_that_breaks_off_leaves_one_state_or_the_other(
    tmp_path, monkeypatch, owner, name
):
    real = getattr(owner, name)
    for broken in itertools.count():
        output = tmp_path / str(broken)
        publish(output, "run1", 1)
        publish(output, "run2", 2)
        calls = itertools.count()

        def step(*args, calls=calls, broken=broken, **kwargs):
            if next(calls) == broken:
                raise OSError("the power went off")
            return real(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, step)
            try:
                publish(output, "run3", 3)
            except OSError:
                ended = False
            else:
                ended = True
        assert state(output) in (([2, 2], [1, 2]), ([3, 3], [1, 2, 3]))
        assert len(set(in_duckdb(output))) == 1
        publish(output, "run4", 4)
        numbers = state(output)[1]
        assert state(output)[0] == [4, 4]
        assert numbers in ([1, 2, 4], [1, 2, 3, 4])
        assert not (output / "_staging").exists()
        assert len(list((output / "_runs").iterdir())) == 2
        if ended and next(calls) <= broken:
            break


def test_a_state_is_on_the_disk_before_it_is_the_current_one(tmp_path, monkeypatch):
    written, replace, fsync = set(), Path.replace, os.fsync

    def write(descriptor):
        fsync(descriptor)
        written.add(os.fstat(descriptor).st_ino)

    def replace_link(new, link):
        if link.name == local.CURRENT:
            run = tmp_path / new.readlink()
            paths = [run.parent, run, *run.rglob("*")]
            assert len(paths) > len(TABLES)
            assert [path for path in paths if path.stat().st_ino not in written] == []
            written.clear()
        written.discard(tmp_path.stat().st_ino)  # which now lists something else
        return replace(new, link)

    monkeypatch.setattr(os, "fsync", write)
    monkeypatch.setattr(Path, "replace", replace_link)
    publish(tmp_path, "run1", 1)
    assert tmp_path.stat().st_ino in written


def test_a_moved_warehouse_is_read_from_inside(tmp_path, monkeypatch):
    publish(tmp_path / "here", "run1", 1)
    (tmp_path / "here").rename(tmp_path / "there")
    assert state(tmp_path / "there") == ([1, 1], [1])
    monkeypatch.chdir(tmp_path / "there")
    with duckdb.connect("warehouse.duckdb", read_only=True) as connection:
        for table in TABLES:
            columns = connection.sql(f"DESCRIBE {table.name}").fetchall()
            assert [column[0] for column in columns] == list(table.column_names)
            connection.sql(f"FROM {table.name}").fetchall()


def test_duckdb_describes_every_table_and_column(tmp_path):
    publish(tmp_path, "run1", 1)
    with duckdb.connect(str(tmp_path / "warehouse.duckdb"), read_only=True) as connection:
        found = dict(
            connection.sql(
                "SELECT table_name, comment FROM duckdb_tables() "
                "UNION ALL SELECT view_name, comment FROM duckdb_views() WHERE NOT internal"
            ).fetchall()
        )
        columns = connection.sql(
            "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE NOT internal"
        ).fetchall()
    assert found == {table.name: table.grain for table in TABLES}
    assert {(table, column): comment for table, column, comment in columns} == {
        (table.name, column.name): column.description
        for table in TABLES
        for column in table.columns
    }


@pytest.mark.parametrize("name", ["fct_events", "warehouse.duckdb", "pipeline_runs"])
def test_what_is_in_the_way_stays_and_is_named(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(RunError, match=f"{name} is in the way: it was not written by this program"):
        publish(tmp_path, "run1", 1)
    assert (tmp_path / name).read_text() == "mine"


def test_other_files_in_the_folder_stay(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    publish(tmp_path, "run1", 1)
    publish(tmp_path, "run2", 2)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_second_run_at_once_is_turned_away(tmp_path):
    with local.workspace(tmp_path, "run1", spill=True) as (staging, spill):
        assert Path(staging).is_dir()
        assert Path(spill).is_dir()
        with pytest.raises(RunError, match=rf"another run \(process {os.getpid()}\) is writing"):
            publish(tmp_path, "run2", 2)
    publish(tmp_path, "run2", 2)


def test_what_a_dead_run_left_is_cleared(tmp_path):
    publish(tmp_path, "run1", 1)
    for folder in ("_staging/dead/fct_events", "_staging/_shuffle_dead", "_runs/dead/fct_events"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "left.parquet").write_text("debris")
    publish(tmp_path, "run2", 2)
    assert not list(tmp_path.rglob("left.parquet"))
    assert not (tmp_path / "_staging").exists()
    assert state(tmp_path) == ([2, 2], [1, 2])
