"""What a page of the report is made of. Pages build these; the template shows them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any, Literal, NamedTuple

import polars as pl

from pipelines.report import formatting

Row = dict[str, Any]
"""One row of a small table or of a chart, by column name."""

Kind = Literal["text", "count", "money", "rate", "average", "date", "flag"]

FORMATS: dict[Kind, Callable[[Any], str]] = {
    "text": lambda value: formatting.MISSING if value is None else str(value),
    "count": formatting.count,
    "money": formatting.decimal,
    "rate": formatting.rate,
    "average": formatting.decimal,
    "date": formatting.day,
    "flag": lambda value: "yes" if value else "no",
}


class Measure(NamedTuple):
    """A column of a metrics table as the page names and writes it."""

    field: str
    title: str
    kind: Kind
    note: str = ""
    more_is_better: bool = True


@dataclass(frozen=True)
class Change:
    """A figure against the period before: its text, and whether that is good news."""

    text: str
    direction: Literal["up", "down", "same"]
    tone: Literal["good", "bad", "neutral"]
    basis: str


@dataclass(frozen=True)
class Card:
    """A key figure. `exact` is the unshortened value, shown on demand."""

    card_id: str
    label: str
    value: str
    exact: str
    note: str = ""
    change: Change | None = None


@dataclass(frozen=True)
class Chart:
    """A Vega specification whose data set `rows` is given apart, and a sentence about it.

    A chart without rows is not drawn; its sentence says why. `minimum_width` (pixels) makes a
    wide chart scroll inside its frame on a small screen.
    """

    chart_id: str
    title: str
    sentence: str
    spec: Row
    rows: Sequence[Row]
    minimum_width: int = 0


@dataclass(frozen=True)
class Column:
    """A column of a shown table."""

    name: str
    header: str
    kind: Kind


@dataclass(frozen=True)
class Table:
    """A table of the page; `frame` holds at least its columns and is what the CSV download has.

    `groups` holds a key per row: the page's choice shows the rows that have its key. `totals`
    tells of each row whether it adds up others.
    """

    table_id: str
    caption: str
    columns: Sequence[Column]
    frame: pl.DataFrame
    groups: Sequence[str] = ()
    totals: Sequence[bool] = ()

    @property
    def rows(self) -> list[Row]:
        """Return what the template shows: cells with their text and the value to sort by."""
        return [
            {
                "group": group,
                "is_total": is_total,
                "cells": [
                    {
                        "text": FORMATS[column.kind](row[column.name]),
                        "sort": _sort_value(row[column.name], column.kind),
                        "kind": column.kind if column.kind in _LEFT else "",
                    }
                    for column in self.columns
                ],
            }
            for row, group, is_total in zip_longest(
                self.frame.iter_rows(named=True), self.groups, self.totals
            )
        ]

    @property
    def csv(self) -> str:
        """Return the frame as CSV.

        Text that a spreadsheet would run as a formula gets an apostrophe before it: brands and
        categories come from outside. So does text behind what some spreadsheets take for the end
        of a cell.
        """
        return self.frame.with_columns(
            pl.selectors.string().str.replace_all(_FORMULA, "${start}'${formula}")
        ).write_csv()


_FORMULA = (
    r"(?P<start>^|[;\t\r\n])"
    r"(?P<formula>\s*[=+\-@\x{FF1D}\x{FF0B}\x{FF0D}\x{FF20}]|[\t\r])"  # also at full width
)


_LEFT: tuple[Kind, ...] = ("text", "flag", "date")  # the other kinds are numbers


def _sort_value(value: Any, kind: Kind) -> str | None:
    """Return what a cell sorts by: None for its text, "" for no value."""
    if kind in {"text", "flag"}:
        return None
    if value is None:
        return ""
    return None if kind == "count" else str(value)


@dataclass(frozen=True)
class Figure:
    """One or more charts under a heading, with the table behind them.

    `layout` is the number of charts side by side where the screen allows it; `details` are
    terms with their text. A figure of its own `choice` changes by it alone.
    """

    figure_id: str
    title: str
    lead: str
    charts: Sequence[Chart]
    layout: int = 1
    table: Table | None = None
    details: Sequence[tuple[str, str]] = ()
    is_table_open: bool = False
    choice: "Choice | None" = None


@dataclass(frozen=True)
class Control:
    """One thing that a reader switches.

    `options` are (key, text), the first one shown first.
    """

    label: str
    options: Sequence[tuple[str, str]]
    as_buttons: bool = True


@dataclass(frozen=True)
class Choice:
    """What the reader can switch on a page, or in a figure.

    `patches` holds what changes, by the keys of all controls joined by `|`. The joined keys of the
    first `grouping` controls are the group of the tables' rows that are shown; "" shows all rows.
    """

    choice_id: str
    controls: Sequence[Control]
    patches: Mapping[str, Row]
    grouping: int = 1

    @property
    def first(self) -> list[str]:
        """Return the keys that are shown first."""
        return [control.options[0][0] for control in self.controls]


@dataclass(frozen=True)
class Page:
    """A tab of the report."""

    page_id: str
    title: str
    lead: str
    cards: Sequence[Card]
    figures: Sequence[Figure]
    choice: Choice | None = None

    @property
    def charts(self) -> list[Chart]:
        """Return the charts of all figures."""
        return [chart for figure in self.figures for chart in figure.charts]


def _patch(
    cards: Iterable[Card],
    leads: Mapping[str, str],
    charts: Iterable[Chart],
    changing: Mapping[str, Chart],
) -> Row:
    """Return the texts and the changing charts of one variant of a page or a figure.

    Of a chart there is only what the first variant, which the page holds anyway, has not.
    """
    return {
        "leads": leads,
        "cards": {
            card.card_id: {
                "value": card.value,
                "exact": card.exact,
                "note": card.note,
                "hasChange": card.change is not None,
            }
            for card in cards
        },
        "charts": {
            chart.chart_id: {"sentence": chart.sentence}
            | ({} if chart.spec == changing[chart.chart_id].spec else {"spec": chart.spec})
            | ({} if chart.rows == changing[chart.chart_id].rows else {"rows": list(chart.rows)})
            for chart in charts
            if chart.chart_id in changing
        },
    }


def _changing(variants: Sequence[Sequence[Chart]]) -> dict[str, Chart]:
    """Return the charts that differ between variants, as the first variant has them."""
    first, *others = variants
    return {
        shown.chart_id: shown
        for charts in others
        for chart, shown in zip(charts, first, strict=True)
        if chart != shown
    }


def with_choice(pages: Mapping[str, Page], *, choice_id: str, control: Control) -> Page:
    """Join variants of one page (by key, the first shown first) into a page with a choice."""
    first = next(iter(pages.values()))
    changing = _changing([page.charts for page in pages.values()])
    patches = {
        key: _patch(
            page.cards,
            {page.page_id: page.lead, **{figure.figure_id: figure.lead for figure in page.figures}},
            page.charts,
            changing,
        )
        for key, page in pages.items()
    }
    return replace(first, choice=Choice(choice_id, [control], patches))


def figure_with_choice(
    figures: Mapping[str, Figure], *controls: Control, grouping: int = 1
) -> Figure:
    """Join variants of one figure (by the joined keys of the controls) into one with a choice.

    The rows of its table are grouped by the first `grouping` controls.
    """
    first = next(iter(figures.values()))
    changing = _changing([figure.charts for figure in figures.values()])
    patches = {
        key: _patch([], {figure.figure_id: figure.lead}, figure.charts, changing)
        for key, figure in figures.items()
    }
    return replace(first, choice=Choice(first.figure_id, controls, patches, grouping))
