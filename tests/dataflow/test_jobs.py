"""Jobs built and staged for Dataflow against a real GCS server, and then run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from io import BytesIO
from pathlib import Path

import pytest
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2
from google.cloud import storage

from pipelines import customer_analytics, template
from tests.dataflow.conftest import IMAGE, execute, read_object, read_tables, staged_pipeline
from tests.oracle.compare import assert_tables_equal
from tests.pipelines.running import contents
from tests.pipelines.test_summary import assert_summary_of, figures
from transforms.warehouse import gcs

pytestmark = pytest.mark.cloud

SECONDS = 120
MODULE = (sys.executable, "-m", "pipelines.customer_analytics")


def launch(*command, **environment):
    return subprocess.run(
        command,
        env={**os.environ, **environment},
        cwd=template.ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )


def artifacts(environment):
    """The gs:// path of each file that a worker gets, by its name."""
    return {
        beam_runner_api_pb2.ArtifactStagingToRolePayload.FromString(
            dependency.role_payload
        ).staged_name: beam_runner_api_pb2.ArtifactUrlPayload.FromString(
            dependency.type_payload
        ).url
        for dependency in environment.dependencies
    }


def held(cloud):
    return gcs.Folder(cloud.output).read("_lock") is not None


def comparable(tables):
    """Tables without what names the place of the input."""
    return {**contents(tables), "rejected_rows": tables["rejected_rows"].slice(0, 0)}


