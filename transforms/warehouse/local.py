"""The local warehouse: published in one step, or not at all.

    OUTPUT/_runs/RUN_ID/TABLE/*.parquet     one complete state: tables, warehouse.duckdb, manifest
    OUTPUT/_current -> _runs/RUN_ID         the state that readers see; replaced by one rename
    OUTPUT/TABLE -> _current/TABLE          what readers open, and warehouse.duckdb beside it
    OUTPUT/_staging, OUTPUT/_lock           the run at work

A reader sees the last good state or the new one, even after a loss of power. The state before the
current one is kept until the next publication, for readers that still have its files open. Who
reads several files in turn follows `_current` once (`read_state`), or opens warehouse.duckdb.

Everything here belongs to one user. What another one made, or what is no file of this program, is
in the way: it is named, and never touched.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import duckdb
import polars as pl

from transforms.errors import RunError
from transforms.owned_files import no_follow, own_user, require_own
from transforms.schema import PIPELINE_RUNS, TABLES, Column, ColumnType, Table
from transforms.warehouse.base import (
    DATABASE,
    MANIFEST,
    REPORT,
    RUN_ID,
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
from transforms.warehouse.staging import StagedFile, stage

STAGING: Final = "_staging"


CURRENT: Final = "_current"


LOCK: Final = "_lock"


_SPILL_PREFIX: Final = "_shuffle_"


_SPILLED: Final = re.compile(rf"{_SPILL_PREFIX}[A-Za-z0-9_]+/[0-9a-f-]+\.(frames|progress)")


_A_RUN: Final = re.compile(rf"{RUNS}/({RUN_ID})")


_PUBLICATION: Final = threading.Lock()
"""Held while this process publishes a state: a run that is stopped is cleared up before or after.

