"""Days that are unlike those before, worked out by hand, and of random weeks.

The examples speak through ``run`` alone, whatever it runs.
"""

import tempfile
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from .compare import assert_tables_equal
from .examples import bought, column, csv_text, on, row, where
from .oracle import oracle_tables
from .product import product_tables

FIRST = date(2019, 10, 1)  # a Tuesday
FIGURES = ("actual", "baseline_days", "expected", "scale", "lower", "upper", "score", "status")


def tuesday(number):
    """The text of a Tuesday from the first one, which has the number 0."""
    return str(FIRST + timedelta(weeks=number))


def spent(*prices, **fields):
    """A purchase on each Tuesday; None is a Tuesday with a view alone."""
    return [
        on(tuesday(number), **fields)
        if price is None
        else bought(tuesday(number), price=str(price), **fields)
        for number, price in enumerate(prices)
    ]


def late(text):
    """A view that makes a day whole."""
    return row(event_time=f"{text} 23:00:00 UTC", user_session="late")


def judged(rows, metric="revenue", dimension="overall"):
    """What is said of the days of a metric."""
    return where(rows["metrics_anomalies"], metric=metric, dimension=dimension)


class TestJudging:
    def test_a_day_is_judged_by_the_same_weekday_of_four_weeks(self, run):
        rows = [*spent(100, 104, 96, 110, 200), late(tuesday(4))]
        found = judged(run(rows))
        assert column(found, "status") == [*["too_little_history"] * 4, "anomaly"]
        # Of 96, 100, 104 and 110 the median is 102; distances 2, 2, 6, 8: 4 · 1.4826 = 5.9304
        # is more than a twentieth of 102. 0.2 · 102 = 20.4, less than 3.5 · 5.9304 = 20.7564.
        assert column(found[-1:], *FIGURES) == [
            (
                200,
                4,
                102,
                Decimal("5.9304"),
                Decimal("81.2436"),
                Decimal("122.7564"),
                16.525024,  # 98 / 5.9304
                "anomaly",
            )
        ]
        assert column(found, "direction") == [None] * 4 + ["high"]
        assert column(found, "is_anomaly") == [False] * 4 + [True]

    def test_the_least_scale_is_a_twentieth_and_a_fifth_is_no_more_than_usual(self, run):
        found = judged(run([*spent(100, 100, 100, 100, 81, 119, 80, 120), late(tuesday(7))]))
        # 3.5 · 5 is 17.5, and 81 and 119 are off by 19: beyond that, and less than a fifth.
        assert column(found[4:], "scale", "lower", "upper", "score", "status") == [
            (5, 80, 120, -3.8, "ok"),
            (5, 80, 120, 3.8, "ok"),
            (5, 80, 120, -4, "anomaly"),
            (5, 80, 120, 4, "anomaly"),
        ]

    def test_an_outlier_is_no_part_of_what_later_days_are_compared_with(self, run):
        found = judged(run([*spent(100, 100, 100, 100, 900, 100, 900), late(tuesday(6))]))
        assert column(found[4:], "baseline_days", "expected", "status") == [
            (4, 100, "anomaly"),
            (4, 100, "ok"),
            (5, 100, "anomaly"),
        ]

    def test_the_latest_eight_days_count(self, run):
        found = judged(run([*spent(*[1] * 5, *[1.05] * 8, 1.05), late(tuesday(13))]))
        assert column(found, "baseline_days")[6:] == [6, 7, *[8] * 6]
        assert column(found, "expected")[-3:] == [Decimal("1.05")] * 3
        # Four of either, then three and five; of all days five of either.
        assert column(found, "expected")[9:11] == [Decimal("1.025"), Decimal("1.05")]

    def test_counts_vary_by_the_root(self, run):
        rows = [
            on(tuesday(week), str(user))
            for week, users in enumerate((2, 2, 2, 2, 7, 6))
            for user in range(users)
        ]
        found = judged(run([*rows, late(tuesday(5))]), "users")
        # The root of 2 is 1.414214; 3.5 · 1.414214 = 4.949749. The late view is of user 7.
        assert column(found[4:], "actual", "scale", "upper", "score", "status") == [
            (7, Decimal("1.414214"), Decimal("6.949749"), 3.535533, "anomaly"),
            (7, Decimal("1.414214"), Decimal("6.949749"), 3.535533, "anomaly"),
        ]

    def test_the_last_day_is_not_judged_before_its_last_hour(self, run):
        rows = spent(100, 100, 100, 100, 1)
        (last,) = judged(run(rows))[-1:]
        assert (last["expected"], last["score"], last["status"]) == (100, None, "incomplete_day")
        almost = row(event_time=f"{tuesday(4)} 22:59:59 UTC", user_session="late")
        assert judged(run([*rows, almost]))[-1]["status"] == "incomplete_day"
        assert judged(run([*rows, late(tuesday(4))]))[-1]["status"] == "anomaly"

    def test_where_nothing_is_expected_there_is_no_score(self, run):
        found = judged(run([*spent(None, None, None, None, 100), late(tuesday(4))]))
        assert column(found[-1:], "actual", "expected", "scale", "score", "status") == [
            (100, 0, 0, None, "ok")
        ]


