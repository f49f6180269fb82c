"""The whole graph against the independent oracle, and what any run keeps to."""

import gzip
import itertools
import random
import tempfile
from datetime import date
from decimal import Decimal
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import generate_events
from tests.oracle.compare import assert_tables_equal
from tests.oracle.grammar import COLUMNS
from tests.oracle.strategies import (
    GOOD_ROW,
    compressed,
    damaged_csv_bytes,
    input_files,
    runs,
    write_files,
)
from tests.pipelines.running import (
    assert_as_oracle,
    contents,
    last_run,
    published_in_duckdb,
    run,
)
from transforms.columnar import ntile
from transforms.ingest import files as ingest_files
from transforms.schema import TABLES
from transforms.shuffle import partition, sizing, stores
from transforms.shuffle.stores import InlineStore
from transforms.steps import plan

pytestmark = pytest.mark.timeout(900)  # many whole runs in a test

HEADER = ",".join(COLUMNS)
GOOD_LINE = ",".join(GOOD_ROW)
TINY = {
    "shard_bytes": 2000,
    "range_bytes": 3000,
    "block_bytes": 700,
    "buffer_bytes": 3000,
    "inline_bytes": 1000,
    "samples": 2,
    "readers": 3,
    "inline": False,
}
"""Sizes that cut even a small input into many shards, ranges, blocks and pieces."""


@st.composite
def sizes(draw: st.DrawFn) -> dict[str, int | None]:
    """The program's own sizes, or small ones."""
    if draw(st.integers(0, 4)) == 0:
        return {}
    return {
        "shard_bytes": draw(st.sampled_from([400, 1000, 5000])),
        "range_bytes": draw(st.sampled_from([300, 1000, 5000])),
        "block_bytes": draw(st.sampled_from([50, 400, 2000])),
        "buffer_bytes": draw(st.sampled_from([1, 2000])),
        "inline_bytes": draw(st.sampled_from([64, 2000])),
        "samples": draw(st.sampled_from([1, 2, 5])),
        "readers": draw(st.sampled_from([1, 3])),
        "inline": draw(st.booleans()),
    }


def resize(patch: pytest.MonkeyPatch, sizes: dict[str, int]) -> None:
    if not sizes:
        return
    patch.setattr(sizing, "SHARD_BYTES", sizes["shard_bytes"])
    patch.setattr(ingest_files, "RANGE_BYTES", sizes["range_bytes"])
    patch.setattr(ingest_files, "BLOCK_BYTES", sizes["block_bytes"])
    patch.setattr(partition, "_PIECE_BYTES", 1)
    patch.setattr(partition, "_BUFFER_BYTES", (sizes["buffer_bytes"], sizes["buffer_bytes"]))
    patch.setattr(stores, "_INLINE_BYTES", sizes["inline_bytes"])
    patch.setattr(ntile, "_SAMPLES", sizes["samples"])
    patch.setattr(
        "pipelines.run.split_files",
        lambda files, *_: ingest_files.split_files(files, sizes["readers"]),
    )
    if sizes["inline"]:
        patch.setattr(plan, "frame_store", lambda *_, **__: InlineStore())


def demo(path: Path, rows: int, seed: int = 1) -> Path:
    """A file of the demo generator."""
    arguments = ["--rows", str(rows), "--seed", str(seed), "--output", str(path)]
    assert generate_events.main(arguments) == 0
    return path


# Against the oracle -------------------------------------------------------------------------------


@settings(max_examples=15)
@given(data=st.data(), run_of=runs(), sizes=sizes())
def test_tables_are_those_of_the_oracle(data, run_of, sizes):
    """Through every stage of the graph; many more examples are tried in memory."""
    rows, options = run_of
    files = data.draw(input_files(rows), label="files")
    options = {n: value for n, value in options.items() if value or n == "order_gap_seconds"}
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        resize(patch, sizes)
        paths = write_files(Path(name), files)
        tables = run(paths, Path(name) / "warehouse", **options)
        assert_as_oracle(tables, paths, **options)


@settings(max_examples=5)
@given(files=st.lists(damaged_csv_bytes(max_lines=30), min_size=1, max_size=2), sizes=sizes())
def test_tables_of_damaged_files_are_those_of_the_oracle(files, sizes):
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        resize(patch, sizes)
        paths = []
        for number, content in enumerate(files):
            path = Path(name) / f"{number}.csv"
            path.write_bytes(content)
            paths.append(path)
        # Rows of the years 1 and 9999 are among them.
        tables = run(paths, Path(name) / "warehouse", without="time")
        assert_as_oracle(tables, paths, without="time")


def test_tables_of_the_samples_are_those_of_the_oracle(sample_data, tmp_path):
    files = sorted(sample_data.glob("*.csv"))
    assert files
    tables = run([sample_data / "*.csv"], tmp_path)
    assert_as_oracle(tables, files)
    assert_tables_equal(contents(published_in_duckdb(tmp_path)), contents(tables))


