"""The warehouse in a bucket: published by swapping one small object, or not at all.

    OUTPUT/_runs/RUN_ID/TABLE/*.parquet   the tables of a run, written where they stay
    OUTPUT/_runs/RUN_ID/manifest.json     written once the run has passed its audit: from then on
                                          it can be published, also by a later process
    OUTPUT/manifest.json                  the current state: the files of every table
    OUTPUT/_lock                          the run at work

A bucket cannot rename a folder in one step, so nothing is moved: a reader takes the names of the
files from `OUTPUT/manifest.json`, which is replaced in one step, last. The state before the current
one is kept until the next publication, for readers that are still at its files. An appended table
keeps its earlier runs' files where those runs wrote them; files of an earlier version, whose
columns were others, are written anew by the run that finds them.

BigQuery, where asked for, is published first: what fails there leaves the bucket's state the last
good one.
"""

from __future__ import annotations

import datetime as dt
import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from transforms.errors import RunError
from transforms.schema import PIPELINE_RUNS, TABLES, Table
from transforms.warehouse import bigquery, lease, local
from transforms.warehouse.base import (
    MANIFEST,
    REPORT,
    RUNS,
    Document,
    KnownRun,
    State,
    Workspace,
    appended_columns,
    is_of_a_run,
    require_manifest,
    require_written,
    tables_of,
)
from transforms.warehouse.evolution import is_of_today, read_as_of_today
from transforms.warehouse.gcs import ABSENT, Folder, Listed, Stored
from transforms.warehouse.staging import StagedFile, stage
from transforms.warehouse.temporary import held, sweep

_RESUMABLE: Final = dt.timedelta(days=7)
"""How long the files of a run that was not published wait for it to be resumed."""


_SPILL_PREFIX: Final = "estore-analytics-spill-"


