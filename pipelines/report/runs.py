"""The run that the report describes."""

import json
from collections.abc import Mapping
from typing import Any

import polars as pl

from pipelines.report.models import Row

_JSON = ("inputs", "rejected_by_reason", "table_rows", "options")


def newest_run(tables: Mapping[str, pl.DataFrame]) -> Row | None:
    """Return the row of the run whose tables these are, its JSON columns parsed; None without runs.

    That is the one published last; where none is said to be published, the one started last.
    """
    runs = tables["pipeline_runs"].sort(
        pl.col("status") == "published", "published_at", "started_at", "run_id"
    )
    if runs.is_empty():
        return None
    run = runs.row(-1, named=True)
    parsed: dict[str, Any] = {name: json.loads(run[name]) for name in _JSON}
    return run | parsed
