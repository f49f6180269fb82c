"""Who moved from which segment or status to which: metrics_segment_migration."""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Final

import polars as pl

from transforms.analytics.history import MIGRATION_PARTIAL, MIGRATION_SUMS, count_failing
from transforms.analytics.metrics.metric import Facts, Metric, Partial, Source
from transforms.columnar.money import rate
from transforms.schema import METRICS_SEGMENT_MIGRATION, NEW_CUSTOMER

SEGMENT_MIGRATION: Final = Partial(
    "segment_migration",
    Source.HISTORY,
    MIGRATION_PARTIAL,
    ("period", "snapshot_date", "dimension", "from_value", "to_value"),
    itemgetter("segment_migration"),
)


def metrics_segment_migration(partials: pl.DataFrame) -> pl.DataFrame:
    """The rows of metrics_segment_migration, of "segment_migration" of all user shards."""
    keys = ["period", "snapshot_date", "dimension"]
    values = [pl.col(name).cast(pl.String) for name in ("from_value", "to_value")]
    rows = (
        partials.group_by(*keys, "from_value", "to_value")
        .agg(pl.col(MIGRATION_SUMS).sum())
        .sort(*keys, *values)
        .with_columns(
            of_from=pl.col("customers").sum().over(*keys, "from_value"),
            of_to=pl.col("customers").sum().over(*keys, "to_value"),
        )
    )
    return METRICS_SEGMENT_MIGRATION.conform(
        rows.with_columns(
            from_share=rate(rows["customers"], rows["of_from"]),
            to_share=rate(rows["customers"], rows["of_to"]),
        )
    )


def broken_flows(migration: pl.DataFrame) -> int:
    """Number of values that not as many customers left, or kept, as had come to them.

    What flows into a value by the end of a period flows out of it in the next one; and what flows
    out of a value other than `New` has come to it, in every period but the first.

    Args:
        migration: The rows of metrics_segment_migration.
    """
    keys = ["period", "dimension", "value", "next_date"]
    rows = migration.with_columns(pl.col("period", "dimension", "from_value", "to_value").cast(str))
    ends = rows.select("period", "snapshot_date").unique().sort("period", "snapshot_date")
    ends = ends.with_columns(next_date=pl.col("snapshot_date").shift(-1).over("period"))
    into = (
        rows.join(ends, on=["period", "snapshot_date"])
        .filter(pl.col("next_date").is_not_null())
        .group_by("period", "dimension", pl.col("to_value").alias("value"), "next_date")
        .agg(pl.col("customers").sum())
    )
    out = (
        rows.filter(pl.col("from_value") != NEW_CUSTOMER)
        .filter(pl.col("snapshot_date") > pl.col("snapshot_date").min().over("period"))
        .group_by(
            "period",
            "dimension",
            pl.col("from_value").alias("value"),
            pl.col("snapshot_date").alias("next_date"),
        )
        .agg(pl.col("customers").sum().alias("left"))
    )
    both = into.join(out, on=keys, how="full", coalesce=True)
    return count_failing(both, pl.col("customers").ne_missing(pl.col("left")))


def _finish(partials: Mapping[str, pl.DataFrame], _: Facts) -> pl.DataFrame:
    return metrics_segment_migration(partials[SEGMENT_MIGRATION.name])


def _checks(table: pl.DataFrame, *_: object) -> dict[str, int]:
    return {"flows_in_are_flows_out": broken_flows(table)}


METRIC: Final = Metric(METRICS_SEGMENT_MIGRATION, (SEGMENT_MIGRATION,), _finish, _checks)
