"""The page of predictions: what it says of rows written by hand, and when it shows none."""

import polars as pl
import pytest

from pipelines.report.prediction import prediction_page
from tests.pipelines.report.prediction_rows import (
    BG_NBD,
    EXPECTED,
    MBG_NBD,
    PAST_RATE,
    expected_groups,
    fits,
    prediction_tables,
    predictions,
    validation,
)

FAILED = "No predictions: MBG/NBD, the better model, failed its test on 1 Jan 2020 to 30 Jan 2020"


def page_of(**tables):
    return prediction_page(prediction_tables() | tables)


def chart(page, name):
    return next(chart for chart in page.charts if chart.chart_id == name)


def test_what_was_expected_stands_beside_what_came():
    page = page_of()
    assert page.lead == (
        "MBG/NBD passed its test on 1 Jan 2020 to 30 Jan 2020, which it had not seen: of 200 "
        "customers, 95 purchases were expected and 100 came (−5.4%). A purchase is a day on which "
        "a customer bought."
    )
    assert {card.card_id: (card.value, card.note) for card in page.cards} == {
        "predicted_revenue_90d": ("12,000.00", "10.5K to 13.5K (95%)"),
        "expected_alive": ("91", "45.3% of 200, as expected"),
        "predicted_purchases": ("95", "84 to 105 (95%)"),
        "actual_purchases": ("100", "in 30 days of test"),
        "predicted_revenue": ("5,100.00", "+2.0% against what came"),
        "actual_revenue": ("5,000.00", "in 30 days of test"),
    }


@pytest.mark.parametrize(
    ("low", "high", "where"),
    [
        (84.2, 105.4, "84 to 105 by what the parameters leave open (95%); 100 came, within that"),
        (100.2, 105, "100 to 105 by what the parameters leave open (95%); 100 came, below that"),
        (84.2, 99.8, "84 to 100 by what the parameters leave open (95%); 100 came, above that"),
    ],
)
def test_the_interval_tells_where_what_came_lies(low, high, where):
    row = MBG_NBD | {"total_low": low, "total_high": high}
    page = page_of(metrics_clv_validation=validation(row, PAST_RATE))
    assert page.figures[0].details == [
        ("Purchases of the test", f"95 expected, {where}"),
        ("Revenue of the test", "5,100.00 expected, 5,000.00 came (+2.0%)"),
    ]


def test_errors_are_compared_with_the_past_rate():
    page = page_of()
    bias = chart(page, "prediction-bias")
    assert bias.sentence == (
        "Purchases predicted in total, against those that came: BG/NBD +30.3%, MBG/NBD −5.4%, "
        "Past rate +80.0%."
    )
    assert [(row["value"], row["text"], row["marked"]) for row in bias.rows] == [
        (0.3025, "+30.3%", False),
        (0.054, "−5.4%", True),
        (0.8, "+80.0%", False),
    ]
    assert chart(page, "prediction-error").sentence == (
        "Purchases off: BG/NBD 1.50, MBG/NBD 1.20, Past rate 2.40. MBG/NBD against the past rate: "
        "−50.0%."
    )


def test_deciles_say_what_the_first_brought_and_which_is_furthest_off():
    page = page_of()
    purchases = chart(page, "deciles-purchases")
    assert purchases.sentence == (
        "Decile 1, 20 customers (10.0% of all): 42.3% of the purchases predicted, 46.0% of what "
        "came. Furthest off: decile 1, 40 predicted, 46 came."
    )
    assert [row["at"] for row in purchases.rows] == [str(number) for number in range(1, 11)]
    assert purchases.rows[4]["values"] == [6.0, 2.0]
    (figure,) = (part for part in page.figures if part.figure_id == "prediction-deciles")
    assert figure.choice.first == ["mbg_nbd"]
    past_rate = figure.choice.patches["past_rate"]["charts"]["deciles-purchases"]
    assert [row["values"] for row in past_rate["rows"]][:2] == [[80.0, 46.0], [40.0, 20.0]]
    assert figure.table.groups == ["mbg_nbd"] * 10 + ["past_rate"] * 10


