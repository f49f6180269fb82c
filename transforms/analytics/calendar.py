"""Days and periods: the only place that knows where weeks and months begin.

Kernels and difference arrays take days as their number since 1970-01-01, negative before it.
Numbers reach beyond the year 9999, in which the last period may end.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from transforms.columnar.kernels import Integers
from transforms.errors import RunError
from transforms.schema import Period

_EPOCH: Final = dt.date(1970, 1, 1).toordinal()

_WEEK: Final = 7  # days

_FIRST_MONDAY: Final = dt.date(1970, 1, 5).toordinal() - _EPOCH

_FIRST_MONTH: Final = 12 * 1970 + 1  # 1970-01, of which NumPy counts


def day_number(date: dt.date) -> int:
    """The days from 1970-01-01 to a date."""
    return date.toordinal() - _EPOCH


def day_numbers(dates: pl.Series) -> Integers:
    """The same of many dates, without NULL."""
    return dates.to_physical().to_numpy().astype(np.int64)


def dates_of(days: Integers) -> pl.Series:
    """The dates of `day_numbers`."""
    return pl.Series(days.astype(np.int32)).cast(pl.Date)


def period_indexes(days: Integers, period: Period) -> Integers:
    """The index of the period that holds each day; neighbouring periods have neighbouring ones.

    Of a week it is (days from 1970-01-05) div 7: weeks are ISO weeks, from Monday on. Of a month
    it is 12 · year + month.

    >>> period_indexes(np.array([3, 4]), "week"), period_indexes(np.array([0, 31]), "month")
    (array([-1,  0]), array([23641, 23642]))
    """
    if period == "day":
        return days
    if period == "week":
        return (days - _FIRST_MONDAY) // _WEEK
    return days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64) + _FIRST_MONTH


def first_days(indexes: Integers, period: Period) -> Integers:
    """The first day of each period, by the periods' indexes."""
    if period == "day":
        return indexes
    if period == "week":
        return indexes * _WEEK + _FIRST_MONDAY
    return (indexes - _FIRST_MONTH).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)


def last_days(indexes: Integers, period: Period) -> Integers:
    """The last day of each period, by the periods' indexes."""
    return first_days(indexes + 1, period) - 1


def period_starts(dates: pl.Series, period: Period) -> pl.Series:
    """The first day of the period that holds each date: what names the period."""
    starts = first_days(period_indexes(day_numbers(dates), period), period)
    return dates_of(starts).alias(dates.name)


MOST_DAYS: Final = 36_525
"""Days that tables over time are made for: a century."""


@dataclass(frozen=True)
class Calendar:
    """The days that a run looks at.

    Attributes:
        first: D0, the smallest event_date kept.
        last: D1, `as_of`; it may lie after the last event.
    """

    first: dt.date
    last: dt.date

    def require_bounded(self) -> None:
        """Check that series of all days, and windows up to the last one, can be made.

        Raises:
            RunError: The days are too many; says how to leave the odd ones out.
        """
        days = self.last_day - self.first_day + 1
        if days > MOST_DAYS:
            raise RunError(
                f"the tables over time would go from {self.first} to {self.last}, over {days:,} "
                f"days, and are made for {MOST_DAYS:,} at most; nothing was published. Leave later "
                "events out with --as_of=DATE, correct the event_time of the earlier ones, or "
                "leave these tables out with --without=time."
            )

    @property
    def first_day(self) -> int:
        """The number of the first day."""
        return day_number(self.first)

    @property
    def last_day(self) -> int:
        """The number of the last day."""
        return day_number(self.last)

    def first_index(self, period: Period) -> int:
        """The index of the period that holds the first day: it is left-censored.

        Who is new in it may have been there before.
        """
        return int(period_indexes(np.array([self.first_day]), period)[0])

    def last_index(self, period: Period) -> int:
        """The index of the period that holds the last day."""
        return int(period_indexes(np.array([self.last_day]), period)[0])

    def last_complete_index(self, period: Period) -> int:
        """The index of the last period that ends by the last day, perhaps before the first one."""
        return int(period_indexes(np.array([self.last_day + 1]), period)[0]) - 1

    def indexes(self, period: Period) -> Integers:
        """The indexes of all periods, without a gap."""
        return np.arange(self.first_index(period), self.last_index(period) + 1)

    def series(self, period: Period) -> pl.DataFrame:
        """All periods, without a gap: `period_start`, `is_complete`, `is_left_censored`."""
        indexes = self.indexes(period)
        return pl.DataFrame(
            {
                "period_start": dates_of(first_days(indexes, period)),
                "is_complete": indexes <= self.last_complete_index(period),
                "is_left_censored": indexes == self.first_index(period),
            }
        )

    def is_complete(self, starts: pl.Series, period: Period) -> pl.Series:
        """Whether the periods of these first days end by the last day."""
        indexes = period_indexes(day_numbers(starts), period)
        return pl.Series(indexes <= self.last_complete_index(period))

    def is_left_censored(self, starts: pl.Series, period: Period) -> pl.Series:
        """Whether the periods of these first days hold the first day; NULL for NULL."""
        first = first_days(np.array([self.first_index(period)]), period)
        is_first: pl.Series = starts == dates_of(first)[0]
        return is_first


def calendar_of(dates: pl.DataFrame, as_of: dt.date | None) -> Calendar | None:
    """The calendar of a run; None where no event was kept.

    Args:
        dates: The first and the last date of an event kept: `first`, `last`, of all shards.
        as_of: The option.
    """
    found: tuple[dt.date | None, dt.date | None] = dates.select(
        pl.col("first").min(), pl.col("last").max()
    ).row(0)
    first, last = found
    return None if first is None or last is None else Calendar(first, as_of or last)
