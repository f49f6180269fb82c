"""Predicted lifetime value over customers that are spread over shards, in passes.

1. Each shard counts its customers (`customer_counts`); `fit_customers`, once, fits all models.
2. Each shard adds up what the models predict for the days of the test, beside what came
   (`sums_of_test`); `choose_model`, once, makes tables of it and chooses.
3. Each shard predicts (`predictions`) and samples what it ranks by (`decile_samples`); deciles are
   found as those of RFM are; then each shard has its rows of dim_user_clv, the sums by decile of
   the test, and what is predicted of groups of customers.

What is sent is small: counts, sums, samples. Where customers go is up to who calls; a customer is
whole wherever there is a row of `PURCHASE_HISTORIES`. `clv_tables` takes this way in memory.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from types import MappingProxyType
from typing import Final

import numpy as np
import polars as pl

from transforms.analytics.clv import (
    Fits,
    Split,
    Validation,
    comparison_table,
    count_patterns,
    decile_sums,
    fit_models,
    holdout_sums,
    merge_patterns,
    merge_spend,
    merge_sums,
    model_table,
    predict_holdout,
    predict_users,
    sample_spend,
    split,
    summarise,
    unfitted,
    validate,
    with_holdout,
)
from transforms.analytics.lifetime_models import NO_HOLDOUT, TOO_FEW_CUSTOMERS
from transforms.analytics.predicted_groups import (
    merge_predictions,
    prediction_sums,
    prediction_table,
)
from transforms.analytics.user_days import PURCHASE_HISTORIES, purchase_days
from transforms.columnar.kernels import Integers
from transforms.columnar.money import MONEY
from transforms.columnar.ntile import (
    OrderedKeys,
    bracket_tiles,
    bracketed_keys,
    first_keys,
    order_keys,
    places_of,
    sample_keys,
)
from transforms.rules import ClvOptions
from transforms.schema import (
    CLV_BASELINE,
    CLV_DECILES,
    CLV_FREQUENCY_MODELS,
    CLV_INTERVAL_DAYS,
    DIM_USER_CLV,
    METRICS_CLV_DECILES,
    METRICS_CLV_FREQUENCY,
    METRICS_CLV_PREDICTIONS,
    METRICS_CLV_VALIDATION,
    MODEL_CLV,
)

Frames = dict[str, pl.DataFrame]

CALIBRATION: Final = "calibration"
FINAL: Final = "final"
HOLDOUT: Final = "holdout"
CUSTOMERS: Final = "customers"
DECILES: Final = "deciles"
GROUPS: Final = "groups"

_PREDICTORS: Final = (*CLV_FREQUENCY_MODELS, CLV_BASELINE)
_RANKINGS: Final = len(_PREDICTORS) + 1  # of the test, by model; and of customers, at last
_MOST_REVENUE: Final = Decimal(10**28)  # from which revenue is taken, so that the most is first

Merge = Callable[[pl.DataFrame], pl.DataFrame]

COUNT_MERGES: Final[Mapping[str, Merge]] = MappingProxyType(
    {
        f"{fit}_{name}": merge
        for fit in (CALIBRATION, FINAL)
        for name, merge in (("patterns", merge_patterns), ("spend", merge_spend))
    }
)
"""How the frames of `customer_counts` merge."""

SUM_MERGES: Final[Mapping[str, Merge]] = MappingProxyType(
    {
        name: partial(merge_sums, name)
        for name in ("purchases", "revenue", "actual_revenue", "frequency", DECILES)
    }
    | {GROUPS: merge_predictions}
)
"""How the frames of `sums_of_test` merge, and those of `DECILES` and `GROUPS`."""


# The first pass ------------------------------------------------------------------------------


def first_purchase(histories: pl.DataFrame) -> dt.date:
    """The first purchase day of some customers, at least one."""
    first: dt.date = histories["event_dates"].list.min().min()  # type: ignore[assignment]
    return first


def customer_counts(histories: pl.DataFrame, days: Split) -> Frames:
    """What the fits need of a shard, by name; empty ones are left out.

    Args:
        histories: A `PURCHASE_HISTORIES` frame.
        days: Of the fits and of the test.
    """
    bought = purchase_days(histories)
    counts = {}
    for fit, cutoff in ((CALIBRATION, days.calibration_end), (FINAL, days.as_of)):
        if cutoff is not None:
            summary = summarise(bought, cutoff)
            counts[f"{fit}_patterns"] = count_patterns(summary)
            counts[f"{fit}_spend"] = sample_spend(summary)
    return {name: frame for name, frame in counts.items() if frame.height}


@dataclass(frozen=True)
class FittedModels:
    """All models, fitted up to the test and up to as_of.

    Attributes:
        days: Of the fits and of the test.
        calibration: The fits up to the test.
        final: The fits up to as_of.
    """

    days: Split
    calibration: Fits
    final: Fits


def fit_customers(counts: Mapping[str, pl.DataFrame], days: Split) -> FittedModels:
    """Fit all models; to be done once.

    Args:
        counts: `customer_counts` of all shards, merged or not.
        days: Of the fits and of the test.
    """
    counts = {**_no_counts(), **counts}
    merged = {name: merge(counts[name]) for name, merge in COUNT_MERGES.items()}
    calibration, final = (
        (merged[f"{fit}_patterns"], merged[f"{fit}_spend"]) for fit in (CALIBRATION, FINAL)
    )
    if days.calibration_end is None or days.as_of is None:
        status = TOO_FEW_CUSTOMERS if days.first_purchase is None else NO_HOLDOUT
        return FittedModels(
            days,
            unfitted(*calibration, None, status),
            unfitted(*final, days.as_of, status),
        )
    return FittedModels(
        days,
        fit_models(*calibration, days.calibration_end, days.holdout_days),
        fit_models(*final, days.as_of, CLV_INTERVAL_DAYS),
    )


def _no_counts() -> Frames:
    summary = summarise(purchase_days(PURCHASE_HISTORIES.to_frame()), dt.date.min)
    empty = {"patterns": count_patterns(summary), "spend": sample_spend(summary)}
    return {name: empty[name.rpartition("_")[2]] for name in COUNT_MERGES}


# The second pass -----------------------------------------------------------------------------


def _tested(bought: pl.DataFrame, fitted: FittedModels) -> pl.DataFrame | None:
    """`predict_holdout` of a shard; None where there is no test."""
    cutoff, as_of, days = fitted.calibration.cutoff, fitted.days.as_of, fitted.days.holdout_days
    if cutoff is None or as_of is None or days is None:
        return None
    customers = with_holdout(summarise(bought, cutoff), bought, cutoff, as_of)
    return predict_holdout(customers, fitted.calibration, days)


def sums_of_test(histories: pl.DataFrame, fitted: FittedModels) -> Frames:
    """What the test adds up to on a shard, by name; none where there is no test.

    Args:
        histories: A `PURCHASE_HISTORIES` frame.
        fitted: `fit_customers`.
    """
    predicted = _tested(purchase_days(histories), fitted)
    return {} if predicted is None else holdout_sums(predicted)


@dataclass(frozen=True)
class TestedModels:
    """All that predicting takes.

    Attributes:
        fitted: All models.
        validation: What the test says of them, and which predicts.
    """

    __test__ = False  # no class of tests

    fitted: FittedModels
    validation: Validation


def choose_model(
    sums: Mapping[str, pl.DataFrame], fitted: FittedModels, options: ClvOptions
) -> tuple[TestedModels, Frames]:
    """Choose the model that predicts; to be done once.

    Args:
        sums: `sums_of_test` of all shards, merged or not.
        fitted: `fit_customers`.
        options: For the gate.

    Returns:
        The choice; and rows of model_clv, metrics_clv_validation and metrics_clv_frequency.
    """
    calibration = fitted.calibration
    merged = {
        name: SUM_MERGES[name](sums.get(name, empty))
        for name, empty in sums_of_test(PURCHASE_HISTORIES.to_frame(), fitted).items()
    }
    validation = validate(merged, calibration, fitted.days, options)
    tables = {
        MODEL_CLV.name: model_table(calibration, fitted.final, validation),
        METRICS_CLV_VALIDATION.name: METRICS_CLV_VALIDATION.conform(validation.rows),
        METRICS_CLV_FREQUENCY.name: comparison_table(
            "frequency", merged.get("frequency"), calibration
        ),
    }
    return TestedModels(fitted, validation), tables


# The third pass ------------------------------------------------------------------------------


def predictions(histories: pl.DataFrame, tested: TestedModels, options: ClvOptions) -> Frames:
    """What is predicted for a shard, by name: `HOLDOUT` and `CUSTOMERS`.

    Args:
        histories: A `PURCHASE_HISTORIES` frame.
        tested: `choose_model`.
        options: For the discount.

    Returns:
        `predict_holdout`, where there is a test, and `predict_users` with each one's
        `rfm_segment`: their rows may part.
    """
    bought = purchase_days(histories)
    predicted = {}
    held = _tested(bought, tested.fitted)
    if held is not None:
        predicted[HOLDOUT] = held
    if tested.fitted.days.as_of is not None:
        predicted[CUSTOMERS] = predict_users(
            summarise(bought, tested.fitted.days.as_of),
            tested.fitted.final,
            tested.validation,
            options,
        ).join(histories.select("user_id", "rfm_segment"), on="user_id")
    return predicted


def _keys_of(name: str, predicted: pl.DataFrame) -> pl.DataFrame:
    """What decides the decile of rows with predicted revenue, and the `row` of each.

    The most revenue is first, and each model of the test ranks by itself, as a snapshot does.
    """
    if name == HOLDOUT:
        revenue = pl.col("predicted_revenue")
        ranking = pl.col("model").replace_strict(
            dict(zip(_PREDICTORS, range(_RANKINGS), strict=False)), return_dtype=pl.Int32
        )
    else:
        revenue = pl.col("predicted_revenue_365d")
        ranking = pl.lit(_RANKINGS - 1, pl.Int32)
    return (
        predicted.select(
            "user_id",
            row=pl.int_range(pl.len(), dtype=pl.Int64),
            value=pl.lit(_MOST_REVENUE).cast(MONEY) - revenue,
            begin=ranking,
            end=ranking + 1,
        )
        .drop_nulls("value")
        .sort("user_id", "row")
    )


def _ordered(name: str, predicted: pl.DataFrame) -> OrderedKeys:
    return order_keys(_keys_of(name, predicted).drop("row"), _RANKINGS)


def decile_samples(name: str, predicted: pl.DataFrame) -> pl.DataFrame:
    """The samples of some of the `predictions` of a name."""
    return sample_keys(_ordered(name, predicted), CLV_DECILES)


def decile_brackets(samples: pl.DataFrame | None) -> pl.DataFrame:
    """Bracket the deciles, from all `decile_samples`; to be done once."""
    if samples is None:
        samples = sample_keys(order_keys(_no_keys(), _RANKINGS), CLV_DECILES)
    return bracket_tiles(samples, CLV_DECILES)


def _no_keys() -> pl.DataFrame:
    return pl.DataFrame(
        schema={
            "user_id": pl.Int64(),
            "value": MONEY,
            "begin": pl.Int32(),
            "end": pl.Int32(),
        }
    )


def decile_candidates(name: str, predicted: pl.DataFrame, brackets: pl.DataFrame) -> Frames:
    """The keys of some of the `predictions` of a name that may be the first of a decile."""
    keys, before = bracketed_keys(_ordered(name, predicted), brackets)
    return {"candidates": keys, "before": before}


def first_of_deciles(
    candidates: Mapping[str, pl.DataFrame], brackets: pl.DataFrame
) -> pl.DataFrame:
    """The first key of each decile, from all `decile_candidates`; to be done once."""
    empty = bracketed_keys(order_keys(_no_keys(), _RANKINGS), brackets)
    found = {**dict(zip(("candidates", "before"), empty, strict=True)), **candidates}
    return first_keys(found["candidates"], found["before"], brackets)


def _deciles(name: str, predicted: pl.DataFrame, first: pl.DataFrame) -> pl.Series:
    """The decile of each of some of the `predictions` of a name; NULL without a revenue."""
    keys = _keys_of(name, predicted)
    ordered = order_keys(keys.drop("row"), _RANKINGS)
    bounds = places_of(ordered, first["value"], first["user_id"])
    ranking, place = ordered.keys["begin"].to_numpy(), np.arange(len(ordered.rows))
    decile: Integers = np.ones(len(place), np.int64)
    for number, bound in zip(first["snapshot"], bounds, strict=True):
        decile += (ranking == number) & (place >= bound)
    deciles = np.zeros(predicted.height, np.int64)
    deciles[keys["row"].to_numpy()[ordered.rows]] = decile
    return pl.Series("decile", deciles).set(pl.Series(deciles == 0), None)


@dataclass(frozen=True)
class RankedPredictions:
    """Some of the `predictions`, ranked.

    Attributes:
        users: Rows of dim_user_clv; None of predictions for the test.
        sums: What they add up to, by name: `DECILES` of the test, `GROUPS` of customers.
    """

    users: pl.DataFrame | None
    sums: Frames


def rank_predictions(name: str, predicted: pl.DataFrame, first: pl.DataFrame) -> RankedPredictions:
    """Rank some of the `predictions` of a name by `first_of_deciles`."""
    decile = _deciles(name, predicted, first)
    if name == HOLDOUT:
        in_deciles = predicted.with_columns(decile).drop_nulls("decile")
        return RankedPredictions(None, {DECILES: decile_sums(in_deciles)})
    customers = predicted.with_columns(clv_decile=decile)
    return RankedPredictions(DIM_USER_CLV.conform(customers), {GROUPS: prediction_sums(customers)})


def group_tables(sums: Mapping[str, pl.DataFrame], tested: TestedModels) -> Frames:
    """The rows of metrics_clv_deciles and metrics_clv_predictions; to be done once.

    Args:
        sums: Those of `rank_predictions` of all shards, merged or not.
        tested: `choose_model`.
    """
    merged = {name: SUM_MERGES[name](frame) for name, frame in sums.items()}
    fitted, selected = tested.fitted, tested.validation.selected
    return {
        METRICS_CLV_DECILES.name: comparison_table(
            DECILES, merged.get(DECILES), fitted.calibration
        ),
        METRICS_CLV_PREDICTIONS.name: prediction_table(
            merged.get(GROUPS), fitted.final.intervals.get(selected) if selected else None
        ),
    }


# In memory -----------------------------------------------------------------------------------


def clv_tables(
    shards: Sequence[pl.DataFrame], as_of: dt.date | None, options: ClvOptions | None = None
) -> Frames:
    """All tables of predicted lifetime value, in memory.

    Args:
        shards: `PURCHASE_HISTORIES` frames; how many changes nothing.
        as_of: The last day known, on or after all purchases; None where there is none.
        options: How to test and discount.

    Returns:
        The frames of model_clv, metrics_clv_validation, metrics_clv_deciles,
        metrics_clv_frequency, metrics_clv_predictions and dim_user_clv, by name.
    """
    options = options or ClvOptions()
    shards = [shard for shard in shards if shard.height]
    days = split(min(map(first_purchase, shards), default=None), as_of, options)
    fitted = fit_customers(_joined(customer_counts(shard, days) for shard in shards), days)
    sums = _joined(sums_of_test(shard, fitted) for shard in shards)
    tested, tables = choose_model(sums, fitted, options)
    predicted = [part for shard in shards for part in predictions(shard, tested, options).items()]
    samples = _joined({DECILES: decile_samples(*part)} for part in predicted)
    brackets = decile_brackets(samples.get(DECILES))
    candidates = _joined(decile_candidates(*part, brackets) for part in predicted)
    first = first_of_deciles(candidates, brackets)
    ranked = [rank_predictions(*part, first) for part in predicted]
    users = [part.users for part in ranked if part.users is not None]
    tables |= group_tables(_joined(part.sums for part in ranked), tested)
    tables[DIM_USER_CLV.name] = pl.concat([DIM_USER_CLV.empty_frame(), *users])
    return tables


def _joined(parts: Iterable[Mapping[str, pl.DataFrame]]) -> Frames:
    frames: dict[str, list[pl.DataFrame]] = defaultdict(list)
    for part in parts:
        for name, frame in part.items():
            frames[name].append(frame)
    return {name: pl.concat(found) for name, found in frames.items()}
