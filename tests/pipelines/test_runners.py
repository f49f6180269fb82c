"""Which runner a name means, and what is asked of it."""

import pytest
from apache_beam.options.pipeline_options import (
    PipelineOptions,
    SetupOptions,
    StandardOptions,
)

from pipelines.options import UsageError, parse_arguments
from pipelines.runners import only_stages, read_beam_options, runner_name, wait

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
