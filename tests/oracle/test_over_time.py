"""Customers over time: orders, days, lifecycle, cohorts and history, worked out by hand.

The examples speak through ``run`` alone, whatever it runs. Unless they say otherwise they are about
October 2019: the 1st is a Tuesday, so weeks begin on 30 September, 7, 14, 21 and 28 October.
"""

import hashlib
from datetime import UTC, date, datetime
from decimal import Decimal, localcontext
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .examples import at, bought, column, csv_text, on, purchase, row, rows_of_tables, where
from .oracle import oracle_tables
from .strategies import clickstream_rows, runs

HISTORY = (
    "snap_user_rfm",
    "snap_user_status",
    "metrics_segment_history",
    "metrics_segment_migration",
)


def order_id(*parts):
    """The name of an order."""
    return hashlib.md5("|".join(parts).encode(), usedforsecurity=False).hexdigest()


def october(day):
    """A day of October 2019."""
    return date(2019, 10, day)


class TestAsOf:
    ROWS = (
        bought("2019-10-01", "1", product_id="2", brand="a", price="10"),
        on("2019-10-03", "1"),
        bought("2019-10-05", "1", product_id="2", brand="b", price="20"),
        on("2019-10-05", "2"),
    )

    def test_what_is_later_has_not_happened(self, run):
        tables = run(self.ROWS, as_of=october(3))
        past = run(self.ROWS[:2])
        counts, counts_of_past = tables.pop("counts"), past.pop("counts")
        assert tables == past
        assert counts == [{**counts_of_past[0], "rows_read": 4, "after_as_of": 2}]
        # Without the second brand the product stays.
        assert column(tables["dim_users"], "user_id", "total_revenue") == [("1", 10)]
        assert run(self.ROWS)["counts"][0]["multi_brand_product"] == 2

    def test_before_all(self, run):
        tables = run(self.ROWS, as_of=date(2019, 9, 30))
        (counts,) = tables.pop("counts")
        assert (counts["events_kept"], counts["after_as_of"]) == (0, 4)
        assert counts["as_of"] == date(2019, 9, 30)
        # Of nobody, too, it is told why no model is there, and that none entered a funnel.
        told = ["metrics_churn", "metrics_clv_validation", "metrics_funnels", "model_clv"]
        assert sorted(name for name, rows in tables.items() if rows) == told

    def test_the_default_is_the_last_day_kept(self, run):
        late = [on("2019-10-09", "3", user_session=""), on("2019-10-10", "3", price="x")]
        tables = run([self.ROWS[0], *late])
        assert tables["counts"][0]["as_of"] == october(1)
        assert column(tables["metrics_active_users"], "activity", "event_date") == [
            ("purchase", october(1)),
            ("visit", october(1)),
        ]

    def test_days_and_periods_go_on_after_the_data(self, run):
        tables = run([bought("2019-10-01", "1")], as_of=date(2021, 1, 3))
        assert tables["dim_users"][0]["days_since_last_purchase"] == 460
        assert len(where(tables["metrics_active_users"], activity="visit")) == 461
        lifecycle = {
            period: where(tables["metrics_lifecycle"], activity="visit", period=period)
            for period in ("day", "week", "month")
        }
        # From Monday 30 September 2019 to Monday 28 December 2020, of the ISO year's week 53.
        assert {period: len(rows) for period, rows in lifecycle.items()} == {
            "day": 461,
            "week": 66,
            "month": 16,
        }
        assert lifecycle["week"][-1]["period_start"] == date(2020, 12, 28)
        assert column(lifecycle["week"], "dormant_users")[:3] == [0, 1, 0]
        assert column(lifecycle["month"][-2:], "period_start", "is_complete") == [
            (date(2020, 12, 1), True),
            (date(2021, 1, 1), False),
        ]


class TestOrders:
    def test_an_order(self, run):
        rows = [
            row(event_time=at(0)),
            purchase(event_time=at(10), product_id="1", price="10"),
            purchase(event_time=at(10), product_id="2", price="0.01"),
            purchase(event_time=at(11), product_id="1", price="5"),
        ]
        assert run(rows)["fct_orders"] == [
            {
                "order_id": order_id("7", "s", "2019-10-01 00:00:10"),
                "user_id": "7",
                "session_id": "s",
                "order_time": datetime(2019, 10, 1, 0, 0, 10, tzinfo=UTC),
                "order_date": october(1),
                "item_count": 3,
                "product_count": 2,
                "revenue": Decimal("15.01"),
                "order_number": 1,
                "days_since_previous_order": None,
                "seconds_in_session": 10,
                "is_first_order": True,
            }
        ]

    @pytest.mark.parametrize(
        ("gap", "items"), [(0, [2, 1, 1, 1]), (1, [3, 2]), (2, [5]), (None, [3, 2])]
    )
    def test_only_a_longer_gap_starts_an_order(self, run, gap, items):
        seconds = [(0, "1"), (0, "2"), (1, "1"), (3, "1"), (4, "1")]
        rows = [purchase(event_time=at(s), product_id=p) for s, p in seconds]
        orders = run(rows, **({} if gap is None else {"order_gap_seconds": gap}))["fct_orders"]
        orders.sort(key=lambda order: order["order_number"])
        assert column(orders, "item_count") == items
        assert column(orders, "is_first_order") == [True] + [False] * (len(items) - 1)

    def test_neighbours_count_not_the_whole(self, run):
        rows = [purchase(event_time=at(second)) for second in range(5)]
        rows.append(row(event_time=at(2)))
        assert column(run(rows)["fct_orders"], "item_count") == [5]

    def test_other_events_bridge_no_gap(self, run):
        rows = [purchase(event_time=at(0)), row(event_time=at(1)), purchase(event_time=at(2))]
        assert column(run(rows)["fct_orders"], "item_count") == [1, 1]

    def test_over_midnight(self, run):
        rows = [
            purchase(event_time=at(86_399), price="2"),
            purchase(event_time=at(86_400), price="3"),
        ]
        tables = run(rows)
        assert column(tables["fct_orders"], "order_date", "item_count", "revenue") == [
            (october(1), 2, 5)
        ]
        figures = ("event_date", "purchases", "orders", "sessions", "revenue")
        assert column(tables["fct_user_days"], *figures) == [
            (october(1), 1, 1, 1, 2),
            (october(2), 1, 0, 0, 3),
        ]
        # Revenue and items are of the day of the event, orders of the day they begin.
        figures = ("orders", "revenue", "avg_basket_value", "items_per_order")
        assert column(where(tables["metrics_periods"], period="day"), *figures) == [
            (1, 2, Decimal(2), 1.0),
            (0, 3, None, None),
        ]
        assert column(where(tables["metrics_periods"], period="week"), *figures) == [
            (1, 5, Decimal(5), 2.0)
        ]
        assert column(tables["dim_users"], "order_count", "purchase_day_count") == [(1, 2)]
        # The day on which the order began shows its part of the order.
        assert column(run(rows, as_of=october(1))["fct_orders"], "item_count") == [1]

    def test_users_of_a_session_have_their_own_orders(self, run):
        rows = [row(user_id="5"), *(purchase(user_id=u, event_time=at(4)) for u in ("6", "7"))]
        orders = run(rows)["fct_orders"]
        assert sorted(column(orders, "user_id", "session_id", "seconds_in_session")) == [
            ("6", "s", 4),
            ("7", "s", 4),
        ]

    def test_orders_of_one_second_are_numbered_by_their_ids(self, run):
        rows = [purchase(user_session=session) for session in ("a", "b", "c")]
        ids = sorted(order_id("7", session, "2019-10-01 00:00:00") for session in ("a", "b", "c"))
        orders = run(rows)["fct_orders"]
        assert column(orders, "order_id", "order_number") == [*zip(ids, (1, 2, 3), strict=True)]
        assert column(orders, "days_since_previous_order") == [None, 0, 0]

    def test_days_between_orders_are_those_between_their_dates(self, run):
        rows = [
            purchase(event_time=at(86_395)),
            purchase(event_time=at(86_401)),
            purchase(event_time=at(days=5), user_session="t"),
        ]
        orders = run(rows)["fct_orders"]
        orders.sort(key=lambda order: order["order_number"])
        assert column(orders, "days_since_previous_order") == [None, 1, 4]

    def test_a_new_session_starts_an_order(self, run):
        rows = [purchase(event_time=at(0)), purchase(event_time=at(61))]
        orders = run(rows, session_timeout_seconds=60, order_gap_seconds=1000)["fct_orders"]
        assert sorted(column(orders, "session_id", "seconds_in_session")) == [
            ("s", 0),
            ("s_timeout_1", 0),
        ]


