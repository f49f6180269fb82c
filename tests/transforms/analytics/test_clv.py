"""Predicted lifetime value: known answers, figures by hand, one answer however it is worked out."""

import datetime as dt
import subprocess
import sys
from decimal import Decimal

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from benchmarks.clv import LAST_DAY, simulated_purchase_days
from transforms.analytics import clv
from transforms.analytics.clv import (
    count_patterns,
    discount_days,
    merge_spend,
    predict_holdout,
    sample_spend,
    split,
    summarise,
    with_holdout,
)
from transforms.analytics.lifetime_value import clv_tables
from transforms.analytics.user_days import purchase_histories
from transforms.columnar.ntile import tile_ranks
from transforms.rules import ClvOptions
from transforms.schema import CLV_DECILES, TABLES, Severity

MONEY = pl.Decimal(38, 9)
CALIBRATION_END, AS_OF = dt.date(1997, 9, 30), dt.date(1998, 6, 30)
CLV_TABLES = [table for table in TABLES if table.group == "clv"]


def purchase_days(*rows) -> pl.DataFrame:
    """Rows of (user, days since the first of January 2020, revenue)."""
    begin = dt.date(2020, 1, 1)
    return pl.DataFrame(
        [(user, begin + dt.timedelta(days=day), Decimal(paid)) for user, day, paid in rows],
        schema={"user_id": pl.Int64, "event_date": pl.Date, "revenue": MONEY},
        orient="row",
    )


def tables_of(days, as_of, options=None, shard=0) -> dict[str, pl.DataFrame]:
    """All tables, of purchase days in any order, and the shard of each user."""
    known = days.with_columns(shard=shard, purchases=1).filter(pl.col("event_date") <= as_of)
    parts = known.sort("user_id", "event_date").partition_by("shard")
    segments = known.select("user_id", rfm_segment=pl.lit("Champions")).unique()
    histories = [purchase_histories(part, segments) for part in parts]
    return clv_tables(histories, as_of, options)


@pytest.fixture(scope="module")
def cdnow_tables(cdnow):
    return tables_of(cdnow, AS_OF, ClvOptions(holdout_days=273))


def row_of(table: pl.DataFrame, **key) -> dict:
    (row,) = table.filter(pl.col(name) == value for name, value in key.items()).iter_rows(
        named=True
    )
    return row


def test_the_summary_of_the_known_sample(cdnow):
    summary = summarise(cdnow, CALIBRATION_END)
    held = with_holdout(summary, cdnow, CALIBRATION_END, AS_OF)
    assert summary.height == 2_357
    assert summary["frequency"].sum() == 2_457
    assert (summary["frequency"] > 0).sum() == 946
    assert count_patterns(summary).height == 1_016
    assert held["actual_purchases"].sum() == 1_882
    assert held["actual_revenue"].sum() == Decimal("70976.39")


def test_the_fits_of_the_known_sample(cdnow_tables):
    models = cdnow_tables["model_clv"]
    bg = row_of(models, fit="calibration", model="bg_nbd")
    assert (bg["r"], bg["alpha_days"], bg["a"], bg["b"]) == (0.242595, 30.8952, 0.792922, 2.42591)
    assert bg["log_likelihood"] == -14_363.530443
    errors = [bg[f"se_{name}"] for name in ("r", "alpha_days", "a", "b")]
    assert errors == pytest.approx([0.0126, 2.65, 0.186, 0.705], rel=5e-3)
    mbg = row_of(models, fit="calibration", model="mbg_nbd")
    assert [mbg[name] for name in ("r", "alpha_days", "a", "b")] == [
        0.524843,
        43.2816,
        0.891359,
        1.614,
    ]
    assert mbg["log_likelihood"] == -14_363.236952
    spend = row_of(models, fit="calibration", model="gamma_gamma")
    assert (spend["p"], spend["q"], spend["v"]) == (6.24957, 3.74422, 15.4435)
    assert spend["log_likelihood"] == -4_055.917695
    assert spend["spend_frequency_correlation"] == 0.113888
    assert spend["repeat_customers"] == 946
    mean = spend["p"] * spend["v"] / (spend["q"] - 1)
    assert mean == pytest.approx(35.1704, abs=1e-3)


