"""Metrics over time: metrics_periods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import polars as pl

from transforms.analytics.calendar import (
    dates_of,
    day_numbers,
    first_days,
    period_indexes,
    period_starts,
)
from transforms.analytics.metrics.funnel import SESSION_FUNNEL
from transforms.analytics.metrics.metric import COUNT, Facts, Metric, Partial, Source
from transforms.analytics.sessions import Sessions
from transforms.analytics.user_days import UserDays, active_days
from transforms.columnar.grouping import EVENT_SUM_TYPES, EVENT_SUMS
from transforms.columnar.kernels import Integers
from transforms.columnar.key_index import number_keys
from transforms.columnar.money import average_money, rate
from transforms.schema import METRICS_PERIODS, PERIODS, Period


def event_days(shard: Sessions) -> pl.DataFrame:
    """The events of a session shard by `event_date`."""
    return shard.session_days.group_by("event_date").agg(pl.col(EVENT_SUMS).sum())


EVENT_DAYS: Final = Partial(
    name="event_days",
    source=Source.SESSIONS,
    schema=pl.Schema({"event_date": pl.Date(), **EVENT_SUM_TYPES}),
    keys=("event_date",),
    compute=event_days,
)


def period_users(shard: UserDays) -> pl.DataFrame:
    """Distinct users and orders of a shard by period; over shards they add up."""
    days, found = shard.days, []
    for users, active in (
        ("users", active_days(days, "visit")),
        ("purchasing_users", active_days(days, "purchase")),
    ):
        for period in PERIODS:
            indexes = active.indexes(period)
            indexes = indexes[active.run_starts(indexes)]
            numbers, firsts = number_keys(indexes)
            found.append(_of_period(period, indexes[firsts], users, np.bincount(numbers)))
    ordered = days.group_by("event_date").agg(pl.col("orders").sum())
    for period in PERIODS:
        indexes = period_indexes(day_numbers(ordered["event_date"]), period)
        found.append(_of_period(period, indexes, "orders", ordered["orders"].to_numpy()))
    sums = ("users", "purchasing_users", "orders")
    return (
        pl.concat(found, how="diagonal")
        .group_by("period", "period_start")
        .agg(pl.col(sums).fill_null(0).sum())
    )


def _of_period(period: Period, indexes: Integers, name: str, counts: Integers) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "period": pl.repeat(period, len(indexes), eager=True),
            "period_start": dates_of(first_days(indexes, period)),
            name: counts,
        }
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
            "orders": COUNT,
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
            avg_basket_value=pl.when(pl.col("orders") > 0).then(
                average_money(pl.col("revenue"), pl.col("orders").clip(lower_bound=1))
            ),
            items_per_order=rate(rows["purchases"], rows["orders"]),
        ).sort(keys)
    )


def _by_period(partials: pl.DataFrame, date: str, *sums: pl.Expr) -> pl.DataFrame:
    """Sum partial aggregates by day, week and month."""
    return pl.concat(
        partials.with_columns(period_start=period_starts(partials[date], period))
        .group_by("period_start")
        .agg(*sums)
        .with_columns(period=pl.lit(period))
        for period in PERIODS
    )


METRIC: Final = Metric(METRICS_PERIODS, (EVENT_DAYS, SESSION_FUNNEL, PERIOD_USERS), metrics_periods)
