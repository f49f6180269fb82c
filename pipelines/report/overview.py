"""The business over time, and how sound the data behind it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import polars as pl

from pipelines.report import charts, formatting, parts, periods
from pipelines.report.models import (
    FORMATS,
    Chart,
    Column,
    Control,
    Figure,
    Measure,
    Page,
    Row,
    Table,
    with_choice,
)
from pipelines.report.runs import newest_run

_GRAINS = {"day": "Days", "week": "Weeks"}
_DAYS = {"day": 1, "week": 7}

_REVENUE = Measure("revenue", "Revenue", "money")
_PURCHASES = Measure("purchases", "Purchases", "count", "items bought")
_DRIVERS = (
    Measure("orders", "Orders", "count", "checkouts of a session"),
    Measure("avg_basket_value", "Basket value", "money", "revenue per order"),
    Measure("items_per_order", "Items per order", "average", "purchases per order"),
    Measure("users", "Users", "count"),
    Measure("sessions", "Sessions", "count"),
    Measure("conversion_rate", "Conversion", "rate", "sessions with a purchase"),
)
_MEASURES = (_REVENUE, *_DRIVERS[:3], _PURCHASES, *_DRIVERS[3:])
_SUMS = {"revenue", "orders", "purchases", "sessions"}

_ROWS = Measure("rows", "Rows read", "count")
_REJECTED = Measure("rows", "Rejected rows", "count")
_IDENTITY = (
    ("events_kept", "Kept"),
    ("after_as_of_rows", "After as_of"),
    ("duplicate_rows", "Duplicate"),
    ("multi_brand_product_rows", "Multi-brand product"),
    ("missing_session_rows", "Without a session"),
    ("rejected_rows", "Rejected"),
)


def overview_page(tables: Mapping[str, pl.DataFrame]) -> Page:
    """Return the page with a choice between days and weeks."""
    return with_choice(
        {grain: _page(tables, grain) for grain in _GRAINS},
        choice_id="grain",
        control=Control("Show by", list(_GRAINS.items())),
    )


def _page(tables: Mapping[str, pl.DataFrame], grain: str) -> Page:
    metrics = tables["metrics_periods"].sort("period", "period_start")
    extent = periods.extent(metrics)
    comparison = periods.comparison(metrics)
    return Page(
        page_id="overview",
        title="Overview",
        lead=" ".join(
            [
                "There are no events in this data."
                if extent is None
                else f"Events of {formatting.day_range(extent.first, extent.last)}.",
                *([] if comparison is None else [comparison.sentence]),
                *([] if extent is None or not extent.sentence else [extent.sentence]),
            ]
        ),
        cards=_cards(tables, metrics, comparison),
        figures=[*_trends(metrics, grain), *_data_quality(tables)],
    )


def _cards(
    tables: Mapping[str, pl.DataFrame],
    metrics: pl.DataFrame,
    comparison: periods.Comparison | None,
) -> list[Any]:
    funnel = parts.overall(tables["metrics_funnel"])
    users = parts.overall(tables["metrics_user_segments"])
    orders = metrics.filter(pl.col("period") == "day")["orders"].sum()
    totals = {
        "revenue": funnel["revenue"],
        "orders": orders,
        "avg_basket_value": parts.divided(funnel["revenue"], orders),
        "items_per_order": parts.divided(funnel["purchases"], orders),
        "purchases": funnel["purchases"],
        "users": users["customers"],
        "sessions": funnel["sessions"],
        "conversion_rate": funnel["conversion_rate"],
    }
    compared: dict[str, tuple[Any, Any]] = {}
    basis = ""
    if comparison is not None:
        basis = comparison.basis
        latest, previous = (
            metrics.row(
                by_predicate=(pl.col("period") == comparison.period)
                & (pl.col("period_start") == start),
                named=True,
            )
            for start in (comparison.latest, comparison.previous)
        )
        compared = {name: (latest[name], previous[name]) for name in totals}
    return [
        parts.card(
            measure,
            totals[measure.field],
            compared=compared.get(measure.field),
            basis=basis,
        )
        for measure in _MEASURES
    ]


_DAYS_OF_A_YEAR = 365


@dataclass(frozen=True)
class _Span:
    """The periods that the charts show, and the first and last day of all data."""

    grain: str
    rows: list[Row]
    covered: tuple[date, date] | None

    @property
    def days(self) -> int:
        return 0 if self.covered is None else (self.covered[1] - self.covered[0]).days + 1

    def start(self, row: Row) -> str:
        start: date = row["period_start"]
        return formatting.day(start) if self.days > _DAYS_OF_A_YEAR else f"{start.day} {start:%b}"

    def is_complete(self, row: Row) -> bool:
        return self.covered is not None and periods.is_complete(
            self.grain, row["period_start"], *self.covered
        )


def _trends(metrics: pl.DataFrame, grain: str) -> list[Figure]:
    covered = periods.data_range(metrics)
    every = [
        row
        for row in metrics.filter(pl.col("period") == grain).to_dicts()
        if periods.within(covered, row["period_start"], _DAYS[grain])
    ]
    span = _Span(grain, every[-periods.SHOWN[grain] :], covered)
    older = (
        f"The charts show the latest {formatting.plural(len(span.rows), grain)} "
        f"of {formatting.count(len(every))}."
        if len(span.rows) < len(every)
        else ""
    )
    shown = metrics.filter(pl.col("period").is_in(list(_GRAINS)))
    table = Table(
        table_id="metrics_periods",
        caption="Figures by day and week",
        columns=[
            Column("period", "Period", "text"),
            Column("period_start", "From", "date"),
            *(Column(measure.field, measure.title, measure.kind) for measure in _MEASURES),
            Column("avg_order_value", "Revenue per purchase", "money"),
            Column("views", "Views", "count"),
            Column("cart_adds", "Cart adds", "count"),
        ],
        frame=shown,
        groups=shown["period"].to_list(),
    )
    return [
        Figure("revenue-trend", "Revenue over time", older, [_trend(span, _REVENUE)]),
        Figure(
            "trends",
            "What drives it",
            "An order is one checkout: the purchases of a session that follow each other at once.",
            [_trend(span, measure) for measure in _DRIVERS],
            layout=3,
            table=table,
        ),
    ]


def _trend(span: _Span, measure: Measure) -> Chart:
    drawn = []
    for row in periods.with_gaps(span.rows, span.grain):
        if not isinstance(row, dict):
            drawn.append(charts.trend_row(row, None, "", "", is_complete=True))
            continue
        start, value = row["period_start"], row[measure.field]
        name = formatting.day(start) if span.grain == "day" else f"week of {formatting.day(start)}"
        is_complete = span.is_complete(row)
        drawn.append(
            charts.trend_row(
                start,
                value,
                FORMATS[measure.kind](value),
                name if is_complete else f"{name} (incomplete)",
                is_complete=is_complete and len(span.rows) > 1,
            )
        )
    has_values = any(row[measure.field] is not None for row in span.rows)
    return Chart(
        chart_id=f"trend-{measure.field}",
        title=measure.title,
        sentence=_trend_sentence(span, measure),
        spec=charts.trend(
            measure.title, measure.kind, span.days, 240 if measure.field == "revenue" else 130
        ),
        rows=drawn if has_values else [],
    )


def _trend_sentence(span: _Span, measure: Measure) -> str:
    field, text, grain = measure.field, FORMATS[measure.kind], span.grain
    known = [row for row in span.rows if row[field] is not None]
    if not known:
        return "There is nothing to show over time."
    complete = [row for row in known if span.is_complete(row)] or known
    highest = max(complete, key=lambda row: row[field])
    lowest = min(complete, key=lambda row: row[field])
    partial = len(known) - len(complete)
    aside = f", {formatting.plural(partial, f'incomplete {grain}')} aside." if partial else "."
    if len(complete) == 1:
        return f"{text(highest[field])} in the only {grain}, {span.start(highest)}{aside}"
    if highest[field] == lowest[field]:
        return f"{text(highest[field])} in each of {formatting.plural(len(complete), grain)}{aside}"
    sentence = (
        f"Between {text(lowest[field])} ({span.start(lowest)}) "
        f"and {text(highest[field])} ({span.start(highest)}) a {grain}"
    )
    if field in _SUMS:
        mean = parts.divided(sum(row[field] for row in complete), len(complete))
        sentence += f", {formatting.compact(round(mean or 0))} on average"
    return sentence + aside


def _data_quality(tables: Mapping[str, pl.DataFrame]) -> list[Figure]:
    run = newest_run(tables)
    if run is None:
        return [Figure("data-quality", "Data quality", "No run is recorded in pipeline_runs.", [])]
    checks = (
        tables["data_quality"]
        .filter(pl.col("run_id") == run["run_id"])
        .sort("passed", "severity", "table_name", "check_name")
    )
    reasons, table_rows = run["rejected_by_reason"], run["table_rows"]
    return [
        Figure(
            "data-quality",
            "Data quality",
            "",
            [_rows_chart(run), _rejected_chart(reasons, run["rejected_rows"])],
            layout=2,
            table=_outcome_table(run, reasons),
        ),
        Figure(
            "checks",
            "Checks",
            _checks_sentence(checks),
            [],
            table=Table(
                "data_quality",
                "Checks of this run, failed ones first",
                [
                    Column("table_name", "Table", "text"),
                    Column("check_name", "Check", "text"),
                    Column("severity", "Severity", "text"),
                    Column("failing_rows", "Failing rows", "count"),
                    Column("passed", "Passed", "flag"),
                ],
                checks,
            ),
        ),
        Figure(
            "run",
            "This run",
            _run_sentence(run),
            [],
            details=_run_details(run),
            table=Table(
                "pipeline_runs",
                "Rows written per table",
                [Column("table_name", "Table", "text"), Column("rows", "Rows", "count")],
                pl.DataFrame(
                    {"table_name": list(table_rows), "rows": list(table_rows.values())},
                    schema={"table_name": pl.String, "rows": pl.Int64},
                ),
            ),
        ),
    ]


def _outcome_table(run: Row, reasons: Mapping[str, int]) -> Table:
    outcomes = [(title, None, run[field]) for field, title in _IDENTITY[:-1]] + [
        (_IDENTITY[-1][1], reason, number) for reason, number in sorted(reasons.items())
    ]
    schema = {"outcome": pl.String, "reason": pl.String, "rows": pl.Int64}
    return Table(
        "rows_read",
        "Rows read by outcome",
        [
            Column("outcome", "Outcome", "text"),
            Column("reason", "Reason", "text"),
            Column("rows", "Rows", "count"),
        ],
        pl.DataFrame(outcomes, schema=schema, orient="row"),
    )


def _rows_chart(run: Row) -> Chart:
    read, kept, rejected = run["rows_read"], run["events_kept"], run["rejected_rows"]
    sentence = "No row was read."
    if read:
        sentence = (
            f"Of {formatting.plural(read, 'row')} read, {formatting.count(kept)} "
            f"({formatting.rate(parts.divided(kept, read))}) were kept, "
            f"{formatting.count(read - kept - rejected)} dropped "
            f"and {formatting.count(rejected)} rejected."
        )
    return parts.bar_chart(
        "rows-read",
        _ROWS,
        [{"label": title, "rows": run[field]} for field, title in _IDENTITY] if read else [],
        sentence=sentence,
        total=read,
    )


def _rejected_chart(reasons: Mapping[str, int], rejected: int) -> Chart:
    rows: list[Row] = [
        {"label": reason.replace("_", " ").capitalize(), "rows": number}
        for reason, number in sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
        if number
    ]
    sentence = "No row was rejected."
    if rows:
        sentence = (
            f"{formatting.plural(rejected, 'row was', 'rows were')} rejected; the most frequent "
            f"reason is {rows[0]['label'].lower()} ({formatting.count(rows[0]['rows'])})."
        )
    return parts.bar_chart("rejected", _REJECTED, rows, sentence=sentence)


def _checks_sentence(checks: pl.DataFrame) -> str:
    if checks.is_empty():
        return "No checks are recorded for this run."
    failed = checks.filter(~pl.col("passed"))
    if failed.is_empty():
        return f"All {formatting.plural(checks.height, 'check')} passed."
    passed = formatting.count(checks.height - failed.height)
    sentence = f"{passed} of {formatting.plural(checks.height, 'check')} passed."
    for severity, title in (("error", "Errors"), ("warn", "Warnings")):
        rows = failed.filter(pl.col("severity") == severity).to_dicts()
        if rows:
            named = [
                f"{row['check_name']} on {row['table_name']} "
                f"({formatting.plural(row['failing_rows'], 'row')})"
                for row in rows[:_LISTED_CHECKS]
            ]
            if len(rows) > _LISTED_CHECKS:
                named.append(f"{formatting.count(len(rows) - _LISTED_CHECKS)} more")
            sentence += f" {title}: {', '.join(named)}."
    return sentence


_LISTED_CHECKS = 3


def _run_sentence(run: Row) -> str:
    started = run["started_at"]
    sentence = f"Started {formatting.day(started)}, {started:%H:%M} UTC"
    if run["finished_at"] is not None:
        sentence += f", took {formatting.duration(run['finished_at'] - started)}"
    return f"{sentence}."


def _run_details(run: Row) -> list[tuple[str, str]]:
    options = [
        f"{name} = {', '.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in sorted(run["options"].items())
        if value is not None
    ]
    return [
        ("Run", run["run_id"]),
        ("Status", run["status"]),
        ("Input", ", ".join(run["inputs"])),
        ("As of", formatting.day(run["as_of"])),
        ("Options", "; ".join(options)),
        ("Code version", run["code_version"]),
    ]
