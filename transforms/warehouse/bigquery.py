"""BigQuery: every table of a run replaces its live one, or none does.

1. Load: one job per table, from the run's Parquet files into a staging table of the same dataset.
2. Announce: one transaction adds the run's rows to the appended tables, `pipeline_runs` with the
   status `publishing`.
3. Copy: one job per replaced table, all started at once, staging over live.
4. Conclude: `pipeline_runs` says `published`, and since when.

Up to 2 a failure leaves the live tables as they were. A failure in 3 leaves some old and some new,
and says so by the status; it is rolled forward, not back: the staged tables are complete and
checked, so that what remains is copies, while the way back would need copies as well and could
fail as well. Every job has an id made of the computation, the table and the attempt: a retry, or a
later process with the same run id, finds the jobs that are done and does the rest. What was
computed anew, under the same run id or not, has jobs and staging tables of its own.
"""

from __future__ import annotations

import datetime as dt
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NamedTuple, cast

from google.api_core.exceptions import Conflict, GoogleAPIError, NotFound
from google.cloud import bigquery
from google.cloud.bigquery.retry import DEFAULT_RETRY

from transforms.errors import RunError
from transforms.schema import PIPELINE_RUNS, TABLES, TABLES_BY_NAME, Table
from transforms.warehouse.base import tables_of
from transforms.warehouse.gcs import describe
from transforms.warehouse.staging import window_of

RETRY: Final = DEFAULT_RETRY.with_timeout(60.0)


REQUEST_SECONDS: Final = 60.0


_JOB_SECONDS: Final = 3600.0


_ATTEMPTS: Final = 3  # of a job that failed for a reason that passes


_PASSING: Final = frozenset(
    {
        "backendError",
        "internalError",
        "rateLimitExceeded",
        "jobBackendError",
        "jobInternalError",
        "jobRateLimitExceeded",
    }
)


_STAGING: Final = "__staging_"


_PART: Final = "_part"


_STAGING_DAYS: Final = 7


_JOB_FILES: Final = 10_000  # that a load job takes


_LINES: Final = 5  # of a message, where many tables fail for one reason


_LABELS: Final = MappingProxyType({"application": "estore-analytics"})


_APPENDED: Final = tuple(table for table in TABLES if table.appended)


Job = bigquery.LoadJob | bigquery.CopyJob | bigquery.QueryJob


def schema_fields(table: Table) -> list[bigquery.SchemaField]:
    """The columns of a table for BigQuery: types, REQUIRED or NULLABLE, descriptions."""
    return [
        bigquery.SchemaField(
            column.name,
            column.type.value,
            mode="REQUIRED" if column.required else "NULLABLE",
            description=column.description,
        )
        for column in table.columns
    ]


def partitioning(table: Table) -> bigquery.TimePartitioning | None:
    """The daily partitioning of a table, where it has one."""
    return bigquery.TimePartitioning(field=table.partition_by) if table.partition_by else None


def table_resource(table: Table, name: str) -> bigquery.Table:
    """A table as BigQuery is to show it.

    Args:
        table: What it is.
        name: Its full name, `project.dataset.table`.
    """
    resource = bigquery.Table(name, schema=schema_fields(table))
    resource.description = _description(table)
    resource.labels = dict(_LABELS)
    if table.partition_by:
        resource.time_partitioning = partitioning(table)
    if table.cluster_by:
        resource.clustering_fields = list(table.cluster_by)
    return resource


def _description(table: Table) -> str:
    return f"{table.grain.capitalize()}."


def connect(dataset: str) -> bigquery.Client:
    """A client whose jobs run in the project of `project.dataset`, and where the dataset is.

    Raises:
        google.api_core.exceptions.GoogleAPIError: The dataset cannot be read.
    """
    project, _, _ = dataset.rpartition(".")
    client = bigquery.Client(project=project)
    found = client.get_dataset(dataset, retry=RETRY, timeout=REQUEST_SECONDS)
    return bigquery.Client(project=project, location=found.location)


