"""The warehouse in a bucket, on a real GCS server."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

import duckdb
import polars as pl
import pytest
from google.cloud import storage
from polars.testing import assert_frame_equal

from pipelines.customer_analytics import main
from tests.cloud.conftest import Cloud, upload_earlier
from tests.cloud.proxy import error
from tests.oracle.compare import assert_tables_equal
from tests.pipelines.running import contents
from transforms.errors import RunError
from transforms.rules import Rules
from transforms.schema import DATA_QUALITY, DIM_PRODUCTS, PIPELINE_RUNS, TABLES
from transforms.steps.keep_warehouse import KeepWarehouse
from transforms.warehouse import bucket, gcs, lease, read_state
from transforms.warehouse.base import Document
from transforms.warehouse.bucket import BucketWarehouse
from transforms.warehouse.publishing import Run
from transforms.warehouse.staging import stage

pytestmark = pytest.mark.cloud

DOCS = Path(__file__).parents[2] / "docs" / "bigquery.md"
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def tables(cloud: Cloud):
    """The current state, read as its readers do."""
    return {
        table.name: BucketWarehouse(cloud.output).read_table(table).to_arrow() for table in TABLES
    }


def audit(cloud: Cloud, run_id: str, *, minutes: int = 0) -> Document:
    """Record a run with one product and one check as audited."""
    folder = f"{cloud.output}/_runs/{run_id}"
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
    manifest = {
        "run_id": run_id,
        "finished_at": finished,
        "table_rows": {table.name: 1 for table in TABLES},
    }
    return BucketWarehouse(cloud.output).record(manifest, files)


def sweep(cloud: Cloud) -> None:
    """Begin another run, which ends at once."""
    with BucketWarehouse(cloud.output).workspace("next", spill=False):
        pass


def products(cloud: Cloud) -> list[str]:
    return BucketWarehouse(cloud.output).read_table(DIM_PRODUCTS)["product_id"].to_list()


def checked_runs(cloud: Cloud) -> list[str]:
    return sorted(BucketWarehouse(cloud.output).read_table(DATA_QUALITY)["run_id"])


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
    assert BucketWarehouse(cloud.output).read_table(PIPELINE_RUNS)["status"].to_list() == [
        "published"
    ]
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
    (spill,) = tmp_path.glob("estore-analytics-spill-*")
    os.utime(spill, (0, 0))  # a folder that is just made may be about to be held

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
        assert BucketWarehouse(cloud.output).publish(manifest) == []
        assert BucketWarehouse(cloud.output).publish(manifest) == []  # changes nothing
        states.append(cloud.files())
        assert products(cloud) == [run_id]
    assert checked_runs(cloud) == ["first", "second", "third"]

    def written(state, run_id):
        return sorted(name.split("/")[2] for name in state if name.startswith(f"_runs/{run_id}/"))

    whole = sorted([*(table.name for table in TABLES), "manifest.json"])
    assert written(states[0], "first") == whole  # without the file that the manifest does not name
    assert written(states[1], "first") == whole  # the state before the current one
    assert written(states[2], "first") == sorted(t.name for t in TABLES if t.appended)
    assert written(states[2], "second") == whole
    assert written(states[2], "third") == whole


def test_files_of_failed_attempts_can_be_kept(cloud):
    manifest = audit(cloud, "run")
    stray = stage(DIM_PRODUCTS.empty_frame(), DIM_PRODUCTS, f"{cloud.output}/_runs/run").path
    BucketWarehouse(cloud.output, keep_staging=True).publish(manifest)
    assert stray.removeprefix(f"{cloud.output}/") in cloud.files()
    assert products(cloud) == ["run"]


def test_what_waits_to_be_resumed_is_kept_for_a_week(cloud, monkeypatch):
    audit(cloud, "waiting")
    stage(DIM_PRODUCTS.empty_frame(), DIM_PRODUCTS, f"{cloud.output}/_runs/dead")
    sweep(cloud)
    assert {name.split("/")[1] for name in cloud.files()} == {"waiting"}

    monkeypatch.setattr(bucket, "_RESUMABLE", dt.timedelta(0))
    sweep(cloud)
    assert cloud.files() == set()


def test_the_first_manifest_of_a_run_counts(cloud):
    first, second = audit(cloud, "run"), audit(cloud, "run", minutes=1)
    assert second == first == BucketWarehouse(cloud.output).audited("run")


def test_an_older_run_does_not_replace_a_newer_one(cloud):
    old, new = audit(cloud, "old"), audit(cloud, "new", minutes=1)
    BucketWarehouse(cloud.output).publish(new)
    with pytest.raises(RunError, match="run new is newer than old"):
        BucketWarehouse(cloud.output).publish(old)
    assert products(cloud) == ["new"]


def test_a_state_that_changed_meanwhile_is_not_overwritten(cloud):
    manifest = audit(cloud, "mine")

    other = audit(cloud, "other") | {"previous_run_id": None}

    looks = count(1)

    def interfere(request, response):
        """Publish another run after the last look and before the write."""
        is_look = request.method == "GET" and "warehouse%2Fmanifest.json" in request.target
        if is_look and next(looks) == 3:
            cloud.storage.reset()
            assert gcs.Folder(cloud.output).write("manifest.json", other, gcs.ABSENT)

    cloud.storage.observe = interfere
    with pytest.raises(RunError, match="replaced by another run meanwhile"):
        BucketWarehouse(cloud.output).publish(manifest)
    assert gcs.Folder(cloud.output).read("manifest.json").document == other


def test_one_run_at_a_time(cloud, monkeypatch):
    lease.acquire(cloud.output, "first")
    lease.acquire(cloud.output, "first")  # the same run goes on
    with pytest.raises(RunError, match=r"run first \(process \d+ on .*--run_id=first"):
        lease.acquire(cloud.output, "second")
    lease.release(cloud.output, "second")
    assert "_lock" in cloud.files()
    lease.release(cloud.output, "first")
    assert "_lock" not in cloud.files()

    monkeypatch.setattr(lease, "_LEASE", dt.timedelta(seconds=-1))
    lease.acquire(cloud.output, "silent")
    lease.acquire(cloud.output, "second")


def test_a_lost_answer_does_not_fail_a_write(cloud):
    def lose_one(request, response):
        if request.method == "POST":
            cloud.storage.observe = lambda *_: None
            raise ConnectionResetError

    cloud.storage.observe = lose_one
    assert gcs.Folder(cloud.output).write("object.json", {"a": 1}, gcs.ABSENT)
    assert not gcs.Folder(cloud.output).write("object.json", {"a": 2}, gcs.ABSENT)


def test_an_object_that_is_replaced_while_it_is_read_is_there(cloud):
    folder = gcs.Folder(cloud.output)
    assert folder.write("object.json", {"a": 1}, gcs.ABSENT)

    def replace(request, response):
        """Write another one between the look for its generation and the download."""
        cloud.storage.reset()
        generation = int(json.loads(response.body)["generation"])
        assert gcs.Folder(cloud.output).write("object.json", {"a": 2}, generation)

    cloud.storage.observe = replace
    assert folder.read("object.json").document == {"a": 2}


def test_a_bucket_that_refuses_is_explained(cloud):
    cloud.storage.fault = lambda _: error(403, "forbidden", "no access for you")
    with pytest.raises(RunError, match=r"no access for you.*roles/storage\.objectUser"):
        lease.acquire(cloud.output, "run")


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
    BucketWarehouse(cloud.output).publish(audit(cloud, "run"))
    manifest = json.loads(
        storage.Client().bucket(cloud.bucket).blob("warehouse/manifest.json").download_as_bytes()
    )
    assert manifest["run_id"] == "run"
    assert [f"{cloud.output}/{name}" for name in manifest["tables"]["dim_products"]] == (
        read_state(cloud.output).files["dim_products"]
    )
    assert BucketWarehouse(f"gs://{cloud.bucket}/nothing").state() is None


def test_the_docs_tell_duckdb_how_to_read(cloud, folder):
    BucketWarehouse(cloud.output).publish(audit(cloud, "run"))
    (sql,) = re.findall(r"```duckdb\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    # DuckDB's reader of gs:// is a download; the server's objects are files.
    sql = sql.replace("gs://my-bucket", f"{folder}/gcs/{cloud.bucket}")
    sql = sql.replace("metrics_rfm_segments", "dim_products")
    sql = sql.replace("rfm_segment, customers, revenue", "product_id").replace("revenue", "1")
    with duckdb.connect() as connection:
        assert connection.sql(sql).fetchall() == [("run",)]


def test_a_publication_spares_the_runs_that_wait(cloud):
    waiting = audit(cloud, "waiting", minutes=2)
    BucketWarehouse(cloud.output).publish(audit(cloud, "other", minutes=1))
    assert BucketWarehouse(cloud.output).audited("waiting") == waiting
    BucketWarehouse(cloud.output).publish(waiting)
    assert products(cloud) == ["waiting"]


def test_a_state_of_a_time_to_come_is_seen_first_and_the_way_out_works(cloud, events, capsys):
    warehouse = BucketWarehouse(cloud.output)
    warehouse.check()
    ahead = dt.datetime.now(dt.UTC) + dt.timedelta(days=400)
    warehouse.publish(audit(cloud, "ahead") | {"finished_at": ahead.isoformat()})

    assert main([f"--input={events}", f"--output={cloud.output}"]) == 2
    message = only_line(capsys)
    assert "run ahead finished at" in message
    command = re.search(r"\| (sed '.*') \| gcloud storage cp - (gs://.*)$", message)
    assert command is not None
    assert command[2] == f"{cloud.output}/manifest.json"
    blob = storage.Client().bucket(cloud.bucket).blob("warehouse/manifest.json")
    edited = subprocess.run(
        shlex.split(command[1]), input=blob.download_as_bytes(), capture_output=True, check=True
    )
    blob.upload_from_string(edited.stdout)
    warehouse.check()


def test_a_published_run_is_not_published_again(cloud, events, tmp_path, capsys):
    growing = tmp_path / "growing.csv"
    growing.write_bytes(events.read_bytes())
    run = [f"--input={growing}", f"--output={cloud.output}", "--max_rejected_ratio=1"]
    assert main([*run, "--run_id=first"]) == 0
    capsys.readouterr()
    before = cloud.files()
    assert main([*run, "--run_id=first"]) == 0
    assert "run first is already published" in capsys.readouterr().out
    assert main([*run, "--if_changed"]) == 0
    assert "nothing new since first (" in capsys.readouterr().out

    with growing.open("a") as file:
        file.write("2019-10-01 00:00:00 UTC,view,1,1,,,5,1,abc\n")
    assert main([*run, "--run_id=first"]) == 2
    assert "the files of --input, or this program, have changed" in only_line(capsys)
    assert cloud.files() == before

    later = dt.datetime.now(dt.UTC).isoformat()
    BucketWarehouse(cloud.output).publish(audit(cloud, "second") | {"finished_at": later})
    assert main([*run, "--run_id=first"]) == 2
    assert "run first is already published, and was replaced by run second" in only_line(capsys)


def test_of_two_attempts_the_later_looks_before_it_locks(cloud):
    mine = audit(cloud, "mine")
    warehouse = BucketWarehouse(cloud.output)
    warehouse.publish(mine)
    lease.acquire(cloud.output, "next")
    assert warehouse.publish(mine) == []  # though another run is at work
    assert lease.is_held(cloud.output, "next")


def test_an_attempt_that_died_after_the_state_was_replaced_ends_what_is_left(cloud):
    mine = audit(cloud, "mine")
    BucketWarehouse(cloud.output).publish(mine)
    lease.acquire(cloud.output, "mine")
    assert BucketWarehouse(cloud.output).publish(mine) == []
    assert "_lock" not in cloud.files()


def test_what_fails_once_a_run_is_published_is_a_warning(cloud):
    second = audit(cloud, "second")
    stage(DIM_PRODUCTS.empty_frame(), DIM_PRODUCTS, f"{cloud.output}/_runs/second")
    cloud.storage.fault = lambda request: (
        error(403, "forbidden", "no deleting for you") if request.method == "DELETE" else None
    )
    warnings = BucketWarehouse(cloud.output).publish(second)
    assert len(warnings) == 2  # a file of a failed attempt, and the lock
    assert all("no deleting for you" in warning for warning in warnings)
    cloud.storage.reset()
    assert products(cloud) == ["second"]


def test_somebody_elses_objects_stay(cloud):
    source = storage.Client().bucket(cloud.bucket)
    names = {"_runs/notes.txt", "_runs/experiment/model.pt", "_runs/run/metrics/data.parquet"}
    for name in names:
        source.blob(f"warehouse/{name}").upload_from_string("mine")
    sweep(cloud)
    assert cloud.files() == names


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("manifest.json", "<html>", "is no JSON object"),
        ("manifest.json", "{}", "does not name a run"),
        ("_lock", "[]", "is no JSON object"),
        ("_lock", "{}", "does not say which run holds the warehouse"),
        ("_lock", '{"run_id": "x", "until": "soon"}', "does not say which run holds"),
    ],
)
def test_what_is_not_ours_in_the_bucket_is_named(cloud, name, content, message):
    blob = storage.Client().bucket(cloud.bucket).blob(f"warehouse/{name}")
    blob.upload_from_string(content)
    with pytest.raises(RunError, match=f"{cloud.output}/{name} {message}"):
        sweep(cloud)
    assert blob.download_as_text() == content


def until(cloud: Cloud) -> str:
    """When the lease ends."""
    return gcs.Folder(cloud.output).read("_lock").document["until"]


def test_a_lease_is_renewed_while_a_run_works(cloud, monkeypatch):
    monkeypatch.setattr(lease, "_BEAT_SECONDS", 0.05)
    with BucketWarehouse(cloud.output).workspace("run", spill=False):
        first = until(cloud)
        deadline = time.monotonic() + 30
        while until(cloud) == first:
            assert time.monotonic() < deadline, "no heartbeat"


def test_a_lease_that_was_given_back_is_not_taken_again_by_a_heartbeat(cloud):
    lease.acquire(cloud.output, "run")
    lease.release(cloud.output, "run")
    lease.renew(cloud.output, "run")
    assert "_lock" not in cloud.files()


def test_a_job_renews_its_lease_and_notices_that_it_lost_it(cloud):
    lease.acquire(cloud.output, "run")
    first = until(cloud)
    run = Run("run", NOW, cloud.output, "", {}, Rules(), 1.0)
    step = KeepWarehouse(run)
    assert list(step.process("anything")) == []
    renewed = until(cloud)
    assert renewed > first
    assert list(step.process("soon after")) == []
    assert until(cloud) == renewed
    gcs.Folder(cloud.output).delete(["_lock"])
    lease.acquire(cloud.output, "thief")
    with pytest.raises(RunError, match="run thief"):
        list(KeepWarehouse(run).process("anything"))


def test_a_bucket_of_an_earlier_version_is_published_over(cloud):
    upload_earlier(cloud)
    source = storage.Client().bucket(cloud.bucket)
    warehouse = BucketWarehouse(cloud.output)
    runs = warehouse.read_table(PIPELINE_RUNS)
    assert runs["input_fingerprint"].to_list() == [None]
    for minutes, run_id in enumerate(("first", "second")):
        finished = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=minutes)
        manifest = audit(cloud, run_id) | {"finished_at": finished.isoformat()}
        assert warehouse.publish(manifest) == []
        files = warehouse.state().files
        for table in (table for table in TABLES if table.appended):
            for path in files[table.name]:
                name = path.removeprefix(f"gs://{cloud.bucket}/")
                found = pl.read_parquet(source.blob(name).download_as_bytes())
                assert tuple(found.columns) == table.column_names
    assert_frame_equal(warehouse.read_table(PIPELINE_RUNS), runs)
    assert checked_runs(cloud).count("earlier") == 299
    assert warehouse.find_run("earlier").status == "replaced"
