"""The customer analytics pipeline: CSV clickstream in, audited and published warehouse out."""

from __future__ import annotations

import datetime as dt
import logging
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import apache_beam as beam
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
from apache_beam.pvalue import AsIter
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from pipelines.options import RunOptions, UsageError, parse_arguments
from pipelines.progress import reporting
from pipelines.summary import summarize
from transforms import warehouse
from transforms.cleaning import product_shard, session_shard, user_shard
from transforms.errors import InputError, RunError
from transforms.progress import Progress
from transforms.publishing import AuditAndPublish, RejectedExamples, RequireFewRejected, Run
from transforms.reading import InputFile, InputRange, match_inputs, split_files
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
from transforms.sinks import StageTables, make_table_folders

_SHARD_BYTES: Final = 128 << 20  # of CSV: about a million events
_SMALL_BYTES: Final = 24 << 20  # of CSV, which one process does before a second has started
_LOCAL_RUNNERS: Final = {None, "DirectRunner", "FnApiRunner", "BundleBasedDirectRunner", "direct"}


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
    few_rejected = pipeline | "StartRequireFewRejected" >> beam.Impulse() | "RequireFewRejected" >> beam.ParDo(
        RequireFewRejected(run, store), AsIter(read_counts), AsIter(examples)
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
    products = pipeline | "StartDescribeCatalogue" >> beam.Impulse() | "DescribeCatalogue" >> beam.ParDo(
        DescribeCatalogue(store), AsIter(catalogue)
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
    metrics = pipeline | "StartComputeMetrics" >> beam.Impulse() | "ComputeMetrics" >> beam.ParDo(
        ComputeMetrics(store), AsIter(all_partials), AsIter(catalogue)
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
    _ = pipeline | "StartAuditAndPublish" >> beam.Impulse() | "AuditAndPublish" >> beam.ParDo(
        AuditAndPublish(run, store),
        AsIter(staged | "AllFiles" >> beam.Flatten()),
        AsIter(audits | "AllAudits" >> beam.Flatten()),
        samples,
    )


def session_shards(files: Sequence[InputFile], workers: int) -> int:
    """Number of session shards: enough for memory, and for every worker to have some."""
    size = sum(file.csv_bytes for file in files)
    return max(1, -(-size // _SHARD_BYTES), min(workers, size // _SMALL_BYTES))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _local_options(beam_options: PipelineOptions, files: Sequence[InputFile]) -> int:
    """Choose processes for the local runner; return their number."""
    direct = beam_options.view_as(DirectOptions)
    small = sum(file.csv_bytes for file in files) < _SMALL_BYTES
    workers = direct.direct_num_workers if direct.direct_num_workers > 1 else _cores()
    if small or workers == 1:
        direct.direct_running_mode, direct.direct_num_workers = "in_memory", 1
    else:
        direct.direct_running_mode, direct.direct_num_workers = "multi_processing", workers
    return direct.direct_num_workers


def new_run_id(now: dt.datetime) -> str:
    """An id that sorts by time and differs between runs of the same second."""
    return f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def run_pipeline(options: RunOptions, beam_arguments: Sequence[str]) -> None:
    """Run the pipeline and print its summary.

    Raises:
        InputError: The input does not exist or has the wrong header.
        RunError: The run failed.
    """
    started = dt.datetime.now(dt.UTC)
    clock = time.perf_counter()
    files = match_inputs(options.input)
    beam_options = PipelineOptions(list(beam_arguments))
    runner_name = beam_options.view_as(StandardOptions).runner
    workers = _local_options(beam_options, files)
    output = Path(options.output)
    with warehouse.locked(output):
        run_id = new_run_id(started)
        staging = warehouse.prepare(output, run_id)
        make_table_folders(str(staging))
        spill = Path(tempfile.mkdtemp(prefix="_shuffle_", dir=staging.parent))
        run = Run(
            run_id=run_id,
            started_at=started,
            output=str(output),
            staging=str(staging),
            options=options.as_json(),
            rules=options.rules,
            max_rejected_ratio=options.max_rejected_ratio,
        )
        plan = Plan(
            run,
            split_files(files, workers),
            session_shards(files, workers),
            str(spill),
        )
        pipeline = beam.Pipeline(runner=FnApiRunner(), options=beam_options)
        build_pipeline(pipeline, plan)
        try:
            with reporting(Progress(str(spill)), sum(file.csv_bytes for file in files)):
                pipeline.run().wait_until_finish()
        finally:
            import shutil

            shutil.rmtree(staging.parent, ignore_errors=True)
    print(summarize(output, time.perf_counter() - clock))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the pipeline from the command line; the exit code is 0, 1 or 2 as --help says."""
    logging.getLogger().setLevel(logging.ERROR)
    try:
        options, beam_arguments = parse_arguments(
            sys.argv[1:] if arguments is None else arguments
        )
        run_pipeline(options, beam_arguments)
    except (UsageError, InputError) as error:
        print(f"customer-analytics: {error}", file=sys.stderr)
        return 2
    except RunError as error:
        print(f"customer-analytics: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