class JobError(Exception):
    """Jobs of one step failed.

    Args:
        step: What they were to do.
        lines: For each, with which table it failed, why, and its id.
    """

    def __init__(self, step: str, lines: Sequence[str]) -> None:
        super().__init__(step, lines)
        self.step = step
        self.lines = lines


def _list_tables(client: bigquery.Client, dataset: str) -> Iterator[bigquery.table.TableListItem]:
    return iter(client.list_tables(dataset, retry=RETRY, timeout=REQUEST_SECONDS))


class Part(NamedTuple):
    """What one job loads of a table: as many files, and partitions, as a job may.

    Attributes:
        number: From 1 on.
        uris: The gs:// paths of its files.
    """

    number: int
    uris: Sequence[str]


def parts_of(uris: Sequence[str]) -> list[Part]:
    """Share the files of a table among load jobs.

    The files of a partitioned table are each of one window of days, and a job's are of the same.
    """
    found = []
    for _, of_window in itertools.groupby(sorted(uris, key=window_of), key=window_of):
        files = list(of_window)
        found += [files[first : first + _JOB_FILES] for first in range(0, len(files), _JOB_FILES)]
    return [Part(number, files) for number, files in enumerate(found, start=1)]


@dataclass(frozen=True)
class Publication:
    """The publication of one run.

    Attributes:
        client: Its client.
        dataset: `project.dataset`.
        run_id: The run.
        computation: What tells its rows from those of another computation of the same run id.
        uris: The gs:// paths of every table's files.
        rows: The rows of every table.
        tables: The names of the tables that were in the dataset when this began.
    """

    client: bigquery.Client
    dataset: str
    run_id: str
    computation: str
    uris: Mapping[str, Sequence[str]]
    rows: Mapping[str, int]
    tables: frozenset[str]

    def live(self, table: Table) -> str:
        """The full name of a live table."""
        return f"{self.dataset}.{table.name}"

    def staging_names(self, table: Table) -> list[str]:
        """The names, within the dataset, of the run's staging tables: one for each load job."""
        first = f"{table.name}{_STAGING}{self.computation}"
        parts = parts_of(self.uris[table.name])
        return [first, *(f"{first}{_PART}{part.number}" for part in parts[1:])]

    def staging(self, table: Table) -> list[str]:
        """The full names of the run's staging tables."""
        return [f"{self.dataset}.{name}" for name in self.staging_names(table)]

    # --- The four steps

    def load(self, table: Table) -> None:
        """Load a table's files into its staging tables, and compare the rows."""
        meant = self.rows[table.name]
        parts = parts_of(self.uris[table.name])
        loaded = [
            self._load_part(table, part, name, meant if len(parts) == 1 else None)
            for part, name in zip(parts, self.staging_names(table), strict=True)
        ]
        if sum(loaded) != meant:
            raise JobError(
                "load",
                [f"load of {table.name}: {sum(loaded):,} rows were loaded instead of {meant:,}"],
            )

    def _load_part(self, table: Table, part: Part, name: str, meant: int | None) -> int:
        """Load some files into a staging table of their own; the rows.

        Args:
            table: Their table.
            part: The files.
            name: The staging table.
            meant: The rows they should have, where that is known.
        """
        config = bigquery.LoadJobConfig(
            source_format=bigquery.SourceFormat.PARQUET,
            schema=schema_fields(table),
            write_disposition=bigquery.WriteDisposition.WRITE_TRUNCATE,
            destination_table_description=_description(table),
            labels=dict(_LABELS),
        )
        if table.partition_by:
            config.time_partitioning = partitioning(table)
        if table.cluster_by:
            config.clustering_fields = list(table.cluster_by)
        staging = f"{self.dataset}.{name}"

        def start(job_id: str) -> Job:
            return self.client.load_table_from_uri(
                part.uris,
                staging,
                job_id=job_id,
                job_config=config,
                retry=RETRY,
                timeout=REQUEST_SECONDS,
            )

        def problem(job: Job) -> str | None:
            loaded = cast(bigquery.LoadJob, job).output_rows
            if meant in (None, loaded):
                return None
            return f"{loaded:,} rows were loaded instead of {meant:,}"

        def is_kept() -> bool:
            if name in self.tables:
                return True
            try:
                self.client.get_table(staging, retry=RETRY, timeout=REQUEST_SECONDS)
            except NotFound:
                return False
            return True

        suffix = "" if part.number == 1 else f"{_PART}{part.number}"
        job = self._run("load", table, start, problem=problem, is_kept=is_kept, suffix=suffix)
        return int(cast(bigquery.LoadJob, job).output_rows)

    def announce(self) -> None:
        """Add the run's rows to the appended tables; from here the live tables change."""
        statements = []
        for table in _APPENDED:
            columns = {column: column for column in table.column_names}
            if table is PIPELINE_RUNS:
                columns |= {"status": "'publishing'", "published_at": "CAST(NULL AS TIMESTAMP)"}
            live, names = self.live(table), ", ".join(columns)
            values = ", ".join(columns.values())
            rows = " UNION ALL ".join(
                f"SELECT {values} FROM `{staging}`"  # noqa: S608 - our names
                for staging in self.staging(table)
            )
            statements += [
                f"DELETE FROM `{live}` WHERE run_id = @run_id",  # noqa: S608
                f"INSERT INTO `{live}` ({names}) {rows}",
            ]
        self._query("announce", ["BEGIN TRANSACTION", *statements, "COMMIT TRANSACTION"])

    def copy(self, table: Table) -> None:
        """Replace a live table by its staging tables, in one step."""
        config = bigquery.CopyJobConfig(
            write_disposition=bigquery.WriteDisposition.WRITE_TRUNCATE,
            labels=dict(_LABELS),
        )
        self._run(
            "copy",
            table,
            lambda job_id: self.client.copy_table(
                self.staging(table),
                self.live(table),
                job_id=job_id,
                job_config=config,
                retry=RETRY,
                timeout=REQUEST_SECONDS,
            ),
        )

    def conclude(self) -> None:
        """Say that the live tables are this run's; `published_at` is after the last copy.

        Of a run that died in its copies no table is left.
        """
        update = f"UPDATE `{self.live(PIPELINE_RUNS)}` SET status ="  # noqa: S608 - our names
        statements = [
            f"{update} 'superseded' WHERE status = 'publishing' AND run_id != @run_id",
            f"{update} 'published', published_at = CURRENT_TIMESTAMP() WHERE run_id = @run_id",
        ]
        self._query("conclude", ["BEGIN TRANSACTION", *statements, "COMMIT TRANSACTION"])

    # --- Around them

    def is_published(self, finished_at: dt.datetime) -> bool:
        """True where the run is published already.

        Args:
            finished_at: When it passed its audit.

        Raises:
            RunError: A newer run has been announced, whose tables must not be turned back; or one
                of the same id, computed elsewhere, is published.
        """
        if PIPELINE_RUNS.name not in self.tables:
            return False
        config = bigquery.QueryJobConfig(
            query_parameters=[
                bigquery.ScalarQueryParameter("run_id", "STRING", self.run_id),
                bigquery.ScalarQueryParameter("finished_at", "TIMESTAMP", finished_at),
            ]
        )
        rows = self.client.query_and_wait(
            "SELECT run_id, status, finished_at "  # noqa: S608 - our names
            f"FROM `{self.live(PIPELINE_RUNS)}` "
            "WHERE run_id = @run_id OR finished_at > @finished_at ORDER BY finished_at",
            job_config=config,
            retry=RETRY,
            api_timeout=REQUEST_SECONDS,
            wait_timeout=_JOB_SECONDS,
        )
        states = {row["run_id"]: row for row in rows}
        own = states.pop(self.run_id, None)
        if states:
            newer, row = states.popitem()
            going_on = f"--run_id={newer}" if row["status"] == "publishing" else "no --run_id"
            raise RunError(
                f"BigQuery: run {newer}, newer than {self.run_id}, is {row['status']} in "
                f"{self.dataset}; an older run must not replace its tables. "
                f"Run again with {going_on}."
            )
        if own is None or own["status"] != "published":
            return False
        if own["finished_at"] != finished_at:
            raise RunError(
                f"BigQuery: another computation of run {self.run_id} is published in "
                f"{self.dataset} already. Run again with no --run_id."
            )
        return True

    def ensure_live(self, table: Table) -> None:
        """Make a live table where there is none; add columns that an appended one lacks."""
        meant = table_resource(table, self.live(table))
        if table.name not in self.tables:
            self.client.create_table(meant, exists_ok=True, retry=RETRY, timeout=REQUEST_SECONDS)
        elif table.appended:
            live = self.client.get_table(meant.reference, retry=RETRY, timeout=REQUEST_SECONDS)
            there = {field.name for field in live.schema}
            lacking = [
                # NULLABLE: the rows of earlier runs have no value there.
                bigquery.SchemaField(column.name, column.type.value, description=column.description)
                for column in table.columns
                if column.name not in there
            ]
            if lacking:
                live.schema = [*live.schema, *lacking]
                self.client.update_table(live, ["schema"], retry=RETRY, timeout=REQUEST_SECONDS)

    def describe(self, table: Table) -> None:
        """Put a live table's descriptions and labels right: a copy need not bring them."""
        meant = table_resource(table, self.live(table))
        live = self.client.get_table(meant.reference, retry=RETRY, timeout=REQUEST_SECONDS)
        descriptions = {column.name: column.description for column in table.columns}
        described = [
            bigquery.SchemaField(
                field.name,
                field.field_type,
                mode=field.mode,
                description=descriptions[field.name],
            )
            for field in live.schema
        ]
        if (live.schema, live.description, live.labels) != (
            described,
            meant.description,
            meant.labels,
        ):
            live.schema, live.description, live.labels = described, meant.description, meant.labels
            self.client.update_table(
                live, ["schema", "description", "labels"], retry=RETRY, timeout=REQUEST_SECONDS
            )

    def sweep(self, *, keep_staging: bool) -> None:
        """Remove the run's staging tables, those it left out, and what dead runs left."""
        oldest = dt.datetime.now(dt.UTC) - dt.timedelta(days=_STAGING_DAYS)
        # A table that the run left out would be that of an earlier one.
        left = [name for name in TABLES_BY_NAME if name in self.tables and name not in self.uris]
        for item in _list_tables(self.client, self.dataset):
            name, _, computation = item.table_id.partition(_STAGING)
            if not computation or name not in TABLES_BY_NAME:
                continue
            is_own = item.table_id in self.staging_names(TABLES_BY_NAME[name])
            if (is_own and not keep_staging) or item.created < oldest:
                left.append(item.table_id)
        with ThreadPoolExecutor(len(TABLES)) as threads:
            list(threads.map(self._drop, left))

    def _drop(self, name: str) -> None:
        with suppress(GoogleAPIError):  # the run is published; the next one sweeps again
            self.client.delete_table(
                f"{self.dataset}.{name}", not_found_ok=True, retry=RETRY, timeout=REQUEST_SECONDS
            )

    # --- Jobs

    def _query(self, step: str, statements: Sequence[str]) -> None:
        config = bigquery.QueryJobConfig(
            query_parameters=[bigquery.ScalarQueryParameter("run_id", "STRING", self.run_id)],
            labels=dict(_LABELS),
        )
        self._run(
            step,
            PIPELINE_RUNS,
            lambda job_id: self.client.query(
                ";\n".join(statements) + ";",
                job_id=job_id,
                job_config=config,
                retry=RETRY,
                job_retry=None,
                timeout=REQUEST_SECONDS,
            ),
        )

    def _run(
        self,
        step: str,
        table: Table,
        start: Callable[[str], Job],
        *,
        problem: Callable[[Job], str | None] = lambda _: None,
        is_kept: Callable[[], bool] = lambda: True,
        suffix: str = "",
    ) -> Job:
        """Run a job, or find it done; a failed job of an earlier attempt gives way to the next.

        Args:
            step: What it does.
            table: With which table.
            start: Starts it under an id.
            problem: What is wrong with the result of a job that succeeded.
            is_kept: True where the result of a job that was found done is still there.
            suffix: What tells its part of the table from others.

        Returns:
            The job that is done.

        Raises:
            JobError: The job failed.
        """
        failures = attempt = 0
        while True:
            attempt += 1
            dataset = self.dataset.rpartition(".")[2]
            job_id = f"{self.computation}_{dataset}_{table.name}{suffix}_{step}_{attempt}"
            found = False
            try:
                try:
                    job = start(job_id)
                except Conflict:  # this process's own retry, or an earlier process, started it
                    found = True
                    job = cast(
                        Job, self.client.get_job(job_id, retry=RETRY, timeout=REQUEST_SECONDS)
                    )
                try:
                    job.result(retry=RETRY, timeout=_JOB_SECONDS)
                except GoogleAPIError:
                    if job.error_result is None:
                        raise
                    failures += not found
                    passing = job.error_result.get("reason") in _PASSING
                    if not found and not (passing and failures < _ATTEMPTS):
                        raise
                    time.sleep(0 if found else 2.0**failures)
                    continue
                wrong = problem(job)
                if found and (wrong is not None or not is_kept()):
                    continue
            except TimeoutError as error:
                raise self._failed(step, table, job_id, "it still runs after an hour") from error
            except GoogleAPIError as error:
                raise self._failed(step, table, job_id, describe(error)) from error
            if wrong is not None:
                raise self._failed(step, table, job_id, wrong)
            return job

    def _failed(self, step: str, table: Table, job_id: str, why: str) -> JobError:
        job = f"{self.client.project}:{self.client.location}.{job_id}"
        return JobError(step, [f"{step} of {table.name}: {why} (job {job})"])