def test_tables_of_many_shards_of_a_demo_are_those_of_the_oracle(tmp_path, monkeypatch):
    file = demo(tmp_path / "demo.csv", 100_000)
    resize(monkeypatch, {**TINY, "shard_bytes": 1 << 20, "range_bytes": 1 << 20})
    monkeypatch.setattr(ingest_files, "BLOCK_BYTES", 1 << 18)
    tables = run([file], tmp_path / "warehouse")
    assert_as_oracle(tables, [file])


def test_several_workers_make_the_same_tables(sample_data, tmp_path, monkeypatch):
    files = sorted(sample_data.glob("*.csv"))
    compressed_file = tmp_path / "compressed.csv.gz"
    compressed_file.write_bytes(gzip.compress(files[0].read_bytes()))
    monkeypatch.setattr(sizing, "SMALL_BYTES", 1 << 20)
    monkeypatch.setattr(sizing, "SHARD_BYTES", 1 << 20)
    monkeypatch.setattr(ingest_files, "RANGE_BYTES", 1 << 20)
    given_files = [*files[1:], compressed_file]
    tables = run(given_files, tmp_path / "warehouse", direct_num_workers=2)
    assert_as_oracle(tables, given_files)


# One answer ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ambiguous_csv(tmp_path_factory) -> Path:
    """Rows full of ties and duplicates that differ, in which any dependence on order shows."""
    chance = random.Random(3)
    rows = []
    for _ in range(3000):
        seconds = chance.choice((0, 1, 1800, 3600, 7200, 3601)) + 3600 * chance.randrange(4)
        clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        rows.append(
            ",".join(
                (
                    f"2019-{chance.choice((10, 11, 12))}-01 {clock} UTC",
                    chance.choice(("view", "cart", "remove_from_cart", "purchase")),
                    str(chance.randrange(8, 25)),
                    chance.choice(("9", "10", "101", "")),
                    chance.choice(("a.b", "A.B.c.d.e", "b", "")),
                    chance.choice(("x", "X", "")),
                    chance.choice(("1.005", "0", "9.99", "33.335")),
                    str(chance.randrange(8, 60)),
                    f"{chance.choice('abcdefghij')}{chance.randrange(9)}" * chance.randrange(2),
                )
            )
        )
    path = tmp_path_factory.mktemp("ambiguous") / "events.csv"
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return path


@pytest.fixture(scope="module")
def one_answer(ambiguous_csv, tmp_path_factory) -> dict[str, pa.Table]:
    tables = run([ambiguous_csv], tmp_path_factory.mktemp("answer"))
    assert_as_oracle(tables, [ambiguous_csv])
    return contents(tables)


@pytest.mark.parametrize("seed", [1, 2])
def test_order_and_number_of_files_do_not_matter(
    ambiguous_csv, one_answer, tmp_path, monkeypatch, seed
):
    _, *rows = ambiguous_csv.read_text().splitlines()
    random.Random(seed).shuffle(rows)
    paths = []
    for number, suffix in enumerate(("", ".gz", ".zst", ".bz2")):
        path = tmp_path / f"part{number}.csv{suffix}"
        share = "\n".join([HEADER, *rows[number::4]])
        path.write_bytes(compressed(share.encode(), suffix))
        paths.append(path)
    if seed == 2:
        resize(monkeypatch, {**TINY, "shard_bytes": 30_000, "range_bytes": 30_000})
        monkeypatch.setattr(ingest_files, "BLOCK_BYTES", 9000)
    tables = contents(run(paths, tmp_path / "warehouse"))
    assert_tables_equal(tables, one_answer)


def test_money_is_the_same_to_the_last_digit_everywhere(one_answer):
    def total(table: str, column: str) -> Decimal:
        return sum(one_answer[table][column].drop_null().to_pylist(), Decimal(0))

    revenue = total("fct_events", "revenue")
    assert revenue > 0
    assert revenue % Decimal("0.01") != 0
    assert revenue == total("fct_sessions", "total_revenue")
    assert revenue == total("dim_users", "total_revenue")
    assert revenue == total("dim_users", "customer_ltv")
    assert revenue == total("metrics_rfm_grid", "revenue")


# What a run publishes -----------------------------------------------------------------------------


def test_a_file_of_a_header_alone_makes_empty_tables(tmp_path):
    file = tmp_path / "events.csv"
    file.write_text(HEADER)
    tables = run([file], tmp_path / "warehouse")
    assert_as_oracle(tables, [file])
    filled = {name for name, table in tables.items() if table.num_rows}
    assert filled == {
        *("metrics_churn", "metrics_funnels", "model_clv", "metrics_clv_validation"),
        *("data_quality", "pipeline_runs"),
    }
    assert {name: pl.from_arrow(table.slice(0, 0)).schema for name, table in tables.items()} == {
        table.name: table.polars_schema() for table in TABLES
    }


