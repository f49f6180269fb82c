"""Predicted customer lifetime value, with a test on days the models have not seen.

A purchase is a UTC date with a purchase. The way, of which each step is a function here:

1. `split`: the last days of the data are kept for the test.
2. Per shard, `summarise` the customers up to a cut-off; `count_patterns` and `sample_spend` are all
   that the fits need, and merge by `merge_patterns` and `merge_spend`.
3. `fit_models` on one worker, up to the test and up to as_of.
4. Per shard, `predict_holdout` and its partial aggregates, which merge by adding; `validate`.
5. Per shard, `predict_users` with the model that the test selects.

`lifetime_value` takes this way.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import MAX_PREC, Context, Decimal
from math import isqrt
from typing import Any, Final

import numpy as np
import polars as pl

from transforms.analytics.lifetime_models import (
    MBG_NBD,
    OK,
    Fit,
    Floats,
    FrequencyModel,
    Integers,
    Patterns,
    SpendModel,
    fit_frequency,
    fit_spend,
    interval_of_total,
)
from transforms.columnar.key_index import hash_keys
from transforms.columnar.money import MONEY, average_money, billionths, divide_half_up
from transforms.rules import ClvOptions
from transforms.schema import (
    CLV_BASELINE,
    CLV_FREQUENCY_MODELS,
    CLV_HORIZONS,
    CLV_MOST_FREQUENT,
    CLV_SPEND_MODEL,
    DIM_USER_CLV,
    METRICS_CLV_DECILES,
    METRICS_CLV_FREQUENCY,
    METRICS_CLV_VALIDATION,
    MODEL_CLV,
    MONEY_SCALE,
)

SHORTEST_SPAN_DAYS: Final = 84
HOLDOUT_DAYS: Final = (28, 182)
MOST_SPENDERS: Final = 1_000_000
"""Repeat customers on whom Gamma-Gamma is fitted at most."""

_MICRO: Final = 10**6
_STEP_DAYS: Final = 30  # between the days at which revenue is discounted
_YEAR_DAYS: Final = 365
_CENT: Final = 10 ** (MONEY_SCALE - 2)
_EXACT: Final = Context(prec=MAX_PREC)
_PATTERN: Final = ("frequency", "recency_days", "age_days")


@dataclass(frozen=True)
class Split:
    """Which days models are fitted on, and which they are tested on.

    Attributes:
        as_of: Last day of the data; None where there is none.
        first_purchase: First purchase day; None where nobody has bought.
        holdout_days: Days of the test; None where the data is too short for one.
    """

    as_of: dt.date | None
    first_purchase: dt.date | None
    holdout_days: int | None

    @property
    def calibration_end(self) -> dt.date | None:
        """Last day before the test; None without one."""
        if self.as_of is None or self.holdout_days is None:
            return None
        return self.as_of - dt.timedelta(days=self.holdout_days)


def split(first_purchase: dt.date | None, as_of: dt.date | None, options: ClvOptions) -> Split:
    """Divide the days into those of the fit and those of the test.

    Args:
        first_purchase: First purchase day of the data; None where there is none.
        as_of: Its last day; None where there is none.
        options: For the days of the test.
    """
    if first_purchase is None or as_of is None:
        return Split(as_of, None, None)
    span = (as_of - first_purchase).days
    if span < SHORTEST_SPAN_DAYS:
        return Split(as_of, first_purchase, None)
    shortest, longest = HOLDOUT_DAYS
    third = min(max(span // 3, shortest), longest)
    # The first purchase day stays with the fit, however long a test is asked for.
    return Split(as_of, first_purchase, min(options.holdout_days or third, span))


def summarise(purchase_days: pl.DataFrame, cutoff: dt.date) -> pl.DataFrame:
    """What is known of each customer at a cut-off.

    Args:
        purchase_days: Columns `user_id` (Int64), `event_date`, `revenue` (NUMERIC): one row per
            user and purchase day; later days are left out.
        cutoff: The last day known.

    Returns:
        One row per user with a purchase: `user_id`, `frequency` (x: purchase days after the
        first), `recency_days` (t_x), `age_days` (T), `repeat_revenue` (of the days after the
        first), `historic_revenue`.
    """
    day, revenue = pl.col("event_date"), pl.col("revenue")
    first, last = day.min(), day.max()
    return (
        purchase_days.filter(day <= cutoff)
        .group_by("user_id")
        .agg(
            (pl.len().cast(pl.Int64) - 1).alias("frequency"),
            (last - first).dt.total_days().alias("recency_days"),
            (pl.lit(cutoff, pl.Date) - first).dt.total_days().alias("age_days"),
            revenue.filter(day != first).sum().alias("repeat_revenue"),
            revenue.sum().alias("historic_revenue"),
        )
    )


def with_holdout(
    summary: pl.DataFrame, purchase_days: pl.DataFrame, cutoff: dt.date, as_of: dt.date
) -> pl.DataFrame:
    """Customers with what they bought after a cut-off.

    Args:
        summary: `summarise` at the cut-off.
        purchase_days: As there.
        cutoff: The last day known.
        as_of: The last day of the test.

    Returns:
        `summary` with `actual_purchases` (Int64) and `actual_revenue`, 0 where nothing was bought.
    """
    bought = (
        purchase_days.filter(pl.col("event_date").is_between(cutoff, as_of, closed="right"))
        .group_by("user_id")
        .agg(
            pl.len().cast(pl.Int64).alias("actual_purchases"),
            pl.col("revenue").sum().alias("actual_revenue"),
        )
    )
    return summary.join(bought, on="user_id", how="left").with_columns(
        pl.col("actual_purchases").fill_null(0), pl.col("actual_revenue").fill_null(0)
    )


def count_patterns(summary: pl.DataFrame) -> pl.DataFrame:
    """How many customers have each (x, t_x, T): `frequency, recency_days, age_days, customers`."""
    return summary.group_by(_PATTERN).agg(pl.len().cast(pl.Int64).alias("customers"))


def merge_patterns(counts: pl.DataFrame) -> pl.DataFrame:
    """The counts of shards, one behind the other, as one."""
    return counts.group_by(_PATTERN).agg(pl.col("customers").sum())


def sample_spend(summary: pl.DataFrame) -> pl.DataFrame:
    """What repeat customers spend: `hash`, `user_id`, `frequency`, `repeat_revenue`.

    Those who spent nothing are left out, as Gamma-Gamma knows no such customers. Of more than
    `MOST_SPENDERS` those with the smallest hashes stay, the same in any shard.
    """
    spenders = summary.filter((pl.col("frequency") > 0) & (pl.col("repeat_revenue") > 0))
    hashes = pl.Series("hash", hash_keys(spenders["user_id"].to_numpy()), pl.UInt64)
    return merge_spend(spenders.select(hashes, "user_id", "frequency", "repeat_revenue"))


def merge_spend(samples: pl.DataFrame) -> pl.DataFrame:
    """The samples of shards, one behind the other, as one."""
    if samples.height <= MOST_SPENDERS:
        return samples
    return samples.sort("hash", "user_id").head(MOST_SPENDERS)


@dataclass(frozen=True)
class Fits:
    """The models fitted on customers up to a cut-off.

    Attributes:
        cutoff: The last day they have seen; None where there is no test.
        fits: By model.
        intervals: Of the models that may be used, the 95 % interval of the purchases that are
            expected within the days of the test.
    """

    cutoff: dt.date | None
    fits: Mapping[str, Fit]
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def customers(self) -> int:
        """Customers that they have seen."""
        return max(fit.customers for fit in self.fits.values())

    @property
    def spend(self) -> SpendModel | None:
        """The model of purchase values; None where it must not be used."""
        fit = self.fits[CLV_SPEND_MODEL]
        return SpendModel.of(fit) if fit.usable else None


def fit_models(
    patterns: pl.DataFrame, spend: pl.DataFrame, cutoff: dt.date, horizon: int | None = None
) -> Fits:
    """Fit every model.

    Args:
        patterns: `count_patterns` of all customers, at the cut-off.
        spend: `sample_spend` of all customers, at the cut-off.
        cutoff: The cut-off.
        horizon: Days for whose purchases an interval is needed; None for none.
    """
    ordered = patterns.sort(_PATTERN)
    counted = Patterns(*(ordered[name].to_numpy() for name in (*_PATTERN, "customers")))
    spenders = spend.select("frequency", "repeat_revenue").sort("frequency", "repeat_revenue")
    fits = {model: fit_frequency(model, counted) for model in CLV_FREQUENCY_MODELS}
    intervals = {
        model: interval_of_total(fit, counted, horizon)
        for model, fit in fits.items()
        if fit.usable and horizon is not None
    }
    fits[CLV_SPEND_MODEL] = fit_spend(
        spenders["frequency"].to_numpy(),
        _floats(spenders["repeat_revenue"]),
        int(patterns["customers"].sum()),
    )
    return Fits(cutoff, fits, intervals)


def unfitted(
    patterns: pl.DataFrame, spend: pl.DataFrame, cutoff: dt.date | None, status: str
) -> Fits:
    """Fits that are not there, and why; as `fit_models`."""
    customers = int(patterns["customers"].sum())
    repeat = int(patterns.filter(pl.col("frequency") > 0)["customers"].sum())
    fits = {
        model: Fit(model, status, customers, repeat, patterns.height)
        for model in CLV_FREQUENCY_MODELS
    }
    distinct = spend.select("frequency", "repeat_revenue").n_unique()
    fits[CLV_SPEND_MODEL] = Fit(CLV_SPEND_MODEL, status, customers, spend.height, distinct)
    return Fits(cutoff, fits)


def _floats(money: pl.Series) -> Floats:
    """Money as the nearest floats."""
    units: Floats = money.to_physical().cast(pl.Float64).to_numpy()
    values: Floats = units / 10**MONEY_SCALE
    return values


def _rounded(values: Floats, decimals: int) -> Integers:
    """Values that are not negative in units of 10^-decimals, half up."""
    rounded: Integers = np.floor(values * 10**decimals + 0.5).astype(np.int64)
    return rounded


def _by_pattern(
    model: FrequencyModel, summary: pl.DataFrame, horizons: Sequence[int]
) -> tuple[Floats, dict[int, Floats], dict[int, Floats]]:
    """P(alive), P(a purchase) and the expected purchases by horizon of each customer.

    The expectation is worked out once for all who share (x, T).
    """
    x, t_x, age = (summary[name].to_numpy().astype(np.float64) for name in _PATTERN)
    alive = model.alive(x, t_x, age)
    pairs, place = np.unique(
        (summary["frequency"].to_numpy() << 32) | summary["age_days"].to_numpy(),
        return_inverse=True,
    )
    pair_x, pair_age = (pairs >> 32).astype(np.float64), (pairs & 0xFFFFFFFF).astype(np.float64)
    bought, expected = {}, {}
    for days in horizons:
        bought[days] = alive * model.purchase_if_alive(pair_x, pair_age, days)[place]
        expected[days] = alive * model.purchases_if_alive(pair_x, pair_age, days)[place]
    return alive, bought, expected


def predict_holdout(customers: pl.DataFrame, fits: Fits, holdout_days: int) -> pl.DataFrame:
    """What each model predicts for the days of the test, beside what came.

    Args:
        customers: `with_holdout` of a shard.
        fits: The fits up to the test; models that have none predict nothing.
        holdout_days: Days of the test.

    Returns:
        One row per model and user: `model`, `user_id`, `frequency`, `predicted_purchases`
        (millionths), `predicted_revenue` (money, NULL where there is no spend model),
        `actual_purchases`, `actual_revenue`.
    """
    spend = fits.spend
    predictions = [_past_rate(customers, holdout_days)]
    value = None
    if spend is not None:
        value = spend.value(
            customers["frequency"].to_numpy().astype(np.float64),
            _floats(customers["repeat_revenue"]),
        )
    for model in CLV_FREQUENCY_MODELS:
        if not fits.fits[model].usable:
            continue
        _, _, expected = _by_pattern(
            FrequencyModel.of(fits.fits[model]), customers, (holdout_days,)
        )
        purchases = expected[holdout_days]
        predictions.append(
            customers.select(
                pl.lit(model).alias("model"),
                pl.Series("predicted_purchases", _rounded(purchases, 6)),
                pl.lit(None, MONEY).alias("predicted_revenue")
                if value is None
                else _two_decimals("predicted_revenue", purchases * value),
                *_ACTUAL,
            )
        )
    return pl.concat(predictions)


_ACTUAL: Final = (
    pl.col("user_id"),
    pl.col("frequency"),
    pl.col("actual_purchases"),
    pl.col("actual_revenue"),
)


def _past_rate(customers: pl.DataFrame, holdout_days: int) -> pl.DataFrame:
    """The baseline: everybody goes on as before. x / max(T, 1) · H purchases, exactly."""
    age = pl.col("age_days").clip(lower_bound=1)
    expected = pl.col("frequency") * (holdout_days * _MICRO)
    cent_days = age.cast(pl.Int128) * _CENT
    revenue = pl.col("repeat_revenue").to_physical() * holdout_days
    return customers.select(
        pl.lit(CLV_BASELINE).alias("model"),
        ((expected + age // 2) // age).alias("predicted_purchases"),
        _hundredths((revenue + cent_days // 2) // cent_days).alias("predicted_revenue"),
        *_ACTUAL,
    )


_COMPARISON: Final = (
    "customers",
    "predicted_purchases",
    "actual_purchases",
    "predicted_revenue",
    "actual_revenue",
)


def holdout_sums(predicted: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Partial aggregates of the test on a shard, which merge by adding.

    Args:
        predicted: `predict_holdout`.

    Returns:
        By name: `purchases` (customers by model, predicted and actual purchases), `revenue`
        (customers and their actual revenue by model and predicted revenue), `actual_revenue`
        (customers by actual revenue), `frequency` (sums by model and repeat purchases).
    """
    customers = pl.len().cast(pl.Int64).alias("customers")
    return {
        "purchases": predicted.group_by("model", "predicted_purchases", "actual_purchases").agg(
            customers
        ),
        "revenue": predicted.group_by("model", "predicted_revenue").agg(
            customers, pl.col("actual_revenue").sum()
        ),
        # The baseline is always there, and knows what came.
        "actual_revenue": predicted.filter(pl.col("model") == CLV_BASELINE)
        .group_by("actual_revenue")
        .agg(customers),
        "frequency": _comparison_by(
            predicted, pl.col("frequency").clip(upper_bound=CLV_MOST_FREQUENT)
        ),
    }