def _each(tables: Sequence[Table], act: Callable[[Table], None]) -> None:
    """Do something with several tables at once.

    Raises:
        JobError: What went wrong, with every table.
    """
    with ThreadPoolExecutor(len(tables)) as threads:
        outcomes = [threads.submit(act, table) for table in tables]
    failed = []
    for outcome in outcomes:
        try:
            outcome.result()
        except JobError as error:
            failed.append(error)
    if failed:
        raise JobError(failed[0].step, [line for error in failed for line in error.lines])


def publish(
    dataset: str, output: str, manifest: Mapping[str, Any], *, keep_staging: bool
) -> list[str]:
    """Make a run that has passed its audit the live one; done already, it changes nothing.

    Args:
        dataset: `project.dataset`.
        output: The run's warehouse, a gs:// folder.
        manifest: The run's manifest there.
        keep_staging: Leave the staging tables, until a run of seven days later sweeps them.

    Returns:
        Warnings: what went wrong once the run was published.

    Raises:
        RunError: A step failed, or a newer run is there; says which tables, why, and what to do.
    """
    try:
        publication = _publication(dataset, output, manifest)
        if not publication.is_published(_finished_at(manifest)):
            tables = tables_of(manifest)
            replaced = tuple(table for table in tables if not table.appended)
            _each(tables, publication.load)
            _each(tables, publication.ensure_live)
            publication.announce()
            _each(replaced, publication.copy)
            _each(replaced, publication.describe)
            publication.conclude()
    except JobError as error:
        raise RunError(_explanation(error, dataset, manifest["run_id"])) from error
    except GoogleAPIError as error:
        raise RunError(
            f"BigQuery: {dataset}: {describe(error)}. Run the same command with "
            f"--run_id={manifest['run_id']}: it goes on from here."
        ) from error
    try:
        publication.sweep(keep_staging=keep_staging)
    except GoogleAPIError as error:
        return [f"BigQuery: staging tables are left in {dataset}: {describe(error)}"]
    return []


