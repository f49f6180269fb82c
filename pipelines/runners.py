"""Where the graph runs: in this process, on an engine over the wire, or on Dataflow."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import apache_beam as beam
from apache_beam.options.pipeline_options import (
    DirectOptions,
    GoogleCloudOptions,
    PipelineOptions,
    SetupOptions,
    StandardOptions,
    TestOptions,
    WorkerOptions,
)
from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.runner import PipelineResult, create_runner
from apache_beam.transforms.environments import EmbeddedPythonGrpcEnvironment

from pipelines.options import RunOptions, UsageError
from transforms.ingest.files import InputFile
from transforms.shuffle import sizing
from transforms.warehouse import in_bucket

LOCAL: Final = ("DirectRunner", "FnApiRunner")
DATAFLOW: Final = "DataflowRunner"
ENGINES: Final = ("PrismRunner", "PortableRunner", "FlinkRunner", "SparkRunner", DATAFLOW)

FEWEST_WORKERS: Final = 4
"""Workers that there is to be work for where their number is not known."""

_WORKER_MEMORY: Final = "min_ram=4GB"  # of a worker; a process on it needs about 1 GB


def runner_name(beam_options: PipelineOptions) -> str:
    """The runner's full name; Beam also takes names in any case and without `Runner`.

    Raises:
        UsageError: It is none that the pipeline runs on.
    """
    given = beam_options.view_as(StandardOptions).runner or LOCAL[0]
    wanted = given.lower().removesuffix("runner") + "runner"
    for name in (*LOCAL, *ENGINES):
        if name.lower() == wanted:
            return name
    raise UsageError(f"--runner={given}: choose one of {', '.join((LOCAL[0], *ENGINES))}")


def read_beam_options(arguments: list[str], options: RunOptions) -> PipelineOptions:
    """Beam's options, for the runner that they name.

    Args:
        arguments: The part of the command line that is Beam's.
        options: Our own options.

    Raises:
        UsageError: The runner cannot do the run with these options; says what to give.
    """
    # Everything a worker needs is importable, and pickled by reference.
    beam_options = PipelineOptions(
        [*arguments, "--pickle_library=cloudpickle", "--no_save_main_session"]
    )
    name = runner_name(beam_options)
    if name in LOCAL:
        if beam_options.view_as(DirectOptions).direct_running_mode == "multi_processing":
            raise UsageError(
                "--direct_running_mode=multi_processing: the workers of a local run are threads of "
                "one process; leave it out"
            )
        return beam_options
    beam_options.view_as(StandardOptions).runner = name
    problems = PipelineOptionsValidator(beam_options, create_runner(name)).validate()
    if name == DATAFLOW:
        problems += _dataflow_problems(beam_options, options)
    if problems:
        raise UsageError(f"--runner={name}: " + "\n".join(problems))
    if not beam_options.view_as(StandardOptions).resource_hints:
        beam_options.view_as(StandardOptions).resource_hints = [_WORKER_MEMORY]
    return beam_options


def _dataflow_problems(beam_options: PipelineOptions, options: RunOptions) -> list[str]:
    """What would fail only minutes later, on the workers."""
    problems = [
        f"Dataflow's workers cannot see {path}; give a gs:// path"
        for path in (*options.input, options.output)
        if not in_bucket(path)
    ]
    setup_file = beam_options.view_as(SetupOptions).setup_file
    if setup_file is not None and not Path(setup_file).is_file():
        problems.append(f"--setup_file={setup_file}: there is no such file")
    if setup_file is None and not beam_options.view_as(WorkerOptions).sdk_container_image:
        problems.append(
            "the workers need this program: give --sdk_container_image=IMAGE, built from "
            "templates/Dockerfile, or --setup_file=./setup.py"
        )
    return problems


def choose_local_workers(
    beam_options: PipelineOptions, given: int | None, files: Sequence[InputFile]
) -> int:
    """Set how many workers the local runner has; return their number.

    Args:
        beam_options: Beam's options.
        given: The number asked for: 0 for one a core, None where none was asked for.
        files: The input, of which a small one takes one worker.
    """
    is_small = sum(file.csv_bytes for file in files) < sizing.SMALL_BYTES
    workers = (1 if is_small else _cores()) if given is None else given or _cores()
    beam_options.view_as(DirectOptions).direct_num_workers = workers
    return workers


def workers_given(beam_arguments: list[str]) -> int | None:
    """The number of local workers that a command line asks for; Beam takes none for one."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--direct_num_workers", type=int)
    number: int | None = parser.parse_known_args(beam_arguments)[0].direct_num_workers
    return number


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_NEVER: Final = 2**31
"""Milliseconds after which a worker sends what it has encoded so far, whatever that is.

Another thread does it, by default each second, and in the middle of an element where its coder has
let go of the interpreter's lock: the reader then takes what follows its half for it, and crashes or
decodes anything. (Beam's other runners never do it; a worker that is alone has no such thread.)
"""


def local_runner(workers: int) -> FnApiRunner:
    """Beam's local runner, with a thread for each worker.

    Nearly all of the work is in functions that let go of the interpreter's lock, so threads keep
    all cores busy, without importing Beam and holding its memory once for each of them.
    """
    if workers == 1:
        return FnApiRunner()
    environment = EmbeddedPythonGrpcEnvironment.default()
    environment.data_buffer_time_limit_ms = _NEVER
    return FnApiRunner(environment)


def only_stages(beam_options: PipelineOptions) -> bool:
    """True where the job is left to another process to start, as in a flex template's launch."""
    return bool(beam_options.view_as(GoogleCloudOptions).template_location)


def execute(pipeline: beam.Pipeline) -> PipelineResult | None:
    """Run a pipeline on a runner that is not local.

    Returns:
        The result when it is done; None where the options ask only for the job to be staged.

    Raises:
        Exception: The pipeline failed; the type is the runner's.
    """
    result: Any = pipeline.run()
    cloud = pipeline.options.view_as(GoogleCloudOptions)
    if only_stages(pipeline.options):
        print(f"  staged    {cloud.template_location}")
        return None
    if pipeline.options.view_as(TestOptions).dry_run:
        print("  staged    nothing, for --dry_run; the job can be built")
        return None
    if pipeline.options.view_as(StandardOptions).runner == DATAFLOW:
        print(
            f"  job       https://console.cloud.google.com/dataflow/jobs/{cloud.region}/"
            f"{result.job_id()}?project={cloud.project}",
            flush=True,
        )
    return wait(result)


def wait(result: PipelineResult) -> PipelineResult:
    """Wait for a pipeline's end; where that is interrupted, stop the pipeline too."""
    try:
        result.wait_until_finish()
    except KeyboardInterrupt:
        with suppress(Exception):  # it may be over
            result.cancel()
        raise
    return result