def test_a_flex_template_launch_stages_a_job_that_makes_the_same_tables(cloud, job, expected):
    location = f"gs://{cloud.bucket}/templates/job.json"
    done = launch(
        *(sys.executable, "templates/launch.py", *job, f"--template_location={location}"),
        WORKER_IMAGE=IMAGE,
        PYTHONPATH=str(template.ROOT),
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout == f"  staged    {location}\n"
    assert held(cloud)
    description = json.loads(read_object(location))
    assert "use_runner_v2" in description["environment"]["experiments"]
    assert description["environment"]["sdkPipelineOptions"]["options"]["streaming"] is False
    pipeline = staged_pipeline(description)
    (environment,) = pipeline.components.environments.values()
    docker = beam_runner_api_pb2.DockerPayload.FromString(environment.payload)
    assert environment.urn == common_urns.environments.DOCKER.urn
    assert docker.container_image == IMAGE
    assert environment.resource_hints == {
        common_urns.resource_hints.MIN_RAM_BYTES.urn: str(4 * 10**9).encode()
    }
    assert list(artifacts(environment)) == ["submission_environment_dependencies.txt"]

    execute(pipeline)

    assert_tables_equal(comparable(read_tables(cloud.output)), comparable(expected))
    assert not held(cloud)


def test_a_launch_with_nothing_new_stages_a_job_that_does_nothing(cloud, job):
    assert customer_analytics.main([*job[:2], "--direct_num_workers=1"]) == 0
    before = gcs.Folder(cloud.output).read("manifest.json")
    location = f"gs://{cloud.bucket}/templates/job.json"
    done = launch(
        *(sys.executable, "templates/launch.py", *job, "--if_changed=true"),
        f"--template_location={location}",
        WORKER_IMAGE=IMAGE,
        PYTHONPATH=str(template.ROOT),
    )

    assert done.returncode == 0, done.stderr
    assert "nothing new since" in done.stdout
    pipeline = staged_pipeline(json.loads(read_object(location)))
    (environment,) = pipeline.components.environments.values()
    docker = beam_runner_api_pb2.DockerPayload.FromString(environment.payload)
    assert docker.container_image == IMAGE
    execute(pipeline)
    assert gcs.Folder(cloud.output).read("manifest.json") == before


def test_a_job_without_an_image_carries_the_program(cloud, job, tmp_path):
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "LICENSE", "requirements.in"):
        (tmp_path / name).write_bytes((template.ROOT / name).read_bytes())
    for name in ("pipelines", "transforms"):
        (tmp_path / name).symlink_to(template.ROOT / name)
    location = f"gs://{cloud.bucket}/templates/job.json"

    done = launch(
        *MODULE, *job, f"--template_location={location}", f"--setup_file={tmp_path / 'setup.py'}"
    )

    assert done.returncode == 0, done.stderr
    pipeline = staged_pipeline(json.loads(read_object(location)))
    (environment,) = pipeline.components.environments.values()
    program = read_object(artifacts(environment)["workflow.tar.gz"])
    with tarfile.open(fileobj=BytesIO(program)) as archive:
        names = {Path(name).relative_to(Path(name).parts[0]) for name in archive.getnames()}
    sources = {
        path.relative_to(template.ROOT)
        for folder in ("pipelines", "transforms")
        for path in (template.ROOT / folder).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert sources <= names


def test_a_submitted_job_runs_to_its_end(cloud, job, expected, dataflow):
    done = launch(
        *MODULE,
        *job,
        f"--sdk_container_image={IMAGE}",
        f"--dataflow_endpoint={dataflow.url}",
    )

    assert done.returncode == 0, done.stderr
    assert "https://console.cloud.google.com/dataflow/jobs/us-central1/job-1?" in done.stdout
    assert len(dataflow.jobs) == 1
    tables = read_tables(cloud.output)
    shuffled = sum(
        metric["distribution"]["sum"]
        for metric in dataflow.metrics
        if metric["name"]["name"] == "payload_bytes"
        and "tentative" not in metric["name"]["context"]
    )
    assert_tables_equal(comparable(tables), comparable(expected))
    assert_summary_of(done.stdout, tables)
    assert figures(done.stdout)["MB shuffled"].startswith(f"{shuffled / 1e6:.1f} ")
    assert not held(cloud)


def test_a_job_that_fails_says_why(cloud, job, events, dataflow, tmp_path):
    damaged = tmp_path / "damaged.csv"
    damaged.write_bytes(events.read_bytes() + b"damaged\n" * 100)
    bucket_client = storage.Client().bucket(cloud.bucket)
    bucket_client.blob("in/damaged.csv").upload_from_filename(str(damaged))

    done = launch(
        *MODULE,
        *job,
        f"--sdk_container_image={IMAGE}",
        f"--dataflow_endpoint={dataflow.url}",
    )

    assert done.returncode == 1
    assert done.stderr.startswith("customer-analytics: 100 of 6,100 rows were rejected (1.64%)")
    assert "Traceback" not in done.stderr
    assert not held(cloud)


def test_an_interrupted_wait_cancels_the_job(cloud, job, dataflow):
    dataflow.runs = False
    process = subprocess.Popen(
        [
            *MODULE,
            *job,
            f"--sdk_container_image={IMAGE}",
            f"--dataflow_endpoint={dataflow.url}",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "job-1" in process.stdout.readline()
    time.sleep(1)  # into the wait
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=SECONDS)

    assert process.returncode == 130
    assert "interrupted" in error
    assert dataflow.requested_states == ["JOB_STATE_CANCELLED"]
    assert not held(cloud)


def test_a_dry_run_builds_the_job_and_starts_nothing(cloud, job):
    done = launch(*MODULE, *job, f"--sdk_container_image={IMAGE}", "--dry_run=True")

    assert (done.returncode, done.stderr) == (0, "")
    assert not held(cloud)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"--output": "warehouse"}, "Dataflow's workers cannot see warehouse; give a gs:// path"),
        ({"--input": "events.csv"}, "Dataflow's workers cannot see events.csv; give a gs:// path"),
        ({"--region": None}, "Missing required option: region."),
        ({"--sdk_container_image": None}, "or --setup_file=./setup.py"),
        ({"--setup_file": "set-up.py"}, "--setup_file=set-up.py: there is no such file"),
        ({"--runner": "DaskRunner"}, "--runner=DaskRunner: choose one of DirectRunner, Prism"),
    ],
)
def test_what_would_fail_on_the_workers_fails_at_once(capsys, changes, problem):
    options = {
        "--input": "gs://bucket/in/*.csv",
        "--output": "gs://bucket/warehouse",
        "--runner": "DataflowRunner",
        "--project": "test-project",
        "--region": "us-central1",
        "--temp_location": "gs://bucket/temp",
        "--staging_location": "gs://bucket/staging",
        "--sdk_container_image": IMAGE,
        **changes,
    }
    code = customer_analytics.main(
        [f"{name}={value}" for name, value in options.items() if value is not None]
    )

    assert code == 2
    assert problem in capsys.readouterr().err
