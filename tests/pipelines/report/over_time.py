"""Plausible tables over time for the report's tests, from the sessions of the builder.

They follow the contract in what a page shows; orders are sessions with a purchase.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

import polars as pl

from transforms.schema import TABLES_BY_NAME

Days = dict[str, dict[date, tuple[int, int, Decimal]]]
"""Purchases, orders and revenue of each user by day with an event."""

_TABLES = (
    "metrics_lifecycle",
    "metrics_active_users",
    "metrics_stickiness",
    "metrics_cohort_retention",
    "metrics_repeat_purchase",
    "metrics_segment_history",
    "metrics_segment_migration",
)
_WINDOWS = (30, 60, 90, 180)
_DAY = timedelta(days=1)


def over_time_tables(
    sessions: pl.DataFrame,
    first: date,
    last: date,
    states: Callable[[pl.DataFrame, date], pl.DataFrame],
) -> dict[str, pl.DataFrame]:
    """Return the tables of customers over time.

    Args:
        sessions: `user`, `date`, `purchases`, `revenue` of sessions.
        first: The first day of the data.
        last: The last day.
        states: From the sessions up to a day and that day to the users' groups.
    """
    days = _user_days(sessions)
    snapshots = _snapshots(sessions, first, last, states)
    rows = {
        "metrics_lifecycle": _lifecycle(days, first, last),
        "metrics_active_users": _active_users(days, first, last),
        "metrics_stickiness": _stickiness(days, last),
        "metrics_cohort_retention": _retention(days, first, last),
        "metrics_repeat_purchase": _repeat(days, first, last),
        "metrics_segment_history": _history(sessions, snapshots, first, last),
        "metrics_segment_migration": _migration(sessions, snapshots, first, last),
    }
    return {name: _frame(name, rows[name]) for name in _TABLES}


def _frame(name: str, rows: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    schema = TABLES_BY_NAME[name].polars_schema()
    return pl.DataFrame(list(rows), schema=schema, orient="row")


def _user_days(sessions: pl.DataFrame) -> Days:
    days: Days = defaultdict(dict)
    grouped = sessions.group_by("user", "date").agg(
        pl.col("purchases").sum(),
        (pl.col("purchases") > 0).sum().alias("orders"),
        pl.col("revenue").sum(),
    )
    for user, day, *amounts in grouped.sort("user", "date").iter_rows():
        days[user][day] = tuple(amounts)
    return days


def _active(days: Days, activity: str) -> Days:
    if activity == "visit":
        return days
    bought = {
        user: {day: amounts for day, amounts in own.items() if amounts[0]}
        for user, own in days.items()
    }
    return {user: own for user, own in bought.items() if own}


def start_of(day: date, period: str) -> date:
    """Return the first day of a day's period."""
    if period == "month":
        return day.replace(day=1)
    return day - timedelta(days=day.weekday()) if period == "week" else day


def after(start: date, period: str) -> date:
    """Return the start of the next period."""
    if period == "month":
        return (start + timedelta(days=31)).replace(day=1)
    return start + timedelta(days=7 if period == "week" else 1)


def _over(numerator: Any, denominator: Any) -> float | None:
    return round(float(numerator) / float(denominator), 6) if denominator else None


def _starts(first: date, last: date, period: str) -> list[date]:
    starts = [start_of(first, period)]
    while after(starts[-1], period) <= last:
        starts.append(after(starts[-1], period))
    return starts


