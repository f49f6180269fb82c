"""Rejected rows, shown: one of each reason, where it stands, and what would have been accepted."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import polars as pl

from transforms.ingest.files import line_number
from transforms.schema import EVENT_TYPES, REJECT_REASONS

_INTEGER: Final = "a whole number from 0 to 9223372036854775807"

ACCEPTED: Mapping[str, str] = MappingProxyType(
    {
        "malformed_row": "as many fields as the header names, parted by commas and quoted as in "
        "RFC 4180 within one line; UTF-8 without NUL; at most 64 MB",
        "bad_event_time": "2019-10-01 00:00:00 UTC; or T for the first space; or GMT, Z, +03:00, "
        "+0300, +03 or nothing (UTC) for the zone; fractions of a second are cut off",
        "bad_event_type": f"exactly {', '.join(EVENT_TYPES[:-1])} or {EVENT_TYPES[-1]}",
        "bad_product_id": _INTEGER,
        "bad_category_id": f"{_INTEGER}, or nothing",
        "bad_price": "a number from 0 to below 10^20, with a point and at most 9 decimals",
        "bad_user_id": _INTEGER,
        "bad_user_session": "any text or nothing, but for an end of _timeout_ and digits, which "
        "this program gives",
    }
)
"""What is accepted where a row is rejected, by the reason; `grammar.parse_row` decides."""

_SHOWN_CHARACTERS: Final = 200


def pick_examples(rejected: pl.DataFrame) -> pl.DataFrame:
    """The first row of each reason, by file and offset; raw is cut to what is shown.

    Args:
        rejected: Rejected rows; of `source_file`, `byte_offset`, `reason` and `raw`.
    """
    return (
        rejected.select("source_file", "byte_offset", pl.col("reason").cast(pl.String), "raw")
        .sort("source_file", "byte_offset")
        .unique("reason", keep="first", maintain_order=True)
        .with_columns(pl.col("raw").str.slice(0, _SHOWN_CHARACTERS))
    )


def describe_examples(rejected: pl.DataFrame) -> str:
    """Two lines for each reason: its first row, and what would have been accepted."""
    examples = {row["reason"]: row for row in pick_examples(rejected).iter_rows(named=True)}
    lines = []
    for reason in (reason for reason in REJECT_REASONS if reason in examples):
        path, offset = examples[reason]["source_file"], examples[reason]["byte_offset"]
        line = line_number(path, offset)
        place = f"byte {offset}" if line is None else f"line {line}, byte {offset}"
        lines += [
            f"  {reason}: {path}, {place}: {examples[reason]['raw']!r}",
            f"    accepted: {ACCEPTED[reason]}",
        ]
    return "\n".join(lines)
