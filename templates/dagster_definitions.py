# ruff: noqa: INP001 - a file for a code location, in no package
"""The customer analytics job as Dagster assets, for a team that has Dagster.

The program is installed beside Dagster. `CUSTOMER_ANALYTICS_ARGUMENTS` holds the command line of
`customer-analytics`: input, output and whatever else it takes. The sensor asks for a run where the
input is not what is published. Each table is an asset, with a check that tells what data_quality
says of it.
"""

from __future__ import annotations

import datetime as dt
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator

import dagster as dg
import polars as pl

from pipelines import preflight, resuming
from pipelines.options import RunOptions, parse_arguments
from transforms.ingest.fingerprint import file_states
from transforms.schema import TABLES, TABLES_BY_NAME
from transforms.warehouse import open_warehouse

CHECK = "data_quality"


def arguments() -> list[str]:
    """The command line, without the program."""
    return shlex.split(os.environ["CUSTOMER_ANALYTICS_ARGUMENTS"])


def fingerprint(options: RunOptions) -> str:
    """What a run of now would publish: the same text as long as nothing is new."""
    return resuming.fingerprint_of(options, file_states(preflight.find_inputs(options)))


@dg.multi_asset(
    name="customer_analytics",
    specs=[
        dg.AssetSpec(table.name, description=table.grain, group_name="customer_analytics")
        for table in TABLES
    ],
    check_specs=[dg.AssetCheckSpec(CHECK, asset=table.name) for table in TABLES],
)
def customer_analytics() -> Iterator[dg.MaterializeResult]:
    """All tables, published together; where nothing is new, those that are published."""
    subprocess.run(  # noqa: S603 - the command line of who sets this up
        [sys.executable, "-m", "pipelines.customer_analytics", *arguments(), "--if_changed"],
        check=True,
    )
    options, _ = parse_arguments(arguments())
    warehouse = open_warehouse(options.output, options.bigquery_dataset)
    current = warehouse.current()
    if current is None:
        raise dg.Failure(f"{options.output} was emptied while it was read")
    checks = warehouse.read_table(TABLES_BY_NAME["data_quality"]).filter(run_id=current["run_id"])
    for table in TABLES:
        failed = checks.filter(~pl.col("passed"), table_name=table.name)
        yield dg.MaterializeResult(
            asset_key=table.name,
            metadata={"run_id": current["run_id"]},
            check_results=[
                dg.AssetCheckResult(
                    asset_key=table.name,
                    check_name=CHECK,
                    passed=failed.is_empty(),
                    severity=dg.AssetCheckSeverity.WARN,  # an error is not published
                    metadata=dict(failed.select("check_name", "failing_rows").iter_rows()),
                )
            ],
        )


job = dg.define_asset_job("customer_analytics_job", [customer_analytics])


@dg.sensor(job=job, minimum_interval_seconds=300)
def input_changed(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Ask for a run where the input is not what is published, once a day for the same input.

    It keeps no cursor: what is published is compared, so the file of a run that failed is never
    skipped; and a run that takes longer than the interval is not asked for twice.
    """
    options, _ = parse_arguments(arguments())
    now = fingerprint(options)
    warehouse = open_warehouse(options.output, options.bigquery_dataset)
    published = resuming.unchanged_state(warehouse, options, now)
    if published is not None:
        return dg.SkipReason(f"nothing new since {published['run_id']}")
    filters = dg.RunsFilter(
        job_name=job.name,
        statuses=[
            dg.DagsterRunStatus.QUEUED,
            dg.DagsterRunStatus.NOT_STARTED,
            dg.DagsterRunStatus.STARTING,
            dg.DagsterRunStatus.STARTED,
        ],
    )
    if context.instance.get_runs(filters, limit=1):
        return dg.SkipReason("a run is at work")
    return dg.RunRequest(run_key=f"{now} {dt.datetime.now(dt.UTC):%Y-%m-%d}")


definitions = dg.Definitions(assets=[customer_analytics], jobs=[job], sensors=[input_changed])
