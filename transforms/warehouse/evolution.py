"""Rows that an earlier version of this program wrote, under today's schema.

An appended table keeps the files of all its runs. Where its columns have changed since, the files
of earlier runs are written anew at the next publication: a reader finds files of one schema.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from transforms.schema import Table


def is_of_today(manifest: Mapping[str, Any], table: Table) -> bool:
    """Whether the files of an appended table, in a state, all have today's columns."""
    found: bool = manifest.get("columns", {}).get(table.name) == list(table.column_names)
    return found


def read_as_of_today(source: Path | bytes, table: Table) -> pl.DataFrame:
    """Read a Parquet file of any version: a column that it lacks is NULL.

    Args:
        source: The file, or what it holds.
        table: Whose file it is.
    """
    frame = pl.read_parquet(io.BytesIO(source) if isinstance(source, bytes) else source)
    return frame.select(
        (pl.col(name) if name in frame.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in table.polars_schema().items()
    )
