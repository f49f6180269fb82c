"""What can fail because of the caller fails here, before any work, with the command that fixes it.

Permissions are not read from policies but tried: a small object is written to the output, loaded
into the dataset, and both are removed.
"""

from __future__ import annotations

import datetime as dt
import errno
import fcntl
import io
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Final

import google.auth
import polars as pl
from apache_beam.io.filesystem import BeamIOError
from google.api_core.exceptions import Forbidden, GoogleAPIError, NotFound
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError
from google.cloud import bigquery, storage
from google.cloud.bigquery.retry import DEFAULT_RETRY as BIGQUERY_RETRY
from google.cloud.storage.retry import DEFAULT_RETRY as STORAGE_RETRY

from pipelines.options import RunOptions, UsageError
from transforms.errors import InputError, RunError
from transforms.ingest.files import InputFile, match_inputs
from transforms.schema import TABLES_BY_NAME
from transforms.warehouse import in_bucket, open_warehouse
from transforms.warehouse.gcs import describe
from transforms.warehouse.temporary import sweep

_SECONDS: Final = 20.0  # a service that says nothing for so long counts as not reachable
_BUCKET_RETRY: Final = STORAGE_RETRY.with_timeout(_SECONDS)
_RETRY: Final = BIGQUERY_RETRY.with_timeout(_SECONDS)
_THREADS: Final = 64  # of a local run of two workers, beside those of the libraries
_PROBE_PREFIX: Final = "_probe_"  # of a folder in a local warehouse
_LOGIN: Final = "gcloud auth application-default login"


class _ProblemError(Exception):
    """A check failed; the message is the line to print."""


def require_credentials(options: RunOptions) -> None:
    """Check that there are credentials where a run needs some.

    Raises:
        UsageError: There are none.
    """
    if any(in_bucket(path) for path in (*options.input, options.output)):
        try:
            google.auth.default()
        except DefaultCredentialsError as error:
            raise UsageError(f"no Google credentials were found; try: {_LOGIN}") from error


def check(
    options: RunOptions, run_id: str, found: list[InputFile] | None = None
) -> list[InputFile]:
    """Check what a run needs and cannot make itself.

    Args:
        options: The run's.
        run_id: The run.
        found: The input files, where they are known already.

    Returns:
        The input files, with their headers.

    Raises:
        InputError: The input does not exist or has the wrong header.
        UsageError: Something else is missing; one line each.
    """
    require_credentials(options)
    if problems := _thread_problems():
        raise UsageError("\n".join(problems))
    with ThreadPoolExecutor(1) as threads:
        destination = threads.submit(_destination_problems, options, run_id)
        files: list[InputFile] = []
        try:
            files = find_inputs(options) if found is None else found
        except (UsageError, InputError) as error:
            problems.append(str(error))
        problems += _rejected_file_problems(options.rejected_to)
        problems += destination.result()
    if problems:
        raise UsageError("\n".join(problems))
    return files


def find_inputs(options: RunOptions) -> list[InputFile]:
    """Find the input files and read their headers.

    Raises:
        InputError: The input does not exist or has the wrong header.
        UsageError: It cannot be listed.
    """
    try:
        return match_inputs(options.input)
    except BeamIOError as error:
        causes = error.exception_details or {}
        why = next((cause for cause in causes.values() if isinstance(cause, Exception)), error)
    except (GoogleAuthError, OSError, ValueError) as error:
        why = error
    raise UsageError(
        f"--input: {' '.join(options.input)} cannot be listed ({describe(why)}); "
        f"try: {'gcloud storage ls' if in_bucket(options.input[0]) else 'ls'} '{options.input[0]}'"
    ) from why


def _destination_problems(options: RunOptions, run_id: str) -> list[str]:
    """Check the folder, or the bucket and then the dataset, which loads from it."""
    if not in_bucket(options.output):
        return _folder_problems(options.output) or _warehouse_problems(options)
    try:
        with _probe_object(options.output, run_id) as uri:
            if options.bigquery_dataset is not None:
                _check_dataset(options.bigquery_dataset, options, uri, run_id)
    except _ProblemError as problem:
        return [str(problem)]
    except GoogleAuthError as error:
        return [f"Google's credentials do not work ({describe(error)}); try: {_LOGIN}"]
    return _warehouse_problems(options)


