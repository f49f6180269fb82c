"""The customer analytics pipeline: CSV clickstream in, audited and published warehouse out."""

from __future__ import annotations

import atexit
import datetime as dt
import errno
import io
import logging
import os
import re
import secrets
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Final, NoReturn

import apache_beam as beam
import polars as pl
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms.environments import EmbeddedPythonGrpcEnvironment

from pipelines import estimate, preflight, runners
from pipelines.metrics import read_totals
from pipelines.options import RunOptions, UsageError, parse_arguments
from pipelines.progress import reporting
from pipelines.summary import summarize
from transforms.analytics.shard_keys import session_shard_key
from transforms.errors import InputError, RunError
from transforms.ingest.files import InputFile, match_inputs, split_files
from transforms.shuffle import sizing
from transforms.shuffle.partition import GroupFrames
from transforms.steps.catalogue import BuildCatalogue
from transforms.steps.metrics import AddPartials, BuildMetrics
from transforms.steps.parse import Parse
from transforms.steps.plan import Plan
from transforms.steps.progress import Progress
from transforms.steps.publish import Publish
from transforms.steps.sessions import ProcessSessions
from transforms.steps.suspects import FindSuspects
from transforms.steps.users import BuildUsers
from transforms.warehouse import gcs, local
from transforms.warehouse.publishing import Run, publish_audited


def build_pipeline(pipeline: beam.Pipeline, plan: Plan) -> None:
    """Build the graph: two shuffles, of the events by session and of what they add up to."""
    parsed = pipeline | "Parse" >> Parse(plan)
    by_session = parsed.events | "ShuffleEvents" >> GroupFrames(
        plan.session_shards,
        dict.fromkeys(("events", "session_names"), session_shard_key),
        plan.store,
    )
    suspects = parsed.events | "FindSuspects" >> FindSuspects(plan, by_session)
    sessions = by_session | "Sessions" >> ProcessSessions(plan, suspects, parsed.few_rejected)
    catalogue = sessions.products | "Catalogue" >> BuildCatalogue(plan)
    users = sessions.by_user | "Users" >> BuildUsers(plan, sessions.exposures, catalogue.payloads)
    partials = (
        (sessions.partials, users.partials)
        | "AllPartials" >> beam.Flatten()
        | "AddPartials" >> AddPartials(plan)
    )
    metrics = pipeline | "Metrics" >> BuildMetrics(plan, partials, catalogue.payloads)
    tables = {
        "RejectedRows": parsed.rejected,
        "Sessions": sessions.tables,
        "Catalogue": catalogue.tables,
        "Users": users.tables,
        "Metrics": metrics,
    }
    audits = (parsed.counts, partials)
    _ = pipeline | "Publish" >> Publish(plan, tables, audits, users.samples, render_report)


def render_report(tables: Mapping[str, pl.DataFrame]) -> str:
    """The analyst's report as HTML; its libraries are slow to import, so only here."""
    from pipelines import report  # noqa: PLC0415

    return report.render_report(tables)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_local_workers(beam_options: PipelineOptions, files: Sequence[InputFile]) -> int:
    """Set how the local runner works, for the size of the input; return its number of workers."""
    direct = beam_options.view_as(DirectOptions)
    small = sum(file.csv_bytes for file in files) < sizing.SMALL_BYTES
    workers = direct.direct_num_workers if direct.direct_num_workers > 1 else _cores()
    workers = 1 if small else workers
    direct.direct_num_workers = workers
    return workers


def local_runner(workers: int) -> FnApiRunner:
    """Beam's local runner, with a thread for each worker.

    Nearly all of the work is in functions that let go of the interpreter's lock, so threads keep
    all cores busy, without importing Beam and holding its memory once for each of them.
    """
    return FnApiRunner(EmbeddedPythonGrpcEnvironment.default() if workers > 1 else None)


@contextmanager
def _silent_threads() -> Iterator[None]:
    """Keep the runner's threads from printing tracebacks; what they met arrives as an exception.

    Beam's workers print theirs; what this program prints meanwhile, it prints to its own stream.
    """
    shown, threading.excepthook = threading.excepthook, lambda _: None
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        threading.excepthook = shown


