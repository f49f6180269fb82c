"""Where tables go: staged files, a local folder, a bucket, BigQuery.

`open_warehouse` gives the warehouse of an `--output`, and `Warehouse` says what it can do.
`read_state` gives the files of one published state, for readers.
"""

from pathlib import Path

from transforms.errors import RunError
from transforms.warehouse.base import State, Warehouse, Workspace, in_bucket
from transforms.warehouse.local import LocalWarehouse

__all__ = ["State", "Warehouse", "Workspace", "in_bucket", "open_warehouse", "read_state"]


def open_warehouse(
    output: str, bigquery_dataset: str | None = None, *, keep_staging: bool = False
) -> Warehouse:
    """The warehouse of an output, local or gs://.

    Args:
        output: Its folder.
        bigquery_dataset: `project.dataset` to publish to as well, from a bucket.
        keep_staging: Keep, in a bucket, staging tables and the files of failed attempts.

    Raises:
        ValueError: A local folder was given with a dataset, which could not load from it.
    """
    if in_bucket(output):
        # Google's libraries take half a second to import.
        from transforms.warehouse.bucket import BucketWarehouse  # noqa: PLC0415

        return BucketWarehouse(output, bigquery_dataset, keep_staging)
    if bigquery_dataset is not None:
        raise ValueError("BigQuery loads from a bucket: the output must be gs://")
    return LocalWarehouse(output)


def read_state(output: str) -> State:
    """The files of the state that a warehouse shows now, all of one run.

    Reading them one after the other is safe while others publish: they stay until the publication
    after the next. The folders `OUTPUT/TABLE` change with every publication, so that reading
    several of them, or one of many files, can mix two runs.

    Example:
        ```python
        files = read_state("warehouse").files
        polars.read_parquet(files["metrics_funnel"])
        ```

    Raises:
        RunError: Nothing is published there.
    """
    state = open_warehouse(output if in_bucket(output) else str(Path(output))).state()
    if state is None:
        raise RunError(f"{output}: nothing is published there; is it the --output of a run?")
    return state