def test_published_files_have_the_types_of_the_schema(one_answer, ambiguous_csv, tmp_path):
    tables = run([ambiguous_csv], tmp_path)
    for table in TABLES:
        found = tables[table.name]
        assert found.column_names == list(table.column_names)
        for name, kind in table.polars_schema().items():
            column = pl.from_arrow(found.select([name]))[name]
            if isinstance(column.dtype, pl.Categorical | pl.Enum):
                column = column.cast(pl.String)
            assert column.dtype == kind, (table.name, name)
        for name in table.required_columns:
            assert found[name].null_count == 0, (table.name, name)


def test_a_run_describes_itself(ambiguous_csv, tmp_path):
    tables = run([ambiguous_csv], tmp_path, as_of=date(2020, 2, 29), session_timeout_seconds=60)
    (row,) = tables["pipeline_runs"].to_pylist()
    assert row["status"] == "published"
    assert row["as_of"] == date(2020, 2, 29)
    assert row["started_at"] < row["finished_at"] <= row["published_at"]
    assert row["inputs"] == f'["{ambiguous_csv}"]'
    assert '"session_timeout_seconds": 60' in row["options"]
    checks = tables["data_quality"].to_pylist()
    assert {check["run_id"] for check in checks} == {row["run_id"]}
    assert {check["table_name"] for check in checks} >= {
        table.name for table in TABLES if table.name not in ("data_quality", "pipeline_runs")
    } - {"rejected_rows"}
    assert all(check["passed"] for check in checks if check["severity"] == "error")


def test_runs_replace_tables_and_add_to_the_logs(tmp_path):
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    first.write_text(f"{HEADER}\n{GOOD_LINE}\nbad\n")
    second.write_text(f"{HEADER}\n{GOOD_LINE.replace('541312140', '7')}\n")
    run([first], tmp_path / "warehouse")
    tables = run([second], tmp_path / "warehouse")
    assert tables["fct_events"]["user_id"].to_pylist() == ["7"]
    assert tables["dim_users"]["user_id"].to_pylist() == ["7"]
    assert tables["pipeline_runs"].num_rows == 2
    assert sorted(tables["pipeline_runs"]["rejected_rows"].to_pylist()) == [0, 1]
    assert tables["rejected_rows"]["raw"].to_pylist() == ["bad"]
    assert len(set(tables["data_quality"]["run_id"].to_pylist())) == 2
    in_duckdb = published_in_duckdb(tmp_path / "warehouse")
    assert_tables_equal(contents(in_duckdb), contents(tables))


def test_replaying_a_corrected_file_mends_the_tables(tmp_path):
    damaged, corrected = tmp_path / "events.csv", tmp_path / "corrected.csv"
    damaged.write_text(f"{HEADER}\n{GOOD_LINE}\n{GOOD_LINE.replace('130.76', '-1')}7\n")
    tables = run([damaged], tmp_path / "warehouse")
    assert tables["rejected_rows"]["reason"].to_pylist() == ["bad_price"]
    (offset,) = tables["rejected_rows"]["byte_offset"].to_pylist()
    text = damaged.read_bytes()
    corrected.write_bytes(text[:offset] + text[offset:].replace(b",-1,", b",1,"))
    tables = run([corrected], tmp_path / "warehouse")
    assert tables["fct_events"].num_rows == 2
    assert last_run(tables)["rejected_rows"] == 0
    assert_tables_equal(
        {"fct_events": tables["fct_events"]},
        {"fct_events": run([corrected], tmp_path / "anew")["fct_events"]},
    )


def test_every_oddity_of_a_file_at_once(tmp_path):
    fields = dict(zip(COLUMNS, GOOD_ROW, strict=True))
    rows = [
        GOOD_LINE,
        ",".join({**fields, "product_id": "7", "brand": '"a, ""b"""'}.values()),
        *",".join({**fields, "user_id": "8", "brand": '"a\nb"'}.values()).split("\n"),
        "",
        ",".join({**fields, "user_id": "9", "category_code": "x" * (1 << 20)}.values()),
        ",".join({**fields, "user_id": "10"}.values()) + ",",
        ",".join({**fields, "user_id": "11"}.values()),
    ]
    paths = []
    for number, (mark, end, last) in enumerate(
        itertools.product(("", "\ufeff"), ("\n", "\r\n"), ("", "end"))
    ):
        path = tmp_path / f"{number}.csv"
        text = mark + end.join([HEADER, *rows]) + (end if last else "")
        path.write_bytes(text.replace(GOOD_ROW[-1], f"session{number}").encode())
        paths.append(path)
    tables = run(paths, tmp_path / "warehouse")
    assert_as_oracle(tables, paths)
    assert tables["rejected_rows"].num_rows == 3 * len(paths)
    assert tables["fct_events"].num_rows == 4 * len(paths)