def test_past_purchases_stand_beside_the_past_rate():
    page = page_of()
    purchases = chart(page, "frequency-purchases")
    assert [(row["at"], row["values"]) for row in purchases.rows] == [
        ("0", [20.0, 0.0, 24.0]),
        ("1", [19.6, 40.0, 20.0]),
        ("2", [15.0, 35.0, 13.0]),
        ("4", [18.0, 45.0, 17.0]),
        ("7+", [22.0, 60.0, 26.0]),
    ]
    assert purchases.sentence == (
        "Closer than the past rate in 5 of 5 groups. Furthest off: customers with 0 repeat "
        "purchases, 20 predicted, 24 came."
    )
    assert chart(page, "frequency-revenue").rows[0]["texts"] == ["1,000", "0.00", "1,200"]


@pytest.mark.parametrize(
    ("reasons", "changed", "why"),
    [
        ("bias", {"bias": 0.4}, "its total is off by more than the run allows (+40.0%)"),
        (
            "bias, gini",
            {"bias": None, "gini": None, "actual_purchases": 0},
            (
                "nobody bought in the test; all customers bought equally often, so that there is "
                "no order to predict"
            ),
        ),
        (
            "rmse, gini",
            {"rmse": 2.6, "gini": -0.1},
            (
                "its root mean squared error, 2.6000, is not below that of the past rate, 2.4000; "
                "it ranks customers no better than chance"
            ),
        ),
        (
            "mae",
            {"mae": 1.0},
            "its mean absolute error, 1.0000, is not below that of the past rate, 0.9000",
        ),
    ],
)
def test_a_model_that_failed_says_why_and_shows_no_predictions(reasons, changed, why):
    row = MBG_NBD | {"passed": False, "reasons": reasons} | changed
    page = page_of(metrics_clv_validation=validation(BG_NBD, row, PAST_RATE))
    assert page.lead == f"{FAILED}, which it had not seen: {why}."
    assert page.cards == []
    assert [figure.figure_id for figure in page.figures] == ["prediction-test"]
    assert page.figures[0].details == []
    shown = page.figures[0].table
    assert not [name for name in shown.frame.columns if name.startswith(("predicted", "total"))]


@pytest.mark.parametrize(
    ("status", "why"),
    [
        ("no_holdout", "the days of the data are too few for a test"),
        ("too_few_customers", "too few customers have bought again to fit it (80)"),
        ("not_converged", "the fit found no maximum"),
    ],
)
def test_without_a_tested_model_that_is_said(status, why):
    rows = [
        {"model": model, "customers": 200, "selected": False, "passed": False, "reasons": status}
        for model in ("bg_nbd", "mbg_nbd")
    ]
    past_rate = {"model": "past_rate", "customers": 200, "selected": False, "reasons": status}
    page = page_of(
        metrics_clv_validation=validation(*rows, past_rate),
        model_clv=fits(calibration_bg_nbd=status, calibration_mbg_nbd=status),
    )
    assert page.lead == (
        f"No predictions, as no model could be tested. BG/NBD: {why}; MBG/NBD: {why}."
    )
    assert [chart.rows for chart in page.charts] == [[], []]


def test_a_model_that_passed_but_has_no_final_fit_predicts_nothing():
    page = page_of(model_clv=fits(final_mbg_nbd="boundary"))
    assert page.lead == (
        "No predictions: MBG/NBD passed its test, but cannot be fitted on all days: the fit ran "
        "into the bounds of its parameters."
    )
    assert page.cards == []


