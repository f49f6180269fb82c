"""A run, and what its warehouse says of it."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl

from transforms.audit.balance import DROP_REASONS
from transforms.rules import Rules
from transforms.schema import PIPELINE_RUNS, REJECT_REASONS
from transforms.version import code_version
from transforms.warehouse import Warehouse, open_warehouse


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
        max_dropped_ratio: Share of the rows read that may be dropped without a warning.
        allow_empty: Publish also where no event is kept.
        max_age_days: Most days from the last event to the run without a warning; None for any.
        fail_on_warnings: Publish nothing where there is a warning.
        input_files: What tells each input file from a later one, by name.
        input_fingerprint: What tells all that decides its tables from anything else.
        rejected_to: Local file for all rejected rows, also where the run fails for them.
        config: The text of its configuration file.
        config_sha256: The SHA-256 of it.
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
    max_dropped_ratio: float = 0.5
    allow_empty: bool = False
    max_age_days: int | None = None
    fail_on_warnings: bool = False
    input_files: Mapping[str, str] = field(default_factory=dict)
    input_fingerprint: str | None = None
    rejected_to: str | None = None
    config: str | None = None
    config_sha256: str | None = None

    @property
    def warehouse(self) -> Warehouse:
        """Where it publishes."""
        return open_warehouse(self.output, self.bigquery_dataset, keep_staging=self.keep_staging)


def run_row(
    run: Run,
    counts: Mapping[str, int],
    table_rows: Mapping[str, int],
    as_of: dt.date | None,
    input_change: Mapping[str, int] | None = None,
) -> pl.DataFrame:
    """The row of pipeline_runs of a published run.

    Args:
        run: The run.
        counts: Of its rows, by what became of them.
        table_rows: Of its tables.
        as_of: The day it looks back from.
        input_change: `new_files`, `changed_files`, `missing_files` since the run before; None where
            there is none that has kept its files.
    """
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
                "input_fingerprint": run.input_fingerprint,
                "input_files": len(run.input_files),
                **(input_change or _NO_CHANGE),
                "config": run.config,
                "config_sha256": run.config_sha256,
            },
            schema_overrides={
                "as_of": pl.Date(),
                **dict.fromkeys(("input_fingerprint", "config", "config_sha256"), pl.String()),
                **dict.fromkeys(_NO_CHANGE, pl.Int64()),
            },
        )
    )


_NO_CHANGE: Final = dict.fromkeys(("new_files", "changed_files", "missing_files"))


def manifest_of(row: pl.DataFrame, run: Run) -> dict[str, Any]:
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
        "input_fingerprint": described["input_fingerprint"],
        "input_files": dict(run.input_files),
        "rows_read": described["rows_read"],
        "table_rows": json.loads(described["table_rows"]),
    }
