"""One run: preflight, the graph on its runner, and the truth about what it came to."""

from __future__ import annotations

import datetime as dt
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import apache_beam as beam
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions

from pipelines import console, estimate, preflight, resuming, runners
from pipelines.customer_analytics import build_pipeline
from pipelines.failures import translate_failure
from pipelines.metrics import Totals, read_totals
from pipelines.options import RunOptions, UsageError
from pipelines.progress import reporting
from pipelines.summary import summarize
from transforms.ingest.files import InputFile, split_files
from transforms.ingest.fingerprint import FileStates, file_states
from transforms.shuffle import sizing
from transforms.steps.plan import Plan
from transforms.warehouse import Workspace, open_warehouse
from transforms.warehouse.publishing import Run
from transforms.warehouse.temporary import held, sweep

_BEAM_PREFIX: Final = "beam-pipeline-temp"  # of folders that Beam makes for each pipeline


def new_run_id(now: dt.datetime) -> str:
    """An id that sorts by time and differs between runs of the same second."""
    return f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def run_pipeline(options: RunOptions, beam_arguments: list[str]) -> None:
    """Run the pipeline and print its summary; or print an estimate of what it would need.

    A run is published once readers see its tables. What happens to it after that is a warning.

    Raises:
        InputError: The input does not exist or has the wrong header.
        UsageError: Something else that the run needs is missing.
        RunError: The run failed.
        StoppedBySignal: It was stopped.
    """
    if options.estimate:
        print(estimate.describe(estimate.estimate(preflight.find_inputs(options))))
        return
    started, clock = dt.datetime.now(dt.UTC), time.perf_counter()
    attempt = _Attempt(options, options.run_id or new_run_id(started), started)
    try:
        with console.stoppable():
            attempt.run(beam_arguments)
    except (Exception, KeyboardInterrupt) as error:
        if not attempt.is_published():
            if isinstance(error, console.StoppedBySignal) and attempt.is_audited():
                error.outcome = (
                    f"run {attempt.run_id} has passed its audit, and may be published in part; "
                    f"go on with it by --run_id={attempt.run_id}"
                )
            translated = translate_failure(error, options.output)
            if translated is error:
                raise
            raise translated from error
        console.say(f"run {attempt.run_id} is published; afterwards: {_described(error, options)}")
    for warning in attempt.warnings:
        console.say(f"run {attempt.run_id} is published; afterwards: {warning}")
    if attempt.only_stages:
        return
    if attempt.done_before is not None:
        print(attempt.done_before)
        return
    try:
        print(
            summarize(options, attempt.run_id, time.perf_counter() - clock, attempt.totals),
            flush=True,
        )
    except Exception as error:  # noqa: BLE001 - the run is published, whatever this is
        console.say(
            f"run {attempt.run_id} is published; its summary failed: {_described(error, options)}"
        )