Which comes first decides: what was cleared up cannot be published, what is published stays.
"""


_CLEARINGS: Final = 20  # workers that a stop overtook may still write for a moment


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder; the lock goes with the process, however that ends.

    Raises:
        RunError: Another run is at work there, or the lock is not one of this user.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    require_own(path, own_user(folder))
    with open(path, "rb+", buffering=0, opener=_made) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            process = file.read(20).decode(errors="replace").strip() or "unknown"
            raise RunError(
                f"another run (process {process}) is writing to {folder}; "
                "wait for it, or choose another --output"
            ) from error
        file.truncate(0)
        with suppress(OSError):  # it only informs, and a full disk is about to be cleared
            file.write(str(os.getpid()).encode())
        yield


def _made(path: str, flags: int) -> int:
    return no_follow(path, flags | os.O_CREAT)


@dataclass(frozen=True)
class LocalWarehouse:
    """A folder as a warehouse.

    Attributes:
        output: Its path.
    """

    output: str

    @property
    def _root(self) -> Path:
        return Path(self.output)

    @property
    def _runs(self) -> Path:
        return self._root / RUNS

    def check(self) -> None:
        """Make the folder, if need be; see that nothing is in the way there.

        Raises:
            RunError: Something is.
        """
        self._root.mkdir(parents=True, exist_ok=True)
        user = own_user(self._root)
        for name in (STAGING, RUNS, LOCK):
            require_own(self._root / name, user)
        for name in (*(table.name for table in TABLES), DATABASE, MANIFEST, REPORT):
            path = self._root / name
            if path.exists() and not path.is_symlink():
                raise _in_the_way(path)
        if (self._root / CURRENT).exists() and self._current_id() is None:
            raise _in_the_way(self._root / CURRENT)
        for folder in (STAGING, RUNS):
            if (foreign := next(_foreign(self._root / folder), None)) is not None:
                raise _in_the_way(foreign)

    @contextmanager
    def workspace(
        self, run_id: str, *, spill: bool, hand_over: bool = False
    ) -> Iterator[Workspace]:
        """Hold the warehouse for a run; see `Warehouse.workspace`. It cannot be handed over."""
        del hand_over
        with locked(self._root):
            self.check()
            for problem in self._clear():
                raise RunError(problem)
            (self._root / STAGING).mkdir(mode=0o700)
            staging = self._root / STAGING / run_id
            for table in TABLES:
                (staging / table.name).mkdir(parents=True)
            folder = self._spill_folder() if spill else None
            work = Workspace(str(staging), folder)
            try:
                yield work
            finally:
                with _PUBLICATION:
                    work.warnings += self._tidy() if self._is_current(run_id) else self._clear()

    def _spill_folder(self) -> str:
        return tempfile.mkdtemp(prefix=_SPILL_PREFIX, dir=self._root / STAGING)

    def renew(self, run_id: str) -> None:
        """Nothing: the lock is this process's for as long as it lives."""

    def release(self, run_id: str) -> None:
        """Nothing: the lock goes with the workspace."""

    # --- What is there

    def find_run(self, run_id: str) -> KnownRun | None:
        """What is known of a run; see `Warehouse.find_run`."""
        return known_run(self.read_table(PIPELINE_RUNS), run_id, self._current_id())

    def audited(self, run_id: str) -> Document | None:
        """The manifest of a run that has passed its audit; see `Warehouse.audited`."""
        folder = self._runs if self._is_current(run_id) else self._root / STAGING
        return self._manifest(folder / run_id)

    def state(self) -> State | None:
        """The files of the current state; the link to it is followed once."""
        run_id = self._current_id()
        if run_id is None:
            return None
        run = self._runs / run_id
        return State(
            run_id,
            {
                table.name: [str(path) for path in sorted((run / table.name).glob("*.parquet"))]
                for table in TABLES
            },
        )

    def read_table(self, table: Table) -> pl.DataFrame:
        """Read a table of the current state; a small one."""
        state = self.state()
        paths = () if state is None else state.files[table.name]
        return pl.concat(
            [table.empty_frame(), *(read_as_of_today(Path(path), table) for path in paths)]
        )

    def _current_id(self) -> str | None:
        """The run that the link names; None where there is no such link."""
        found = _A_RUN.fullmatch(_target(self._root / CURRENT) or "")
        return None if found is None else found[1]

    def _is_current(self, run_id: str) -> bool:
        return self._current_id() == run_id

    def _manifest(self, run: Path) -> Document | None:
        path = run / MANIFEST
        try:
            with open(path, encoding="utf-8", opener=no_follow) as file:
                document = json.load(file)
        except FileNotFoundError:
            return None
        except ValueError:
            document = None
        return require_manifest(document, str(path))

    def current(self) -> Document | None:
        """The manifest of the current state; see `Warehouse.current`."""
        run_id = self._current_id()
        return None if run_id is None else self._manifest(self._runs / run_id)

    # --- Publication

    def record(self, manifest: Document, files: Sequence[StagedFile]) -> Document:
        """Complete the staged tables and write the manifest; see `Warehouse.record`."""
        with _PUBLICATION:  # or what is cleared up meanwhile would be missing in the state
            return self._record(manifest, files)

    def _record(self, manifest: Document, files: Sequence[StagedFile]) -> Document:
        staging = self._root / STAGING / manifest["run_id"]
        require_written(
            files,
            {str(path): path.stat().st_size for path in staging.glob("*/*.parquet")},
        )
        before = self.current()
        tables = tables_of(manifest)
        for name in {table.name for table in TABLES} - {table.name for table in tables}:
            (staging / name).rmdir()
        for table in tables:
            named = {Path(file.path).name for file in files if file.table == table.name}
            self._complete_folder(manifest["run_id"], table, named, before)
        document = manifest | {
            "previous_run_id": None if before is None else before["run_id"],
            "files": [f"{file.table}/{Path(file.path).name}" for file in files],
            "columns": appended_columns(),
        }
        (staging / MANIFEST).write_text(json.dumps(document, indent=2) + "\n")
        return document

    def _complete_folder(
        self, run_id: str, table: Table, named: set[str], before: Mapping[str, object] | None
    ) -> None:
        """Leave in a table's staging folder what belongs to the new state, and nothing else."""
        folder = self._root / STAGING / run_id / table.name
        for path in folder.iterdir():
            if path.name not in named:
                path.unlink()
            elif table.appended:
                path.rename(folder / f"{run_id}_{path.name}")
        if table.appended and before is not None:
            for path in (self._runs / str(before["run_id"]) / table.name).glob("*.parquet"):
                if is_of_today(before, table):
                    os.link(path, folder / path.name)
                else:
                    _stage_anew(path, table, folder.parent)
        if not any(folder.iterdir()):
            stage(table.empty_frame(), table, str(folder.parent))

    def publish(self, manifest: Document) -> list[str]:
        """Make an audited run the current state; see `Warehouse.publish`."""
        run_id = manifest["run_id"]
        with _PUBLICATION:
            if self._is_current(run_id):
                return []
            run = self._runs / run_id
            self._runs.mkdir(exist_ok=True)
            shutil.rmtree(run, ignore_errors=True)
            (self._root / STAGING / run_id).rename(run)
            _make_database(self._root, run_id, tables_of(manifest))
            # Were the link on the disk before what it points to, a loss of power would leave
            # neither state.
            for path in (*run.rglob("*"), run, self._runs):
                _write_through(path)
            _point(self._root / CURRENT, f"{RUNS}/{run_id}")
            return self._tidy()

    def _tidy(self) -> list[str]:
        """What is left to do once a run is published; warnings, because it stays published."""
        current = self._root / CURRENT
        names = [*(table.name for table in TABLES), DATABASE, MANIFEST, REPORT]
        try:
            for name in names:
                is_linked = _target(self._root / name) == f"{CURRENT}/{name}"
                if (current / name).exists() and not is_linked:
                    _point(self._root / name, f"{CURRENT}/{name}")
                elif is_linked and not (current / name).exists():  # a table that is left out
                    (self._root / name).unlink()
            _write_through(self._root)  # or the link on the disk could lead to a run that goes now
        except OSError as error:
            return [f"{error.filename or self._root} cannot be written ({error.strerror or error})"]
        return self._clear()

    def _clear(self) -> list[str]:
        """Remove what is staged, spilled or left over by dead runs; what could not be removed."""
        try:
            manifest = self.current() or {}
        except (OSError, RunError) as error:
            return [str(error)]
        kept = {manifest.get("run_id"), manifest.get("previous_run_id")}
        problems = _remove(self._root / STAGING)
        if self._runs.is_dir():
            for run in sorted(self._runs.iterdir()):
                if run.name not in kept:
                    problems += _remove(run, RUNS)
        return problems