@pytest.mark.parametrize(
    ("model", "published", "computed", "log_likelihood"),
    [
        (
            "bg_nbd",
            (0.243, 4.414, 0.793, 2.426),
            (0.242593, 4.413531, 0.792886, 2.425753),
            -9_582.4256,
        ),
        (
            "mbg_nbd",
            (0.525, 6.183, 0.891, 1.614),
            (0.524838, 6.182993, 0.891356, 1.613999),
            -9_582.1327,
        ),
    ],
)
def test_the_published_fits_in_weeks(cdnow, model, published, computed, log_likelihood):
    counted = count_patterns(summarise(cdnow, CALIBRATION_END)).sort(pl.all())
    # As published: weeks of two decimals.
    patterns = clv.Patterns(
        counted["frequency"].to_numpy(),
        np.round(counted["recency_days"].to_numpy() / 7, 2),
        np.round(counted["age_days"].to_numpy() / 7, 2),
        counted["customers"].to_numpy(),
    )
    fit = clv.fit_frequency(model, patterns)
    found = tuple(fit.parameters.values())
    assert found == pytest.approx(computed, abs=6e-6)
    assert tuple(round(value, 3) for value in found) == pytest.approx(published, abs=1.1e-3)
    assert fit.log_likelihood == pytest.approx(log_likelihood, abs=5e-5)


@pytest.mark.parametrize(
    ("model", "predicted", "bias", "mae", "rmse", "gini"),
    [
        ("bg_nbd", 1_653.41, -0.121461, 0.785454, 1.607982, 0.662421),
        ("mbg_nbd", 1_576.73, -0.162206, 0.764779, 1.607183, 0.663585),
        ("past_rate", 2_930.10, 0.556908, 1.023669, 2.211918, 0.665717),
    ],
)
def test_the_holdout_of_the_known_sample(  # noqa: PLR0917
    cdnow_tables, model, predicted, bias, mae, rmse, gini
):
    row = row_of(cdnow_tables["metrics_clv_validation"], model=model)
    assert round(row["predicted_purchases"], 2) == predicted
    assert [row[name] for name in ("bias", "mae", "rmse", "gini")] == [bias, mae, rmse, gini]
    assert (row["actual_purchases"], row["actual_revenue"]) == (1_882, Decimal("70976.39"))
    assert (row["calibration_end"], row["holdout_days"]) == (CALIBRATION_END, 273)


def test_mbg_nbd_is_selected_passes_and_predicts(cdnow_tables):
    validation = cdnow_tables["metrics_clv_validation"]
    assert validation.filter("selected")["model"].to_list() == ["mbg_nbd"]
    assert validation["passed"].to_list() == [True, True, None]
    users = cdnow_tables["dim_user_clv"]
    assert set(users["model_status"]) == {"ok"}
    assert users.null_count().sum_horizontal().item() == users["avg_repeat_value"].null_count()
    sizes = users.group_by("clv_decile").len().sort("clv_decile")["len"].to_list()
    assert sizes == [236] * 7 + [235] * 3
    lowest = users.group_by("clv_decile").agg(pl.col("predicted_revenue_365d").min())
    assert lowest.sort("clv_decile")["predicted_revenue_365d"].is_sorted(descending=True)


def test_tables_of_customers_add_up(cdnow_tables):
    validation = cdnow_tables["metrics_clv_validation"]
    for name in ("metrics_clv_deciles", "metrics_clv_frequency"):
        sums = cdnow_tables[name].group_by("model").agg(pl.exclude("lift", "decile").sum())
        for row in sums.iter_rows(named=True):
            whole = row_of(validation, model=row["model"])
            for column in ("customers", "actual_purchases", "actual_revenue", "predicted_revenue"):
                assert row[column] == whole[column]
            assert row["predicted_purchases"] == pytest.approx(whole["predicted_purchases"])


def test_a_biased_model_publishes_no_predictions(cdnow):
    tables = tables_of(cdnow, AS_OF, ClvOptions(holdout_days=273, max_bias=0.1))
    validation = tables["metrics_clv_validation"]
    assert validation["reasons"].to_list() == ["bias", "bias", None]
    assert validation["passed"].to_list() == [False, False, None]
    users = tables["dim_user_clv"]
    assert set(users["model_status"]) == {"failed_validation: bias"}
    assert set(users["model"]) == {"mbg_nbd"}
    known = {"user_id", "frequency", "recency_days", "age_days", "avg_repeat_value"}
    known |= {"historic_revenue", "model", "model_status"}
    assert all(users[name].null_count() == 2_357 for name in set(users.columns) - known)
    assert users["historic_revenue"].sum() == cdnow["revenue"].sum()