class TestUserDays:
    def test_a_day(self, run):
        rows = [
            row(event_time=at(0)),
            row(event_time=at(1)),
            row(event_time=at(2), event_type="cart"),
            row(event_time=at(3), event_type="remove_from_cart"),
            purchase(event_time=at(5), price="1.50"),
            purchase(event_time=at(9), price="2"),
            row(event_time=at(7200)),
            row(event_time=at(days=2), user_session="t"),
        ]
        days = run(rows)["fct_user_days"]
        assert days[0] == {
            "user_id": "7",
            "event_date": october(1),
            "events": 7,
            "views": 3,
            "cart_adds": 1,
            "cart_removes": 1,
            "purchases": 2,
            "orders": 2,
            "sessions": 2,
            "revenue": Decimal("3.50"),
        }
        assert column(days, "event_date", "sessions", "revenue")[1:] == [(october(3), 1, 0)]

    def test_a_session_counts_where_its_user_is_there(self, run):
        # The session is of user 7, who comes to it after midnight.
        rows = [row(user_id="6", event_time=at(86_399)), row(user_id="7", event_time=at(86_401))]
        tables = run(rows)
        assert column(tables["fct_user_days"], "user_id", "event_date", "sessions") == [
            ("6", october(1), 0),
            ("7", october(2), 0),
        ]
        assert column(tables["dim_users"], "user_id", "session_count") == [("6", 0), ("7", 1)]


class TestUsersAndTheirOrders:
    def test_added_columns(self, run):
        rows = [
            on("2019-10-01"),
            bought("2019-10-03", price="10", product_id="1"),
            bought("2019-10-03", price="0.01", product_id="2"),
            bought("2019-10-03", price="5", event_time="2019-10-03 12:00:02 UTC"),
            bought("2019-10-08", price="1"),
        ]
        figures = ("purchase_count", "order_count", "purchase_day_count", "avg_basket_value")
        (user,) = run(rows)["dim_users"]
        # 16.01 / 3 = 5.336666…
        assert column([user], *figures) == [(4, 3, 2, Decimal("5.34"))]
        assert user["avg_items_per_order"] == 1.333333
        assert user["first_order_value"] == Decimal("10.01")
        assert user["days_to_first_purchase"] == 2
        assert user["order_lifecycle_stage"] == "Repeat Customer"

    @pytest.mark.parametrize(
        ("orders", "stage"),
        [
            (1, "First-Time Buyer"),
            (2, "Repeat Customer"),
            (5, "Repeat Customer"),
            (6, "Loyal Customer"),
        ],
    )
    def test_stage_by_orders(self, run, orders, stage):
        # Two items an order.
        rows = [
            purchase(event_time=at(10 * number), product_id=product)
            for number in range(orders)
            for product in ("1", "2")
        ]
        (user,) = run(rows, frequency_unit="orders")["dim_users"]
        assert user["order_lifecycle_stage"] == user["customer_lifecycle_stage"] == stage
        assert user["purchase_count"] == 2 * orders

    CHECKOUT = tuple(bought("2019-10-01", "1", product_id=str(n)) for n in range(6))
    TWO_ORDERS = (bought("2019-10-01", "2"), bought("2019-10-02", "2"))

    @pytest.mark.parametrize(
        ("unit", "scores", "stages"),
        [
            ("items", [5, 1], ["Loyal Customer", "Repeat Customer"]),
            ("orders", [1, 5], ["First-Time Buyer", "Repeat Customer"]),
        ],
    )
    def test_the_unit_of_frequency(self, run, unit, scores, stages):
        tables = run([*self.CHECKOUT, *self.TWO_ORDERS], frequency_unit=unit)
        assert column(tables["dim_user_rfm"], "frequency_score") == scores
        assert column(tables["dim_users"], "customer_lifecycle_stage") == stages
        assert column(tables["dim_users"], "order_lifecycle_stage") == [
            "First-Time Buyer",
            "Repeat Customer",
        ]
        current = where(tables["snap_user_rfm"], is_current=True)
        assert column(current, "frequency_score") == scores
        current = where(tables["snap_user_status"], is_current=True)
        assert column(current, "customer_lifecycle_stage") == stages
        assert column(current, "purchase_count", "order_count") == [(6, 1), (2, 2)]

    @pytest.mark.parametrize(("unit", "churned"), [("items", 0), ("orders", 1)])
    def test_churn_counts_in_that_unit(self, run, unit, churned):
        # One order of two items two days apart, longer than the window of one day.
        rows = [purchase(event_time=at(days=0)), purchase(event_time=at(days=2))]
        rows.append(purchase(event_time=at(days=9), user_id="8", user_session="t"))
        overall = run(
            rows,
            frequency_unit=unit,
            order_gap_seconds=200_000,
            session_timeout_seconds=200_000,
            cohort_observation_window_days=1,
        )["metrics_churn"]
        assert column(where(overall, metric_level="cohort_overall"), "churned_customers") == [
            churned
        ]