_KEYS: Final = {
    "purchases": ("model", "predicted_purchases", "actual_purchases"),
    "revenue": ("model", "predicted_revenue"),
    "actual_revenue": ("actual_revenue",),
    "frequency": ("model", "frequency"),
    "deciles": ("model", "decile"),
}


def merge_sums(name: str, sums: pl.DataFrame) -> pl.DataFrame:
    """The partial aggregates of a name of shards, one behind the other, as one."""
    return sums.group_by(_KEYS[name]).agg(pl.all().sum())


def _comparison_by(predicted: pl.DataFrame, key: pl.Expr) -> pl.DataFrame:
    sums = [name for name in _COMPARISON if name != "customers"]
    return predicted.group_by("model", key).agg(
        pl.len().cast(pl.Int64).alias("customers"), pl.col(sums).sum()
    )


def decile_sums(predicted: pl.DataFrame) -> pl.DataFrame:
    """Partial aggregates by `model` and `decile`, which `predicted` has; they merge by adding."""
    return _comparison_by(predicted, pl.col("decile"))


@dataclass(frozen=True)
class Validation:
    """What the test says.

    Attributes:
        rows: metrics_clv_validation.
        selected: The model with the smaller error; None where none could be tested.
        status: `ok`, or why there must be no predictions.
    """

    rows: pl.DataFrame
    selected: str | None
    status: str


