"""Attempts that are repeated, or die after they have written: nothing of them counts."""

from pathlib import Path

import polars as pl
import pytest

from pipelines import customer_analytics
from tests.oracle.compare import assert_tables_equal
from tests.pipelines.running import arguments, contents, published, run
from transforms.schema import TABLES
from transforms.shuffle.stores import SpillStore
from transforms.warehouse import staging

pytestmark = pytest.mark.portable
REPEATS = 2


def assert_published_once(output: Path, expected) -> None:
    """The tables are right, the logs have one run's rows, and nothing else is left."""
    tables = published(output)
    assert_tables_equal(contents(tables), contents(expected))
    for name in ("pipeline_runs", "data_quality"):
        assert tables[name].num_rows == expected[name].num_rows
    (run_folder,) = (output / "_runs").iterdir()
    assert not (output / "_staging").exists()
    rows = {
        table.name: sum(
            pl.read_parquet(path).height for path in (run_folder / table.name).iterdir()
        )
        for table in TABLES
    }
    assert rows == {table.name: expected[table.name].num_rows for table in TABLES}


def test_every_bundle_three_times(files, expected, tmp_path, monkeypatch):
    written = []
    stage = staging.stage

    def counted_stage(frame, table, *rest, **options):
        written.append(table.name)
        return stage(frame, table, *rest, **options)

    monkeypatch.setattr(staging, "stage", counted_stage)
    code = customer_analytics.main(
        [*arguments(files, tmp_path), f"--direct_runner_bundle_repeat={REPEATS}"]
    )

    assert code == 0
    assert_published_once(tmp_path, expected)
    assert written.count("dim_products") == 1 + REPEATS


def test_an_attempt_dies_after_writing_a_staged_file(files, expected, tmp_path, monkeypatch):
    stage = staging.stage

    def stage_in_second_attempt(*arguments, **options):
        stage(*arguments, **options)  # of an attempt whose result nobody gets
        return stage(*arguments, **options)

    monkeypatch.setattr(staging, "stage", stage_in_second_attempt)
    run(files, tmp_path)

    assert_published_once(tmp_path, expected)


def test_an_attempt_dies_after_writing_to_the_spill(files, expected, tmp_path, monkeypatch):
    append = SpillStore._append

    def append_in_second_attempt(self, shard, buffers):
        written = list(buffers)
        append(self, shard, written)  # of an attempt whose reference nobody gets
        return append(self, shard, written)

    monkeypatch.setattr(SpillStore, "_append", append_in_second_attempt)
    run(files, tmp_path)

    assert_published_once(tmp_path, expected)


@pytest.fixture(params=["sink", "spill"])
def dying(request):
    """A patch under which every attempt dies once it has written a file."""
    stage, append = staging.stage, SpillStore._append

    def stage_and_die(*arguments, **options):
        stage(*arguments, **options)
        raise OSError(request.param)

    def append_and_die(self, shard, buffers):
        append(self, shard, buffers)
        raise OSError(request.param)

    patch = pytest.MonkeyPatch()
    if request.param == "sink":
        patch.setattr(staging, "stage", stage_and_die)
    else:
        patch.setattr(SpillStore, "_append", append_and_die)
    yield patch
    patch.undo()


def test_a_run_that_dies_after_writing_leaves_nothing(files, expected, tmp_path, dying):
    with pytest.raises(Exception, match=r"sink|spill"):
        customer_analytics.main(arguments(files, tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["_lock"]

    dying.undo()
    run(files, tmp_path)
    assert_published_once(tmp_path, expected)