class TestLifecycle:
    ROWS = (
        bought("2019-10-01", "1", "10"),
        bought("2019-10-02", "2", "5"),
        bought("2019-10-08", "1", "4"),
        on("2019-10-09", "3"),
        bought("2019-10-15", "3", "7"),
        on("2019-10-22", "1"),
    )
    COUNTS = (
        "active_users",
        "new_users",
        "retained_users",
        "resurrected_users",
        "dormant_users",
        "net_users",
    )
    MONEY = (
        "revenue",
        "revenue_new",
        "revenue_resurrected",
        "revenue_expansion",
        "revenue_contraction",
        "revenue_churned",
    )
    RATES = (
        "retention_rate",
        "churn_rate",
        "quick_ratio",
        "gross_revenue_retention",
        "net_revenue_retention",
        "revenue_quick_ratio",
    )

    def weeks(self, run, activity="visit", rows=ROWS, **options):
        tables = run(rows, **options)
        return where(tables["metrics_lifecycle"], activity=activity, period="week")

    def test_visits(self, run):
        weeks = self.weeks(run, as_of=october(27))
        starts = [date(2019, 9, 30), october(7), october(14), october(21)]
        assert column(weeks, "period_start") == starts
        # Active, new, retained, resurrected, dormant, net.
        assert column(weeks, *self.COUNTS) == [
            (2, 2, 0, 0, 0, 2),
            (2, 1, 1, 0, 1, 0),
            (1, 0, 1, 0, 1, -1),
            (1, 0, 0, 1, 1, 0),
        ]
        # Revenue, of the new, of the resurrected, more, less, and of the dormant.
        assert column(weeks, *self.MONEY) == [
            (15, 15, 0, 0, 0, 0),
            (4, 0, 0, 0, 6, 5),
            (7, 0, 0, 7, 0, 4),
            (0, 0, 0, 0, 0, 7),
        ]
        assert column(weeks, *self.RATES) == [
            (None, None, None, None, None, None),
            (0.5, 0.5, 1.0, 0.266667, 0.266667, 0.0),
            (0.5, 0.5, 0.0, 0.0, 1.75, 1.75),
            (0.0, 1.0, 1.0, 0.0, 0.0, 0.0),
        ]
        assert column(weeks, "is_complete") == [True] * 4
        assert column(weeks, "is_left_censored") == [True, False, False, False]

    def test_purchases(self, run):
        weeks = self.weeks(run, "purchase", as_of=october(27))
        assert column(weeks, *self.COUNTS) == [
            (2, 2, 0, 0, 0, 2),
            (1, 0, 1, 0, 1, -1),
            (1, 1, 0, 0, 1, 0),
            (0, 0, 0, 0, 1, -1),
        ]
        assert column(weeks, *self.MONEY) == [
            (15, 15, 0, 0, 0, 0),
            (4, 0, 0, 0, 6, 5),
            (7, 7, 0, 0, 0, 4),
            (0, 0, 0, 0, 0, 7),
        ]
        assert column(weeks, "revenue_quick_ratio") == [None, 0.0, 1.75, 0.0]

    def test_an_incomplete_period_has_counts_and_no_rates(self, run):
        last = self.weeks(run, as_of=october(26))[-1]
        assert last["is_complete"] is False
        assert column([last], *self.COUNTS) == [(1, 0, 0, 1, 1, 0)]
        assert column([last], *self.RATES) == [(None,) * 6]

    def test_periods_without_anybody(self, run):
        rows = [bought("2019-10-01", "1"), bought("2019-10-21", "1", "3")]
        weeks = self.weeks(run, rows=rows, as_of=october(27))
        assert column(weeks, *self.COUNTS) == [
            (1, 1, 0, 0, 0, 1),
            (0, 0, 0, 0, 1, -1),
            (0, 0, 0, 0, 0, 0),
            (1, 0, 0, 1, 0, 1),
        ]
        assert column(weeks, "retention_rate", "churn_rate") == [
            (None, None),
            (0.0, 1.0),
            (None, None),
            (None, None),
        ]
        assert column(weeks, "revenue", "revenue_resurrected", "revenue_churned") == [
            (1, 0, 0),
            (0, 0, 1),
            (0, 0, 0),
            (3, 3, 0),
        ]

    def test_nobody_buys(self, run):
        lifecycle = run([on("2019-10-01"), on("2019-10-02")])["metrics_lifecycle"]
        assert column(where(lifecycle, activity="purchase"), "period", *self.COUNTS) == [
            (period, 0, 0, 0, 0, 0, 0) for period in ("day", "day", "month", "week")
        ]

    def test_weeks_are_those_of_iso_at_the_end_of_a_year(self, run):
        # A Sunday, and the Monday and Wednesday of week 1 of 2020.
        rows = [on(day) for day in ("2019-12-29", "2019-12-30", "2020-01-01")]
        figures = ("period_start", "new_users", "retained_users", "is_complete")
        assert column(self.weeks(run, rows=rows), *figures) == [
            (date(2019, 12, 23), 1, 0, True),
            (date(2019, 12, 30), 0, 1, False),
        ]
        months = where(run(rows)["metrics_lifecycle"], activity="visit", period="month")
        assert column(months, *figures) == [
            (date(2019, 12, 1), 1, 0, True),
            (date(2020, 1, 1), 0, 1, False),
        ]

    @pytest.mark.parametrize(
        ("day", "is_complete"), [("2020-02-28", False), ("2020-02-29", True), ("2021-02-28", True)]
    )
    def test_the_last_day_of_february(self, run, day, is_complete):
        lifecycle = run([on(day)])["metrics_lifecycle"]
        assert column(where(lifecycle, activity="visit", period="month"), "is_complete") == [
            is_complete
        ]


