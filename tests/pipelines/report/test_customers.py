"""The pages over time: what they say of rows written by hand, and what they leave open."""

from datetime import date
from decimal import Decimal

import polars as pl
import pytest

from pipelines.report.customers import customers_page
from pipelines.report.history import history_page
from transforms.schema import TABLES_BY_NAME

HALF = "by then half of the customers have bought again, counting those who still may"
OCTOBER, NOVEMBER, DECEMBER = date(2019, 10, 1), date(2019, 11, 1), date(2019, 12, 1)


def frame(name, *rows):
    """Return a table of the schema; what the rows do not say is 0, false or nothing."""
    columns = TABLES_BY_NAME[name].columns
    blank = {
        column.name: 0 if column.type.name in {"INT64", "NUMERIC"} else False
        for column in columns
        if column.required
    }
    schema = TABLES_BY_NAME[name].polars_schema()
    return pl.DataFrame([blank | row for row in rows], schema=schema)


def month(start, **values):
    return {
        "activity": "purchase",
        "period": "month",
        "period_start": start,
        "is_complete": True,
    } | values


def cohort(start, number, eligible, retained, **values):
    known = eligible > 0
    return {
        "cohort_by": "first_purchase",
        "activity": "purchase",
        "method": "calendar",
        "period": "month",
        "cohort_start": start,
        "period_number": number,
        "cohort_users": 40,
        "eligible_users": eligible,
        "retained_users": retained,
        "retention_rate": retained / eligible if known else None,
        "cumulative_revenue_per_user": Decimal(100 + number) if known else None,
        "is_complete": known,
    } | values


def repeat(**values):
    return {"cohort_start": None, "purchase_number": 2, "at_risk": 40, "reached": 3} | values


def over_time(**tables):
    """Return the tables of a shop that sold from October to the middle of December."""
    days = [date(2019, 10, 5), date(2019, 12, 14)]
    return {
        "metrics_periods": frame(
            "metrics_periods",
            *({"period": "day", "period_start": day, "events": 50} for day in days),
        ),
        "metrics_lifecycle": frame(
            "metrics_lifecycle",
            month(OCTOBER, active_users=50, new_users=50, is_left_censored=True),
            month(
                NOVEMBER,
                active_users=45,
                new_users=30,
                retained_users=15,
                dormant_users=35,
                retention_rate=0.3,
                quick_ratio=0.857143,
            ),
            month(
                DECEMBER,
                active_users=20,
                new_users=12,
                retained_users=5,
                resurrected_users=3,
                dormant_users=40,
                is_complete=False,
            ),
        ),
        "metrics_active_users": frame("metrics_active_users"),
        "metrics_stickiness": frame("metrics_stickiness"),
        "metrics_cohort_retention": frame("metrics_cohort_retention"),
        "metrics_repeat_purchase": frame("metrics_repeat_purchase"),
    } | tables


def figure(page, name):
    return next(figure for figure in page.figures if figure.figure_id == name)


def chart(page, name):
    return next(chart for chart in page.charts if chart.chart_id == name)


def test_the_figures_are_of_the_last_whole_month():
    page = customers_page(over_time())
    assert page.lead == "The figures are of Nov 2019, the last whole month."
    shown = {card.card_id: (card.value, card.change) for card in page.cards}
    # October begins the data: its new customers are no basis for a change.
    assert shown["active_users"] == ("45", None)
    assert shown["retention_rate"] == ("30.0%", None)


def test_changes_need_a_month_before_that_does_not_begin_the_data():
    lifecycle = frame(
        "metrics_lifecycle",
        month(OCTOBER, active_users=50, new_users=50, dormant_users=10),
        month(NOVEMBER, active_users=60, new_users=30, dormant_users=20),
    )
    page = customers_page(over_time(metrics_lifecycle=lifecycle))
    changes = {card.card_id: card.change for card in page.cards}
    assert changes["active_users"].text == "+20.0%"
    assert (changes["dormant_users"].direction, changes["dormant_users"].tone) == ("up", "bad")


def test_who_is_dormant_is_not_known_before_the_month_ends():
    page = customers_page(over_time())
    growth = chart(page, "growth")
    assert [row["values"] for row in growth.rows] == [
        [0, 50, 0, 0],
        [15, 30, 0, -35],
        [5, 12, 3, None],
    ]
    assert growth.rows[2]["period"] == "Dec 2019 (so far)"
    assert growth.rows[2]["texts"] == ["5", "12", "3", "not known yet"]
    assert growth.sentence == (
        "Nov 2019: 45 customers, 30 of them new, 15 retained and 0 back after a break; 35 of the "
        "month before did not come back. Oct 2019 begins the data: there all count as new."
    )


