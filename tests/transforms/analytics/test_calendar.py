"""Days and periods, against the standard library's calendar."""

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from transforms.analytics.calendar import (
    MOST_DAYS,
    Calendar,
    dates_of,
    day_number,
    day_numbers,
    first_days,
    last_days,
    period_indexes,
    period_starts,
)
from transforms.errors import RunError
from transforms.schema import PERIODS


@given(st.dates())
@example(date(1, 1, 1))
@example(date(9999, 12, 31))
@example(date(2019, 12, 30))
@example(date(2020, 2, 29))
def test_a_period_begins_where_the_calendar_says(day):
    days = np.array([day_number(day)])
    assert dates_of(days).to_list() == [day]
    starts = {period: period_starts(pl.Series([day]), period)[0] for period in PERIODS}
    assert starts == {
        "day": day,
        "week": day - timedelta(days=day.isocalendar().weekday - 1),
        "month": day.replace(day=1),
    }
    assert period_indexes(days, "month") == 12 * day.year + day.month
    assert period_indexes(days, "week") == (day - date(1970, 1, 5)).days // 7


@pytest.mark.parametrize("period", PERIODS)
def test_periods_follow_each_other(period):
    indexes = np.arange(-30_000, 30_000)
    first, last = first_days(indexes, period), last_days(indexes, period)
    assert (last[:-1] + 1 == first[1:]).all()
    for days in (first, last):
        assert (period_indexes(days, period) == indexes).all()


def test_the_series_of_a_calendar():
    calendar = Calendar(date(2019, 12, 31), date(2020, 2, 28))
    months = calendar.series("month")
    assert months.rows() == [
        (date(2019, 12, 1), True, True),
        (date(2020, 1, 1), True, False),
        (date(2020, 2, 1), False, False),  # a leap year
    ]
    assert calendar.series("week").height == 9
    assert calendar.series("day").height == 60
    later = Calendar(date(2019, 12, 31), date(2020, 2, 29))
    assert later.series("month")["is_complete"].all()


@pytest.mark.parametrize("period", PERIODS)
@given(start=st.dates(date(2019, 1, 1), date(2021, 1, 1)), length=st.integers(0, 100))
def test_a_period_is_complete_if_it_ends_by_the_last_day(period, start, length):
    calendar = Calendar(start, start + timedelta(days=length))
    series = calendar.series(period)
    indexes = period_indexes(day_numbers(series["period_start"]), period)
    assert (indexes == calendar.indexes(period)).all()
    ends = last_days(indexes, period)
    assert series["is_complete"].to_list() == (ends <= calendar.last_day).tolist()
    assert calendar.is_complete(series["period_start"], period).equals(series["is_complete"])
    is_first = [True] + [False] * (series.height - 1)
    assert series["is_left_censored"].to_list() == is_first
    assert calendar.is_left_censored(series["period_start"], period).to_list() == is_first
    assert calendar.last_complete_index(period) == indexes[0] + series["is_complete"].sum() - 1


def test_tables_over_time_are_made_for_a_century():
    first = date(2019, 10, 1)
    Calendar(first, first + timedelta(days=MOST_DAYS - 1)).require_bounded()
    with pytest.raises(RunError, match=r"from 2019-10-01 to 9999-12-31, .*--as_of=DATE"):
        Calendar(first, date.max).require_bounded()
