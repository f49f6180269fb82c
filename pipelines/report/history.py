"""Segments over time: how many customers were what, and who moved where."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
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
from transforms import schema

SHOWN_SNAPSHOTS = 104
_SHOWN_IN_TABLE = 52
SHOWN_MONTHS = 12
_DAYS_OF_A_WEEK = 7

_DIMENSIONS = ("rfm_segment", "activity_status", "customer_lifecycle_stage")
_MIGRATIONS = ("rfm_segment", "activity_status")
_NEW = schema.NEW_CUSTOMER
_WITHOUT_PURCHASE = (schema.NO_RFM_SEGMENT, "prospect", "Prospect")
_COLOURS = {
    **{value: f"var(--series-{number})" for number, value in enumerate(schema.RFM_SEGMENTS)},
    "active": "var(--series-0)",
    "declining": "var(--series-3)",
    "at_risk": "var(--series-6)",
    "churned": "var(--series-7)",
    "Loyal Customer": "var(--series-0)",
    "Repeat Customer": "var(--series-1)",
    "First-Time Buyer": "var(--series-3)",
}
_MEASURES = (
    Measure("customers", "Customers", "count"),
    Measure("revenue", "Revenue to date", "money"),
)


def history_page(tables: Mapping[str, pl.DataFrame]) -> Page | None:
    """Return the page, None where the run has no history or no events."""
    covered = periods.data_range(tables["metrics_periods"])
    if covered is None or "metrics_segment_history" not in tables:
        return None
    every = _until(tables["metrics_segment_history"], covered[1]).sort(
        "snapshot_date", "dimension", "value"
    )
    if every.is_empty():
        return None
    dates = every["snapshot_date"].unique().sort()
    shown = every.filter(pl.col("snapshot_date").is_in(dates[-SHOWN_SNAPSHOTS:].implode()))
    moves = _moves(tables, covered[1])
    return Page(
        page_id="history",
        title="Segments over time",
        lead=f"Customers as they were at the end of {formatting.plural(len(dates), 'day')}, "
        f"{formatting.day_range(dates[0], dates[-1])}: each seen from that day alone.",
        cards=_cards(shown, moves),
        figures=[_segments(shown, len(dates)), _migration(moves)],
    )


def _until(frame: pl.DataFrame, last: date) -> pl.DataFrame:
    """Keep the snapshots up to the end of the week in which the data ends."""
    days_after = (pl.col("snapshot_date") - pl.lit(last)).dt.total_days()
    return frame.filter(days_after < _DAYS_OF_A_WEEK)


def _moves(tables: Mapping[str, pl.DataFrame], last: date) -> pl.DataFrame:
    """Return the rows of the latest months of the migration table, most customers first.

    There are none where there is no table.
    """
    moves = tables.get("metrics_segment_migration")
    if moves is None:
        return schema.TABLES_BY_NAME["metrics_segment_migration"].empty_frame()
    moves = _until(moves.filter(pl.col("period") == "month"), last)
    dates = moves["snapshot_date"].unique().sort()
    return moves.filter(pl.col("snapshot_date").is_in(dates[-SHOWN_MONTHS:].implode())).sort(
        ["snapshot_date", "dimension", "customers", "from_value", "to_value"],
        descending=[True, False, True, False, False],
    )


def _cards(shown: pl.DataFrame, moves: pl.DataFrame) -> list[Card]:
    row = shown.filter(pl.col("dimension") == "overall").to_dicts()[-1]
    day = formatting.day(row["snapshot_date"])
    churned = parts.divided(row["churned_customers"], row["customers"])
    latest = moves.filter(
        pl.col("dimension") == "rfm_segment",
        pl.col("snapshot_date") == pl.col("snapshot_date").max(),
    ).to_dicts()
    old = sum(move["customers"] for move in latest if move["from_value"] != _NEW)
    month = formatting.month(latest[0]["snapshot_date"]) if latest else "no whole month yet"
    return [
        parts.card(Measure("customers", "Customers", "count", day), row["customers"]),
        parts.card(Measure("churn_rate", "Churned", "rate", day), churned),
        parts.card(Measure("revenue", "Revenue to date", "money", day), row["revenue"]),
        parts.card(
            Measure("moved", "Changed their segment", "rate", month),
            parts.divided(sum(move["customers"] for move in _changes(latest)), old),
        ),
    ]


def _changes(moves: Sequence[Row]) -> list[Row]:
    """Return the moves of customers that were there before, to another value."""
    return [move for move in moves if move["from_value"] not in {_NEW, move["to_value"]}]


def _control(dimensions: Sequence[str]) -> Control:
    return Control("By", [(dimension, parts.TITLES[dimension]) for dimension in dimensions])


# --- Areas


def _segments(shown: pl.DataFrame, number: int) -> Figure:
    shown = shown.filter(pl.col("dimension").is_in(_DIMENSIONS))
    dates = shown["snapshot_date"].unique().sort()
    told = shown.filter(pl.col("snapshot_date").is_in(dates[-_SHOWN_IN_TABLE:].implode()))
    told = pl.concat(
        parts.in_order(told.filter(pl.col("dimension") == dimension), "value", order).sort(
            "snapshot_date", descending=True, maintain_order=True
        )
        for dimension in _DIMENSIONS
        for order in [parts.ORDERS[dimension]]
    )
    table = Table(
        "metrics_segment_history",
        "Customers and revenue by snapshot",
        [
            Column("snapshot_date", "Day", "date"),
            Column("value", "Group", "text"),
            Column("customers", "Customers", "count"),
            Column("customer_share", "Share of customers", "rate"),
            Column("entered", "Entered", "count"),
            Column("revenue", "Revenue to date", "money"),
            Column("revenue_share", "Share of revenue", "rate"),
            Column("revenue_since", "Revenue since", "money"),
        ],
        told,
        groups=told["dimension"].to_list(),
    )
    cut = []
    if len(dates) < number:
        cut.append(f"the charts show the latest {len(dates)} of {formatting.count(number)} days")
    if len(dates) > _SHOWN_IN_TABLE:
        cut.append(f"the table has the latest {_SHOWN_IN_TABLE}")
    lead = f"{' and '.join(cut)}." if cut else ""
    return figure_with_choice(
        {
            dimension: Figure(
                "segment-history",
                "Customers who bought, and their revenue",
                lead[:1].upper() + lead[1:],
                [_area_chart(measure, shown, dimension) for measure in _MEASURES],
                layout=2,
                table=table,
            )
            for dimension in _DIMENSIONS
        },
        _control(_DIMENSIONS),
    )


def _area_chart(measure: Measure, shown: pl.DataFrame, dimension: str) -> Chart:
    """Return the areas of the groups of buyers: who never bought would dwarf them."""
    own = shown.filter(pl.col("dimension") == dimension)
    bought = own.filter(~pl.col("value").is_in(_WITHOUT_PURCHASE))
    others = own.filter(
        pl.col("value").is_in(_WITHOUT_PURCHASE),
        pl.col("snapshot_date") == pl.col("snapshot_date").max(),
    )
    found = set(bought["value"])
    values = [value for value in parts.ORDERS[dimension] if value in found]
    amounts: dict[date, dict[str, Any]] = {}
    for day, value, amount in bought.select("snapshot_date", "value", measure.field).iter_rows():
        amounts.setdefault(day, {})[value] = amount
    drawn = []
    for day, of_value in amounts.items():
        total = sum(of_value.values())
        numbers = [of_value.get(value, 0) for value in values]
        texts = [
            f"{formatting.compact(number, 0)} · {formatting.rate(parts.divided(number, total))}"
            for number in numbers
        ]
        drawn.append(charts.series_row(day, formatting.day(day), numbers, texts))
    sentence = _area_sentence(dimension, amounts, values)
    if measure.field == "customers" and others.height:
        number = int(others["customers"].sum())
        sentence += f" Not drawn: {formatting.plural(number, 'customer')} without a purchase."
    days = (max(amounts) - min(amounts)).days + 1 if amounts else 0
    return Chart(
        f"history-{measure.field}",
        measure.title,
        sentence,
        charts.areas(
            [charts.Series(parts.label(dimension, value), _COLOURS[value]) for value in values],
            measure.kind,
            days,
            320,
        ),
        drawn if len(drawn) > 1 else [],
    )


def _area_sentence(
    dimension: str, amounts: Mapping[date, Mapping[str, Any]], values: Sequence[str]
) -> str:
    """Say which group is largest, and what has gained and lost most since the first day."""

    def shares(day: date) -> dict[str, float]:
        total = sum(amounts[day].values())
        return {value: parts.divided(amounts[day].get(value, 0), total) or 0 for value in values}

    if not amounts:
        return "Nobody has bought yet."
    first, last = min(amounts), max(amounts)
    now, before = shares(last), shares(first)
    largest = max(values, key=lambda value: now[value])
    sentence = (
        f"{formatting.day(last)}: the largest is {parts.label(dimension, largest)}, "
        f"{formatting.rate(now[largest])}."
    )
    change = {value: now[value] - before[value] for value in values}
    up = max(values, key=lambda value: change[value])
    down = min(values, key=lambda value: change[value])
    if change[down] < 0 < change[up]:
        sentence += (
            f" Since {formatting.day(first)}, {parts.label(dimension, up)} gained most "
            f"({formatting.point_change(now[up], before[up])}) and "
            f"{parts.label(dimension, down)} lost most "
            f"({formatting.point_change(now[down], before[down])})."
        )
    return sentence


# --- Moves


def _migration(moves: pl.DataFrame) -> Figure:
    title = "Who moved where in a month"
    dates = sorted(set(moves["snapshot_date"]), reverse=True)
    if not dates:
        return Figure("migration", title, "Needs two whole months of data.", [])
    table = _move_table(moves)
    lead = (
        "Rows: what customers were at the end of the month before. Columns: what they were at the "
        "end of the month. The stronger the colour, the larger the share of the row. The latest "
        f"{formatting.plural(SHOWN_MONTHS, 'month')} at most."
    )
    return figure_with_choice(
        {
            f"{dimension}|{day}": Figure(
                "migration", title, lead, [_matrix(moves, dimension, day)], table=table
            )
            for dimension in _MIGRATIONS
            for day in dates
        },
        _control(_MIGRATIONS),
        Control("Month", [(str(day), formatting.month(day)) for day in dates], as_buttons=False),
        grouping=2,
    )


def _move_table(moves: pl.DataFrame) -> Table:
    return Table(
        "metrics_segment_migration",
        "Moves by month, most customers first",
        [
            Column("from_value", "From", "text"),
            Column("to_value", "To", "text"),
            Column("customers", "Customers", "count"),
            Column("from_share", "Share of from", "rate"),
            Column("to_share", "Share of to", "rate"),
            Column("purchases", "Purchases", "count"),
            Column("revenue", "Revenue", "money"),
        ],
        moves,
        groups=[
            f"{row['dimension']}|{row['snapshot_date']}" for row in moves.iter_rows(named=True)
        ],
    )


def _matrix(moves: pl.DataFrame, dimension: str, day: date) -> Chart:
    own = moves.filter(pl.col("dimension") == dimension, pl.col("snapshot_date") == day).to_dicts()
    values = parts.ORDERS[dimension]
    cells = [
        charts.Cell(
            parts.label(dimension, row["to_value"]),
            parts.label(dimension, row["from_value"]),
            row["from_share"],
            formatting.compact(row["customers"]),
            f"{formatting.plural(row['customers'], 'customer')}, "
            f"{formatting.rate(row['from_share'])} of the row",
        )
        for row in own
    ]
    labels = [parts.label(dimension, value) for value in values]
    return Chart(
        "migration",
        "Moves between groups",
        _move_sentence(own, dimension, day),
        charts.heatmap("Moved", "", "", 34, order=(labels, [_NEW, *labels])),
        charts.heatmap_rows(cells, 1),
        minimum_width=760,
    )


def _move_sentence(moves: Sequence[Row], dimension: str, day: date) -> str:
    before = day.replace(day=1) - timedelta(days=1)
    when = f"Between {formatting.day(before)} and {formatting.day(day)}"

    def label(value: str) -> str:
        return parts.label(dimension, value)

    changes = _changes(moves)
    sentence = f"{when}, nobody moved."
    if changes:
        top = max(changes, key=lambda row: (row["customers"], row["from_value"], row["to_value"]))
        old = sum(row["customers"] for row in moves if row["from_value"] != _NEW)
        moved = sum(row["customers"] for row in changes)
        sentence = (
            f"{when}, {formatting.rate(parts.divided(moved, old))} of the customers moved, most of "
            f"them from {label(top['from_value'])} to {label(top['to_value'])}: "
            f"{formatting.count(top['customers'])}, {formatting.rate(top['from_share'])} of "
            f"{label(top['from_value'])}."
        )
    new = [row for row in moves if row["from_value"] == _NEW]
    if new:
        most = max(new, key=lambda row: (row["customers"], row["to_value"]))
        sentence += (
            f" {formatting.plural(sum(row['customers'] for row in new), 'customer')} came new, "
            f"{formatting.rate(most['from_share'])} of them as {label(most['to_value'])}."
        )
    return sentence
