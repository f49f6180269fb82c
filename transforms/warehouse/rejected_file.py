"""Rejected rows as a file of their own, for who puts the input right."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final
from uuid import uuid4

import polars as pl
import pyarrow.parquet as pq

from transforms.errors import RunError
from transforms.schema import REJECTED_ROWS

COLUMNS: Final = tuple(name for name in REJECTED_ROWS.column_names if name != "run_id")
"""What the file says of a row: not its run, which need not have been published."""


def write_rejected(frames: Iterable[pl.DataFrame], path: str) -> None:
    """Write rejected rows to a file, CSV or Parquet by its suffix, whole or not at all.

    One frame at a time is held: where all rows are rejected, they may be more than memory holds.

    Args:
        frames: Rows of rejected_rows.
        path: A local file; one that is there is replaced.

    Raises:
        RunError: The file cannot be written.
    """
    target = Path(path)
    part = target.with_name(f".{uuid4().hex}{target.suffix}")
    try:
        (_write_csv if target.suffix.lower() == ".csv" else _write_parquet)(frames, part)
        part.replace(target)
    except OSError as error:
        raise RunError(
            f"--rejected_to: {path} cannot be written ({error.strerror or error}); nothing was "
            "published. Choose another file."
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _write_csv(frames: Iterable[pl.DataFrame], path: Path) -> None:
    with path.open("xb") as file:
        REJECTED_ROWS.empty_frame().select(COLUMNS).write_csv(file)
        for frame in frames:
            frame.select(COLUMNS).write_csv(file, include_header=False)


def _write_parquet(frames: Iterable[pl.DataFrame], path: Path) -> None:
    empty = REJECTED_ROWS.empty_frame().select(COLUMNS)
    with path.open("xb") as file, pq.ParquetWriter(file, empty.to_arrow().schema) as writer:
        for frame in frames:
            writer.write_table(frame.select(COLUMNS).cast(empty.schema).to_arrow())
