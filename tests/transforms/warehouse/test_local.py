"""Publication into a folder: one step, whatever happens on the way."""

import itertools
import os
import re
import shutil
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from transforms.errors import RunError
from transforms.schema import (
    FCT_EVENTS,
    METRICS_CATEGORY_RFM,
    METRICS_RFM_GRID,
    REJECTED_ROWS,
    TABLES,
)
from transforms.warehouse import local, read_state, staging
from transforms.warehouse.base import Document, is_of_a_run, require_manifest
from transforms.warehouse.bigquery import parts_of
from transforms.warehouse.local import LocalWarehouse
from transforms.warehouse.staging import stage, stage_batch, window_of

REPLACED = (METRICS_CATEGORY_RFM, METRICS_RFM_GRID)


def manifest_of(run_id: str) -> Document:
    """The least that a run of every table says of itself."""
    return {
        "run_id": run_id,
        "finished_at": "2026-01-01T00:00:00+00:00",
        "table_rows": {table.name: 1 for table in TABLES},
    }


def publish(output: Path, run_id: str, purchases: int) -> list[str]:
    """Publish a state in which every number is the same; the warnings."""
    warehouse = LocalWarehouse(str(output))
    with warehouse.workspace(run_id, spill=False) as work:
        staging = work.staging
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
        warnings = warehouse.publish(warehouse.record(manifest_of(run_id), files))
    return warnings + work.warnings


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
    with LocalWarehouse(str(tmp_path)).workspace("run1", spill=True) as work:
        assert Path(work.staging).is_dir()
        assert Path(work.spill).is_dir()
        with pytest.raises(RunError, match=rf"another run \(process {os.getpid()}\) is writing"):
            publish(tmp_path, "run2", 2)
    publish(tmp_path, "run2", 2)


LEFT = f"{'0' * 32}.parquet"


def test_what_a_dead_run_left_is_cleared_before_a_run(tmp_path):
    publish(tmp_path, "run1", 1)
    publish(tmp_path, "run2", 2)
    left = (
        f"_staging/dead/fct_events/{LEFT}",
        "_staging/_shuffle_dead/0a-1.frames",
        f"_runs/dead/fct_events/w4-{LEFT}",
        f"_runs/dead/pipeline_runs/dead_{LEFT}",
        "_runs/dead/warehouse.duckdb",
    )
    for name in left:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("debris")
    with LocalWarehouse(str(tmp_path)).workspace("run3", spill=False):
        assert not any((tmp_path / name).exists() for name in left)
        # Those who read the state before the current one are not disturbed by a run that works.
        assert {path.name for path in (tmp_path / "_runs").iterdir()} == {"run1", "run2"}
    assert state(tmp_path) == ([2, 2], [1, 2])


