"""The workflows, executed against a server that answers as Google's services do."""

from __future__ import annotations

import base64
import datetime as dt
import itertools
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import yaml

from pipelines.options import parse_arguments
from pipelines.template import ROOT, metadata
from tests.deployment.workflows import Execution, RaisedError, Timeline

WORKFLOW = ROOT / "templates/workflow.yaml"
HEARTBEAT = ROOT / "templates/heartbeat.yaml"
PLACE = "projects/my-project/locations/us-central1"
MINUTE, HOUR = 60.0, 3600.0
ENVIRONMENT = {
    "GOOGLE_CLOUD_PROJECT_ID": "my-project",
    "GOOGLE_CLOUD_LOCATION": "us-central1",
    "GOOGLE_CLOUD_WORKFLOW_ID": "customer-analytics",
    "BIGQUERY_DATASET": "my-project.analytics",
    "INPUT": "gs://my-project-events/*.csv.gz",
    "MACHINE_TYPE": "n2-standard-2",
    "MANIFEST": "https://storage.googleapis.com/storage/v1/b/out/o/warehouse%2Fmanifest.json",
    "MAX_WORKERS": "50",
    "OUTPUT": "gs://my-project-analytics/warehouse",
    "STAGING": "gs://my-project-analytics",
    "STALE_AFTER_HOURS": "36",
    "SUBNETWORK": "regions/us-central1/subnetworks/customer-analytics",
    "TEMPLATE": "gs://my-project-templates/templates/customer-analytics-current.json",
    "WEBHOOK": "customer-analytics-webhook",
    "WORKER": "analytics-worker@my-project.iam.gserviceaccount.com",
}


@dataclass
class Job:
    """A job of the service: who launched it, and how and when it ends."""

    launch: dict[str, Any]
    started: float
    ends: float
    outcome: str


