"""Days, weeks and months on the page: which are complete, and what changed between them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

import polars as pl

from pipelines.report import formatting
from pipelines.report.models import Change, Row

SHOWN = {"day": 800, "week": 260}
"""Periods that a chart over time shows at most, the latest ones."""

_LENGTH = {"day": timedelta(days=1), "week": timedelta(days=7)}
# There is no date before year 1 or behind 9999: nothing below may step out of the data's range.


@dataclass(frozen=True)
class Comparison:
    """The two latest neighbouring periods that the data covers wholly."""

    period: Literal["week", "day"]
    latest: date
    previous: date

    @property
    def basis(self) -> str:
        """Say in a few words what a change is against."""
        return f"vs {self.period} before"

    @property
    def sentence(self) -> str:
        """Say in full what a change is against."""
        name = "" if self.period == "day" else "the week from "
        return (
            f"Changes compare {name}{formatting.day(self.latest)} "
            f"with {name}{formatting.day(self.previous)}."
        )

    def days(self, first: date) -> tuple[date, date]:
        """Return the first and last day of the period that starts on `first`."""
        return first, first + (_LENGTH[self.period] - timedelta(days=1))


_ISOLATED_BY = timedelta(days=365)
_ISOLATED_BELOW = 0.01  # of all events


@dataclass(frozen=True)
class Extent:
    """The days that the charts reach over, and what lies so far away that they leave it out.

    A wrong clock gives single events of 1970 or 2099: an axis that reached there would show the
    data as one stroke. So days that are more than a year from all others do not count if they hold
    less than a hundredth of the events.
    """

    first: date
    last: date
    isolated_days: Sequence[date]
    isolated_events: int

    @property
    def sentence(self) -> str:
        """Say what the charts leave out; nothing where that is nothing."""
        if not self.isolated_days:
            return ""
        days = formatting.day_range(min(self.isolated_days), max(self.isolated_days))
        events = formatting.plural(self.isolated_events, "event")
        number = len(self.isolated_days)
        when = days if number == 1 else f"{formatting.plural(number, 'day')} ({days})"
        return f"The charts leave out {events} of {when}, more than a year from all others."


def extent(periods: pl.DataFrame) -> Extent | None:
    """Return where the data of `metrics_periods` is, None without events."""
    days = periods.filter(pl.col("period") == "day").select("period_start", "events")
    if days.is_empty():
        return None
    events = dict(days.sort("period_start").iter_rows())
    clusters: list[list[date]] = []
    for day in events:
        if clusters and day - clusters[-1][-1] <= _ISOLATED_BY:
            clusters[-1].append(day)
        else:
            clusters.append([day])
    sizes = [sum(events[day] for day in cluster) for cluster in clusters]
    least = min(max(sizes), sum(sizes) * _ISOLATED_BELOW)
    kept = [cluster for cluster, size in zip(clusters, sizes, strict=True) if size >= least]
    first, last = kept[0][0], kept[-1][-1]
    isolated = [day for day in events if not first <= day <= last]
    return Extent(first, last, isolated, sum(events[day] for day in isolated))


def data_range(periods: pl.DataFrame) -> tuple[date, date] | None:
    """Return the first and last day of the data that the charts show, None without events."""
    shown = extent(periods)
    return None if shown is None else (shown.first, shown.last)


def within(covered: tuple[date, date] | None, start: date, days: int) -> bool:
    """Tell whether a period of so many days at most reaches into a data range."""
    return covered is not None and start <= covered[1] and (covered[0] - start).days < days


def is_complete(period: str, start: date, first: date, last: date) -> bool:
    """Tell whether the data range reaches over the whole period."""
    return start >= first and last - start >= _LENGTH[period] - timedelta(days=1)


def comparison(periods: pl.DataFrame) -> Comparison | None:
    """Return what to compare: the two last complete weeks, else the two last days, else nothing.

    The two must be neighbours, so that a gap in the data never looks like a change.
    """
    covered = data_range(periods)
    if covered is None:
        return None
    names: tuple[Literal["week", "day"], ...] = ("week", "day")
    for period in names:
        starts = sorted(
            start
            for start in periods.filter(pl.col("period") == period)["period_start"]
            if is_complete(period, start, *covered)
        )
        if starts[1:] and starts[-1] - starts[-2] == _LENGTH[period]:
            return Comparison(period, starts[-1], starts[-2])
    return None


def with_gaps(rows: Iterable[Row], period: str) -> list[Row | date]:
    """Put the start of each run of missing periods between the rows, so that a line can break."""
    shown: list[Row | date] = []
    previous: date | None = None
    for row in rows:
        start = row["period_start"]
        if previous is not None and start - previous > _LENGTH[period]:
            shown.append(previous + _LENGTH[period])
        shown.append(row)
        previous = start
    return shown


def change(
    latest: float | None, previous: float | None, basis: str, *, more_is_better: bool, is_rate: bool
) -> Change | None:
    """Return the change of a figure, None where either value is missing or nothing preceded."""
    if latest is None or previous is None:
        return None
    text = (
        formatting.point_change(latest, previous)
        if is_rate
        else formatting.relative_change(latest, previous)
    )
    if text is None:
        return None
    if latest == previous:
        return Change("no change", "same", "neutral", basis)
    is_up = latest > previous
    return Change(
        text,
        "up" if is_up else "down",
        "good" if is_up == more_is_better else "bad",
        basis,
    )