class TestSeries:
    def test_a_rate_without_a_denominator_has_no_row(self, run):
        tables = run(spent(None, 10, None))
        assert column(judged(tables, "avg_basket_value"), "event_date") == [
            FIRST + timedelta(weeks=1)
        ]
        assert column(judged(tables, "conversion_rate"), "actual") == [0, 1, 0]
        assert column(judged(tables, "view_to_cart_rate"), "actual") == [0, 0]

    def test_each_category_that_sells_has_all_days(self, run):
        rows = [
            *spent(10, 20, None, product_id="1", category_id="1", category_code="shoes.red"),
            *spent(5, product_id="2"),
            on(tuesday(1), product_id="3", category_id="3", category_code="bags"),
        ]
        tables = run(rows)
        assert column(judged(tables, dimension="category_lvl_1"), "value", "actual") == [
            *(("shoes", 10), ("shoes", 20), ("shoes", 0)),
            *(("unknown", 5), ("unknown", 0), ("unknown", 0)),
        ]
        assert {
            each["metric"]
            for each in where(tables["metrics_anomalies"], dimension="category_lvl_1")
        } == {"revenue", "orders", "purchases"}

    def test_an_order_over_midnight_counts_where_it_begins(self, run):
        shoes = {"product_id": "1", "category_id": "1", "category_code": "shoes"}
        night = [
            row(event_type="purchase", event_time="2019-10-01 23:59:59 UTC", **shoes),
            row(event_type="purchase", event_time="2019-10-02 00:00:00 UTC", **shoes),
        ]
        tables = run(night)
        assert column(judged(tables, "orders", "category_lvl_1"), "actual") == [1, 0]
        assert column(judged(tables, "purchases", "category_lvl_1"), "actual") == [1, 1]


@st.composite
def weeks(draw):
    """Purchases and views of two categories on the Tuesdays and Wednesdays of some weeks."""
    rows = []
    usual = draw(st.integers(1, 4))
    for week in range(draw(st.integers(5, 14))):
        for weekday in range(draw(st.integers(1, 2))):
            day = str(FIRST + timedelta(weeks=week, days=weekday))
            for user in range(draw(st.integers(0, 2)) + usual * draw(st.sampled_from([1, 1, 5]))):
                category = draw(st.sampled_from(["", "shoes"]))
                fields = {"product_id": f"1{category and 0}", "category_code": category}
                price = draw(st.sampled_from(["9.99", "10", "0.0000005", "33.333333333", "1e6"]))
                kind = draw(st.sampled_from(["purchase", "purchase", "cart", "view"]))
                rows.append(on(day, str(user), event_type=kind, price=price, **fields))
    return [*rows, *draw(st.sampled_from([[], [late(day)]]))]


@settings(max_examples=15, deadline=None)
@given(rows=weeks(), shards=st.tuples(st.integers(1, 3), st.integers(1, 3)))
def test_random_weeks(rows, shards):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.csv"
        path.write_text(csv_text(rows), encoding="utf-8")
        name = "metrics_anomalies"
        expected = {name: oracle_tables([path], without_time=True)[name]}
        actual = product_tables([path], session_shards=shards[0], user_shards=shards[1])
    assert_tables_equal({name: actual[name]}, expected)