def test_a_run_that_fails_leaves_nothing(tmp_path, monkeypatch):
    publish(tmp_path, "run1", 1)

    def fail(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr(local, "_make_database", fail)  # between two renames
    with pytest.raises(OSError, match="the disk is full"):
        publish(tmp_path, "run2", 2)
    assert {path.name for path in (tmp_path / "_runs").iterdir()} == {"run1"}
    assert not (tmp_path / "_staging").exists()


@pytest.mark.parametrize(
    "name",
    [
        "_staging/notes.txt",
        "_staging/run/fct_events/notes.txt",
        "_runs/mine.parquet",
        "_runs/experiment/model.pt",
        "_runs/experiment/metrics/data.parquet",
        "_runs/run1/report.css",
    ],
)
def test_a_users_own_files_among_ours_are_in_the_way(tmp_path, name):
    publish(tmp_path, "run1", 1)
    mine = tmp_path / name
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.write_text("mine")
    with pytest.raises(RunError, match=f"{mine} is in the way: it was not written by this"):
        publish(tmp_path, "run2", 2)
    assert mine.read_text() == "mine"
    assert state(tmp_path) == ([1, 1], [1])


def test_a_users_own_files_that_come_while_a_run_works_stay(tmp_path):
    for number in (1, 2):
        publish(tmp_path, f"run{number}", number)
    warehouse = LocalWarehouse(str(tmp_path))
    with warehouse.workspace("run3", spill=False) as work:
        mine = [tmp_path / "_runs/run1/notes.txt", tmp_path / "_staging/notes.txt"]
        for path in mine:
            path.write_text("mine")
    assert len(work.warnings) == 1
    assert "_staging/notes.txt is in the way" in work.warnings[0]
    assert [path.read_text() for path in mine] == ["mine", "mine"]


@pytest.mark.parametrize("name", ["_staging", "_runs", "_lock"])
def test_links_that_somebody_planted_are_refused(tmp_path, name):
    output = tmp_path / "output"
    output.mkdir()
    target = tmp_path / "target"
    if name == "_lock":
        target.write_text("precious")
    else:
        target.mkdir()
    (output / name).symlink_to(target)
    with pytest.raises(RunError, match=f"{output / name} is a link"):
        publish(output, "run1", 1)
    assert target.is_dir() or target.read_text() == "precious"
    assert target.is_file() or not list(target.iterdir())


@pytest.mark.parametrize("name", ["_staging", "_runs", "_lock"])
def test_what_another_user_made_is_refused(tmp_path, name, monkeypatch):
    (tmp_path / name).mkdir()
    monkeypatch.setattr(local, "own_user", lambda _: os.getuid() + 1)
    with pytest.raises(RunError, match=rf"{name} belongs to another user \(number {os.getuid()}\)"):
        publish(tmp_path, "run1", 1)


def test_a_current_state_elsewhere_is_refused(tmp_path):
    publish(tmp_path / "there", "run1", 1)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "_current").symlink_to("../there/_runs/run1")
    with pytest.raises(RunError, match="_current is in the way"):
        publish(tmp_path / "here", "run2", 2)
    assert state(tmp_path / "there") == ([1, 1], [1])


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ("[]", "does not name a run"),
        ("not JSON", "does not name a run"),
        ('{"run_id": "../x"}', "names a run '../x', which none is called"),
        ('{"run_id": "run1"}', "does not say when its run finished"),
        (
            '{"run_id": "run1", "finished_at": "2026-01-01T00:00:00+00:00"}',
            "does not say which tables its run made",
        ),
    ],
)
def test_a_manifest_that_is_not_ours_is_named(tmp_path, document, problem):
    publish(tmp_path, "run1", 1)
    (tmp_path / "_runs/run1/manifest.json").write_text(document)
    with pytest.raises(RunError, match=f"manifest.json {re.escape(problem)}"):
        publish(tmp_path, "run2", 2)


@pytest.mark.parametrize(
    "name", ["../x.parquet", "/etc/passwd", "_runs/../../x.parquet", "gs://b/_runs/r/t/x.parquet"]
)
def test_a_manifest_names_no_file_outside_its_warehouse(name):
    manifest = manifest_of("r") | {"tables": {"t": [name]}}
    with pytest.raises(RunError, match=f"names {re.escape(repr(name))}, which is no file of a run"):
        require_manifest(manifest, "gs://bucket/manifest.json")
    require_manifest(manifest | {"tables": {"t": [f"_runs/r/t/{LEFT}"]}}, "gs://b/manifest.json")


def test_the_spill_is_readable_for_its_owner_only(tmp_path):
    with LocalWarehouse(str(tmp_path)).workspace("run1", spill=True) as work:
        for folder in (tmp_path / "_staging", Path(work.spill)):
            assert folder.stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "_lock").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("step", [(shutil, "rmtree"), (local, "_point")], ids=["old run", "link"])
