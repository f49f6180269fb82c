"""Publishing to BigQuery, on a real server: the tables, the faults, the queries of the docs."""

from __future__ import annotations

import datetime as dt
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.io.filesystems import FileSystems
from google.cloud import bigquery

import transforms.warehouse.bigquery
from pipelines.customer_analytics import main
from tests.cloud.conftest import (
    BigQueryCloud,
    assert_published,
    audited,
    new_warehouse,
    publish,
    upload_earlier,
)
from tests.cloud.proxy import error, failed_job
from tests.oracle.compare import assert_tables_equal
from transforms.errors import RunError
from transforms.schema import DATA_QUALITY, TABLES, TABLES_BY_NAME, Table, tables_without
from transforms.warehouse import gcs, lease, open_warehouse
from transforms.warehouse.bigquery import publish as publish_to_bigquery
from transforms.warehouse.bigquery import schema_fields, table_resource
from transforms.warehouse.bucket import BucketWarehouse

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(600)]

DOCS = Path(__file__).parents[2] / "docs" / "bigquery.md"
FIRST = ("--run_id=first", "--location=US", "--max_rejected_ratio=0.5")


@pytest.fixture(scope="module")
def first(objects, queries, events) -> BigQueryCloud:
    """A dataset that the command line has published `events` to.

    Its data_quality was made by an earlier version, which did not know a column.
    """
    warehouse = new_warehouse(objects, queries)
    client = warehouse.client()
    client.create_dataset(warehouse.dataset)
    earlier = table_resource(DATA_QUALITY, f"{warehouse.dataset}.data_quality")
    earlier.schema = [field for field in earlier.schema if field.name != "passed"]
    client.create_table(earlier)
    done = warehouse.publish(events, *FIRST)
    assert done.returncode == 0, done.stderr
    assert warehouse.dataset in done.stdout
    return warehouse


@pytest.fixture(autouse=True)
def _calm(objects, queries):
    """Let every request pass, and forget the earlier ones."""
    objects.reset()
    queries.reset()


def test_every_table_is_published_as_a_local_run_makes_it(first, local):
    assert_published(first, local, "first")


def test_every_table_is_described(first):
    client = first.client()
    for table in TABLES:
        live = client.get_table(f"{first.dataset}.{table.name}")
        assert live.description == f"{table.grain.capitalize()}."
        assert {field.name: field.description for field in live.schema} == {
            column.name: column.description for column in table.columns
        }
        assert live.labels == {"application": "estore-analytics"}
        assert live.expires is None
        partitioning = live.time_partitioning and live.time_partitioning.field
        assert partitioning == table.partition_by
        assert tuple(live.clustering_fields or ()) == table.cluster_by


def test_loads_and_copies_are_asked_for_as_they_should_be(first):
    client = first.client()
    name = first.dataset.partition(".")[2]
    (run,) = first.query("SELECT * FROM `{d}.pipeline_runs` WHERE run_id = 'first'")
    computation = BucketWarehouse(first.output).audited("first")["computation"]
    assert re.fullmatch("first_[0-9a-f]{8}", computation)
    for table in TABLES:
        job = client.get_job(f"{computation}_{name}_{table.name}_load_1")
        assert isinstance(job, bigquery.LoadJob)
        assert job.write_disposition == "WRITE_TRUNCATE"
        assert job.source_format == "PARQUET"
        assert job.schema == schema_fields(table)  # the server itself forgets REQUIRED
        assert job.destination.table_id == f"{table.name}__staging_{computation}"
        if not table.appended:
            copy = client.get_job(f"{computation}_{name}_{table.name}_copy_1")
            assert isinstance(copy, bigquery.CopyJob)
            assert copy.write_disposition == "WRITE_TRUNCATE"
            assert job.ended <= copy.created
            assert copy.ended <= run["published_at"] + dt.timedelta(milliseconds=1)


def test_publishing_a_run_again_changes_nothing(first, events):
    assert main(first.arguments(events, *FIRST)) == 0
    assert first.queries.jobs() == []
    assert first.query("SELECT COUNT(*) AS runs FROM `{d}.pipeline_runs`") == [{"runs": 1}]
    assert gcs.Folder(first.output).read("manifest.json").document["run_id"] == "first"


def test_a_run_goes_on_only_with_its_own_options(first, events, capsys):
    arguments = first.arguments(events, "--run_id=first", "--as_of=2020-06-01")
    assert main(arguments) == 2
    assert "another --max_rejected_ratio, --as_of" in capsys.readouterr().err