def test_each_test_of_the_gate_has_its_name():
    good = {"bias": 0.25, "rmse": 1.0, "mae": 1.0, "gini": 0.1}
    baseline = {"rmse": 1.1, "mae": 1.1}
    options = ClvOptions()
    assert clv._failed(good, baseline, options) == []
    assert clv._failed({**good, "bias": -0.250001}, baseline, options) == ["bias"]
    assert clv._failed({**good, "bias": None, "gini": None}, baseline, options) == ["bias", "gini"]
    worse = {**good, "rmse": 1.1, "mae": 1.1, "gini": 0.0}
    assert clv._failed(worse, baseline, options) == ["rmse", "mae", "gini"]


def test_a_discount_is_of_thirty_days_at_a_time():
    assert discount_days(365) == (30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 330, 360, 365)
    expected = {30: np.array([3.0]), 60: np.array([5.0]), 90: np.array([6.0]), 100: np.array([6.1])}
    by_hand = sum(
        bought / 1.1 ** (day / 365) for day, bought in ((30, 3), (60, 2), (90, 1), (100, 0.1))
    )
    assert clv._discounted(expected, 100, 0.1) == pytest.approx([by_hand])


def test_a_discount_lowers_predicted_revenue_and_nothing_else(cdnow, cdnow_tables):
    options = ClvOptions(holdout_days=273, annual_discount_rate=0.1)
    tables = tables_of(cdnow, AS_OF, options)
    plain = cdnow_tables["dim_user_clv"].sort("user_id")
    discounted = tables["dim_user_clv"].sort("user_id")
    month = plain["predicted_revenue_30d"].cast(float).to_numpy() / 1.1 ** (30 / 365)
    assert discounted["predicted_revenue_30d"].cast(float).to_numpy() == pytest.approx(
        month, abs=0.0101
    )
    whole, less = plain["predicted_revenue_365d"].sum(), discounted["predicted_revenue_365d"].sum()
    assert Decimal("0.92") < less / whole < Decimal("0.97")
    same = ["p_alive", "expected_purchases_365d", "expected_purchase_value"]
    assert_frame_equal(plain.select(same), discounted.select(same))


DAYS = purchase_days(
    (1, 0, "10.00"), (1, 10, "20.00"), (1, 40, "5.01"), (1, 95, "7.00"),
    (2, 5, "3.00"), (2, 99, "1.00"),
    (3, 99, "2.00"),
)  # fmt: skip


def test_a_summary_by_hand():
    cutoff = dt.date(2020, 1, 1) + dt.timedelta(days=60)
    summary = summarise(DAYS, cutoff)
    held = with_holdout(summary, DAYS, cutoff, cutoff + dt.timedelta(days=38)).sort("user_id")
    assert held.rows() == [
        (1, 2, 40, 60, Decimal("25.01"), Decimal("35.01"), 1, Decimal(7)),
        (2, 0, 0, 55, Decimal(0), Decimal(3), 0, Decimal(0)),  # day 99 is after the test
    ]


def not_fitted(cutoff):
    summary = summarise(empty_days(), cutoff)
    return clv.unfitted(count_patterns(summary), sample_spend(summary), cutoff, "too_few_customers")


def test_the_past_rate_by_hand():
    cutoff = dt.date(2020, 1, 1) + dt.timedelta(days=60)
    customers = with_holdout(summarise(DAYS, cutoff), DAYS, cutoff, dt.date(2020, 12, 31))
    fits = not_fitted(cutoff)
    predicted = predict_holdout(customers, fits, 39).sort("user_id")
    # 2 / 60 · 39 purchases of 25.01 / 2 each: 1.3 · 12.505 = 16.2565
    assert predicted["model"].to_list() == ["past_rate"] * 2
    assert predicted["predicted_purchases"].to_list() == [1_300_000, 0]
    assert predicted["predicted_revenue"].to_list() == [Decimal("16.26"), 0]
    # Who bought on the last day only is taken for one day old.
    first = summarise(DAYS, dt.date(2020, 1, 1))
    same_day = with_holdout(first, DAYS, dt.date(2020, 1, 1), cutoff)
    assert predict_holdout(same_day, fits, 39)["predicted_purchases"].to_list() == [0]


def gini(predictions, actual) -> float | None:
    frame = pl.DataFrame(
        {"prediction": predictions, "actual": actual, "customers": [1] * len(actual)},
        schema_overrides={"actual": pl.Int128},
    )
    return clv._gini(frame, frame.with_columns(prediction=pl.col("actual")))


