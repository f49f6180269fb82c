"""The tables that the product makes of some files, without Beam."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa

from pipelines.configuration import parse_configuration
from transforms.analytics.in_memory import tables_of_batch
from transforms.ingest.batch import EVENT_BATCH
from transforms.ingest.files import match_inputs, read_blocks, split_files
from transforms.ingest.parsing import parse_block
from transforms.ingest.session_keys import SESSION_NAMES
from transforms.rules import ClvOptions, Rules, UserThresholds
from transforms.schema import REJECTED_ROWS, TABLES

THRESHOLDS = {
    "churn_threshold_days": "churn_days",
    "at_risk_threshold_days": "at_risk_days",
    "declining_threshold_days": "declining_days",
    "session_outlier_ratio": "session_outlier_ratio",
}
"""Options that are thresholds, and what the product calls them."""


_NONE_REJECTED = REJECTED_ROWS.empty_frame().drop("run_id")


def product_tables(
    files: Sequence[Path], *, session_shards: int = 1, user_shards: int = 1, **options: object
) -> dict[str, pa.Table]:
    """What `oracle_tables` gives, by the product's parser and `tables_of_batch`.

    Without what is counted of rows that are dropped in cleaning.
    """
    thresholds = {
        name: options.pop(option) for option, name in THRESHOLDS.items() if option in options
    }
    options.pop("most_values", None)  # of the oracle alone: here it is a constant
    config = options.pop("config", "")
    funnels = parse_configuration(config.encode(), "shop.toml").funnels
    clv = ClvOptions(holdout_days=options.pop("clv_holdout_days", None))
    rules = Rules(thresholds=UserThresholds(**thresholds), clv=clv, funnels=funnels, **options)
    inputs = match_inputs([str(path) for path in files])
    parsed = [
        parse_block(block, ranges[0].file.header)
        for ranges in split_files(inputs, 1)
        for block in read_blocks(ranges)
    ]
    batch = pl.concat([EVENT_BATCH.to_frame(), *(block.events for block in parsed)])
    names = pl.concat([SESSION_NAMES.to_frame(), *(block.session_names for block in parsed)])
    rejected = [block.rejected.cast({"reason": pl.String}) for block in parsed]
    tables = tables_of_batch(
        batch, names, rules, session_shards=session_shards, user_shards=user_shards
    )
    left_out = {  # for the oracle, they are empty
        table.name: table.empty_frame().to_arrow()
        for table in TABLES
        if table.group in rules.left_out
    }
    return (
        left_out
        | {name: table.to_arrow() for name, table in tables.items()}
        | {"rejected_rows": pl.concat([_NONE_REJECTED, *rejected]).to_arrow()}
    )
