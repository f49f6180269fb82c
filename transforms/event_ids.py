"""Event ids: MD5 of what identifies an event."""

from __future__ import annotations

import polars as pl
import polars_hash as plh


def event_ids(events: pl.DataFrame, user_sessions: pl.Series) -> pl.Series:
    """The event_id of each event: lower-case hex MD5 of the key's text, joined by |.

    Args:
        events: `event_time`, `event_type`, `user_id`, `product_id` and `session_number`.
        user_sessions: The text of each `session_number`.
    """
    key = pl.concat_str(
        pl.col("event_time").dt.strftime("%Y-%m-%d %H:%M:%S"),
        pl.col("event_type").cast(pl.String),
        pl.col("user_id"),
        pl.col("product_id"),
        user_sessions.gather(events["session_number"]),
        separator="|",
    )
    return (
        events.select(key.alias("event_id"))
        .select(plh.col("event_id").nchash.md5())
        .to_series()
    )
