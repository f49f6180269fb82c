from decimal import Decimal

import polars as pl
import pytest

from benchmarks.comparing import (
    COMPARED,
    DifferentTablesError,
    fingerprint,
    require_equal,
    tables_named,
)
from transforms.schema import METRICS_CATEGORY_RFM, TABLES

ROWS = METRICS_CATEGORY_RFM.conform(
    pl.DataFrame(
        {
            "category_lvl_1": ["auto", "auto", "kids", "kids"],
            "rfm_segment": ["Lost", "Champions", "Lost", "Lost"],
            "purchases": [1, 2, 3, 3],
            "revenue": [Decimal("1.05"), None, Decimal(3), Decimal(3)],
        }
    )
)


def write(folder, *frames):
    (folder / METRICS_CATEGORY_RFM.name).mkdir(parents=True)
    for number, frame in enumerate(frames):
        frame.write_parquet(folder / METRICS_CATEGORY_RFM.name / f"{number}.parquet")
    return folder


def compare(tmp_path, *frames):
    expected = write(tmp_path / "expected", ROWS)
    require_equal(write(tmp_path / "actual", *frames), expected, [METRICS_CATEGORY_RFM])


def test_order_and_files_do_not_matter(tmp_path):
    compare(tmp_path, ROWS[2:], ROWS[:2].reverse())


@pytest.mark.parametrize(
    "other",
    [
        ROWS[:3],
        pl.concat([ROWS, ROWS[:1]]),
        pl.concat([ROWS[:2], ROWS[:2]]),
        ROWS.with_columns(pl.col("revenue").fill_null(0)),
        ROWS.with_columns(pl.col("revenue").reverse()),
        ROWS.with_columns(purchases=pl.col("purchases").replace(1, 4)),
    ],
)
def test_other_rows(tmp_path, other):
    with pytest.raises(DifferentTablesError, match=r"metrics_category_rfm differs: .* rows in"):
        compare(tmp_path, other)


def test_a_difference_is_shown(tmp_path):
    with pytest.raises(DifferentTablesError) as failure:
        compare(tmp_path, ROWS.with_columns(purchases=pl.col("purchases").replace(1, 4)))
    assert str(failure.value).splitlines()[1:] == [
        f"only in {tmp_path}/actual:",
        "  ('auto', 'Lost', 4, Decimal('1.050000000'))",
        f"only in {tmp_path}/expected:",
        "  ('auto', 'Lost', 1, Decimal('1.050000000'))",
    ]


@pytest.mark.parametrize(
    "other",
    [
        ROWS.with_columns(pl.col("purchases").cast(pl.Int32)),
        ROWS.with_columns(pl.col("revenue").cast(pl.Decimal(18, 2))),
        ROWS.drop("revenue"),
        ROWS.select("rfm_segment", "category_lvl_1", "purchases", "revenue"),
    ],
)
def test_other_columns(tmp_path, other):
    with pytest.raises(DifferentTablesError, match="metrics_category_rfm has columns"):
        compare(tmp_path, other)


def test_missing_table(tmp_path):
    with pytest.raises(DifferentTablesError, match="has no metrics_category_rfm"):
        compare(tmp_path)


def test_no_rows(tmp_path):
    assert fingerprint(write(tmp_path, ROWS[:0]), METRICS_CATEGORY_RFM).rows == 0


def test_every_table_of_the_input_is_compared():
    about_the_run = {"rejected_rows", "data_quality", "pipeline_runs"}
    of_us_alone = {table.name for table in TABLES if table.group in ("clv", "selling")}
    left_out = {table.name for table in TABLES} - {table.name for table in COMPARED}
    assert left_out == about_the_run | of_us_alone
    assert [table.name for table in tables_named(["dim_users"])] == ["dim_users"]
