"""What a person reads when a local run is done."""

from __future__ import annotations

import json
import shlex
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

from pipelines.options import RunOptions
from transforms import bucket, warehouse
from transforms.quality import DROP_REASONS
from transforms.schema import (
    METRICS_CHURN,
    METRICS_FUNNEL,
    METRICS_USER_SEGMENTS,
    PIPELINE_RUNS,
    Table,
)

_WIDTH = 28


def _rows(output: str, table: Table, **equals: str) -> dict[str, Any] | None:
    """The one row of a published table with these values, or None."""
    if bucket.in_bucket(output):
        frame = bucket.read_table(output, table).filter(**equals)
    else:
        frame = warehouse.read_table(Path(output), table).filter(**equals)
    return frame.row(0, named=True) if frame.height else None


def _line(title: str, value: str, remark: str = "") -> str:
    return f"  {title:<{_WIDTH}}{value:>16}" + (f"   {remark}" if remark else "")


def _share(part: float | None) -> str:
    return "" if part is None else f"{part:.2%}"


def _money(value: Decimal | None) -> str:
    return f"{value or Decimal(0):,.2f}"


def summarize(options: RunOptions, run_id: str, seconds: float) -> str:
    """Describe a published run.

    Args:
        options: Its options.
        run_id: The run, the newest in its warehouse.
        seconds: How long it took.
    """
    output = options.output
    run = _rows(output, PIPELINE_RUNS, run_id=run_id) or {}
    funnel = _rows(output, METRICS_FUNNEL, dimension="overall") or {}
    users = _rows(output, METRICS_USER_SEGMENTS, dimension="overall") or {}
    churn = _rows(output, METRICS_CHURN, metric_level="cohort_overall") or {}
    read = run["rows_read"]
    lines = ["", _line("rows read", f"{read:,}"), _line("kept", f"{run['events_kept']:,}")]
    for reason in DROP_REASONS:
        dropped = run[f"{reason}_rows"]
        lines.append(_line(f"dropped, {reason.replace('_', ' ')}", f"{dropped:,}"))
    reasons = ", ".join(
        f"{reason} {rows:,}" for reason, rows in json.loads(run["rejected_by_reason"]).items()
    )
    lines += [
        _line("rejected", f"{run['rejected_rows']:,}", reasons),
        "",
        _line("sessions", f"{funnel.get('sessions', 0):,}"),
        _line("users", f"{users.get('customers', 0):,}", f"as of {run['as_of']}"),
        _line(
            "conversion",
            _share(funnel.get("conversion_rate")),
            f"{funnel.get('purchases', 0):,} purchases",
        ),
        _line("revenue", _money(funnel.get("revenue"))),
        _line(
            "churn",
            _share(churn.get("churn_rate")) or "unknown",
            f"{churn.get('churned_customers', 0):,} of {churn.get('total_customers', 0):,} "
            "customers whose cohort is complete",
        ),
        "",
        _line("seconds", f"{seconds:,.1f}"),
        _line("events per second", f"{read / seconds:,.0f}"),
        "",
        *_places(options),
        "",
    ]
    return "\n".join(lines)


def _places(options: RunOptions) -> list[str]:
    """Where the tables are, and a query to try."""
    query = (
        "SELECT rfm_segment, customers, revenue, churn_rate FROM {}metrics_rfm_segments "
        "ORDER BY revenue DESC"
    )
    if not bucket.in_bucket(options.output):
        output = Path(options.output)
        lines = [f"  tables    {output}/TABLE/*.parquet, {output / warehouse.DATABASE}"]
        if (output / warehouse.REPORT).exists():
            lines.append(f"  report    {output / warehouse.REPORT}")
        # With the Python that is surely there; DuckDB's own shell is a download of its own.
        show = f"duckdb.connect('{warehouse.DATABASE}').sql('{query.format('')}').show()"
        command = f"cd {shlex.quote(str(output))} && {shlex.quote(sys.executable)}"
        return [*lines, f'  try       {command} -c "import duckdb; {show}"']
    lines = [f"  tables    the files that {options.output}/{warehouse.MANIFEST} names"]
    if options.bigquery_dataset is not None:
        dataset = options.bigquery_dataset
        lines += [
            f"  BigQuery  {dataset}",
            f"  try       bq query --nouse_legacy_sql '{query.format(f'`{dataset}`.')}'",
        ]
    return lines