def _lifecycle(days: Days, first: date, last: date) -> Iterable[Mapping[str, Any]]:
    for activity in ("visit", "purchase"):
        for period in ("day", "week", "month"):
            revenue: dict[date, dict[str, Decimal]] = defaultdict(dict)
            for user, own in _active(days, activity).items():
                for day, (_, _, money) in own.items():
                    start = start_of(day, period)
                    revenue[start][user] = revenue[start].get(user, Decimal(0)) + money
            seen: set[str] = set()
            before: dict[str, Decimal] = {}
            for start in _starts(first, last, period):
                now = revenue.get(start, {})
                new = now.keys() - seen
                retained = now.keys() & before.keys()
                back = now.keys() - new - retained
                dormant = before.keys() - now.keys()
                changes = [now[user] - before[user] for user in retained]
                grown = sum((c for c in changes if c > 0), Decimal(0))
                shrunk = -sum((c for c in changes if c < 0), Decimal(0))
                lost = sum((before[user] for user in dormant), Decimal(0))
                was = sum(before.values(), Decimal(0))
                is_complete = after(start, period) - _DAY <= last
                new_revenue = sum((now[user] for user in new), Decimal(0))
                back_revenue = sum((now[user] for user in back), Decimal(0))
                rates = {
                    "retention_rate": _over(len(retained), len(before)),
                    "churn_rate": _over(len(dormant), len(before)),
                    "quick_ratio": _over(len(new) + len(back), len(dormant)),
                    "gross_revenue_retention": _over(was - shrunk - lost, was),
                    "net_revenue_retention": _over(was - shrunk - lost + grown, was),
                    "revenue_quick_ratio": _over(new_revenue + back_revenue + grown, shrunk + lost),
                }
                yield {
                    "activity": activity,
                    "period": period,
                    "period_start": start,
                    "active_users": len(now),
                    "new_users": len(new),
                    "retained_users": len(retained),
                    "resurrected_users": len(back),
                    "dormant_users": len(dormant),
                    "net_users": len(new) + len(back) - len(dormant),
                    **(rates if is_complete else dict.fromkeys(rates)),
                    "revenue": sum(now.values(), Decimal(0)),
                    "revenue_new": new_revenue,
                    "revenue_resurrected": back_revenue,
                    "revenue_expansion": grown,
                    "revenue_contraction": shrunk,
                    "revenue_churned": lost,
                    "is_complete": is_complete,
                    "is_left_censored": start <= first,
                }
                seen |= now.keys()
                before = now


def _active_users(days: Days, first: date, last: date) -> Iterable[Mapping[str, Any]]:
    for activity in ("visit", "purchase"):
        users: dict[date, set[str]] = defaultdict(set)
        for user, own in _active(days, activity).items():
            for day in own:
                users[day].add(user)
        for day in _starts(first, last, "day"):
            daily, weekly, monthly = (
                len(set().union(*(users[day - timedelta(days=n)] for n in range(length))))
                for length in (1, 7, 28)
            )
            week, month = (day - timedelta(days=n) >= first for n in (6, 27))
            yield {
                "activity": activity,
                "event_date": day,
                "daily_users": daily,
                "weekly_users": weekly,
                "monthly_users": monthly,
                "stickiness": _over(daily, monthly) if month else None,
                "daily_of_weekly": _over(daily, weekly) if week else None,
                "weekly_of_monthly": _over(weekly, monthly) if month else None,
                "weekly_is_complete": week,
                "monthly_is_complete": month,
            }


def _stickiness(days: Days, last: date) -> Iterable[Mapping[str, Any]]:
    for activity in ("visit", "purchase"):
        for period in ("week", "month"):
            number: Counter[tuple[date, str]] = Counter()
            for user, own in _active(days, activity).items():
                number.update((start_of(day, period), user) for day in own)
            by_start: dict[date, Counter[int]] = defaultdict(Counter)
            for (start, _), active in number.items():
                by_start[start][active] += 1
            for start, users in sorted(by_start.items()):
                for active in sorted(users):
                    yield {
                        "activity": activity,
                        "period": period,
                        "period_start": start,
                        "active_days": active,
                        "users": users[active],
                        "users_at_least": sum(n for d, n in users.items() if d >= active),
                        "share": _over(users[active], users.total()),
                        "is_complete": after(start, period) - _DAY <= last,
                    }


def _retention(days: Days, first: date, last: date) -> Iterable[Mapping[str, Any]]:
    for cohort_by in ("first_visit", "first_purchase"):
        began = {
            user: min(own) for user, own in _active(days, cohort_by.removeprefix("first_")).items()
        }
        for activity in ("visit", "purchase"):
            active = _active(days, activity)
            for period in ("week", "month"):
                starts = _starts(first, last, period)
                cohorts: dict[date, list[str]] = defaultdict(list)
                for user, day in began.items():
                    cohorts[start_of(day, period)].append(user)
                every: dict[int, Counter[str]] = defaultdict(Counter)
                users_of_all = sum(len(users) for start, users in cohorts.items() if start > first)
                for cohort, users in sorted(cohorts.items()):
                    for row in _cohort(
                        users,
                        cohort=cohort,
                        starts=starts,
                        days=days,
                        active=active,
                        began=began,
                        period=period,
                        last=last,
                    ):
                        left = cohort <= first
                        yield _rates(row) | {
                            "cohort_by": cohort_by,
                            "activity": activity,
                            "method": "calendar",
                            "period": period,
                            "cohort_start": cohort,
                            "is_left_censored": left,
                        }
                        if not left:
                            every[row["period_number"]].update(
                                {k: v for k, v in row.items() if k != "period_number"}
                            )
                for number, sums in every.items():
                    yield _rates(
                        dict(sums) | {"period_number": number, "cohort_users": users_of_all}
                    ) | {
                        "cohort_by": cohort_by,
                        "activity": activity,
                        "method": "calendar",
                        "period": period,
                        "cohort_start": None,
                        "is_left_censored": False,
                    }