def _warehouse_problems(options: RunOptions) -> list[str]:
    """Look whether what is there lets a run be published."""
    try:
        open_warehouse(options.output, options.bigquery_dataset).check()
    except RunError as error:
        return [str(error)]
    return []


def _folder_problems(output: str) -> list[str]:
    """Make a local folder, if need be, and try there what a publication does."""
    try:
        Path(output).mkdir(parents=True, exist_ok=True)
        sweep(_PROBE_PREFIX, Path(output), is_ours=True)
        with TemporaryDirectory(
            prefix=_PROBE_PREFIX, dir=output, ignore_cleanup_errors=True
        ) as name:
            return _file_system_problems(output, Path(name))
    except OSError as error:
        problem = (
            f"--output: {output} cannot be written ({error.strerror}); choose another folder, "
            f"or look at: ls -ld '{output}'"
        )
        return [problem]


def _rejected_file_problems(path: str | None) -> list[str]:
    """Try to write beside the file for rejected rows, if one is asked for."""
    if path is None:
        return []
    try:
        if Path(path).is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with TemporaryFile(dir=Path(path).parent):
            return []
    except OSError as error:
        problem = (
            f"--rejected_to: {path} cannot be written ({error.strerror}); choose another file, "
            f"or look at: ls -ld '{Path(path).parent}'"
        )
        return [problem]


def _file_system_problems(output: str, folder: Path) -> list[str]:
    """What a folder's file system cannot do; network and removable disks lack some of it.

    Raises:
        OSError: Not even a file can be written.
    """
    file, link = folder / "file", folder / "link"
    file.write_bytes(b"probe")

    def lock() -> None:
        with file.open("a") as opened:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)

    problems = []
    for attempt, lacking in (
        (lock, "locks (flock), which keep runs apart"),
        (lambda: link.symlink_to(file), "symbolic links, by which a state is published at once"),
        (lambda: os.link(file, folder / "second"), "hard links, by which earlier runs are kept"),
    ):
        try:
            attempt()
        except OSError as error:
            problems.append(
                f"--output: {output} is on a file system without {lacking} ({error.strerror}); "
                "choose a folder on another, and copy the tables there"
            )
    return problems


def _thread_problems() -> list[str]:
    """Start as many threads as a run has; one that lacks some of them would wait for ever."""
    done = threading.Event()
    started: list[threading.Thread] = []
    try:
        for _ in range(_THREADS):
            thread = threading.Thread(target=done.wait)
            thread.start()
            started.append(thread)
    except RuntimeError:
        problem = (
            f"the run needs {_THREADS} threads and may start {len(started)}: allow more processes "
            "(ulimit -u, or the container's limit) or more address space (ulimit -v)"
        )
        return [problem]
    finally:
        done.set()
        for thread in started:
            thread.join()
    return []


@contextmanager
def _probe_object(output: str, run_id: str) -> Iterator[str]:
    """Write a small Parquet object to the output, and remove it after the block."""
    bucket_name, _, prefix = output.removeprefix("gs://").partition("/")
    name = f"{prefix}/_probe_{run_id}.parquet".lstrip("/")
    content = io.BytesIO()
    pl.DataFrame({"probe": [1]}).write_parquet(content)
    blob = storage.Client().bucket(bucket_name).blob(name)
    with _bucket_problems(output, bucket_name):
        blob.upload_from_string(content.getvalue(), retry=_BUCKET_RETRY)
    try:
        yield f"gs://{bucket_name}/{name}"
    finally:
        with _bucket_problems(output, bucket_name):
            blob.delete(retry=_BUCKET_RETRY)


@contextmanager
def _bucket_problems(output: str, bucket_name: str) -> Iterator[None]:
    try:
        yield
    except NotFound as error:
        raise _ProblemError(
            f"--output: bucket {bucket_name} does not exist; "
            f"try: gcloud storage buckets create gs://{bucket_name}"
        ) from error
    except Forbidden as error:
        raise _ProblemError(
            f"--output: {output} cannot be written ({describe(error)}); "
            f"try: gcloud storage buckets add-iam-policy-binding gs://{bucket_name} "
            "--member=user:YOU --role=roles/storage.objectUser"
        ) from error
    except GoogleAPIError as error:
        raise _ProblemError(
            f"--output: {output} cannot be written ({describe(error)}); "
            f"try: gcloud storage ls gs://{bucket_name}"
        ) from error


