"""The models against published answers, quadrature, differences and simulated customers."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.special import betaln

from transforms.analytics import lifetime_models
from transforms.analytics.lifetime_models import (
    BG_NBD,
    BOUNDARY,
    FREQUENCY_PARAMETERS,
    MBG_NBD,
    NOT_CONVERGED,
    OK,
    SPEND_PARAMETERS,
    TOO_FEW_CUSTOMERS,
    FrequencyModel,
    Patterns,
    SpendModel,
    fit_frequency,
    fit_spend,
    interval_of_total,
    six_significant_digits,
)
from transforms.schema import CLV_FREQUENCY_MODELS

BG_WEEKLY = FrequencyModel(BG_NBD, 0.243, 4.414, 0.793, 2.426)
MBG_WEEKLY = FrequencyModel(MBG_NBD, 0.525, 6.183, 0.891, 1.614)


def columns(*customers):
    return tuple(np.array(column, float) for column in zip(*customers, strict=True))


def test_the_published_customer_of_bg_nbd():
    x, t_x, age = columns((2, 30.43, 38.86))
    assert BG_WEEKLY.alive(x, t_x, age) == pytest.approx([0.7265785701], abs=1e-10)
    assert BG_WEEKLY.purchases(x, t_x, age, 39) == pytest.approx([1.226028175], abs=1e-9)


def test_customers_of_mbg_nbd():
    x, t_x, age = columns((2, 30.43, 38.86), (0, 0, 38.86))
    alive = MBG_WEEKLY.alive(x, t_x, age)
    assert alive == pytest.approx([0.7062022651, 0.3897350809], abs=1e-10)
    expected = MBG_WEEKLY.purchases(x, t_x, age, 39)
    assert expected == pytest.approx([1.262960623, 0.1540127467], abs=1e-9)
    bought = alive * MBG_WEEKLY.purchase_if_alive(x, age, 39)
    assert bought == pytest.approx([0.5599940908, 0.1088293988], abs=1e-10)


@pytest.mark.parametrize(
    ("weeks", "expected"),
    [
        (0.1429, 0.007828),
        (1, 0.053268),
        (3, 0.150865),
        (31.8571, 1.041996),
        (32, 1.045243),
        (78, 1.860519),
    ],
)
def test_a_new_customer_of_bg_nbd(weeks, expected):
    # E[X(t)] of a new customer is that of one with x = 0 whose time has just begun.
    x, age = np.zeros(1), np.zeros(1)
    assert BG_WEEKLY.purchases(x, age, age, weeks) == pytest.approx([expected], abs=5e-7)


def integrated(model: FrequencyModel, x: float, age: float, horizon: float) -> float:
    """E[Y(h)] of who is not lost, ∫ Beta(p; a, B)·(1 − (A/(A+ph))^k)/p dp, by tanh-sinh."""
    a = 1 + 1e-6 if model.a == 1 else model.a  # as the closed form reads it
    survived = model.b + x + (model.model == MBG_NBD)
    k, ratio = model.r + x, horizon / (model.alpha + age)
    u = np.arange(-9, 9, 1 / 256)
    t = np.pi * np.sinh(u)
    log_p, log_rest = -np.logaddexp(0, -t), -np.logaddexp(0, t)
    p = np.exp(np.maximum(log_p, -700))
    purchases = -np.expm1(-k * np.log1p(p * ratio)) / p
    density = np.exp(a * log_p + survived * log_rest - betaln(a, survived))
    return float((density * purchases * np.pi * np.cosh(u)).sum() / 256)


def log_uniform(low: float, high: float):
    return st.floats(math.log(low), math.log(high)).map(math.exp)


NEAR_ONE = st.builds(
    lambda exponent, sign: 1 + sign * 10**exponent, st.floats(-6, -1), st.sampled_from([-1, 1])
)


@settings(max_examples=300)
@given(
    model=st.sampled_from(CLV_FREQUENCY_MODELS),
    r=log_uniform(0.05, 20),
    alpha=log_uniform(0.5, 1000),
    a=log_uniform(0.05, 150) | NEAR_ONE | st.just(1.0),
    b=log_uniform(0.05, 1000),
    x=st.integers(0, 5) | st.integers(0, 1000),
    age=st.integers(0, 300) | st.integers(0, 3650),
    horizon=st.sampled_from([1, 30, 90, 182, 365]),
)
@example(MBG_NBD, 0.5, 40, 1.0, 1.6, 1000, 1000, 365)
@example(MBG_NBD, 0.5, 0.5, 0.5, 1.6, 0, 0, 365)
# Where scipy's 2F1 is not a number or has lost half its digits.
@example(MBG_NBD, 942, 0.569, 7.645, 24_800, 147, 147, 365)
@example(MBG_NBD, 671.4, 11.08, 1.0, 0.0092, 514, 1419, 30)
@example(MBG_NBD, 0.01461, 0.1754, 1.0, 103_800, 2, 5, 30)
def test_the_closed_form_is_the_integral(  # noqa: PLR0917
    model, r, alpha, a, b, x, age, horizon
):
    x = min(x, age)
    if model == BG_NBD and a + b <= 1.01:
        b += 1
    at = FrequencyModel(model, r, alpha, a, b)
    (expected,) = at.purchases_if_alive(np.array([float(x)]), np.array([float(age)]), horizon)
    assert expected == pytest.approx(integrated(at, x, age, horizon), rel=1e-6, abs=1e-7)


LOGARITHMS = st.floats(-11.9, 11.9).map(math.exp)


@settings(max_examples=100)
@given(
    model=st.sampled_from(CLV_FREQUENCY_MODELS),
    r=LOGARITHMS,
    alpha=LOGARITHMS,
    a=LOGARITHMS | NEAR_ONE,
    b=LOGARITHMS,
    x=st.integers(0, 1000),
    age=st.integers(0, 3650),
    since=st.integers(0, 3650),
    horizon=st.sampled_from([1, 30, 365]),
)
@example(BG_NBD, 0.00001, 150_000, 150_000, 150_000, 1000, 3650, 0, 365)
@example(MBG_NBD, 900, 10, 1.7, 86_000, 0, 20, 0, 30)
@example(MBG_NBD, 942, 0.57, 7.6, 24_800, 147, 147, 0, 365)
def test_any_parameters_give_finite_predictions(  # noqa: PLR0917
    model, r, alpha, a, b, x, age, since, horizon
):
    x, t_x = float(min(x, age)), float(max(min(x, age), age - since) if x else 0)
    if model == BG_NBD and a + b <= 1:
        b += 1
    at = FrequencyModel(model, r, alpha, a, b)
    customer = np.array([x]), np.array([t_x]), np.array([float(age)])
    (alive,) = at.alive(*customer)
    (bought,) = at.purchase_if_alive(customer[0], customer[2], horizon)
    (expected,) = at.purchases_if_alive(customer[0], customer[2], horizon)
    assert 0 <= alive <= 1
    assert 0 <= bought <= 1
    most = (r + x) * horizon / (alpha + age)
    assert bought * (1 - 1e-4) - 1e-4 <= expected <= most * (1 + 1e-6)


def test_an_expectation_of_no_days_is_zero():
    assert MBG_WEEKLY.purchases(np.ones(2), np.ones(2), np.ones(2), 0).tolist() == [0, 0]


def some_patterns() -> Patterns:
    random = np.random.default_rng(3)
    age = random.integers(0, 200, 400)
    x = np.minimum(random.poisson(1.5, 400), age)
    t_x = np.where(x > 0, np.maximum(x, (age * random.random(400)).astype(int)), 0)
    return Patterns(x, t_x, age, random.integers(1, 9, 400))


FREQUENCY_POINTS = [(0.5, 40, 0.9, 1.6), (0.01, 0.1, 1, 0.01), (30, 4000, 60, 200)]


def likelihoods():
    for model in CLV_FREQUENCY_MODELS:
        for point in FREQUENCY_POINTS:
            yield lifetime_models._FrequencyLikelihood(model, some_patterns()), np.log(point)
    random = np.random.default_rng(4)
    x = random.integers(1, 9, 300).astype(float)
    spend = lifetime_models._SpendLikelihood(x, x * random.gamma(3, 0.3, 300))
    for point in ((6, 2.7, 0.5), (0.1, 0.01, 3), (40, 30, 20)):
        yield spend, np.log(point)


@pytest.mark.parametrize(("likelihood", "at"), list(likelihoods()))
def test_derivatives_are_those_of_differences(likelihood, at):
    found = likelihood(at)
    step = 1e-5
    for place, unit in enumerate(np.eye(len(at))):
        high, low = likelihood(at + step * unit), likelihood(at - step * unit)
        slope = (high.value - low.value) / (2 * step)
        size = abs(found.value) * 1e-8
        assert found.gradient[place] == pytest.approx(slope, rel=1e-6, abs=size)
        bend = (high.gradient - low.gradient) / (2 * step)
        size = np.abs(found.hessian).max() * 1e-7
        assert found.hessian[place] == pytest.approx(bend, rel=1e-6, abs=size)


def simulated(model: str, parameters, customers: int, seed: int) -> Patterns:
    """Customers in continuous time, as the model has them; days would make them more regular."""
    random = np.random.default_rng(seed)
    r, alpha, a, b = parameters
    rate, loss = random.gamma(r, 1 / alpha, customers), random.beta(a, b, customers)
    age = random.uniform(50, 400, customers)
    x, t_x, when = np.zeros(customers), np.zeros(customers), np.zeros(customers)
    buying = np.arange(customers)
    if model == MBG_NBD:
        buying = buying[random.random(customers) >= loss]
    while len(buying):
        when[buying] += random.exponential(1 / rate[buying])
        buying = buying[when[buying] < age[buying]]
        x[buying] += 1
        t_x[buying] = when[buying]
        buying = buying[random.random(len(buying)) >= loss[buying]]
    return Patterns(x, t_x, age, np.ones(customers, np.int64))


@pytest.mark.parametrize("model", CLV_FREQUENCY_MODELS)
def test_parameters_of_simulated_customers_come_back(model):
    parameters, distances = np.array([0.6, 25.0, 0.8, 2.5]), []
    for seed in range(8):
        fit = fit_frequency(model, simulated(model, parameters, 8_000, seed))
        assert fit.status == OK
        found = np.array([fit.parameters[name] for name in FREQUENCY_PARAMETERS])
        errors = np.array([fit.standard_errors[name] for name in FREQUENCY_PARAMETERS])
        assert (np.abs(found - parameters) < 4 * errors).all()
        assert (errors < parameters / 2).all()
        off = np.log(found / parameters)
        distances.append(off @ np.linalg.inv(fit.covariance) @ off)
    # The distance is chi-squared with 4 degrees of freedom, if the covariance is right.
    assert 2 < np.mean(distances) < 8


@pytest.mark.parametrize("seed", range(3))
def test_parameters_of_simulated_spenders_come_back(seed):
    random = np.random.default_rng(seed)
    p, q, v = 6.25, 3.74, 15.44
    x = random.geometric(0.4, 20_000)
    revenue = random.gamma(p * x, 1 / random.gamma(q, 1 / v, 20_000))
    fit = fit_spend(x, revenue, 50_000)
    assert (fit.status, fit.customers, fit.repeat_customers) == (OK, 50_000, 20_000)
    for name, true in zip(SPEND_PARAMETERS, (p, q, v), strict=True):
        assert abs(fit.parameters[name] - true) < 3 * fit.standard_errors[name], name
    assert abs(fit.spend_frequency_correlation) < 0.03


def test_the_fit_does_not_depend_on_the_currency():
    random = np.random.default_rng(7)
    x = random.geometric(0.4, 2_000)
    revenue = random.gamma(6 * x, 1 / random.gamma(4, 1 / 15, 2_000))
    cheap, dear = fit_spend(x, revenue, 2_000), fit_spend(x, revenue * 1e7, 2_000)
    assert dear.status == OK
    assert dear.parameters["q"] == cheap.parameters["q"]
    assert dear.parameters["v"] == pytest.approx(cheap.parameters["v"] * 1e7, rel=1e-5)


def test_the_interval_is_that_of_the_parameters_covariance():
    patterns = simulated(MBG_NBD, (0.6, 25.0, 0.8, 2.5), 5_000, 1)
    fit = fit_frequency(MBG_NBD, patterns)
    low, high = interval_of_total(fit, patterns, 90)
    # Parameters drawn from the covariance give the same interval.
    random = np.random.default_rng(2)
    drawn = random.multivariate_normal(
        np.log([fit.parameters[name] for name in FREQUENCY_PARAMETERS]), fit.covariance, 300
    )
    totals = [
        FrequencyModel(MBG_NBD, *np.exp(values)).purchases(*patterns.floats[:3], 90).sum()
        for values in drawn
    ]
    assert high - low == pytest.approx(2 * 1.96 * np.std(totals), rel=0.15)
    assert (high + low) / 2 == pytest.approx(np.mean(totals), rel=0.01)


def test_too_few_repeat_customers_are_not_fitted():
    patterns = Patterns(*(np.array(column) for column in ([0, 1], [0, 5], [30, 30], [900, 99])))
    fit = fit_frequency(BG_NBD, patterns)
    assert (fit.status, fit.customers, fit.repeat_customers) == (TOO_FEW_CUSTOMERS, 999, 99)
    assert not fit.parameters
    assert fit_spend(np.ones(99, np.int64), np.ones(99), 999).status == TOO_FEW_CUSTOMERS


def test_customers_who_do_not_differ_have_no_inner_maximum():
    # Everybody buys every tenth day: the rates' distribution narrows without end.
    age = np.arange(100, 300, 10)
    patterns = Patterns(age // 10, age, age, np.full(len(age), 50))
    fit = fit_frequency(MBG_NBD, patterns)
    assert fit.status == BOUNDARY
    assert not fit.standard_errors


def test_equal_amounts_have_no_inner_maximum():
    x = np.full(200, 2)
    fit = fit_spend(x, x * 10.0, 200)
    assert fit.status in {BOUNDARY, NOT_CONVERGED}
    assert fit.spend_frequency_correlation is None


def quartic(logarithms):
    """Two maxima, at ±1 + a little; the second derivative between them is positive."""
    (at,) = logarithms
    value = -((at**2 - 1) ** 2) + at / 100
    return lifetime_models._Derivatives(
        value, np.array([-4 * at * (at**2 - 1) + 0.01]), np.array([[4 - 12 * at**2]])
    )


def test_two_ends_are_not_one_answer():
    starts = [np.array([-0.5]), np.array([0.5])]
    best, status, _ = lifetime_models._maximise(quartic, starts, 1)
    assert status == NOT_CONVERGED
    assert best.logarithms == pytest.approx([1.00125], abs=1e-5)
    _, status, _ = lifetime_models._maximise(quartic, starts[1:], 1)
    assert status == OK


def test_a_flat_likelihood_has_no_answer():
    def flat(logarithms):
        return lifetime_models._Derivatives(0.0, np.zeros(2), np.zeros((2, 2)))

    _, status, _ = lifetime_models._maximise(flat, [np.zeros(2)], 1)
    assert status == NOT_CONVERGED


def test_bg_nbd_whose_expectation_breaks_is_not_used():
    patterns = simulated(BG_NBD, (0.6, 25.0, 0.3, 0.4), 20_000, 5)
    fit = fit_frequency(BG_NBD, patterns)
    assert fit.parameters["a"] + fit.parameters["b"] <= 1
    assert fit.status == BOUNDARY
    assert not fit.standard_errors


def test_values_of_purchases():
    model = SpendModel(6.25, 3.74, 15.44)
    one_time, repeat = model.value(np.array([0.0, 2.0]), np.array([0.0, 100.0]))
    assert one_time == pytest.approx(6.25 * 15.44 / 2.74)
    assert repeat == pytest.approx((6.25 * 15.44 + 6.25 * 100) / (12.5 + 2.74))


def test_six_digits():
    assert six_significant_digits(123_456.7) == 123_457
    assert six_significant_digits(0.000_012_345_67) == 0.000_012_345_7