def new_run_id(now: dt.datetime) -> str:
    """An id that sorts by time and differs between runs of the same second."""
    return f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def run_pipeline(options: RunOptions, beam_arguments: list[str]) -> None:
    """Run the pipeline and print its summary; or print an estimate of what it would need.

    Raises:
        InputError: The input does not exist or has the wrong header.
        UsageError: Something else that the run needs is missing.
        RunError: The run failed.
    """
    started, clock = dt.datetime.now(dt.UTC), time.perf_counter()
    run_id = options.run_id or new_run_id(started)
    if options.estimate:
        print(estimate.describe(estimate.estimate(match_inputs(options.input))))
        return
    beam_options = runners.read_beam_options(beam_arguments, options)
    files = preflight.check(options, run_id)
    is_local = runners.runner_name(beam_options) in runners.LOCAL
    workers = choose_local_workers(beam_options, files) if is_local else None
    if gcs.in_bucket(options.output):
        workspace = gcs.workspace(
            options.output, run_id, spill=is_local, hand_over=runners.only_stages(beam_options)
        )
    else:
        workspace = local.workspace(Path(options.output), run_id, spill=is_local)
    totals = None
    with workspace as (staging, spill):
        if not resume(options, run_id):
            run = Run(
                run_id=run_id,
                started_at=started,
                output=options.output,
                staging=staging,
                options=options.as_json(),
                rules=options.rules,
                max_rejected_ratio=options.max_rejected_ratio,
                bigquery_dataset=options.bigquery_dataset,
                keep_staging=options.keep_staging,
            )
            size = sum(file.csv_bytes for file in files)
            shards = sizing.session_shards(size, workers or runners.FEWEST_WORKERS)
            repeats = beam_options.view_as(DirectOptions).direct_runner_bundle_repeat
            plan = Plan(run, split_files(files, workers), shards, spill, is_replayed=repeats > 0)
            pipeline = beam.Pipeline(
                runner=local_runner(workers) if workers else None, options=beam_options
            )
            build_pipeline(pipeline, plan)
            try:
                with _silent_threads(), reporting(Progress(spill), size):
                    result = runners.wait(pipeline.run()) if is_local else runners.execute(pipeline)
            except Exception as error:
                raise translate_failure(error, options.output) from error
            if result is None:
                return
            totals = read_totals(result)
    print(summarize(options, run_id, time.perf_counter() - clock, totals))


def resume(options: RunOptions, run_id: str) -> bool:
    """Publish a run that has passed its audit already; False where there is none of this id.

    Raises:
        UsageError: It was made with other options.
        RunError: It cannot be published.
    """
    if options.run_id is None or not gcs.in_bucket(options.output):
        return False
    manifest = gcs.audited(options.output, run_id)
    if manifest is None:
        return False
    if names := options.differing(manifest["options"]):
        raise UsageError(
            f"run {run_id} was made with another --{', --'.join(names)}; give the same, "
            "or leave --run_id out to begin a new run"
        )
    publish_audited(
        options.output, manifest, options.bigquery_dataset, keep_staging=options.keep_staging
    )
    return True


_ERROR_TEXT: Final = re.compile(
    r"transforms\.errors\.(InputError|RunError): (.*?)"
    r"(?: \[while running '[^']*'\])?\s*(?=\n\s*(?:During handling|The above|Traceback)|\Z)",
    re.DOTALL,
)

_STEP: Final = re.compile(r" \[while running '[^']*'\]$")

_FULL: Final = tuple(
    map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES))
)


def translate_failure(error: Exception, output: str) -> Exception:
    """Find the error written for the user in what a runner made of it, or write it.

    A worker's exception arrives as the text of its traceback, and often as several, one caused by
    the other; the first of our own is the cause.
    """
    if isinstance(error, RunError):
        return type(error)(_STEP.sub("", str(error)))
    text = f"{type(error).__module__}.{type(error).__qualname__}: {error}"
    match = _ERROR_TEXT.search(text)
    if match is not None:
        return RunError(match[2])
    full = next((reason for reason in _FULL if reason in text), None)
    if full is not None:
        return RunError(
            f"{output} cannot be written ({full}); nothing was published. "
            "Make room there, or choose another --output."
        )
    return error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the pipeline from the command line; the exit code is 0, 1 or 2 as --help says."""
    # The runner's warnings are about its own workings; its errors arrive as exceptions.
    logging.getLogger().setLevel(logging.CRITICAL)
    try:
        options, beam_arguments = parse_arguments(sys.argv[1:] if arguments is None else arguments)
        run_pipeline(options, beam_arguments)
    except KeyboardInterrupt:
        print("\ncustomer-analytics: interrupted; nothing was published", file=sys.stderr)
        return 1
    except RunError as error:
        print(f"customer-analytics: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    except UsageError as error:
        print(f"customer-analytics: {error}", file=sys.stderr)
        return 2
    return 0


def command() -> NoReturn:
    """Run the pipeline as a command.

    What libraries have asked to be done at exit is done; freeing the million objects of Beam and
    LLVM one by one, which takes the interpreter a second, is left to the operating system. What a
    worker in this process says of an engine that is gone would follow the last line, and is hidden.
    """
    threading.excepthook = lambda _: None
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    with _silent_threads():
        atexit._run_exitfuncs()  # noqa: SLF001 - has no public name
        os._exit(code)


if __name__ == "__main__":
    # Under its importable name, so that workers find what is pickled by reference.
    from pipelines import customer_analytics  # noqa: PLW0406

    customer_analytics.command()
