"""The warehouse in a bucket: published by swapping one small object, or not at all.

    OUTPUT/_runs/RUN_ID/TABLE/*.parquet   the tables of a run, written where they stay
    OUTPUT/_runs/RUN_ID/manifest.json     written once the run has passed its audit: from then on
                                          it can be published, also by a later process
    OUTPUT/manifest.json                  the current state: the files of every table
    OUTPUT/_lock                          the run at work

A bucket cannot rename a folder in one step, so nothing is moved: a reader takes the names of the
files from `OUTPUT/manifest.json`, which is replaced in one step, last. The state before the current
one is kept until the next publication, for readers that are still at its files. An appended table
keeps its earlier runs' files where those runs wrote them.
"""

from __future__ import annotations

import datetime as dt
import io
import json
import os
import re
import socket
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any, Final

import polars as pl
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from google.api_core.exceptions import GoogleAPIError, NotFound, PreconditionFailed
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY

from transforms.errors import RunError
from transforms.schema import TABLES, Table
from transforms.warehouse import local
from transforms.warehouse.local import MANIFEST, REPORT, RUNS
from transforms.warehouse.staging import StagedFile

_LOCK: Final = "_lock"


_SCHEME: Final = "gs://"


_RETRY: Final = DEFAULT_RETRY.with_timeout(60.0)


_LEASE: Final = dt.timedelta(hours=6)
"""How long a run that fell silent keeps the warehouse: many times what a run takes."""


_RESUMABLE: Final = dt.timedelta(days=7)
"""How long the files of a run that was not published wait for it to be resumed."""


_MESSAGE: Final = re.compile(r'"message": ?"([^"]+)"')


_DELETE_THREADS: Final = 8  # a deletion is a round trip


_SPILL_PREFIX: Final = "estore-analytics-spill-"


Document = dict[str, Any]


def in_bucket(path: str) -> bool:
    """True for a gs:// path."""
    return path.startswith(_SCHEME)


@dataclass(frozen=True)
class Stored:
    """A JSON object of a bucket, and its generation: the version that a later write replaces."""

    document: Document
    generation: int


ABSENT: Final = 0
"""The generation of an object that does not exist."""