class TestActiveUsers:
    def test_windows(self, run):
        tables = run([on("2019-10-01", "1"), on("2019-10-07", "2")], as_of=october(29))
        days = where(tables["metrics_active_users"], activity="visit")
        assert column(days, "event_date") == [october(day) for day in range(1, 30)]
        figures = (
            "daily_users",
            "weekly_users",
            "monthly_users",
            "stickiness",
            "daily_of_weekly",
            "weekly_of_monthly",
            "weekly_is_complete",
            "monthly_is_complete",
        )
        shown = {day["event_date"].day: column([day], *figures)[0] for day in days}
        assert shown[1] == (1, 1, 1, None, None, None, False, False)
        assert shown[6] == (0, 1, 1, None, None, None, False, False)
        assert shown[7] == (1, 2, 2, None, 0.5, None, True, False)
        assert shown[8] == (0, 1, 2, None, 0.0, None, True, False)
        assert shown[14] == (0, 0, 2, None, None, None, True, False)
        assert shown[27] == (0, 0, 2, None, None, None, True, False)
        assert shown[28] == (0, 0, 2, 0.0, None, 0.0, True, True)
        assert shown[29] == (0, 0, 1, 0.0, None, 0.0, True, True)
        buyers = where(tables["metrics_active_users"], activity="purchase")
        assert set(column(buyers, *figures[:6])) == {(0, 0, 0, None, None, None)}

    def test_users_are_distinct(self, run):
        rows = [on(f"2019-10-{day:02}", "1") for day in range(1, 29)]
        rows += [on("2019-10-28", "2"), bought("2019-10-28", "3")]
        last = where(run(rows)["metrics_active_users"], event_date=october(28))
        figures = ("daily_users", "weekly_users", "monthly_users", "stickiness")
        assert column(last, "activity", *figures) == [
            ("purchase", 1, 1, 1, 1.0),
            ("visit", 3, 3, 3, 1.0),
        ]


class TestStickiness:
    def test_days_in_a_period(self, run):
        rows = [on(f"2019-10-{day:02}", "1") for day in (7, 8, 13)]
        rows += [bought("2019-10-08", "2"), on("2019-10-09", "3")]
        rows += [row(user_id="3", user_session="3", event_time="2019-10-09 00:00:00 UTC")]
        stickiness = run(rows)["metrics_stickiness"]
        figures = ("active_days", "users", "users_at_least", "share", "is_complete")
        assert column(stickiness, "activity", "period", "period_start", *figures) == [
            ("purchase", "month", october(1), 1, 1, 1, 1.0, False),
            ("purchase", "week", october(7), 1, 1, 1, 1.0, True),
            ("visit", "month", october(1), 1, 2, 3, 0.666667, False),
            ("visit", "month", october(1), 3, 1, 1, 0.333333, False),
            ("visit", "week", october(7), 1, 2, 3, 0.666667, True),
            ("visit", "week", october(7), 3, 1, 1, 0.333333, True),
        ]


