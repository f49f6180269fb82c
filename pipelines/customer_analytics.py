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
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, NoReturn

import apache_beam as beam
import polars as pl
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions
from apache_beam.pvalue import AsIter
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms.environments import EmbeddedPythonGrpcEnvironment

from pipelines import estimate, preflight, runners
from pipelines.metrics import read_totals
from pipelines.options import RunOptions, UsageError, parse_arguments
from pipelines.progress import reporting
from pipelines.summary import summarize
from transforms.analytics.cleaning import product_shard, session_shard, user_shard
from transforms.analytics.session_shard import BY_USER, PRODUCT_SUMS, TOUCHES_BY_USER
from transforms.errors import InputError, RunError
from transforms.ingest.files import InputFile, InputRanges, match_inputs, split_files
from transforms.shuffle.coder import Payload
from transforms.shuffle.partition import GroupFrames, PartitionFrames, StoreFrames
from transforms.shuffle.stores import FrameStore, frame_store
from transforms.steps.catalogue import (
    CombineProducts,
    DescribeCatalogue,
    FindAmbiguousProducts,
    FindCandidateBrands,
    ProductVariants,
)
from transforms.steps.metrics import ComputeMetrics
from transforms.steps.parse import ParseRanges
from transforms.steps.progress import Progress
from transforms.steps.publish import AuditAndPublish, RejectedExamples, RequireFewRejected
from transforms.steps.sessions import ProcessSessionShards
from transforms.steps.stage_tables import StageTables
from transforms.steps.users import CombineUsers, DescribeUsers, FindRankCandidates
from transforms.warehouse import gcs, local
from transforms.warehouse.publishing import Run, publish_audited

_SHARD_BYTES: Final = 48 << 20  # of CSV: about 360,000 events
_SMALL_BYTES: Final = 24 << 20  # of CSV, for which a second worker would bring nothing


