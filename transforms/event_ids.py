"""Event ids: MD5 of what identifies an event."""

from __future__ import annotations

import datetime as dt

import polars as pl

from transforms.md5 import md5_hex
from transforms.runs import run_numbers, run_starts


def event_ids(
    events: pl.DataFrame, user_ids: pl.Series, product_ids: pl.Series, user_sessions: pl.Series
) -> pl.Series:
    """The event_id of each event: lower-case hex MD5 of the key's text, joined by |.

    Args:
        events: `event_time`, `event_type`.
        user_ids: Text of each event's user_id.
        product_ids: Text of each event's product_id.
        user_sessions: Each event's user_session.
    """
    bar = pl.lit("|")
    return md5_hex(
        events.select(
            pl.concat_str(
                *_text_of_time(events["event_time"]),
                pl.col("event_type").cast(pl.String) + bar,
                user_ids,
                bar,
                product_ids,
                bar,
                user_sessions,
            ).alias("event_id")
        ).to_series()
    )


def _text_of_time(times: pl.Series) -> tuple[pl.Series, pl.Series]:
    """`YYYY-MM-DD ` and `HH:MM:SS|` of each time: formatting each anew costs ten times as much."""
    dates = times.dt.date()
    starts = run_starts(dates.to_frame(), [dates.name])
    return (
        (dates.gather(starts).cast(pl.String) + " ").gather(run_numbers(starts, len(dates))),
        _SECONDS_OF_DAY.gather(times.dt.epoch("s") % len(_SECONDS_OF_DAY)),
    )


_SECONDS_OF_DAY = pl.select(
    pl.time_range(dt.time(0, 0, 0), dt.time(23, 59, 59), "1s").dt.strftime("%H:%M:%S|")
).to_series()
