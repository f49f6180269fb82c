"""The tables of predicted customer lifetime value."""

from __future__ import annotations

import polars as pl

from transforms.schema.types import (
    BOOL,
    DATE,
    FLOAT64,
    INT64,
    NUMERIC,
    STRING,
    Column,
    RowCheck,
    Severity,
    Table,
    count,
    rate,
    required,
    totals,
)
from transforms.schema.values import (
    CLV_BASELINE,
    CLV_DECILES,
    CLV_FITS,
    CLV_FREQUENCY_MODELS,
    CLV_HORIZONS,
    CLV_INTERVAL_DAYS,
    CLV_MOST_CORRELATION,
    CLV_MOST_FREQUENT,
    CLV_SPEND_MODEL,
    CLV_STATUSES,
)

_MODELS = (*CLV_FREQUENCY_MODELS, CLV_SPEND_MODEL)
_PREDICTORS = (*CLV_FREQUENCY_MODELS, CLV_BASELINE)

MODEL_CLV = Table(
    name="model_clv",
    group="clv",
    grain="one row per fit and model",
    key=("fit", "model"),
    columns=(
        required("fit", STRING, "Up to the holdout, or up to as_of.", accepted=CLV_FITS),
        required("model", STRING, "The model.", accepted=_MODELS),
        Column("cutoff_date", DATE, "Last day the fit has seen; NULL without a holdout."),
        required("status", STRING, "ok, or why it must not be used.", accepted=CLV_STATUSES),
        required("selected", BOOL, "True where predictions come from this model."),
        count("customers", "Customers with a purchase by cutoff_date."),
        count(
            "repeat_customers",
            "Of them those with a repeat purchase; of gamma_gamma those it was fitted on.",
        ),
        count(
            "distinct_patterns",
            "Distinct (frequency, recency, age); of gamma_gamma (frequency, revenue).",
        ),
        count("evaluations", "Evaluations of the likelihood."),
        Column("log_likelihood", FLOAT64, "At the maximum, six decimals."),
        Column("r", FLOAT64, "Shape of the purchase rates' distribution."),
        Column("alpha_days", FLOAT64, "Its rate, in days."),
        Column("a", FLOAT64, "First shape of the distribution of the chance to be lost."),
        Column("b", FLOAT64, "Its second shape."),
        Column("p", FLOAT64, "Shape of a customer's purchase values."),
        Column("q", FLOAT64, "Shape of the distribution of their rates."),
        Column("v", FLOAT64, "Its rate, in money."),
        *(
            Column(f"se_{name}", FLOAT64, f"Standard error of {name}.")
            for name in ("r", "alpha_days", "a", "b", "p", "q", "v")
        ),
        Column(
            "spend_frequency_correlation",
            FLOAT64,
            "Correlation of repeat purchases and their mean value, which gamma_gamma takes for 0.",
        ),
    ),
    row_checks=(
        # BG/NBD often has no finite expectation; MBG/NBD is there for it.
        RowCheck(
            "status_ok", (pl.col("status") != "ok") & (pl.col("model") != "bg_nbd"), Severity.WARN
        ),
        RowCheck(
            "spend_independent_of_frequency",
            pl.col("spend_frequency_correlation").abs() > CLV_MOST_CORRELATION,
            Severity.WARN,
        ),
    ),
)

METRICS_CLV_VALIDATION = Table(
    name="metrics_clv_validation",
    group="clv",
    grain="one row per model, tested on days it has not seen",
    key=("model",),
    columns=(
        required("model", STRING, "The model; past_rate is the baseline.", accepted=_PREDICTORS),
        Column("calibration_start", DATE, "First purchase day of the data."),
        Column("calibration_end", DATE, "Last day the models were fitted on."),
        Column("holdout_end", DATE, "Last day of the test: as_of."),
        Column("holdout_days", INT64, "Days of the test.", minimum=1),
        count("customers", "Customers with a purchase by calibration_end."),
        Column("actual_purchases", INT64, "Their purchase days in the test.", minimum=0),
        rate("predicted_purchases", "Those predicted, six decimals."),
        Column("bias", FLOAT64, "predicted_purchases / actual_purchases − 1."),
        rate("mae", "Mean absolute error of a customer's purchases."),
        rate("rmse", "Root of the mean squared error of a customer's purchases."),
        Column("gini", FLOAT64, "How well customers are ranked by purchases: 1 is perfectly."),
        Column("actual_revenue", NUMERIC, "Their revenue in the test.", minimum=0),
        Column("predicted_revenue", NUMERIC, "That predicted.", minimum=0),
        Column("revenue_bias", FLOAT64, "predicted_revenue / actual_revenue − 1."),
        Column("revenue_gini", FLOAT64, "How well customers are ranked by revenue."),
        rate("total_low", "Lower end of the 95 % interval of predicted_purchases."),
        rate("total_high", "Upper end; it holds what the parameters leave open."),
        required("selected", BOOL, "True for the model with the smaller rmse."),
        Column("passed", BOOL, "True where predictions may be published; NULL for the baseline."),
        Column("reasons", STRING, "What failed: a status, or bias, rmse, mae, gini."),
    ),
    row_checks=(
        RowCheck("selected_passed", pl.col("selected") & ~pl.col("passed"), Severity.WARN),
    ),
)