def _cohort(
    users: list[str],
    *,
    cohort: date,
    starts: list[date],
    days: Days,
    active: Days,
    began: dict[str, date],
    period: str,
    last: date,
) -> Iterable[dict[str, Any]]:
    in_period: dict[date, Counter[str]] = defaultdict(Counter)
    for user in users:
        visited = set()
        latest = max((d for d in active.get(user, {}) if d >= began[user]), default=None)
        for day, (purchases, orders, money) in days[user].items():
            if day < began[user]:
                continue
            start = start_of(day, period)
            sums = in_period[start]
            sums["purchases"] += purchases
            sums["orders"] += orders
            sums["revenue"] += money  # type: ignore[assignment]
            if day in active.get(user, {}):
                visited.add(start)
        for start in visited:
            in_period[start]["retained_users"] += 1
        if latest is not None:
            in_period[start_of(latest, period)]["latest"] += 1
    cumulative = Decimal(0)
    shown = [start for start in starts if start >= cohort]
    for number, start in enumerate(shown):
        sums = in_period[start]
        cumulative += sums["revenue"]
        is_known = after(start, period) - _DAY <= last
        row = {
            "retained_users": sums["retained_users"],
            "retained_later_users": sum(in_period[later]["latest"] for later in shown[number:]),
            "purchases": sums["purchases"],
            "orders": sums["orders"],
            "revenue": sums["revenue"],
            "base_revenue": in_period[cohort]["revenue"],
            "cumulative_revenue": cumulative,
            "eligible_users": len(users),
        }
        yield {
            "period_number": number,
            "cohort_users": len(users),
            **(row if is_known else dict.fromkeys(row, 0)),
        }


def _rates(row: dict[str, Any]) -> dict[str, Any]:
    eligible = row["eligible_users"]
    per_user = Decimal(row["cumulative_revenue"]) / eligible if eligible else None
    return row | {
        "retention_rate": _over(row["retained_users"], eligible),
        "unbounded_retention_rate": _over(row["retained_later_users"], eligible),
        "revenue_retention_rate": _over(row["revenue"], row["base_revenue"]),
        "cumulative_revenue_per_user": None if per_user is None else round(per_user, 2),
        "is_complete": eligible == row["cohort_users"],
    }


