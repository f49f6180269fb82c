"""A publication that dies between any two jobs: the live tables are old, or say what they are."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest
from google.api_core.exceptions import NotFound

from pipelines.customer_analytics import main
from tests.cloud.conftest import (
    BigQueryCloud,
    assert_published,
    audited,
    new_bucket,
    new_warehouse,
    publish,
)
from tests.cloud.proxy import error
from tests.pipelines.running import run
from transforms.errors import RunError
from transforms.rules import HISTORY_GROUP, TABLE_GROUPS
from transforms.schema import METRICS_FUNNEL, REJECTED_ROWS, tables_without
from transforms.warehouse import bigquery, gcs
from transforms.warehouse.bucket import BucketWarehouse
from transforms.warehouse.staging import stage

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(600)]

# Which tables there are decides nothing here; the emulator takes seconds for each job.
GROUPS = ",".join(TABLE_GROUPS)
FEWER = f"--without={GROUPS}"
PUBLISHED = tables_without({*TABLE_GROUPS, HISTORY_GROUP})
REPLACED = [table.name for table in PUBLISHED if not table.appended]
LOADS, COPIES = len(PUBLISHED), len(REPLACED)


@pytest.fixture(scope="module")
def local(tmp_path_factory, events) -> dict[str, pa.Table]:
    """The tables of a local run of `events`."""
    return run([events], tmp_path_factory.mktemp("local"), max_rejected_ratio=0.5, without=GROUPS)


@pytest.fixture(scope="module")
def fewer_events(tmp_path_factory, events) -> Path:
    """Another input, of which every replaced table differs."""
    path = tmp_path_factory.mktemp("events") / "fewer.csv"
    lines = events.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[: len(lines) // 2]))
    return path


@pytest.fixture(scope="module")
def warehouse(objects, queries, fewer_events) -> BigQueryCloud:
    """A dataset with a first run, of `fewer_events`."""
    warehouse = new_warehouse(objects, queries)
    publish(warehouse, audited(warehouse, fewer_events, "old", FEWER))
    return warehouse


State = tuple[dict[str, str], dict[str, str]]
"""What the live tables that a run replaces hold, and the status of every run."""


def live(warehouse: BigQueryCloud) -> State:
    """The state of the dataset."""
    rows = "STRING_AGG(TO_JSON_STRING(t) ORDER BY TO_JSON_STRING(t))"
    selects = [f"SELECT '{name}', {rows} FROM `{{d}}.{name}` t" for name in REPLACED]
    selects.append("SELECT run_id, status FROM `{d}.pipeline_runs`")
    answer = [tuple(row.values()) for row in warehouse.query(" UNION ALL ".join(selects))]
    return (
        {name: value for name, value in answer if name in REPLACED},
        {name: value for name, value in answer if name not in REPLACED},
    )


def current(warehouse: BigQueryCloud) -> str:
    """The run that the bucket's readers see."""
    state = gcs.Folder(warehouse.output).read("manifest.json")
    assert state is not None
    return state.document["run_id"]


def die_after(warehouse: BigQueryCloud, jobs: int) -> None:
    """Let so many new jobs start; then nothing gets through, as if the process were dead."""
    started = 0

    def refuse(request):
        return error(400, "invalid", "dead") if started >= jobs else None

    def note(request, response):
        nonlocal started
        started += bool(request.job_id) and response.status == 200

    warehouse.queries.fault, warehouse.queries.observe = refuse, note


def let_jobs_end(warehouse: BigQueryCloud) -> None:
    """Let requests pass again; wait for what was started, which needs no process to go on."""
    started = set(warehouse.queries.jobs())
    warehouse.queries.reset()
    client = warehouse.client()
    for job_id in started:
        with suppress(NotFound):  # it was asked for, and refused
            client.get_job(job_id).result()