def test_a_first_month_says_that_all_count_as_new():
    lifecycle = frame(
        "metrics_lifecycle",
        month(OCTOBER, active_users=5, new_users=5, is_left_censored=True, is_complete=False),
    )
    page = customers_page(over_time(metrics_lifecycle=lifecycle))
    assert page.lead == "No month of the data is complete yet: the figures are so far."
    assert {card.card_id: card.value for card in page.cards}["dormant_users"] == "–"
    assert chart(page, "growth").sentence == (
        "Oct 2019: 5 customers so far. It is the first month of the data, so all of them count as "
        "new."
    )


def test_open_cells_of_the_triangle_are_not_drawn():
    retention = frame(
        "metrics_cohort_retention",
        cohort(None, 0, 40, 40),
        cohort(None, 1, 40, 8),
        cohort(None, 2, 0, 0),
        cohort(OCTOBER, 0, 50, 50, cohort_users=50, is_left_censored=True),
        cohort(OCTOBER, 1, 50, 0, cohort_users=50, is_left_censored=True),
        cohort(OCTOBER, 2, 0, 0, cohort_users=50, is_left_censored=True),
        cohort(NOVEMBER, 0, 40, 40),
        cohort(NOVEMBER, 1, 0, 0),
    )
    page = customers_page(over_time(metrics_cohort_retention=retention))
    drawn = chart(page, "retention")
    assert [(row["row"], row["column"], row["label"]) for row in drawn.rows] == [
        ("All cohorts", "0", "100%"),
        ("All cohorts", "1", "20%"),
        ("Oct 2019*", "0", "100%"),
        ("Oct 2019*", "1", "0%"),
        ("Nov 2019", "0", "100%"),
    ]
    assert drawn.rows[1]["tooltip"] == "20.0%: 8 of 40 customers"
    # The ramp is that of later months: what every cohort starts with would make them all pale.
    assert [row["step"] for row in drawn.rows] == [7, 7, 7, 0, 7]
    assert drawn.sentence == (
        "Over all cohorts, who bought again: 20.0% in month 1 (of 40 customers)."
    )
    value = chart(page, "lifetime-value")
    assert value.sentence == (
        "Over all cohorts: 100.00 by the end of month 0 (of 40 customers), "
        "101.00 by the end of month 1 (of 40 customers)."
    )
    assert [row["number"] for row in value.rows if row["marked"]] == [0, 1]


def test_windows_after_the_data_are_not_shown_whatever_as_of():
    after = {
        n: [cohort(None, n, 40, 0), cohort(OCTOBER, n, 50, 0), cohort(NOVEMBER, n, 40, 0)]
        for n in range(4)
    }
    retention = frame("metrics_cohort_retention", *(row for rows in after.values() for row in rows))
    page = customers_page(over_time(metrics_cohort_retention=retention))
    drawn = {(row["row"], row["column"]) for row in chart(page, "retention").rows}
    assert drawn == {
        *((name, str(n)) for name in ("All cohorts", "Oct 2019") for n in range(3)),
        *(("Nov 2019", str(n)) for n in range(2)),
    }


def test_only_the_first_cohort_says_nothing_over_all():
    retention = frame(
        "metrics_cohort_retention",
        cohort(OCTOBER, 0, 50, 50, is_left_censored=True),
        cohort(OCTOBER, 1, 50, 10, is_left_censored=True),
    )
    page = customers_page(over_time(metrics_cohort_retention=retention))
    assert chart(page, "retention").sentence == (
        "Nothing to say over all cohorts: no cohort after the first one has a whole month after "
        "its own to look back on."
    )
    assert chart(page, "lifetime-value").sentence == (
        "No cohort after the first one has a whole month to look back on."
    )


def test_the_choice_of_retention_shows_the_rows_of_its_first_two_controls():
    page = customers_page(
        over_time(
            metrics_cohort_retention=frame(
                "metrics_cohort_retention",
                cohort(None, 0, 40, 40),
                cohort(None, 0, 40, 40, period="week"),
            )
        )
    )
    retention = figure(page, "retention")
    assert retention.table.groups == ["purchase|month", "purchase|week"]
    assert retention.choice.grouping == 2
    assert retention.choice.first == ["purchase", "month", "users"]
    assert len(retention.choice.patches) == 8


@pytest.mark.parametrize(
    ("row", "among", "of_all", "sentence"),
    [
        (
            repeat(
                eligible_30=20,
                reached_30=3,
                repurchase_rate_30=0.15,
                p25_days=2,
                median_days=5,
                p75_days=9,
            ),
            "5 days; the middle half between 2 and 9 days",
            "Not reached: by what is known so far, fewer than half of the customers buy again.",
            "Of the customers observed for so long, bought again: 15.0% within 30 days (of 20).",
        ),
        (
            repeat(reached=0),
            "Nobody bought again.",
            "Not reached: by what is known so far, fewer than half of the customers buy again.",
            "No first purchase is 30 days ago.",
        ),
        (
            repeat(median_days=1, p25_days=1, p75_days=1, km_median_days=12),
            "1 day; the middle half between 1 and 1 day",
            f"12 days: {HALF}",
            "No first purchase is 30 days ago.",
        ),
    ],
)
def test_the_second_purchase_counts_those_who_still_may(row, among, of_all, sentence):
    tables = over_time(metrics_repeat_purchase=frame("metrics_repeat_purchase", row))
    page = customers_page(tables)
    assert [text for _, text in figure(page, "second-purchase").details] == [among, of_all]
    assert chart(page, "repurchase-windows").sentence == sentence


