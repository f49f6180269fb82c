"""Models of how often customers buy, when they are lost, and what they spend.

How often: BG/NBD (Fader, Hardie, Lee 2005, "Counting your customers the easy way") and MBG/NBD
(Batislam, Denizel, Filiztekin 2007), in which a customer can be lost after the first purchase too.
What a purchase brings: Gamma-Gamma (Fader, Hardie 2013, "The Gamma-Gamma model of monetary value",
brucehardie.com/notes/025). A customer is known by x, the repeat purchases; t_x, the time from the
first purchase to the last; T, the time since the first purchase.

Likelihoods are maximised over the logarithms of the parameters with exact gradients: L-BFGS-B from
fixed starts, then Newton's method, which ends at the same digits wherever it began.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.integrate import quad
from scipy.optimize import minimize
from scipy.special import (
    betaincinv,
    digamma,
    expit,
    gammaln,
    hyp2f1,
    polygamma,
)

from transforms.schema import CLV_FREQUENCY_MODELS, CLV_SPEND_MODEL, CLV_STATUSES

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

BG_NBD, MBG_NBD = CLV_FREQUENCY_MODELS

OK, NOT_CONVERGED, BOUNDARY, TOO_FEW_CUSTOMERS, NO_HOLDOUT = CLV_STATUSES

FEWEST_REPEAT_CUSTOMERS: Final = 100
FREQUENCY_PARAMETERS: Final = ("r", "alpha_days", "a", "b")
SPEND_PARAMETERS: Final = ("p", "q", "v")

_BOUND: Final = 12.0  # of a logarithm: parameters from 6e-6 to 160,000
_SAME_END: Final = 1e-6
_LAST_STEP: Final = 1e-12
_NOISE: Final = 1e-8  # steps below it that no longer shrink are rounding
_MOST_STEPS: Final = 50
_NEAR_ONE: Final = 1e-6


@dataclass(frozen=True)
class Fit:
    """A model at its likelihood's maximum, or why there is none.

    Attributes:
        model: `bg_nbd`, `mbg_nbd` or `gamma_gamma`.
        status: `ok`, or why the parameters must not be used.
        customers: Customers summarised.
        repeat_customers: Of them those with a repeat purchase; for Gamma-Gamma those it was fitted
            on.
        distinct_patterns: Distinct (x, t_x, T), or (x, revenue) for Gamma-Gamma.
        evaluations: Evaluations of the likelihood.
        log_likelihood: At the maximum, six decimals.
        parameters: By name, six significant digits: predictions use these and nothing else.
        standard_errors: By name, six significant digits.
        covariance: Of the parameters' logarithms.
        spend_frequency_correlation: Of x and m, which Gamma-Gamma takes for independent; six
            decimals.
    """

    model: str
    status: str
    customers: int = 0
    repeat_customers: int = 0
    distinct_patterns: int = 0
    evaluations: int = 0
    log_likelihood: float | None = None
    parameters: Mapping[str, float] = field(default_factory=dict)
    standard_errors: Mapping[str, float] = field(default_factory=dict)
    covariance: tuple[tuple[float, ...], ...] = ()
    spend_frequency_correlation: float | None = None

    @property
    def usable(self) -> bool:
        """True where the parameters may be used."""
        return self.status == OK


def six_significant_digits(value: float) -> float:
    """The value as it is published.

    >>> six_significant_digits(30.895214163)
    30.8952
    """
    return float(f"{value:.5e}")


@dataclass(frozen=True)
class _Derivatives:
    """A log-likelihood and its derivatives by the parameters' logarithms."""

    value: float
    gradient: Floats
    hessian: Floats


@dataclass(frozen=True)
class Patterns:
    """Counts of distinct (x, t_x, T), in a fixed order.

    Attributes:
        x: Repeat purchases.
        t_x: Time from the first purchase to the last, 0 to `age`.
        age: Time since the first purchase.
        customers: How many customers have the pattern.
    """

    x: Integers
    t_x: Integers
    age: Integers
    customers: Integers

    @property
    def floats(self) -> tuple[Floats, Floats, Floats, Floats]:
        """The four columns as floats."""
        return (
            self.x.astype(np.float64),
            self.t_x.astype(np.float64),
            self.age.astype(np.float64),
            self.customers.astype(np.float64),
        )