@dataclass(frozen=True)
class Plan:
    """What the graph is built from.

    Attributes:
        run: The run.
        ranges: What to read.
        session_shards: Number of shards of sessions; users and products have fewer rows.
        spill_directory: Folder that all workers share, or None for a distributed shuffle.
        is_replayed: Whether the runner runs bundles again that have been done.
    """

    run: Run
    ranges: Sequence[InputRanges]
    session_shards: int
    spill_directory: str | None
    is_replayed: bool = False

    @property
    def store(self) -> FrameStore:
        """How frames cross a shuffle."""
        return frame_store(self.spill_directory, is_replayed=self.is_replayed)

    @property
    def user_shards(self) -> int:
        """Number of shards of users."""
        return -(-self.session_shards // 4)

    @property
    def product_shards(self) -> int:
        """Number of shards of products."""
        return -(-self.session_shards // 16)


def build_pipeline(pipeline: beam.Pipeline, plan: Plan) -> None:
    """Build the graph: two shuffles, of the events by session and of what they add up to."""
    run, store, progress = plan.run, plan.store, Progress(plan.spill_directory)
    by_user = dict.fromkeys(BY_USER, user_shard)

    parsed = (
        pipeline
        | "InputRanges" >> beam.Create(plan.ranges)
        | "SpreadRanges" >> beam.Reshuffle()
        | "Parse"
        >> beam.ParDo(ParseRanges(run.run_id, progress)).with_outputs(
            ParseRanges.REJECTED, ParseRanges.COUNTS, main="events"
        )
    )
    read_counts = parsed[ParseRanges.COUNTS] | "StoreReadCounts" >> beam.ParDo(StoreFrames(store))
    examples = parsed[ParseRanges.REJECTED] | "RejectedExamples" >> beam.ParDo(
        RejectedExamples(store)
    ).with_output_types(Payload)
    few_rejected = (
        pipeline
        | "StartRequireFewRejected" >> beam.Impulse()
        | "RequireFewRejected"
        >> beam.ParDo(
            RequireFewRejected(run, store), AsIter(read_counts), AsIter(examples)
        ).with_output_types(bool)
    )
    ambiguous = (
        parsed.events
        | "ProductVariants" >> beam.ParDo(ProductVariants())
        | "ShuffleVariants" >> GroupFrames(plan.product_shards, {"variants": product_shard}, store)
        | "FindAmbiguousProducts" >> beam.ParDo(FindAmbiguousProducts(store))
    )

    by_session = parsed.events | "ShuffleEvents" >> GroupFrames(
        plan.session_shards, dict.fromkeys(("events", "session_names"), session_shard), store
    )
    brands = by_session | "FindCandidateBrands" >> beam.ParDo(
        FindCandidateBrands(store), AsIter(ambiguous)
    )
    sessions = by_session | "ProcessSessions" >> beam.ParDo(
        ProcessSessionShards(run.rules, store, progress),
        AsIter(ambiguous),
        AsIter(brands),
        AsIter(few_rejected),
    ).with_outputs(
        ProcessSessionShards.USERS,
        ProcessSessionShards.TOUCHES,
        ProcessSessionShards.PRODUCTS,
        ProcessSessionShards.PARTIALS,
        main="tables",
    )

    catalogue = (
        sessions[ProcessSessionShards.PRODUCTS]
        | "ShuffleProducts"
        >> GroupFrames(plan.product_shards, {PRODUCT_SUMS: product_shard}, store)
        | "CombineProducts" >> beam.ParDo(CombineProducts(store))
    )
    products = (
        pipeline
        | "StartDescribeCatalogue" >> beam.Impulse()
        | "DescribeCatalogue" >> beam.ParDo(DescribeCatalogue(store), AsIter(catalogue))
    )

    # The touches meet the users again only when these are combined, and so are sent once.
    touches = sessions[ProcessSessionShards.TOUCHES] | "PartitionTouches" >> beam.ParDo(
        PartitionFrames(plan.user_shards, dict.fromkeys(TOUCHES_BY_USER, user_shard), store)
    )
    combined = (
        sessions[ProcessSessionShards.USERS]
        | "ShuffleUsers" >> GroupFrames(plan.user_shards, by_user, store)
        | "CombineUsers"
        >> beam.ParDo(CombineUsers(store)).with_outputs(
            CombineUsers.SAMPLES, CombineUsers.PARTIALS, main="users"
        )
    )
    samples = AsIter(combined[CombineUsers.SAMPLES])
    candidates = combined.users | "FindRankCandidates" >> beam.ParDo(
        FindRankCandidates(store), samples
    )
    users = (
        (combined.users, touches)
        | "UsersAndTouches" >> beam.Flatten()
        | "GroupUsers" >> beam.GroupByKey()
        | "DescribeUsers"
        >> beam.ParDo(
            DescribeUsers(run.rules, store, progress),
            samples,
            AsIter(candidates),
            AsIter(catalogue),
        ).with_outputs(DescribeUsers.PARTIALS, main="tables")
    )

    partials = [
        partial | f"Store{label}Partials" >> beam.ParDo(StoreFrames(store))
        for label, partial in (
            ("Session", sessions[ProcessSessionShards.PARTIALS]),
            ("CombinedUser", combined[CombineUsers.PARTIALS]),
            ("User", users[DescribeUsers.PARTIALS]),
        )
    ]
    all_partials = partials | "AllPartials" >> beam.Flatten()
    metrics = (
        pipeline
        | "StartComputeMetrics" >> beam.Impulse()
        | "ComputeMetrics"
        >> beam.ParDo(ComputeMetrics(store), AsIter(all_partials), AsIter(catalogue))
    )

    staged, audits = [], [read_counts, all_partials]
    for label, tables in (
        ("RejectedRows", parsed[ParseRanges.REJECTED]),
        ("Sessions", sessions.tables),
        ("Catalogue", products),
        ("Users", users.tables),
        ("Metrics", metrics),
    ):
        outputs = tables | f"Stage{label}" >> beam.ParDo(StageTables(run.staging)).with_outputs(
            StageTables.AUDIT, main="files"
        )
        staged.append(outputs.files)
        audits.append(
            outputs[StageTables.AUDIT] | f"Store{label}Audit" >> beam.ParDo(StoreFrames(store))
        )
    published = (
        pipeline
        | "StartAuditAndPublish" >> beam.Impulse()
        | "AuditAndPublish"
        >> beam.ParDo(
            AuditAndPublish(run, store, render_report),
            AsIter(staged | "AllFiles" >> beam.Flatten()),
            AsIter(audits | "AllAudits" >> beam.Flatten()),
            samples,
        ).with_output_types(str)
    )
    if gcs.in_bucket(run.output):
        # The job does it too: it may outlive the process that started it.
        _ = published | "FreeWarehouse" >> beam.Map(partial(gcs.release, run.output))


def render_report(tables: Mapping[str, pl.DataFrame]) -> str:
    """The analyst's report as HTML; its libraries are slow to import, so only here."""
    from pipelines import report  # noqa: PLC0415

    return report.render_report(tables)


def session_shards(files: Sequence[InputFile], workers: int) -> int:
    """Number of session shards: enough for memory, and for every worker to have some."""
    size = sum(file.csv_bytes for file in files)
    return max(1, -(-size // _SHARD_BYTES), min(workers, size // _SMALL_BYTES))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_local_workers(beam_options: PipelineOptions, files: Sequence[InputFile]) -> int:
    """Set how the local runner works, for the size of the input; return its number of workers."""
    direct = beam_options.view_as(DirectOptions)
    small = sum(file.csv_bytes for file in files) < _SMALL_BYTES
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
            shards = session_shards(files, workers or runners.FEWEST_WORKERS)
            repeats = beam_options.view_as(DirectOptions).direct_runner_bundle_repeat
            plan = Plan(run, split_files(files, workers), shards, spill, is_replayed=repeats > 0)
            pipeline = beam.Pipeline(
                runner=local_runner(workers) if workers else None, options=beam_options
            )
            build_pipeline(pipeline, plan)
            try:
                size = sum(file.csv_bytes for file in files)
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
