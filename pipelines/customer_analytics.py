"""The customer analytics pipeline: CSV clickstream in, audited and published warehouse out."""

from __future__ import annotations

import datetime as dt
import logging
import os
import re
import secrets
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import apache_beam as beam
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
from apache_beam.pvalue import AsIter
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from pipelines import preflight
from pipelines.options import RunOptions, UsageError, parse_arguments
from pipelines.progress import reporting
from pipelines.summary import summarize
from transforms import bucket, warehouse
from transforms.cleaning import product_shard, session_shard, user_shard
from transforms.errors import InputError, RunError
from transforms.progress import Progress
from transforms.publishing import (
    AuditAndPublish,
    RejectedExamples,
    RequireFewRejected,
    Run,
    publish_audited,
)
from transforms.reading import InputFile, InputRange, split_files
from transforms.shards import (
    BY_PRODUCT,
    BY_USER,
    CombineProducts,
    CombineUsers,
    ComputeMetrics,
    DescribeCatalogue,
    DescribeUsers,
    FindAmbiguousProducts,
    FindCandidateBrands,
    FindRankCandidates,
    ParseRanges,
    ProcessSessionShards,
    ProductVariants,
)
from transforms.shuffle import FrameStore, GroupFrames, StoreFrames, frame_store
from transforms.sinks import StageTables

_SHARD_BYTES: Final = 64 << 20  # of CSV: about half a million events
_SMALL_BYTES: Final = 24 << 20  # of CSV, which one process does before a second has started
LOCAL_RUNNERS: Final = {None, "DirectRunner", "FnApiRunner"}
_PICKLING: Final = ("--pickle_library=cloudpickle",)


@dataclass(frozen=True)
class Plan:
    """What the graph is built from.

    Attributes:
        run: The run.
        ranges: What to read.
        session_shards: Number of shards of sessions; users and products have fewer rows.
        spill_directory: Folder that all workers share, or None for a distributed shuffle.
    """

    run: Run
    ranges: Sequence[InputRange]
    session_shards: int
    spill_directory: str | None

    @property
    def store(self) -> FrameStore:
        """How frames cross a shuffle."""
        return frame_store(self.spill_directory)

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
    by_product = dict.fromkeys(BY_PRODUCT, product_shard)
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
    )
    few_rejected = (
        pipeline
        | "StartRequireFewRejected" >> beam.Impulse()
        | "RequireFewRejected"
        >> beam.ParDo(RequireFewRejected(run, store), AsIter(read_counts), AsIter(examples))
    )
    ambiguous = (
        parsed.events
        | "ProductVariants" >> beam.ParDo(ProductVariants())
        | "ShuffleVariants" >> GroupFrames(plan.product_shards, {"variants": product_shard}, store)
        | "FindAmbiguousProducts" >> beam.ParDo(FindAmbiguousProducts(store))
    )

    by_session = parsed.events | "ShuffleEvents" >> GroupFrames(
        plan.session_shards, {"events": session_shard}, store
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
        ProcessSessionShards.PRODUCTS,
        ProcessSessionShards.PARTIALS,
        main="tables",
    )

    catalogue = (
        sessions[ProcessSessionShards.PRODUCTS]
        | "ShuffleProducts" >> GroupFrames(plan.product_shards, by_product, store)
        | "CombineProducts" >> beam.ParDo(CombineProducts(store))
    )
    products = (
        pipeline
        | "StartDescribeCatalogue" >> beam.Impulse()
        | "DescribeCatalogue" >> beam.ParDo(DescribeCatalogue(store), AsIter(catalogue))
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
    users = combined.users | "DescribeUsers" >> beam.ParDo(
        DescribeUsers(run.rules, store, progress),
        samples,
        AsIter(candidates),
        AsIter(catalogue),
    ).with_outputs(DescribeUsers.PARTIALS, main="tables")

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
    _ = (
        pipeline
        | "StartAuditAndPublish" >> beam.Impulse()
        | "AuditAndPublish"
        >> beam.ParDo(
            AuditAndPublish(run, store),
            AsIter(staged | "AllFiles" >> beam.Flatten()),
            AsIter(audits | "AllAudits" >> beam.Flatten()),
            samples,
        )
    )


def session_shards(files: Sequence[InputFile], workers: int) -> int:
    """Number of session shards: enough for memory, and for every worker to have some."""
    size = sum(file.csv_bytes for file in files)
    return max(1, -(-size // _SHARD_BYTES), min(workers, size // _SMALL_BYTES))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_local_processes(beam_options: PipelineOptions, files: Sequence[InputFile]) -> int:
    """Set how the local runner works, for the size of the input; return its number of workers."""
    direct = beam_options.view_as(DirectOptions)
    small = sum(file.csv_bytes for file in files) < _SMALL_BYTES
    workers = direct.direct_num_workers if direct.direct_num_workers > 1 else _cores()
    workers = 1 if small else workers
    direct.direct_running_mode = "in_memory" if workers == 1 else "multi_processing"
    direct.direct_num_workers = workers
    return workers


def new_run_id(now: dt.datetime) -> str:
    """An id that sorts by time and differs between runs of the same second."""
    return f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def run_pipeline(options: RunOptions, beam_arguments: Sequence[str]) -> None:
    """Run the pipeline and print its summary.

    Raises:
        InputError: The input does not exist or has the wrong header.
        UsageError: Something else that the run needs is missing.
        RunError: The run failed.
    """
    started, clock = dt.datetime.now(dt.UTC), time.perf_counter()
    run_id = options.run_id or new_run_id(started)
    files = preflight.check(options, run_id)
    # No save_main_session: everything a worker needs is importable, and pickled by reference.
    beam_options = PipelineOptions([*beam_arguments, *_PICKLING])
    runner = beam_options.view_as(StandardOptions).runner
    local = runner in LOCAL_RUNNERS
    workers = choose_local_processes(beam_options, files) if local else _cores()
    if bucket.in_bucket(options.output):
        workspace = bucket.workspace(options.output, run_id, spill=local)
    else:
        workspace = warehouse.workspace(Path(options.output), run_id, spill=local)
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
            plan = Plan(run, split_files(files, workers), session_shards(files, workers), spill)
            pipeline = beam.Pipeline(runner=FnApiRunner() if local else None, options=beam_options)
            build_pipeline(pipeline, plan)
            try:
                with reporting(Progress(spill), sum(file.csv_bytes for file in files)):
                    pipeline.run().wait_until_finish()
            except Exception as error:
                raise translate_failure(error) from error
    print(summarize(options, run_id, time.perf_counter() - clock))


def resume(options: RunOptions, run_id: str) -> bool:
    """Publish a run that has passed its audit already; False where there is none of this id.

    Raises:
        UsageError: It was made with other options.
        RunError: It cannot be published.
    """
    if options.run_id is None or not bucket.in_bucket(options.output):
        return False
    manifest = bucket.audited(options.output, run_id)
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


def translate_failure(error: Exception) -> Exception:
    """Find the error written for the user in what a runner made of it.

    A worker's exception arrives as the text of its traceback, and often as several, one caused by
    the other; the first of our own is the cause.
    """
    if isinstance(error, RunError):
        return error
    match = _ERROR_TEXT.search(f"{type(error).__module__}.{type(error).__qualname__}: {error}")
    if match is None:
        return error
    return RunError(match[2])


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


if __name__ == "__main__":
    # Under its importable name, so that workers find what is pickled by reference.
    from pipelines import customer_analytics  # noqa: PLW0406

    sys.exit(customer_analytics.main())
