"""What became of the rows read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import polars as pl

from transforms.audit.checks import CHECKED
from transforms.audit.plausibility import null_word_count
from transforms.columnar.checksum import CHECKSUM_BITS
from transforms.errors import RunError
from transforms.schema import NULL_WORD_COLUMNS, REJECT_REASONS, Severity

COUNTED = pl.Schema({"count": pl.String(), "rows": pl.Int64()})
"""Columns of what a step reports of the rows that went through it."""


DROP_REASONS: Final = ("after_as_of", "duplicate", "multi_brand_product", "missing_session")
"""Why a row is dropped, in the order in which the reasons are tried."""


PARSED_CHECKSUM: Final = "parsed_checksum"
ARRIVED_CHECKSUM: Final = "arrived_checksum"
"""Counts that are sums of `event_checksum`: of events up to `as_of`, and where they arrive."""


def counted(counts: Mapping[str, int]) -> pl.DataFrame:
    """A `COUNTED` frame."""
    return pl.DataFrame(list(counts.items()), schema=COUNTED, orient="row")


def total_counts(counts: pl.DataFrame) -> dict[str, int]:
    """Add up `COUNTED` frames; every count of the balance is there, 0 where nothing was counted."""
    names = (
        *(PARSED_CHECKSUM, ARRIVED_CHECKSUM, "rows_read", "events_kept"),
        *(*DROP_REASONS, "rejected", *REJECT_REASONS),
        *map(null_word_count, NULL_WORD_COLUMNS),
    )
    summed = dict(counts.group_by("count").agg(pl.col("rows").sum()).rows())
    return {name: int(summed.get(name, 0)) for name in names}


def check_balance(counts: Mapping[str, int]) -> pl.DataFrame:
    """Check that every row read is kept, dropped for a reason, or rejected: a `CHECKED` frame."""
    accounted = counts["events_kept"] + counts["rejected"]
    accounted += sum(counts[reason] for reason in DROP_REASONS)
    missing = abs(counts["rows_read"] - accounted)
    return pl.DataFrame(
        [("fct_events", "every_row_accounted_for", Severity.ERROR.value, missing)],
        schema=CHECKED,
        orient="row",
    )


def require_events(counts: Mapping[str, int], *, allow_empty: bool) -> None:
    """Stop a run that keeps no event: it would replace the good state by an empty one.

    Args:
        counts: `total_counts`.
        allow_empty: Let it pass all the same.

    Raises:
        RunError: Says what became of the rows.
    """
    if counts["events_kept"] or allow_empty:
        return
    fates = {reason: counts[reason] for reason in (*DROP_REASONS, "rejected") if counts[reason]}
    why = ", ".join(f"{reason.replace('_', ' ')} {rows:,}" for reason, rows in fates.items())
    raise RunError(
        f"no event is left of {counts['rows_read']:,} rows{f' ({why})' if why else ''}; nothing "
        "was published, and the last good tables stay. Where that is right, add --allow_empty."
    )


def check_arrival(counts: Mapping[str, int]) -> pl.DataFrame:
    """Check that every event arrives at its session as it was parsed: a `CHECKED` frame.

    Args:
        counts: `total_counts`, with the sums of the checksums of what was parsed, and arrived.
    """
    differ = (counts[PARSED_CHECKSUM] - counts[ARRIVED_CHECKSUM]) % (1 << CHECKSUM_BITS) != 0
    return pl.DataFrame(
        [("fct_events", "every_event_arrives_as_parsed", Severity.ERROR.value, int(differ))],
        schema=CHECKED,
        orient="row",
    )


def check_dropped(counts: Mapping[str, int], max_dropped_ratio: float) -> pl.DataFrame:
    """Check, as a warning, that few rows were dropped: a `CHECKED` frame.

    Args:
        counts: `total_counts`.
        max_dropped_ratio: The share of the rows read that may be dropped. Where it is more, all
            dropped rows count as failing.
    """
    dropped = sum(counts[reason] for reason in DROP_REASONS)
    failing = dropped if dropped > max_dropped_ratio * counts["rows_read"] else 0
    return pl.DataFrame(
        [("fct_events", "few_rows_dropped", Severity.WARN.value, failing)],
        schema=CHECKED,
        orient="row",
    )


def require_few_rejected(
    counts: Mapping[str, int],
    max_rejected_ratio: float,
    describe_examples: Callable[[], str],
    *,
    kept_in: str | None = None,
) -> None:
    """Stop the run if too many rows were rejected.

    Args:
        counts: `total_counts`.
        max_rejected_ratio: The share of the rows read that may be rejected.
        describe_examples: Shows rejected rows as text; called only where the run stops.
        kept_in: The file that holds all rejected rows; None where none was asked for.

    Raises:
        RunError: Counts the reasons and shows a row of each.
    """
    if counts["rejected"] <= max_rejected_ratio * counts["rows_read"]:
        return
    share = counts["rejected"] / counts["rows_read"]
    reasons = ", ".join(
        f"{reason} {counts[reason]:,}" for reason in REJECT_REASONS if counts[reason]
    )
    everything = "keep all by --rejected_to=FILE.csv" if kept_in is None else f"all: {kept_in}"
    raise RunError(
        f"{counts['rejected']:,} of {counts['rows_read']:,} rows were rejected ({share:.2%}), more "
        f"than --max_rejected_ratio={max_rejected_ratio} allows; nothing was published.\n"
        f"Reasons: {reasons}\nThe first of each ({everything}):\n"
        f"{describe_examples()}"
    )