class TestCohortRetention:
    ROWS = (
        on("2019-10-01", "9"),
        bought("2019-10-08", "1", "10"),
        on("2019-10-16", "1"),
        on("2019-10-13", "2"),
        bought("2019-10-20", "2", "5"),
    )
    USERS = (
        "period_number",
        "cohort_users",
        "eligible_users",
        "retained_users",
        "retained_later_users",
    )
    MONEY = ("purchases", "orders", "revenue", "base_revenue", "cumulative_revenue")
    RATES = (
        "retention_rate",
        "unbounded_retention_rate",
        "revenue_retention_rate",
        "cumulative_revenue_per_user",
    )

    def windows(self, run, method, period, rows=ROWS, as_of=None, **values):
        values = {"cohort_by": "first_visit", "activity": "visit", **values}
        tables = run(rows, **({"as_of": as_of} if as_of else {}))
        return where(tables["metrics_cohort_retention"], method=method, period=period, **values)

    def test_calendar_weeks(self, run):
        windows = self.windows(run, "calendar", "week", as_of=october(25), cohort_start=october(7))
        assert column(windows, *self.USERS) == [(0, 2, 2, 2, 2), (1, 2, 2, 2, 2), (2, 2, 0, 0, 0)]
        assert column(windows, *self.MONEY) == [
            (1, 1, 10, 10, 10),
            (1, 1, 5, 10, 15),
            (0, 0, 0, 0, 0),
        ]
        assert column(windows, *self.RATES) == [
            (1.0, 1.0, 1.0, Decimal("5.00")),
            (1.0, 1.0, 0.5, Decimal("7.50")),
            (None, None, None, None),
        ]
        assert column(windows, "is_complete", "is_left_censored") == [
            (True, False),
            (True, False),
            (False, False),
        ]

    def test_purchases_of_those_who_visited(self, run):
        windows = self.windows(
            run,
            "calendar",
            "week",
            as_of=october(25),
            cohort_start=october(7),
            activity="purchase",
        )
        assert column(windows, *self.USERS) == [(0, 2, 2, 1, 2), (1, 2, 2, 1, 1), (2, 2, 0, 0, 0)]
        # Money is the same whatever the activity.
        assert column(windows, "revenue", "revenue_retention_rate") == [
            (10, 1.0),
            (5, 0.5),
            (0, None),
        ]

    def test_rolling_weeks(self, run):
        # User 1 has 8–14, 15–21, 22–28 October, user 2 has 13–19, 20–26.
        windows = self.windows(run, "rolling", "week", as_of=october(25), cohort_start=october(7))
        assert column(windows, *self.USERS) == [(0, 2, 2, 2, 2), (1, 2, 1, 1, 1), (2, 2, 0, 0, 0)]
        assert column(windows, *self.MONEY) == [
            (1, 1, 10, 10, 10),
            (0, 0, 0, 10, 10),
            (0, 0, 0, 0, 0),
        ]
        assert column(windows, *self.RATES) == [
            (1.0, 1.0, 1.0, Decimal("5.00")),
            (1.0, 1.0, 0.0, Decimal("10.00")),
            (None, None, None, None),
        ]
        assert column(windows, "is_complete") == [True, False, False]
        # On the last day of a window it can be told.
        windows = self.windows(run, "rolling", "week", as_of=october(26), cohort_start=october(7))
        assert column(windows, *self.USERS)[1] == (1, 2, 2, 2, 2)
        assert windows[1]["revenue"] == 5

    def test_brackets(self, run):
        rows = [on("2019-09-30", "9")]
        rows += [on(day, "1") for day in ("2019-10-01", "2019-10-08", "2019-10-09")]
        rows += [on(day, "1") for day in ("2019-10-31", "2019-11-01")]
        windows = self.windows(
            run, "bracket", "day", rows, as_of=date(2019, 11, 10), cohort_start=october(1)
        )
        # Day 0, days 1 to 7, 8 to 30, and 31 to 60, of which ten are over.
        assert column(windows, *self.USERS) == [
            (0, 1, 1, 1, 1),
            (1, 1, 1, 1, 1),
            (2, 1, 1, 1, 1),
            (3, 1, 0, 0, 0),
        ]

    @pytest.mark.parametrize(("day", "eligible"), [(29, 0), (30, 1)])
    def test_the_last_bracket_ends_after_365_days(self, run, day, eligible):
        # 2020 has a 29 February: a year after 1 October 2019 is 366 days.
        rows = [on("2019-10-01", "1"), on("2020-03-30", "1")]
        windows = self.windows(run, "bracket", "day", rows, as_of=date(2020, 9, day))
        assert column(windows, "period_number", "eligible_users", "retained_users") == [
            (0, 1, 1),
            (1, 1, 0),
            (2, 1, 0),
            (3, 1, 0),
            (4, 1, 0),
            (5, 1, 0),
            (6, eligible, eligible),
        ]

    def test_months_and_thirty_days(self, run):
        rows = [on("2020-01-31"), on("2020-02-29"), on("2020-03-01")]
        january = date(2020, 1, 1)
        calendar = self.windows(run, "calendar", "month", rows, as_of=date(2020, 3, 30))
        assert column(calendar, "cohort_start", *self.USERS) == [
            (january, 0, 1, 1, 1, 1),
            (january, 1, 1, 1, 1, 1),
            (january, 2, 1, 0, 0, 0),
        ]
        # 31 January to 29 February, 1 to 30 March.
        rolling = self.windows(run, "rolling", "month", rows, as_of=date(2020, 3, 30))
        assert column(rolling, "cohort_start", *self.USERS) == [
            (january, 0, 1, 1, 1, 1),
            (january, 1, 1, 1, 1, 1),
        ]

    def test_a_return_after_an_empty_window(self, run):
        rows = [on("2019-10-01"), on("2019-10-15")]
        windows = self.windows(run, "calendar", "week", rows, as_of=october(27))
        assert column(windows, *self.USERS) == [
            (0, 1, 1, 1, 1),
            (1, 1, 1, 0, 1),
            (2, 1, 1, 1, 1),
            (3, 1, 1, 0, 0),
        ]
        assert column(windows, "retention_rate", "unbounded_retention_rate")[1] == (0.0, 1.0)

    def test_cohorts_of_buyers(self, run):
        rows = [on("2019-10-01"), bought("2019-10-09"), on("2019-10-16")]
        values = {"cohort_by": "first_purchase", "as_of": october(20), "cohort_start": october(7)}
        visits = self.windows(run, "calendar", "week", rows, **values)
        assert column(visits, *self.USERS) == [(0, 1, 1, 1, 1), (1, 1, 1, 1, 1)]
        purchases = self.windows(run, "calendar", "week", rows, activity="purchase", **values)
        assert column(purchases, *self.USERS) == [(0, 1, 1, 1, 1), (1, 1, 1, 0, 0)]

    def test_over_all_cohorts(self, run):
        rows = [
            *(on("2019-10-01", "9"), on("2019-10-08", "9")),
            *(bought("2019-10-08", "1", "1"), bought("2019-10-14", "1", "0.5")),
            *(bought("2019-10-13", "2", "2"), on("2019-10-14", "3")),
        ]
        windows = self.windows(run, "calendar", "week", rows, as_of=october(20), cohort_start=None)
        # The cohort of the first day is left out; that of the 14th has no window 1 yet.
        assert column(windows, *self.USERS) == [(0, 3, 3, 3, 3), (1, 2, 2, 1, 1)]
        assert column(windows, *self.MONEY) == [(2, 2, 3, 3, 3), (1, 1, Decimal("0.5"), 3, 3.5)]
        assert column(windows, *self.RATES) == [
            (1.0, 1.0, 1.0, Decimal("1.00")),
            (0.5, 0.5, 0.166667, Decimal("1.75")),
        ]
        assert column(windows, "is_complete", "is_left_censored") == [(True, False)] * 2
        first = self.windows(
            run, "calendar", "week", rows, as_of=october(20), cohort_start=date(2019, 9, 30)
        )
        assert column(first, "is_left_censored") == [True] * 3
        months = self.windows(run, "calendar", "month", rows)
        assert column(months, "cohort_start", "is_left_censored") == [(october(1), True)]


