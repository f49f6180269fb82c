"""The Dagster definitions, run by the Dagster of an environment of its own."""

import runpy
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from transforms.schema import TABLES

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def definitions():
    return runpy.run_path(str(ROOT / "templates/dagster_definitions.py"))["definitions"]


def test_an_asset_and_a_check_for_each_table(definitions):
    graph = definitions.resolve_asset_graph()
    names = {table.name for table in TABLES}
    assert {key.to_user_string() for key in graph.get_all_asset_keys()} == names
    assert {key.asset_key.to_user_string() for key in graph.asset_check_keys} == names


def generate(path, seed):
    command = [sys.executable, "-m", "pipelines.generate_events", "--rows=3000"]
    subprocess.run([*command, f"--seed={seed}", f"--output={path}"], check=True, cwd=ROOT)


def test_from_a_new_file_to_checked_tables(definitions, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv(
        "CUSTOMER_ANALYTICS_ARGUMENTS",
        f"--input '{tmp_path}/*.csv' --output {tmp_path}/warehouse --direct_num_workers=1",
    )
    generate(tmp_path / "a.csv", 1)
    job = definitions.resolve_job_def("customer_analytics_job")
    sensor = definitions.resolve_sensor_def("input_changed")
    with dg.DagsterInstance.ephemeral() as instance:

        def look():
            context = dg.build_sensor_context(instance=instance, definitions=definitions)
            return sensor(context)

        asked = look()
        assert isinstance(asked, dg.RunRequest)
        assert look().run_key == asked.run_key  # nothing has changed: asked for once

        working = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
        assert look().skip_message == "a run is at work"
        instance.report_run_failed(working)
        assert look().run_key == asked.run_key  # a file whose run failed is not forgotten

        done = job.execute_in_process(instance=instance)
        assert done.success
        assert len(done.get_asset_materialization_events()) == len(TABLES)
        checks = done.get_asset_check_evaluations()
        assert len(checks) == len(TABLES)
        assert "nothing new since" in look().skip_message

        generate(tmp_path / "b.csv", 2)
        assert look().run_key != asked.run_key