class _FrequencyLikelihood:
    """The log-likelihood of BG/NBD or MBG/NBD."""

    def __init__(self, model: str, patterns: Patterns) -> None:
        x, t_x, age, count = patterns.floats
        # A customer of MBG/NBD has had one more chance to be lost: after the first purchase.
        self._more = 1 if model == MBG_NBD else 0
        self._x, inverse = np.unique(x, return_inverse=True)
        self._x_count = np.bincount(inverse, count)
        self._age, inverse = np.unique(age, return_inverse=True)
        self._age_count = np.bincount(inverse, count)
        self._age_purchases = np.bincount(inverse, count * x)
        losable = (x > 0) | (self._more > 0)
        self._losable = x[losable], t_x[losable], age[losable], count[losable]

    def __call__(self, logarithms: Floats) -> _Derivatives:
        """The log-likelihood of all customers at the logarithms of (r, alpha, a, b)."""
        r, alpha, a, b = np.exp(logarithms)
        ended = self._x + self._more
        by_x, by_age = self._x_count, r * self._age_count + self._age_purchases
        total = by_x.sum()
        shifted = alpha + self._age

        x, t_x, age, count = self._losable
        at_last = alpha + t_x
        k, survived = r + x, b + x - 1 + self._more
        gap = np.log1p((age - t_x) / at_last)
        odds = math.log(a) - np.log(survived) + k * gap
        lost = expit(odds)
        slope = (t_x - age) / (at_last * (alpha + age))  # of gap by alpha

        value = math.fsum(
            (
                *(by_x * (gammaln(r + self._x) - gammaln(r) + gammaln(a + b) - gammaln(b))),
                *(by_x * (gammaln(b + ended) - gammaln(a + b + ended))),
                total * r * math.log(alpha),
                *(-by_age * np.log(shifted)),
                (count * np.logaddexp(0, odds)).sum(),
            )
        )
        first = np.array(
            [
                (by_x * (digamma(r + self._x) - digamma(r))).sum()
                + total * math.log(alpha)
                - (self._age_count * np.log(shifted)).sum(),
                total * r / alpha - (by_age / shifted).sum(),
                (by_x * (digamma(a + b) - digamma(a + b + ended))).sum(),
                (
                    by_x
                    * (digamma(a + b) - digamma(a + b + ended) + digamma(b + ended) - digamma(b))
                ).sum(),
            ]
        )
        odds_first = (gap, k * slope, np.full_like(x, 1 / a), -1 / survived)
        first += [(count * lost * derivative).sum() for derivative in odds_first]

        second = np.zeros((4, 4))
        second[0, 0] = (by_x * (_trigamma(r + self._x) - _trigamma(r))).sum()
        second[0, 1] = total / alpha - (self._age_count / shifted).sum()
        second[1, 1] = -total * r / alpha**2 + (by_age / shifted**2).sum()
        both = (by_x * (_trigamma(a + b) - _trigamma(a + b + ended))).sum()
        second[2, 2] = second[2, 3] = both
        second[3, 3] = both + (by_x * (_trigamma(b + ended) - _trigamma(b))).sum()
        odds_second = {
            (0, 1): slope,
            (1, 1): k * (1 / at_last**2 - 1 / (alpha + age) ** 2),
            (2, 2): np.full_like(x, -1 / a**2),
            (3, 3): 1 / survived**2,
        }
        spread = count * lost * (1 - lost)
        for row in range(4):
            for column in range(row, 4):
                second[row, column] += (spread * odds_first[row] * odds_first[column]).sum()
                if (row, column) in odds_second:
                    second[row, column] += (count * lost * odds_second[row, column]).sum()
        return _by_logarithms(value, first, second, np.array([r, alpha, a, b]))


