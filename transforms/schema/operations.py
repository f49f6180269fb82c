"""The tables about runs."""

from __future__ import annotations

from transforms.schema.types import (
    BOOL,
    DATE,
    INT64,
    STRING,
    TIMESTAMP,
    Column,
    Severity,
    Table,
    count,
    required,
)
from transforms.schema.values import REJECT_REASONS

REJECTED_ROWS = Table(
    name="rejected_rows",
    grain="one row per rejected CSV row and run",
    key=("run_id", "source_file", "byte_offset"),
    appended=True,
    columns=(
        required("run_id", STRING, "The run that rejected the row."),
        required("source_file", STRING, "File the row stands in."),
        required(
            "byte_offset",
            INT64,
            "Offset of the row's first byte in the file, after decompression.",
            minimum=0,
        ),
        required("reason", STRING, "First rule the row breaks.", accepted=REJECT_REASONS),
        required(
            "raw", STRING, "The row's text, invalid bytes replaced, cut at 10,000 characters."
        ),
    ),
)


DATA_QUALITY = Table(
    name="data_quality",
    grain="one row per run, table and check",
    key=("run_id", "table_name", "check_name"),
    appended=True,
    columns=(
        required("run_id", STRING, "The run that was checked."),
        required("table_name", STRING, "The table that was checked."),
        required("check_name", STRING, "The rule that its rows, or sums over them, must keep."),
        required(
            "severity",
            STRING,
            "error stops the publication, warn is recorded.",
            accepted=tuple(severity.value for severity in Severity),
        ),
        count("failing_rows", "Rows that break the rule."),
        required("passed", BOOL, "True where no row breaks the rule."),
    ),
)


PIPELINE_RUNS = Table(
    name="pipeline_runs",
    grain="one row per run",
    key=("run_id",),
    appended=True,
    columns=(
        required("run_id", STRING, "The run."),
        required("started_at", TIMESTAMP, "When the run began (UTC)."),
        Column("finished_at", TIMESTAMP, "When the tables were audited (UTC)."),
        Column("published_at", TIMESTAMP, "When the last table was live (UTC)."),
        required(
            "status",
            STRING,
            "published; publishing: the tables of a BigQuery dataset are being replaced, and may "
            "be of two runs; superseded: it died on the way, and another run followed.",
            accepted=("publishing", "published", "superseded"),
        ),
        Column(
            "as_of",
            DATE,
            "The day that the run looks back from: --as_of, or the latest event_date.",
        ),
        required("inputs", STRING, "Input globs, a JSON list."),
        count("rows_read", "Rows of the input."),
        count("events_kept", "Rows of fct_events."),
        count("after_as_of_rows", "Rows dropped because they are of a day after as_of."),
        count("duplicate_rows", "Rows dropped as duplicates."),
        count("multi_brand_product_rows", "Rows dropped for a product of several brands."),
        count("missing_session_rows", "Rows dropped because user_session is empty."),
        count("rejected_rows", "Rows rejected."),
        required("rejected_by_reason", STRING, "Rejected rows by reason, a JSON object."),
        required("table_rows", STRING, "Rows by table, a JSON object."),
        required("options", STRING, "Options of the run, a JSON object."),
        required("code_version", STRING, "Version of estore-analytics."),
        Column(
            "input_fingerprint",
            STRING,
            "SHA-256 of all that decides the tables: the input files' names, sizes and times of "
            "change, options, code_version; NULL where the version of the run did not keep it.",
        ),
        Column("input_files", INT64, "Input files.", minimum=0),
        Column("new_files", INT64, "Of them those that the run before did not read.", minimum=0),
        Column("changed_files", INT64, "Of them those that have changed since.", minimum=0),
        Column("missing_files", INT64, "Files of the run before that are not read.", minimum=0),
        Column("config", STRING, "The text of the file given by --config; NULL without one."),
        Column("config_sha256", STRING, "SHA-256 of that text, in hexadecimal digits."),
    ),
)