def validate(
    sums: Mapping[str, pl.DataFrame], fits: Fits, split_days: Split, options: ClvOptions
) -> Validation:
    """Compare predictions with what came, and choose.

    Args:
        sums: `merge_sums` of all names; empty where there is no test.
        fits: The fits up to the test.
        split_days: The days.
        options: For the gate.
    """
    rows = {
        model: _measures(model, sums, fits, split_days)
        for model in (*CLV_FREQUENCY_MODELS, CLV_BASELINE)
    }
    tested = [model for model in CLV_FREQUENCY_MODELS if fits.fits[model].usable]
    # Of equal errors MBG/NBD's wins: it knows that customers of one purchase are lost too.
    selected = min(tested, key=lambda model: (rows[model]["rmse"], model != MBG_NBD), default=None)
    baseline = rows[CLV_BASELINE]
    for model in CLV_FREQUENCY_MODELS:
        row = rows[model]
        failed = [fits.fits[model].status]
        if model in tested:
            failed = _failed(row, baseline, options)
        row |= {"passed": not failed, "reasons": ", ".join(failed) or None}
    if split_days.holdout_days is None:
        baseline["reasons"] = fits.fits[MBG_NBD].status
    for model, row in rows.items():
        row["selected"] = model == selected
    frame = pl.DataFrame(
        list(rows.values()), schema=METRICS_CLV_VALIDATION.polars_schema(), orient="row"
    )
    if selected is None:
        return Validation(frame, None, fits.fits[MBG_NBD].status)
    reasons = rows[selected]["reasons"]
    return Validation(frame, selected, f"failed_validation: {reasons}" if reasons else OK)