def test_purchases_are_predicted_without_their_value():
    tables = prediction_tables()
    without = {
        name: tables[name].with_columns(
            predicted_revenue=pl.when(pl.col("model") == "past_rate").then("predicted_revenue")
        )
        for name in ("metrics_clv_deciles", "metrics_clv_frequency", "metrics_clv_validation")
    }
    without["metrics_clv_validation"] = without["metrics_clv_validation"].with_columns(
        revenue_bias=pl.lit(None, pl.Float64)
    )
    no_fit = fits(calibration_gamma_gamma="not_converged", final_gamma_gamma="not_converged")
    page = page_of(model_clv=no_fit, **without)
    assert page.lead.endswith(
        " What a purchase will bring is not predicted: the fit found no maximum."
    )
    assert {card.card_id: card.value for card in page.cards}["predicted_revenue"] == "–"
    for name in ("deciles-revenue", "frequency-revenue"):
        assert chart(page, name).rows == []
        assert chart(page, name).sentence == "Not predicted: the fit found no maximum."
    assert chart(page, "deciles-purchases").rows


@pytest.mark.parametrize("name", sorted(prediction_tables()))
def test_without_its_tables_there_is_no_page(name):
    tables = prediction_tables()
    del tables[name]
    assert prediction_page(tables) is None


def test_without_customers_there_is_no_page():
    nobody = fits().with_columns(customers=pl.lit(0, pl.Int64))
    assert page_of(model_clv=nobody) is None


def test_the_days_to_come_are_told_in_total_by_segment_and_by_who_brings_most():
    page = page_of()
    (figure,) = (part for part in page.figures if part.figure_id == "prediction-outlook")
    assert figure.details == [
        ("Purchases of the next 90 days", "240 expected, 210 to 270 (95%)"),
        (
            "Who brings most of the revenue",
            "40 customers (20.0% of all, deciles 1 to 2) are expected to bring 58.3% of it",
        ),
    ]
    segments = chart(page, "prediction-segments")
    assert segments.sentence == (
        "Most is expected of Champions: 75.0%, after 60.0% of the revenue so far."
    )
    assert [(row["label"], row["value"]) for row in segments.rows] == [
        ("Champions", 9_000),
        ("At Risk", 3_000),
    ]
    assert chart(page, "prediction-alive").sentence == (
        "Of 200 customers, 91 are expected to still buy here and 109 to be lost. Highest: "
        "Champions, 91.5%. Lowest: At Risk, 33.8%."
    )
    shown = figure.table.frame
    assert shown["label"].to_list()[:4] == ["All", "Champions", "At Risk", "1"]
    assert figure.table.totals[:2] == [True, False]


def test_one_decile_may_bring_most():
    rows = expected_groups()
    (first,) = (row for row in rows if row["value"] == "1")
    first["predicted_revenue_90d"] = EXPECTED["predicted_revenue_90d"]
    page = page_of(metrics_clv_predictions=predictions(*rows))
    (figure,) = (part for part in page.figures if part.figure_id == "prediction-outlook")
    assert figure.details[1][1] == (
        "20 customers (10.0% of all, decile 1) are expected to bring 100.0% of it"
    )


def test_without_a_model_of_values_purchases_are_told():
    revenue = {f"predicted_revenue_{days}d": None for days in (30, 90, 365)}
    rows = [row | revenue for row in expected_groups() if row["dimension"] != "clv_decile"]
    page = page_of(
        model_clv=fits(final_gamma_gamma="not_converged"),
        metrics_clv_predictions=predictions(*rows),
    )
    assert chart(page, "prediction-segments").title == "Expected purchases by segment"
    assert "predicted_revenue_90d" not in {card.card_id for card in page.cards}
    (figure,) = (part for part in page.figures if part.figure_id == "prediction-outlook")
    assert [name for name, _ in figure.details] == ["Purchases of the next 90 days"]


def test_a_model_in_which_nobody_is_lost_after_one_purchase_says_so():
    best = {"selected": True, "passed": True, "reasons": None}
    rows = (BG_NBD | best, MBG_NBD | {"selected": False}, PAST_RATE)
    page = page_of(metrics_clv_validation=validation(*rows))
    assert chart(page, "prediction-alive").sentence.endswith(
        "BG/NBD takes everybody with a single purchase for one who still buys."
    )