def _publication(dataset: str, output: str, manifest: Mapping[str, Any]) -> Publication:
    client = connect(dataset)
    run_id = manifest["run_id"]
    return Publication(
        client=client,
        dataset=dataset,
        run_id=run_id,
        computation=manifest.get("computation", run_id),  # as an earlier version called it
        uris={
            name: [f"{output}/{file}" for file in files]
            for name, files in manifest["tables"].items()
        },
        rows=manifest["rows"],
        tables=frozenset(item.table_id for item in _list_tables(client, dataset)),
    )


def _finished_at(manifest: Mapping[str, Any]) -> dt.datetime:
    return dt.datetime.fromisoformat(manifest["finished_at"])


def has_published(dataset: str, output: str, manifest: Mapping[str, Any]) -> bool:
    """True where a run is published in a dataset; it changes nothing.

    Args:
        dataset: `project.dataset`.
        output: The run's warehouse.
        manifest: The run's manifest.

    Raises:
        RunError: A newer run is there, or BigQuery does not answer.
    """
    with _explained(dataset):
        return _publication(dataset, output, manifest).is_published(_finished_at(manifest))


def require_past(dataset: str) -> None:
    """Check that no run of a dataset is of a time to come: every other would count as older.

    Raises:
        RunError: One is; names the statement that puts it right.
    """
    with _explained(dataset):
        client = connect(dataset)
        live = f"{dataset}.{PIPELINE_RUNS.name}"
        if PIPELINE_RUNS.name not in {item.table_id for item in _list_tables(client, dataset)}:
            return
        rows = client.query_and_wait(
            "SELECT run_id, finished_at "  # noqa: S608 - our names
            f"FROM `{live}` WHERE finished_at > @now ORDER BY finished_at DESC LIMIT 1",
            job_config=bigquery.QueryJobConfig(
                query_parameters=[
                    bigquery.ScalarQueryParameter("now", "TIMESTAMP", dt.datetime.now(dt.UTC))
                ]
            ),
            retry=RETRY,
            api_timeout=REQUEST_SECONDS,
            wait_timeout=_JOB_SECONDS,
        )
        remedy = (
            f"UPDATE `{live}` SET finished_at = CURRENT_TIMESTAMP() "  # noqa: S608 - our names
            "WHERE finished_at > CURRENT_TIMESTAMP()"
        )
        for row in rows:
            raise RunError(
                f"{dataset}: run {row['run_id']} finished at {row['finished_at'].isoformat()}, "
                "which is yet to come, so every run would count as older than it. If this "
                f"machine's clock is right ({dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC), the "
                f"other one was ahead; put the time right: bq query --nouse_legacy_sql '{remedy}'"
            )


@contextmanager
def _explained(dataset: str) -> Iterator[None]:
    """Turn the client's errors into a line.

    Raises:
        RunError: BigQuery did not answer as it should.
    """
    try:
        yield
    except GoogleAPIError as error:
        raise RunError(f"BigQuery: {dataset}: {describe(error)}. Run again.") from error


def _explanation(error: JobError, dataset: str, run_id: str) -> str:
    """What failed, what that means for the live tables, and what to do."""
    shown = list(error.lines[:_LINES])
    if len(error.lines) > _LINES:
        shown.append(f"and {len(error.lines) - _LINES} more tables")
    state = (
        "The live tables are as they were."
        if error.step in ("load", "announce")
        else "The live tables are a mix of two runs until it goes on, and pipeline_runs says so by "
        "the status 'publishing'."
    )
    return (
        f"BigQuery: run {run_id} was not published to {dataset}:\n  "
        + "\n  ".join(shown)
        + f"\n{state} Put the cause right (the account needs bigquery.dataEditor on the dataset, "
        "bigquery.jobUser on its project and storage.objectUser on the bucket), then run the same "
        f"command with --run_id={run_id}: it goes on from here."
    )
