"""The warehouse in a bucket, on a real GCS server."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import polars as pl
import pytest
from google.cloud import storage

from pipelines.customer_analytics import main
from tests.cloud.conftest import Cloud
from tests.cloud.proxy import error
from tests.oracle.compare import assert_tables_equal
from tests.pipelines.running import contents
from transforms.errors import RunError
from transforms.schema import DATA_QUALITY, DIM_PRODUCTS, PIPELINE_RUNS, TABLES
from transforms.warehouse import gcs
from transforms.warehouse.staging import stage

pytestmark = pytest.mark.cloud

DOCS = Path(__file__).parents[2] / "docs" / "bigquery.md"
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def tables(cloud: Cloud):
    """The current state, read as its readers do."""
    return {table.name: gcs.read_table(cloud.output, table).to_arrow() for table in TABLES}


def audit(cloud: Cloud, run_id: str, *, minutes: int = 0) -> gcs.Document:
    """Record a run with one product and one check as audited."""
    folder = gcs.prepare(cloud.output, run_id)
    products = pl.DataFrame({"product_id": [run_id]}).select(
        pl.col("product_id"),
        *(pl.lit(None, pl.String).alias(name) for name in DIM_PRODUCTS.column_names[1:]),
    )
    checks = pl.DataFrame(
        {
            "run_id": [run_id],
            "table_name": ["dim_products"],
            "check_name": ["unique_key"],
            "severity": ["error"],
            "failing_rows": [0],
            "passed": [True],
        }
    )
    files = [
        stage(DIM_PRODUCTS.conform(products), DIM_PRODUCTS, folder),
        stage(DATA_QUALITY.conform(checks), DATA_QUALITY, folder),
    ]
    finished = (NOW + dt.timedelta(minutes=minutes)).isoformat()
    manifest = {"run_id": run_id, "finished_at": finished}
    return gcs.record_audited(cloud.output, run_id, manifest, files)


def products(cloud: Cloud) -> list[str]:
    return gcs.read_table(cloud.output, DIM_PRODUCTS)["product_id"].to_list()


def checked_runs(cloud: Cloud) -> list[str]:
    return sorted(gcs.read_table(cloud.output, DATA_QUALITY)["run_id"])


def test_a_bucket_gets_the_tables_that_a_folder_gets(cloud, events, local, tmp_path):
    source = storage.Client().bucket(cloud.bucket)
    source.blob("input/events.csv").upload_from_filename(str(events))

    pattern = f"gs://{cloud.bucket}/input/*.csv"
    done = cloud.run(pattern, "--max_rejected_ratio=0.5", TMPDIR=str(tmp_path))

    assert done.returncode == 0, done.stderr
    assert "2,002" in done.stdout  # the rows read
    actual = contents(tables(cloud))
    actual["rejected_rows"] = actual["rejected_rows"].drop_columns("source_file")
    expected = contents(local)
    expected["rejected_rows"] = expected["rejected_rows"].drop_columns("source_file")
    assert_tables_equal(actual, expected)
    assert gcs.read_table(cloud.output, PIPELINE_RUNS)["status"].to_list() == ["published"]
    runs = {name.split("/")[0] for name in cloud.files()}
    assert runs == {"_runs", "manifest.json", "report.html"}, "a lock or a probe was left"
    assert not list(tmp_path.glob("estore-analytics-spill-*"))


def test_too_many_rejected_rows_change_nothing(cloud, events, capsys):
    arguments = [f"--input={events}", f"--output={cloud.output}", "--max_rejected_ratio=0"]
    assert main(arguments) == 1
    assert "rows were rejected" in capsys.readouterr().err
    assert "manifest.json" not in cloud.files()
    assert "_lock" not in cloud.files()


def test_a_run_killed_while_it_writes_is_begun_anew(cloud, events, tmp_path, capsys):
    command = [sys.executable, "-m", "pipelines.customer_analytics", f"--input={events}"]
    command += [f"--output={cloud.output}", "--run_id=again"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(command, env=environment)

    def kill(request, response):
        if "uploadType=resumable" in request.target and len(cloud.files()) > 5:
            process.send_signal(signal.SIGKILL)

    cloud.storage.observe = kill
    assert process.wait(60) == -signal.SIGKILL
    cloud.storage.reset()
    left = cloud.files()
    assert "manifest.json" not in left
    assert list(tmp_path.glob("estore-analytics-spill-*"))

    assert main([f"--input={events}", f"--output={cloud.output}"]) == 1
    assert "--run_id=again" in capsys.readouterr().err

    done = cloud.run(events, "--run_id=again", TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    kept = {name for name in cloud.files() if name.endswith(".parquet")}
    named = gcs.Folder(cloud.output).read("manifest.json").document["tables"]
    assert kept == {name for files in named.values() for name in files}
    assert not list(tmp_path.glob("estore-analytics-spill-*"))


def test_a_publication_replaces_appends_and_sweeps(cloud):
    states = []
    for minutes, run_id in enumerate(("first", "second", "third")):
        manifest = audit(cloud, run_id, minutes=minutes)
        stage(DIM_PRODUCTS.empty_frame(), DIM_PRODUCTS, f"{cloud.output}/_runs/{run_id}")
        gcs.publish(cloud.output, manifest, keep_staging=False)
        gcs.publish(cloud.output, manifest, keep_staging=False)  # changes nothing
        states.append(cloud.files())
        assert products(cloud) == [run_id]
    assert checked_runs(cloud) == ["first", "second", "third"]

    def written(state, run_id):
        return sorted(name.split("/")[2] for name in state if name.startswith(f"_runs/{run_id}/"))

    whole = ["data_quality", "dim_products", "manifest.json"]
    assert written(states[0], "first") == whole  # without the file that the manifest does not name
    assert written(states[1], "first") == whole  # the state before the current one
    assert written(states[2], "first") == ["data_quality"]
    assert written(states[2], "second") == whole
    assert written(states[2], "third") == whole


def test_files_of_failed_attempts_can_be_kept(cloud):
    manifest = audit(cloud, "run")
    stray = stage(DIM_PRODUCTS.empty_frame(), DIM_PRODUCTS, f"{cloud.output}/_runs/run").path
    gcs.publish(cloud.output, manifest, keep_staging=True)
    assert stray.removeprefix(f"{cloud.output}/") in cloud.files()
    assert products(cloud) == ["run"]


def test_what_waits_to_be_resumed_is_kept_for_a_week(cloud, monkeypatch):
    audit(cloud, "waiting")
    stage(DIM_PRODUCTS.empty_frame(), DIM_PRODUCTS, f"{cloud.output}/_runs/dead")
    gcs.prepare(cloud.output, "next")
    assert {name.split("/")[1] for name in cloud.files()} == {"waiting"}

    monkeypatch.setattr(gcs, "_RESUMABLE", dt.timedelta(0))
    gcs.prepare(cloud.output, "next")
    assert cloud.files() == set()


def test_the_first_manifest_of_a_run_counts(cloud):
    first, second = audit(cloud, "run"), audit(cloud, "run", minutes=1)
    assert second == first == gcs.audited(cloud.output, "run")


def test_an_older_run_does_not_replace_a_newer_one(cloud):
    old, new = audit(cloud, "old"), audit(cloud, "new", minutes=1)
    gcs.publish(cloud.output, new, keep_staging=False)
    with pytest.raises(RunError, match="run new is newer than old"):
        gcs.require_newest(cloud.output, old)
    with pytest.raises(RunError, match="run new is newer than old"):
        gcs.publish(cloud.output, old, keep_staging=False)
    assert products(cloud) == ["new"]


def test_a_state_that_changed_meanwhile_is_not_overwritten(cloud):
    manifest = audit(cloud, "mine")

    other = {"run_id": "other"}

    def interfere(request, response):
        if request.method == "GET" and response.status == 404:
            cloud.storage.reset()
            assert gcs.Folder(cloud.output).write("manifest.json", other, gcs.ABSENT)

    cloud.storage.observe = interfere
    with pytest.raises(RunError, match="replaced by another run meanwhile"):
        gcs.publish(cloud.output, manifest, keep_staging=False)
    assert gcs.Folder(cloud.output).read("manifest.json").document == other


def test_one_run_at_a_time(cloud, monkeypatch):
    gcs.acquire(cloud.output, "first")
    gcs.acquire(cloud.output, "first")  # the same run goes on
    with pytest.raises(RunError, match=r"run first \(process \d+ on .*--run_id=first"):
        gcs.acquire(cloud.output, "second")
    gcs.release(cloud.output, "second")
    assert "_lock" in cloud.files()
    gcs.release(cloud.output, "first")
    assert "_lock" not in cloud.files()

    monkeypatch.setattr(gcs, "_LEASE", dt.timedelta(seconds=-1))
    gcs.acquire(cloud.output, "silent")
    gcs.acquire(cloud.output, "second")


def test_a_lost_answer_does_not_fail_a_write(cloud):
    def lose_one(request, response):
        if request.method == "POST":
            cloud.storage.observe = lambda *_: None
            raise ConnectionResetError

    cloud.storage.observe = lose_one
    assert gcs.Folder(cloud.output).write("object.json", {"a": 1}, gcs.ABSENT)
    assert not gcs.Folder(cloud.output).write("object.json", {"a": 2}, gcs.ABSENT)


def test_a_bucket_that_refuses_is_explained(cloud):
    cloud.storage.fault = lambda _: error(403, "forbidden", "no access for you")
    with pytest.raises(RunError, match=r"no access for you.*roles/storage\.objectUser"):
        gcs.acquire(cloud.output, "run")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--output=gs://no-such-bucket/w"], "gcloud storage buckets create gs://no-such-bucket"),
        (["--input=gs://{bucket}/none/*.csv"], "no file matches gs://{bucket}/none/*.csv"),
        (["--input=gs://no-such-bucket/*.csv"], "gs://no-such-bucket"),
    ],
)
def test_what_is_missing_fails_first(cloud, events, capsys, options, message):
    options = [option.format(bucket=cloud.bucket) for option in options]
    assert main([f"--input={events}", f"--output={cloud.output}", *options]) == 2
    assert message.format(bucket=cloud.bucket) in only_line(capsys)
    assert cloud.files() == set()


def only_line(capsys) -> str:
    """The one line of a message."""
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_bucket_that_may_not_be_written_fails_first(cloud, events, capsys):
    cloud.storage.fault = lambda request: (
        error(403, "forbidden", "no access for you") if request.method == "POST" else None
    )
    assert main([f"--input={events}", f"--output={cloud.output}"]) == 2
    assert "no access for you); try: gcloud storage buckets add-iam-policy-binding" in only_line(
        capsys
    )


def test_without_credentials_the_message_says_how_to_get_them(
    cloud, events, tmp_path, monkeypatch, capsys
):
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    assert main([f"--input={events}", f"--output={cloud.output}"]) == 2
    assert "gcloud auth application-default login" in only_line(capsys)


def test_readers_find_the_files_by_the_manifest(cloud):
    gcs.publish(cloud.output, audit(cloud, "run"), keep_staging=False)
    manifest = json.loads(
        storage.Client().bucket(cloud.bucket).blob("warehouse/manifest.json").download_as_bytes()
    )
    assert manifest["run_id"] == "run"
    assert [f"{cloud.output}/{name}" for name in manifest["tables"]["dim_products"]] == (
        gcs.table_files(cloud.output, DIM_PRODUCTS)
    )
    assert gcs.table_files(f"gs://{cloud.bucket}/nothing", DIM_PRODUCTS) == []


def test_the_docs_tell_duckdb_how_to_read(cloud, folder):
    gcs.publish(cloud.output, audit(cloud, "run"), keep_staging=False)
    (sql,) = re.findall(r"```duckdb\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    # DuckDB's reader of gs:// is a download; the server's objects are files.
    sql = sql.replace("gs://my-bucket", f"{folder}/gcs/{cloud.bucket}")
    sql = sql.replace("metrics_rfm_segments", "dim_products")
    sql = sql.replace("rfm_segment, customers, revenue", "product_id").replace("revenue", "1")
    with duckdb.connect() as connection:
        assert connection.sql(sql).fetchall() == [("run",)]