def known_run(runs: pl.DataFrame, run_id: str, current: str | None) -> KnownRun | None:
    """What the rows of pipeline_runs say of a run.

    Args:
        runs: Rows of the current state.
        run_id: The run.
        current: The run that the state is of.
    """
    found = runs.filter(run_id=run_id)
    if not found.height:
        return None
    row = found.row(0, named=True)
    status: Literal["current", "replaced"] = "current" if run_id == current else "replaced"
    return KnownRun(status, json.loads(row["options"]), row["input_fingerprint"], current)


def _in_the_way(path: Path) -> RunError:
    return RunError(
        f"{path} is in the way: it was not written by this program. "
        "Move it, or choose another --output."
    )


def _foreign(folder: Path, top: str | None = None) -> Iterator[Path]:
    """What lies in `_staging` or `_runs`, or in a part of it, and is not of this program.

    Args:
        folder: The folder.
        top: The name of `_staging` or `_runs`, where the folder is a part of it.
    """
    root = folder if top is None else folder.parent
    if not folder.is_dir():
        return
    user = own_user(root)
    for where, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(where) / name
            found = path.lstat()
            if found.st_uid != user or not (
                stat.S_ISDIR(found.st_mode)
                or (stat.S_ISREG(found.st_mode) and _is_ours(str(path.relative_to(root))))
            ):
                yield path


def _is_ours(name: str) -> bool:
    return is_of_a_run(name) or _SPILLED.fullmatch(name) is not None


def _remove(folder: Path, top: str | None = None) -> list[str]:
    """Remove a folder of this program; what stays, and why."""
    try:
        foreign = next(_foreign(folder, top), None)
        if foreign is not None:
            return [str(_in_the_way(foreign))]
        for attempt in range(_CLEARINGS):
            if not folder.is_dir():
                break
            shutil.rmtree(folder, ignore_errors=attempt < _CLEARINGS - 1)
    except OSError as error:
        return [f"{error.filename or folder} cannot be removed ({error.strerror or error})"]
    return []


def _stage_anew(path: Path, table: Table, directory: Path) -> None:
    """Write a file of an earlier version with today's columns, under its own name."""
    frame = read_as_of_today(path, table)
    staged = stage(frame, table, str(directory), is_of_today=False)
    Path(staged.path).rename(directory / table.name / path.name)


def _make_database(output: Path, run_id: str, tables: Sequence[Table]) -> None:
    """Write the DuckDB file of a run: tables for what is small, views for what is large.

    The views' paths are relative to the warehouse, so that it can be moved. Times are TIMESTAMP, in
    UTC: a TIMESTAMPTZ is shown in the time zone of who looks, where it can disagree with the date
    beside it, which is of UTC.
    """
    with duckdb.connect(str(output / RUNS / run_id / DATABASE)) as connection:
        connection.execute("SET file_search_path = ?", [str(output)])
        connection.begin()  # or every comment would wait for the disk
        for table in tables:
            kind = "VIEW" if table.large else "TABLE"
            columns = ", ".join(map(_in_utc, table.columns))
            connection.execute(
                f"CREATE {kind} {table.name} AS "  # noqa: S608 - names of our own schema
                f"SELECT {columns} FROM read_parquet('{RUNS}/{run_id}/{table.name}/*.parquet')"
            )
            connection.execute(f"COMMENT ON {kind} {table.name} IS {_quoted(table.grain)}")
            for column in table.columns:
                connection.execute(
                    f"COMMENT ON COLUMN {table.name}.{column.name} IS {_quoted(column.description)}"
                )
        connection.commit()


def _in_utc(column: Column) -> str:
    """A column as the DuckDB file has it; this way costs a fraction of AT TIME ZONE."""
    if column.type is not ColumnType.TIMESTAMP:
        return column.name
    return f"make_timestamp(epoch_us({column.name})) AS {column.name}"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _write_through(path: Path) -> None:
    """Wait until a file, or what a folder lists, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _target(link: Path) -> str | None:
    return str(link.readlink()) if link.is_symlink() else None


def _point(link: Path, target: str) -> None:
    """Make or replace a symbolic link in one step."""
    new = link.with_name(f".{link.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    new.replace(link)