def test_a_published_run_stays_published_whatever_follows(tmp_path, monkeypatch, step):
    for number in (1, 2):
        publish(tmp_path, f"run{number}", number)
    owner, name = step
    real = getattr(owner, name)
    (tmp_path / "fct_events").unlink()  # a link to be made anew

    def fail(path, *arguments, **options):
        if Path(path).name in {"run1", "fct_events"}:
            raise OSError(5, "Input/output error", str(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr(owner, name, fail)
    warnings = publish(tmp_path, "run3", 3)
    assert any("Input/output error" in warning for warning in warnings)
    assert state(tmp_path)[0] == [3, 3]


def test_the_files_of_one_state_can_be_read_while_others_are_published(tmp_path):
    publish(tmp_path, "run1", 1)
    found = read_state(str(tmp_path))
    assert found.run_id == "run1"
    assert set(found.files) == {table.name for table in TABLES}
    publish(tmp_path, "run2", 2)
    assert [
        number
        for table in REPLACED
        for number in pl.read_parquet(found.files[table.name])["purchases"]
    ] == [1, 1]
    with pytest.raises(RunError, match="nothing is published there"):
        read_state(str(tmp_path / "nowhere"))


def test_a_staged_file_that_is_gone_or_cut_stops_the_publication(tmp_path):
    warehouse = LocalWarehouse(str(tmp_path))
    manifest = manifest_of("run1")
    with warehouse.workspace("run1", spill=False) as work:
        file = stage(REJECTED_ROWS.empty_frame(), REJECTED_ROWS, work.staging)
        os.truncate(file.path, 9)
        with pytest.raises(RunError, match=f"has 9 bytes, and was written with {file.size:,}"):
            warehouse.record(manifest, [file])
        Path(file.path).unlink()
        with pytest.raises(RunError, match="is gone"):
            warehouse.record(manifest, [file])


EARLIER = Path(__file__).parents[2] / "warehouse_0_1_0" / "folder"


def test_a_warehouse_of_an_earlier_version_is_published_over(tmp_path):
    output = tmp_path / "warehouse"
    shutil.copytree(EARLIER, output, symlinks=True)
    before = pl.read_parquet(output / "pipeline_runs" / "*.parquet")
    assert "input_fingerprint" not in before.columns

    for number in (1, 2):
        assert publish(output, f"run{number}", number) == []
        for table in (table for table in TABLES if table.appended):
            rows = pl.read_parquet(output / table.name / "*.parquet")
            assert rows.schema == table.polars_schema()
        runs = pl.read_parquet(output / "pipeline_runs" / "*.parquet")
        assert_frame_equal(runs.select(before.columns), before)
        assert runs["input_fingerprint"].to_list() == [None]
        with duckdb.connect(str(output / "warehouse.duckdb"), read_only=True) as connection:
            assert connection.sql("SELECT run_id FROM pipeline_runs").fetchall() == [("earlier",)]
    assert LocalWarehouse(str(output)).find_run("earlier").status == "replaced"


def test_the_files_of_a_partitioned_table_are_each_of_one_window_of_days(tmp_path):
    days = [date(1970, 1, 1), date(1969, 12, 31), date(2019, 10, 1), date(2024, 10, 4)]
    days += [date(2024, 10, 5)]  # day 20,001
    columns = {
        name: pl.Series([None] * 5, dtype=t) for name, t in FCT_EVENTS.polars_schema().items()
    }
    relaxed = replace(
        FCT_EVENTS, columns=tuple(replace(c, required=False) for c in FCT_EVENTS.columns)
    )
    frame = pl.DataFrame(columns | {"event_date": days, "brand": list("abcde")})
    texts = {"event_id": frame["brand"].to_arrow()}
    files = list(stage_batch(frame, relaxed, str(tmp_path), texts))
    assert [(window_of(file.path), file.rows) for file in files] == [
        (-1, 1),
        (0, 1),
        (4, 1),
        (5, 2),
    ]
    for file in files:
        rows = pl.read_parquet(file.path)
        assert rows["event_id"].to_list() == rows["brand"].to_list()
        assert is_of_a_run(f"run/fct_events/{Path(file.path).name}")
        assert Path(file.path).stat().st_size == file.size
    parts = parts_of([f"gs://b/{file.path}" for file in files])
    assert [[window_of(uri) for uri in part.uris] for part in parts] == [[-1], [0], [4], [5]]


def test_a_load_job_takes_ten_thousand_files():
    uris = [f"gs://b/_runs/r/t/{number:032x}.parquet" for number in range(25_000)]
    parts = parts_of(uris)
    assert [(part.number, len(part.uris)) for part in parts] == [
        (1, 10_000),
        (2, 10_000),
        (3, 5_000),
    ]
    assert sorted(uri for part in parts for uri in part.uris) == uris


def test_what_is_written_otherwise_than_meant_is_noticed_where_it_is_written(tmp_path, monkeypatch):
    write = staging.pq.write_table

    def write_less(table, *arguments, **options):
        write(table.slice(1), *arguments, **options)

    monkeypatch.setattr(staging.pq, "write_table", write_less)
    row = dict.fromkeys(METRICS_RFM_GRID.column_names, 1)
    frame = pl.DataFrame([row], schema=METRICS_RFM_GRID.polars_schema())
    with pytest.raises(RunError, match="written with 1 rows, read back with 0 rows"):
        stage(frame, METRICS_RFM_GRID, str(tmp_path))
    monkeypatch.setattr(staging.pq, "write_table", lambda _, file, **__: file.write(b"cut off"))
    with pytest.raises(RunError, match="read back with no Parquet"):
        stage(frame, METRICS_RFM_GRID, str(tmp_path))