class _Attempt:
    """What is known of a run while it is tried.

    Attributes:
        run_id: The run.
        totals: What its engine counted, once it is done.
        only_stages: Whether the job was left to another process to start.
        done_before: Why there was nothing to do, where that is so.
        warnings: What went wrong once it was published.
    """

    def __init__(self, options: RunOptions, run_id: str, started: dt.datetime) -> None:
        self.run_id = run_id
        self.totals: Totals | None = None
        self.only_stages = False
        self.done_before: str | None = None
        self.warnings: list[str] = []
        self._options = options
        self._warehouse = open_warehouse(
            options.output, options.bigquery_dataset, keep_staging=options.keep_staging
        )
        self._started = started
        self._may_publish = False
        self._states: FileStates = {}
        self._fingerprint = ""

    def run(self, beam_arguments: list[str]) -> None:
        """Check what the run needs, then run or resume it."""
        options = self._options
        beam_options = runners.read_beam_options(beam_arguments, options)
        is_local = runners.runner_name(beam_options) in runners.LOCAL
        if options.rejected_to is not None and not is_local:
            raise UsageError(
                "--rejected_to works only where the run writes to this machine's disk; leave "
                "--runner out, or read the table rejected_rows"
            )
        known = None
        if options.if_changed:
            preflight.require_credentials(options)
            known = preflight.find_inputs(options)
            self._look_at(known)
            if self._is_unchanged():
                return
        files = preflight.check(options, self.run_id, known)
        if known is None:
            self._look_at(files)
        workers = None
        if is_local:
            given = runners.workers_given(beam_arguments)
            workers = runners.choose_local_workers(beam_options, given, files)
        if resuming.is_done(self._warehouse, options, self._fingerprint):
            self.done_before = (
                f"run {self.run_id} is already published in {options.output}; nothing was done"
            )
            return
        hand_over = runners.only_stages(beam_options)
        with self._warehouse.workspace(self.run_id, spill=is_local, hand_over=hand_over) as work:
            self.warnings = work.warnings
            if options.if_changed and self._is_unchanged():  # by who held the warehouse before
                return
            # A run of a given id may be published already, and then not by this attempt.
            self._may_publish = options.run_id is None or not self._is_current()
            found = resuming.go_on(self._warehouse, options)
            if found is None:
                self._compute(files, beam_options, workers, work)
            else:
                work.warnings += found
                if options.rejected_to is not None:
                    work.warnings.append(
                        f"{options.rejected_to} was not written, because no row was read again; "
                        "look at the table rejected_rows"
                    )

    def _look_at(self, files: Sequence[InputFile]) -> None:
        """Take down what decides what the run publishes."""
        self._states = file_states(files)
        self._fingerprint = resuming.fingerprint_of(self._options, self._states)

    def _is_unchanged(self) -> bool:
        current = resuming.unchanged_state(self._warehouse, self._options, self._fingerprint)
        if current is not None:
            day = current["published_at"][:10]
            self.done_before = f"nothing new since {current['run_id']} ({day}); nothing was done"
        return current is not None

    def _compute(
        self,
        files: Sequence[InputFile],
        beam_options: PipelineOptions,
        workers: int | None,
        work: Workspace,
    ) -> None:
        """Build the graph and run it; `workers` are the local runner's, None for another."""
        options = self._options
        run = Run(
            run_id=self.run_id,
            started_at=self._started,
            output=options.output,
            staging=work.staging,
            options=options.as_json(),
            rules=options.rules,
            max_rejected_ratio=options.max_rejected_ratio,
            bigquery_dataset=options.bigquery_dataset,
            keep_staging=options.keep_staging,
            max_dropped_ratio=options.max_dropped_ratio,
            allow_empty=options.allow_empty,
            max_age_days=options.max_age_days,
            fail_on_warnings=options.fail_on_warnings,
            input_files=self._states,
            input_fingerprint=self._fingerprint,
            rejected_to=options.rejected_to,
            config=None if options.config is None else options.config.text,
            config_sha256=None if options.config is None else options.config.sha256,
        )
        size = sum(file.csv_bytes for file in files)
        shards = sizing.session_shards(size, workers or runners.FEWEST_WORKERS)
        plan = Plan(
            run,
            split_files(files, workers, sizing.least_range(shards)),
            shards,
            work.spill,
            is_replayed=beam_options.view_as(DirectOptions).direct_runner_bundle_repeat > 0,
        )
        runner = runners.local_runner(workers) if workers else None
        sweep(_BEAM_PREFIX)
        pipeline = beam.Pipeline(runner=runner, options=beam_options)
        with held(Path(pipeline.local_tempdir)):
            build_pipeline(pipeline, plan)
            with reporting(plan.progress, size, console.error_stream()):
                result = runners.wait(pipeline.run()) if workers else runners.execute(pipeline)
        self.only_stages = result is None
        self.totals = None if result is None else read_totals(result)

    def is_published(self) -> bool:
        """True where readers see the tables of this attempt."""
        with suppress(Exception):  # a service that does not answer
            return self._may_publish and self._is_current()
        return False

    def is_audited(self) -> bool:
        """True where the run can be published without computing it again."""
        with suppress(Exception):  # as above
            return self._warehouse.audited(self.run_id) is not None
        return False

    def _is_current(self) -> bool:
        state = self._warehouse.state()
        return state is not None and state.run_id == self.run_id


def _described(error: BaseException, options: RunOptions) -> str:
    """One line on what happened after the publication."""
    if isinstance(error, console.StoppedBySignal):
        return "interrupted"
    text = str(translate_failure(error, options.output)).strip()
    return text.splitlines()[-1] if text else type(error).__name__