class _SpendLikelihood:
    """The log-likelihood of Gamma-Gamma on customers' repeat purchases and their revenue."""

    def __init__(self, x: Floats, revenue: Floats) -> None:
        self._x, self._revenue = x, revenue
        self._distinct, self._inverse = np.unique(x, return_inverse=True)
        self._log_revenue = np.log(revenue)
        # px ln m + px ln x − ln m = px ln(xm) − ln(xm) + ln x
        self._constant = math.fsum(np.log(x) - self._log_revenue)

    def __call__(self, logarithms: Floats) -> _Derivatives:
        """The log-likelihood of all customers at the logarithms of (p, q − 1, v)."""
        p, above_one, v = np.exp(logarithms)
        q = 1 + above_one
        x, revenue, number = self._x, self._revenue, len(self._x)
        px = p * self._distinct
        shifted = revenue + v
        log_shifted = np.log(shifted)
        log_ratio = self._log_revenue - log_shifted

        gammas = (gammaln(px + q) - gammaln(px) - gammaln(q))[self._inverse]
        value = self._constant + math.fsum(
            (gammas.sum(), (p * x * log_ratio).sum(), q * (math.log(v) - log_shifted).sum())
        )
        first = np.array(
            [
                (x * ((digamma(px + q) - digamma(px))[self._inverse] + log_ratio)).sum(),
                ((digamma(px + q) - digamma(q))[self._inverse] + (math.log(v) - log_shifted)).sum(),
                (q / v - (p * x + q) / shifted).sum(),
            ]
        )
        second = np.zeros((3, 3))
        together = _trigamma(px + q)
        second[0, 0] = (x**2 * (together - _trigamma(px))[self._inverse]).sum()
        second[0, 1] = (x * together[self._inverse]).sum()
        second[0, 2] = (-x / shifted).sum()
        second[1, 1] = (together - _trigamma(q))[self._inverse].sum()
        second[1, 2] = number / v - (1 / shifted).sum()
        second[2, 2] = -number * q / v**2 + ((p * x + q) / shifted**2).sum()
        return _by_logarithms(value, first, second, np.array([p, above_one, v]))


def _trigamma(value: Floats | float) -> Floats:
    trigamma: Floats = polygamma(1, value)
    return trigamma


def _by_logarithms(value: float, first: Floats, upper: Floats, at: Floats) -> _Derivatives:
    """Derivatives by the parameters to derivatives by their logarithms."""
    second = np.triu(upper) + np.triu(upper, 1).T
    gradient = first * at
    return _Derivatives(value, gradient, second * np.outer(at, at) + np.diag(gradient))


@dataclass(frozen=True)
class _End:
    """Where a search ended."""

    logarithms: Floats
    value: float
    covariance: Floats | None  # None where the Hessian is not negative definite
    evaluations: int

    @property
    def at_bound(self) -> bool:
        return bool((np.abs(self.logarithms) >= _BOUND).any())


def _search(likelihood: Callable[[Floats], _Derivatives], start: Floats, customers: float) -> _End:
    """Climb from a start: L-BFGS-B on the mean, then Newton."""
    evaluations = 0

    def objective(logarithms: Floats) -> tuple[float, Floats]:
        nonlocal evaluations
        evaluations += 1
        found = likelihood(logarithms)
        return -found.value / customers, -found.gradient / customers

    end = minimize(
        objective,
        np.clip(start, -_BOUND, _BOUND),
        jac=True,
        method="L-BFGS-B",
        bounds=[(-_BOUND, _BOUND)] * len(start),
        options={"maxiter": 1000, "ftol": 1e-13, "gtol": 1e-7},
    )
    logarithms: Floats = end.x
    found = likelihood(logarithms)
    covariance = _covariance(found)
    before = math.inf
    for _ in range(_MOST_STEPS):
        if covariance is None or (np.abs(logarithms) >= _BOUND).any():
            break
        step = np.clip(covariance @ found.gradient, -1, 1)
        logarithms = logarithms + step
        found = likelihood(logarithms)
        covariance = _covariance(found)
        evaluations += 1
        largest = float(np.abs(step).max())
        if largest < _LAST_STEP or before <= largest < _NOISE:
            break
        before = largest
    return _End(logarithms, found.value, covariance, evaluations)


