"""Which periods are complete, and which are compared."""

from datetime import date, timedelta
from decimal import Decimal

import polars as pl
import pytest

from pipelines.report import periods
from pipelines.report.models import Change


def metrics(*days):
    """Return the keys of metrics_periods for events on these days."""
    weeks = sorted({day - timedelta(days=day.weekday()) for day in days})
    rows = [("day", day, 1) for day in sorted(days)] + [("week", week, 1) for week in weeks]
    schema = {"period": pl.String, "period_start": pl.Date, "events": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def span(first, number):
    return [first + timedelta(days=n) for n in range(number)]


MONDAY = date(2019, 10, 7)


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        (span(MONDAY, 14), ("week", MONDAY + timedelta(days=7), MONDAY)),
        (span(MONDAY, 20), ("week", MONDAY + timedelta(days=7), MONDAY)),
        (span(MONDAY, 13), ("day", MONDAY + timedelta(days=12), MONDAY + timedelta(days=11))),
        (span(MONDAY + timedelta(days=1), 14), ("day", date(2019, 10, 21), date(2019, 10, 20))),
        (span(MONDAY, 1), None),
        ([MONDAY, MONDAY + timedelta(days=2)], None),
        ([], None),
    ],
    ids=[
        "two weeks",
        "two weeks and a part",
        "one week and a part",
        "no two whole weeks",
        "one day",
        "a gap",
        "nothing",
    ],
)
def test_comparison(days, expected):
    found = periods.comparison(metrics(*days))
    assert (None if found is None else (found.period, found.latest, found.previous)) == expected


def test_a_week_without_events_is_no_neighbour():
    days = span(MONDAY, 7) + span(MONDAY + timedelta(days=14), 7)
    found = periods.comparison(metrics(*days))
    assert (found.period, found.latest) == ("day", MONDAY + timedelta(days=20))


def test_gaps_stand_where_the_missing_periods_begin():
    rows = [{"period_start": MONDAY}, {"period_start": MONDAY + timedelta(days=21)}]
    assert periods.with_gaps(rows, "week") == [rows[0], MONDAY + timedelta(days=7), rows[1]]
    assert periods.with_gaps(rows[:1], "week") == rows[:1]


def test_a_far_day_with_few_events_is_left_out_of_the_extent():
    days = span(MONDAY, 150)
    found = periods.extent(metrics(*days, date(2099, 1, 1)))
    assert (found.first, found.last, found.isolated_days) == (days[0], days[-1], [date(2099, 1, 1)])
    assert found.sentence == (
        "The charts leave out 1 event of 1 Jan 2099, more than a year from all others."
    )
    both = periods.extent(metrics(date(1970, 1, 1), *days, date(2099, 1, 1)))
    assert both.sentence == (
        "The charts leave out 2 events of 2 days (1 Jan 1970 to 1 Jan 2099), "
        "more than a year from all others."
    )
    assert periods.comparison(metrics(*days, date(2099, 1, 1))) == periods.comparison(
        metrics(*days)
    )


def test_what_lies_far_apart_but_holds_much_stays_in_the_extent():
    days = [*span(MONDAY, 20), *span(date(2022, 1, 1), 20)]
    found = periods.extent(metrics(*days))
    assert (found.first, found.last, found.sentence) == (days[0], days[-1], "")


def test_a_year_apart_is_not_isolated():
    days = span(MONDAY, 150)
    near = days[-1] + timedelta(days=365)
    assert periods.extent(metrics(*days, near)).last == near
    assert periods.extent(metrics(*days, near + timedelta(days=1))).last == days[-1]


@pytest.mark.parametrize("days", [[date.min], [date.max], span(date.min, 7), [date.min, date.max]])
def test_the_first_and_the_last_dates_there_are(days):
    assert periods.comparison(metrics(*days)) is None or len(days) > 1
    rows = [{"period_start": day} for day in days]
    assert [row for row in periods.with_gaps(rows, "day") if row in rows] == rows


def test_the_last_two_days_there_are():
    days = span(date.max - timedelta(days=1), 2)
    found = periods.comparison(metrics(*days))
    assert found.days(found.latest) == (date.max, date.max)


@pytest.mark.parametrize(
    ("latest", "previous", "more_is_better", "is_rate", "expected"),
    [
        (Decimal(12), Decimal(10), True, False, Change("+20.0%", "up", "good", "b")),
        (8, 10, True, False, Change("−20.0%", "down", "bad", "b")),
        (0.2, 0.3, False, True, Change("−10.0 pts", "down", "good", "b")),
        (0.3, 0.2, False, True, Change("+10.0 pts", "up", "bad", "b")),
        (5, 5, True, False, Change("no change", "same", "neutral", "b")),
        (5, 0, True, False, None),
        (None, 0.1, True, True, None),
        (0.1, None, True, True, None),
    ],
)
def test_change(latest, previous, more_is_better, is_rate, expected):
    found = periods.change(latest, previous, "b", more_is_better=more_is_better, is_rate=is_rate)
    assert found == expected
