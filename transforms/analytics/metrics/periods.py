"""Metrics over time: metrics_periods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import polars as pl

from transforms.analytics.metrics.funnel import SESSION_FUNNEL
from transforms.analytics.metrics.metric import COUNT, Facts, Metric, Partial, Source
from transforms.analytics.sessions import Sessions
from transforms.columnar.grouping import EVENT_SUM_TYPES, EVENT_SUMS
from transforms.columnar.key_index import count_distinct, number_keys
from transforms.columnar.money import average_money, rate
from transforms.schema import METRICS_PERIODS

_PERIODS: Final = {"day": "1d", "week": "1w", "month": "1mo"}  # 1w begins on Monday


def event_days(shard: Sessions) -> pl.DataFrame:
    """The events of a session shard by `event_date`."""
    return shard.visits.group_by("event_date").agg(pl.col(EVENT_SUMS).sum())


EVENT_DAYS: Final = Partial(
    name="event_days",
    source=Source.SESSIONS,
    schema=pl.Schema({"event_date": pl.Date(), **EVENT_SUM_TYPES}),
    keys=("event_date",),
    compute=event_days,
)


def period_users(days: pl.DataFrame) -> pl.DataFrame:
    """Distinct users by period, of the users of one shard; over shards they add up.

    Args:
        days: `user_days` of the shard's users.

    Returns:
        Columns `period`, `period_start`, `users`, `purchasing_users`.
    """
    users, dates = days["user_id"].to_numpy(), days["event_date"]
    day_of_row, firsts = number_keys(dates.to_physical().to_numpy())
    calendar = dates.gather(firsts)
    starts, groups = [], []
    for length in _PERIODS.values():
        start_of_day = calendar.dt.truncate(length)
        group_of_day, first_days = number_keys(start_of_day.to_physical().to_numpy())
        starts.append(start_of_day.gather(first_days))
        groups.append(group_of_day[day_of_row])
    bought = np.flatnonzero((days["purchase_count"] > 0).to_numpy())
    of_users = count_distinct(users, groups, len(calendar))
    of_buyers = count_distinct(users[bought], [group[bought] for group in groups], len(calendar))
    return pl.concat(
        pl.DataFrame(
            {
                "period": pl.repeat(period, len(found), eager=True),
                "period_start": found,
                "users": users_of_period[: len(found)],
                "purchasing_users": buyers_of_period[: len(found)],
            }
        )
        for period, found, users_of_period, buyers_of_period in zip(
            _PERIODS, starts, of_users, of_buyers, strict=True
        )
    )


PERIOD_USERS: Final = Partial(
    name="period_users",
    source=Source.USER_DAYS,
    schema=pl.Schema(
        {
            "period": pl.String(),
            "period_start": pl.Date(),
            "users": COUNT,
            "purchasing_users": COUNT,
        }
    ),
    keys=("period", "period_start"),
    compute=period_users,
)


def metrics_periods(partials: Mapping[str, pl.DataFrame], _: Facts) -> pl.DataFrame:
    """The rows of metrics_periods."""
    keys = ("period", "period_start")
    by_event = _by_period(partials[EVENT_DAYS.name], "event_date", pl.col(EVENT_SUMS).sum())
    by_session = _by_period(
        partials[SESSION_FUNNEL.name],
        "session_start_date",
        pl.col("sessions").sum(),
        pl.col("sessions_reached_purchase").sum().alias("converting_sessions"),
    )
    # A session starts with an event, so every period of a session or a user is one of events.
    rows = (
        by_event.join(by_session, on=keys, how="left")
        .join(partials[PERIOD_USERS.name], on=keys, how="left")
        .with_columns(pl.col("sessions", "converting_sessions").fill_null(0))
    )
    return METRICS_PERIODS.conform(
        rows.with_columns(
            conversion_rate=rate(rows["converting_sessions"], rows["sessions"]),
            avg_order_value=pl.when(pl.col("purchases") > 0).then(
                average_money(pl.col("revenue"), pl.col("purchases").clip(lower_bound=1))
            ),
        ).sort(keys)
    )


def _by_period(partials: pl.DataFrame, date: str, *sums: pl.Expr) -> pl.DataFrame:
    """Sum partial aggregates by day, week and month."""
    return pl.concat(
        partials.group_by(pl.col(date).dt.truncate(length).alias("period_start"))
        .agg(*sums)
        .with_columns(period=pl.lit(period))
        for period, length in _PERIODS.items()
    )


METRIC: Final = Metric(METRICS_PERIODS, (EVENT_DAYS, SESSION_FUNNEL, PERIOD_USERS), metrics_periods)