@dataclass
class Cloud:
    """Dataflow, Workflows, a secret, an object and a webhook, on loopback.

    Attributes:
        timeline: Tells the time, and which executions are at work.
        jobs: All jobs, by id.
        outcomes: How the next jobs end; afterwards all are done.
        job_seconds: How long a job takes.
        faults: Status codes for the next calls whose path matches.
        told: What the webhook was sent.
        manifest: When the manifest was replaced; None where there is none.
        hides_running: Whether the list of jobs lags behind.
    """

    timeline: Timeline = field(default_factory=Timeline)
    jobs: dict[str, Job] = field(default_factory=dict)
    outcomes: list[str] = field(default_factory=list)
    job_seconds: float = 20 * MINUTE
    faults: list[tuple[str, int]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    manifest: str | None = None
    hides_running: bool = False
    executions: list[str] = field(default_factory=list)
    logged: list[Any] = field(default_factory=list)
    address: str = ""

    def state(self, job: Job) -> str:
        return job.outcome if self.timeline.now >= job.ends else "JOB_STATE_RUNNING"

    def running(self) -> list[dict[str, str]]:
        return [
            {"id": name, "name": job.launch["jobName"]}
            for name, job in self.jobs.items()
            if self.state(job) == "JOB_STATE_RUNNING"
        ]

    def answer(self, method: str, url: str, body: Any) -> tuple[int, Any]:  # noqa: PLR0911 - a call each
        parts = urlsplit(url)
        query = {name: value for name, (value,) in parse_qs(parts.query).items()}
        for fault in self.faults:
            if re.search(fault[0], url):
                self.faults.remove(fault)
                return fault[1], {}
        match method, parts.path.split("/", 2)[1], "/" + parts.path.split("/", 2)[2]:
            case "GET", "dataflow.googleapis.com", path if path == f"/v1b3/{PLACE}/jobs":
                assert query == {"filter": "ACTIVE", "name": "customer-analytics"}
                found = [] if self.hides_running else self.running()
                return 200, {"jobs": found} if found else {}
            case "POST", "dataflow.googleapis.com", path if path.endswith("/flexTemplates:launch"):
                return self._launch(body["launchParameter"])
            case "GET", "dataflow.googleapis.com", path:
                name = path.removeprefix(f"/v1b3/{PLACE}/jobs/")
                return 200, {"id": name, "currentState": self.state(self.jobs[name])}
            case "GET", "workflowexecutions.googleapis.com", path:
                assert path == f"/v1/{PLACE}/workflows/customer-analytics/executions"
                assert query["filter"] == 'state="ACTIVE"'
                assert query["orderBy"] == "createTime desc"
                active = [e for e in self.executions if e not in self.timeline.ended]
                newest = reversed(active[-int(query["pageSize"]) :])
                return 200, {"executions": [{"name": f"{path}/{e}"} for e in newest]}
            case "GET", "secretmanager.googleapis.com", path:
                assert path.endswith("/secrets/customer-analytics-webhook/versions/latest:access")
                data = base64.b64encode(b"https://hooks.example/secret").decode()
                return 200, {"payload": {"data": data}}
            case "GET", "storage.googleapis.com", path:
                assert unquote(path).endswith("/b/out/o/warehouse/manifest.json")
                return (404, {}) if self.manifest is None else (200, {"updated": self.manifest})
            case "POST", "hooks.example", "/secret":
                self.told.append(body["text"])
                return 200, {}
        raise AssertionError(url)

    def _launch(self, launch: dict[str, Any]) -> tuple[int, Any]:
        if any(job["name"] == launch["jobName"] for job in self.running()):
            return 409, {}
        name = f"job-{len(self.jobs) + 1}"
        outcome = self.outcomes.pop(0) if self.outcomes else "JOB_STATE_DONE"
        now = self.timeline.now
        self.jobs[name] = Job(launch, now, now + self.job_seconds, outcome)
        return 200, {"job": {"id": name}}

    def start(self, name: str, at: float = 0.0, workflow=WORKFLOW) -> None:
        hosts = ("dataflow", "workflowexecutions", "secretmanager", "storage")
        servers = {f"{host}.googleapis.com": self.address for host in hosts}
        execution = Execution(
            workflow,
            {**ENVIRONMENT, "GOOGLE_CLOUD_WORKFLOW_EXECUTION_ID": name},
            self.timeline,
            {**servers, "hooks.example": self.address},
            self.logged,
        )
        self.timeline.start(name, execution.run({"by": "schedule"}), at)

    def run(self) -> dict[str, Any]:
        self.timeline.run(self.executions.append)
        return self.timeline.ended


@pytest.fixture
def cloud():
    service = Cloud()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, answer = service.answer(self.command, self.path, json.loads(body or "{}"))
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET  # noqa: N815 - the base class's name

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("localhost", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    service.address = f"http://localhost:{server.server_port}"
    yield service
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_run(cloud):
    cloud.start("a")
    assert cloud.run() == {"a": "job-1"}
    launch = cloud.jobs["job-1"].launch
    assert launch["jobName"] == "customer-analytics"
    assert launch["environment"]["ipConfiguration"] == "WORKER_IP_PRIVATE"
    assert launch["environment"]["maxWorkers"] == 50
    assert launch["environment"]["serviceAccountEmail"] == ENVIRONMENT["WORKER"]
    assert launch["environment"]["additionalUserLabels"] == {"application": "customer-analytics"}
    assert cloud.timeline.now == 20 * MINUTE
    assert cloud.told == []


def test_the_template_takes_the_parameters(cloud):
    cloud.start("a")
    cloud.run()
    parameters = cloud.jobs["job-1"].launch["parameters"]
    form = {parameter["name"]: parameter for parameter in json.loads(metadata())["parameters"]}
    assert parameters.keys() <= form.keys()
    assert parameters["if_changed"] == "true"
    for name, value in parameters.items():
        assert re.search(form[name]["regexes"][0], value), name
    options, beam = parse_arguments([f"--{name}={value}" for name, value in parameters.items()])
    assert (options.if_changed, options.bigquery_dataset, beam) == (
        True,
        "my-project.analytics",
        [],
    )


@pytest.mark.parametrize("outcome", ["JOB_STATE_FAILED", "JOB_STATE_CANCELLED"])
def test_a_job_that_fails_is_told_of_and_fails_the_execution(cloud, outcome):
    cloud.outcomes = [outcome]
    cloud.start("a")
    assert isinstance(cloud.run()["a"], RaisedError)
    (told,) = cloud.told
    assert outcome in told
    assert (
        "https://console.cloud.google.com/dataflow/jobs/us-central1/job-1?project=my-project"
        in told
    )


def test_a_webhook_that_cannot_be_told_hides_nothing(cloud):
    cloud.outcomes = ["JOB_STATE_FAILED"]
    cloud.faults = [("hooks", 500)]
    cloud.start("a")
    ended = cloud.run()["a"]
    assert ended.value == "job job-1 ended as JOB_STATE_FAILED"
    (logged,) = cloud.logged
    assert logged["severity"] == "WARNING"
    assert "hooks.example" not in f"{logged} {ended}"


def test_without_a_webhook_a_failure_fails(cloud):
    cloud.outcomes = ["JOB_STATE_FAILED"]
    cloud.faults = [("secretmanager", 404)]
    cloud.start("a")
    assert isinstance(cloud.run()["a"], RaisedError)
    assert cloud.told == []


@pytest.mark.parametrize("code", [403, 404])
def test_a_launch_that_is_refused_is_told_of(cloud, code):
    cloud.faults = [("launch", code)]
    cloud.start("a")
    assert cloud.run()["a"].value["code"] == code
    (told,) = cloud.told
    assert ENVIRONMENT["TEMPLATE"] in told


def test_a_service_that_is_out_of_order_for_a_moment(cloud):
    cloud.faults = [("jobs\\?", 503), ("jobs/job", 500), ("launch", 429), ("jobs/job", 502)]
    cloud.start("a")
    assert cloud.run() == {"a": "job-1"}
    assert cloud.told == []


@pytest.mark.parametrize("hides_running", [False, True], ids=["listed", "name taken"])
def test_a_job_that_runs_already_is_waited_for(cloud, hides_running):
    cloud.hides_running = hides_running
    cloud.answer(
        "POST",
        f"/dataflow.googleapis.com/v1b3/{PLACE}/flexTemplates:launch",
        {"launchParameter": {"jobName": "customer-analytics"}},
    )
    cloud.start("a", at=MINUTE)
    assert cloud.run() == {"a": "job-2"}
    assert cloud.jobs["job-2"].started >= cloud.jobs["job-1"].ends
    assert cloud.told == []


def test_many_files_make_two_runs(cloud):
    for number in range(40):
        cloud.start(f"file-{number}", at=number * 20.0)
    ended = cloud.run()
    assert len(cloud.jobs) == 2
    assert (ended["file-0"], ended["file-39"]) == ("job-1", "job-2")
    assert [*ended.values()].count("left to a later execution") == 38
    assert cloud.jobs["job-2"].started > 39 * 20.0


def test_files_that_never_stop_coming_do_not_starve_the_job(cloud):
    cloud.job_seconds = 3 * MINUTE
    for number in range(60):
        cloud.start(f"file-{number}", at=number * 20.0)
    cloud.run()
    starts = [job.started for job in cloud.jobs.values()]
    gaps = [after - before for before, after in itertools.pairwise(starts)]
    assert len(gaps) > 3
    assert max(gaps) <= cloud.job_seconds + 2 * MINUTE
    assert starts[-1] >= 59 * 20.0  # the last file is read


def test_jobs_never_overlap(cloud):
    cloud.hides_running = True
    for number in range(50):
        cloud.start(f"file-{number}", at=number * number * 7.0)
    cloud.run()
    jobs = [*cloud.jobs.values()]
    assert len(jobs) > 3
    assert all(a.ends <= b.started for a, b in itertools.pairwise(jobs))


def test_the_file_of_a_run_that_failed_is_taken_by_the_next(cloud):
    cloud.outcomes = ["JOB_STATE_FAILED"]
    cloud.start("file-0")
    cloud.start("file-1", at=MINUTE)
    ended = cloud.run()
    assert isinstance(ended["file-0"], RaisedError)
    assert ended["file-1"] == "job-2"


def at(hours: float) -> str:
    return dt.datetime.fromtimestamp(hours * HOUR, dt.UTC).isoformat().replace("+00:00", "Z")


@pytest.mark.parametrize(
    ("age", "said"),
    [(0, "fresh"), (36, "fresh"), (36.1, "stale"), (None, "nothing is published yet")],
)
def test_a_heartbeat(cloud, age, said):
    cloud.manifest = None if age is None else at(100 - age)
    cloud.start("beat", at=100 * HOUR, workflow=HEARTBEAT)
    assert cloud.run() == {"beat": said}
    heard = [line["json"]["customer_analytics"] for line in cloud.logged]
    assert heard == (["fresh"] if said == "fresh" else [])


def test_a_heartbeat_that_may_not_look_fails(cloud):
    cloud.faults = [("storage", 403)]
    cloud.start("beat", workflow=HEARTBEAT)
    assert cloud.run()["beat"].value["code"] == 403
    assert cloud.logged == []


@pytest.mark.parametrize("path", [WORKFLOW, HEARTBEAT], ids=lambda path: path.name)
def test_every_jump_leads_to_a_step(path):
    text = path.read_text(encoding="utf-8")
    for workflow in yaml.safe_load(text).values():
        names = {next(iter(step)) for step in workflow["steps"]}
        targets = set(re.findall(r"'next': '(\w+)'", str(workflow)))
        assert targets <= names


def test_what_the_interpreter_does_not_know_is_refused(tmp_path):
    path = tmp_path / "workflow.yaml"
    path.write_text("main: {steps: [{a: {for: {}}}]}")
    with pytest.raises(AssertionError, match="not known"):
        next(Execution(path, {}, Timeline(), {}).run())