def _covariance(found: _Derivatives) -> Floats | None:
    """The inverse of the information, None where that is not positive definite."""
    # The scale of each logarithm is taken out, so that the inverse keeps its digits.
    diagonal = -np.diag(found.hessian)
    if not (np.isfinite(found.hessian).all() and (diagonal > 0).all()):
        return None
    scale = 1 / np.sqrt(diagonal)
    try:
        root = np.linalg.inv(np.linalg.cholesky(-found.hessian * np.outer(scale, scale)))
    except np.linalg.LinAlgError:
        return None
    inverse: Floats = (root.T @ root) * np.outer(scale, scale)
    return inverse


def _maximise(
    likelihood: Callable[[Floats], _Derivatives], starts: Sequence[Floats], customers: float
) -> tuple[_End, str, int]:
    """The best end of all starts, its status, and the evaluations of all searches."""
    ends = [_search(likelihood, start, customers) for start in starts]
    best = max(ends, key=lambda end: end.value)
    status = OK
    if best.at_bound:
        status = BOUNDARY
    elif best.covariance is None or any(
        np.abs(end.logarithms - best.logarithms).max() > _SAME_END for end in ends
    ):
        status = NOT_CONVERGED
    return best, status, sum(end.evaluations for end in ends)


def _published(fit: Fit, end: _End, names: Sequence[str], values: Floats, scales: Floats) -> Fit:
    """The fit with the values of an end, whose derivatives by the logarithms are `scales`."""
    parameters = {
        name: six_significant_digits(value) for name, value in zip(names, values, strict=True)
    }
    errors: dict[str, float] = {}
    covariance: tuple[tuple[float, ...], ...] = ()
    if fit.status == OK and end.covariance is not None:
        covariance = tuple(map(tuple, end.covariance.tolist()))
        deviations = scales * np.sqrt(np.diag(end.covariance))
        errors = {
            name: six_significant_digits(value)
            for name, value in zip(names, deviations, strict=True)
        }
    return replace(
        fit,
        log_likelihood=round(end.value, 6),
        parameters=parameters,
        standard_errors=errors,
        covariance=covariance,
    )


def fit_frequency(model: str, patterns: Patterns) -> Fit:
    """Fit BG/NBD or MBG/NBD.

    Args:
        model: `bg_nbd` or `mbg_nbd`.
        patterns: All customers.
    """
    total = int(patterns.customers.sum())
    repeat = int(patterns.customers[patterns.x > 0].sum())
    fit = Fit(model, TOO_FEW_CUSTOMERS, total, repeat, len(patterns.x))
    if repeat < FEWEST_REPEAT_CUSTOMERS:
        return fit
    likelihood = _FrequencyLikelihood(model, patterns)
    oldest = float(max(patterns.age.max(), 1))
    starts = [np.log([1, oldest / 4, 1, 1]), np.log([0.2, oldest, 3, 0.5])]
    end, status, evaluations = _maximise(likelihood, starts, total)
    fit = replace(fit, status=status, evaluations=evaluations)
    values = np.exp(end.logarithms)
    fit = _published(fit, end, FREQUENCY_PARAMETERS, values, values)
    # Without a third chance the expectation of BG/NBD for x = 0 has no finite value.
    if model == BG_NBD and fit.usable and fit.parameters["a"] + fit.parameters["b"] <= 1:
        fit = replace(fit, status=BOUNDARY, standard_errors={}, covariance=())
    return fit


def fit_spend(x: Integers, revenue: Floats, customers: int) -> Fit:
    """Fit Gamma-Gamma.

    Args:
        x: Repeat purchases of customers, above 0; the customers in a fixed order.
        revenue: Of their repeat purchases together, above 0.
        customers: Customers with and without repeat purchases.
    """
    fit = Fit(CLV_SPEND_MODEL, TOO_FEW_CUSTOMERS, customers, len(x))
    if len(x) < FEWEST_REPEAT_CUSTOMERS:
        return replace(fit, distinct_patterns=_distinct(x, revenue))
    mean = math.fsum(revenue / x) / len(x)
    # In units of the mean purchase, so that no currency is nearer to a bound than another.
    likelihood = _SpendLikelihood(x.astype(np.float64), revenue / mean)
    end, status, evaluations = _maximise(likelihood, [np.log([6, 2.7, 0.5])], len(x))
    p, above_one, v = np.exp(end.logarithms)
    fit = replace(
        fit,
        status=status,
        distinct_patterns=_distinct(x, revenue),
        evaluations=evaluations,
        spend_frequency_correlation=_correlation(x.astype(np.float64), revenue / x),
    )
    return _published(
        fit,
        replace(end, value=end.value - len(x) * math.log(mean)),
        SPEND_PARAMETERS,
        np.array([p, 1 + above_one, v * mean]),
        np.array([p, above_one, v * mean]),
    )