class Folder:
    """A gs:// folder, for the few small objects that need more than Beam's file systems give.

    Args:
        path: Its path.
    """

    def __init__(self, path: str) -> None:
        self.path = path.rstrip("/")
        name, _, prefix = self.path.removeprefix(_SCHEME).partition("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._bucket = storage.Client().bucket(name)

    def read(self, name: str) -> Stored | None:
        """Read a JSON object; None where there is none."""
        with _explained(f"{self.path}/{name}", "read"):
            blob = self._bucket.get_blob(self._prefix + name, retry=_RETRY)
            if blob is None:
                return None
            generation = int(blob.generation)
            with suppress(NotFound):  # removed in between
                data = blob.download_as_bytes(if_generation_match=generation, retry=_RETRY)
                return Stored(json.loads(data), generation)
        return None

    def write(self, name: str, document: Document, generation: int) -> bool:
        """Write a JSON object if its generation is still the one given.

        Returns:
            True where the object now holds this document, also if an earlier attempt wrote it.
        """
        with _explained(f"{self.path}/{name}", "written"):
            try:
                self._bucket.blob(self._prefix + name).upload_from_string(
                    json.dumps(document, indent=2) + "\n",
                    content_type="application/json",
                    if_generation_match=generation,
                    retry=_RETRY,
                )
            except PreconditionFailed:
                stored = self.read(name)
                return stored is not None and stored.document == document
        return True

    def list(self, prefix: str) -> Mapping[str, dt.datetime]:
        """The objects below a prefix, by name within this folder, and when each was written."""
        with _explained(f"{self.path}/{prefix}", "listed"):
            return {
                blob.name.removeprefix(self._prefix): blob.updated
                for blob in self._bucket.list_blobs(prefix=self._prefix + prefix, retry=_RETRY)
            }

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects; one that is gone already does not matter."""
        with _explained(self.path, "cleaned"), ThreadPoolExecutor(_DELETE_THREADS) as threads:
            list(threads.map(self._delete, names))

    def _delete(self, name: str) -> None:
        with suppress(NotFound):
            self._bucket.blob(self._prefix + name).delete(retry=_RETRY)


@contextmanager
def _explained(path: str, done: str) -> Iterator[None]:
    """Turn the client's errors into one that says what to do.

    Raises:
        RunError: The bucket did not answer as it should.
    """
    try:
        yield
    except (PreconditionFailed, NotFound):
        raise
    except GoogleAPIError as error:
        raise RunError(
            f"{path} cannot be {done}: {describe(error)}. Check the bucket and that the account "
            "of the run has roles/storage.objectUser on it, then run again."
        ) from error


def describe(error: Exception) -> str:
    """What a Google service or client complains of, in one line, without the request's URL."""
    cause = getattr(error, "cause", None) or error
    text = str(getattr(cause, "message", "") or cause) or type(cause).__name__
    details = [str(detail.get("message", "")) for detail in getattr(cause, "errors", None) or ()]
    details += _MESSAGE.findall(text)  # an upload's error holds the answer as it came
    return " ".join(next(filter(None, details), text).split()).rstrip(".")


def acquire(output: str, run_id: str) -> None:
    """Take the warehouse for a run, or renew its hold; a silent run loses it after six hours.

    Raises:
        RunError: Another run is at work there.
    """
    folder = Folder(output)
    now = dt.datetime.now(dt.UTC)
    lease = {
        "run_id": run_id,
        "host": socket.gethostname(),
        "process": os.getpid(),
        "until": (now + _LEASE).isoformat(),
    }
    held = folder.read(_LOCK)
    if held is None or _is_free(held.document, run_id, now):
        if folder.write(_LOCK, lease, held.generation if held else ABSENT):
            return
        held = folder.read(_LOCK)
    owner = held.document if held else {}
    raise RunError(
        f"run {owner.get('run_id', 'unknown')} (process {owner.get('process', 'unknown')} on "
        f"{owner.get('host', 'unknown')}) is writing to {output}; wait for it, or choose another "
        f"--output. If it is dead, go on with it by --run_id={owner.get('run_id', 'unknown')}, or "
        f"free the warehouse: gcloud storage rm {output}/{_LOCK}"
    )


def _is_free(lease: Document, run_id: str, now: dt.datetime) -> bool:
    return lease["run_id"] == run_id or dt.datetime.fromisoformat(lease["until"]) < now


def release(output: str, run_id: str) -> None:
    """Give the warehouse back, if this run holds it."""
    folder = Folder(output)
    held = folder.read(_LOCK)
    if held is not None and held.document["run_id"] == run_id:
        folder.delete([_LOCK])


def staging_folder(output: str, run_id: str) -> str:
    """Where a run writes its tables."""
    return f"{output}/{RUNS}/{run_id}"


def prepare(output: str, run_id: str) -> str:
    """Clear what dead runs left, and give the staging folder of this one.

    A run that passed its audit and was not published stays for seven days, to be resumed.
    """
    folder = Folder(output)
    current = folder.read(MANIFEST)
    objects = folder.list(f"{RUNS}/")
    oldest = dt.datetime.now(dt.UTC) - _RESUMABLE
    waiting = {
        name.removesuffix(MANIFEST)
        for name, written in objects.items()
        if name.endswith(f"/{MANIFEST}") and written > oldest
    }
    _sweep(folder, objects, current.document if current else None, tuple(waiting))
    return staging_folder(output, run_id)


@contextmanager
def workspace(
    output: str, run_id: str, *, spill: bool, hand_over: bool
) -> Iterator[tuple[str, str | None]]:
    """Hold the warehouse for a run; give its staging folder and, where asked for, a spill folder.

    The spill folder is on the local disk, and gone after the block, however it ends.

    Args:
        output: The warehouse.
        run_id: The run.
        spill: Make a spill folder.
        hand_over: After the block the run goes on elsewhere, and gives the warehouse back itself.

    Raises:
        RunError: Another run is at work there.
    """
    acquire(output, run_id)
    handed_over = False
    try:
        with spill_folder() if spill else nullcontext() as folder:
            yield prepare(output, run_id), None if folder is None else str(folder)
        handed_over = hand_over
    finally:
        if not handed_over:
            with suppress(RunError):  # the run's own error matters more; the lease runs out
                release(output, run_id)


@contextmanager
def spill_folder() -> Iterator[Path]:
    """Make a local folder for frames that cross a shuffle; it goes away with the block.

    Those of runs that were killed are removed first.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{_SPILL_PREFIX}*"):
        with suppress(RunError, OSError), local.locked(left):
            rmtree(left)
    folder = Path(tempfile.mkdtemp(prefix=_SPILL_PREFIX))
    with local.locked(folder):
        try:
            yield folder
        finally:
            rmtree(folder, ignore_errors=True)


def audited(output: str, run_id: str) -> Document | None:
    """The manifest of a run that has passed its audit; None where it has not."""
    stored = Folder(output).read(f"{RUNS}/{run_id}/{MANIFEST}")
    return None if stored is None else stored.document


def record_audited(
    output: str, run_id: str, manifest: Document, files: Sequence[StagedFile]
) -> Document:
    """Write the manifest of a run that has passed its audit.

    Args:
        output: The warehouse.
        run_id: The run.
        manifest: What is to be said of the run.
        files: Its staged files; others in its folder are of failed attempts.

    Returns:
        The run's manifest: this one, or that of an earlier attempt, which then counts. `tables`
        gives each table's files, within `output`; `rows` its rows.
    """
    tables: dict[str, list[str]] = {table.name: [] for table in TABLES}
    rows = dict.fromkeys(tables, 0)
    for file in files:
        tables[file.table].append(file.path.removeprefix(f"{output}/"))
        rows[file.table] += file.rows
    document = manifest | {"tables": tables, "rows": rows}
    folder = Folder(output)
    name = f"{RUNS}/{run_id}/{MANIFEST}"
    if folder.write(name, document, ABSENT):
        return document
    stored = folder.read(name)
    return document if stored is None else stored.document


def require_newest(output: str, manifest: Document) -> None:
    """Check that no newer run is published: publishing an older one would turn the tables back.

    Raises:
        RunError: There is a newer one.
    """
    current = Folder(output).read(MANIFEST)
    if current is not None:
        _require_newer(current.document, manifest)


def _require_newer(current: Document, manifest: Document) -> None:
    if current["run_id"] != manifest["run_id"] and current["finished_at"] > manifest["finished_at"]:
        raise RunError(
            f"run {current['run_id']} is newer than {manifest['run_id']} and already published; "
            "to publish this input, run again without --run_id"
        )


def publish(output: str, manifest: Document, *, keep_staging: bool) -> None:
    """Make a run that has passed its audit the current state; done already, it changes nothing.

    Args:
        output: The warehouse.
        manifest: The run's manifest.
        keep_staging: Keep the files of its failed attempts.

    Raises:
        RunError: A newer run is published, or the bucket cannot be written.
    """
    folder = Folder(output)
    current = folder.read(MANIFEST)
    before = current.document if current else None
    if before is None or before["run_id"] != manifest["run_id"]:
        if before is not None:
            _require_newer(before, manifest)
        after = _state(manifest, before)
        if not folder.write(MANIFEST, after, current.generation if current else ABSENT):
            raise RunError(
                f"{output}/{MANIFEST} was replaced by another run meanwhile; nothing of run "
                f"{manifest['run_id']} is visible there. Run again."
            )
        before = after
    if not keep_staging:
        _sweep(folder, folder.list(f"{RUNS}/"), before, ())


def _state(manifest: Document, before: Document | None) -> Document:
    """The current state after a publication: the run's tables, and what it appends to."""
    own = f"{RUNS}/{manifest['run_id']}/"
    tables = {name: list(files) for name, files in manifest["tables"].items()}
    if before is not None:
        for table in TABLES:
            if table.appended:
                earlier = before["tables"].get(table.name, [])
                tables[table.name] += [name for name in earlier if not name.startswith(own)]
    return manifest | {
        "tables": tables,
        "published_at": dt.datetime.now(dt.UTC).isoformat(),
        "previous_run_id": None if before is None else before["run_id"],
    }


def _sweep(
    folder: Folder,
    objects: Iterable[str],
    current: Document | None,
    waiting: tuple[str, ...],
) -> None:
    """Delete what belongs to no state that is read, and to no run that waits to be published."""
    kept = waiting
    named: set[str] = set()
    if current is not None:
        named = {name for files in current["tables"].values() for name in files}
        named |= {f"{RUNS}/{current['run_id']}/{name}" for name in (MANIFEST, REPORT)}
        kept += (f"{RUNS}/{current['previous_run_id']}/",)
    folder.delete(name for name in objects if name not in named and not name.startswith(kept))


def is_current(output: str, run_id: str) -> bool:
    """True where the current state is of this run."""
    current = Folder(output).read(MANIFEST)
    return current is not None and current.document["run_id"] == run_id


def table_files(output: str, table: Table) -> list[str]:
    """The gs:// paths of a table's files in the current state."""
    current = Folder(output).read(MANIFEST)
    if current is None:
        return []
    return [f"{output}/{name}" for name in current.document["tables"].get(table.name, [])]


def read_table(output: str, table: Table) -> pl.DataFrame:
    """Read a table of the current state; a small one."""
    frames = []
    for path in table_files(output, table):
        with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            frames.append(pl.read_parquet(io.BytesIO(file.read())).cast(table.polars_schema()))
    return pl.concat([table.empty_frame(), *frames])