@dataclass(frozen=True)
class BucketWarehouse:
    """A gs:// folder as a warehouse, and a BigQuery dataset beside it.

    Attributes:
        output: Its path.
        bigquery_dataset: `project.dataset` that runs are published to as well, or None.
        keep_staging: Keep staging tables and the files of failed attempts.
    """

    output: str
    bigquery_dataset: str | None = None
    keep_staging: bool = False

    @property
    def _folder(self) -> Folder:
        return Folder(self.output)

    def check(self) -> None:
        """See that no state there is of a time to come: every run would count as older.

        Raises:
            RunError: One is.
        """
        current = self._read(MANIFEST)
        if current is not None and _finished_at(current.document) > dt.datetime.now(dt.UTC):
            raise RunError(_from_the_future(self.output, current.document))
        if self.bigquery_dataset is not None:
            bigquery.require_past(self.bigquery_dataset)

    @contextmanager
    def workspace(
        self, run_id: str, *, spill: bool, hand_over: bool = False
    ) -> Iterator[Workspace]:
        """Hold the warehouse for a run; see `Warehouse.workspace`.

        The spill folder is on the local disk.
        """
        lease.acquire(self.output, run_id)
        work = Workspace(self._staging(run_id), None)
        is_handed_over = False
        try:
            with lease.kept(self.output, run_id), spill_folder() if spill else nullcontext() as own:
                self._sweep()
                work.spill = None if own is None else str(own)
                yield work
            is_handed_over = hand_over
        finally:
            if not is_handed_over:
                work.warnings += _attempted(lambda: lease.release(self.output, run_id))

    def renew(self, run_id: str) -> None:
        """Say that a run is still at work; see `Warehouse.renew`."""
        lease.renew(self.output, run_id)

    def release(self, run_id: str) -> None:
        """Give the warehouse back, if this run holds it."""
        lease.release(self.output, run_id)

    # --- What is there

    def _staging(self, run_id: str) -> str:
        return f"{self.output}/{RUNS}/{run_id}"

    def _read(self, name: str) -> Stored | None:
        stored = self._folder.read(name)
        if stored is not None:
            require_manifest(stored.document, f"{self.output}/{name}")
        return stored

    def current(self) -> Document | None:
        """The manifest of the current state; see `Warehouse.current`."""
        stored = self._read(MANIFEST)
        return None if stored is None else stored.document

    def find_run(self, run_id: str) -> KnownRun | None:
        """What is known of a run; see `Warehouse.find_run`."""
        current = self.current()
        shown = None if current is None else current["run_id"]
        manifest = current if shown == run_id else None
        if manifest is None:
            known = local.known_run(self.read_table(PIPELINE_RUNS), run_id, shown)
            if known is not None:
                return known
            manifest = self.audited(run_id)
        if manifest is None:
            return None
        return KnownRun(
            "current" if shown == run_id else "waiting",
            manifest["options"],
            manifest.get("input_fingerprint"),
            shown,
        )

    def audited(self, run_id: str) -> Document | None:
        """The manifest of a run that has passed its audit; None where it has not."""
        stored = self._read(f"{RUNS}/{run_id}/{MANIFEST}")
        return None if stored is None else stored.document

    def state(self) -> State | None:
        """The files that the manifest of the current state names."""
        current = self.current()
        if current is None:
            return None
        named = current["tables"]
        return State(
            current["run_id"],
            {
                table.name: [f"{self.output}/{name}" for name in named.get(table.name, ())]
                for table in TABLES
            },
        )

    def read_table(self, table: Table) -> pl.DataFrame:
        """Read a table of the current state; a small one."""
        state = self.state()
        paths = () if state is None else state.files[table.name]
        return pl.concat([table.empty_frame(), *(_read_file(path, table) for path in paths)])

    # --- Publication

    def record(self, manifest: Document, files: Sequence[StagedFile]) -> Document:
        """Write the manifest of a run that has passed its audit; see `Warehouse.record`.

        `tables` gives each table's files, within the output; `rows` its rows. `computation` names
        these rows rather than the run: jobs and staging tables of BigQuery are called by it, and
        can never be those of another computation under the same run id.
        """
        run_id = manifest["run_id"]
        staging, folder = self._staging(run_id), self._folder
        filled = {file.table for file in files}
        files = [
            *files,
            *(
                stage(table.empty_frame(), table, staging)
                for table in tables_of(manifest)
                if table.name not in filled
            ),
        ]
        there = folder.list(f"{RUNS}/{run_id}/")
        require_written(files, {f"{self.output}/{name}": at.size for name, at in there.items()})
        tables: dict[str, list[str]] = {table.name: [] for table in tables_of(manifest)}
        rows = dict.fromkeys(tables, 0)
        for file in files:
            tables[file.table].append(file.path.removeprefix(f"{self.output}/"))
            rows[file.table] += file.rows
        document = manifest | {
            "computation": f"{run_id}_{secrets.token_hex(4)}",
            "tables": tables,
            "rows": rows,
            "columns": appended_columns(),
        }
        if not folder.write(f"{RUNS}/{run_id}/{MANIFEST}", document, ABSENT):
            return self.audited(run_id) or document
        return document

    def publish(self, manifest: Document) -> list[str]:
        """Make an audited run the current state; see `Warehouse.publish`.

        Done in part, it does the rest. It takes the warehouse again, and gives it back: the process
        that took it may be gone, and its lease run out. An attempt that comes after another one was
        through finds that out before it takes anything.
        """
        run_id = manifest["run_id"]
        if self._is_published(manifest):
            return []
        lease.acquire(self.output, run_id)
        warnings = []
        with lease.kept(self.output, run_id):
            self._require_newest(self.current(), manifest)
            if self.bigquery_dataset is not None:
                warnings += bigquery.publish(
                    self.bigquery_dataset, self.output, manifest, keep_staging=self.keep_staging
                )
            self._replace_state(manifest)
            if not self.keep_staging:
                warnings += _attempted(self._sweep)
            warnings += _attempted(lambda: self._copy_report(run_id))
        return warnings + _attempted(lambda: lease.release(self.output, run_id))

    def _is_published(self, manifest: Document) -> bool:
        """True where another attempt has done all of it; the lease is then not this one's."""
        run_id = manifest["run_id"]
        current = self.current()
        if current is None:
            return False
        if current["run_id"] != run_id:
            known = local.known_run(self.read_table(PIPELINE_RUNS), run_id, current["run_id"])
            return known is not None
        if lease.is_held(self.output, run_id):  # the attempt died before its end
            return False
        dataset = self.bigquery_dataset
        return dataset is None or bigquery.has_published(dataset, self.output, manifest)

    def _require_newest(self, current: Document | None, manifest: Document) -> None:
        """Check that no newer run is published: an older one would turn the tables back.

        Raises:
            RunError: There is a newer one.
        """
        if (
            current is not None
            and current["run_id"] != manifest["run_id"]
            and _finished_at(current) > _finished_at(manifest)
        ):
            raise RunError(
                f"run {current['run_id']} is newer than {manifest['run_id']} and already "
                f"published in {self.output}; to publish this input, run again without --run_id"
            )

    def _replace_state(self, manifest: Document) -> None:
        """Swap the manifest of the current state, unless that is done."""
        stored = self._read(MANIFEST)
        before = None if stored is None else stored.document
        if before is not None and before["run_id"] == manifest["run_id"]:
            return
        self._require_newest(before, manifest)
        after = self._state_after(manifest, before)
        if not self._folder.write(MANIFEST, after, stored.generation if stored else ABSENT):
            raise RunError(
                f"{self.output}/{MANIFEST} was replaced by another run meanwhile; nothing of run "
                f"{manifest['run_id']} is visible there. Run again."
            )

    def _state_after(self, manifest: Document, before: Document | None) -> Document:
        """The current state after a publication: the run's tables, and what it appends to."""
        tables = {name: list(files) for name, files in manifest["tables"].items()}
        for table in TABLES:
            if table.appended and before is not None:
                earlier = before["tables"].get(table.name, [])
                if not is_of_today(before, table):
                    earlier = [self._write_anew(name, table, manifest) for name in earlier]
                tables[table.name] = [*tables.get(table.name, []), *earlier]
        return manifest | {
            "tables": tables,
            "columns": appended_columns(),
            "published_at": dt.datetime.now(dt.UTC).isoformat(),
            "previous_run_id": None if before is None else before["run_id"],
        }

    def _write_anew(self, name: str, table: Table, manifest: Document) -> str:
        """Write a file of an earlier version with today's columns, among the run's; its name."""
        frame = _read_file(f"{self.output}/{name}", table)
        staged = stage(frame, table, self._staging(manifest["run_id"]), is_of_today=False)
        return staged.path.removeprefix(f"{self.output}/")

    def _copy_report(self, run_id: str) -> None:
        """Put a run's report where readers open it; the manifest has named the run already."""
        staged = f"{self._staging(run_id)}/{REPORT}"
        if FileSystems.exists(staged):
            FileSystems.copy([staged], [f"{self.output}/{REPORT}"])

    def _sweep(self) -> None:
        """Delete what belongs to no state that is read, and to no run that waits."""
        folder = self._folder
        current, objects = self.current(), folder.list(f"{RUNS}/")
        folder.delete(_left_over(current, objects))


