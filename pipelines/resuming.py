"""A run that is named by --run_id: it goes on, it is done already, or it is not the same run."""

from __future__ import annotations

from pipelines.options import RunOptions, UsageError
from transforms.ingest.fingerprint import FileStates, input_fingerprint
from transforms.version import code_version
from transforms.warehouse import Warehouse
from transforms.warehouse.base import Document


def is_done(warehouse: Warehouse, options: RunOptions, fingerprint: str) -> bool:
    """True where the run that is asked for is published already, and all that is asked for with it.

    Args:
        warehouse: Where it is looked for.
        options: The options given.
        fingerprint: `fingerprint_of` the options and the input that is there now.

    Raises:
        UsageError: The run was made with other options or of another input, or a later one has
            replaced it.
    """
    run_id = options.run_id
    known = None if run_id is None else warehouse.find_run(run_id)
    if known is None:
        return False
    state = "waits to be published" if known.status == "waiting" else "is already published"
    if known.status == "replaced":
        raise UsageError(
            f"run {run_id} is already published, and was replaced by run {known.current}; "
            "leave --run_id out to begin a new run"
        )
    if names := options.differing(known.options):
        raise UsageError(
            f"run {run_id} {state}, and was made with another --{', --'.join(names)}; give the "
            "same, or leave --run_id out to begin a new run"
        )
    if known.input_fingerprint not in (None, fingerprint):
        raise UsageError(
            f"run {run_id} {state}, and the files of --input, or this program, have changed since; "
            "leave --run_id out to begin a new run"
        )
    return known.status == "current" and options.bigquery_dataset is None


def go_on(warehouse: Warehouse, options: RunOptions) -> list[str] | None:
    """Publish a run that has passed its audit already; None where there is none of this id.

    Returns:
        Warnings: what went wrong once it was published.

    Raises:
        RunError: It cannot be published.
    """
    manifest = None if options.run_id is None else warehouse.audited(options.run_id)
    return None if manifest is None else warehouse.publish(manifest)


def fingerprint_of(options: RunOptions, files: FileStates) -> str:
    """What tells a run that would publish the same as another: `input_fingerprint`.

    Args:
        options: The options given.
        files: What the input files are now.
    """
    deciding = options.deciding()
    del deciding["input"], deciding["output"]  # which files there are counts, and not where
    return input_fingerprint(files, deciding, code_version())


def unchanged_state(warehouse: Warehouse, options: RunOptions, fingerprint: str) -> Document | None:
    """The manifest of what is published, where a run would publish the same; else None.

    Args:
        warehouse: Where it is published.
        options: The options given.
        fingerprint: `fingerprint_of` the options and the input that is there now.
    """
    current = warehouse.current()
    if current is None or current.get("input_fingerprint") != fingerprint:
        return None
    dataset = current["options"].get("bigquery_dataset")
    return current if dataset == options.bigquery_dataset else None
