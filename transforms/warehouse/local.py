"""The local warehouse: published in one step, or not at all.

    OUTPUT/_runs/RUN_ID/TABLE/*.parquet     one complete state: tables, warehouse.duckdb, manifest
    OUTPUT/_current -> _runs/RUN_ID         the state that readers see; replaced by one rename
    OUTPUT/TABLE -> _current/TABLE          what readers open, and warehouse.duckdb beside it

A reader sees the last good state or the new one, never a mix, even after a loss of power. The state
before the current one is kept until the next run, for readers that still have its files open.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import duckdb
import polars as pl

from transforms.errors import RunError
from transforms.schema import TABLES, Table
from transforms.warehouse.staging import StagedFile, stage

STAGING: Final = "_staging"


RUNS: Final = "_runs"


CURRENT: Final = "_current"


DATABASE: Final = "warehouse.duckdb"


MANIFEST: Final = "manifest.json"


REPORT: Final = "report.html"


_LOCK: Final = "_lock"

PUBLICATION: Final = threading.Lock()
"""Held while this process publishes a state: a run that is stopped is cleared up before or after.

Which comes first decides: what was cleared up cannot be published, what is published stays.
"""

_CLEARINGS: Final = 20  # workers that a stop overtook may still write for a moment


@contextmanager
def locked(output: Path) -> Iterator[None]:
    """Keep other runs out of a warehouse; the lock goes with the process, however that ends.

    Raises:
        RunError: Another run is at work there.
    """
    output.mkdir(parents=True, exist_ok=True)
    with (output / _LOCK).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise RunError(
                f"another run (process {file.read().strip() or 'unknown'}) is writing to {output}; "
                "wait for it, or choose another --output"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def prepare(output: Path, run_id: str) -> Path:
    """Clear what dead runs left, and make the staging folder of this one.

    Raises:
        RunError: A run of this id is published there, or something else is in the way.
    """
    clear_staging(output)
    if is_current(output, run_id):
        raise RunError(f"run {run_id} is published in {output} already; run again without --run_id")
    for name in (*(table.name for table in TABLES), DATABASE, MANIFEST, REPORT):
        path = output / name
        if path.exists() and not path.is_symlink():
            raise RunError(
                f"{path} is in the way: it was not written by this program. "
                "Move it, or choose another --output."
            )
    staging = output / STAGING / run_id
    for table in TABLES:
        (staging / table.name).mkdir(parents=True)
    return staging


def spill_folder(output: Path) -> Path:
    """Make a folder for frames that cross a shuffle; it goes away with the staging folder."""
    return Path(tempfile.mkdtemp(prefix="_shuffle_", dir=output / STAGING))


def clear_staging(output: Path) -> None:
    """Remove what is staged, spilled or left over; published tables are elsewhere."""
    for _ in range(_CLEARINGS):
        shutil.rmtree(output / STAGING, ignore_errors=True)
        if not (output / STAGING).exists():
            break


@contextmanager
def workspace(output: Path, run_id: str, *, spill: bool) -> Iterator[tuple[str, str | None]]:
    """Hold the warehouse for a run; give its staging folder and, where asked for, a spill folder.

    Both are gone after the block, however it ends.

    Raises:
        RunError: Another run is at work there, or something is in the way.
    """
    with locked(output):
        staging = prepare(output, run_id)
        try:
            yield str(staging), str(spill_folder(output)) if spill else None
        finally:
            with PUBLICATION:
                clear_staging(output)


def is_current(output: Path, run_id: str) -> bool:
    """True where the current state is of this run."""
    return _target(output / CURRENT) == f"{RUNS}/{run_id}"


def read_table(output: Path, table: Table) -> pl.DataFrame:
    """Read a table of the current state; a small one."""
    return pl.read_parquet(output / table.name / "*.parquet")


def publish(output: Path, run_id: str, files: Sequence[StagedFile], manifest: Any) -> None:
    """Make a staged run the current state.

    Args:
        output: The warehouse.
        run_id: The run.
        files: Its staged files; others in its staging folder are of failed attempts.
        manifest: What the manifest is to say, JSON.
    """
    staging = output / STAGING / run_id
    for table in TABLES:
        _complete_folder(output, run_id, table, {Path(file.path).name for file in files})
    (staging / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    run = output / RUNS / run_id
    run.parent.mkdir(exist_ok=True)
    shutil.rmtree(run, ignore_errors=True)
    staging.rename(run)
    _make_database(output, run_id)
    # Were the link on the disk before what it points to, a loss of power would leave neither state.
    for path in (*run.rglob("*"), run, run.parent):
        _write_through(path)
    previous = _target(output / CURRENT)
    _point(output / CURRENT, f"{RUNS}/{run_id}")
    names = [table.name for table in TABLES] + [DATABASE, MANIFEST]
    for name in names + ([REPORT] if (run / REPORT).exists() else []):
        if _target(output / name) != f"{CURRENT}/{name}":
            _point(output / name, f"{CURRENT}/{name}")
    _write_through(output)  # or the link on the disk could lead to a run that goes now
    for old in run.parent.iterdir():
        if old.name != run_id and f"{RUNS}/{old.name}" != previous:
            shutil.rmtree(old)


def _complete_folder(output: Path, run_id: str, table: Table, named: set[str]) -> None:
    """Leave in a table's staging folder what belongs to the new state, and nothing else."""
    folder = output / STAGING / run_id / table.name
    for path in folder.iterdir():
        if path.name in named:
            if table.appended:
                path.rename(folder / f"{run_id}_{path.name}")
        else:
            path.unlink()
    if table.appended and (output / CURRENT / table.name).is_dir():
        for path in (output / CURRENT / table.name).iterdir():
            if not path.name.startswith(f"{run_id}_"):
                os.link(path, folder / path.name)
    if not any(folder.iterdir()):
        stage(table.empty_frame(), table, str(folder.parent))


def _make_database(output: Path, run_id: str) -> None:
    """Write the DuckDB file of a run: tables for what is small, views for what is large.

    The views' paths are relative to the warehouse, so that it can be moved.
    """
    with duckdb.connect(str(output / RUNS / run_id / DATABASE)) as connection:
        connection.execute("SET file_search_path = ?", [str(output)])
        connection.begin()  # or every comment would wait for the disk
        for table in TABLES:
            kind = "VIEW" if table.large else "TABLE"
            connection.execute(
                f"CREATE {kind} {table.name} AS "  # noqa: S608 - names of our own schema
                f"SELECT * FROM read_parquet('{RUNS}/{run_id}/{table.name}/*.parquet')"
            )
            connection.execute(f"COMMENT ON {kind} {table.name} IS {_quoted(table.grain)}")
            for column in table.columns:
                connection.execute(
                    f"COMMENT ON COLUMN {table.name}.{column.name} IS {_quoted(column.description)}"
                )
        connection.commit()


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
