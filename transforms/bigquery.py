"""BigQuery: every table of a run replaces its live one, or none does.

1. Load: one job per table, from the run's Parquet files into a staging table of the same dataset.
2. Announce: one transaction adds the run's rows to the appended tables, `pipeline_runs` with the
   status `publishing`.
3. Copy: one job per replaced table, all started at once, staging over live.
4. Conclude: `pipeline_runs` says `published`, and since when.

Up to 2 a failure leaves the live tables as they were. A failure in 3 leaves some old and some new,
and says so by the status; it is rolled forward, not back: the staged tables are complete and
checked, so that what remains is copies, while the way back would need copies as well and could
fail as well. Every job has an id made of the run, the table and the attempt: a retry, or a later
process with the same run id, finds the jobs that are done and does the rest.
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
from typing import Any, Final, cast

from google.api_core.exceptions import Conflict, Forbidden, GoogleAPIError, NotFound, Unauthorized
from google.cloud import bigquery
from google.cloud.bigquery.retry import DEFAULT_RETRY

from transforms.bucket import describe
from transforms.errors import RunError
from transforms.schema import PIPELINE_RUNS, TABLES, Table

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
_STAGING_DAYS: Final = 7
_LABELS: Final = MappingProxyType({"application": "estore-analytics"})
_APPENDED: Final = tuple(table for table in TABLES if table.appended)
_REPLACED: Final = tuple(table for table in TABLES if not table.appended)

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
    resource.description = table.grain.capitalize() + "."
    resource.labels = dict(_LABELS)
    if table.partition_by:
        resource.time_partitioning = partitioning(table)
    if table.cluster_by:
        resource.clustering_fields = list(table.cluster_by)
    return resource


def connect(dataset: str) -> bigquery.Client:
    """A client whose jobs run in the project of `project.dataset`, and where the dataset is.

    Raises:
        google.api_core.exceptions.GoogleAPIError: The dataset cannot be read.
    """
    project, _, _ = dataset.rpartition(".")
    client = bigquery.Client(project=project)
    found = client.get_dataset(dataset, retry=RETRY, timeout=REQUEST_SECONDS)
    return bigquery.Client(project=project, location=found.location)


@dataclass(frozen=True)
class Publication:
    """The publication of one run.

    Attributes:
        client: Its client.
        dataset: `project.dataset`.
        run_id: The run.
        uris: The gs:// paths of every table's files.
        rows: The rows of every table.
    """

    client: bigquery.Client
    dataset: str
    run_id: str
    uris: Mapping[str, Sequence[str]]
    rows: Mapping[str, int]

    def live(self, table: Table) -> str:
        """The full name of a live table."""
        return f"{self.dataset}.{table.name}"

    def staging(self, table: Table) -> str:
        """The full name of the run's staging table."""
        return f"{self.dataset}.{table.name}__staging_{self.run_id}"

    # --- The four steps

    def load(self, table: Table) -> None:
        """Load a table's files into its staging table, and compare the rows."""
        staging = table_resource(table, self.staging(table))
        staging.expires = dt.datetime.now(dt.UTC) + dt.timedelta(days=_STAGING_DAYS)
        config = bigquery.LoadJobConfig(
            source_format=bigquery.SourceFormat.PARQUET,
            schema=schema_fields(table),
            write_disposition=bigquery.WriteDisposition.WRITE_TRUNCATE,
            labels=dict(_LABELS),
        )
        if table.partition_by:
            config.time_partitioning = partitioning(table)
        if table.cluster_by:
            config.clustering_fields = list(table.cluster_by)

        def start(job_id: str) -> Job:
            self.client.create_table(staging, exists_ok=True, retry=RETRY, timeout=REQUEST_SECONDS)
            return self.client.load_table_from_uri(
                self.uris[table.name],
                staging.reference,
                job_id=job_id,
                job_config=config,
                retry=RETRY,
                timeout=REQUEST_SECONDS,
            )

        def problem() -> str | None:
            try:
                loaded = self.client.get_table(
                    staging.reference, retry=RETRY, timeout=REQUEST_SECONDS
                ).num_rows
            except NotFound:
                return "the staging table is gone"
            meant = self.rows[table.name]
            return None if loaded == meant else f"{loaded:,} rows were loaded instead of {meant:,}"

        self._run("load", table.name, start, problem)

    def announce(self) -> None:
        """Add the run's rows to the appended tables; from here the live tables change."""
        statements = []
        for table in _APPENDED:
            columns = {column: column for column in table.column_names}
            if table is PIPELINE_RUNS:
                columns |= {"status": "'publishing'", "published_at": "CAST(NULL AS TIMESTAMP)"}
            live, names = self.live(table), ", ".join(columns)
            values = ", ".join(columns.values())
            statements += [
                f"DELETE FROM `{live}` WHERE run_id = @run_id",  # noqa: S608 - our names
                f"INSERT INTO `{live}` ({names}) SELECT {values} FROM `{self.staging(table)}`",  # noqa: S608
            ]
        self._query("announce", ["BEGIN TRANSACTION", *statements, "COMMIT TRANSACTION"])

    def copy(self, table: Table) -> None:
        """Replace a live table by its staging table, in one step."""
        config = bigquery.CopyJobConfig(
            write_disposition=bigquery.WriteDisposition.WRITE_TRUNCATE,
            labels=dict(_LABELS),
        )
        self._run(
            "copy",
            table.name,
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
        """Say that the live tables are this run's; `published_at` is after the last copy."""
        statement = (
            f"UPDATE `{self.live(PIPELINE_RUNS)}` "  # noqa: S608 - our names
            "SET status = 'published', published_at = CURRENT_TIMESTAMP() WHERE run_id = @run_id"
        )
        self._query("conclude", [statement])

    # --- Around them

    def is_published(self, finished_at: dt.datetime) -> bool:
        """True where the run is published already.

        Raises:
            RunError: A newer run has been announced: its tables must not be turned back.
        """
        try:
            self.client.get_table(self.live(PIPELINE_RUNS), retry=RETRY, timeout=REQUEST_SECONDS)
        except NotFound:
            return False
        config = bigquery.QueryJobConfig(
            query_parameters=[
                bigquery.ScalarQueryParameter("run_id", "STRING", self.run_id),
                bigquery.ScalarQueryParameter("finished_at", "TIMESTAMP", finished_at),
            ]
        )
        rows = self.client.query_and_wait(
            "SELECT run_id, status "  # noqa: S608 - our names
            f"FROM `{self.live(PIPELINE_RUNS)}` "
            "WHERE run_id = @run_id OR finished_at > @finished_at",
            job_config=config,
            retry=RETRY,
            api_timeout=REQUEST_SECONDS,
            wait_timeout=_JOB_SECONDS,
        )
        states = {row["run_id"]: row["status"] for row in rows}
        own = states.pop(self.run_id, None)
        if states:
            newer, status = states.popitem()
            going_on = f"--run_id={newer}" if status == "publishing" else "no --run_id"
            raise RunError(
                f"BigQuery: run {newer}, newer than {self.run_id}, is {status} in {self.dataset}; "
                f"an older run must not replace its tables. Run again with {going_on}."
            )
        return bool(own == "published")

    def ensure_live(self, table: Table) -> None:
        """Make a live table where there is none; add columns that an appended one lacks."""
        meant = table_resource(table, self.live(table))
        try:
            live = self.client.get_table(meant.reference, retry=RETRY, timeout=REQUEST_SECONDS)
        except NotFound:
            live = self.client.create_table(
                meant, exists_ok=True, retry=RETRY, timeout=REQUEST_SECONDS
            )
        there = {field.name for field in live.schema}
        lacking = [
            # NULLABLE: the rows of earlier runs have no value there.
            bigquery.SchemaField(column.name, column.type.value, description=column.description)
            for column in table.columns
            if column.name not in there
        ]
        if table.appended and lacking:
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

    def drop_staging(self, table: Table) -> None:
        """Remove the staging table; where that fails, it expires by itself."""
        with suppress(GoogleAPIError):
            self.client.delete_table(
                self.staging(table), not_found_ok=True, retry=RETRY, timeout=REQUEST_SECONDS
            )

    # --- Jobs

    def _query(self, step: str, statements: Sequence[str]) -> None:
        config = bigquery.QueryJobConfig(
            query_parameters=[bigquery.ScalarQueryParameter("run_id", "STRING", self.run_id)],
            labels=dict(_LABELS),
        )
        self._run(
            step,
            PIPELINE_RUNS.name,
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
        table_name: str,
        start: Callable[[str], Job],
        problem: Callable[[], str | None] = lambda: None,
    ) -> None:
        """Run a job, or find it done; a failed job of an earlier attempt gives way to the next.

        Args:
            step: What it does.
            table_name: With which table.
            start: Starts it under an id.
            problem: What is wrong with the result of a job that succeeded.

        Raises:
            RunError: The job failed; names the table, the job, the reason and the remedy.
        """
        failures = 0
        for attempt in itertools.count(1):
            dataset = self.dataset.rpartition(".")[2]
            job_id = f"{self.run_id}_{dataset}_{table_name}_{step}_{attempt}"
            found = False
            with self._explained(step, table_name, job_id):
                try:
                    job = start(job_id)
                except Conflict:  # this process's own retry, or one before it, started the job
                    found = True
                    job = cast(
                        Job,
                        self.client.get_job(job_id, retry=RETRY, timeout=REQUEST_SECONDS),
                    )
                try:
                    job.result(retry=RETRY, timeout=_JOB_SECONDS)
                except GoogleAPIError:
                    reason = (job.error_result or {}).get("reason")
                    failures += not found
                    if job.error_result is None or not (
                        found or (reason in _PASSING and failures < _ATTEMPTS)
                    ):
                        raise
                    time.sleep(0 if found else 2.0**failures)
                    continue
                wrong = problem()
            if wrong is None:
                return
            if not found:
                raise self._failed(step, table_name, job_id, wrong)

    @contextmanager
    def _explained(self, step: str, table_name: str, job_id: str) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise self._failed(step, table_name, job_id, "it still runs after an hour") from error
        except GoogleAPIError as error:
            raise self._failed(step, table_name, job_id, describe(error), error) from error

    def _failed(
        self, step: str, table_name: str, job_id: str, why: str, error: Exception | None = None
    ) -> RunError:
        if isinstance(error, Forbidden | Unauthorized):
            remedy = (
                "Give the account of the run roles/bigquery.dataEditor on the dataset, "
                "roles/bigquery.jobUser on the project and roles/storage.objectUser on the "
                "bucket, or wait where a quota is exceeded; then run"
            )
        elif isinstance(error, NotFound):
            remedy = "Put back what is missing, then run"
        else:
            remedy = "Put the cause right, if it is not BigQuery's own, then run"
        state = (
            "The live tables are as they were."
            if step in ("load", "announce")
            else "Until it goes on, the live tables may be a mix of two runs, and pipeline_runs "
            "shows the status 'publishing'."
        )
        return RunError(
            f"BigQuery: {step} of {self.dataset}.{table_name} failed: {why} "
            f"(job {self.client.project}:{self.client.location}.{job_id}). {state} {remedy} the "
            f"same command with --run_id={self.run_id}: it goes on from here."
        )


def _each(tables: Sequence[Table], act: Callable[[Table], None]) -> None:
    """Do something with several tables at once.

    Raises:
        RunError: What went wrong, with every table.
    """
    with ThreadPoolExecutor(len(tables)) as threads:
        errors = [
            error
            for error in (done.exception() for done in [threads.submit(act, t) for t in tables])
            if error is not None
        ]
    for error in errors:
        if len(errors) == 1 or not isinstance(error, RunError):
            raise error
    if errors:
        raise RunError("\n".join(str(error) for error in errors))


def publish(dataset: str, output: str, manifest: Mapping[str, Any], *, keep_staging: bool) -> None:
    """Make a run that has passed its audit the live one; done already, it changes nothing.

    Args:
        dataset: `project.dataset`.
        output: The run's warehouse, a gs:// folder.
        manifest: The run's manifest there.
        keep_staging: Leave the staging tables, which expire after seven days.

    Raises:
        RunError: A step failed, or a newer run is there.
    """
    run_id = manifest["run_id"]
    try:
        publication = Publication(
            connect(dataset),
            dataset,
            run_id,
            {
                name: [f"{output}/{file}" for file in files]
                for name, files in manifest["tables"].items()
            },
            manifest["rows"],
        )
        if not publication.is_published(dt.datetime.fromisoformat(manifest["finished_at"])):
            _each(TABLES, publication.load)
            _each(TABLES, publication.ensure_live)
            publication.announce()
            _each(_REPLACED, publication.copy)
            _each(_REPLACED, publication.describe)
            publication.conclude()
    except GoogleAPIError as error:
        raise RunError(
            f"BigQuery: {dataset}: {describe(error)}. Run the same command with "
            f"--run_id={run_id}: it goes on from here."
        ) from error
    if not keep_staging:
        _each(TABLES, publication.drop_staging)
