"""Warnings of rows that are well-formed and yet hardly meant: odd dates, and words for NULL.

They stop no run. Each counts what looks odd, so that whoever reads the summary can judge.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import polars as pl

from transforms.audit.checks import warned
from transforms.schema import DIM_PRODUCTS, FCT_EVENTS, NULL_WORD_COLUMNS

GAP_DAYS: Final = 365
"""Days without an event beyond which the days before and after them count as apart."""

FEW_PER_ROWS: Final = 1000
"""Less than one in so many rows is few: 0.1 %."""


def null_word_count(column: str) -> str:
    """The name of the count, and of the check, of rows with such a word in a column."""
    return f"null_word_{column}"


EXPLANATIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "few_rows_dropped": "more than --max_dropped_ratio of the rows are dropped",
        "fresh": "days since the last event, more than --max_age_days",
        "missing_days": "days without an event, from the first one to as_of",
        "volume": "fewer rows than the run before has read, by more than a tenth",
        "anomalous_day": "figures of the last day unlike those of the same weekday before",
        "future_event": "events of a day after the run began; --as_of leaves later days out",
        "isolated_date": f"events more than {GAP_DAYS} days from all others; "
        "their dates may be wrong",
        **{
            null_word_count(column): f"rows with nan, null, none or \\N as {column}, which is a "
            "text like any other; write nothing for NULL"
            for column in NULL_WORD_COLUMNS
        },
        "null_word_second_brand": "products dropped only because nan, null, none or \\N counts as "
        "their second brand",
    }
)
"""What a warning says, by its check."""


def check_dates(event_days: pl.DataFrame, started_at: dt.datetime) -> pl.DataFrame:
    """Warn of events of days to come, and of days far from all others: a `CHECKED` frame.

    A day lies apart where more than `GAP_DAYS` part it from its neighbours. Neighbours that lie
    apart together are judged together, and odd where they hold fewer than one in `FEW_PER_ROWS` of
    the events.

    Args:
        event_days: `event_date` and `events`, a date any number of times.
        started_at: When the run began (UTC).
    """
    days = (
        event_days.group_by("event_date")
        .agg(pl.col("events").sum())
        .sort("event_date")
        .with_columns(
            stretch=(pl.col("event_date").diff().dt.total_days() > GAP_DAYS)
            .fill_null(value=False)
            .cum_sum()
        )
    )
    events = pl.col("events")
    few = events.sum().over("stretch") * FEW_PER_ROWS < events.sum()
    future, isolated = days.select(
        future=events.filter(pl.col("event_date") > started_at.date()).sum(),
        isolated=events.filter(few).sum(),
    ).row(0)
    return warned(
        (FCT_EVENTS.name, "future_event", future), (FCT_EVENTS.name, "isolated_date", isolated)
    )


def check_null_words(counts: Mapping[str, int], second_brands: int) -> pl.DataFrame:
    """Warn of columns in which words stand for NULL: a `CHECKED` frame.

    Args:
        counts: Rows read, as `rows_read`, and rows with such a word, by `null_word_count`.
        second_brands: Products that are of several brands only by such a word.
    """
    found = {
        name: counts[name] if counts[name] * FEW_PER_ROWS > counts["rows_read"] else 0
        for name in map(null_word_count, NULL_WORD_COLUMNS)
    }
    products = second_brands if found[null_word_count("brand")] else 0
    return warned(
        *((FCT_EVENTS.name, name, rows) for name, rows in found.items()),
        (DIM_PRODUCTS.name, "null_word_second_brand", products),
    )
