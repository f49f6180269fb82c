"""The kinds of chart of the report: what each is, as Vega, and the rows that it draws.

Every chart reads the data set `rows`, given apart, so that the page can exchange it. All text is
formatted in Python. Colours are CSS variables of the page: its theme is the chart's theme.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from math import ceil, sqrt
from typing import Any, NamedTuple

from pipelines.report.models import Kind, Row

RAMP_STEPS = 7
_DARK_FROM_STEP = 4
_FONT = "Inter, ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Roboto, Arial, sans-serif"
LABEL_WIDTH = 132
_VALUE_WIDTH = 62
_BAR_STEP = 27
_BAR_SHARE = 0.58  # of its step
_LINE_HEIGHT = 14
_NAME_LINES = 2  # a name has up to three words; labels are set from the first line down
_AMOUNT_LABELS = (
    "abs(datum.value) >= 1000 ? replace(upper(format(datum.value, '.3~s')), 'G', 'B') : "
    "format(datum.value, '~r')"
)
_RATE_LABELS = "format(datum.value, '.2~%')"
_CONTAINER_WIDTH = "isFinite(containerSize()[0]) ? containerSize()[0] : 300"
_HAS_VALUE = "isValid(datum.value)"
_CONFIG: Row = {
    "axis": {
        "domain": False,
        "ticks": False,
        "labelFont": _FONT,
        "labelColor": "var(--muted)",
        "labelFontSize": 12,
        "labelPadding": 8,
        "gridColor": "var(--line)",
        "titleFont": _FONT,
        "titleColor": "var(--muted)",
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 10,
    },
    "text": {"font": _FONT, "fontSize": 12},
}


def _chart(height: str, *, fit: str = "fit-x", signals: Sequence[Row] = (), **parts: Any) -> Row:
    """Return a specification as wide as the page lets it; `height` is an expression."""
    width = {"events": "window:resize", "update": _CONTAINER_WIDTH}
    return {
        "autosize": {"type": fit, "contains": "padding"},
        "padding": 5,
        "config": _CONFIG,
        "signals": [
            {"name": "width", "init": _CONTAINER_WIDTH, "on": [width]},
            {"name": "height", "update": height},
            *signals,
        ],
        **parts,
    }


def _mark(kind: str, data: str, encoding: Row, **more: Any) -> Row:
    """Return a mark for each row of a data set; lines and areas have one for all."""
    return {"type": kind, "from": {"data": data}, "encode": {"update": encoding}, **more}


def _tooltip(fields: Mapping[str, str], datum: str = "datum") -> Row:
    """Return the encoding of a tooltip, from the fields by title."""
    texts = (f"{json.dumps(title)}: {datum}.{field}" for title, field in fields.items())
    return {"signal": f"{{{', '.join(texts)}}}"}


def _labels(expression: str) -> Row:
    """Return the encoding of an axis whose labels are computed."""
    return {"labels": {"update": {"text": {"signal": expression}}}}


def bar_row(label: str, value: Any, text: str, *, is_marked: bool = True) -> Row:
    """Return a row of `bars`: its label, length, formatted value, and whether it stands out."""
    return {
        "label": label,
        "value": None if value is None else float(value),
        "text": text,
        "marked": is_marked,
    }


def bars(measure: str, label_width: int) -> Row:
    """Return horizontal bars in the order of the rows, each with its value beside it.

    Labels are cut at `label_width` pixels; the tooltip has them in full.
    """
    end = {"scale": "x", "field": "value"}
    tooltip = _tooltip({" ": "label", measure: "text"})
    bar = {
        "x": {"scale": "x", "value": 0},
        "x2": end,
        "y": {"scale": "y", "field": "label", "band": (1 - _BAR_SHARE) / 2},
        "height": {"scale": "y", "band": _BAR_SHARE},
        "cornerRadiusTopRight": {"value": 2},
        "cornerRadiusBottomRight": {"value": 2},
        "fill": {"signal": "datum.marked ? 'var(--accent)' : 'var(--quiet)'"},
        "tooltip": tooltip,
    }
    value = {
        "x": end,
        "dx": {"value": 6},
        "y": {"scale": "y", "field": "label", "band": 0.5},
        "baseline": {"value": "middle"},
        "text": {"field": "text"},
        "fill": {"value": "var(--text)"},
        "tooltip": tooltip,
    }
    return _chart(
        f"{_BAR_STEP} * domain('y').length",
        data=[{"name": "rows", "transform": [{"type": "filter", "expr": _HAS_VALUE}]}],
        scales=[
            {
                "name": "x",
                "type": "linear",
                "domain": {"data": "rows", "field": "value"},
                "domainMin": 0,
                "range": [0, {"signal": f"max(20, width - {_VALUE_WIDTH})"}],
            },
            {
                "name": "y",
                "type": "band",
                "domain": {"data": "rows", "field": "label"},
                "range": {"step": _BAR_STEP},
                "paddingInner": 0.1,
                "paddingOuter": 0.05,
            },
        ],
        axes=[
            {
                "scale": "y",
                "orient": "left",
                "labelLimit": label_width,
                "labelColor": "var(--text)",
            }
        ],
        marks=[_mark("rect", "rows", bar), _mark("text", "rows", value)],
    )


def trend_row(at: date, value: Any, text: str, period: str, *, is_complete: bool) -> Row:
    """Return a row of `trend`; `period` is its name in the tooltip."""
    return {
        "at": _milliseconds(at),
        "value": None if value is None else float(value),
        "text": text,
        "period": period,
        "complete": is_complete,
    }


def _milliseconds(at: date) -> int:
    """Return a date as Vega has it: from 1970, at midnight UTC."""
    midnight = datetime(at.year, at.month, at.day, tzinfo=UTC)
    return (midnight - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def _date_axis(days: int) -> Row:
    """Return the axis of dates of a range of so many days."""
    spans = (
        (9, "day", "utcFormat(datum.value, '%-d %b')"),
        (100, "week", "utcFormat(datum.value, '%-d %b')"),
        (800, "month", "utcFormat(datum.value, utcmonth(datum.value) == 0 ? '%Y' : '%b')"),
    )
    ticks: Row = {"tickCount": {"interval": "year", "step": 1}, "format": "%Y"}
    for longest, interval, text in reversed(spans):
        if days <= longest:
            ticks = {"tickCount": {"interval": interval, "step": 1}, "encode": _labels(text)}
    return {
        "scale": "x",
        "orient": "bottom",
        "labelOverlap": "greedy",
        "labelSeparation": 14,
        "labelFlush": True,
        **ticks,
    }


def _value_axis(kind: Kind) -> Row:
    """Return the axis of the values, with a grid."""
    return {
        "scale": "y",
        "orient": "left",
        "grid": True,
        "tickCount": 4,
        **({"tickMinStep": 1} if kind == "count" else {}),
        "labelOverlap": True,
        "encode": _labels(_RATE_LABELS if kind == "rate" else _AMOUNT_LABELS),
    }


def trend(measure: str, kind: Kind, days: int, height: int) -> Row:
    """Return a line over time; hollow points mark periods that the data covers only partly.

    A row without a value breaks the line.
    """
    point = {"x": {"scale": "x", "field": "at"}, "y": {"scale": "y", "field": "value"}}
    path = {**point, "defined": {"signal": _HAS_VALUE}}
    area = {
        **path,
        "y2": {"scale": "y", "value": 0},
        "fill": {"value": "var(--accent)"},
        "opacity": {"value": 0.1},
    }
    line = {**path, "stroke": {"value": "var(--accent)"}, "strokeWidth": {"value": 2}}
    incomplete = {
        **point,
        "size": {"value": 34},
        "fill": {"value": "var(--surface)"},
        "stroke": {"value": "var(--accent)"},
        "strokeWidth": {"value": 1.5},
        "opacity": {"signal": "datum.complete ? 0 : 1"},
    }
    nearest = {
        **point,
        "size": {"value": 70},
        "fill": {"value": "var(--accent)"},
        "opacity": {"signal": "datum.at === nearest ? 1 : 0"},
    }
    surroundings = {
        "fill": {"value": "transparent"},
        "tooltip": _tooltip({" ": "period", measure: "text"}, "datum.datum"),
    }
    cells = {
        "type": "voronoi",
        "x": {"expr": "datum.datum.x || 0"},
        "y": {"expr": "datum.datum.y || 0"},
        "size": [{"signal": "width"}, {"signal": "height"}],
    }
    return _chart(
        str(height),
        fit="fit",
        signals=[
            {
                "name": "nearest",
                "value": None,
                "on": [
                    {"events": "@surroundings:pointermove", "update": "datum.datum.at"},
                    {"events": "view:pointerout", "update": "null"},
                ],
            }
        ],
        data=[
            {"name": "rows"},
            {
                "name": "known",
                "source": "rows",
                "transform": [{"type": "filter", "expr": _HAS_VALUE}],
            },
        ],
        scales=[
            {
                "name": "x",
                "type": "utc",
                "domain": {"data": "rows", "field": "at"},
                "range": "width",
            },
            _value_scale("rows"),
        ],
        axes=[
            _date_axis(days),
            _value_axis(kind),
        ],
        marks=[
            _mark("area", "rows", area),
            _mark("line", "rows", line),
            _mark("symbol", "known", incomplete),
            _mark("symbol", "known", nearest, name="points"),
            _mark("path", "points", surroundings, name="surroundings", transform=[cells]),
        ],
    )


class Cell(NamedTuple):
    """A cell of a heatmap: where it is, its value, and how the value is written."""

    column: str
    row: str
    value: Decimal | float | None
    label: str
    tooltip: str


def heatmap_rows(cells: Sequence[Cell], largest: float | None = None) -> list[Row]:
    """Return rows of `heatmap` with a colour step each.

    Steps are equal in the square root of the value, so that small cells differ too; nothing and
    zero have step 0. The last step begins below `largest`, by default the largest value.
    """
    if largest is None:
        largest = float(max((cell.value for cell in cells if cell.value is not None), default=0))
    rows = []
    for cell in cells:
        share = min(1, float(cell.value) / largest) if cell.value and largest else 0
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


def heatmap(
    measure: str,
    column_title: str,
    row_title: str,
    step: int,
    *,
    order: tuple[Sequence[str], Sequence[str]] | None = None,
) -> Row:
    """Return a grid of cells, each with its label.

    Without a column title the columns are names; these are written one word per line. `order` has
    the columns and the rows that there are, also without a cell; by default they are those of the
    cells, in their order.
    """
    columns: Any = {"data": "rows", "field": "column"}
    rows: Any = {"data": "rows", "field": "row"}
    if order is not None:
        columns, rows = map(list, order)
    tooltip = _tooltip(
        {row_title or " ": "row", column_title or "  ": "column", measure: "tooltip"}
    )
    cell = {
        "x": {"scale": "x", "field": "column"},
        "y": {"scale": "y", "field": "row"},
        "width": {"scale": "x", "band": 1},
        "height": {"scale": "y", "band": 1},
        "cornerRadius": {"value": 2},
        "stroke": {"value": "var(--surface)"},
        "strokeWidth": {"value": 2},
        "fill": {"signal": "'var(--ramp-' + datum.step + ')'"},
        "tooltip": tooltip,
    }
    label = {
        "x": {"scale": "x", "field": "column", "band": 0.5},
        "y": {"scale": "y", "field": "row", "band": 0.5},
        "align": {"value": "center"},
        "baseline": {"value": "middle"},
        "text": {"field": "label"},
        "fill": {"signal": "datum.dark ? 'var(--ramp-ink-high)' : 'var(--ramp-ink-low)'"},
        "tooltip": tooltip,
    }
    return _chart(
        f"{step} * domain('y').length",
        data=[{"name": "rows"}],
        scales=[
            {
                "name": "x",
                "type": "band",
                "domain": columns,
                "range": "width",
            },
            {
                "name": "y",
                "type": "band",
                "domain": rows,
                "range": {"step": step},
            },
        ],
        axes=[
            {
                "scale": "x",
                "orient": "top",
                "title": column_title or None,
                "labelPadding": 8 if column_title else 8 + _NAME_LINES * _LINE_HEIGHT,
                "labelLineHeight": _LINE_HEIGHT,
                "encode": _labels("datum.label" if column_title else "split(datum.label, ' ')"),
            },
            {
                "scale": "y",
                "orient": "left",
                "title": row_title or None,
                "labelLimit": LABEL_WIDTH,
                "labelColor": "var(--text)",
            },
        ],
        marks=[_mark("rect", "rows", cell), _mark("text", "rows", label)],
    )


class Series(NamedTuple):
    """One of the parts or lines of a chart: its name in the legend and its colour."""

    name: str
    colour: str


def series_row(x: date | str, period: str, values: Sequence[Any], texts: Sequence[str]) -> Row:
    """Return a row of a chart of several series: a value of each at a place.

    Args:
        x: The date, or of columns their label.
        period: The place's name in the tooltip.
        values: A number or None per series, in their order.
        texts: The formatted values, for the tooltip.
    """
    return {
        "at": x if isinstance(x, str) else _milliseconds(x),
        "period": period,
        "values": [None if value is None else float(value) for value in values],
        "texts": texts,
    }


def columns(series: Sequence[Series], kind: Kind, height: int) -> Row:
    """Return stacked columns: values above zero upwards, those below it downwards."""
    part = {
        "x": {"scale": "x", "field": "at"},
        "width": {"scale": "x", "band": 1},
        "y": {"scale": "y", "field": "low"},
        "y2": {"scale": "y", "field": "high"},
        "fill": {"scale": "colour", "field": "name"},
    }
    return _of_series(
        series,
        height,
        transform=[_stack()],
        scales=[_band_scale(), _stacked_scale()],
        axes=[
            {"scale": "x", "orient": "bottom", "labelOverlap": "greedy", "labelSeparation": 10},
            _value_axis(kind),
        ],
        marks=[_mark("rect", "parts", part), _zero_line()],
        strip=_strip_of_band(),
    )


def grouped_columns(series: Sequence[Series], title: str, kind: Kind, height: int) -> Row:
    """Return columns side by side, one of each series at a place; none where there is no value."""
    width = f"bandwidth('x') / {len(series)}"
    part = {
        "x": {"signal": f"scale('x', datum.at) + datum.number * {width}"},
        "width": {"signal": width},
        "y": {"scale": "y", "field": "value"},
        "y2": {"scale": "y", "value": 0},
        "fill": {"scale": "colour", "field": "name"},
    }
    return _of_series(
        series,
        height,
        transform=[{"type": "filter", "expr": _HAS_VALUE}],
        scales=[_band_scale(), _value_scale("parts")],
        axes=[
            {"scale": "x", "orient": "bottom", "title": title, "labelOverlap": "greedy"},
            _value_axis(kind),
        ],
        marks=[_mark("rect", "parts", part), _zero_line()],
        strip=_strip_of_band(),
    )


def areas(series: Sequence[Series], kind: Kind, days: int, height: int) -> Row:
    """Return stacked areas over time."""
    area = {
        "x": {"scale": "x", "field": "at"},
        "y": {"scale": "y", "field": "low"},
        "y2": {"scale": "y", "field": "high"},
        "fill": {"scale": "colour", "field": "name"},
        "stroke": {"value": "var(--surface)"},
        "strokeWidth": {"value": 0.75},
    }
    return _of_series(
        series,
        height,
        transform=[_stack()],
        scales=[_time_scale(), _stacked_scale()],
        axes=[_date_axis(days), _value_axis(kind)],
        marks=[_by_series("area", area)],
        strip=_strip_of_time(),
    )


def lines(series: Sequence[Series], kind: Kind, days: int, height: int) -> Row:
    """Return lines over time; where a value is missing, the line breaks."""
    line = {
        "x": {"scale": "x", "field": "at"},
        "y": {"scale": "y", "field": "value"},
        "defined": {"signal": _HAS_VALUE},
        "stroke": {"scale": "colour", "field": "name"},
        "strokeWidth": {"value": 2},
    }
    return _of_series(
        series,
        height,
        transform=[],
        scales=[_time_scale(), _value_scale("parts")],
        axes=[_date_axis(days), _value_axis(kind)],
        marks=[_by_series("line", line)],
        strip=_strip_of_time(),
    )


def _stack() -> Row:
    return {
        "type": "stack",
        "groupby": ["at"],
        "field": "value",
        "sort": {"field": "number"},
        "as": ["low", "high"],
    }


def _time_scale() -> Row:
    return {
        "name": "x",
        "type": "utc",
        "domain": {"data": "rows", "field": "at"},
        "range": "width",
    }


def _band_scale() -> Row:
    return {
        "name": "x",
        "type": "band",
        "domain": {"data": "rows", "field": "at"},
        "range": "width",
        "paddingInner": 0.25,
        "paddingOuter": 0.15,
    }


def _value_scale(data: str) -> Row:
    return {
        "name": "y",
        "type": "linear",
        "domain": {"data": data, "field": "value"},
        "domainMin": 0,
        "nice": True,
        "range": "height",
    }


def _stacked_scale() -> Row:
    return {
        "name": "y",
        "type": "linear",
        "domain": {"data": "parts", "fields": ["low", "high"]},
        "nice": True,
        "zero": True,
        "range": "height",
    }


def _by_series(kind: str, encoding: Row) -> Row:
    """Return a group that draws a line or an area per series."""
    facet = {"name": "one", "data": "parts", "groupby": "name"}
    return {
        "type": "group",
        "from": {"facet": facet},
        "marks": [_mark(kind, "one", encoding)],
    }


def _zero_line() -> Row:
    line = {
        "x": {"value": 0},
        "x2": {"signal": "width"},
        "y": {"scale": "y", "value": 0},
        "stroke": {"value": "var(--muted)"},
    }
    return {"type": "rule", "encode": {"update": line}}


def _strip_of_band() -> Row:
    return {"x": {"scale": "x", "field": "at"}, "width": {"scale": "x", "band": 1}}


def _strip_of_time() -> Row:
    """Return where a strip around a date is: half-way to its neighbours."""
    half = "width / max(1, data('rows').length - 1) / 2"
    return {
        "x": {"signal": f"max(0, scale('x', datum.at) - {half})"},
        "x2": {"signal": f"min(width, scale('x', datum.at) + {half})"},
    }


def _of_series(
    series: Sequence[Series],
    height: int,
    *,
    transform: Sequence[Row],
    scales: Sequence[Row],
    axes: Sequence[Row],
    marks: Sequence[Row],
    strip: Row,
) -> Row:
    """Return a chart with a legend; hovering a place marks it and tells all of its values.

    The page writes the legend above the drawing: there it wraps, whatever the width.
    """
    names = [name for name, _ in series]
    texts = {name: f"texts[{number}]" for number, name in enumerate(names)}
    tooltip = _tooltip({" ": "period", **texts})
    surroundings = _mark(
        "rect",
        "rows",
        {
            **strip,
            "y": {"value": 0},
            "y2": {"signal": "height"},
            "fill": {"value": "var(--text)"},
            "fillOpacity": {"value": 0},
            "tooltip": tooltip,
        },
    )
    surroundings["encode"]["hover"] = {"fillOpacity": {"value": 0.08}}
    return _chart(
        str(height),
        fit="fit",
        data=[
            {"name": "rows"},
            {
                "name": "parts",
                "source": "rows",
                "transform": [
                    {"type": "flatten", "fields": ["values"], "as": ["value"], "index": "number"},
                    {
                        "type": "formula",
                        "as": "name",
                        "expr": f"{json.dumps(names)}[datum.number]",
                    },
                    *transform,
                ],
            },
        ],
        scales=[
            *scales,
            {
                "name": "colour",
                "type": "ordinal",
                "domain": names,
                "range": [colour for _, colour in series],
            },
        ],
        usermeta={"legend": [{"name": name, "colour": colour} for name, colour in series]},
        axes=axes,
        marks=[*marks, surroundings],
    )


def curve_row(series: str, number: int, value: Any, text: str, *, is_marked: bool) -> Row:
    """Return a row of `curves`: a value of a series so many periods after its start."""
    return {
        "series": series,
        "number": number,
        "value": float(value),
        "text": text,
        "marked": is_marked,
    }


def curves(measure: str, kind: Kind, number_title: str, height: int) -> Row:
    """Return a thin line per series over the periods since its start; marked ones stand out.

    The line next to the pointer is drawn in full, and named.
    """
    point = {"x": {"scale": "x", "field": "number"}, "y": {"scale": "y", "field": "value"}}
    is_near = "datum.series === nearest"
    line = {
        **point,
        "stroke": {"signal": f"datum.marked || {is_near} ? 'var(--accent)' : 'var(--quiet)'"},
        "strokeWidth": {"signal": f"datum.marked ? 3 : {is_near} ? 2.5 : 1.25"},
    }
    dot = {
        **point,
        "size": {"signal": "datum.marked ? 34 : 18"},
        "fill": {"signal": f"datum.marked || {is_near} ? 'var(--accent)' : 'var(--quiet)'"},
    }
    surroundings = {
        "fill": {"value": "transparent"},
        "tooltip": _tooltip(
            {" ": "series", number_title: "number", measure: "text"}, "datum.datum"
        ),
    }
    cells = {
        "type": "voronoi",
        "x": {"expr": "datum.datum.x || 0"},
        "y": {"expr": "datum.datum.y || 0"},
        "size": [{"signal": "width"}, {"signal": "height"}],
    }
    facet = {"name": "one", "data": "rows", "groupby": "series"}
    return _chart(
        str(height),
        fit="fit",
        signals=[
            {
                "name": "nearest",
                "value": None,
                "on": [
                    {"events": "@surroundings:pointermove", "update": "datum.datum.series"},
                    {"events": "view:pointerout", "update": "null"},
                ],
            }
        ],
        data=[{"name": "rows"}],
        scales=[
            {
                "name": "x",
                "type": "linear",
                "domain": {"data": "rows", "field": "number"},
                "domainMin": 0,
                "range": "width",
            },
            _value_scale("rows"),
        ],
        axes=[
            {
                "scale": "x",
                "orient": "bottom",
                "title": number_title,
                "tickCount": 12,
                "tickMinStep": 1,
                "format": "d",
                "labelOverlap": "greedy",
            },
            _value_axis(kind),
        ],
        marks=[
            {"type": "group", "from": {"facet": facet}, "marks": [_mark("line", "one", line)]},
            _mark("symbol", "rows", dot, name="points"),
            _mark("path", "points", surroundings, name="surroundings", transform=[cells]),
        ],
    )