def test_gini_by_hand():
    assert gini([3, 2, 1], [9, 4, 0]) == 1
    assert gini([1, 2, 3], [9, 4, 0]) == -1
    assert gini([1, 1, 1], [9, 4, 0]) == 0
    # Lorenz points (1/3, 4/13), (2/3, 1): 2·area − 1 = (4 + 17 + 26)/39 − 1; perfect: 57/39 − 1
    assert gini([2, 3, 1], [9, 4, 0]) == pytest.approx(8 / 18, abs=1e-6)
    assert gini([1, 2], [3, 3]) is None
    assert gini([], []) is None


def empty_days() -> pl.DataFrame:
    return DAYS.clear()


def check_contract(tables: dict[str, pl.DataFrame]) -> None:
    """Names, order and types of the contract, its keys, and its NOT NULL, minima and values."""
    assert sorted(tables) == sorted(table.name for table in CLV_TABLES)
    for table in CLV_TABLES:
        frame = tables[table.name]
        assert frame.schema == table.polars_schema()
        assert frame.select(table.key).is_unique().all()
        for column in table.columns:
            values = frame[column.name]
            assert not (column.required and values.null_count()), (table.name, column.name)
            if column.accepted:
                assert set(values.drop_nulls()) <= set(column.accepted)
            if column.minimum is not None:
                assert not (values < column.minimum).any(), (table.name, column.name)
        for check in table.row_checks:
            if check.severity is Severity.ERROR:
                assert not frame.filter(check.failing).height, check.name


@pytest.mark.parametrize(
    ("days", "as_of", "calibration", "final"),
    [
        (empty_days(), dt.date(2020, 4, 1), "too_few_customers", "too_few_customers"),
        (DAYS, dt.date(2020, 3, 24), "no_holdout", "no_holdout"),
        (DAYS, dt.date(2020, 3, 25), "too_few_customers", "too_few_customers"),
    ],
)
def test_every_status_says_why_there_is_nothing(days, as_of, calibration, final):
    tables = tables_of(days, as_of)
    check_contract(tables)
    models = tables["model_clv"]
    buyers = days.filter(pl.col("event_date") <= as_of)["user_id"].n_unique()
    assert set(models.filter(fit="final", model="mbg_nbd")["customers"]) == {buyers}
    statuses = models.group_by("fit", maintain_order=True).agg(pl.col("status").unique())
    assert statuses.rows() == [("calibration", [calibration]), ("final", [final])]
    assert not models["selected"].any()
    validation = tables["metrics_clv_validation"]
    assert validation.height == 3
    assert validation["passed"].to_list() == [False, False, None]
    assert validation["reasons"].to_list()[:2] == [calibration] * 2
    users = tables["dim_user_clv"]
    assert users.height == buyers
    assert set(users["model_status"]) <= {calibration}
    assert users["clv_decile"].null_count() == users.height


def test_a_test_is_never_longer_than_the_data():
    tables = tables_of(DAYS, dt.date(2020, 4, 9), ClvOptions(holdout_days=300))
    check_contract(tables)
    validation = tables["metrics_clv_validation"]
    assert set(validation["holdout_days"]) == {99}
    assert set(validation["customers"]) == {1}
    assert set(tables["dim_user_clv"]["model_status"]) == {"too_few_customers"}


def test_without_a_spend_model_purchases_are_predicted_all_the_same():
    free = simulated_purchase_days(4_000, 1).with_columns(revenue=pl.lit(0).cast(MONEY))
    tables = tables_of(free, LAST_DAY)
    check_contract(tables)
    users = tables["dim_user_clv"]
    assert set(users["model_status"]) == {"without_value: too_few_customers"}
    assert users["expected_purchases_365d"].null_count() == 0
    assert users["predicted_revenue_365d"].null_count() == users.height
    assert set(tables["metrics_clv_deciles"]["model"]) == {"past_rate"}
    frequency = tables["metrics_clv_frequency"]
    no_revenue = frequency.filter(pl.col("predicted_revenue").is_null())["model"]
    assert set(no_revenue) == {"bg_nbd", "mbg_nbd"}


@pytest.mark.parametrize(
    ("span", "days"), [(84, 28), (100, 33), (300, 100), (545, 181), (546, 182), (3_650, 182)]
)
def test_the_test_takes_a_third_of_the_days(span, days):
    first = dt.date(2019, 1, 1)
    as_of = first + dt.timedelta(days=span)
    found = split(first, as_of, ClvOptions())
    assert (found.holdout_days, found.calibration_end) == (days, as_of - dt.timedelta(days=days))
    assert split(first, as_of, ClvOptions(holdout_days=50)).holdout_days == 50