def _distinct(x: Integers, revenue: Floats) -> int:
    """The number of distinct pairs."""
    order = np.lexsort((revenue, x))
    x, revenue = x[order], revenue[order]
    return min(len(x), 1) + int(((np.diff(x) != 0) | (np.diff(revenue) != 0)).sum())


def _correlation(first: Floats, second: Floats) -> float | None:
    """Pearson's correlation, six decimals; sums are exact, so that no order matters."""
    first = first - math.fsum(first) / len(first)
    second = second - math.fsum(second) / len(second)
    deviations = math.sqrt(math.fsum(first**2) * math.fsum(second**2))
    return round(math.fsum(first * second) / deviations, 6) if deviations else None


@dataclass(frozen=True)
class FrequencyModel:
    """BG/NBD or MBG/NBD at given parameters.

    Attributes:
        model: `bg_nbd` or `mbg_nbd`.
        r: Shape of the purchase rates' gamma distribution.
        alpha: Its rate, in the unit of time.
        a: First shape of the beta distribution of the chance to be lost after a purchase.
        b: Its second shape.
    """

    model: str
    r: float
    alpha: float
    a: float
    b: float

    @classmethod
    def of(cls, fit: Fit) -> FrequencyModel:
        """The model at a fit's published parameters."""
        return cls(fit.model, *(fit.parameters[name] for name in FREQUENCY_PARAMETERS))

    @property
    def logarithms(self) -> Floats:
        """The parameters' logarithms."""
        return np.log([self.r, self.alpha, self.a, self.b])

    def alive(self, x: Floats, t_x: Floats, age: Floats) -> Floats:
        """P(alive): the probability that customers are not lost."""
        more = 1 if self.model == MBG_NBD else 0
        survived = np.where(x + more > 0, self.b + x - 1 + more, 1)
        gap = np.log1p((age - t_x) / (self.alpha + t_x))
        odds = math.log(self.a) - np.log(survived) + (self.r + x) * gap
        return np.where(x + more > 0, expit(-odds), 1.0)

    def purchase_if_alive(self, x: Floats, age: Floats, horizon: float) -> Floats:
        """The probability of a purchase within a horizon of customers who are not lost."""
        bought: Floats = -np.expm1(-(self.r + x) * np.log1p(horizon / (self.alpha + age)))
        return bought

    def purchases_if_alive(self, x: Floats, age: Floats, horizon: float) -> Floats:
        """The expected purchases within a horizon of customers who are not lost.

        (a + B − 1) / (a − 1) · (1 − (A/(A+h))^k · 2F1(k, B; a+B−1; h/(A+h))) with A = alpha + T,
        k = r + x, B = b + x + 1 (BG/NBD: b + x). With a below 2 the series is taken after Euler's
        transformation, 2F1(a+B−1−k, a−1; a+B−1; h/(A+h)) · (A/(A+h))^(a−1), whose rounding
        vanishes with a − 1. The few places where neither keeps its digits are integrated.
        """
        if horizon <= 0:
            return np.zeros_like(x)
        a = self.a if self.a != 1 else 1 + _NEAR_ONE
        scale = self.alpha + age
        k, survived = self.r + x, self.b + x + (1 if self.model == MBG_NBD else 0)
        c, above = a + survived - 1, a - 1
        z, growth = horizon / (scale + horizon), np.log1p(horizon / scale)
        euler = a < 2  # noqa: PLR2004 - where both forms keep all digits
        with np.errstate(all="ignore"):  # what overflows is found below
            if euler:
                rest = np.exp(-above * growth) * hyp2f1(c - k, above, c, z)
            else:
                rest = np.exp(-k * growth) * hyp2f1(k, survived, c, z)
            expected = c / above * (1 - rest)
        # Nobody buys more often than who cannot be lost.
        most = k * horizon / scale
        rounding = _ROUNDING * (1 + most)
        doubtful = ~((expected > -rounding) & (expected < most + rounding))  # NaN too
        doubtful |= c / abs(above) > _DOUBTFUL_FACTOR
        doubtful |= euler & (k - c > _DOUBTFUL_DEGREE)
        for place in np.flatnonzero(doubtful):
            expected[place] = _mean_over_losses(
                a, survived[place], k[place], horizon / scale[place]
            )
        within: Floats = np.clip(expected, 0, most)
        return within

    def purchases(self, x: Floats, t_x: Floats, age: Floats, horizon: float) -> Floats:
        """The expected purchases of customers within a horizon."""
        return self.alive(x, t_x, age) * self.purchases_if_alive(x, age, horizon)