def _left_over(current: Document | None, objects: Mapping[str, Listed]) -> Iterator[str]:
    """The objects of runs that nobody needs any more.

    A run that passed its audit waits for seven days to be published. A file that is not named as
    this program names them is somebody else's, and stays.

    Args:
        current: The manifest of the current state.
        objects: What is below `RUNS`.
    """
    named: set[str] = set()
    kept = []
    if current is not None:
        named = {name for files in current["tables"].values() for name in files}
        named |= {f"{RUNS}/{current['run_id']}/{name}" for name in (MANIFEST, REPORT)}
        kept = [f"{RUNS}/{current.get('previous_run_id')}/"]
    published = {_run_folder(name) for name in named}
    oldest = dt.datetime.now(dt.UTC) - _RESUMABLE
    for name, listed in objects.items():
        if name.endswith(f"/{MANIFEST}") and listed.written > oldest:
            kept += {_run_folder(name)} - published
    for name in objects:
        is_ours = is_of_a_run(name.removeprefix(f"{RUNS}/"))
        if is_ours and name not in named and _run_folder(name) not in kept:
            yield name


def _run_folder(name: str) -> str:
    """`_runs/RUN_ID/` of the name of an object there."""
    return "/".join(name.split("/")[:2]) + "/"


@contextmanager
def spill_folder() -> Iterator[Path]:
    """Make a local folder for frames that cross a shuffle; it goes away with the block.

    Those of this user's runs that were killed are removed first.
    """
    sweep(_SPILL_PREFIX, is_ours=True)
    with held(Path(tempfile.mkdtemp(prefix=_SPILL_PREFIX))) as folder:
        yield folder


def _attempted(act: Callable[[], Any]) -> list[str]:
    """Do what must not fail a published run; a warning where it failed."""
    try:
        act()
    except (RunError, OSError) as error:
        return [str(error)]
    return []


def _read_file(path: str, table: Table) -> pl.DataFrame:
    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        return read_as_of_today(file.read(), table)


def _finished_at(manifest: Document) -> dt.datetime:
    return dt.datetime.fromisoformat(manifest["finished_at"])


def _from_the_future(output: str, current: Document) -> str:
    path, now = f"{output}/{MANIFEST}", dt.datetime.now(dt.UTC)
    return (
        f"{path}: run {current['run_id']} finished at {current['finished_at']}, which is yet to "
        "come, so every run would count as older than it. If this machine's clock is right "
        f"({now:%Y-%m-%d %H:%M} UTC), the other one was ahead; put the time right: "
        f'gcloud storage cat {path} | sed \'s/"finished_at": "[^"]*"/'
        f'"finished_at": "{now.isoformat()}"/\' | gcloud storage cp - {path}'
    )
