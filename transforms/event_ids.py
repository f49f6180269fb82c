"""Event ids: MD5 of what identifies an event."""

from __future__ import annotations

import datetime as dt
from typing import cast

import polars as pl

from transforms.md5 import md5_hex


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
    """`YYYY-MM-DD ` and `HH:MM:SS|` of each time, looked up: formatting costs ten times as much."""
    days = times.dt.date().to_physical()
    first = days.min()
    if not isinstance(first, int):  # there are no events
        return pl.Series("date", [], pl.String), pl.Series("time", [], pl.String)
    dates = pl.int_range(first, cast(int, days.max()) + 1, dtype=pl.Int32, eager=True)
    return (
        (dates.cast(pl.Date).cast(pl.String) + " ").gather(days - first),
        _SECONDS_OF_DAY.gather(times.dt.epoch("s") % len(_SECONDS_OF_DAY)),
    )


_SECONDS_OF_DAY = pl.select(
    pl.time_range(dt.time(0, 0, 0), dt.time(23, 59, 59), "1s").dt.strftime("%H:%M:%S|")
).to_series()
