"""A side input that an engine loses fails the prediction; the tables would be wrong without it."""

import polars as pl
import pytest
from apache_beam.pvalue import TaggedOutput

from benchmarks.clv import LAST_DAY, simulated_purchase_days
from transforms.analytics.clv import split
from transforms.analytics.lifetime_value import (
    CUSTOMERS,
    choose_model,
    customer_counts,
    first_purchase,
    fit_customers,
    sums_of_test,
)
from transforms.analytics.user_days import purchase_histories
from transforms.errors import RunError
from transforms.rules import ClvOptions, Rules
from transforms.shuffle.stores import InlineStore, store_frames
from transforms.steps.lifetime_value import (
    BracketDeciles,
    ChooseModel,
    CountCustomers,
    DescribeGroups,
    FindDecileCandidates,
    FitModels,
    Predict,
    RankPredictions,
    ResolveDeciles,
    SplitDays,
    TestModels,
)

STORE = InlineStore()
OPTIONS = ClvOptions()
PURCHASE_DAYS = simulated_purchase_days(4_000, 2).with_columns(purchases=1)
HISTORIES = purchase_histories(
    PURCHASE_DAYS.sort("user_id", "event_date"),
    PURCHASE_DAYS.select("user_id", rfm_segment=pl.lit("Champions")).unique(),
)
DAYS = split(first_purchase(HISTORIES), LAST_DAY, OPTIONS)
FITTED = fit_customers(customer_counts(HISTORIES, DAYS), DAYS)
TESTED, _ = choose_model(sums_of_test(HISTORIES, FITTED), FITTED, OPTIONS)
(PURCHASES,) = store_frames(STORE, {"purchases": HISTORIES})
OUTPUTS = list(Predict(OPTIONS, STORE).process(PURCHASES, [TESTED]))
PREDICTED = [output for output in OUTPUTS if not isinstance(output, TaggedOutput)]
SAMPLES = [output.value for output in OUTPUTS if isinstance(output, TaggedOutput)]
BRACKETS = list(BracketDeciles(STORE).process(None, SAMPLES))


@pytest.mark.parametrize(
    ("step", "arguments"),
    [
        (SplitDays(Rules(), STORE), (None, [DAYS.first_purchase], [])),
        (CountCustomers(STORE), (PURCHASES, [])),
        (CountCustomers(STORE), (PURCHASES, [split(None, LAST_DAY, OPTIONS)])),
        (FitModels(STORE), (None, [], [DAYS])),
        (FitModels(STORE), (None, store_frames(STORE, customer_counts(HISTORIES, DAYS)), [])),
        (TestModels(STORE), (PURCHASES, [])),
        (ChooseModel(OPTIONS, STORE), (None, [], [FITTED])),
        (ChooseModel(OPTIONS, STORE), (None, [], [])),
        (Predict(OPTIONS, STORE), (PURCHASES, [])),
        (FindDecileCandidates(STORE), (PREDICTED[0], [])),
        (ResolveDeciles(STORE), (None, [], [])),
        (ResolveDeciles(STORE), (None, BRACKETS, [])),
        (RankPredictions(STORE), (PREDICTED[0], [])),
        (DescribeGroups(STORE), (None, [], [TESTED])),
        (DescribeGroups(STORE), (None, [], [])),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "process") else "",
)
def test_what_was_lost_fails_the_run(step, arguments):
    with pytest.raises(RunError, match="lost a side input"):
        list(step.process(*arguments))


def test_with_all_side_inputs_predictions_are_ranked():
    candidates = [
        candidate
        for payload in PREDICTED
        for candidate in FindDecileCandidates(STORE).process(payload, BRACKETS)
    ]
    first = list(ResolveDeciles(STORE).process(None, BRACKETS, candidates))
    (payload,) = (payload for payload in PREDICTED if payload[0] == CUSTOMERS)
    (name, rows, _), sums = RankPredictions(STORE).process(payload, first)
    assert name == "dim_user_clv"
    assert set(rows["clv_decile"]) == set(range(1, 11))
    stored = store_frames(STORE, dict([sums.value]))
    tables = {name: rows for name, rows, _ in DescribeGroups(STORE).process(None, stored, [TESTED])}
    assert tables["metrics_clv_predictions"].height == 12  # all, a segment, ten deciles
