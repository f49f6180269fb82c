"""--rejected_to: all rejected rows in a file, whatever becomes of the run."""

import polars as pl
import pytest

from pipelines import customer_analytics
from tests.oracle.grammar import COLUMNS
from tests.oracle.strategies import GOOD_ROW
from tests.pipelines.running import arguments, published, run
from transforms.errors import RunError
from transforms.ingest import files as ingest_files
from transforms.schema import REJECTED_ROWS
from transforms.shuffle.stores import InlineStore
from transforms.steps import plan
from transforms.warehouse import rejected_file

HEADER, GOOD_LINE = ",".join(COLUMNS), ",".join(GOOD_ROW)
BAD = ['bad "quoted", text', "", "=1+1\x00", GOOD_LINE.replace("view", "look"), "ünï"]


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    """Two files, of many blocks, with rows that are rejected."""
    monkeypatch.setattr(ingest_files, "BLOCK_BYTES", 400)
    paths = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for path in paths:
        rows = [row for n in range(20) for row in (GOOD_LINE, f"{path.name} {n}", BAD[n % 5])]
        path.write_text("\n".join([HEADER, *rows]))
    return paths


def read(path):
    return pl.read_csv(path) if path.suffix == ".csv" else pl.read_parquet(path)


@pytest.mark.parametrize("name", ["rejected.csv", "REJECTED.PARQUET", "r.parquet"])
@pytest.mark.parametrize("inline", [False, True])
def test_the_file_holds_what_the_table_holds(inputs, tmp_path, monkeypatch, name, inline):
    if inline:
        monkeypatch.setattr(plan, "frame_store", lambda *_, **__: InlineStore())
    path = tmp_path / "kept" / name
    path.parent.mkdir()
    path.write_text("what was there")
    tables = run(inputs, tmp_path / "w", rejected_to=path)
    expected = pl.DataFrame(tables["rejected_rows"]).drop("run_id")
    found = pl.read_csv(path) if name.endswith("csv") else pl.read_parquet(path)
    assert found.equals(expected.sort("source_file", "byte_offset")), "rows in the input's order"
    assert found.height >= 2 * 20
    assert [left.name for left in path.parent.iterdir()] == [name]
    options = tables["pipeline_runs"]["options"].to_pylist()[0]
    assert "rejected_to" not in options, "it decides nothing of what is published"


def test_it_is_there_where_the_run_fails_for_them(inputs, tmp_path, capsys):
    path, output = tmp_path / "r.csv", tmp_path / "w"
    given = arguments(inputs, output, max_rejected_ratio=0.01)
    assert customer_analytics.main(given) == 1
    assert "keep all by --rejected_to=FILE.csv" in capsys.readouterr().err
    assert customer_analytics.main([*given, f"--rejected_to={path}"]) == 1
    assert f"The first of each (all: {path}):" in capsys.readouterr().err
    run(inputs, tmp_path / "every")
    table = pl.DataFrame(published(tmp_path / "every")["rejected_rows"])
    assert read(path).height == table.height
    assert not (output / "_current").exists()


def test_without_a_rejected_row_it_is_empty(tmp_path):
    good = tmp_path / "good.csv"
    good.write_text(f"{HEADER}\n{GOOD_LINE}\n")
    for name in ("r.csv", "r.parquet"):
        run([good], tmp_path / "w", rejected_to=tmp_path / name)
        found = read(tmp_path / name)
        assert found.height == 0
        assert found.columns == [name for name in REJECTED_ROWS.column_names if name != "run_id"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("r.txt", "is not a local file named .csv or .parquet"),
        ("gs://bucket/r.csv", "is not a local file named .csv or .parquet"),
        ("none/r.csv", "cannot be written (No such file or directory)"),
        ("folder.csv", "cannot be written (Is a directory)"),
    ],
)
def test_what_cannot_be_written_is_said_before_any_work(inputs, tmp_path, capsys, name, says):
    (tmp_path / "folder.csv").mkdir()
    path = name if "://" in name else tmp_path / name
    assert customer_analytics.main(arguments(inputs, tmp_path / "w", rejected_to=path)) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_another_machine_does_not_write_it(inputs, tmp_path, capsys):
    given = arguments(inputs, tmp_path / "w", rejected_to="r.csv", runner="PrismRunner")
    assert customer_analytics.main(given) == 2
    assert "--rejected_to works only where" in capsys.readouterr().err


def test_a_file_that_fails_halfway_is_not_there(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text("before")

    def frames():
        yield REJECTED_ROWS.empty_frame()
        raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match=r"r\.csv cannot be written \(No space left on device\)"):
        rejected_file.write_rejected(frames(), str(path))
    assert path.read_text() == "before"
    assert [left.name for left in tmp_path.iterdir()] == ["r.csv"]