def test_a_publication_that_dies_after_any_job_goes_on(warehouse, events, local):
    old, _ = live(warehouse)
    manifest = audited(warehouse, events, "new", FEWER)
    history = []
    # Neither loads nor copies depend on each other, so not after each.
    copies = (0, 1, COPIES // 2, COPIES - 1, COPIES)
    steps = [after - before for before, after in pairwise(copies)]
    for jobs in (1, LOADS // 2, LOADS - LOADS // 2 - 1, 1, *steps):
        die_after(warehouse, jobs)
        with pytest.raises(RunError, match="goes on from here"):
            publish(warehouse, manifest)
        let_jobs_end(warehouse)
        now, statuses = live(warehouse)
        changed = [name for name in REPLACED if now[name] != old[name]]
        history.append((len(changed), statuses.get("new")))
        assert current(warehouse) == "old"

    assert history == [*[(0, None)] * 3, *((copied, "publishing") for copied in copies)]

    publish(warehouse, manifest)
    attempts = {job.rpartition("_")[2] for job in warehouse.queries.jobs()}
    assert attempts == {"1"}, "a job that was done was done again"
    assert_published(warehouse, local, "new", PUBLISHED)


def kill_at(warehouse: BigQueryCloud, step: str, number: int, command: list[str]) -> None:
    """Run a command; kill it when so many jobs of a step have started."""
    warehouse.queries.reset()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:

        def kill(request, response):
            if f"_{step}_" in request.job_id and len(warehouse.queries.jobs(step)) == number:
                process.send_signal(signal.SIGKILL)
                process.wait()

        warehouse.queries.observe = kill
        _, messages = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, messages.decode()
    let_jobs_end(warehouse)


def test_a_process_that_is_killed_is_taken_up_by_the_next(warehouse, events, local):
    before, others = live(warehouse)
    options = warehouse.arguments(events, "--run_id=killed", "--max_rejected_ratio=0.5", FEWER)
    command = [sys.executable, "-m", "pipelines.customer_analytics", *options]

    kill_at(warehouse, "load", 3, command)
    assert live(warehouse) == (before, others)

    kill_at(warehouse, "copy", 5, command)
    assert live(warehouse)[1] == others | {"killed": "publishing"}

    kill_at(warehouse, "conclude", 1, command)
    assert live(warehouse)[1] == others | {"killed": "published"}
    assert current(warehouse) != "killed"

    assert main(options) == 0
    assert warehouse.queries.jobs() == []
    assert_published(warehouse, local, "killed", PUBLISHED)


def test_a_run_computed_anew_elsewhere_shares_nothing_with_the_first(
    warehouse, fewer_events, events
):
    """The same run id, another output: jobs and staging tables are of the computation."""
    first = audited(warehouse, fewer_events, "twice", FEWER)
    die_after(warehouse, LOADS)  # all is loaded
    with pytest.raises(RunError, match="goes on from here"):
        publish(warehouse, first)
    warehouse.queries.reset()

    elsewhere = replace(warehouse, bucket=new_bucket())
    second = audited(elsewhere, events, "twice", FEWER)
    assert second["rows"] != first["rows"]
    publish(elsewhere, second)
    for name in ("fct_events", "metrics_funnel", "dim_users"):
        (found,) = warehouse.query(f"SELECT COUNT(*) AS n FROM `{{d}}.{name}`")
        assert found["n"] == second["rows"][name], name

    with pytest.raises(RunError, match="another computation of run twice"):
        publish(warehouse, first)
    gcs.Folder(warehouse.output).delete(["_lock"])


def test_a_run_that_died_is_superseded_and_refused_once_a_newer_one_is_published(
    warehouse, fewer_events, events
):
    dead = audited(warehouse, fewer_events, "dead", FEWER)
    die_after(warehouse, LOADS + 3)  # in the copies
    with pytest.raises(RunError, match="goes on from here"):
        publish(warehouse, dead)
    warehouse.queries.reset()
    gcs.Folder(warehouse.output).delete(["_lock"])
    assert live(warehouse)[1]["dead"] == "publishing"

    publish(warehouse, audited(warehouse, events, "newer", FEWER))
    statuses = live(warehouse)[1]
    assert (statuses["dead"], statuses["newer"]) == ("superseded", "published")
    with pytest.raises(RunError, match="run newer is newer than dead and already published"):
        publish(warehouse, dead)
    gcs.Folder(warehouse.output).delete(["_lock"])
    assert live(warehouse)[1] == statuses


def test_a_dataset_of_a_time_to_come_is_seen_first_and_the_way_out_works(warehouse):
    bigquery.require_past(warehouse.dataset)
    warehouse.query(
        "UPDATE `{d}.pipeline_runs` SET finished_at = TIMESTAMP '2199-01-01' WHERE run_id = 'old'"
    )
    with pytest.raises(RunError, match="run old finished at 2199-01-01") as failure:
        BucketWarehouse(warehouse.output, warehouse.dataset).check()
    remedy = re.search("bq query --nouse_legacy_sql '(.*)'$", str(failure.value))
    assert remedy is not None
    warehouse.query(remedy[1])
    bigquery.require_past(warehouse.dataset)


def test_a_table_of_more_files_than_a_job_takes_is_loaded_in_parts(
    objects, queries, events, local, monkeypatch
):
    warehouse = new_warehouse(objects, queries)  # nothing there is superseded
    manifest = audited(warehouse, events, "parts", FEWER)
    extra = stage(
        REJECTED_ROWS.empty_frame(), REJECTED_ROWS, f"{warehouse.output}/_runs/parts"
    ).path.removeprefix(f"{warehouse.output}/")
    tables = manifest["tables"]
    tables["rejected_rows"] = [*tables["rejected_rows"], extra]
    funnel = stage(
        METRICS_FUNNEL.empty_frame(), METRICS_FUNNEL, f"{warehouse.output}/_runs/parts"
    ).path.removeprefix(f"{warehouse.output}/")
    tables["metrics_funnel"] = [*tables["metrics_funnel"], funnel]
    monkeypatch.setattr(bigquery, "_JOB_FILES", 1)
    publish(warehouse, manifest)
    parts = {job.rpartition("_load_")[0] for job in warehouse.queries.jobs("load")}
    assert len(parts) == LOADS + 2
    assert sum("_part2" in part for part in parts) == 2
    assert_published(warehouse, local, "parts", PUBLISHED)
