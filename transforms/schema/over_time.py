"""The tables of customers over time: who is new, who comes back, and when."""

from __future__ import annotations

from itertools import pairwise

import polars as pl

from transforms.schema.types import (
    BOOL,
    DATE,
    INT64,
    NUMERIC,
    STRING,
    Column,
    RowCheck,
    Table,
    count,
    rate,
    required,
    totals,
)
from transforms.schema.values import (
    ACTIVITIES,
    COHORTS_BY,
    LAST_PURCHASE_NUMBER,
    PERIODS,
    REPURCHASE_WINDOW_DAYS,
    RETENTION_METHODS,
)

_ACTIVITY = required(
    "activity",
    STRING,
    "What makes a user active on a day: a visit is any kept event.",
    accepted=ACTIVITIES,
)


def _money(name: str, description: str) -> Column:
    return required(name, NUMERIC, description, minimum=0)


def _out_of_order(*names: str) -> pl.Expr:
    """Whether any of some numbers exceeds the next."""
    return pl.any_horizontal(pl.col(small) > pl.col(large) for small, large in pairwise(names))


METRICS_LIFECYCLE = Table(
    name="metrics_lifecycle",
    group="time",
    grain="one row per activity and period from the first day of the data to as_of",
    key=("activity", "period", "period_start"),
    columns=(
        _ACTIVITY,
        required("period", STRING, "Length of the period.", accepted=PERIODS),
        required("period_start", DATE, "First day; of a week its Monday."),
        count("active_users", "Users active in the period."),
        count("new_users", "Of them, those never active before."),
        count("retained_users", "Of them, those active in the period before."),
        count("resurrected_users", "Of them, those active before, but not in the period before."),
        count("dormant_users", "Users active in the period before, but not in this one."),
        required("net_users", INT64, "new_users + resurrected_users − dormant_users."),
        rate("retention_rate", "retained_users / active users of the period before."),
        rate("churn_rate", "dormant_users / active users of the period before."),
        rate("quick_ratio", "(new_users + resurrected_users) / dormant_users."),
        _money("revenue", "Revenue of the active users in the period, for either activity."),
        _money("revenue_new", "That of the new ones."),
        _money("revenue_resurrected", "That of the resurrected ones."),
        _money(
            "revenue_expansion",
            "By how much retained users spent more than in the period before, summed over those "
            "who did.",
        ),
        _money(
            "revenue_contraction",
            "By how much retained users spent less than in the period before, summed over those "
            "who did.",
        ),
        _money("revenue_churned", "What the dormant users spent in the period before."),
        rate(
            "gross_revenue_retention",
            "(revenue before − revenue_contraction − revenue_churned) / revenue before.",
        ),
        rate("net_revenue_retention", "The same with + revenue_expansion."),
        rate(
            "revenue_quick_ratio",
            "(revenue_new + revenue_resurrected + revenue_expansion) / (revenue_contraction + "
            "revenue_churned).",
        ),
        required("is_complete", BOOL, "True where the period ends by as_of; else no rates."),
        required(
            "is_left_censored",
            BOOL,
            "True for the period of the data's first day, whose new users may be old ones.",
        ),
    ),
    row_checks=(
        RowCheck(
            "active_users_add_up",
            pl.sum_horizontal("new_users", "retained_users", "resurrected_users")
            != pl.col("active_users"),
        ),
        RowCheck(
            "net_users_add_up",
            pl.col("new_users") + pl.col("resurrected_users") - pl.col("dormant_users")
            != pl.col("net_users"),
        ),
    ),
    measures=totals("revenue", where=(pl.col("activity") == "visit") & (pl.col("period") == "day")),
)


METRICS_ACTIVE_USERS = Table(
    name="metrics_active_users",
    group="time",
    grain="one row per activity and day from the first day of the data to as_of",
    key=("activity", "event_date"),
    columns=(
        _ACTIVITY,
        required("event_date", DATE, "The last day of the windows."),
        count("daily_users", "Distinct users active that day."),
        count("weekly_users", "Distinct users active in the 7 days that end with it."),
        count(
            "monthly_users", "Distinct users active in the 28 days (whole weeks) that end with it."
        ),
        rate("stickiness", "daily_users / monthly_users; NULL unless the 28 days are complete."),
        rate("daily_of_weekly", "daily_users / weekly_users; NULL unless the 7 days are complete."),
        rate(
            "weekly_of_monthly",
            "weekly_users / monthly_users; NULL unless the 28 days are complete.",
        ),
        required("weekly_is_complete", BOOL, "True where the data has all of the 7 days."),
        required("monthly_is_complete", BOOL, "True where the data has all of the 28 days."),
    ),
    row_checks=(
        RowCheck(
            "wider_windows_have_more_users",
            _out_of_order("daily_users", "weekly_users", "monthly_users"),
        ),
    ),
)


METRICS_STICKINESS = Table(
    name="metrics_stickiness",
    group="time",
    grain="one row per activity, period and number of active days that occurs",
    key=("activity", "period", "period_start", "active_days"),
    columns=(
        _ACTIVITY,
        required("period", STRING, "Length of the period.", accepted=("week", "month")),
        required("period_start", DATE, "First day; of a week its Monday."),
        required("active_days", INT64, "Days of the period on which a user was active.", minimum=1),
        required("users", INT64, "Users active on exactly that many days.", minimum=1),
        required("users_at_least", INT64, "Users active on at least that many days.", minimum=1),
        rate("share", "users / users active in the period."),
        required("is_complete", BOOL, "True where the period ends by as_of."),
    ),
    row_checks=(RowCheck("users_are_at_least", _out_of_order("users", "users_at_least")),),
)