def _failed(row: Mapping[str, Any], baseline: Mapping[str, Any], options: ClvOptions) -> list[str]:
    """The tests of the gate that a model does not pass."""
    passed = {
        "bias": row["bias"] is not None and abs(row["bias"]) <= options.max_bias,
        "rmse": row["rmse"] < baseline["rmse"],
        "mae": row["mae"] < baseline["mae"],
        "gini": row["gini"] is not None and row["gini"] > 0,
    }
    return [name for name, holds in passed.items() if not holds]


def _measures(
    model: str, sums: Mapping[str, pl.DataFrame], fits: Fits, split_days: Split
) -> dict[str, Any]:
    """The figures of a model in the test; NULL where there is none."""
    row: dict[str, Any] = dict.fromkeys(METRICS_CLV_VALIDATION.column_names)
    row |= {"model": model, "customers": 0}
    if split_days.holdout_days is None or not sums:
        return row
    row |= {
        "calibration_start": split_days.first_purchase,
        "calibration_end": split_days.calibration_end,
        "holdout_end": split_days.as_of,
        "holdout_days": split_days.holdout_days,
    }
    known = sums["purchases"].filter(pl.col("model") == CLV_BASELINE)
    customers = int(known["customers"].sum())
    actual = _dot(known["customers"], known["actual_purchases"])
    actual_revenue = sums["actual_revenue"]
    came = _dot(actual_revenue["customers"], actual_revenue["actual_revenue"].to_physical())
    row |= {
        "customers": customers,
        "actual_purchases": actual,
        "actual_revenue": _money(came),
    }
    of_model = pl.col("model") == model
    purchases = sums["purchases"].filter(of_model)
    if not customers or not purchases.height:
        return row
    number = purchases["customers"]
    errors = (purchases["predicted_purchases"] - purchases["actual_purchases"] * _MICRO).cast(
        pl.Int128
    )
    predicted = _dot(number, purchases["predicted_purchases"])
    squared = _dot(number, errors * errors)
    row |= {
        "predicted_purchases": predicted / _MICRO,
        "bias": _signed_rate(predicted - actual * _MICRO, actual * _MICRO),
        "mae": divide_half_up(_dot(number, errors.abs()), customers) / _MICRO,
        "rmse": ((isqrt(4 * squared // customers) + 1) // 2) / _MICRO,
        "gini": _gini(
            purchases.select(
                "customers",
                prediction="predicted_purchases",
                actual=pl.col("actual_purchases").cast(pl.Int128) * number,
            ),
            purchases.select(
                "customers",
                prediction="actual_purchases",
                actual=pl.col("actual_purchases").cast(pl.Int128) * number,
            ),
        ),
    }
    if model in fits.intervals:
        row["total_low"], row["total_high"] = fits.intervals[model]
    revenue = sums["revenue"].filter(of_model & pl.col("predicted_revenue").is_not_null())
    if revenue.height:
        expected = _dot(revenue["customers"], revenue["predicted_revenue"].to_physical())
        row |= {
            "predicted_revenue": _money(expected),
            "revenue_bias": _signed_rate(expected - came, came),
            "revenue_gini": _gini(
                revenue.select(
                    "customers",
                    prediction="predicted_revenue",
                    actual=pl.col("actual_revenue").to_physical(),
                ),
                actual_revenue.select(
                    "customers",
                    prediction=pl.col("actual_revenue").to_physical(),
                    actual=pl.col("actual_revenue").to_physical() * pl.col("customers"),
                ),
            ),
        }
    return row


def _dot(first: pl.Series, second: pl.Series) -> int:
    """The sum of products of integers, exactly."""
    return int((first.cast(pl.Int128) * second.cast(pl.Int128)).sum())


def _money(units: int) -> Decimal:
    return Decimal(units).scaleb(-MONEY_SCALE, _EXACT)


def _signed_rate(numerator: int, denominator: int) -> float | None:
    """A quotient that may be negative, six decimals, half away from zero; None by 0."""
    if not denominator:
        return None
    size = divide_half_up(abs(numerator) * _MICRO, denominator) / _MICRO
    return -size if numerator < 0 else size


def _gini(predicted: pl.DataFrame, perfect: pl.DataFrame) -> float | None:
    """The normalised Gini coefficient: 1 for the order of the actual values, about 0 for chance.

    Customers of equal predictions are one point of the Lorenz curve, so that no order among them
    is worth anything.

    Args:
        predicted: Columns `prediction`, `customers`, `actual` (Int128, the group's sum).
        perfect: The same with the actual value as prediction.

    Returns:
        Six decimals; None where all actual values are equal.
    """
    ours, best = _concentration(predicted), _concentration(perfect)
    return _signed_rate(ours, best)


def _concentration(groups: pl.DataFrame) -> int:
    """(2 · area under the Lorenz curve − 1) · customers · total, exactly."""
    ordered = (
        groups.group_by("prediction")
        .agg(pl.col("customers").sum(), pl.col("actual").sum())
        .sort("prediction", descending=True)
    )
    customers, actual = ordered["customers"].to_list(), ordered["actual"].to_list()
    before = twice_area = 0
    for number, value in zip(customers, actual, strict=True):
        twice_area += number * (2 * before + value)
        before += value
    return int(twice_area - sum(customers) * before)


def model_table(calibration: Fits, final: Fits, validation: Validation) -> pl.DataFrame:
    """The rows of model_clv."""
    rows = []
    for name, fits in (("calibration", calibration), ("final", final)):
        for model, fit in fits.fits.items():
            spend = model == CLV_SPEND_MODEL
            rows.append(
                {
                    "fit": name,
                    "model": model,
                    "cutoff_date": fits.cutoff,
                    "status": fit.status,
                    "selected": fit.usable if spend else model == validation.selected,
                    "customers": fit.customers,
                    "repeat_customers": fit.repeat_customers,
                    "distinct_patterns": fit.distinct_patterns,
                    "evaluations": fit.evaluations,
                    "log_likelihood": fit.log_likelihood,
                    **fit.parameters,
                    **{f"se_{key}": value for key, value in fit.standard_errors.items()},
                    "spend_frequency_correlation": fit.spend_frequency_correlation,
                }
            )
    return pl.DataFrame(rows, schema=MODEL_CLV.polars_schema())


def comparison_table(name: str, sums: pl.DataFrame | None, fits: Fits) -> pl.DataFrame:
    """The rows of metrics_clv_deciles or metrics_clv_frequency.

    Args:
        name: `deciles` or `frequency`.
        sums: `merge_sums` of that name; None where there is no test.
        fits: The fits up to the test.
    """
    table = {"deciles": METRICS_CLV_DECILES, "frequency": METRICS_CLV_FREQUENCY}[name]
    if sums is None:
        return table.empty_frame()
    totals = sums.join(
        sums.group_by("model").agg(
            pl.col("customers").sum().alias("all_customers"),
            pl.col("actual_revenue").sum().alias("all_revenue"),
        ),
        on="model",
    ).sort(_KEYS[name])
    lift = pl.Series(
        "lift",
        [
            _signed_rate(billionths(revenue) * everybody, billionths(everything) * number)
            for revenue, everything, number, everybody in totals.select(
                "actual_revenue", "all_revenue", "customers", "all_customers"
            ).iter_rows()
        ],
        pl.Float64,
    )
    revenue = pl.col("predicted_revenue")
    if fits.spend is None:
        revenue = pl.when(pl.col("model") == CLV_BASELINE).then(revenue)
    return table.conform(
        totals.with_columns(
            lift,
            # NumPy divides; Polars multiplies by the reciprocal, which is another number.
            pl.Series("predicted_purchases", totals["predicted_purchases"].to_numpy() / _MICRO),
            predicted_revenue=revenue,
        )
    )


def _hundredths(number: pl.Expr) -> pl.Expr:
    """A number of hundredths as money."""
    money: pl.Expr = (number.cast(pl.Decimal(38, 0)) * pl.lit(Decimal("0.01"))).cast(MONEY)
    return money


def predict_users(
    summary: pl.DataFrame, final: Fits, validation: Validation, options: ClvOptions
) -> pl.DataFrame:
    """The rows of dim_user_clv of a shard, `user_id` as a number, but for `clv_decile`.

    Args:
        summary: `summarise` at as_of.
        final: The fits up to as_of.
        validation: The model, and whether it may be used.
        options: For the discount.
    """
    model = validation.selected or MBG_NBD
    fit, spend = final.fits[model], final.spend
    status = validation.status if validation.status != OK else fit.status
    x, repeat_revenue = pl.col("frequency"), pl.col("repeat_revenue")
    columns: list[pl.Series] = []
    if status == OK:
        columns = _predictions(summary, FrequencyModel.of(fit), spend, options)
        if spend is None:
            status = f"without_value: {final.fits[CLV_SPEND_MODEL].status}"
    known = summary.with_columns(
        pl.lit(None, dtype).alias(name)
        for name, dtype in DIM_USER_CLV.polars_schema().items()
        if name not in summary.columns
    )
    return known.with_columns(
        *columns,
        avg_repeat_value=pl.when(x > 0).then(
            average_money(repeat_revenue, pl.when(x > 0).then(x).otherwise(1))
        ),
        model=pl.lit(model),
        model_status=pl.lit(status),
    ).select(DIM_USER_CLV.column_names)


def _predictions(
    summary: pl.DataFrame, model: FrequencyModel, spend: SpendModel | None, options: ClvOptions
) -> list[pl.Series]:
    """The columns of dim_user_clv that are predicted."""
    rate = options.annual_discount_rate
    steps = discount_days(max(CLV_HORIZONS)) if rate and spend else ()
    alive, bought, expected = _by_pattern(model, summary, sorted({*CLV_HORIZONS, *steps}))
    columns = [_six_decimals("p_alive", alive)]
    for days in CLV_HORIZONS:
        columns += [
            _six_decimals(f"p_purchase_{days}d", bought[days]),
            _six_decimals(f"expected_purchases_{days}d", expected[days]),
        ]
    if spend is not None:
        value = spend.value(
            summary["frequency"].to_numpy().astype(np.float64),
            _floats(summary["repeat_revenue"]),
        )
        columns.append(_two_decimals("expected_purchase_value", value))
        for days in CLV_HORIZONS:
            purchases = _discounted(expected, days, rate) if rate else expected[days]
            columns.append(_two_decimals(f"predicted_revenue_{days}d", purchases * value))
    return columns


def discount_days(horizon: int) -> tuple[int, ...]:
    """The days at which the revenue of a horizon is discounted.

    >>> discount_days(90), discount_days(100)
    ((30, 60, 90), (30, 60, 90, 100))
    """
    return (*range(_STEP_DAYS, horizon, _STEP_DAYS), horizon)


def _discounted(expected: Mapping[int, Floats], horizon: int, rate: float) -> Floats:
    """Expected purchases, each discounted to as_of."""
    total, before = np.zeros_like(expected[horizon]), np.zeros_like(expected[horizon])
    for day in discount_days(horizon):
        total += (expected[day] - before) / (1 + rate) ** (day / _YEAR_DAYS)
        before = expected[day]
    return total


def _six_decimals(name: str, values: Floats) -> pl.Series:
    return pl.Series(name, _rounded(values, 6) / _MICRO)


def _two_decimals(name: str, values: Floats) -> pl.Series:
    cents = pl.DataFrame({name: _rounded(values, 2)})
    return cents.select(_hundredths(pl.col(name)))[name]
