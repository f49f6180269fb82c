"""Audit, then publish: the last step of the graph, so that it runs wherever the graph does.

To a local folder in one step (`warehouse`). To a bucket in two, each of which can be repeated: the
audited run is recorded, then published to BigQuery, where asked for, and as the bucket's current
state. A later process can do the second step alone.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl
from apache_beam.io.filesystems import FileSystems

from transforms.audit.balance import DROP_REASONS
from transforms.rules import Rules
from transforms.schema import PIPELINE_RUNS, REJECT_REASONS
from transforms.version import code_version
from transforms.warehouse import bigquery, gcs, local


@dataclass(frozen=True)
class Run:
    """What identifies and describes a run.

    Attributes:
        run_id: Its id, unique and in the order of time.
        started_at: When it began (UTC).
        output: The warehouse.
        staging: Where its tables are staged.
        options: Its options, JSON values.
        rules: Its options that decide values.
        max_rejected_ratio: Share of the rows read that may be rejected.
        bigquery_dataset: `project.dataset` to publish to as well, from a warehouse in a bucket.
        keep_staging: Keep staging tables and the files of failed attempts.
    """

    run_id: str
    started_at: dt.datetime
    output: str
    staging: str
    options: Mapping[str, Any]
    rules: Rules
    max_rejected_ratio: float
    bigquery_dataset: str | None = None
    keep_staging: bool = False


def publish_audited(
    output: str, manifest: gcs.Document, bigquery_dataset: str | None, *, keep_staging: bool
) -> None:
    """Publish a run that is recorded in a bucket as audited; done in part, it does the rest.

    BigQuery comes first: what fails there leaves the bucket's state the last good one.

    Args:
        output: The warehouse, a gs:// folder.
        manifest: The run's manifest there.
        bigquery_dataset: `project.dataset`, or None.
        keep_staging: Keep staging tables and the files of failed attempts.

    Raises:
        RunError: It failed, or another run holds the warehouse, or a newer one is published.
    """
    # Again, and given back here: the process that took it may be gone, and its lease run out.
    gcs.acquire(output, manifest["run_id"])
    gcs.require_newest(output, manifest)
    if bigquery_dataset is not None:
        bigquery.publish(bigquery_dataset, output, manifest, keep_staging=keep_staging)
    gcs.publish(output, manifest, keep_staging=keep_staging)
    _copy_report(output, manifest["run_id"])
    gcs.release(output, manifest["run_id"])


def _copy_report(output: str, run_id: str) -> None:
    """Put a run's report where readers open it; the manifest has named the run already."""
    staged = FileSystems.join(gcs.staging_folder(output, run_id), local.REPORT)
    if FileSystems.exists(staged):
        FileSystems.copy([staged], [FileSystems.join(output, local.REPORT)])


def run_row(
    run: Run, counts: Mapping[str, int], table_rows: Mapping[str, int], as_of: dt.date | None
) -> pl.DataFrame:
    """The row of pipeline_runs of a published run."""
    now = dt.datetime.now(dt.UTC)
    return PIPELINE_RUNS.conform(
        pl.DataFrame(
            {
                "run_id": run.run_id,
                "started_at": run.started_at,
                "finished_at": now,
                "published_at": now,
                "status": "published",
                "as_of": as_of,
                "inputs": json.dumps(run.options["input"]),
                "rows_read": counts["rows_read"],
                "events_kept": counts["events_kept"],
                **{f"{reason}_rows": counts[reason] for reason in DROP_REASONS},
                "rejected_rows": counts["rejected"],
                "rejected_by_reason": json.dumps(
                    {reason: counts[reason] for reason in REJECT_REASONS if counts[reason]}
                ),
                "table_rows": json.dumps(dict(table_rows)),
                "options": json.dumps(dict(run.options)),
                "code_version": code_version(),
            },
            schema_overrides={"as_of": pl.Date()},
        )
    )


def manifest_of(row: pl.DataFrame) -> dict[str, Any]:
    """What the manifest says of a run, from its row of pipeline_runs; JSON values."""
    described = row.row(0, named=True)
    return {
        "run_id": described["run_id"],
        "started_at": described["started_at"].isoformat(),
        "finished_at": described["finished_at"].isoformat(),
        "published_at": described["published_at"].isoformat(),
        "as_of": described["as_of"] and described["as_of"].isoformat(),
        "options": json.loads(described["options"]),
        "code_version": described["code_version"],
        "table_rows": json.loads(described["table_rows"]),
    }
