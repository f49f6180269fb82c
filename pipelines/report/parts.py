"""What the pages share: rows by value, bar charts with their sentence, orders of groups."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import polars as pl

from pipelines.report import charts, formatting
from pipelines.report.models import FORMATS, Card, Chart, Kind, Measure, Row
from pipelines.report.periods import change
from transforms import schema

ORDERS: dict[str, tuple[str, ...]] = {
    "overall": ("all",),
    "rfm_segment": (*schema.RFM_SEGMENTS, schema.NO_RFM_SEGMENT),
    "customer_lifecycle_stage": schema.LIFECYCLE_STAGES[::-1],
    "activity_status": schema.ACTIVITY_STATUSES,
    "session_quality_tier": schema.QUALITY_TIERS[::-1],
    "session_length_bucket": schema.LENGTH_BUCKETS,
}
"""The groupings the report shows, and the order of their values, best or longest first."""

TITLES = {
    "overall": "All",
    "rfm_segment": "RFM segment",
    "customer_lifecycle_stage": "Lifecycle stage",
    "activity_status": "Activity status",
    "session_quality_tier": "Session quality",
    "session_length_bucket": "Session length",
}

_LABEL_FORMATS: dict[Kind, Callable[[Any], str]] = {
    **FORMATS,
    "count": formatting.compact,
    "money": formatting.compact,
    "average": formatting.compact,
}


def label(dimension: str, value: str) -> str:
    """Return a value of a dimension as the page writes it: `at_risk` becomes `At risk`."""
    if dimension in {"activity_status", "overall"}:
        return value.replace("_", " ").capitalize()
    return value


def place(order: Sequence[str]) -> Callable[[str], tuple[int, str]]:
    """Return a sort key: the place in `order`; what is not in it comes last, by name."""
    places = {value: number for number, value in enumerate(order)}
    return lambda value: (places.get(value, len(places)), value)


def in_order(frame: pl.DataFrame, column: str, order: Sequence[str]) -> pl.DataFrame:
    """Sort a frame by the place of a column's value in `order`."""
    key = place(order)
    return frame[sorted(range(frame.height), key=lambda number: key(frame[column][number]))]


def rows_of(frame: pl.DataFrame, dimension: str) -> list[Row]:
    """Return the rows of one dimension of `metrics_funnel` or `metrics_user_segments`, in order.

    Each has its text as the page writes it in `label`.
    """
    rows = in_order(frame.filter(pl.col("dimension") == dimension), "value", ORDERS[dimension])
    return [row | {"label": label(dimension, row["value"])} for row in rows.to_dicts()]


def overall(frame: pl.DataFrame) -> Row:
    """Return the row of everything; without one (no events) all counts are 0, all rates missing."""
    rows = frame.filter(pl.col("dimension") == "overall").to_dicts()
    if rows:
        return rows[0]
    return {
        name: 0 if dtype.is_integer() or dtype.is_decimal() else None
        for name, dtype in frame.schema.items()
    }


def divided(numerator: Any, denominator: Any) -> float | None:
    """Return the quotient, None where either is missing or the denominator is zero."""
    if numerator is None or not denominator:
        return None
    return float(Decimal(str(numerator)) / Decimal(str(denominator)))


def bar_chart(
    chart_id: str,
    measure: Measure,
    rows: Sequence[Row],
    *,
    sentence: str | None = None,
    total: int | None = None,
    marked: str | None = None,
    label_width: int = charts.LABEL_WIDTH,
) -> Chart:
    """Return bars of one column of the rows, whose `label` names them.

    Args:
        chart_id: The chart's name on the page.
        measure: The column that gives the length.
        rows: What to draw, in this order.
        sentence: What the chart shows; by default its highest and lowest bar.
        total: What the values are parts of; then their share is written beside them too.
        marked: The label of the bar that stands out; by default the highest.
        label_width: Pixels at which labels are cut.
    """
    field = measure.field
    written = [_LABEL_FORMATS[measure.kind](row[field]) for row in rows]
    if total is not None:
        shares = [formatting.rate(divided(row[field], total)) for row in rows]
        written = [f"{text} · {share}" for text, share in zip(written, shares, strict=True)]
    known = [row for row in rows if row[field] is not None]
    if marked is None and known:
        marked = max(known, key=lambda row: row[field])["label"]
    return Chart(
        chart_id=chart_id,
        title=measure.title,
        sentence=sentence or extremes(rows, measure),
        spec=charts.bars(measure.title, label_width),
        rows=[
            charts.bar_row(row["label"], row[field], text, is_marked=row["label"] == marked)
            for row, text in zip(rows, written, strict=True)
        ]
        if known
        else [],
    )


def extremes(rows: Sequence[Row], measure: Measure) -> str:
    """Say which group is highest and which lowest; earlier rows win ties."""
    field = measure.field
    known = [row for row in rows if row[field] is not None]
    if not known:
        return "There is no data for this chart."
    text = _LABEL_FORMATS[measure.kind]
    highest = max(known, key=lambda row: row[field])
    lowest = min(known, key=lambda row: row[field])
    if len(known) == 1:
        return f"{highest['label']}: {text(highest[field])}, the only group with a value."
    if highest[field] == lowest[field]:
        return f"All {len(known)} groups have {text(highest[field])}."
    return (
        f"Highest: {highest['label']}, {text(highest[field])}. "
        f"Lowest: {lowest['label']}, {text(lowest[field])}."
    )


def card(
    measure: Measure,
    value: Any,
    *,
    compared: tuple[Any, Any] | None = None,
    basis: str = "",
) -> Card:
    """Return a key figure; `compared` is its value in two periods, `basis` says in which."""
    exact = FORMATS[measure.kind](value)
    shorter = (exact, formatting.decimal(value, 0), _LABEL_FORMATS[measure.kind](value))
    fitting = [text for text in shorter if len(text) <= _LONGEST_CARD_VALUE]
    return Card(
        card_id=measure.field,
        label=measure.title,
        value=[*fitting, shorter[-1]][0],
        exact=exact,
        note=measure.note,
        change=None
        if compared is None
        else change(
            *compared,
            basis,
            more_is_better=measure.more_is_better,
            is_rate=measure.kind == "rate",
        ),
    )


_LONGEST_CARD_VALUE = 11
