"""A bucket with input, and a Dataflow service that really runs what is submitted to it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics.cells import DistributionResult
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.runner import PipelineResult
from apache_beam.transforms.environments import EmbeddedPythonEnvironment
from google.cloud import storage
from google.cloud.dataflow_v1beta3 import JobState

from pipelines import generate_events
from tests.cloud.conftest import (  # noqa: F401 - fixtures
    Cloud,
    cloud,
    environment,
    folder,
    objects,
)
from tests.pipelines.running import run
from transforms.schema import TABLES
from transforms.warehouse import open_warehouse

ROWS = 3000
IMAGE = "us-central1-docker.pkg.dev/test-project/estore-analytics/customer-analytics:build-1"


@pytest.fixture(scope="module")
def events(tmp_path_factory) -> Path:
    """A small input."""
    path = tmp_path_factory.mktemp("events") / "events.csv"
    generate_events.main([f"--rows={ROWS}", "--seed=5", f"--output={path}"])
    return path


@pytest.fixture(scope="module")
def expected(events, tmp_path_factory) -> dict[str, pa.Table]:
    """What the local runner makes of it, in a folder."""
    return run([events], tmp_path_factory.mktemp("local"))


@pytest.fixture
def job(cloud, events) -> list[str]:  # noqa: F811 - the fixture of that name
    """The command line of a job that reads and writes the test's bucket, without the program."""
    storage.Client().bucket(cloud.bucket).blob("in/events.csv").upload_from_filename(str(events))
    return [
        f"--input=gs://{cloud.bucket}/in/*.csv",
        f"--output={cloud.output}",
        "--runner=DataflowRunner",
        "--project=test-project",
        "--region=us-central1",
        f"--temp_location=gs://{cloud.bucket}/temp",
        f"--staging_location=gs://{cloud.bucket}/staging",
    ]


def read_object(path: str) -> bytes:
    """The bytes of a gs:// object."""
    with FileSystems.open(path) as file:
        return file.read()


def staged_pipeline(description: dict[str, Any]) -> beam_runner_api_pb2.Pipeline:
    """The pipeline that a job's description points to."""
    options = description["environment"]["sdkPipelineOptions"]["options"]
    return beam_runner_api_pb2.Pipeline.FromString(read_object(options["pipelineUrl"]))


def execute(pipeline: beam_runner_api_pb2.Pipeline) -> PipelineResult:
    """Run a staged pipeline here, its container replaced by this process."""
    embedded = EmbeddedPythonEnvironment.default().to_runner_api(None)
    for staged in pipeline.components.environments.values():
        staged.CopyFrom(embedded)
    result = FnApiRunner().run_via_runner_api(pipeline, PipelineOptions())
    result.wait_until_finish()
    return result


def metric_value(value: int | DistributionResult, attempts: int) -> dict[str, Any]:
    """A counter or distribution of so many equal attempts, as the service tells it."""
    if isinstance(value, int):
        return {"scalar": value * attempts}
    return {
        "distribution": {
            "count": value.count * attempts,
            "sum": value.sum * attempts,
            "min": value.min,
            "max": value.max,
            "mean": value.mean,
        }
    }


def metric_updates(
    pipeline: beam_runner_api_pb2.Pipeline, result: PipelineResult
) -> Iterator[dict[str, Any]]:
    """A run's metrics as the service tells them: committed, and tentative with a lost attempt."""
    steps = {step.unique_name: name for name, step in pipeline.components.transforms.items()}
    found = result.metrics().query()
    for metric in (*found["counters"], *found["distributions"]):
        for tentative, attempts in ({}, 1), ({"tentative": "true"}, 2):
            yield {
                "name": {
                    "origin": "user",
                    "name": metric.key.metric.name,
                    "context": {
                        "namespace": metric.key.metric.namespace,
                        "step": steps[metric.key.step],
                        **tentative,
                    },
                },
                **metric_value(metric.committed, attempts),
            }


def read_tables(output: str) -> dict[str, pa.Table]:
    """The published tables of a warehouse in a bucket."""
    return {table.name: open_warehouse(output).read_table(table).to_arrow() for table in TABLES}


class Dataflow:
    """The part of Dataflow's REST service that a client needs to start a job and wait for it.

    Attributes:
        jobs: Descriptions of the jobs submitted.
        metrics: What it tells of their metrics.
        requested_states: States that clients asked for.
        url: Its address.
    """

    def __init__(self) -> None:
        self.jobs: list[dict[str, Any]] = []
        self.metrics: list[dict[str, Any]] = []
        self.requested_states: list[str] = []
        self.runs = True
        self._state = "JOB_STATE_PENDING"
        self._messages: list[dict[str, str]] = []
        self._server = ThreadingHTTPServer(("localhost", 0), self._handler())
        self.url = f"http://localhost:{self._server.server_port}"
        self._threads = [threading.Thread(target=self._server.serve_forever)]
        self._threads[0].start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        for thread in self._threads:
            thread.join()

    def answer(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path.endswith("/messages"):
            return {"jobMessages": self._messages}
        if path.endswith("/metrics"):
            return {"metrics": self.metrics}
        if method == "POST":
            self.jobs.append(body)
            self._threads.append(threading.Thread(target=self._run, args=(body,)))
            self._threads[-1].start()
        if method == "PUT":
            self._state = JobState(body["requestedState"]).name
            self.requested_states.append(self._state)
        return {
            "id": "job-1",
            "name": self.jobs[0]["name"],
            "clientRequestId": self.jobs[0]["clientRequestId"],
            "currentState": self._state,
        }

    def _run(self, description: dict[str, Any]) -> None:
        self._state = "JOB_STATE_RUNNING"
        if not self.runs:
            return
        try:
            pipeline = staged_pipeline(description)
            self.metrics = list(metric_updates(pipeline, execute(pipeline)))
        except Exception as error:  # noqa: BLE001 - becomes a message, as there
            self._messages = [
                {
                    "id": "1",
                    "time": "2026-01-01T00:00:00Z",
                    "messageText": f"Traceback: {type(error).__module__}."
                    f"{type(error).__qualname__}: {error}",
                    "messageImportance": "JOB_MESSAGE_ERROR",
                }
            ]
            self._state = "JOB_STATE_FAILED"
        else:
            self._state = "JOB_STATE_DONE"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                path = self.path.partition("?")[0]
                answer = service.answer(self.command, path, json.loads(body or "{}"))
                content = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_PUT = do_GET  # noqa: N815 - the base class's names

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@pytest.fixture
def dataflow() -> Iterator[Dataflow]:
    """A Dataflow service of the test's own."""
    service = Dataflow()
    yield service
    service.close()
