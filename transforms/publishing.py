"""Audit, then publish: the last step of the graph, so that it runs wherever the graph does.

To a local folder in one step (`warehouse`). To a bucket in two, each of which can be repeated: the
audited run is recorded, then published to BigQuery, where asked for, and as the bucket's current
state. A later process can do the second step alone.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import apache_beam as beam
import polars as pl
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from transforms import bigquery, bucket, quality, warehouse
from transforms.schema import DATA_QUALITY, PIPELINE_RUNS, REJECT_REASONS, TABLES
from transforms.shards import Rules
from transforms.shuffle import FrameStore, Payload, collect_frames
from transforms.sinks import StagedFile, read_staged, require_staged, stage


def code_version() -> str:
    """The version of this program, as installed."""
    try:
        return metadata.version("estore-analytics")
    except metadata.PackageNotFoundError:
        return "not installed"


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
    output: str, manifest: bucket.Document, bigquery_dataset: str | None, *, keep_staging: bool
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
    bucket.acquire(output, manifest["run_id"])
    bucket.require_newest(output, manifest)
    if bigquery_dataset is not None:
        bigquery.publish(bigquery_dataset, output, manifest, keep_staging=keep_staging)
    bucket.publish(output, manifest, keep_staging=keep_staging)
    _copy_report(output, manifest["run_id"])
    bucket.release(output, manifest["run_id"])


def _copy_report(output: str, run_id: str) -> None:
    """Put a run's report where readers open it; the manifest has named the run already."""
    staged = FileSystems.join(bucket.staging_folder(output, run_id), warehouse.REPORT)
    if FileSystems.exists(staged):
        FileSystems.copy([staged], [FileSystems.join(output, warehouse.REPORT)])


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
                **{f"{reason}_rows": counts[reason] for reason in quality.DROP_REASONS},
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


class RequireFewRejected(beam.DoFn):
    """Impulse → one element, if few enough rows were rejected; the steps that wait for it go on."""

    def __init__(self, run: Run, store: FrameStore) -> None:
        self._ratio = run.max_rejected_ratio
        self._store = store

    def process(
        self, _: object, counts: Iterable[Payload], examples: Iterable[Payload]
    ) -> Iterator[bool]:
        """Judge the counts of all ranges.

        Raises:
            RunError: Too many rows were rejected.
        """
        counted = collect_frames(self._store, counts).get("counts", quality.counted({}))
        shown = collect_frames(self._store, examples).get("examples", pl.DataFrame())
        quality.require_few_rejected(quality.total_counts(counted), shown, self._ratio)
        yield True


class RejectedExamples(beam.DoFn):
    """("rejected_rows", frame) → payload "examples": three rows of each, for an error message."""

    def __init__(self, store: FrameStore) -> None:
        self._store = store

    def process(self, element: tuple[str, pl.DataFrame]) -> Iterator[Payload]:
        """Take a few rows."""
        rows = element[1].select("source_file", "byte_offset", "reason", "raw").head(3)
        for payload in self._store.put(rows.with_columns(pl.col("reason").cast(pl.String))):
            yield "examples", payload


Renderer = Callable[[Mapping[str, pl.DataFrame]], str]
"""From the tables of the report, by name, to its HTML."""


class AuditAndPublish(beam.DoFn):
    """Impulse → the id of the published run.

    Retried, it begins anew from the staged files, which stay until the end.
    """

    def __init__(self, run: Run, store: FrameStore, render_report: Renderer) -> None:
        self._run = run
        self._store = store
        self._render_report = render_report

    def process(
        self,
        _: object,
        staged: Iterable[StagedFile],
        audit: Iterable[Payload],
        samples: Iterable[Payload],
    ) -> Iterator[str]:
        """Audit what was staged and publish it.

        Raises:
            RunError: The audit failed, or the warehouse cannot be written.
        """
        run = self._run
        if bucket.in_bucket(run.output):
            manifest = bucket.audited(run.output, run.run_id)
            if manifest is None:
                row, files = self._audit(staged, audit, samples)
                filled = {file.table for file in files}
                files += [
                    stage(table.empty_frame(), table, run.staging)
                    for table in TABLES
                    if table.name not in filled
                ]
                manifest = bucket.record_audited(run.output, run.run_id, _manifest(row), files)
            publish_audited(
                run.output, manifest, run.bigquery_dataset, keep_staging=run.keep_staging
            )
        elif not warehouse.is_current(Path(run.output), run.run_id):
            row, files = self._audit(staged, audit, samples)
            names = [f"{file.table}/{Path(file.path).name}" for file in files]
            manifest = _manifest(row) | {"files": names}
            warehouse.publish(Path(run.output), run.run_id, files, manifest)
        yield run.run_id

    def _audit(
        self, staged: Iterable[StagedFile], audit: Iterable[Payload], samples: Iterable[Payload]
    ) -> tuple[pl.DataFrame, list[StagedFile]]:
        """Check what was staged; the run's row of pipeline_runs, and all its files."""
        run = self._run
        files = list(staged)
        frames = collect_frames(self._store, audit)
        counts = quality.total_counts(frames.get("counts", quality.counted({})))
        checks = quality.quality_table(
            run.run_id,
            [
                *([frames["checks"]] if "checks" in frames else []),
                quality.check_measures(
                    frames.get("measures", pl.DataFrame(schema=quality.MEASURED))
                ),
                quality.check_balance(counts),
            ],
        )
        quality.require_passed(checks)
        require_staged(files)
        files.append(stage(checks, DATA_QUALITY, run.staging))
        rows = {table.name: 0 for table in TABLES if table is not PIPELINE_RUNS}
        for file in files:
            rows[file.table] += file.rows
        row = run_row(run, counts, rows, self._as_of(samples))
        files.append(stage(row, PIPELINE_RUNS, run.staging))
        self._write_report(files)
        return row, files

    def _write_report(self, files: list[StagedFile]) -> None:
        """Write the report beside the staged tables, of those that are small."""
        tables = {table.name: read_staged(table, files) for table in TABLES if not table.large}
        path = FileSystems.join(self._run.staging, warehouse.REPORT)
        with FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            file.write(self._render_report(tables).encode())

    def _as_of(self, samples: Iterable[Payload]) -> dt.date | None:
        if self._run.rules.as_of is not None:
            return self._run.rules.as_of
        totals = collect_frames(self._store, samples).get("totals")
        latest: dt.date | None = None if totals is None else totals["last_event_date"].max()  # type: ignore[assignment]
        return latest


def _manifest(row: pl.DataFrame) -> dict[str, Any]:
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