def test_an_older_run_does_not_replace_a_newer_one(first):
    manifest = BucketWarehouse(first.output).audited("first")
    older = manifest | {"run_id": "older", "finished_at": "2020-01-01T00:00:00+00:00"}
    with pytest.raises(RunError, match="is newer than older and already published"):
        publish(first, older)
    lease.release(first.output, "older")
    with pytest.raises(RunError, match=r"newer than older, is published in .*with no --run_id"):
        publish_to_bigquery(first.dataset, first.output, older, keep_staging=False)
    assert first.queries.jobs() == []


def test_the_queries_of_the_docs_run(first):
    blocks = re.findall(r"```sql\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 5
    for block in blocks:
        sql = block.replace("my-project.analytics", first.dataset)
        assert list(first.client().query_and_wait(sql)), sql


def test_servers_that_fail_now_and_then_do_no_harm(first, events, local, monkeypatch):
    monkeypatch.setattr(transforms.warehouse.bigquery, "_STAGING_DAYS", 0)
    first.client().create_table(f"{first.dataset}.dim_users__staging_dead")
    manifest = audited(first, events, "faults")
    asked: set[str] = set()
    lost: list[str] = []

    def refuse(request):
        """Refuse the first request for every second job; fail one job after it was accepted."""
        name = request.job_id
        if name.endswith("dim_users_load_1"):
            return failed_job(request, "backendError")
        if not name or name in asked:
            return None
        asked.add(name)
        refusals = {1: error(503, "backendError"), 3: error(429, "rateLimitExceeded")}
        return refusals.get(len(asked) % 4)

    def lose(request, response):
        """Start every sixth job, and lose the answer."""
        if request.job_id and len(first.queries.jobs()) % 6 == 0:
            lost.append(request.job_id)
            raise ConnectionResetError

    first.queries.fault, first.queries.observe = refuse, lose
    publish(first, manifest)
    assert any("_load_" in name for name in lost)
    assert any(name.endswith("dim_users_load_2") for name in first.queries.jobs())
    first.queries.reset()
    assert_published(first, local, "faults")


def test_a_load_that_fails_leaves_the_live_tables(first, events, local, folder, tmp_path):
    manifest = audited(first, events, "second")
    name = manifest["tables"]["dim_products"][0]
    path = folder / "gcs" / first.bucket / "warehouse" / name
    shutil.copy(path, tmp_path / "saved")
    path.write_bytes(b"this is no Parquet")
    before = first.query("SELECT run_id, status FROM `{d}.pipeline_runs` ORDER BY 1")

    with pytest.raises(RunError) as failure:
        publish(first, manifest | {"rows": manifest["rows"] | {"dim_users": 1}})

    message = str(failure.value)
    assert "load of dim_products: Error while reading data" in message
    assert re.search(r"load of dim_users: \d+ rows were loaded instead of 1 \(job test-", message)
    assert "dim_products_load_1)" in message
    assert "The live tables are as they were." in message
    assert "--run_id=second: it goes on from here" in message
    assert len(first.queries.jobs("load")) == len(TABLES)
    assert first.queries.jobs("copy") == []
    assert before == first.query("SELECT run_id, status FROM `{d}.pipeline_runs` ORDER BY 1")
    state = gcs.Folder(first.output).read("manifest.json")
    assert state.document["run_id"] != "second"

    shutil.copy(tmp_path / "saved", path)
    first.queries.reset()
    publish(first, manifest, keep_staging=True)
    started = {job for job in first.queries.jobs("load") if job.endswith("_2")}
    assert {job.partition("_dim_")[2] for job in started} == {"products_load_2"}
    staged = {name for name in first.table_names() if "__staging_" in name}
    assert staged == {f"{table.name}__staging_{manifest['computation']}" for table in TABLES}
    for name in staged:
        first.client().delete_table(f"{first.dataset}.{name}")
    assert_published(first, local, "second")


@pytest.fixture
def empty(objects, queries) -> BigQueryCloud:
    """A bucket, and the name of a dataset that does not exist."""
    return new_warehouse(objects, queries)


def test_what_the_dataset_lacks_fails_first(empty, events, capsys):
    def message(*options: str) -> str:
        assert main(empty.arguments(events, *options)) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert empty.files() == set()
        return line

    project, _, name = empty.dataset.partition(".")
    assert f"bq mk --dataset --location=EU {project}:{name}" in message("--location=EU")

    client = empty.client()
    client.create_dataset(empty.dataset)
    assert "is in US and cannot move" in message("--location=EU")

    client.query_and_wait(f"CREATE VIEW `{empty.dataset}.dim_users` AS SELECT 1 AS x")
    assert "dim_users is a view" in message()
    client.delete_table(f"{empty.dataset}.dim_users")
    client.query_and_wait(f"CREATE TABLE `{empty.dataset}.fct_events` (x INT64)")
    assert "fct_events is a table partitioned by nothing" in message()
    client.delete_table(f"{empty.dataset}.fct_events")

    empty.queries.fault = lambda request: (
        error(403, "accessDenied", "no jobs for you") if request.job else None
    )
    assert "no jobs for you; try: bq query" in message()
    assert empty.table_names() == set()


def test_what_a_run_leaves_out_is_no_longer_shown(empty, events, local):
    """A table of the run before would be taken for one of this run."""
    kept = tables_without({"time", "history"})
    options = ("--max_rejected_ratio=0.5", "--create_dataset")
    assert main(empty.arguments(events, *options)) == 0
    assert empty.table_names() == {table.name for table in TABLES} > {table.name for table in kept}
    unrelated = f"{empty.dataset}.fct_orders_by_hand"
    empty.client().create_table(unrelated)

    assert main(empty.arguments(events, *options, "--without=time")) == 0
    empty.client().delete_table(unrelated)  # or fail: it is not of this program
    assert empty.table_names() == {table.name for table in kept}
    shown = open_warehouse(empty.output).state()
    assert {name for name, files in shown.files.items() if files} == {t.name for t in kept}
    names = [table.name for table in kept if not table.appended]
    found = {name: live(empty, name) for name in names}
    assert_tables_equal(found, {name: local[name] for name in names})
    assert live(empty, "pipeline_runs")["status"].to_pylist() == ["published"] * 2


def live(warehouse: BigQueryCloud, name: str) -> pa.Table:
    """A live table, as BigQuery gives it."""
    client = warehouse.client()
    table = client.get_table(f"{warehouse.dataset}.{name}")
    return client.list_rows(table).to_arrow(create_bqstorage_client=False)


def test_a_dataset_of_an_earlier_version_is_published_over(empty, events, local):
    upload_earlier(empty)
    client = empty.client()
    client.create_dataset(empty.dataset)
    state = open_warehouse(empty.output).state()
    for name, files in state.files.items():
        if files:
            load_earlier(empty, TABLES_BY_NAME[name], files)
    (before,) = empty.query("SELECT * FROM `{d}.pipeline_runs`")
    assert "input_fingerprint" not in before

    assert main(empty.arguments(events, "--run_id=today", "--max_rejected_ratio=0.5")) == 0

    assert_published(empty, local, "today")
    (after,) = empty.query("SELECT * FROM `{d}.pipeline_runs` WHERE run_id = 'earlier'")
    assert after["input_fingerprint"] is None
    assert {name: after[name] for name in before} == before
    (checks,) = empty.query("SELECT COUNT(*) AS n FROM `{d}.data_quality` WHERE run_id = 'earlier'")
    assert checks["n"] == 299


def load_earlier(warehouse: BigQueryCloud, table: Table, files: Sequence[str]) -> None:
    """Make a live table as an earlier version did: of the columns that its files have."""
    client, name = warehouse.client(), f"{warehouse.dataset}.{table.name}"
    with FileSystems.open(files[0]) as file:
        columns = pq.read_schema(file).names
    meant = table_resource(table, name)
    meant.schema = [field for field in meant.schema if field.name in columns]
    client.create_table(meant)
    config = bigquery.LoadJobConfig(
        source_format=bigquery.SourceFormat.PARQUET,
        schema=meant.schema,
        write_disposition=bigquery.WriteDisposition.WRITE_APPEND,
    )
    client.load_table_from_uri(files, name, job_config=config).result()


def test_a_dataset_that_vanishes_is_named(empty, events):
    manifest = audited(empty, events, "run")
    empty.client().delete_dataset(empty.dataset, delete_contents=True)
    with pytest.raises(RunError, match=rf"{empty.dataset}.*[Nn]ot found.*--run_id=run"):
        publish(empty, manifest)