_ROUNDING: Final = 1e-8
_DOUBTFUL_FACTOR: Final = 1e9  # what is lost in 1 − rest comes back multiplied by it
_DOUBTFUL_DEGREE: Final = 50  # a polynomial of alternating terms of this degree loses digits


def _mean_over_losses(a: float, survived: float, k: float, ratio: float) -> float:
    """The mean of (1 − (1 + p·ratio)^−k) / p over Beta(p; a, survived): the purchases expected."""

    def purchases(probability: float) -> float:
        p = betaincinv(a, survived, probability)
        return float(-math.expm1(-k * math.log1p(p * ratio)) / p) if p > 0 else k * ratio

    # With its full output quad keeps warnings to itself; the last digits are not needed.
    mean, *_ = quad(purchases, 0, 1, epsabs=1e-9, epsrel=1e-9, limit=500, full_output=True)
    return float(mean)


@dataclass(frozen=True)
class SpendModel:
    """Gamma-Gamma at given parameters.

    Attributes:
        p: Shape of a customer's purchase values.
        q: Shape of the gamma distribution of their rates, above 1.
        v: Its rate, in money.
    """

    p: float
    q: float
    v: float

    @classmethod
    def of(cls, fit: Fit) -> SpendModel:
        """The model at a fit's published parameters."""
        return cls(*(fit.parameters[name] for name in SPEND_PARAMETERS))

    def value(self, x: Floats, revenue: Floats) -> Floats:
        """The expected value of a purchase, (p·v + p·x·m) / (p·x + q − 1).

        Args:
            x: Repeat purchases; without one it is everybody's mean.
            revenue: Of the repeat purchases together, x·m.
        """
        value: Floats = self.p * (self.v + revenue) / (self.p * x + self.q - 1)
        return value


def interval_of_total(fit: Fit, patterns: Patterns, horizon: float) -> tuple[float, float]:
    """The 95 % interval of all customers' expected purchases, by the delta method.

    It holds what the parameters leave open, not the chance in what customers do.

    Returns:
        Its ends, six significant digits.
    """
    centre = FrequencyModel.of(fit)
    x, t_x, age, customers = patterns.floats

    def total(logarithms: Floats) -> float:
        model = FrequencyModel(fit.model, *np.exp(logarithms).tolist())
        return math.fsum(customers * model.purchases(x, t_x, age, horizon))

    slopes = np.array(
        [
            (total(centre.logarithms + step) - total(centre.logarithms - step)) / (2 * _DIFFERENCE)
            for step in np.eye(len(FREQUENCY_PARAMETERS)) * _DIFFERENCE
        ]
    )
    deviation = math.sqrt(slopes @ np.array(fit.covariance) @ slopes)
    expected = total(centre.logarithms)
    low, high = expected - _NORMAL_95 * deviation, expected + _NORMAL_95 * deviation
    return six_significant_digits(max(low, 0)), six_significant_digits(high)


_DIFFERENCE: Final = 1e-4
_NORMAL_95: Final = 1.959963984540054
