"""Customers and revenue by segment, status and stage at every snapshot: metrics_segment_history."""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Final

import polars as pl

from transforms.analytics.history import HISTORY_PARTIAL, HISTORY_SUMS, KNOWN_USERS, count_failing
from transforms.analytics.metrics.metric import Facts, Metric, Partial, Source
from transforms.analytics.snapshots import snapshots
from transforms.columnar.money import rate
from transforms.schema import HISTORY_DIMENSIONS, METRICS_SEGMENT_HISTORY

_KEYS: Final = ("snapshot_date", "dimension", "value")

SEGMENT_HISTORY: Final = Partial(
    "segment_history", Source.HISTORY, HISTORY_PARTIAL, _KEYS, itemgetter("segment_history")
)
KNOWN: Final = Partial(
    "known_users", Source.HISTORY, KNOWN_USERS, ("first_event_date",), itemgetter("known_users")
)


def metrics_segment_history(partials: pl.DataFrame) -> pl.DataFrame:
    """The rows of metrics_segment_history, of "segment_history" of all user shards."""
    rows = (
        partials.group_by("snapshot_date", "dimension", "value")
        .agg(pl.col(HISTORY_SUMS).sum())
        .sort("snapshot_date", "dimension", pl.col("value").cast(pl.String))
    )
    everybody = rows.filter(pl.col("dimension") == "overall").select(
        "snapshot_date", all_customers="customers", all_revenue="revenue"
    )
    rows = rows.join(everybody, on="snapshot_date", how="left", maintain_order="left")
    return METRICS_SEGMENT_HISTORY.conform(
        rows.with_columns(
            customer_share=rate(rows["customers"], rows["all_customers"]),
            revenue_share=rate(rows["revenue"], rows["all_revenue"]),
        )
    )


def miscounted_snapshots(history: pl.DataFrame, known: pl.DataFrame, dates: pl.Series) -> int:
    """Number of (snapshot, dimension) whose customers are not the users known by then.

    Args:
        history: The rows of metrics_segment_history.
        known: "known_users" of all user shards.
        dates: The snapshot dates S.
    """
    expected = pl.DataFrame({"snapshot_date": dates}).join_where(
        known, pl.col("first_event_date") <= pl.col("snapshot_date")
    )
    expected = (
        expected.group_by("snapshot_date")
        .agg(pl.col("users").sum())
        .join(pl.DataFrame({"dimension": HISTORY_DIMENSIONS}), how="cross")
    )
    found = history.group_by("snapshot_date", pl.col("dimension").cast(pl.String)).agg(
        pl.col("customers").sum()
    )
    both = found.join(expected, on=["snapshot_date", "dimension"], how="full", coalesce=True)
    return count_failing(both, pl.col("customers").ne_missing(pl.col("users")))


def _finish(partials: Mapping[str, pl.DataFrame], _: Facts) -> pl.DataFrame:
    return metrics_segment_history(partials[SEGMENT_HISTORY.name])


def _checks(
    table: pl.DataFrame, partials: Mapping[str, pl.DataFrame], facts: Facts
) -> dict[str, int]:
    if facts.calendar is None or not facts.rules.has_history:
        return {}
    taken = snapshots(facts.calendar.first, facts.calendar.last, facts.rules.history)
    return {
        "customers_are_users_known": miscounted_snapshots(table, partials[KNOWN.name], taken.kept)
    }


METRIC: Final = Metric(METRICS_SEGMENT_HISTORY, (SEGMENT_HISTORY, KNOWN), _finish, _checks)
