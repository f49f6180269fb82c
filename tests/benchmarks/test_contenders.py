"""Every contender makes the oracle's tables, or it would be no use to compare with it."""

import random
from datetime import UTC, datetime, timedelta
from functools import partial

import apache_beam as beam
import pyarrow.parquet as pq
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from benchmarks import with_duckdb, with_polars, with_rows
from benchmarks.comparing import COMPARED, require_equal
from tests.oracle.compare import assert_tables_equal
from tests.oracle.grammar import COLUMNS
from tests.oracle.oracle import oracle_tables
from transforms.schema import tables_without

ROWS = 1500


def clickstream(seed):
    """Rows full of ties, duplicates that differ, shared and reused sessions, exact gaps."""
    draw = random.Random(seed)
    start = datetime(2019, 10, 1, tzinfo=UTC)
    rows = []
    for _ in range(ROWS):
        product = draw.randrange(40)
        code = draw.choice(["electronics.clocks", "Apparel.shoes.keds", "auto", "", "kids.toys"])
        time = start + timedelta(
            days=draw.choice([0, 1, 40, 150]), minutes=draw.randrange(0, 600, 20)
        )
        rows.append(
            {
                "event_time": f"{time:%Y-%m-%d %H:%M:%S} UTC",
                "event_type": draw.choice(["view", "view", "cart", "remove_from_cart", "purchase"]),
                "product_id": product + 90,
                "category_id": draw.choice([9, 10, 11, ""]) if product % 3 else product,
                "category_code": code,
                "brand": draw.choice(["Acme", "ACME", "", "other" if product == 7 else "acme"]),
                "price": draw.choice(["0", "1.05", "249.99", "0.333333333", "7"]),
                "user_id": draw.choice([9, 10, 100, *range(1000, 1060)]),
                "user_session": draw.choice(["", *(f"s{n}" for n in range(60))]),
            }
        )
        if draw.random() < 0.2:
            rows.append(rows[-1] | {"brand": draw.choice(["acme", "beta", ""]), "price": "3"})
    draw.shuffle(rows)
    lines = [",".join(COLUMNS), *(",".join(str(row[c]) for c in COLUMNS) for row in rows)]
    return "\n".join(lines) + "\n"


@pytest.fixture(params=range(3))
def source(request, tmp_path):
    path = tmp_path / "events.csv"
    path.write_text(clickstream(request.param))
    return path


def tables_in(folder, names):
    return {name: pq.read_table(folder / name) for name in names}


KEPT = [table for table in COMPARED if table in tables_without({"time", "history"})]


@pytest.mark.parametrize(
    ("write", "tables"),
    [
        (with_duckdb.write_tables, COMPARED),
        (partial(with_duckdb.write_tables, over_time=False), KEPT),
        (with_polars.write_tables, KEPT),
    ],
    ids=["DuckDB", "DuckDB without time", "Polars"],
)
def test_every_table(source, tmp_path, write, tables):
    write(str(source), tmp_path / "out")
    names = {table.name for table in tables}
    expected = oracle_tables([source])
    assert all(expected[name].num_rows for name in names)
    assert {path.name for path in (tmp_path / "out").iterdir()} - {"_spilled"} == names
    assert_tables_equal(tables_in(tmp_path / "out", names), {n: expected[n] for n in names})


def test_duckdb_and_polars_write_the_same_types(source, tmp_path):
    with_duckdb.write_tables(str(source), tmp_path / "duckdb", over_time=False)
    with_polars.write_tables(str(source), tmp_path / "polars")
    require_equal(tmp_path / "duckdb", tmp_path / "polars", KEPT)


def test_rows(source, tmp_path):
    options = PipelineOptions([], direct_running_mode="in_memory", pickle_library="cloudpickle")
    with beam.Pipeline(runner=FnApiRunner(), options=options) as pipeline:
        with_rows.build(pipeline, str(source), str(tmp_path / "out"))
    expected = oracle_tables([source])
    assert_tables_equal(
        tables_in(tmp_path / "out", with_rows.TABLES), {n: expected[n] for n in with_rows.TABLES}
    )


def test_faster_sql_replaces_the_textbook_s():
    textbook = [("rate", "macro"), ("a", "slow a"), ("b", "slow b")]
    faster = [("", "SET x"), ("helper", "helper"), ("b", "fast b")]
    assert with_duckdb.merged(textbook, faster) == ["macro", "slow a", "SET x", "helper", "fast b"]


def test_every_faster_statement_has_its_place():
    textbook = with_duckdb.statements(*with_duckdb.textbook_sql(over_time=False))
    faster = with_duckdb.statements(with_duckdb.FASTER_SQL)
    merged = with_duckdb.merged(textbook, faster)
    assert not [statement for _, statement in faster if statement not in merged]
