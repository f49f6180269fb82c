"""The graph on another engine, over the wire: coders, fusion, splitting that are not Python's."""

import io
import os
import socket
import subprocess
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from pipelines import customer_analytics
from tests.cloud.servers import free_port
from tests.oracle.compare import assert_tables_equal
from tests.pipelines.running import arguments, contents, last_run, published
from tests.pipelines.test_summary import assert_summary_of

pytestmark = pytest.mark.portable


def run_on_prism(prism, files, output, *options):
    """Run the pipeline; return what it published, and printed."""
    engine = ("--runner=PrismRunner", f"--prism_location={prism}", *options)
    with redirect_stdout(io.StringIO()) as printed:
        assert customer_analytics.main([*arguments(files, output), *engine]) == 0
    return published(output), printed.getvalue()


def wait_until_open(port, process):
    while process.poll() is None:
        with socket.socket() as client:
            if client.connect_ex(("localhost", port)) == 0:
                return
        time.sleep(0.05)
    message = f"the worker pool stopped with {process.returncode}"
    raise RuntimeError(message)


@pytest.fixture
def worker_pool(tmp_path):
    """The address of a pool that starts worker processes of its own, as on another machine."""
    port = free_port()
    with (tmp_path / "pool.log").open("wb") as log:
        pool = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "apache_beam.runners.worker.worker_pool_main",
                f"--service_port={port}",
            ],
            # The pool starts the `python` that PATH finds.
            env={
                **os.environ,
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                "PYTHONPATH": str(Path(customer_analytics.__file__).parent.parent),
            },
            stdout=log,
            stderr=log,
        )
        try:
            wait_until_open(port, pool)
            yield f"localhost:{port}"
        finally:
            pool.terminate()
            pool.wait(20)


def test_workers_in_this_process(prism, files, expected, tmp_path):
    tables, text = run_on_prism(prism, files, tmp_path, "--environment_type=LOOPBACK")

    assert_tables_equal(contents(tables), contents(expected))
    assert last_run(tables)["rejected_rows"] == 3
    assert_summary_of(text, tables, may_lose_counts=True)


def test_workers_in_a_pool(prism, files, expected, tmp_path, worker_pool):
    tables, text = run_on_prism(
        prism,
        files,
        tmp_path / "warehouse",
        "--environment_type=EXTERNAL",
        f"--environment_config={worker_pool}",
    )

    assert_tables_equal(contents(tables), contents(expected))
    assert_summary_of(text, tables, may_lose_counts=True)


def test_an_error_of_a_worker_reaches_the_user(prism, files, tmp_path):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pipelines.customer_analytics"),
            *arguments(files, tmp_path, max_rejected_ratio=0),
            *("--runner=prism", f"--prism_location={prism}", "--environment_type=LOOPBACK"),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert done.returncode == 1
    # Beam itself prints the worker's traceback, before; here the worker is the same process.
    _, said, ours = done.stderr.partition("customer-analytics: ")
    assert said
    assert ours.startswith("3 of 5,503 rows were rejected (0.05%), more than --max_rejected_ratio=")
    assert "Traceback" not in ours
    assert [path.name for path in tmp_path.iterdir()] == ["_lock"]