def _check_dataset(dataset: str, options: RunOptions, uri: str, run_id: str) -> None:
    """Find or make the dataset, see that its tables can be replaced, load the probe into it."""
    project, _, name = dataset.rpartition(".")
    try:
        client = bigquery.Client(project=project)
        found = _find_dataset(client, dataset, options)
        if options.location and found.location.lower() != options.location.lower():
            raise _ProblemError(
                f"--location: {dataset} is in {found.location} and cannot move; "
                "leave --location out, or name another dataset"
            )
        _require_replaceable(client, dataset)
        _load_probe(bigquery.Client(project=project, location=found.location), dataset, uri, run_id)
    except Forbidden as error:
        raise _ProblemError(
            f"--bigquery_dataset: {dataset}: {describe(error)}; try: bq query --nouse_legacy_sql "
            f"'GRANT `roles/bigquery.dataEditor` ON SCHEMA `{dataset}` TO \"user:YOU\"' && "
            f"gcloud projects add-iam-policy-binding {project} --member=user:YOU "
            "--role=roles/bigquery.jobUser"
        ) from error
    except GoogleAPIError as error:
        raise _ProblemError(
            f"--bigquery_dataset: {dataset}: {describe(error)}; try: bq show {project}:{name}"
        ) from error
    except TimeoutError as error:
        raise _ProblemError(
            f"--bigquery_dataset: {dataset}: a load of one row does not end; "
            f"try: bq ls --jobs {project}:"
        ) from error


def _find_dataset(client: bigquery.Client, dataset: str, options: RunOptions) -> bigquery.Dataset:
    try:
        return client.get_dataset(dataset, retry=_RETRY, timeout=_SECONDS)
    except NotFound as error:
        if not options.create_dataset:
            project, _, name = dataset.rpartition(".")
            raise _ProblemError(
                f"--bigquery_dataset: {dataset} does not exist; add --create_dataset, or try: "
                f"bq mk --dataset --location={options.location or 'US'} {project}:{name}"
            ) from error
    made = bigquery.Dataset(dataset)
    made.location = options.location or "US"
    made.description = "Tables of estore-analytics."
    return client.create_dataset(made, exists_ok=True, retry=_RETRY, timeout=_SECONDS)


def _require_replaceable(client: bigquery.Client, dataset: str) -> None:
    """Check that what stands where the tables go is tables of ours."""
    for item in client.list_tables(dataset, retry=_RETRY, timeout=_SECONDS):
        table = TABLES_BY_NAME.get(item.table_id)
        if table is None:
            continue
        partitioned_by = item.time_partitioning and item.time_partitioning.field
        if item.table_type != "TABLE" or partitioned_by != table.partition_by:
            kind = item.table_type.lower() if item.table_type != "TABLE" else "table"
            raise _ProblemError(
                f"--bigquery_dataset: {dataset}.{item.table_id} is a {kind} partitioned by "
                f"{partitioned_by or 'nothing'}, not one of this program; name another dataset, or "
                f"try: bq rm {item.full_table_id}"
            )


def _load_probe(client: bigquery.Client, dataset: str, uri: str, run_id: str) -> None:
    """Load the probe object into a table of its own, and remove that."""
    table = bigquery.Table(
        f"{dataset}.probe__{run_id}", schema=[bigquery.SchemaField("probe", "INT64")]
    )
    table.expires = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    client.create_table(table, exists_ok=True, retry=_RETRY, timeout=_SECONDS)
    try:
        client.load_table_from_uri(
            uri,
            table.reference,
            job_config=bigquery.LoadJobConfig(
                source_format=bigquery.SourceFormat.PARQUET,
                write_disposition=bigquery.WriteDisposition.WRITE_TRUNCATE,
            ),
            retry=_RETRY,
            timeout=_SECONDS,
        ).result(retry=_RETRY, timeout=3 * _SECONDS)
    finally:
        client.delete_table(table, not_found_ok=True, retry=_RETRY, timeout=_SECONDS)
