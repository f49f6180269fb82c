"""Customers over time: by hand, and against the definitions over sets of dates."""

from collections import defaultdict
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import product

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transforms.analytics.over_time import Day, bought, frame_of, visited
from transforms.analytics.calendar import Calendar
from transforms.analytics.metrics import (
    active_users,
    cohort_retention,
    lifecycle,
    repeat_purchase,
    stickiness,
)
from transforms.analytics.metrics.metric import Facts
from transforms.analytics.user_days import UserDays
from transforms.audit.checks import check_batch
from transforms.rules import Rules
from transforms.schema import (
    METRICS_ACTIVE_USERS,
    METRICS_COHORT_RETENTION,
    METRICS_LIFECYCLE,
    METRICS_REPEAT_PURCHASE,
    METRICS_STICKINESS,
)


def table_of(metric, days, calendar, shards):
    """A table, of days that several shards share."""
    (partial,) = metric.partials
    parts = [
        partial.compute(
            UserDays(frame_of([day for day in days if day.user % shards == shard]), calendar)
        )
        for shard in range(shards)
    ]
    assert all(part.schema == partial.schema for part in parts)
    merged = partial.merge(pl.concat(parts))
    return metric.finish({partial.name: merged}, Facts(None, calendar, Rules()))


def lifecycle_of(days, calendar, shards=1):
    return table_of(lifecycle.METRIC, days, calendar, shards)


def active_users_of(days, calendar, shards=1):
    return table_of(active_users.METRIC, days, calendar, shards)


def stickiness_of(days, calendar, shards=1):
    return table_of(stickiness.METRIC, days, calendar, shards)


def retention_of(days, calendar, shards=1):
    return table_of(cohort_retention.METRIC, days, calendar, shards)


def repeat_purchase_of(days, calendar, shards=1):
    return table_of(repeat_purchase.METRIC, days, calendar, shards)


# By the definitions -------------------------------------------------------------------------------


def period_index(day, period):
    if period == "day":
        return day.toordinal()
    if period == "week":
        return (day.toordinal() - date(1970, 1, 5).toordinal()) // 7
    return 12 * day.year + day.month