class TestRepeatPurchase:
    EARLY = on("2019-09-30", "99")
    WINDOWS = (30, 60, 90, 180)
    DAYS = ("p25_days", "median_days", "p75_days", "p90_days", "mean_days", "km_median_days")

    def steps(self, run, rows, as_of, cohort_start=date(2019, 10, 1)):
        tables = run([self.EARLY, *rows], as_of=as_of)
        return where(tables["metrics_repeat_purchase"], cohort_start=cohort_start)

    def test_steps(self, run):
        rows = [
            *(bought("2019-10-01", "1"), bought("2019-10-11", "1")),
            *(bought("2019-10-01", "2"), bought("2019-10-31", "2")),
            *(bought("2019-10-01", "3"), bought("2019-11-30", "3")),
            *(bought("2019-10-01", "4"), bought("2019-10-02", "5")),
        ]
        second, third = self.steps(run, rows, date(2019, 12, 31))
        figures = ("purchase_number", "at_risk", "reached", "reach_rate")
        assert column([second, third], *figures) == [(2, 5, 3, 0.6), (3, 3, 0, 0.0)]

        def windows(step):
            names = ("eligible_{}", "reached_{}", "repurchase_rate_{}")
            return [tuple(step[name.format(days)] for name in names) for days in self.WINDOWS]

        # The second of October and 90 days is the last of December.
        assert windows(second) == [(5, 2, 0.4), (5, 3, 0.6), (5, 3, 0.6), (0, 0, None)]
        assert windows(third) == [(3, 0, 0.0), (2, 0, 0.0), (0, 0, None), (0, 0, None)]
        # Of five, four are left after 10 days, three after 30, two after 60.
        assert column([second], *self.DAYS) == [(10, 30, 60, 60, Decimal("33.33"), 60)]
        assert column([third], *self.DAYS) == [(None,) * 6]
        assert len(self.steps(run, rows, date(2019, 12, 31), None)) == 2

    def test_percentiles_are_values_that_occur(self, run):
        # After 1, 2, 3 and 4 days: one of four is a quarter, two are a half, three are 75 %.
        rows = [bought("2019-10-01", str(user)) for user in range(1, 5)]
        rows += [bought(f"2019-10-{1 + user:02}", str(user)) for user in range(1, 5)]
        step = self.steps(run, rows, october(31))[0]
        assert column([step], *self.DAYS) == [(1, 2, 3, 4, Decimal("2.50"), 2)]

    def test_the_window_closes_on_its_last_day(self, run):
        rows = [bought("2019-10-01", "1"), bought("2019-11-01", "1"), bought("2019-10-02", "2")]
        step = self.steps(run, rows, date(2019, 11, 1))[0]
        # User 1 came on day 31. Both could be watched for 30 days, neither for 60.
        figures = ("eligible_30", "reached_30", "eligible_60", "reached_60")
        assert column([step], *figures) == [(2, 0, 0, 0)]
        step = self.steps(run, rows, october(31))[0]
        assert column([step], *figures) == [(1, 0, 0, 0)]

    def test_a_day_is_one_occasion(self, run):
        rows = [
            bought("2019-10-01", "1"),
            bought("2019-10-01", "1", product_id="2"),
            bought("2019-10-01", "1", event_time="2019-10-01 13:00:00 UTC"),
        ]
        assert column(self.steps(run, rows, october(9)), "purchase_number", "reached") == [(2, 0)]

    def test_no_more_than_ten(self, run):
        rows = [bought(f"2019-10-{day:02}", "1") for day in range(1, 13)]
        steps = self.steps(run, rows, october(31))
        assert column(steps, "purchase_number") == list(range(2, 11))
        assert column(steps, "at_risk", "reached") == [(1, 1)] * 9

    def test_censored_on_the_day_of_a_return_is_still_at_risk(self, run):
        rows = [bought("2019-10-01", "1"), bought("2019-10-06", "1")]
        # Three at risk on day 5 of whom one returns: two thirds wait.
        watched = [bought("2019-10-16", "2"), bought("2019-10-16", "3")]
        step = self.steps(run, rows + watched, october(21))[0]
        assert step["km_median_days"] is None
        # Those who were watched for 4 days are not: nobody waits.
        step = self.steps(run, rows + watched, october(20))[0]
        assert step["km_median_days"] == 5

    def test_half_is_enough_exactly(self, run):
        # 9/10 · 8/9 · 7/8 · 6/7 · 5/6 is a half, but not in floating point.
        rows = [bought("2019-10-01", str(user)) for user in range(1, 11)]
        rows += [bought(f"2019-10-{1 + user:02}", str(user)) for user in range(1, 6)]
        assert self.steps(run, rows, october(31))[0]["km_median_days"] == 5

    def test_cohorts_and_all(self, run):
        rows = [
            *(bought("2019-09-30", "1"), bought("2019-10-05", "1")),
            *(bought("2019-10-31", "2"), bought("2019-11-01", "2"), bought("2019-11-01", "3")),
        ]
        steps = run(rows, as_of=date(2019, 11, 30))["metrics_repeat_purchase"]
        # September holds the first day, so it is not among all.
        assert column(steps, "cohort_start", "purchase_number", "at_risk", "reached") == [
            (date(2019, 9, 1), 2, 1, 1),
            (date(2019, 9, 1), 3, 1, 0),
            (october(1), 2, 1, 1),
            (october(1), 3, 1, 0),
            (date(2019, 11, 1), 2, 1, 0),
            (None, 2, 2, 1),
            (None, 3, 1, 0),
        ]


