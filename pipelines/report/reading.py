"""Where the report's tables come from: a warehouse folder or a BigQuery dataset."""

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl
from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems
from google.api_core.exceptions import Forbidden, GoogleAPIError, NotFound
from google.auth.exceptions import GoogleAuthError
from google.cloud import bigquery

from transforms.errors import RunError
from transforms.schema import TABLES_BY_NAME
from transforms.warehouse import in_bucket, open_warehouse
from transforms.warehouse.base import MANIFEST

TABLES = (
    "metrics_periods",
    "metrics_user_segments",
    "metrics_rfm_grid",
    "metrics_churn",
    "metrics_funnel",
    "metrics_rfm_segments",
    "metrics_categories",
    "metrics_category_rfm",
    "data_quality",
    "pipeline_runs",
)
"""The tables that every report is made from; all are small."""

OPTIONAL_TABLES = (
    "metrics_lifecycle",
    "metrics_active_users",
    "metrics_stickiness",
    "metrics_cohort_retention",
    "metrics_repeat_purchase",
    "metrics_segment_history",
    "metrics_segment_migration",
    "metrics_funnels",
    "model_clv",
    "metrics_clv_validation",
    "metrics_clv_deciles",
    "metrics_clv_frequency",
    "metrics_clv_predictions",
)
"""Tables that a run may have left out: then the report has no page about them."""

_DATASET = re.compile(
    r"(?P<project>(?:[a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9])\.(?P<dataset>[A-Za-z0-9_]{1,1024})",
    re.ASCII,
)


def checked_tables(tables: Mapping[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    """Return the report's tables with the columns and types of the schema.

    Raises:
        RunError: A table that is not optional is missing, or a column.
    """
    checked = {}
    for name in (*TABLES, *OPTIONAL_TABLES):
        if name not in tables:
            if name in OPTIONAL_TABLES:
                continue
            raise RunError(f"The table {name} is missing: run the pipeline again.")
        schema = TABLES_BY_NAME[name].polars_schema()
        absent = schema.keys() - set(tables[name].columns)
        if absent:
            raise RunError(
                f"{name} lacks {', '.join(sorted(absent))}: it was written by another version; "
                "run the pipeline again."
            )
        checked[name] = tables[name].select(
            pl.col(column).cast(dtype) for column, dtype in schema.items()
        )
    return checked


def read_warehouse(path: str) -> dict[str, pl.DataFrame]:
    """Read the report's tables of the current state of a warehouse, a folder or a gs:// prefix.

    Of the tables about runs only the rows of the run that the state is of are read: a clock that
    was ahead may have given another run a later time.

    Raises:
        RunError: There is no warehouse, it lacks a table, or a file is not readable.
    """
    try:
        state = open_warehouse(path.rstrip("/") or path).state()
    except GoogleAuthError as error:
        raise RunError(f"Cannot read {path}: {error}") from error
    names = (*TABLES, *OPTIONAL_TABLES)
    if state is not None:
        files = state.files
    elif in_bucket(path):
        raise RunError(f"{path} has no {MANIFEST}: is it the --output of a finished run?")
    else:  # one state by itself, as a run's folder is
        files = {name: sorted(map(str, (Path(path) / name).glob("*.parquet"))) for name in names}
    tables = {
        name: _read_files(path, name, files[name])
        for name in names
        if files[name] or name in TABLES
    }
    if state is not None:
        own = pl.col("run_id") == state.run_id
        tables |= {name: tables[name].filter(own) for name in ("data_quality", "pipeline_runs")}
    return tables


def _read_files(path: str, name: str, files: Sequence[str]) -> pl.DataFrame:
    if not files:
        raise RunError(
            f"{path} has no files of the table {name}: is it the --output of a finished run?"
        )
    frames = []
    for file in files:
        try:
            with FileSystems.open(file, compression_type=CompressionTypes.UNCOMPRESSED) as source:
                frames.append(pl.read_parquet(io.BytesIO(source.read())))
        except (BeamIOError, OSError, pl.exceptions.PolarsError, GoogleAPIError) as error:
            raise RunError(f"Cannot read {file}: {error}") from error
    # Files of appended tables may be of earlier versions, which knew fewer columns.
    return pl.concat(frames, how="diagonal")


def parse_dataset(name: str) -> bigquery.DatasetReference:
    """Return the dataset of a `project.dataset` name.

    Raises:
        ValueError: The name does not have that form.
    """
    match = _DATASET.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is not a BigQuery dataset; write PROJECT.DATASET.")
    return bigquery.DatasetReference(match["project"], match["dataset"])


def read_bigquery(dataset: str) -> dict[str, pl.DataFrame]:
    """Read the report's tables from the BigQuery dataset `project.dataset`.

    The rows are listed, not queried: that costs nothing.

    Raises:
        RunError: A table does not exist or cannot be read.
        ValueError: The name is not of the form `project.dataset`.
    """
    reference = parse_dataset(dataset)
    tables = {}
    try:
        client = bigquery.Client(project=reference.project)
        for name in (*TABLES, *OPTIONAL_TABLES):
            try:
                table = client.get_table(reference.table(name))
            except NotFound:
                if name in OPTIONAL_TABLES:
                    continue
                raise
            rows = client.list_rows(table)
            frame = pl.from_arrow(rows.to_arrow(create_bqstorage_client=False))
            if isinstance(frame, pl.DataFrame):
                tables[name] = frame
    except NotFound as error:
        raise RunError(
            f"{dataset} lacks the table {name}: run the pipeline with this dataset first."
        ) from error
    except Forbidden as error:
        raise RunError(
            f"No permission to read {dataset}: the role BigQuery Data Viewer is needed."
        ) from error
    except (GoogleAPIError, GoogleAuthError) as error:
        raise RunError(f"Cannot read {dataset}: {error}") from error
    return tables
