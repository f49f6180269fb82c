"""What a warehouse is, wherever it stands: a folder or a bucket."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

import polars as pl

from transforms.errors import RunError
from transforms.schema import PIPELINE_RUNS, TABLES, Table
from transforms.warehouse.staging import FILE_NAME, StagedFile

RUNS: Final = "_runs"


MANIFEST: Final = "manifest.json"


REPORT: Final = "report.html"


DATABASE: Final = "warehouse.duckdb"


_SCHEME: Final = "gs://"


RUN_ID: Final = "[A-Za-z0-9][A-Za-z0-9_-]{0,62}"
"""What a run may be called; the option's pattern says the same."""


_OF_A_RUN: Final = re.compile(
    rf"{RUN_ID}/({re.escape(MANIFEST)}|{re.escape(REPORT)}|{re.escape(DATABASE)}(\.wal)?"
    rf"|[a-z][a-z0-9_]*/{FILE_NAME})"
)


_NAMED: Final = re.compile(rf"{RUNS}/{RUN_ID}/[a-z][a-z0-9_]*/{FILE_NAME}")


Document = dict[str, Any]
"""A manifest, JSON."""


def in_bucket(path: str) -> bool:
    """True for a gs:// path."""
    return path.startswith(_SCHEME)


def is_of_a_run(name: str) -> bool:
    """True for a file that this program writes for a run, by its name below `RUNS`."""
    return _OF_A_RUN.fullmatch(name) is not None


def require_manifest(document: Any, path: str) -> Document:
    """Check that a manifest is one of this program, and names nothing outside its warehouse.

    Args:
        document: What the manifest holds.
        path: Where it is.

    Raises:
        RunError: It is something else.
    """
    problem = None
    if not isinstance(document, dict) or not isinstance(document.get("run_id"), str):
        problem = "does not name a run"
    elif re.fullmatch(RUN_ID, document["run_id"]) is None:
        problem = f"names a run {document['run_id']!r}, which none is called"
    elif not _is_time(document.get("finished_at")):
        problem = "does not say when its run finished"
    elif not isinstance(document.get("input_files", {}), dict):
        problem = "does not say which files its run has read"
    elif not isinstance(document.get("table_rows"), dict):
        problem = "does not say which tables its run made"
    else:
        tables = document.get("tables", {})
        files = list(tables.values()) if isinstance(tables, dict) else [tables]
        if not all(isinstance(names, list) for names in files):
            problem = "does not list the files of its tables"
        else:
            odd = (name for names in files for name in names if not _is_inside(name))
            if (name := next(odd, None)) is not None:
                problem = f"names {name!r}, which is no file of a run in this warehouse"
    if problem is not None:
        raise RunError(
            f"{path} {problem}: it was not written by this program, or is damaged. Nothing was "
            "changed. Move it away, or choose another --output."
        )
    found: Document = document
    return found


def _is_time(text: Any) -> bool:
    try:
        return dt.datetime.fromisoformat(text).tzinfo is not None
    except (TypeError, ValueError):
        return False


def _is_inside(name: Any) -> bool:
    return isinstance(name, str) and _NAMED.fullmatch(name) is not None


@dataclass(frozen=True)
class State:
    """One published state: whoever reads these files reads one run's tables, never a mix.

    Attributes:
        run_id: The run.
        files: The paths of every table's Parquet files, by the table's name.
    """

    run_id: str
    files: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class KnownRun:
    """What a warehouse knows of a run that was named again.

    Attributes:
        status: `waiting` where it passed its audit and is to be published, `current`, or
            `replaced` by a later run.
        options: Its options, as its manifest has them.
        input_fingerprint: Of all that decided its tables; None where an earlier version did not
            keep it.
        current: The run that the warehouse shows; None where there is none.
    """

    status: Literal["waiting", "current", "replaced"]
    options: Mapping[str, Any]
    input_fingerprint: str | None
    current: str | None


@dataclass
class Workspace:
    """What a run works with while it holds its warehouse.

    Attributes:
        staging: Where it writes its tables.
        spill: Folder for frames that cross a shuffle, where one was asked for.
        warnings: Filled when the block ends: what could not be put right after the publication.
    """

    staging: str
    spill: str | None
    warnings: list[str] = field(default_factory=list)


class Warehouse(Protocol):
    """Where a run's tables go: staged first, and after the audit published in one step.

    Attributes:
        output: Its folder, local or gs://.
    """

    @property
    def output(self) -> str:
        """Its folder."""

    def check(self) -> None:
        """See, before any work, whether a run can be published here.

        Raises:
            RunError: It cannot; says what is in the way and how to remove it.
        """

    def workspace(
        self, run_id: str, *, spill: bool, hand_over: bool = False
    ) -> AbstractContextManager[Workspace]:
        """Hold the warehouse for a run; what dead runs left is cleared first.

        Args:
            run_id: The run.
            spill: Make a spill folder; it is gone after the block, however that ends.
            hand_over: After the block the run goes on elsewhere, and gives the warehouse back.

        Raises:
            RunError: Another run is at work there, or something is in the way.
        """

    def renew(self, run_id: str) -> None:
        """Say that a run is still at work.

        Raises:
            RunError: It has lost the warehouse to another.
        """

    def release(self, run_id: str) -> None:
        """Give the warehouse back, if this run holds it."""

    def find_run(self, run_id: str) -> KnownRun | None:
        """What is known of a run; None where it has not passed its audit."""

    def audited(self, run_id: str) -> Document | None:
        """The manifest of a run that has passed its audit and has all its files; or None."""

    def record(self, manifest: Document, files: Sequence[StagedFile]) -> Document:
        """Write the manifest of a run that has passed its audit; from here it can be published.

        Args:
            manifest: What is to be said of the run.
            files: Its staged files; others in its staging folder are of failed attempts.

        Returns:
            The run's manifest: this one, or that of an earlier attempt, which then counts.

        Raises:
            RunError: A staged file is not as it was written.
        """

    def publish(self, manifest: Document) -> list[str]:
        """Make a run that has passed its audit the current state; done already, change nothing.

        Returns:
            Warnings: what went wrong once the run was published, which it stays.

        Raises:
            RunError: It is not published.
        """

    def current(self) -> Document | None:
        """The manifest of the current state; None where there is none."""

    def state(self) -> State | None:
        """The files of the current state, all of one run; None where there is none."""

    def read_table(self, table: Table) -> pl.DataFrame:
        """Read a table of the current state; a small one."""


def require_written(files: Sequence[StagedFile], sizes: Mapping[str, int]) -> None:
    """Check that staged files are all there, as long as they were when they were written.

    Args:
        files: The files.
        sizes: Bytes of what is there, by path.

    Raises:
        RunError: One is gone, or of another length.
    """
    for file in files:
        found = sizes.get(file.path)
        if found != file.size:
            there = "is gone" if found is None else f"has {found:,} bytes"
            raise RunError(
                f"{file.path} {there}, and was written with {file.size:,}; nothing was published. "
                "Run again; if it happens again, check the storage."
            )


def tables_of(manifest: Mapping[str, Any]) -> tuple[Table, ...]:
    """The tables of a run, by its manifest: all but those that it left out."""
    names = {*manifest["table_rows"], PIPELINE_RUNS.name}
    return tuple(table for table in TABLES if table.name in names)


def appended_columns() -> dict[str, list[str]]:
    """The columns of the appended tables, for the manifest: what a later version compares."""
    return {table.name: list(table.column_names) for table in TABLES if table.appended}