def test_the_tables_keep_the_contract(cdnow_tables):
    check_contract(cdnow_tables)


@pytest.fixture(scope="module")
def simulated() -> pl.DataFrame:
    return simulated_purchase_days(4_000, 2)


@pytest.fixture(scope="module")
def simulated_tables(simulated):
    return tables_of(simulated, LAST_DAY)


def test_simulated_customers_are_predicted_without_bias():
    tables = tables_of(simulated_purchase_days(30_000, 5, days=400), LAST_DAY)
    check_contract(tables)
    validation = tables["metrics_clv_validation"]
    assert validation["passed"].to_list() == [True, True, None]
    row = row_of(validation, model="mbg_nbd")
    assert abs(row["bias"]) < 0.04
    assert abs(row["revenue_bias"]) < 0.06
    assert row["total_low"] < row["actual_purchases"] < row["total_high"]
    for model in ("bg_nbd", "mbg_nbd"):
        frequency = tables["metrics_clv_frequency"].filter(pl.col("model") == model)
        actual = frequency["actual_purchases"].to_numpy()
        assert frequency["predicted_purchases"].to_numpy() == pytest.approx(actual, rel=0.15)


def assert_same(actual: dict[str, pl.DataFrame], expected: dict[str, pl.DataFrame]) -> None:
    for table in CLV_TABLES:
        assert_frame_equal(
            actual[table.name].sort(table.key),
            expected[table.name].sort(table.key),
            check_exact=True,
        )


def test_no_order_of_the_rows_matters(simulated, simulated_tables):
    assert_same(
        tables_of(simulated.sample(fraction=1, shuffle=True, seed=3), LAST_DAY), simulated_tables
    )


def tiles_of_sorted(table: pl.DataFrame, revenue: str, *ties: str) -> pl.DataFrame:
    """Decile by revenue, of all rows at once: NTILE of what is sorted."""
    ordered = table.sort(-pl.col(revenue), *ties)
    firsts = tile_ranks(ordered.height, CLV_DECILES).values()
    place = pl.int_range(pl.len(), dtype=pl.Int64)
    return ordered.with_columns(
        decile=1 + pl.sum_horizontal((place >= first).cast(pl.Int64) for first in firsts)
    )


def test_deciles_are_those_of_all_customers_in_order(simulated, simulated_tables):
    users = tiles_of_sorted(simulated_tables["dim_user_clv"], "predicted_revenue_365d", "user_id")
    assert users["clv_decile"].to_list() == users["decile"].to_list()
    cutoff = simulated_tables["metrics_clv_validation"]["calibration_end"][0]
    customers = with_holdout(summarise(simulated, cutoff), simulated, cutoff, LAST_DAY)
    predicted = predict_holdout(
        customers, not_fitted(cutoff), (LAST_DAY - cutoff).days
    ).with_columns(user=pl.col("user_id").cast(pl.String))
    expected = (
        tiles_of_sorted(predicted, "predicted_revenue", "user")
        .group_by("decile")
        .agg(pl.len().cast(pl.Int64).alias("customers"), pl.col("actual_revenue").sum())
        .sort("decile")
    )
    found = simulated_tables["metrics_clv_deciles"].filter(pl.col("model") == "past_rate")
    assert_frame_equal(found.select(expected.columns).sort("decile"), expected)


@settings(max_examples=3)
@given(shards=st.integers(1, 7), salt=st.integers(0, 10**6))
def test_no_number_of_shards_matters(simulated, simulated_tables, shards, salt):
    shard = ((pl.col("user_id") * 7_919 + salt) % 104_729) % shards
    assert_same(tables_of(simulated, LAST_DAY, shard=shard), simulated_tables)


def test_only_so_many_spenders_are_taken_whatever_the_shards(simulated, monkeypatch):
    summary = summarise(simulated, LAST_DAY)
    everybody = sample_spend(summary)
    monkeypatch.setattr(clv, "MOST_SPENDERS", 500)
    whole = sample_spend(summary)
    parts = [sample_spend(summary[start::3]) for start in range(3)]
    assert everybody.height > 1_000
    assert whole.height == 500
    assert_frame_equal(merge_spend(pl.concat(parts)).sort("hash"), whole.sort("hash"))
    assert whole["hash"].max() < everybody.join(whole, on="user_id", how="anti")["hash"].min()


def test_the_models_are_loaded_by_nothing_else():
    code = "import sys, pipelines.customer_analytics; sys.exit('scipy.special' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=100).returncode == 0
