"""Customers over time: who comes, who comes back, and what they bring."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import polars as pl

from pipelines.report import charts, formatting, parts, periods
from pipelines.report.models import (
    Card,
    Chart,
    Column,
    Control,
    Figure,
    Measure,
    Page,
    Row,
    Table,
    figure_with_choice,
)
from transforms.schema import REPURCHASE_WINDOW_DAYS

_TABLES = (
    "metrics_lifecycle",
    "metrics_active_users",
    "metrics_stickiness",
    "metrics_cohort_retention",
    "metrics_repeat_purchase",
)

SHOWN_MONTHS = 24
SHOWN_WEEKS = 26
SHOWN_DAYS = 366
_STICKINESS_MONTHS = 12
_SHOWN_COHORT_BARS = 12
_DAYS_OF_A_MONTH = 31  # at most
_CELL_HEIGHT = 27
_WINDOW_WIDTH = 190
_ALL_COHORTS = "All cohorts"


@dataclass(frozen=True)
class _Activity:
    """What makes a user active, in the words of the page."""

    key: str
    title: str
    users: str
    did: str
    start: str


_ACTIVITIES = (
    _Activity("purchase", "Purchases", "customer", "bought", "first purchase"),
    _Activity("visit", "Visits", "visitor", "visited", "first visit"),
)
_BY_ACTIVITY = Control("Active by", [(activity.key, activity.title) for activity in _ACTIVITIES])


def customers_page(tables: Mapping[str, pl.DataFrame]) -> Page | None:
    """Return the page, None where the run has no tables over time or no events."""
    covered = periods.data_range(tables["metrics_periods"])
    if covered is None or not all(name in tables for name in _TABLES):
        return None
    if tables["metrics_lifecycle"].is_empty():
        return None
    months = tables["metrics_lifecycle"].filter(pl.col("period") == "month")
    months = _within(months, covered).sort("activity", "period_start")
    latest = _latest_complete(months, "purchase")
    return Page(
        page_id="customers",
        title="Customers over time",
        lead=_lead(latest),
        cards=_cards(months, latest),
        figures=[
            _growth(months),
            _active(tables["metrics_active_users"], covered),
            _often(tables["metrics_active_users"], tables["metrics_stickiness"], covered),
            _retention(tables["metrics_cohort_retention"], covered),
            _lifetime_value(tables["metrics_cohort_retention"], covered),
            _second_purchase(tables["metrics_repeat_purchase"], covered),
        ],
    )


def _within(frame: pl.DataFrame, covered: tuple[date, date]) -> pl.DataFrame:
    """Keep the months that reach into a data range."""
    return frame.filter(
        pl.col("period_start") <= covered[1],
        (pl.lit(covered[0]) - pl.col("period_start")).dt.total_days() < _DAYS_OF_A_MONTH,
    )


def _latest(number: int, of: int, noun: str, subject: str) -> str:
    """Say how many are shown where that is not all."""
    if number >= of:
        return ""
    shown = formatting.plural(number, noun)
    return f"{subject} shows the latest {shown} of {formatting.count(of)}."


def _sentences(*sentences: str) -> str:
    return " ".join(filter(None, sentences))


# --- Growth


def _latest_complete(months: pl.DataFrame, activity: str) -> Row | None:
    rows = months.filter(pl.col("activity") == activity, pl.col("is_complete")).to_dicts()
    return rows[-1] if rows else None


def _lead(latest: Row | None) -> str:
    if latest is None:
        return "No month of the data is complete yet: the figures are so far."
    return f"The figures are of {formatting.month(latest['period_start'])}, the last whole month."


def _cards(months: pl.DataFrame, latest: Row | None) -> list[Card]:
    """Return the buyers of the last whole month against the month before.

    The first month of the data is no basis: it may be a part of a month, and knows no old customer.
    """
    purchases = months.filter(pl.col("activity") == "purchase").to_dicts()
    row = latest or purchases[-1]
    before = [other for other in purchases if other["period_start"] < row["period_start"]][-1:]
    basis = before[0] if before and latest and not before[0]["is_left_censored"] else None
    measures = (
        Measure("active_users", "Customers who bought", "count"),
        Measure("new_users", "New", "count", "first purchase"),
        Measure("resurrected_users", "Back", "count", "after a month or more without"),
        Measure(
            "dormant_users", "Dormant", "count", "bought the month before", more_is_better=False
        ),
        Measure("retention_rate", "Retention", "rate", "of the buyers of the month before"),
        Measure("quick_ratio", "Quick ratio", "average", "new and back per dormant"),
    )
    return [
        parts.card(
            measure,
            _known(row, measure.field),
            compared=None if basis is None else (row[measure.field], basis[measure.field]),
            basis="vs month before",
        )
        for measure in measures
    ]


def _known(row: Row, field: str) -> Any:
    """Return a figure of a month; who is dormant is not known before it ends."""
    return None if field == "dormant_users" and not row["is_complete"] else row[field]


_GROWTH = (
    ("retained_users", charts.Series("Retained", "var(--series-1)")),
    ("new_users", charts.Series("New", "var(--series-0)")),
    ("resurrected_users", charts.Series("Back after a break", "var(--series-3)")),
    ("dormant_users", charts.Series("Dormant", "var(--series-7)")),
)


def _growth(months: pl.DataFrame) -> Figure:
    number = months.filter(pl.col("activity") == "purchase").height
    return figure_with_choice(
        {
            activity.key: Figure(
                "growth",
                "Where customers come from, and where they go",
                _sentences(
                    "Above the line who was active in a month, below it who was the month before "
                    "and no longer is.",
                    _latest(min(number, SHOWN_MONTHS), number, "month", "The chart"),
                ),
                [_growth_chart(activity, months)],
                table=_growth_table(months),
            )
            for activity in _ACTIVITIES
        },
        _BY_ACTIVITY,
    )


def _growth_chart(activity: _Activity, months: pl.DataFrame) -> Chart:
    rows = months.filter(pl.col("activity") == activity.key).to_dicts()[-SHOWN_MONTHS:]
    drawn = []
    for row in rows:
        month = formatting.month(row["period_start"])
        values = [_known(row, field) for field, _ in _GROWTH]
        texts = ["not known yet" if value is None else formatting.count(value) for value in values]
        values[-1] = None if values[-1] is None else -values[-1]
        so_far = "" if row["is_complete"] else " (so far)"
        drawn.append(charts.series_row(month, f"{month}{so_far}", values, texts))
    has_users = any(row["active_users"] for row in rows)
    return Chart(
        "growth",
        "Users by month",
        _growth_sentence(activity, rows),
        charts.columns([series for _, series in _GROWTH], "count", 280),
        drawn if has_users else [],
    )


def _growth_sentence(activity: _Activity, rows: Sequence[Row]) -> str:
    if not any(row["active_users"] for row in rows):
        return f"Nobody {activity.did}."
    complete = [row for row in rows if row["is_complete"]]
    row = (complete or rows)[-1]
    month = formatting.month(row["period_start"])
    users = formatting.plural(row["active_users"], activity.users)
    if row["is_left_censored"]:
        so_far = "" if row["is_complete"] else " so far"
        return (
            f"{month}: {users}{so_far}. It is the first month of the data, so all of them "
            "count as new."
        )
    sentence = (
        f"{month}: {users}, {formatting.count(row['new_users'])} of them new, "
        f"{formatting.count(row['retained_users'])} retained and "
        f"{formatting.count(row['resurrected_users'])} back after a break"
    )
    if row["is_complete"]:
        gone = formatting.count(row["dormant_users"])
        sentence += f"; {gone} of the month before did not come back."
    else:
        sentence += ", so far."
    if rows[0]["is_left_censored"]:
        first = formatting.month(rows[0]["period_start"])
        sentence += f" {first} begins the data: there all count as new."
    return sentence


def _growth_table(months: pl.DataFrame) -> Table:
    return Table(
        "metrics_lifecycle",
        "Growth by month",
        [
            Column("period_start", "Month from", "date"),
            Column("active_users", "Active", "count"),
            Column("new_users", "New", "count"),
            Column("retained_users", "Retained", "count"),
            Column("resurrected_users", "Back", "count"),
            Column("dormant_users", "Dormant", "count"),
            Column("retention_rate", "Retention", "rate"),
            Column("quick_ratio", "Quick ratio", "average"),
            Column("revenue", "Revenue", "money"),
            Column("gross_revenue_retention", "Gross revenue retention", "rate"),
            Column("net_revenue_retention", "Net revenue retention", "rate"),
            Column("is_complete", "Complete", "flag"),
        ],
        months,
        groups=months["activity"].to_list(),
    )


# --- Active users

_WINDOWS = (
    ("daily_users", None, charts.Series("That day", "var(--series-3)")),
    ("weekly_users", "weekly_is_complete", charts.Series("Within 7 days", "var(--series-1)")),
    ("monthly_users", "monthly_is_complete", charts.Series("Within 28 days", "var(--series-0)")),
)


def _days(active: pl.DataFrame, covered: tuple[date, date]) -> pl.DataFrame:
    """Return the days that the page shows, in order."""
    last = covered[1]
    return active.filter(
        pl.col("event_date").is_between(*covered),
        (pl.lit(last) - pl.col("event_date")).dt.total_days() < SHOWN_DAYS,
    ).sort("activity", "event_date")


def _active(active: pl.DataFrame, covered: tuple[date, date]) -> Figure:
    days = _days(active, covered)
    number = (covered[1] - covered[0]).days + 1
    return figure_with_choice(
        {
            activity.key: Figure(
                "active-users",
                "Active users",
                _sentences(
                    "Distinct users up to each day. A line begins where the data reaches back "
                    "far enough.",
                    _latest(min(number, SHOWN_DAYS), number, "day", "The page"),
                ),
                [_active_chart(activity, days)],
                table=Table(
                    "metrics_active_users",
                    "Active users by day",
                    [
                        Column("event_date", "Day", "date"),
                        Column("daily_users", "That day", "count"),
                        Column("weekly_users", "Within 7 days", "count"),
                        Column("monthly_users", "Within 28 days", "count"),
                        Column("stickiness", "Stickiness", "rate"),
                    ],
                    days,
                    groups=days["activity"].to_list(),
                ),
            )
            for activity in _ACTIVITIES
        },
        _BY_ACTIVITY,
    )


def _active_chart(activity: _Activity, days: pl.DataFrame) -> Chart:
    rows = days.filter(pl.col("activity") == activity.key).to_dicts()
    drawn = []
    for row in rows:
        values = [
            row[field] if complete is None or row[complete] else None
            for field, complete, _ in _WINDOWS
        ]
        day: date = row["event_date"]
        texts = [formatting.count(value) for value in values]
        drawn.append(charts.series_row(day, formatting.day(day), values, texts))
    sentence = f"Nobody {activity.did}."
    if any(row["daily_users"] for row in rows):
        last = rows[-1]
        known = [
            f"{formatting.count(last[field])} {series.name[0].lower()}{series.name[1:]}"
            for field, complete, series in _WINDOWS
            if complete is None or last[complete]
        ]
        named = known[0] if len(known) == 1 else f"{', '.join(known[:-1])} and {known[-1]}"
        peak = max(rows, key=lambda row: row["daily_users"])
        sentence = (
            f"Up to {formatting.day(last['event_date'])}, users who {activity.did}: {named}. "
            f"Most on one day: {formatting.count(peak['daily_users'])}, "
            f"on {formatting.day(peak['event_date'])}."
        )
    return Chart(
        "active-users",
        "Active users",
        sentence,
        charts.lines([series for _, _, series in _WINDOWS], "count", len(rows), 260),
        drawn if any(row["daily_users"] for row in rows) else [],
    )


_STICKINESS = Measure("stickiness", "Stickiness", "rate")
_DAY_GROUPS = (("1 day", 1), ("2 days", 2), ("3 days", 3), ("4 days", 4), ("5 to 9 days", 9))
_MORE_DAYS = "10 days or more"


def _often(active: pl.DataFrame, stickiness: pl.DataFrame, covered: tuple[date, date]) -> Figure:
    days = _days(active, covered)
    months = _within(stickiness.filter(pl.col("period") == "month"), covered)
    starts = months["period_start"].unique().sort(descending=True)[:_STICKINESS_MONTHS]
    months = months.filter(pl.col("period_start").is_in(starts.implode())).sort(
        ["period_start", "activity", "active_days"], descending=[True, False, False]
    )
    return figure_with_choice(
        {
            activity.key: Figure(
                "stickiness",
                "How often they come",
                "Stickiness is the users of a day as a share of those within 28 days: at 10%, a "
                "user comes on about 3 days of 28.",
                [_stickiness_chart(activity, days), _days_chart(activity, months)],
                layout=2,
                table=Table(
                    "metrics_stickiness",
                    "Users by active days of a month",
                    [
                        Column("period_start", "Month from", "date"),
                        Column("active_days", "Active days", "count"),
                        Column("users", "Users", "count"),
                        Column("users_at_least", "That many or more", "count"),
                        Column("share", "Share", "rate"),
                        Column("is_complete", "Complete", "flag"),
                    ],
                    months,
                    groups=months["activity"].to_list(),
                ),
            )
            for activity in _ACTIVITIES
        },
        _BY_ACTIVITY,
    )


def _stickiness_chart(activity: _Activity, days: pl.DataFrame) -> Chart:
    rows = days.filter(pl.col("activity") == activity.key).to_dicts()
    known = [row for row in rows if row["stickiness"] is not None]
    sentence = "Stickiness needs 28 days with users."
    if known:
        highest = max(known, key=lambda row: row["stickiness"])
        lowest = min(known, key=lambda row: row["stickiness"])
        mean = sum(row["stickiness"] for row in known) / len(known)
        sentence = (
            f"On average {formatting.rate(mean)}; between {formatting.rate(lowest['stickiness'])} "
            f"({formatting.day(lowest['event_date'])}) and "
            f"{formatting.rate(highest['stickiness'])} ({formatting.day(highest['event_date'])})."
        )
    return Chart(
        "stickiness",
        _STICKINESS.title,
        sentence,
        charts.trend(_STICKINESS.title, "rate", len(rows), 200),
        [
            charts.trend_row(
                row["event_date"],
                row["stickiness"],
                formatting.rate(row["stickiness"]),
                formatting.day(row["event_date"]),
                is_complete=True,
            )
            for row in rows
        ]
        if known
        else [],
    )


def _days_chart(activity: _Activity, months: pl.DataFrame) -> Chart:
    measure = Measure("share", "Users by active days of a month", "rate")
    own = months.filter(pl.col("activity") == activity.key)
    complete = own.filter(pl.col("is_complete"))
    shown = complete if complete.height else own
    if shown.is_empty():
        return parts.bar_chart("active-days", measure, [], sentence=f"Nobody {activity.did}.")
    start = shown["period_start"].max()
    rows = shown.filter(pl.col("period_start") == start).to_dicts()
    total = sum(row["users"] for row in rows)
    counts = dict.fromkeys([*(name for name, _ in _DAY_GROUPS), _MORE_DAYS], 0)
    for row in rows:
        fitting = [name for name, most in _DAY_GROUPS if row["active_days"] <= most]
        counts[[*fitting, _MORE_DAYS][0]] += row["users"]
    grouped = [
        {"label": name, "share": parts.divided(users, total)} for name, users in counts.items()
    ]
    once = formatting.rate(parts.divided(counts["1 day"], total))
    so_far = "" if complete.height else ", so far"
    month = formatting.month(rows[0]["period_start"])
    return parts.bar_chart(
        "active-days",
        measure,
        grouped,
        sentence=f"{month}{so_far}: {once} of {formatting.plural(total, activity.users)} "
        f"{activity.did} on one day only.",
    )


# --- Cohorts


@dataclass(frozen=True)
class _Length:
    """The length of the windows of a cohort table."""

    key: str
    title: str
    shown: int
    every: str
    offset: str

    def name(self, start: date | None) -> str:
        """Return a cohort as the page writes it."""
        if start is None:
            return _ALL_COHORTS
        return formatting.month(start) if self.key == "month" else formatting.day(start)


_LENGTHS = (
    _Length("month", "Months", SHOWN_MONTHS, "1mo", "{}mo"),
    _Length("week", "Weeks", SHOWN_WEEKS, "1w", "{}w"),
)

_RETENTION = {
    "users": ("Users", "retention_rate", "retained_users", "eligible_users"),
    "revenue": ("Revenue", "revenue_retention_rate", "revenue", "base_revenue"),
}


def _cohorts(
    retention: pl.DataFrame, activity: _Activity, length: _Length, covered: tuple[date, date]
) -> pl.DataFrame:
    """Return the shown rows of one cohort table, those over all cohorts first.

    Windows that begin after the data hold nothing, whatever the run's as_of.
    """
    start = pl.col("cohort_start").fill_null(covered[0]).dt.truncate(length.every)
    begins = start.dt.offset_by(
        pl.format(length.offset, pl.col("period_number").clip(0, length.shown))
    )
    own = retention.filter(
        pl.col("cohort_by") == f"first_{activity.key}",
        pl.col("activity") == activity.key,
        pl.col("method") == "calendar",
        pl.col("period") == length.key,
        pl.col("period_number") < length.shown,
        begins <= covered[1],
    )
    starts = own.filter(pl.col("cohort_start") <= covered[1])["cohort_start"].unique().sort()
    return own.filter(
        pl.col("cohort_start").is_null()
        | pl.col("cohort_start").is_in(starts[-length.shown :].implode())
    ).sort("cohort_start", "period_number", nulls_last=False)


def _retention(retention: pl.DataFrame, covered: tuple[date, date]) -> Figure:
    tables = {
        (activity.key, length.key): _cohorts(retention, activity, length, covered)
        for activity in _ACTIVITIES
        for length in _LENGTHS
    }
    rows = pl.concat(tables.values())
    table = Table(
        "metrics_cohort_retention",
        "Retention by cohort",
        [
            Column("cohort_start", "Cohort from", "date"),
            Column("period_number", "Period", "count"),
            Column("cohort_users", "Users", "count"),
            Column("eligible_users", "Known of", "count"),
            Column("retained_users", "Retained", "count"),
            Column("retention_rate", "Retention", "rate"),
            Column("revenue", "Revenue", "money"),
            Column("revenue_retention_rate", "Revenue retention", "rate"),
            Column("cumulative_revenue_per_user", "Revenue per user to date", "money"),
        ],
        rows,
        groups=["|".join(keys) for keys in rows.select("activity", "period").iter_rows()],
        totals=rows["cohort_start"].is_null().to_list(),
    )
    return figure_with_choice(
        {
            f"{activity.key}|{length.key}|{measure}": Figure(
                "retention",
                "Retention by cohort",
                _sentences(
                    f"Users by the {length.key} of their {activity.start}, and the share of them "
                    f"that {activity.did} so many {length.key}s later"
                    if measure == "users"
                    else f"Users by the {length.key} of their {activity.start}, and what they "
                    f"spent so many {length.key}s later as a share of {length.key} 0",
                )
                + f". Empty: the {length.key} has not ended. The latest {length.shown} cohorts and "
                f"{length.key}s at most; the first cohort of the data (*) may hold older users and "
                f"is not in {_ALL_COHORTS.lower()}.",
                [_retention_chart(tables[activity.key, length.key], activity, length, measure)],
                table=table,
            )
            for activity in _ACTIVITIES
            for length in _LENGTHS
            for measure in _RETENTION
        },
        _BY_ACTIVITY,
        Control("Cohorts by", [(length.key, length.title) for length in _LENGTHS]),
        Control("Share of", [(key, title) for key, (title, *_) in _RETENTION.items()]),
        grouping=2,
    )


def _retention_chart(
    frame: pl.DataFrame, activity: _Activity, length: _Length, measure: str
) -> Chart:
    _, rate, numerator, denominator = _RETENTION[measure]
    known = [row for row in frame.to_dicts() if row[rate] is not None]
    amount = formatting.count if measure == "users" else formatting.decimal
    unit = activity.users + "s" if measure == "users" else f"in {length.key} 0"
    cells = [
        charts.Cell(
            str(row["period_number"]),
            length.name(row["cohort_start"]) + ("*" if row["is_left_censored"] else ""),
            row[rate],
            f"{round(100 * row[rate])}%" if row[rate] < _LONG_RATE else ">999%",
            f"{formatting.rate(row[rate])}: {amount(row[numerator])} of "
            f"{amount(row[denominator])} {unit}",
        )
        for row in known
    ]
    later = [row[rate] for row in known if row["period_number"] > 0]
    return Chart(
        "retention",
        "Retention by cohort",
        _retention_sentence(known, activity, length, measure),
        charts.heatmap("Retention", f"{length.title} since the {activity.start}", "", _CELL_HEIGHT),
        charts.heatmap_rows(cells, max(later, default=None)),
        minimum_width=1040,
    )


_LONG_RATE = 9.995


def _retention_sentence(
    known: Sequence[Row], activity: _Activity, length: _Length, measure: str
) -> str:
    _, rate, _, _ = _RETENTION[measure]
    over_all = {
        row["period_number"]: row
        for row in known
        if row["cohort_start"] is None and row["period_number"] > 0
    }
    if not over_all:
        return (
            f"Nothing to say over all cohorts: no cohort after the first one has a whole "
            f"{length.key} after its own to look back on."
        )

    def told(number: int) -> str:
        row = over_all[number]
        of = formatting.plural(row["eligible_users"], activity.users)
        return f"{formatting.rate(row[rate])} in {length.key} {number} (of {of})"

    first, last = min(over_all), max(over_all)
    subject = f"who {activity.did} again" if measure == "users" else "of the first revenue"
    sentence = f"Over all cohorts, {subject}: {told(first)}"
    sentence += "." if first == last else f", {told(last)}."
    cohorts = [row for row in known if row["cohort_start"] and row["period_number"] == first]
    cohorts = [row for row in cohorts if not row["is_left_censored"]]
    if len(cohorts) > 1:
        best = max(cohorts, key=lambda row: row[rate])
        worst = min(cohorts, key=lambda row: row[rate])
        sentence += (
            f" In {length.key} {first}, cohorts lie between {formatting.rate(worst[rate])} "
            f"({length.name(worst['cohort_start'])}) and {formatting.rate(best[rate])} "
            f"({length.name(best['cohort_start'])})."
        )
    return sentence


def _lifetime_value(retention: pl.DataFrame, covered: tuple[date, date]) -> Figure:
    months = _LENGTHS[0]
    return figure_with_choice(
        {
            activity.key: Figure(
                "lifetime-value",
                "Lifetime value by cohort",
                f"Revenue per {activity.users} to date, by months since the {activity.start}: one "
                f"line per month of it (the latest {months.shown}), the strong one over all "
                "cohorts. Its later points rest on the older cohorts alone; the numbers are in the "
                "table of retention above.",
                [_value_chart(_cohorts(retention, activity, months, covered), activity)],
            )
            for activity in _ACTIVITIES
        },
        Control(
            "Per user since",
            [(activity.key, activity.start.capitalize()) for activity in _ACTIVITIES],
        ),
    )


def _value_chart(frame: pl.DataFrame, activity: _Activity) -> Chart:
    known = [row for row in frame.to_dicts() if row["cumulative_revenue_per_user"] is not None]
    over_all = [row for row in known if row["cohort_start"] is None]
    sentence = "No cohort after the first one has a whole month to look back on."
    if over_all:

        def told(row: Row) -> str:
            of = formatting.plural(row["eligible_users"], activity.users)
            value = formatting.decimal(row["cumulative_revenue_per_user"])
            return f"{value} by the end of month {row['period_number']} (of {of})"

        ends = [over_all[0], over_all[-1]] if len(over_all) > 1 else over_all
        sentence = f"Over all cohorts: {', '.join(map(told, ends))}."
    # The lines over all cohorts come last, on top of the others.
    cohorts = [row for row in known if row["cohort_start"] is not None]
    return Chart(
        "lifetime-value",
        "Revenue per user to date",
        sentence,
        charts.curves("Revenue per user", "money", f"Months since the {activity.start}", 300),
        [
            charts.curve_row(
                _LENGTHS[0].name(row["cohort_start"]),
                row["period_number"],
                row["cumulative_revenue_per_user"],
                formatting.decimal(row["cumulative_revenue_per_user"]),
                is_marked=row["cohort_start"] is None,
            )
            for row in [*cohorts, *over_all]
        ],
    )


# --- The second purchase


def _second_purchase(repeat: pl.DataFrame, covered: tuple[date, date]) -> Figure:
    second = repeat.filter(
        pl.col("purchase_number") == 2,  # noqa: PLR2004
        pl.col("cohort_start").is_null() | (pl.col("cohort_start") <= covered[1]),
    ).sort("cohort_start", nulls_last=False)
    rows = second.to_dicts()
    over_all = rows[0] if rows and rows[0]["cohort_start"] is None else None
    return Figure(
        "second-purchase",
        "The second purchase",
        "A purchase is a day with one. A rate is over the customers whose first purchase is long "
        "enough ago to know.",
        [_within_days_chart(over_all), _repurchase_chart(rows)],
        layout=2,
        table=Table(
            "metrics_repeat_purchase",
            "The second purchase by month of the first",
            [
                Column("cohort_start", "First purchase from", "date"),
                Column("at_risk", "Customers", "count"),
                Column("reached", "Bought again", "count"),
                Column("reach_rate", "So far", "rate"),
                *(
                    Column(f"repurchase_rate_{days}", f"Within {days} days", "rate")
                    for days in REPURCHASE_WINDOW_DAYS
                ),
                Column("median_days", "Median days", "count"),
                Column("km_median_days", "Kaplan-Meier median", "count"),
            ],
            second,
            totals=second["cohort_start"].is_null().to_list(),
        ),
        details=[] if over_all is None else _waiting(over_all),
    )


def _within_days_chart(over_all: Row | None) -> Chart:
    measure = Measure("rate", "Bought again, over all cohorts", "rate")
    if over_all is None:
        return parts.bar_chart(
            "repurchase-windows",
            measure,
            [],
            sentence="Nobody's first purchase is known to be the first: all are of the first month "
            "of the data, or there is none.",
        )
    rows = [
        {
            "label": f"Within {days} days, of {formatting.compact(over_all[f'eligible_{days}'])}",
            "days": days,
            "rate": over_all[f"repurchase_rate_{days}"],
            "eligible": over_all[f"eligible_{days}"],
        }
        for days in REPURCHASE_WINDOW_DAYS
    ]
    known = [row for row in rows if row["rate"] is not None]
    sentence = "No first purchase is 30 days ago."
    if known:
        told = [
            f"{formatting.rate(row['rate'])} within {row['days']} days "
            f"(of {formatting.count(row['eligible'])})"
            for row in known
        ]
        sentence = f"Of the customers observed for so long, bought again: {', '.join(told)}."
    return parts.bar_chart(
        "repurchase-windows",
        measure,
        rows,
        sentence=sentence,
        marked=rows[0]["label"],  # what most customers have been observed for
        label_width=_WINDOW_WIDTH,
    )


def _repurchase_chart(rows: Sequence[Row]) -> Chart:
    days = REPURCHASE_WINDOW_DAYS[0]
    measure = Measure(f"repurchase_rate_{days}", f"Within {days} days, by first purchase", "rate")
    shown = [
        row | {"label": formatting.month(row["cohort_start"])}
        for row in rows
        if row["cohort_start"] is not None and row[f"eligible_{days}"]
    ][-_SHOWN_COHORT_BARS:]
    return parts.bar_chart("repurchase-cohorts", measure, shown)


def _waiting(over_all: Row) -> list[tuple[str, str]]:
    """Return how long the second purchase takes, of those who made it and of all."""
    median, estimate = over_all["median_days"], over_all["km_median_days"]
    among = "Nobody bought again."
    if median is not None:
        among = (
            f"{formatting.plural(median, 'day')}; the middle half between "
            f"{formatting.count(over_all['p25_days'])} and "
            f"{formatting.plural(over_all['p75_days'], 'day')}"
        )
    of_all = (
        "Not reached: by what is known so far, fewer than half of the customers buy again."
        if estimate is None
        else f"{formatting.plural(estimate, 'day')}: by then half of the customers have bought "
        "again, counting those who still may"
    )
    return [
        ("Median time, of those who bought again", among),
        ("Median time, of all customers (Kaplan-Meier)", of_all),
    ]