METRICS_COHORT_RETENTION = Table(
    name="metrics_cohort_retention",
    group="time",
    grain="one row per cohort and window since the start of its users that has begun for one of "
    "them, by each way to make cohorts, activities and windows; and one over all cohorts",
    key=("cohort_by", "activity", "method", "period", "cohort_start", "period_number"),
    columns=(
        required(
            "cohort_by",
            STRING,
            "What a user's start is: the date of the first visit or purchase.",
            accepted=COHORTS_BY,
        ),
        _ACTIVITY,
        required(
            "method",
            STRING,
            "What window n is: calendar: the n-th week or month after that of the start; rolling: "
            "days n·L to (n+1)·L − 1 since the start, L = 7 or 30; bracket: the n-th of the days "
            "0, 1-7, 8-30, 31-60, 61-90, 91-180, 181-365 since the start.",
            accepted=RETENTION_METHODS,
        ),
        required("period", STRING, "Length of the windows; day for brackets.", accepted=PERIODS),
        Column(
            "cohort_start",
            DATE,
            "First day of the week or month of the start (for brackets the month); NULL for all "
            "cohorts that are not left-censored.",
        ),
        required("period_number", INT64, "The window's number, from 0.", minimum=0),
        required("cohort_users", INT64, "Users of the cohort.", minimum=1),
        count("eligible_users", "Those of them whose window ends by as_of."),
        count("retained_users", "Eligible users active in the window."),
        count(
            "retained_later_users", "Eligible users active in the window or after it, up to as_of."
        ),
        count("purchases", "Purchases of eligible users in the window."),
        count("orders", "Orders of eligible users in the window."),
        _money("revenue", "Revenue of eligible users in the window."),
        _money("base_revenue", "Revenue of eligible users in their window 0."),
        _money(
            "cumulative_revenue",
            "Revenue of eligible users from their start to the end of the window.",
        ),
        rate("retention_rate", "retained_users / eligible_users."),
        rate("unbounded_retention_rate", "retained_later_users / eligible_users."),
        rate("revenue_retention_rate", "revenue / base_revenue."),
        Column(
            "cumulative_revenue_per_user",
            NUMERIC,
            "cumulative_revenue / eligible_users, two decimals: the LTV curve.",
            minimum=0,
        ),
        required("is_complete", BOOL, "True where all users of the cohort are eligible."),
        required(
            "is_left_censored",
            BOOL,
            "True for the cohort of the data's first day; false over all cohorts.",
        ),
    ),
    row_checks=(
        RowCheck(
            "retained_users_are_eligible",
            _out_of_order(
                "retained_users", "retained_later_users", "eligible_users", "cohort_users"
            ),
        ),
        RowCheck(
            "cumulative_revenue_has_windows",
            (pl.col("cumulative_revenue") < pl.col("revenue"))
            | (pl.col("cumulative_revenue") < pl.col("base_revenue")),
        ),
        RowCheck(
            "is_complete_where_all_are_eligible",
            pl.col("is_complete") != (pl.col("eligible_users") == pl.col("cohort_users")),
        ),
    ),
)


METRICS_REPEAT_PURCHASE = Table(
    name="metrics_repeat_purchase",
    group="time",
    grain="one row per month of first purchase and number of a purchase day that somebody may "
    "reach; and one over all months",
    key=("cohort_start", "purchase_number"),
    columns=(
        Column(
            "cohort_start",
            DATE,
            "First day of the month of first purchase; NULL for all that are not left-censored.",
        ),
        required(
            "purchase_number",
            INT64,
            "Number n of the purchase day.",
            accepted=tuple(range(2, LAST_PURCHASE_NUMBER + 1)),
        ),
        required("at_risk", INT64, "Customers with a purchase day number n − 1.", minimum=1),
        count("reached", "Those of them with a purchase day number n."),
        rate("reach_rate", "reached / at_risk."),
        *(
            column
            for days in REPURCHASE_WINDOW_DAYS
            for column in (
                count(f"eligible_{days}", f"Customers at risk observed for {days} days or more."),
                count(f"reached_{days}", f"Those of them who reached it within {days} days."),
                rate(f"repurchase_rate_{days}", f"reached_{days} / eligible_{days}."),
            )
        ),
        *(
            Column(f"{name}_days", INT64, f"{text} of the days from n − 1 to n.", minimum=1)
            for name, text in (
                ("p25", "First quartile"),
                ("median", "Median"),
                ("p75", "Third quartile"),
                ("p90", "Ninetieth percentile"),
            )
        ),
        Column("mean_days", NUMERIC, "Their mean, two decimals.", minimum=1),
        Column(
            "km_median_days",
            INT64,
            "Days until half of those at risk have reached n, by Kaplan-Meier: those who have not "
            "yet are censored at as_of; NULL where it never is half.",
            minimum=1,
        ),
    ),
    row_checks=(
        RowCheck("reached_were_at_risk", _out_of_order("reached", "at_risk")),
        *(
            RowCheck(
                f"reached_{days}_were_eligible",
                _out_of_order(f"reached_{days}", f"eligible_{days}", "at_risk"),
            )
            for days in REPURCHASE_WINDOW_DAYS
        ),
        RowCheck("days_ascend", _out_of_order("p25_days", "median_days", "p75_days", "p90_days")),
    ),
)