def first_day(index, period):
    if period == "day":
        return date.fromordinal(index)
    if period == "week":
        return date.fromordinal(date(1970, 1, 5).toordinal() + 7 * index)
    return date((index - 1) // 12, (index - 1) % 12 + 1, 1)


def last_ordinal(index, period):
    """The ordinal of a period's last day, which may be beyond the year 9999."""
    if period == "day":
        return index
    if period == "week":
        return date(1970, 1, 5).toordinal() + 7 * index + 6
    first = first_day(index, period)
    return next(n for n in (31, 30, 29, 28) if is_day(first, n)) + first.toordinal() - 1


def is_day(first, number):
    try:
        first.replace(day=number)
    except ValueError:
        return False
    return True


def half_away(value, decimals):
    shifted = abs(value) * 10**decimals
    whole = shifted.numerator // shifted.denominator
    whole += shifted - whole >= Fraction(1, 2)
    return Decimal(whole if value >= 0 else -whole).scaleb(-decimals)


def rate(over, under):
    return float(half_away(Fraction(over) / Fraction(under), 6)) if under else None


def by_user(days, activity):
    """For each active user the days, with their revenue."""
    found = defaultdict(dict)
    for day in days:
        if activity == "visit" or day.revenue is not None:
            found[day.user][day.date] = day.revenue or Decimal(0)
    return found


def expected_lifecycle(days, calendar):
    for activity in ("visit", "purchase"):
        users = by_user(days, activity)
        for period in ("day", "week", "month"):
            before = {}
            ever = set()
            first, last = (period_index(day, period) for day in (calendar.first, calendar.last))
            for index in range(first, last + 1):
                now = defaultdict(Decimal)
                for user, dates in users.items():
                    for day, revenue in dates.items():
                        if period_index(day, period) == index:
                            now[user] += revenue
                new = now.keys() - ever
                kept = now.keys() & before.keys()
                back = now.keys() - new - kept
                gone = before.keys() - now.keys()
                up = sum(max(Decimal(0), now[user] - before[user]) for user in kept)
                down = sum(max(Decimal(0), before[user] - now[user]) for user in kept)
                r_new, r_back = (sum(now[user] for user in some) for some in (new, back))
                r_gone = sum(before[user] for user in gone)
                r_before = sum(before.values())
                is_complete = last_ordinal(index, period) <= calendar.last.toordinal()
                rates = [
                    rate(len(kept), len(before)),
                    rate(len(gone), len(before)),
                    rate(len(new) + len(back), len(gone)),
                    rate(r_before - down - r_gone, r_before),
                    rate(r_before - down - r_gone + up, r_before),
                    rate(r_new + r_back + up, down + r_gone),
                ]
                if not is_complete:
                    rates = [None] * 6
                yield (
                    *(activity, period, first_day(index, period)),
                    *(len(now), len(new), len(kept), len(back), len(gone)),
                    len(new) + len(back) - len(gone),
                    *rates[:3],
                    *(sum(now.values()), r_new, r_back, up, down, r_gone),
                    *rates[3:],
                    *(is_complete, index == first),
                )
                before, ever = dict(now), ever | now.keys()


def expected_active_users(days, calendar):
    for activity in ("purchase", "visit"):
        users = by_user(days, activity)
        for number in range((calendar.last - calendar.first).days + 1):
            day = calendar.first + timedelta(days=number)
            daily, weekly, monthly = (
                sum(any(0 <= (day - met).days < width for met in dates) for dates in users.values())
                for width in (1, 7, 28)
            )
            week, month = number >= 6, number >= 27
            yield (
                *(activity, day, daily, weekly, monthly),
                rate(daily, monthly) if month else None,
                rate(daily, weekly) if week else None,
                rate(weekly, monthly) if month else None,
                *(week, month),
            )


def expected_stickiness(days, calendar):
    for activity in ("purchase", "visit"):
        users = by_user(days, activity)
        for period in ("month", "week"):
            met = defaultdict(lambda: defaultdict(int))
            for user, dates in users.items():
                for day in dates:
                    met[period_index(day, period)][user] += 1
            for index, counts in sorted(met.items()):
                for active in sorted(set(counts.values())):
                    exactly = sum(count == active for count in counts.values())
                    yield (
                        *(activity, period, first_day(index, period), active, exactly),
                        sum(count >= active for count in counts.values()),
                        rate(exactly, len(counts)),
                        last_ordinal(index, period) <= calendar.last.toordinal(),
                    )


WAYS = (
    ("calendar", "week"),
    ("calendar", "month"),
    ("rolling", "week"),
    ("rolling", "month"),
    ("bracket", "day"),
)
BRACKETS = ((0, 0), (1, 7), (8, 30), (31, 60), (61, 90), (91, 180), (181, 365))


def windows(start, way, last):
    """The windows of a user that have begun, as ordinals of their first and last days."""
    method, period = way
    number = 0
    while True:
        if method == "calendar":
            index = period_index(start, period) + number
            bounds = last_ordinal(index - 1, period) + 1, last_ordinal(index, period)
        elif method == "rolling":
            length = {"week": 7, "month": 30}[period]
            bounds = tuple(start.toordinal() + length * (number + more) - more for more in (0, 1))
        elif number == len(BRACKETS):
            return
        else:
            bounds = tuple(start.toordinal() + bound for bound in BRACKETS[number])
        if bounds[0] > last.toordinal():
            return
        yield bounds
        number += 1


def starts_of(days, cohort_by):
    """The date of each user's first visit or purchase."""
    activity = cohort_by.removeprefix("first_")
    return {user: min(dates) for user, dates in by_user(days, activity).items()}


def cohort_counts(users, begun, of_user, *, activity, number, last):
    """Counts and sums of a cohort's window, as the columns have them."""
    eligible = [user for user in users if len(begun[user]) > number]
    eligible = [user for user in eligible if begun[user][number][1] <= last]
    retained = later = purchases = orders = 0
    revenue = base = cumulative = Decimal(0)
    for user in eligible:
        (first, end), (base_first, base_end) = begun[user][number], begun[user][0]
        dates = [date.toordinal() for date in by_user(of_user[user], activity)[user]]
        retained += any(first <= at <= end for at in dates)
        later += any(first <= at for at in dates)
        for day in of_user[user]:
            if day.revenue is None:
                continue
            at = day.date.toordinal()
            if first <= at <= end:
                purchases += day.orders + 1
                orders += day.orders
                revenue += day.revenue
            base += day.revenue if base_first <= at <= base_end else 0
            cumulative += day.revenue if at <= end else 0  # nobody buys before the start
    return (
        *(len(users), len(eligible), retained, later),
        *(purchases, orders, revenue, base, cumulative),
    )


def cohort_rows(days, calendar):
    """Key, whether it is left-censored, and counts of each cohort's windows."""
    of_user = {user: [day for day in days if day.user == user] for user, *_ in days}
    for cohort_by, way in product(("first_purchase", "first_visit"), WAYS):
        period = "month" if way[0] == "bracket" else way[1]
        starts = starts_of(days, cohort_by)
        begun = {user: list(windows(start, way, calendar.last)) for user, start in starts.items()}
        cohorts = defaultdict(list)
        for user, start in starts.items():
            cohorts[period_index(start, period)].append(user)
        for (index, users), activity in product(cohorts.items(), ("purchase", "visit")):
            is_censored = index == period_index(calendar.first, period)
            for number in range(max(len(begun[user]) for user in users)):
                key = (cohort_by, activity, *way, first_day(index, period), number)
                ordinal = calendar.last.toordinal()
                counts = cohort_counts(
                    users, begun, of_user, activity=activity, number=number, last=ordinal
                )
                yield key, is_censored, counts


def expected_retention(days, calendar):
    rows = list(cohort_rows(days, calendar))
    over_all = defaultdict(lambda: (0,) * 9)
    for (*way, _, number), is_censored, counts in rows:
        if not is_censored:
            key = (*way, None, number)
            over_all[key] = tuple(map(sum, zip(over_all[key], counts, strict=True)))
    for key, is_censored, counts in rows + [(key, False, over_all[key]) for key in over_all]:
        users, eligible, retained, later, *_, revenue, base, cumulative = counts
        yield (
            *(*key, *counts),
            *(rate(retained, eligible), rate(later, eligible), rate(revenue, base)),
            half_away(Fraction(cumulative) / eligible, 2) if eligible else None,
            *(users == eligible, is_censored),
        )


def percentile(values, quantile):
    for value in sorted(values):
        if sum(other <= value for other in values) >= quantile * len(values):
            return value
    return None


def kaplan_meier(gaps, censored):
    survival = Fraction(1)
    for gap in sorted(set(gaps)):
        survival *= 1 - Fraction(gaps.count(gap), sum(t >= gap for t in gaps + censored))
        if survival <= Fraction(1, 2):
            return gap
    return None


def expected_repeat_purchase(days, calendar):
    users = [sorted(dates) for dates in by_user(days, "purchase").values()]
    censored_month = calendar.first.replace(day=1)
    months = {dates[0].replace(day=1) for dates in users}
    for month in (*sorted(months), None):
        of_month = [
            dates
            for dates in users
            if dates[0].replace(day=1) == month
            or (month is None and dates[0].replace(day=1) != censored_month)
        ]
        for number in range(2, 11):
            at_risk = [dates for dates in of_month if len(dates) >= number - 1]
            if not at_risk:
                continue
            gaps = [
                (dates[number - 1] - dates[number - 2]).days
                for dates in at_risk
                if len(dates) >= number
            ]
            censored = [
                (calendar.last - dates[-1]).days for dates in at_risk if len(dates) == number - 1
            ]
            row = [month, number, len(at_risk), len(gaps), rate(len(gaps), len(at_risk))]
            for wait in (30, 60, 90, 180):
                eligible = [
                    dates for dates in at_risk if (calendar.last - dates[number - 2]).days >= wait
                ]
                reached = sum(
                    len(dates) >= number and (dates[number - 1] - dates[number - 2]).days <= wait
                    for dates in eligible
                )
                row += [len(eligible), reached, rate(reached, len(eligible))]
            row += [percentile(gaps, Fraction(q, 100)) for q in (25, 50, 75, 90)]
            row.append(half_away(Fraction(sum(gaps), len(gaps)), 2) if gaps else None)
            yield (*row, kaplan_meier(gaps, censored))


TABLES = (
    (METRICS_LIFECYCLE, lifecycle_of, expected_lifecycle),
    (METRICS_ACTIVE_USERS, active_users_of, expected_active_users),
    (METRICS_STICKINESS, stickiness_of, expected_stickiness),
    (METRICS_COHORT_RETENTION, retention_of, expected_retention),
    (METRICS_REPEAT_PURCHASE, repeat_purchase_of, expected_repeat_purchase),
)


@st.composite
def histories(draw):
    """Days of some users, and the calendar: as_of may lie long after the last of them."""
    start = draw(st.sampled_from([date(2019, 12, 20), date(2020, 1, 31), date(2020, 2, 27)]))
    offsets = st.one_of(st.integers(0, 9), st.integers(0, 120), st.integers(0, 420))
    spent = st.none() | st.sampled_from(["0", "0.005", "1", "2.5", "99999999999999999999.99"])
    found = draw(
        st.dictionaries(
            st.tuples(st.integers(1, 5), offsets),
            st.tuples(spent, st.integers(1, 3)),
            min_size=1,
            max_size=25,
        )
    )
    days = [
        Day(user, start + timedelta(days=offset), spent and Decimal(spent), orders)
        for (user, offset), (spent, orders) in found.items()
    ]
    dates = [day.date for day in days]
    later = draw(st.sampled_from([0, 1, 6, 30, 100]))
    return days, Calendar(min(dates), max(dates) + timedelta(days=later))


@pytest.mark.parametrize(
    ("table", "of_product", "of_definition"), TABLES, ids=[table.name for table, _, _ in TABLES]
)
@given(history=histories(), shards=st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_a_table_is_what_its_definition_says(table, of_product, of_definition, history, shards):
    days, calendar = history
    found = of_product(days, calendar, shards)
    expected = pl.DataFrame(
        list(of_definition(days, calendar)), schema=table.polars_schema(), orient="row"
    ).sort(table.key, nulls_last=True)
    assert found.rows() == expected.rows()
    failed = check_batch(table, found, {}).filter(pl.col("failing_rows") > 0)
    assert failed.rows() == []
    if table is METRICS_LIFECYCLE:
        assert set(lifecycle.lifecycle_failures(found).values()) == {0}


# By hand ------------------------------------------------------------------------------------------

OCTOBER = Calendar(date(2019, 10, 1), date(2019, 12, 15))


def rows_of(table, *columns, **where):
    chosen = table.filter(*(pl.col(name).eq_missing(value) for name, value in where.items()))
    return chosen.select(columns).rows()


def test_growth_by_month():
    days = [
        bought(1, "2019-10-03", "10"),
        bought(2, "2019-10-31", "4"),
        bought(1, "2019-11-01", "7.50"),
        bought(1, "2019-11-30", "5"),
        bought(3, "2019-11-30", "1"),
        bought(2, "2019-12-01", "2"),
        visited(3, "2019-12-02"),
    ]
    table = lifecycle_of(days, OCTOBER)
    counts = ("active_users", "new_users", "retained_users", "resurrected_users", "dormant_users")
    assert rows_of(table, *counts, "net_users", activity="purchase", period="month") == [
        (2, 2, 0, 0, 0, 2),
        (2, 1, 1, 0, 1, 0),
        (1, 0, 0, 1, 2, -1),
    ]
    money = ("revenue", "revenue_new", "revenue_resurrected")
    change = ("revenue_expansion", "revenue_contraction", "revenue_churned")
    assert rows_of(table, *money, *change, activity="purchase", period="month") == [
        tuple(map(Decimal, row))
        for row in (("14", "14", "0", "0", "0", "0"), ("13.5", "1", "0", "2.5", "0", "4"))
    ] + [tuple(map(Decimal, ("2", "0", "2", "0", "0", "13.5")))]
    rates = ("retention_rate", "churn_rate", "quick_ratio")
    of_revenue = ("gross_revenue_retention", "net_revenue_retention", "revenue_quick_ratio")
    assert rows_of(table, *rates, *of_revenue, activity="purchase", period="month") == [
        (None,) * 6,
        (0.5, 0.5, 1.0, 0.714286, 0.892857, 0.875),
        (None,) * 6,  # December is not over
    ]
    flags = ("period_start", "is_complete", "is_left_censored")
    assert rows_of(table, *flags, activity="visit", period="month") == [
        (date(2019, 10, 1), True, True),
        (date(2019, 11, 1), True, False),
        (date(2019, 12, 1), False, False),
    ]
    assert rows_of(table, *counts, activity="visit", period="month")[2] == (2, 0, 1, 1, 1)


def test_a_broken_lifecycle_is_found():
    days = [bought(1, "2019-10-03"), bought(1, "2019-11-03"), visited(2, "2019-11-03")]
    table = lifecycle_of(days, OCTOBER)
    assert lifecycle.lifecycle_failures(table) == {"active_users_follow": 0, "revenue_follows": 0}
    is_november = (pl.col("period") == "month") & (pl.col("period_start") == date(2019, 11, 1))
    broken = table.with_columns(
        pl.when(is_november)
        .then(pl.col("active_users", "revenue") + 1)
        .otherwise(pl.col("active_users", "revenue"))
    )
    # It follows neither from October, nor December from it; visits and purchases.
    assert lifecycle.lifecycle_failures(broken) == {"active_users_follow": 4, "revenue_follows": 4}
    failing = check_batch(METRICS_LIFECYCLE, broken, {}).filter(pl.col("failing_rows") > 0)
    assert failing.select("check_name", "failing_rows").rows() == [("active_users_add_up", 2)]


def test_users_active_in_sliding_windows():
    days = [visited(1, day) for day in ("2019-10-01", "2019-10-07", "2019-10-20")]
    days += [bought(2, "2019-10-08")]
    table = active_users_of(days, Calendar(date(2019, 10, 1), date(2019, 11, 30)))
    counts = ("daily_users", "weekly_users", "monthly_users")
    found = {
        day.isoformat(): tuple(row)
        for day, *row in rows_of(table, "event_date", *counts, activity="visit")
    }
    assert len(found) == 61
    assert found["2019-10-01"] == (1, 1, 1)
    assert found["2019-10-08"] == (1, 2, 2)
    assert found["2019-10-13"] == (0, 2, 2)
    assert found["2019-10-14"] == (0, 1, 2)
    assert found["2019-10-15"] == (0, 0, 2)
    assert found["2019-11-04"] == (0, 0, 2)
    assert found["2019-11-05"] == (0, 0, 1)
    assert found["2019-11-16"] == (0, 0, 1)
    assert found["2019-11-17"] == (0, 0, 0)
    flags = ("weekly_is_complete", "monthly_is_complete")
    ratios = ("stickiness", "daily_of_weekly", "weekly_of_monthly")
    assert rows_of(table, *flags, *ratios, activity="visit")[5:7] == [
        (False, False, None, None, None),
        (True, False, None, 1.0, None),
    ]
    assert rows_of(table, *flags, *ratios, activity="visit")[26:28] == [
        (True, False, None, None, None),  # nobody in the seven days
        (True, True, 0.0, None, 0.0),
    ]
    assert rows_of(table, *counts, activity="purchase")[6:8] == [(0, 0, 0), (1, 1, 1)]


def test_active_days_of_a_week_and_a_month():
    days = [visited(1, f"2019-10-{day:02}") for day in (7, 9, 13, 14)]
    days += [bought(2, "2019-10-08"), visited(2, "2019-10-12"), visited(3, "2019-10-13")]
    table = stickiness_of(days, Calendar(date(2019, 10, 7), date(2019, 10, 20)))
    columns = ("period_start", "active_days", "users", "users_at_least", "share", "is_complete")
    assert rows_of(table, *columns, activity="visit", period="week") == [
        (date(2019, 10, 7), 1, 1, 3, 0.333333, True),
        (date(2019, 10, 7), 2, 1, 2, 0.333333, True),
        (date(2019, 10, 7), 3, 1, 1, 0.333333, True),
        (date(2019, 10, 14), 1, 1, 1, 1.0, True),
    ]
    assert rows_of(table, *columns, activity="visit", period="month") == [
        (date(2019, 10, 1), 1, 1, 3, 0.333333, False),
        (date(2019, 10, 1), 2, 1, 2, 0.333333, False),
        (date(2019, 10, 1), 4, 1, 1, 0.333333, False),
    ]
    assert rows_of(table, *columns, activity="purchase", period="week") == [
        (date(2019, 10, 7), 1, 1, 1, 1.0, True)
    ]


COHORT = [
    bought(1, "2019-11-04", "10"),  # a Monday
    visited(1, "2019-11-12"),
    bought(1, "2019-11-25", "5"),
    visited(2, "2019-11-10"),  # the Sunday after it
    visited(2, "2019-12-09"),
    visited(3, "2019-10-01"),  # its cohort is left-censored
]


def cohort_of(method, period, start, *columns):
    table = retention_of(COHORT, OCTOBER)
    where = {"cohort_by": "first_visit", "activity": "visit", "cohort_start": start}
    return rows_of(table, *columns, method=method, period=period, **where)


@pytest.mark.parametrize("start", [date(2019, 11, 4), None])
def test_retention_by_weeks_of_the_calendar(start):
    columns = ("eligible_users", "retained_users", "retained_later_users", "retention_rate")
    assert cohort_of("calendar", "week", start, "period_number", *columns) == [
        (0, 2, 2, 2, 1.0),
        (1, 2, 1, 2, 0.5),
        (2, 2, 0, 2, 0.0),
        (3, 2, 1, 2, 0.5),
        (4, 2, 0, 1, 0.0),
        (5, 2, 1, 1, 0.5),
    ]


def test_retention_by_weeks_since_the_start():
    users = ("cohort_users", "eligible_users", "retained_users", "is_complete")
    money = ("base_revenue", "cumulative_revenue", "cumulative_revenue_per_user")
    week = date(2019, 11, 4)
    assert cohort_of("rolling", "week", week, *users) == [
        (2, 2, 2, True),
        (2, 2, 1, True),
        (2, 2, 0, True),
        (2, 2, 1, True),
        (2, 2, 1, True),
        (2, 1, 0, False),  # it has begun for both, but ends by as_of for one
    ]
    assert cohort_of("rolling", "week", week, *money)[2:] == [
        tuple(map(Decimal, row))
        for row in (("10", "10", "5"), ("10", "15", "7.5"), ("10", "15", "7.5"), ("10", "15", "15"))
    ]


def test_what_cannot_be_known_yet_is_null():
    columns = ("eligible_users", "retained_users", "retention_rate", "cumulative_revenue_per_user")
    assert cohort_of("bracket", "day", date(2019, 11, 1), *columns) == [
        (2, 2, 1.0, Decimal(5)),
        (2, 0, 0.0, Decimal(5)),
        (2, 2, 1.0, Decimal("7.5")),
        (0, 0, None, None),
    ]


def test_the_cohort_of_the_first_day_is_marked_and_left_out():
    columns = ("cohort_start", "cohort_users", "is_left_censored")
    table = retention_of(COHORT, OCTOBER)
    where = {"cohort_by": "first_visit", "activity": "visit", "method": "rolling"}
    assert rows_of(table, *columns, **where, period="month", period_number=0) == [
        (date(2019, 10, 1), 1, True),
        (date(2019, 11, 1), 2, False),
        (None, 2, False),
    ]


def test_the_next_purchase():
    days = [*COHORT, bought(4, "2019-11-10"), bought(3, "2019-10-05"), bought(3, "2019-10-06")]
    table = repeat_purchase_of(days, OCTOBER)
    columns = ("cohort_start", "purchase_number", "at_risk", "reached", "reach_rate")
    assert rows_of(table, *columns) == [
        (date(2019, 10, 1), 2, 1, 1, 1.0),
        (date(2019, 10, 1), 3, 1, 0, 0.0),
        (date(2019, 11, 1), 2, 2, 1, 0.5),
        (date(2019, 11, 1), 3, 1, 0, 0.0),
        (None, 2, 2, 1, 0.5),
        (None, 3, 1, 0, 0.0),
    ]
    waits = ("eligible_30", "reached_30", "repurchase_rate_30", "eligible_60", "reached_60")
    of_days = ("repurchase_rate_60", "median_days", "mean_days", "km_median_days")
    assert rows_of(table, *waits, *of_days, cohort_start=None) == [
        (2, 1, 0.5, 0, 0, None, 21, Decimal(21), 21),
        (0, 0, None, 0, 0, None, None, None, None),
    ]


def test_the_median_by_kaplan_and_meier():
    # Freireich's trial of 6-MP (1963), the textbook's example: median 23 weeks.
    reached = {6: 3, 7: 1, 10: 1, 13: 1, 16: 1, 22: 1, 23: 1}
    left = {6: 1, 9: 1, 10: 1, 11: 1, 17: 1, 19: 1, 20: 1, 25: 1, 32: 2, 34: 1, 35: 1}
    assert repeat_purchase.kaplan_meier_median(reached, left) == 23
    assert repeat_purchase.kaplan_meier_median({5: 1}, {9: 2}) is None
    assert repeat_purchase.kaplan_meier_median({5: 1}, {9: 1}) == 5
    assert repeat_purchase.kaplan_meier_median({}, {}) is None


# At the edges -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "of_product"), [row[:2] for row in TABLES], ids=[row[0].name for row in TABLES]
)
def test_without_a_user_only_the_days_are_told(table, of_product):
    found = of_product([], Calendar(date(2020, 2, 28), date(2020, 3, 1)))
    assert found.schema == table.polars_schema()
    # Two activities of 3 days; with 1 week and 2 months.
    days = {"metrics_active_users": 6, "metrics_lifecycle": 2 * (3 + 1 + 2)}
    assert found.height == days.get(table.name, 0)
    users = pl.col("^.*_users$").sum()
    assert set(found.select(pl.lit(0), users).row(0)) == {0}


def test_partial_aggregates_of_years_apart_have_few_rows():
    days = [bought(1, "0001-01-01"), bought(1, "9999-12-31"), visited(2, "2020-02-29")]
    calendar = Calendar(date(1, 1, 1), date(9999, 12, 31))
    shard = UserDays(frame_of(days), calendar)
    for metric in (lifecycle, active_users, stickiness, cohort_retention, repeat_purchase):
        (partial,) = metric.METRIC.partials
        assert 0 < partial.compute(shard).height < 60
    table = stickiness_of(days, calendar)
    weeks = rows_of(table, "period_start", "is_complete", activity="visit", period="week")
    assert weeks[0] == (date(1, 1, 1), True)
    assert weeks[-1] == (date(9999, 12, 27), False)  # it ends in the year 10000
    waits = repeat_purchase_of(days, calendar)
    assert rows_of(waits, "median_days", purchase_number=2)[0] == (3652058,)
