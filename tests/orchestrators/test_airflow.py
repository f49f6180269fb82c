"""The DAG, imported by the Airflow of an environment of its own (make test-orchestrators)."""

import json
import re
import runpy
from pathlib import Path

import jinja2
import pytest

ROOT = Path(__file__).parents[2]
VARIABLES = {
    "customer_analytics_bucket": "gs://my-bucket",
    "customer_analytics_dataset": "my-project.analytics",
    "customer_analytics_input": "gs://my-bucket/events/*.csv.gz",
    "customer_analytics_output": "gs://my-bucket/warehouse",
    "customer_analytics_project": "my-project",
    "customer_analytics_region": "us-central1",
    "customer_analytics_subnetwork": "regions/us-central1/subnetworks/workers",
    "customer_analytics_template": "gs://my-bucket/templates/customer-analytics-current.json",
    "customer_analytics_worker": "analytics-worker@my-project.iam.gserviceaccount.com",
}


@pytest.fixture(scope="module")
def dag():
    return runpy.run_path(str(ROOT / "templates/airflow_dag.py"))["dag"]


@pytest.fixture
def run(dag):
    (task,) = dag.tasks
    return task


@pytest.fixture
def launch(run):
    """What is sent, its templates rendered as Airflow does."""
    strict = jinja2.Environment(undefined=jinja2.StrictUndefined)  # noqa: S701 - JSON, not HTML
    template = strict.from_string(json.dumps(run.body))
    return json.loads(template.render(var={"value": VARIABLES}))["launchParameter"]


def test_the_graph(dag, run):
    assert dag.dag_id == "customer_analytics"
    assert dag.catchup is False
    assert dag.max_active_runs == 1
    assert type(run).__name__ == "DataflowStartFlexTemplateOperator"
    assert run.deferrable is True
    assert run.append_job_name is False
    assert not run.wait_until_finished  # which would hold a worker
    assert {"body", "location", "project_id"} <= set(run.template_fields)


def test_the_template_takes_the_parameters(launch):
    form = json.loads((ROOT / "templates/metadata.json").read_text(encoding="utf-8"))
    patterns = {p["name"]: p["regexes"][0] for p in form["parameters"]}
    assert launch["parameters"].keys() <= patterns.keys()
    assert launch["parameters"]["if_changed"] == "true"
    for name, value in launch["parameters"].items():
        assert re.search(patterns[name], value), name


def test_it_launches_as_the_workflow_does(launch):
    """The same name, which is the lock, and the same kinds of settings."""
    workflow = (ROOT / "templates/workflow.yaml").read_text(encoding="utf-8")
    assert f"- job_name: {launch['jobName']}\n" in workflow
    for name in (*launch["parameters"], *launch["environment"]):
        assert re.search(rf"^ +{name}:", workflow, re.MULTILINE), name