def test_without_a_later_cohort_the_second_purchase_is_left_open():
    page = customers_page(over_time())
    assert figure(page, "second-purchase").details == []
    assert chart(page, "repurchase-windows").rows == []


def test_active_users_begin_where_the_data_reaches_back_far_enough():
    active = frame(
        "metrics_active_users",
        *(
            {
                "activity": "purchase",
                "event_date": date(2019, 12, day),
                "daily_users": day,
                "weekly_users": 20,
                "monthly_users": 30,
                "weekly_is_complete": day >= 12,
            }
            for day in (11, 12)
        ),
    )
    drawn = chart(customers_page(over_time(metrics_active_users=active)), "active-users")
    assert [row["values"] for row in drawn.rows] == [[11, None, None], [12, 20, None]]
    assert drawn.sentence == (
        "Up to 12 Dec 2019, users who bought: 12 that day and 20 within 7 days. "
        "Most on one day: 12, on 12 Dec 2019."
    )


def snapshot(day, value, customers, revenue=0, dimension="rfm_segment"):
    return {
        "snapshot_date": day,
        "dimension": dimension,
        "value": value,
        "customers": customers,
        "revenue": revenue,
    }


def move(source, target, customers, share, period="month"):
    return {
        "period": period,
        "snapshot_date": date(2019, 11, 30),
        "dimension": "rfm_segment",
        "from_value": source,
        "to_value": target,
        "customers": customers,
        "from_share": share,
    }


def history(*moves):
    first, second = date(2019, 10, 6), date(2019, 12, 14)
    return over_time() | {
        "metrics_segment_history": frame(
            "metrics_segment_history",
            snapshot(first, "all", 10, dimension="overall"),
            snapshot(first, "Recent Customers", 2, 20),
            snapshot(first, "No RFM Score", 8),
            snapshot(second, "all", 110, 100, dimension="overall"),
            snapshot(second, "Champions", 2, 50),
            snapshot(second, "Recent Customers", 6, 50),
            snapshot(second, "No RFM Score", 102),
        ),
        "metrics_segment_migration": frame("metrics_segment_migration", *moves),
    }


def test_areas_are_of_the_customers_who_bought():
    drawn = chart(history_page(history()), "history-customers")
    names = [series["name"] for series in drawn.spec["usermeta"]["legend"]]
    assert names == ["Champions", "Recent Customers"]
    assert [row["values"] for row in drawn.rows] == [[0, 2], [2, 6]]
    assert drawn.sentence == (
        "14 Dec 2019: the largest is Recent Customers, 75.0%. Since 6 Oct 2019, Champions gained "
        "most (+25.0 pts) and Recent Customers lost most (−25.0 pts). Not drawn: 102 customers "
        "without a purchase."
    )


def test_what_moved_most_is_told_in_a_sentence():
    page = history_page(
        history(
            move("New", "No RFM Score", 30, 0.75),
            move("New", "Recent Customers", 10, 0.25),
            move("Recent Customers", "Recent Customers", 2, 0.25),
            move("Recent Customers", "Promising", 6, 0.75),
            move("Promising", "Lost", 2, 1.0),
            move("Promising", "Champions", 99, 1.0, period="week"),
        )
    )
    assert chart(page, "migration").sentence == (
        "Between 31 Oct 2019 and 30 Nov 2019, 80.0% of the customers moved, most of them from "
        "Recent Customers to Promising: 6, 75.0% of Recent Customers. 40 customers came new, "
        "75.0% of them as No RFM Score."
    )
    assert {card.card_id: card.value for card in page.cards}["moved"] == "80.0%"
    assert figure(page, "migration").choice.first == ["rfm_segment", "2019-11-30"]


def test_where_nobody_moved_that_is_said():
    page = history_page(history(move("Lost", "Lost", 4, 1.0)))
    assert chart(page, "migration").sentence == (
        "Between 31 Oct 2019 and 30 Nov 2019, nobody moved."
    )


def test_without_whole_months_there_is_no_matrix():
    page = history_page(history())
    assert figure(page, "migration").charts == []
    assert {card.card_id: card.value for card in page.cards}["moved"] == "–"


def test_without_buyers_there_are_no_areas():
    tables = history()
    only = tables["metrics_segment_history"].filter(pl.col("value").is_in(["all", "No RFM Score"]))
    drawn = chart(history_page(tables | {"metrics_segment_history": only}), "history-revenue")
    assert (drawn.rows, drawn.sentence) == ([], "Nobody has bought yet.")
