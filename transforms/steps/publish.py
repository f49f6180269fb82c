"""The last stage: tables are staged, audited, then published."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import apache_beam as beam
import polars as pl
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.pvalue import AsIter

from transforms.analytics.metrics.periods import EVENT_DAYS
from transforms.analytics.null_words import products_of_second_null_word
from transforms.audit.balance import (
    check_arrival,
    check_balance,
    check_dropped,
    counted,
    require_events,
    total_counts,
)
from transforms.audit.checks import quality_table, require_no_warnings, require_passed
from transforms.audit.freshness import check_days, check_last_day, check_volume, rows_of
from transforms.audit.measures import MEASURED, check_measures
from transforms.audit.merging import MERGES
from transforms.audit.plausibility import check_dates, check_null_words
from transforms.ingest.fingerprint import input_change
from transforms.schema import (
    DATA_QUALITY,
    METRICS_ANOMALIES,
    PIPELINE_RUNS,
    TableBatch,
    tables_without,
)
from transforms.shuffle.coder import NamedFrame, Payload
from transforms.shuffle.combine import CombineFrames
from transforms.shuffle.partition import StoreFrames
from transforms.shuffle.stores import FrameStore, collect_frames
from transforms.steps.keep_warehouse import KeepWarehouse
from transforms.steps.plan import Plan
from transforms.steps.sessions import read_calendar
from transforms.steps.stage_tables import StageTables
from transforms.warehouse.base import REPORT, in_bucket
from transforms.warehouse.publishing import Run, manifest_of, run_row
from transforms.warehouse.staging import StagedFile, read_staged, stage

_LOGGER: Final = logging.getLogger(__name__)


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
        dates: Iterable[Payload],
    ) -> Iterator[str]:
        """Audit what was staged and publish it.

        Raises:
            RunError: The audit failed, or the warehouse cannot be written.
        """
        run, warehouse = self._run, self._run.warehouse
        manifest = warehouse.audited(run.run_id)
        if manifest is None:
            row, files = self._audit(staged, audit, dates)
            manifest = warehouse.record(manifest_of(row, run), files)
        for warning in warehouse.publish(manifest):
            _LOGGER.warning("run %s is published, but: %s", run.run_id, warning)
        yield run.run_id

    def _audit(
        self, staged: Iterable[StagedFile], audit: Iterable[Payload], dates: Iterable[Payload]
    ) -> tuple[pl.DataFrame, list[StagedFile]]:
        """Check what was staged; the run's row of pipeline_runs, and all its files."""
        run = self._run
        files = list(staged)
        frames = collect_frames(self._store, audit)
        counts = total_counts(frames.get("counts", counted({})))
        require_events(counts, allow_empty=run.allow_empty)
        tables = tables_without(run.rules.left_out)
        before = run.warehouse.current()
        as_of = self._as_of(dates)
        event_days = frames.get(EVENT_DAYS.name, EVENT_DAYS.schema.to_frame())
        checks = quality_table(
            run.run_id,
            [
                *([frames["checks"]] if "checks" in frames else []),
                check_measures(frames.get("measures", MEASURED.to_frame()), tables),
                check_balance(counts),
                check_arrival(counts),
                check_dropped(counts, run.max_dropped_ratio),
                check_dates(event_days, run.started_at),
                check_days(event_days, as_of, run.started_at, run.max_age_days),
                check_volume(counts["rows_read"], rows_of(before)),
                *(
                    [check_last_day(read_staged(METRICS_ANOMALIES, files))]
                    if METRICS_ANOMALIES in tables
                    else []
                ),
                check_null_words(
                    counts,
                    products_of_second_null_word(frames["brands"]) if "brands" in frames else 0,
                ),
            ],
        )
        require_passed(checks)
        if run.fail_on_warnings:
            require_no_warnings(checks)
        files.append(stage(checks, DATA_QUALITY, run.staging))
        rows = {table.name: 0 for table in tables if table is not PIPELINE_RUNS}
        for file in files:
            rows[file.table] += file.rows
        row = run_row(run, counts, rows, as_of, self._input_change(before))
        files.append(stage(row, PIPELINE_RUNS, run.staging))
        self._write_report(files)
        return row, files

    def _write_report(self, files: list[StagedFile]) -> None:
        """Write the report beside the staged tables, of those that are small."""
        tables = {
            table.name: read_staged(table, files)
            for table in tables_without(self._run.rules.left_out)
            if not table.large
        }
        path = FileSystems.join(self._run.staging, REPORT)
        with FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            file.write(self._render_report(tables).encode())

    def _input_change(self, before: Mapping[str, Any] | None) -> Mapping[str, int] | None:
        """What is new in the input since the run that is published."""
        if before is None or "input_files" not in before:
            return None
        return input_change(self._run.input_files, before["input_files"])._asdict()

    def _as_of(self, dates: Iterable[Payload]) -> dt.date | None:
        as_of = self._run.rules.as_of
        calendar = read_calendar(self._store, dates, as_of)
        return as_of if calendar is None else calendar.last


class Publish(beam.PTransform[Any, Any]):
    """Pipeline → the id of the published run.

    Args:
        plan: What is published, and where.
        tables: Rows of tables, by the label of what makes them.
        audits: Payloads of what the audit needs.
        reports: What else the audit needs, as it is made.
        dates: Payloads of the first and last date.
        render_report: Makes the report.
    """

    def __init__(
        self,
        plan: Plan,
        tables: Mapping[str, beam.PCollection[TableBatch]],
        *,
        audits: Sequence[beam.PCollection[Payload]],
        reports: Sequence[beam.PCollection[NamedFrame]],
        dates: beam.PCollection[Payload],
        render_report: Renderer,
    ) -> None:
        super().__init__()
        self._plan = plan
        self._tables = tables
        self._audits = audits
        self._reports = reports
        self._dates = dates
        self._render_report = render_report

    def expand(self, pbegin: beam.Pipeline) -> beam.PCollection[str]:
        """Stage each batch; audit and publish all."""
        run, store = self._plan.run, self._plan.store
        outputs = [
            tables
            | f"Stage{label}"
            >> beam.ParDo(StageTables(run.staging)).with_outputs(StageTables.AUDIT, main="files")
            for label, tables in self._tables.items()
        ]
        files = [output.files for output in outputs] | "AllFiles" >> beam.Flatten()
        reported = (
            [*self._reports, *(output[StageTables.AUDIT] for output in outputs)]
            | "AllReports" >> beam.Flatten()
            | "AddReports" >> CombineFrames(MERGES, is_distributed=self._plan.is_distributed)
            | "StoreReports" >> beam.ParDo(StoreFrames(store))
        )
        published: beam.PCollection[str] = (
            pbegin
            | "Start" >> beam.Impulse()
            | "AuditAndPublish"
            >> beam.ParDo(
                AuditAndPublish(run, store, self._render_report),
                AsIter(files),
                AsIter([*self._audits, reported] | "AllAudits" >> beam.Flatten()),
                AsIter(self._dates),
            ).with_output_types(str)
        )
        if in_bucket(run.output):
            _ = files | "KeepWarehouse" >> beam.ParDo(KeepWarehouse(run))
        return published