class TestHistory:
    ROWS = (
        bought("2019-10-01", "1", "10"),
        bought("2019-10-09", "2", "20"),
        on("2019-10-10", "3"),
        bought("2019-10-15", "1", "15"),
    )

    def test_versions_of_scores(self, run):
        versions = run(self.ROWS, as_of=october(16))["snap_user_rfm"]
        names = (
            *("user_id", "valid_from", "valid_to", "is_current"),
            *("recency_score", "frequency_score", "monetary_score"),
            *("rfm_score", "rfm_segment", "previous_segment"),
        )
        # Sundays are the 6th and 13th, and the 16th is the last day.
        sixth, thirteenth, last = october(6), october(13), october(16)
        assert column(versions, *names) == [
            ("1", sixth, last, False, 1, 1, 1, 3, "Lost", None),
            ("1", last, None, True, 2, 5, 2, 9, "About To Sleep", "Lost"),
            ("2", thirteenth, last, False, 2, 1, 2, 5, "Lost", None),
            ("2", last, None, True, 1, 1, 1, 3, "Lost", "Lost"),
        ]

    def test_versions_of_status(self, run):
        versions = run(self.ROWS, as_of=october(16))["snap_user_status"]
        assert versions[1] == {
            "user_id": "1",
            "valid_from": october(16),
            "valid_to": None,
            "is_current": True,
            "activity_status": "active",
            "is_churned": 0,
            "purchase_count": 2,
            "order_count": 2,
            "customer_ltv": Decimal(25),
            "customer_lifecycle_stage": "Repeat Customer",
            "previous_status": "active",
        }
        names = ("user_id", "valid_from", "valid_to", "activity_status", "customer_ltv")
        assert column(versions, *names, "previous_status") == [
            ("1", october(6), october(16), "active", 10, None),
            ("1", october(16), None, "active", 25, "active"),
            ("2", october(13), None, "active", 20, None),
            ("3", october(13), None, "prospect", None, None),
        ]

    def test_status_goes_on_without_events(self, run):
        rows = [bought("2019-10-01", "1")]
        versions = run(rows, as_of=date(2019, 12, 15), history="month")["snap_user_status"]
        names = ("valid_from", "valid_to", "activity_status", "is_churned", "previous_status")
        # 30, 60 and 75 days after the purchase.
        assert column(versions, *names) == [
            (october(31), date(2019, 11, 30), "active", 0, None),
            (date(2019, 11, 30), date(2019, 12, 15), "at_risk", 0, "active"),
            (date(2019, 12, 15), None, "churned", 1, "at_risk"),
        ]

    @pytest.mark.parametrize(
        ("history", "last", "snapshots"),
        [
            ("day", 4, [1, 2, 3, 4]),
            ("week", 16, [6, 13, 16]),
            ("week", 13, [6, 13]),
            ("month", 16, [16]),
            ("month", 31, [31]),
        ],
    )
    def test_snapshots(self, run, history, last, snapshots):
        tables = run([on("2019-10-01")], as_of=october(last), history=history)
        overall = where(tables["metrics_segment_history"], dimension="overall")
        assert column(overall, "snapshot_date") == [october(day) for day in snapshots]
        assert column(tables["snap_user_status"], "valid_from", "valid_to") == [
            (october(snapshots[0]), None)
        ]

    def test_no_history(self, run):
        tables = run(self.ROWS, history="none")
        assert [tables[name] for name in HISTORY] == [[], [], [], []]
        assert run(self.ROWS)["dim_user_rfm"] == tables["dim_user_rfm"]

    def test_every_day(self, run):
        versions = run(self.ROWS, as_of=october(16), history="day")["snap_user_rfm"]
        assert column(versions, "user_id", "valid_from", "valid_to", "rfm_score") == [
            ("1", october(1), october(15), 3),
            ("1", october(15), None, 9),
            ("2", october(9), october(15), 5),
            ("2", october(15), None, 3),
        ]

    def test_ties_go_by_the_ids_as_text(self, run):
        rows = [bought("2019-10-01", user) for user in ("9", "10", "100")]
        versions = run(rows, history="day")["snap_user_rfm"]
        assert column(versions, "user_id", "recency_score", "monetary_score") == [
            ("10", 1, 1),
            ("100", 2, 2),
            ("9", 3, 3),
        ]
        assert column(versions, "frequency_score") == [1, 1, 1]

    def test_an_order_counts_from_its_date(self, run):
        rows = [purchase(event_time=at(86_399)), purchase(event_time=at(86_400))]
        versions = run(rows, history="day")["snap_user_status"]
        assert column(versions, "valid_from", "purchase_count", "order_count") == [
            (october(1), 1, 1),
            (october(2), 2, 1),
        ]

    def test_segments_over_time(self, run):
        segments = run(self.ROWS, as_of=october(16))["metrics_segment_history"]
        assert where(segments, snapshot_date=october(6), dimension="overall") == [
            {
                "snapshot_date": october(6),
                "dimension": "overall",
                "value": "all",
                "customers": 1,
                "churned_customers": 0,
                "purchases": 1,
                "orders": 1,
                "revenue": Decimal(10),
                "purchases_since": 1,
                "revenue_since": Decimal(10),
                "entered": 1,
                "customer_share": 1.0,
                "revenue_share": 1.0,
            }
        ]
        names = (
            *("snapshot_date", "value", "customers", "purchases", "revenue"),
            *("purchases_since", "revenue_since", "entered", "customer_share", "revenue_share"),
        )
        assert column(where(segments, dimension="overall"), *names)[1:] == [
            (october(13), "all", 3, 2, 30, 1, 20, 2, 1.0, 1.0),
            (october(16), "all", 3, 3, 45, 1, 15, 0, 1.0, 1.0),
        ]
        assert column(where(segments, dimension="rfm_segment"), *names) == [
            (october(6), "Lost", 1, 1, 10, 1, 10, 1, 1.0, 1.0),
            (october(13), "Lost", 2, 2, 30, 1, 20, 1, 0.666667, 1.0),
            (october(13), "No RFM Score", 1, 0, 0, 0, 0, 1, 0.333333, 0.0),
            (october(16), "About To Sleep", 1, 2, 25, 1, 15, 1, 0.333333, 0.555556),
            (october(16), "Lost", 1, 1, 20, 0, 0, 0, 0.333333, 0.444444),
            (october(16), "No RFM Score", 1, 0, 0, 0, 0, 0, 0.333333, 0.0),
        ]
        assert column(where(segments, snapshot_date=october(16)), "dimension", "value") == [
            ("activity_status", "active"),
            ("activity_status", "prospect"),
            ("customer_lifecycle_stage", "First-Time Buyer"),
            ("customer_lifecycle_stage", "Prospect"),
            ("customer_lifecycle_stage", "Repeat Customer"),
            ("overall", "all"),
            ("rfm_segment", "About To Sleep"),
            ("rfm_segment", "Lost"),
            ("rfm_segment", "No RFM Score"),
        ]

    MOVES = (
        *("period", "snapshot_date", "from_value", "to_value"),
        *("customers", "purchases", "revenue", "from_share", "to_share"),
    )

    def test_migration_between_weeks(self, run):
        moves = run(self.ROWS, as_of=october(16))["metrics_segment_migration"]
        # The first week has none before it, the third is not over.
        thirteenth = october(13)
        assert column(where(moves, dimension="rfm_segment"), *self.MOVES) == [
            ("week", thirteenth, "Lost", "Lost", 1, 0, 0, 1.0, 0.5),
            ("week", thirteenth, "New", "Lost", 1, 1, 20, 0.5, 0.5),
            ("week", thirteenth, "New", "No RFM Score", 1, 0, 0, 0.5, 1.0),
        ]
        assert column(where(moves, dimension="activity_status"), *self.MOVES) == [
            ("week", thirteenth, "New", "active", 1, 1, 20, 0.5, 0.5),
            ("week", thirteenth, "New", "prospect", 1, 0, 0, 0.5, 1.0),
            ("week", thirteenth, "active", "active", 1, 0, 0, 1.0, 0.5),
        ]

    @pytest.mark.parametrize("history", ["week", "month"])
    def test_migration_between_months(self, run, history):
        rows = [bought("2019-10-01", "1"), bought("2019-11-15", "2", "3")]
        tables = run(rows, as_of=date(2019, 12, 1), history=history)
        november = date(2019, 11, 30)
        moves = where(
            tables["metrics_segment_migration"], period="month", dimension="activity_status"
        )
        # User 1 bought 30 days before the end of October, 60 before that of November.
        assert column(moves, *self.MOVES) == [
            ("month", november, "New", "active", 1, 1, 3, 1.0, 1.0),
            ("month", november, "active", "at_risk", 1, 0, 0, 1.0, 1.0),
        ]
        # The ends of months are no snapshots of a history by weeks.
        dates = {each["snapshot_date"] for each in tables["metrics_segment_history"]}
        assert (november in dates) == (history == "month")
        weekly = where(tables["metrics_segment_migration"], period="week")
        assert bool(weekly) == (history == "week")

    def test_years_apart(self, run):
        rows = [bought("2017-12-31", "1"), bought("2020-02-29", "1")]
        tables = run(rows, history="month")
        # December 2017 to February 2020.
        overall = where(tables["metrics_segment_history"], dimension="overall")
        assert len(overall) == 27
        assert column(tables["snap_user_status"], "valid_from", "activity_status") == [
            (date(2017, 12, 31), "active"),
            (date(2018, 1, 31), "declining"),
            (date(2018, 2, 28), "at_risk"),
            (date(2018, 3, 31), "churned"),
            (date(2020, 2, 29), "active"),
        ]
        assert column(tables["snap_user_rfm"], "valid_from", "valid_to") == [
            (date(2017, 12, 31), None)
        ]


