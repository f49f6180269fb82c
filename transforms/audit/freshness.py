"""Warnings of an input that is old, has days without events, shrinks, or ends on an odd day.

They stop no run that is not told to.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

import polars as pl

from transforms.audit.checks import warned
from transforms.schema import FCT_EVENTS, METRICS_ANOMALIES

_LEAST_VOLUME = (9, 10)
"""The share of the rows of the run before below which the input shrinks."""


def check_days(
    event_days: pl.DataFrame,
    as_of: dt.date | None,
    started_at: dt.datetime,
    max_age_days: int | None,
) -> pl.DataFrame:
    """Warn of old events, and of days without any: a `CHECKED` frame.

    `fresh` fails by the days from the last event to the run, where they are more than allowed;
    `missing_days` by the days without an event from the first one to as_of.

    Args:
        event_days: `event_date` and `events`, a date any number of times.
        as_of: The day that the run looks back from; None without an event.
        started_at: When the run began (UTC).
        max_age_days: The most days from the last event to the run; None for any.
    """
    days = event_days["event_date"].unique().sort()
    if days.is_empty() or as_of is None:
        return warned((FCT_EVENTS.name, "fresh", 0), (FCT_EVENTS.name, "missing_days", 0))
    first, last = days[0], days[-1]
    age = (started_at.date() - last).days
    return warned(
        (FCT_EVENTS.name, "fresh", age if max_age_days is not None and age > max_age_days else 0),
        (FCT_EVENTS.name, "missing_days", (max(as_of, last) - first).days + 1 - len(days)),
    )


def check_volume(rows_read: int, before: int | None) -> pl.DataFrame:
    """Warn where fewer than 90 % of the rows of the run before are read: a `CHECKED` frame.

    Args:
        rows_read: Rows of this run.
        before: Those of the run that is published; None where it is not known. By how many fewer
            are read, the check fails.
    """
    over, under = _LEAST_VOLUME
    shrinks = before is not None and rows_read * under < before * over
    return warned((FCT_EVENTS.name, "volume", before - rows_read if before and shrinks else 0))


def check_last_day(anomalies: pl.DataFrame) -> pl.DataFrame:
    """Warn of anomalies on the last day, by their number: a `CHECKED` frame.

    Args:
        anomalies: The rows of metrics_anomalies.
    """
    last = anomalies.filter(pl.col("event_date") == pl.col("event_date").max())
    return warned((METRICS_ANOMALIES.name, "anomalous_day", int(last["is_anomaly"].sum())))


def rows_of(manifest: Mapping[str, object] | None) -> int | None:
    """The rows that a published run has read; None where its version did not keep them."""
    rows = None if manifest is None else manifest.get("rows_read")
    return rows if isinstance(rows, int) else None
