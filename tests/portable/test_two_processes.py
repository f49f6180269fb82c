"""Workers that are processes: what one has numbered, another reads as it was, or refuses."""

import sys

import polars as pl
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms.environments import SubprocessSDKEnvironment

from pipelines import customer_analytics, runners
from tests.oracle.compare import assert_tables_equal
from tests.pipelines.running import arguments, contents, published
from tests.portable.conftest import SHARDS
from tests.portable.test_prism import run_on_prism, worker_pool  # noqa: F401
from transforms.columnar.product_codes import PRODUCT_CODE
from transforms.ingest.session_keys import SESSION_KEY
from transforms.schema import TABLES_BY_NAME
from transforms.shuffle import sizing
from transforms.shuffle.stores import InlineStore, SpillStore
from transforms.steps import plan
from transforms.steps.parse import Parse

pytestmark = pytest.mark.portable

WORKER = f"{sys.executable} -m apache_beam.runners.worker.sdk_worker_main"


@pytest.fixture
def two_processes(monkeypatch):
    """Beam's local runner, which starts its workers as processes."""
    monkeypatch.setattr(
        runners,
        "local_runner",
        lambda _: FnApiRunner(SubprocessSDKEnvironment.from_command_string(WORKER)),
    )


@pytest.mark.usefixtures("two_processes")
@pytest.mark.parametrize("passes", [1, 2])
def test_frames_that_leave_their_process_arrive(files, expected, tmp_path, monkeypatch, passes):
    monkeypatch.setattr(plan, "frame_store", lambda *_, **__: InlineStore())
    monkeypatch.setattr(plan.Plan, "is_distributed", True)
    if passes > 1:
        monkeypatch.setattr(sizing, "PIECE_BYTES", sizing.SHARD_BYTES)
    assert sizing.session_levels(SHARDS).passes == passes
    code = customer_analytics.main([*arguments(files, tmp_path), "--direct_num_workers=2"])

    assert code == 0
    assert_tables_equal(contents(published(tmp_path)), contents(expected))
    checks = pl.from_arrow(published(tmp_path)["data_quality"])
    arrival = checks.filter(pl.col("check_name") == "every_event_arrives_as_parsed")
    assert arrival["passed"].to_list() == [True]


@pytest.mark.usefixtures("two_processes")
def test_references_that_leave_their_process_fail_the_run(files, tmp_path, capfd):
    code = customer_analytics.main([*arguments(files, tmp_path), "--direct_num_workers=2"])

    assert code == 1
    assert "only the process that wrote them can read" in capfd.readouterr().err
    assert not any((tmp_path / name).exists() for name in TABLES_BY_NAME)


def test_events_that_arrive_as_others_are_not_published(files, tmp_path, monkeypatch, capfd):
    """As where numbers of another process are read: rows balance, and no other check fails."""
    read = SpillStore.read

    def read_others(self, payloads):
        frame = read(self, payloads)
        if {PRODUCT_CODE, *SESSION_KEY} <= set(frame.columns):
            frame = frame.with_columns(pl.col(PRODUCT_CODE).shuffle(seed=1))
        return frame

    monkeypatch.setattr(SpillStore, "read", read_others)
    assert customer_analytics.main(arguments(files, tmp_path)) == 1
    failed = [line for line in capfd.readouterr().err.splitlines() if line.startswith("  ")]
    assert failed == ["  fct_events: every_event_arrives_as_parsed (1 rows)"]


def test_events_are_parsed_in_one_process_and_cleaned_in_another(
    prism, files, expected, tmp_path, request
):
    """Prism starts a worker for each environment, and hints make two of them."""
    pool = request.getfixturevalue("worker_pool")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            customer_analytics, "Parse", lambda of: Parse(of).with_resource_hints(min_ram="1GB")
        )
        tables, _ = run_on_prism(
            prism,
            files,
            tmp_path / "warehouse",
            "--environment_type=EXTERNAL",
            f"--environment_config={pool}",
        )

    assert_tables_equal(contents(tables), contents(expected))