class TestProperties:
    """Of the oracle alone: what the rules of several tables say together."""

    @given(run=runs())
    @settings(max_examples=10)
    def test_figures_add_up(self, tmp_path_factory, run):
        rows, options = run
        path = tmp_path_factory.mktemp("input") / "events.csv"
        path.write_text(csv_text(rows), encoding="utf-8")
        tables = rows_of_tables(oracle_tables([path], **options))

        # Prices of 29 digits are more than Python's decimals keep by default.
        with localcontext(prec=60):
            for period in ("day", "week", "month"):
                for activity in ("visit", "purchase"):
                    series = where(tables["metrics_lifecycle"], activity=activity, period=period)
                    assert_lifecycle_adds_up(series)
            assert_totals_agree(tables["fct_user_days"], tables["metrics_periods"])
        users = where(tables["metrics_active_users"], activity="visit")
        days = where(tables["metrics_lifecycle"], activity="visit", period="day")
        assert column(users, "event_date", "daily_users") == column(
            days, "period_start", "active_users"
        )
        assert_versions_join(tables["snap_user_rfm"], tables["dim_user_rfm"], options)
        assert_versions_join(tables["snap_user_status"], tables["dim_users"], options)
        assert_migration_adds_up(tables["metrics_segment_migration"])

    @given(rows=clickstream_rows(), data=st.data())
    @settings(max_examples=10)
    def test_a_snapshot_is_a_run_of_its_day(self, tmp_path_factory, rows, data):
        # A brand of later would drop a product from all snapshots.
        rows = [{**each, "brand": ""} for each in rows]
        path = tmp_path_factory.mktemp("input") / "events.csv"
        path.write_text(csv_text(rows), encoding="utf-8")
        options = {
            "history": data.draw(st.sampled_from(["day", "week", "month"])),
            "frequency_unit": data.draw(st.sampled_from(["items", "orders"])),
            "as_of": data.draw(st.sampled_from([date(2019, 11, 15), date(2020, 1, 31)])),
        }
        tables = rows_of_tables(oracle_tables([path], **options))
        snapshots = where(tables["metrics_segment_history"], dimension="overall")
        if not snapshots:
            return
        snapshot = data.draw(st.sampled_from(snapshots))
        options["as_of"] = day = snapshot["snapshot_date"]
        past = rows_of_tables(oracle_tables([path], **options))

        for name, dimension in (
            ("snap_user_rfm", "dim_user_rfm"),
            ("snap_user_status", "dim_users"),
        ):
            valid = [
                each
                for each in tables[name]
                if each["valid_from"] <= day
                and (each["valid_to"] is None or day < each["valid_to"])
            ]
            assert_same_state(valid, past[dimension])
            # What had ended by then stays as it was.
            ended = where(past[name], is_current=False)
            assert [each for each in ended if each not in tables[name]] == []
        (overall,) = where(past["metrics_user_segments"], dimension="overall")
        for figure in ("customers", "churned_customers", "purchases", "revenue"):
            assert snapshot[figure] == overall[figure]
        assert {
            each["value"]: (each["customers"], each["revenue"], each["revenue_share"])
            for each in where(
                tables["metrics_segment_history"], dimension="rfm_segment", snapshot_date=day
            )
        } == {
            each["rfm_segment"]: (each["customers"], each["revenue"], each["revenue_share"])
            for each in past["metrics_rfm_segments"]
        }


def assert_lifecycle_adds_up(series):
    """Check that every period follows from the one before it."""
    before = {"active_users": 0, "revenue": 0}
    for each in series:
        assert each["active_users"] == (
            each["new_users"] + each["retained_users"] + each["resurrected_users"]
        )
        assert each["active_users"] == before["active_users"] + each["net_users"]
        assert each["revenue"] == (
            before["revenue"]
            + each["revenue_new"]
            + each["revenue_resurrected"]
            + each["revenue_expansion"]
            - each["revenue_contraction"]
            - each["revenue_churned"]
        )
        before = each


def assert_totals_agree(user_days, periods):
    """Check that the days of users hold what the months hold."""
    for name in ("purchases", "orders", "revenue"):
        months = where(periods, period="month")
        assert sum(column(user_days, name)) == sum(column(months, name))


def assert_versions_join(versions, users, options):
    """Check that a user's versions have no holes, and the last ones what the users' table has."""
    for version, following in pairwise(versions):
        if version["user_id"] == following["user_id"]:
            assert version["valid_to"] == following["valid_from"]
        else:
            assert version["valid_to"] is None
    current = where(versions, is_current=True)
    assert current == where(versions, valid_to=None)
    if options.get("history") != "none":
        assert_same_state(current, users)


def assert_same_state(versions, users):
    """Check that both say the same of the same users."""
    assert len(versions) == len(users)
    for version, user in zip(versions, users, strict=True):
        shared = version.keys() & user.keys()
        assert {name: version[name] for name in shared} == {name: user[name] for name in shared}


def assert_migration_adds_up(moves):
    """Check that who is in a value at the end of a period is there when the next one begins."""
    arrived, left = {}, {}
    for each in moves:
        group = (each["period"], each["dimension"])
        for flows, value in ((arrived, each["to_value"]), (left, each["from_value"])):
            at_date = flows.setdefault(group, {}).setdefault(each["snapshot_date"], {})
            at_date[value] = at_date.get(value, 0) + each["customers"]
    for group, by_date in arrived.items():
        for date_before, date_after in pairwise(sorted(by_date)):
            known = {v: n for v, n in left[group][date_after].items() if v != "New"}
            assert by_date[date_before] == known
