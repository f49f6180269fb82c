"""The three kinds of chart of the report, designed with Altair, compiled to Vega.

Every chart reads the data set `rows`, given apart, so that the page can exchange it. All text is
formatted in Python. Colours are CSS variables of the page: its theme is the chart's theme.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from math import ceil, sqrt
from typing import Any, Literal, NamedTuple

import altair as alt
import vl_convert

from pipelines.report.models import Kind, Row

RAMP_STEPS = 7
_DARK_FROM_STEP = 4
_FONT = "Inter, ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Roboto, Arial, sans-serif"
LABEL_WIDTH = 132
_VALUE_WIDTH = 62
_BAR_STEP = 27
_LINE_HEIGHT = 14
_NAME_LINES = 2  # a name has up to three words; labels are set from the first line down
_AMOUNT_LABELS = (
    "abs(datum.value) >= 1000 ? replace(upper(format(datum.value, '.3~s')), 'G', 'B') : "
    "format(datum.value, '~r')"
)
_RATE_LABELS = "format(datum.value, '.2~%')"


def _finished(chart: Any, fit: Literal["fit", "fit-x"] = "fit-x") -> Row:
    """Style a chart and compile it to Vega, so that the page need not."""
    styled = chart.configure(
        background="transparent",
        autosize=alt.AutoSizeParams(type=fit, contains="padding"),
        font=_FONT,
        aria=False,
        view=alt.ViewConfig(stroke=None),
        axis=alt.AxisConfig(
            domain=False,
            ticks=False,
            title=None,
            labelColor="var(--muted)",
            labelFontSize=12,
            gridColor="var(--line)",
            labelPadding=8,
        ),
        mark=alt.MarkConfig(aria=False),
        text=alt.MarkConfig(fontSize=12, color="var(--text)"),
    )
    compiled: Row = vl_convert.vegalite_to_vega(styled.to_dict())
    return compiled


def _rows() -> Any:
    return alt.Chart(alt.NamedData(name="rows"))


def bar_row(label: str, value: Any, text: str, *, is_marked: bool = True) -> Row:
    """Return a row of `bars`: its label, length, formatted value, and whether it stands out."""
    return {
        "label": label,
        "value": None if value is None else float(value),
        "text": text,
        "marked": is_marked,
    }


@cache
def bars(measure: str, label_width: int) -> Row:
    """Return horizontal bars in the order of the rows, each with its value beside it.

    Labels are cut at `label_width` pixels; the tooltip has them in full.
    """
    base = (
        _rows()
        .encode(
            x=alt.X("value:Q", axis=None, stack=False).scale(
                domainMin=0, nice=False, range=[0, alt.ExprRef(f"max(20, width - {_VALUE_WIDTH})")]
            ),
            y=alt.Y("label:N", sort=None).axis(labelLimit=label_width, labelColor="var(--text)"),
            tooltip=[alt.Tooltip("label:N", title=" "), alt.Tooltip("text:N", title=measure)],
        )
        .properties(width="container", height=alt.Step(_BAR_STEP))
    )
    bar = base.mark_bar(height={"band": 0.58}, cornerRadiusEnd=2).encode(
        color=alt.condition("datum.marked", alt.value("var(--accent)"), alt.value("var(--quiet)"))
    )
    value = base.mark_text(align="left", dx=6, baseline="middle").encode(text="text:N")
    return _finished(bar + value)


def trend_row(at: date, value: Any, text: str, period: str, *, is_complete: bool) -> Row:
    """Return a row of `trend`; `period` is its name in the tooltip."""
    midnight = datetime(at.year, at.month, at.day, tzinfo=UTC)
    return {
        "at": (midnight - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1),
        "value": None if value is None else float(value),
        "text": text,
        "period": period,
        "complete": is_complete,
    }


def _date_axis(days: int) -> Row:
    """Return how the dates of a range of so many days are ticked and written."""
    spans = (
        (9, "day", "utcFormat(datum.value, '%-d %b')"),
        (100, "week", "utcFormat(datum.value, '%-d %b')"),
        (800, "month", "utcFormat(datum.value, utcmonth(datum.value) == 0 ? '%Y' : '%b')"),
    )
    for longest, interval, text in spans:
        if days <= longest:
            return {"tickCount": {"interval": interval, "step": 1}, "labelExpr": text}
    return {"tickCount": {"interval": "year", "step": 1}, "format": "%Y"}


@cache
def trend(measure: str, kind: Kind, days: int, height: int) -> Row:
    """Return a line over time; hollow points mark periods that the data covers only partly.

    A row without a value breaks the line.
    """
    base = _rows().encode(
        x=alt.X("at:T", scale=alt.Scale(type="utc")).axis(
            grid=False,
            labelOverlap="greedy",
            labelSeparation=14,
            labelFlush=True,
            **_date_axis(days),
        )
    )
    y = alt.Y("value:Q", stack=False, scale=alt.Scale(domainMin=0, nice=True)).axis(
        tickCount=4,
        tickMinStep=1 if kind == "count" else alt.Undefined,
        labelExpr=_RATE_LABELS if kind == "rate" else _AMOUNT_LABELS,
    )
    tooltip = [
        alt.Tooltip("period:N", title=" "),
        alt.Tooltip("text:N", title=measure),
    ]
    nearest = alt.selection_point(
        name="nearest", nearest=True, on="pointermove", clear="pointerout", fields=["at"]
    )
    area = base.mark_area(color="var(--accent)", opacity=0.1).encode(y=y)
    line = base.mark_line(color="var(--accent)", strokeWidth=2).encode(y=y)
    points = base.mark_point(
        filled=False, fill="var(--surface)", stroke="var(--accent)", size=34, strokeWidth=1.5
    ).encode(y=y, opacity=alt.condition("!datum.complete", alt.value(1), alt.value(0)))
    hover = (
        base.mark_point(filled=True, color="var(--accent)", size=70)
        .encode(
            y=y,
            tooltip=tooltip,
            opacity=alt.condition(nearest, alt.value(1), alt.value(0), empty=False),
        )
        .add_params(nearest)
    )
    return _finished(
        (area + line + points + hover).properties(width="container", height=height), "fit"
    )


class Cell(NamedTuple):
    """A cell of a heatmap: where it is, its value, and how the value is written."""

    column: str
    row: str
    value: Decimal | int | None
    label: str
    tooltip: str


def heatmap_rows(cells: Sequence[Cell]) -> list[Row]:
    """Return rows of `heatmap` with a colour step each.

    Steps are equal in the square root of the value, so that small cells differ too; nothing and
    zero have step 0.
    """
    largest = float(max((cell.value for cell in cells if cell.value is not None), default=0))
    rows = []
    for cell in cells:
        share = float(cell.value) / largest if cell.value else 0
        step = ceil(sqrt(share) * RAMP_STEPS)
        rows.append(
            {
                "column": cell.column,
                "row": cell.row,
                "label": cell.label,
                "tooltip": cell.tooltip,
                "step": step,
                "dark": step >= _DARK_FROM_STEP,
            }
        )
    return rows


@cache
def heatmap(measure: str, column_title: str, row_title: str, step: int) -> Row:
    """Return a grid in the order of the rows, each cell with its label.

    Without a column title the columns are names; these are written one word per line.
    """
    base = (
        _rows()
        .encode(
            x=alt.X("column:N", sort=None).axis(
                orient="top",
                labelAngle=0,
                labelExpr="datum.label" if column_title else "split(datum.label, ' ')",
                labelPadding=8 if column_title else 8 + _NAME_LINES * _LINE_HEIGHT,
                labelLineHeight=_LINE_HEIGHT,
                title=column_title or None,
                **_TITLE,
            ),
            y=alt.Y("row:N", sort=None).axis(
                labelLimit=LABEL_WIDTH,
                labelColor="var(--text)",
                title=row_title or None,
                **_TITLE,
            ),
            tooltip=[
                alt.Tooltip("row:N", title=row_title or " "),
                alt.Tooltip("column:N", title=column_title or " "),
                alt.Tooltip("tooltip:N", title=measure),
            ],
        )
        .properties(width="container", height=alt.Step(step))
    )
    cells = base.mark_rect(cornerRadius=2, stroke="var(--surface)", strokeWidth=2).encode(
        fill=alt.Fill("step:O", legend=None).scale(
            domain=list(range(RAMP_STEPS + 1)),
            range=[f"var(--ramp-{number})" for number in range(RAMP_STEPS + 1)],
        )
    )
    labels = base.mark_text(baseline="middle").encode(
        text="label:N",
        color=alt.condition(
            "datum.dark", alt.value("var(--ramp-ink-high)"), alt.value("var(--ramp-ink-low)")
        ),
    )
    return _finished(cells + labels)


_TITLE: Row = {
    "titleColor": "var(--muted)",
    "titleFontSize": 12,
    "titleFontWeight": "normal",
    "titlePadding": 10,
}
