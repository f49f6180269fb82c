"""Which runner a name means, and what is asked of it."""

import resource
import subprocess
import sys

import pytest
from apache_beam.options.pipeline_options import (
    DirectOptions,
    PipelineOptions,
    SetupOptions,
    StandardOptions,
)

from pipelines import runners
from pipelines.options import UsageError, parse_arguments
from pipelines.runners import (
    choose_local_workers,
    only_stages,
    read_beam_options,
    runner_name,
    wait,
    workers_given,
)
from tests.oracle.grammar import COLUMNS
from transforms.ingest.files import InputFile
from transforms.ingest.grammar import parse_header

OPTIONS, _ = parse_arguments(["--input=events.csv", "--output=warehouse"])


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ([], "DirectRunner"),
        (["--runner=DirectRunner"], "DirectRunner"),
        (["--runner=direct"], "DirectRunner"),
        (["--runner=FnApiRunner"], "FnApiRunner"),
        (["--runner=prism"], "PrismRunner"),
        (["--runner=PORTABLERUNNER"], "PortableRunner"),
        (["--runner=DataflowRunner"], "DataflowRunner"),
    ],
)
def test_names(given, name):
    assert runner_name(PipelineOptions(given)) == name


@pytest.mark.parametrize("name", ["DaskRunner", "InteractiveRunner", "Spark2"])
def test_other_runners_are_refused(name):
    with pytest.raises(UsageError, match=f"--runner={name}: choose one of DirectRunner, "):
        read_beam_options([f"--runner={name}"], OPTIONS)


def test_engines_are_told_what_a_worker_needs():
    options = read_beam_options(["--runner=PrismRunner"], OPTIONS).view_as(StandardOptions)
    assert options.resource_hints == ["min_ram=4GB"]


def test_given_hints_stay():
    arguments = ["--runner=PrismRunner", "--resource_hint=min_ram=8GB"]
    options = read_beam_options(arguments, OPTIONS).view_as(StandardOptions)
    assert options.resource_hints == ["min_ram=8GB"]


def test_the_main_module_is_not_sent():
    assert read_beam_options([], OPTIONS).view_as(SetupOptions).save_main_session is False


def test_a_template_launch_only_stages():
    assert only_stages(PipelineOptions(["--template_location=gs://bucket/job.json"]))
    assert not only_stages(PipelineOptions([]))


class Interrupted:
    cancelled = False

    def wait_until_finish(self):
        raise KeyboardInterrupt

    def cancel(self):
        self.cancelled = True
        message = "already over"
        raise RuntimeError(message)


def test_an_interrupted_wait_cancels():
    result = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        wait(result)
    assert result.cancelled


def input_file(size: int) -> InputFile:
    return InputFile("events.csv", size, size, parse_header(",".join(COLUMNS).encode(), ""), 0)


@pytest.mark.parametrize(
    ("given", "size", "workers"),
    [
        ([], 1 << 30, 3),
        ([], 1 << 10, 1),
        (["--direct_num_workers=1"], 1 << 30, 1),
        (["--direct_num_workers", "2"], 1 << 30, 2),
        (["--direct_num_workers=2"], 1 << 10, 2),
        (["--direct_num_workers=0"], 1 << 30, 3),
    ],
)
def test_as_many_workers_as_asked_for_or_as_there_is_work_for(given, size, workers, monkeypatch):
    monkeypatch.setattr(runners, "_cores", lambda: 3)
    options = read_beam_options(given, OPTIONS)
    chosen = choose_local_workers(options, workers_given(given), [input_file(size)])
    assert chosen == options.view_as(DirectOptions).direct_num_workers == workers


def test_local_workers_are_not_processes():
    given = ["--direct_running_mode=multi_processing"]
    with pytest.raises(UsageError, match="threads of one process; leave it out"):
        read_beam_options(given, OPTIONS)


def test_no_element_is_sent_before_all_of_it_is_encoded():
    # A reader that is given half of one may ask for any amount of memory.
    limit = 8 << 30
    done = subprocess.run(
        [sys.executable, "-m", "tests.pipelines.slow_coder"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        check=False,
        timeout=120,
    )
    assert done.returncode == 0
