"""Which days are unlike those before: each against the same weekdays that were as usual.

Days are judged in order of time, and one that is odd or incomplete is no part of what later days
are compared with. All figures are whole millionths, as Python's integers in arrays of objects:
exact at any size. Each is rounded before the next is made of it, half away from zero, so that a
row can be worked out again from what it shows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from transforms.columnar.kernels import Flags, Integers

Objects = npt.NDArray[np.object_]
"""Whole millionths; None where there is no value."""

ONE: Final = 1_000_000
"""Millionths of one."""

MOST_BASELINE_DAYS: Final = 8
"""Days of the same weekday that one is compared with, the latest ones."""

FEWEST_BASELINE_DAYS: Final = 4
"""With fewer a day is not judged."""

_NORMAL: Final = (14_826, 10_000)  # makes a median distance a standard deviation
_LEAST_SHARE: Final = 20  # of what is expected, a day is off by one in so many
_SCORE: Final = (7, 2)  # beyond 3.5
_SHARE: Final = 5  # and by a fifth of what is expected
_WEEK: Final = 7

_root = np.frompyfunc(math.isqrt, 1, 1)


@dataclass(frozen=True)
class Judgement:
    """What is said of each day (column) of each series (row).

    Attributes:
        baseline_days: Days of the baseline.
        expected: Their median; like `scale`, `lower`, `upper` None where they are too few.
        scale: What a usual day is off by.
        lower: The smallest value that is as usual.
        upper: The largest.
        score: How many scales the value is off; None also where it is not judged.
        is_anomaly: Whether the day is odd.
    """

    baseline_days: Integers
    expected: Objects
    scale: Objects
    lower: Objects
    upper: Objects
    score: Objects
    is_anomaly: Flags


def judge(
    values: Objects, weekdays: Integers, is_count: Flags, *, last_is_complete: bool
) -> Judgement:
    """Judge every day of some series, all in the order of the days.

    Args:
        values: A row for each series, a column for each day, not negative.
        weekdays: Of each day, from 0 to 6.
        is_count: Of each series, whether it counts things, which vary by the root of their number.
        last_is_complete: Whether the last day is whole; else it is not judged.
    """
    series, days = values.shape
    expected, scale, lower, upper, score = np.full((5, series, days), None, np.object_)
    found = Judgement(
        np.zeros((series, days), np.int64),
        expected,
        scale,
        lower,
        upper,
        score,
        np.zeros((series, days), np.bool_),
    )
    kept = np.full((_WEEK, series, MOST_BASELINE_DAYS), math.inf, np.object_)
    counts = np.zeros((_WEEK, series), np.int64)
    for day, weekday in enumerate(weekdays):
        seen = counts[weekday]
        found.baseline_days[:, day] = np.minimum(seen, MOST_BASELINE_DAYS)
        has_value = values[:, day] != None  # noqa: E711 # of each object in the array
        is_judged = last_is_complete or day < days - 1
        rows = np.flatnonzero(seen >= FEWEST_BASELINE_DAYS)
        _expect(found, day, rows, kept[weekday], is_count)
        if is_judged:
            _compare(found, day, rows[has_value[rows]], values)
            usual = np.flatnonzero(has_value & ~found.is_anomaly[:, day])
            kept[weekday, usual, seen[usual] % MOST_BASELINE_DAYS] = values[usual, day]
            counts[weekday, usual] += 1
    return found


def _expect(found: Judgement, day: int, rows: Any, kept: Objects, is_count: Flags) -> None:
    """Set what is expected of a day of the series with a baseline."""
    lengths = found.baseline_days[rows, day]
    expected = _medians(kept[rows], lengths)
    distances = _medians(abs(kept[rows] - expected[:, None]), lengths)
    numerator, denominator = _NORMAL
    scale = np.maximum(
        _divided(distances * numerator, denominator), _divided(expected, _LEAST_SHARE)
    )
    scale = np.where(is_count[rows], np.maximum(scale, _rounded_root(expected * ONE)), scale)
    numerator, denominator = _SCORE
    off = np.maximum(_divided(scale * numerator, denominator), _divided(expected, _SHARE))
    found.expected[rows, day] = expected
    found.scale[rows, day] = scale
    found.lower[rows, day] = np.maximum(expected - off, 0)
    found.upper[rows, day] = expected + off


def _compare(found: Judgement, day: int, rows: Any, values: Objects) -> None:
    """Set the scores of a day of the series with a baseline and a value."""
    rows = rows[found.scale[rows, day] > 0]
    expected, scale = found.expected[rows, day], found.scale[rows, day]
    off = values[rows, day] - expected
    size = abs(off)
    score = _divided(size * ONE, scale)
    numerator, denominator = _SCORE
    is_odd = (score * denominator > numerator * ONE) & (size * _SHARE >= expected)
    found.score[rows, day] = np.where(off < 0, -score, score)
    found.is_anomaly[rows, day] = is_odd.astype(np.bool_)


def _medians(values: Objects, lengths: Integers) -> Objects:
    """The median of each row's numbers, which are so many, beside infinities."""
    in_order, rows = np.sort(values, axis=1), np.arange(len(values))
    middle: Objects = in_order[rows, (lengths - 1) // 2] + in_order[rows, lengths // 2]
    return _divided(middle, 2)


def _divided(numerators: Objects, denominators: Objects | int) -> Objects:
    """Quotients of what is not negative, a half rounded up."""
    quotients: Objects = (2 * numerators + denominators) // (2 * denominators)
    return quotients


def _rounded_root(squares: Objects) -> Objects:
    """The nearest whole number to each root; there is no tie."""
    roots = np.asarray(_root(squares), np.object_)
    rounded: Objects = roots + (squares - roots * roots > roots)
    return rounded
