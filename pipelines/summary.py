"""What a person reads when a run is done."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from pipelines.metrics import Totals
from pipelines.options import RunOptions
from transforms.audit.balance import DROP_REASONS
from transforms.audit.plausibility import EXPLANATIONS
from transforms.schema import (
    DATA_QUALITY,
    METRICS_CHURN,
    METRICS_FUNNEL,
    PIPELINE_RUNS,
    REJECT_REASONS,
    Table,
)
from transforms.warehouse import in_bucket, open_warehouse
from transforms.warehouse.base import DATABASE, MANIFEST, REPORT

_WIDTH = 28


def _rows(output: str, table: Table, **equals: str) -> dict[str, Any] | None:
    """The one row of a published table with these values, or None."""
    frame = open_warehouse(output).read_table(table).filter(**equals)
    return frame.row(0, named=True) if frame.height else None


def _line(title: str, value: str, remark: str = "") -> str:
    return f"  {title:<{_WIDTH}}{value:>16}" + (f"   {remark}" if remark else "")


def _share(part: float | None) -> str:
    return "" if part is None else f"{part:.2%}"


def _money(value: Decimal | None) -> str:
    return f"{value or Decimal(0):,.2f}"


def _published(run: Mapping[str, Any]) -> dict[str, int]:
    """The row counts of a row of pipeline_runs, by the names of the metrics that count the same."""
    rejected, tables = json.loads(run["rejected_by_reason"]), json.loads(run["table_rows"])
    return {
        "rows_read": run["rows_read"],
        "events_kept": run["events_kept"],
        **{f"rows_dropped_{reason}": run[f"{reason}_rows"] for reason in DROP_REASONS},
        "rows_rejected": run["rejected_rows"],
        **{f"rows_rejected_{reason}": rejected.get(reason, 0) for reason in REJECT_REASONS},
        "sessions": tables["fct_sessions"],
        "users": tables["dim_users"],
    }


def _failed_warnings(output: str, run_id: str) -> list[str]:
    """A line for each check that failed and did not stop the run."""
    checks = open_warehouse(output).read_table(DATA_QUALITY).filter(run_id=run_id, passed=False)
    return [
        _line("warning", f"{rows:,} rows", f"{table}: {check}{_explained(check)}")
        for table, check, rows in checks.sort("table_name", "check_name")
        .select("table_name", "check_name", "failing_rows")
        .iter_rows()
    ]


def _explained(check: str) -> str:
    return f" ({EXPLANATIONS[check]})" if check in EXPLANATIONS else ""


def _work(totals: Totals | None) -> list[str]:
    """What only the engine knows."""
    if totals is None:
        return [_line("MB of CSV parsed", "unknown", "no metrics of the engine are at hand")]
    return [
        _line(title, f"{size / 1e6:,.1f}", f"{msec / 1000:,.1f} seconds of {work}, all workers")
        for title, size, msec, work in (
            ("MB of CSV parsed", totals.csv_bytes_read, totals.parse_msec, "parsing"),
            ("MB shuffled", totals.payload_bytes, totals.shuffle_msec, "cutting and sending"),
        )
    ]


def _difference(counted: Mapping[str, int], published: Mapping[str, int]) -> str | None:
    """A line on the first figure that the engine counted otherwise than it was published."""
    for name, rows in published.items():
        if counted[name] != rows:
            reason = "it repeated work" if counted[name] > rows else "some of its counts were lost"
            return (
                f"  the engine counted {counted[name]:,} {name.replace('_', ' ')} for {rows:,} "
                f"in the tables, because {reason}"
            )
    return None


def summarize(options: RunOptions, run_id: str, seconds: float, totals: Totals | None) -> str:
    """Describe a published run.

    The row counts are those of its metrics. What the run published is exact, and an engine's
    metrics need not be: where they differ, or there are none, the published counts are shown.

    Args:
        options: Its options.
        run_id: The run, the newest in its warehouse.
        seconds: How long it took.
        totals: Its metrics; None where another process computed it, or its engine has none.
    """
    output = options.output
    run = _rows(output, PIPELINE_RUNS, run_id=run_id) or {}
    funnel = _rows(output, METRICS_FUNNEL, dimension="overall") or {}
    churn = _rows(output, METRICS_CHURN, metric_level="cohort_overall") or {}
    published = _published(run)
    counted = published if totals is None else totals.rows
    difference = _difference(counted, published)
    rows = published if difference else counted
    lines = [
        "",
        _line("rows read", f"{rows['rows_read']:,}"),
        _line("kept", f"{rows['events_kept']:,}"),
    ]
    for reason in DROP_REASONS:
        dropped = rows[f"rows_dropped_{reason}"]
        lines.append(_line(f"dropped, {reason.replace('_', ' ')}", f"{dropped:,}"))
    rejected = {reason: rows[f"rows_rejected_{reason}"] for reason in REJECT_REASONS}
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in rejected.items() if count)
    lines += [
        _line("rejected", f"{rows['rows_rejected']:,}", reasons),
        "",
        _line("sessions", f"{rows['sessions']:,}"),
        _line("users", f"{rows['users']:,}", f"as of {run['as_of']}"),
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
        _line("events per second", f"{rows['rows_read'] / seconds:,.0f}"),
        *_work(totals),
        *([difference] if difference else []),
        *_failed_warnings(output, run_id),
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
    if not in_bucket(options.output):
        output = Path(options.output)
        lines = [f"  tables    {output}/TABLE/*.parquet, {output / DATABASE}"]
        if (output / REPORT).exists():
            lines.append(f"  report    {output / REPORT}")
        # With the Python that is surely there; DuckDB's own shell is a download of its own.
        show = f"duckdb.connect('{DATABASE}', read_only=True).sql('{query.format('')}').show()"
        command = f"cd {shlex.quote(str(output))} && {shlex.quote(sys.executable)}"
        return [*lines, f'  try       {command} -c "import duckdb; {show}"']
    lines = [f"  tables    the files that {options.output}/{MANIFEST} names"]
    if options.bigquery_dataset is not None:
        dataset = options.bigquery_dataset
        lines += [
            f"  BigQuery  {dataset}",
            f"  try       bq query --nouse_legacy_sql '{query.format(f'`{dataset}`.')}'",
        ]
    return lines
