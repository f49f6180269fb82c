"""What a page of the report is made of. Pages build these; the template shows them."""

from collections.abc import Callable, Collection, Mapping, Sequence
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
                        "kind": column.kind,
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

        Text that a spreadsheet would run as a formula gets a leading apostrophe: brands and
        categories come from outside.
        """
        return self.frame.with_columns(
            pl.selectors.string().str.replace(r"^[=+\-@\t\r]", "'${0}")
        ).write_csv()


def _sort_value(value: Any, kind: Kind) -> str | None:
    """Return what a cell sorts by: None for its text, "" for no value."""
    if kind in {"text", "flag"}:
        return None
    return "" if value is None else str(value)


@dataclass(frozen=True)
class Figure:
    """One or more charts under a heading, with the table behind them.

    `layout` is the number of charts side by side where the screen allows it; `details` are
    terms with their text.
    """

    figure_id: str
    title: str
    lead: str
    charts: Sequence[Chart]
    layout: int = 1
    table: Table | None = None
    details: Sequence[tuple[str, str]] = ()
    is_table_open: bool = False


@dataclass(frozen=True)
class Choice:
    """What the reader can switch on a page.

    `options` are (key, text), the first one shown first; the key "" shows all rows of the tables.
    `patches` holds what changes on the page, by key.
    """

    choice_id: str
    label: str
    options: Sequence[tuple[str, str]]
    as_buttons: bool
    patches: Mapping[str, Row]


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


def _patch(page: Page, chart_ids: Collection[str]) -> Row:
    """Return the texts and the named charts of one variant of a page."""
    return {
        "lead": page.lead,
        "cards": {
            card.card_id: {
                "value": card.value,
                "exact": card.exact,
                "note": card.note,
                "hasChange": card.change is not None,
            }
            for card in page.cards
        },
        "figures": {figure.figure_id: figure.lead for figure in page.figures},
        "charts": {
            chart.chart_id: {"rows": list(chart.rows), "sentence": chart.sentence}
            for chart in page.charts
            if chart.chart_id in chart_ids
        },
    }


def with_choice(
    pages: Mapping[str, Page], *, choice_id: str, label: str, texts: Sequence[str], as_buttons: bool
) -> Page:
    """Join variants of one page (by key, the first shown first) into a page with a choice."""
    first, *others = pages.values()
    changing = {
        chart.chart_id
        for page in others
        for chart, shown in zip(page.charts, first.charts, strict=True)
        if (chart.rows, chart.sentence) != (shown.rows, shown.sentence)
    }
    return replace(
        first,
        choice=Choice(
            choice_id=choice_id,
            label=label,
            options=list(zip(pages, texts, strict=True)),
            as_buttons=as_buttons,
            patches={key: _patch(page, changing) for key, page in pages.items()},
        ),
    )