def _comparison() -> tuple[Column, ...]:
    """What is predicted and what came, of a group of customers."""
    return (
        required("customers", INT64, "Customers.", minimum=1),
        rate("predicted_purchases", "Purchases predicted, six decimals."),
        count("actual_purchases", "Purchase days in the test."),
        Column("predicted_revenue", NUMERIC, "Revenue predicted.", minimum=0),
        required("actual_revenue", NUMERIC, "Revenue in the test.", minimum=0),
        rate("lift", "Share of actual revenue / share of customers."),
    )


METRICS_CLV_DECILES = Table(
    name="metrics_clv_deciles",
    group="clv",
    grain="one row per model and decile of predicted revenue",
    key=("model", "decile"),
    columns=(
        required("model", STRING, "The model.", accepted=_PREDICTORS),
        required(
            "decile",
            INT64,
            "1 for the tenth of customers with the most predicted revenue.",
            accepted=tuple(range(1, CLV_DECILES + 1)),
        ),
        *_comparison(),
    ),
)

METRICS_CLV_FREQUENCY = Table(
    name="metrics_clv_frequency",
    group="clv",
    grain="one row per model and number of repeat purchases before the test",
    key=("model", "frequency"),
    columns=(
        required("model", STRING, "The model.", accepted=_PREDICTORS),
        required(
            "frequency",
            INT64,
            "Repeat purchases; 7 for 7 and more.",
            accepted=tuple(range(CLV_MOST_FREQUENT + 1)),
        ),
        *_comparison(),
    ),
)

METRICS_CLV_PREDICTIONS = Table(
    name="metrics_clv_predictions",
    group="clv",
    grain="one row per dimension and value: what is predicted of a group of customers",
    key=("dimension", "value"),
    columns=(
        required(
            "dimension",
            STRING,
            "What customers are split by.",
            accepted=("overall", "rfm_segment", "clv_decile"),
        ),
        required("value", STRING, "Value of the dimension; all for overall."),
        required("customers", INT64, "Users with a purchase.", minimum=1),
        rate("expected_alive", "Sum of p_alive: how many still buy here, as expected."),
        *(
            rate(f"expected_purchases_{days}d", f"Expected purchases in the next {days} days.")
            for days in CLV_HORIZONS
        ),
        *(
            rate(
                f"expected_purchases_{CLV_INTERVAL_DAYS}d_{end}",
                f"{name} end of its 95 % interval, by what the parameters leave open; of overall.",
            )
            for end, name in (("low", "Lower"), ("high", "Upper"))
        ),
        *(
            Column(
                f"predicted_revenue_{days}d",
                NUMERIC,
                f"Expected revenue of the next {days} days.",
                minimum=0,
            )
            for days in CLV_HORIZONS
        ),
        required("historic_revenue", NUMERIC, "Revenue so far.", minimum=0),
    ),
    measures=totals(
        where=pl.col("dimension") == "overall", buyers="customers", revenue="historic_revenue"
    ),
)

DIM_USER_CLV = Table(
    name="dim_user_clv",
    group="clv",
    grain="one row per user with a purchase",
    key=("user_id",),
    cluster_by=("clv_decile",),
    large=True,
    columns=(
        required("user_id", STRING, "The user."),
        count("frequency", "Purchase days after the first."),
        count("recency_days", "Days from the first purchase to the last."),
        count("age_days", "Days from the first purchase to as_of."),
        Column(
            "avg_repeat_value",
            NUMERIC,
            "Mean revenue of the purchase days after the first, two decimals.",
            minimum=0,
        ),
        rate("p_alive", "Probability that the user still buys here."),
        *(
            rate(f"p_purchase_{days}d", f"Probability of a purchase in the next {days} days.")
            for days in CLV_HORIZONS
        ),
        *(
            rate(f"expected_purchases_{days}d", f"Expected purchases in the next {days} days.")
            for days in CLV_HORIZONS
        ),
        Column(
            "expected_purchase_value",
            NUMERIC,
            "Expected revenue of a purchase day, two decimals.",
            minimum=0,
        ),
        *(
            Column(
                f"predicted_revenue_{days}d",
                NUMERIC,
                f"Expected revenue of the next {days} days, two decimals.",
                minimum=0,
            )
            for days in CLV_HORIZONS
        ),
        Column(
            "clv_decile",
            INT64,
            "1 for the tenth of users with the most predicted_revenue_365d.",
            accepted=tuple(range(1, CLV_DECILES + 1)),
        ),
        required("historic_revenue", NUMERIC, "Revenue so far.", minimum=0),
        required("model", STRING, "The selected model.", accepted=CLV_FREQUENCY_MODELS),
        required("model_status", STRING, "ok, or why there are no predictions."),
    ),
    measures={"buyers": pl.len()} | totals(revenue="historic_revenue"),
    row_checks=(
        RowCheck("recency_within_age", pl.col("recency_days") > pl.col("age_days")),
        RowCheck("probability_up_to_1", pl.max_horizontal("p_alive", "p_purchase_365d") > 1),
        RowCheck(
            "predictions_of_a_valid_model_only",
            pl.col("p_alive").is_not_null() & pl.col("model_status").str.starts_with("failed"),
        ),
    ),
)