def _repeat(days: Days, first: date, last: date) -> Iterable[Mapping[str, Any]]:
    cohorts: dict[date | None, list[list[date]]] = defaultdict(list)
    for own in _active(days, "purchase").values():
        dates = sorted(own)
        cohort = start_of(dates[0], "month")
        cohorts[cohort].append(dates)
        if cohort > first:
            cohorts[None].append(dates)
    for cohort, customers in cohorts.items():
        for number in range(2, 11):
            at_risk = [dates for dates in customers if len(dates) >= number - 1]
            gaps = sorted(
                (dates[number - 1] - dates[number - 2]).days
                for dates in at_risk
                if len(dates) >= number
            )
            waits = [(last - dates[number - 2]).days for dates in at_risk if len(dates) < number]
            if not at_risk:
                continue
            row: dict[str, Any] = {
                "cohort_start": cohort,
                "purchase_number": number,
                "at_risk": len(at_risk),
                "reached": len(gaps),
                "reach_rate": _over(len(gaps), len(at_risk)),
                "mean_days": round(Decimal(sum(gaps)) / len(gaps), 2) if gaps else None,
                "km_median_days": _kaplan_meier(gaps, waits),
            }
            for window in _WINDOWS:
                eligible = [d for d in at_risk if (last - d[number - 2]).days >= window]
                reached = [
                    d
                    for d in eligible
                    if len(d) >= number and (d[number - 1] - d[number - 2]).days <= window
                ]
                row |= {
                    f"eligible_{window}": len(eligible),
                    f"reached_{window}": len(reached),
                    f"repurchase_rate_{window}": _over(len(reached), len(eligible)),
                }
            for name, share in (("p25", 25), ("median", 50), ("p75", 75), ("p90", 90)):
                place = -(-share * len(gaps) // 100) - 1
                row[f"{name}_days"] = gaps[max(0, place)] if gaps else None
            yield row


def _kaplan_meier(gaps: list[int], waits: list[int]) -> int | None:
    surviving = Fraction(1)
    for gap, reached in sorted(Counter(gaps).items()):
        at_risk = sum(other >= gap for other in gaps) + sum(wait >= gap for wait in waits)
        surviving *= 1 - Fraction(reached, at_risk)
        if surviving <= Fraction(1, 2):
            return gap
    return None


_DIMENSIONS = ("overall", "rfm_segment", "activity_status", "customer_lifecycle_stage")


def _snapshots(
    sessions: pl.DataFrame,
    first: date,
    last: date,
    states: Callable[[pl.DataFrame, date], pl.DataFrame],
) -> dict[date, dict[str, dict[str, Any]]]:
    days = _starts(first, last, "day")
    ends = {day for day in days if day.weekday() == 6 or day == last or (day + _DAY).day == 1}
    return {
        day: {
            row["user"]: row | {"overall": "all"}
            for row in states(sessions.filter(pl.col("date") <= day), day).iter_rows(named=True)
        }
        for day in sorted(ends)
    }


def _spent(sessions: pl.DataFrame, before: date | None, day: date) -> dict[str, tuple[int, Any]]:
    is_later = pl.lit(value=True) if before is None else pl.col("date") > before
    own = sessions.filter(is_later, pl.col("date") <= day)
    sums = own.group_by("user").agg(pl.col("purchases", "revenue").sum())
    return {user: (purchases, revenue) for user, purchases, revenue in sums.iter_rows()}


def _history(
    sessions: pl.DataFrame,
    snapshots: dict[date, dict[str, dict[str, Any]]],
    first: date,
    last: date,
) -> Iterable[Mapping[str, Any]]:
    before: date | None = None
    for day in [day for day in snapshots if day.weekday() == 6 or day == last]:
        since = _spent(sessions, before, day)
        users = snapshots[day]
        old = {} if before is None else snapshots[before]
        total = sum((user["revenue"] for user in users.values()), Decimal(0))
        for dimension in _DIMENSIONS:
            groups: dict[str, list[str]] = defaultdict(list)
            for name, user in users.items():
                groups[user[dimension]].append(name)
            for value, names in groups.items():
                revenue = sum((users[name]["revenue"] for name in names), Decimal(0))
                yield {
                    "snapshot_date": day,
                    "dimension": dimension,
                    "value": value,
                    "customers": len(names),
                    "churned_customers": sum(users[name]["churned"] for name in names),
                    "purchases": sum(users[name]["purchases"] for name in names),
                    "orders": sum(users[name]["purchases"] > 0 for name in names),
                    "revenue": revenue,
                    "purchases_since": sum(since[name][0] for name in names if name in since),
                    "revenue_since": sum(
                        (since[name][1] for name in names if name in since), Decimal(0)
                    ),
                    "entered": sum(
                        name not in old or old[name][dimension] != value for name in names
                    ),
                    "customer_share": _over(len(names), len(users)),
                    "revenue_share": _over(revenue, total),
                }
        before = day


def _migration(
    sessions: pl.DataFrame,
    snapshots: dict[date, dict[str, dict[str, Any]]],
    first: date,
    last: date,
) -> Iterable[Mapping[str, Any]]:
    for period in ("week", "month"):
        ends = [after(start, period) - _DAY for start in _starts(first, last, period)]
        ends = [end for end in ends if end <= last]
        for before, day in pairwise(ends):
            spent = _spent(sessions, before, day)
            for dimension in ("rfm_segment", "activity_status"):
                moved: dict[tuple[str, str], list[str]] = defaultdict(list)
                for name, user in snapshots[day].items():
                    old = snapshots[before].get(name)
                    moved["New" if old is None else old[dimension], user[dimension]].append(name)
                sources: Counter[str] = Counter()
                targets: Counter[str] = Counter()
                for (source, target), names in moved.items():
                    sources[source] += len(names)
                    targets[target] += len(names)
                for (source, target), names in moved.items():
                    yield {
                        "period": period,
                        "snapshot_date": day,
                        "dimension": dimension,
                        "from_value": source,
                        "to_value": target,
                        "customers": len(names),
                        "purchases": sum(spent[n][0] for n in names if n in spent),
                        "revenue": sum((spent[n][1] for n in names if n in spent), Decimal(0)),
                        "from_share": _over(len(names), sources[source]),
                        "to_share": _over(len(names), targets[target]),
                    }
