"""User-days: what a user did on a day, of which all that is told over time is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from transforms.analytics.calendar import Calendar, day_numbers, period_indexes
from transforms.analytics.hot_users import add_up_hot
from transforms.columnar.day_series import merge_days
from transforms.columnar.grouping import EVENT_SUMS, sort_groups
from transforms.columnar.kernels import Integers, Numbers
from transforms.columnar.key_index import number_keys, rows_in_order
from transforms.columnar.money import MONEY, Halves, halves_of_money, money_of_halves
from transforms.schema import FCT_USER_DAYS, Activity, Period

_COUNTS: Final = (*EVENT_SUMS[:-1], "orders", "sessions")

USER_DAYS: Final = pl.Schema(
    {
        "user_id": pl.Int64(),
        "event_date": pl.Date(),
        "first_event_time": pl.Datetime("us", "UTC"),
        "last_event_time": pl.Datetime("us", "UTC"),
        **dict.fromkeys(_COUNTS, pl.Int64()),
        "revenue": MONEY,
    }
)
"""Columns of user-days. Money and counts of several rows of a user and date add up.

`orders` are those of the date, `sessions` those with this user_id that start on it. The two times
are those of events, which a partial row that only brings a session has none of.
"""


def user_days(
    session_days: pl.DataFrame, sessions: pl.DataFrame, orders: pl.DataFrame
) -> pl.DataFrame:
    """Partial aggregates of a session shard.

    Args:
        session_days: `Sessions.session_days`.
        sessions: `Sessions.sessions`.
        orders: `find_orders`.

    Returns:
        A `USER_DAYS` frame, of one row, or several, per user and date. Some rows have no event but
        only tell of an order, or of a session on whose first day its user may have no event.
    """
    session = session_days["session_index"].to_numpy()
    is_first = np.ones(len(session), np.bool_)
    is_first[1:] = session[1:] != session[:-1]
    starts_session = (
        is_first & (session_days["user_id"] == sessions["user"].gather(session)).to_numpy()
    )
    days = session_days.select(
        "user_id",
        "event_date",
        pl.col("event_time").alias("first_event_time"),
        "last_event_time",
        *EVENT_SUMS[:-1],
        pl.lit(0, pl.Int64).alias("orders"),
        pl.Series("sessions", starts_session).cast(pl.Int64),
        "revenue",
    )
    parts = [days, _without_event(orders["user_id"], orders["order_time"], "orders")]
    if starts_session.sum() < sessions.height:
        is_left = np.ones(sessions.height, np.bool_)
        is_left[session[starts_session]] = False
        left = sessions.filter(pl.Series(is_left))
        parts.append(_without_event(left["user"], left["session_start_time"], "sessions"))
    return add_up_hot(pl.concat(parts), ["user_id", "event_date"], _add_up)


def _without_event(users: pl.Series, times: pl.Series, counted: str) -> pl.DataFrame:
    """Partial rows that count 1 of something on the date of each time."""
    return pl.select(
        users.alias("user_id"),
        times.dt.date().alias("event_date"),
        times.alias("first_event_time"),
        times.alias("last_event_time"),
        *(pl.lit(int(name == counted), pl.Int64).alias(name) for name in _COUNTS),
        pl.lit(0).cast(MONEY).alias("revenue"),
    )


def combine_user_days(partials: pl.DataFrame) -> pl.DataFrame:
    """Combine the partial aggregates of the users of one shard.

    Args:
        partials: `user_days` of all session shards.

    Returns:
        A `USER_DAYS` frame of one row per user and date with an event, sorted by them.
    """
    days = _add_up(partials)
    return days if days["events"].min() else days.filter(pl.col("events") > 0)


def _add_up(partials: pl.DataFrame) -> pl.DataFrame:
    """One row per user and date, sorted by them, those without an event too."""
    users, dates = partials["user_id"].to_numpy(), day_numbers(partials["event_date"])
    numbers, known = number_keys(users)
    rank = np.empty(len(known), np.uint32)
    rank[np.argsort(users[known])] = np.arange(len(known), dtype=np.uint32)
    order, ends = rows_in_order(rank[numbers], len(known))
    sort_groups(ends, dates, order)
    height, width = partials.height, len(_COUNTS)
    rows, counts = np.empty(height, np.uint32), np.zeros((height, width), np.int64)
    revenue = np.zeros((height, 2), np.uint64)
    firsts, lasts = np.zeros(height, np.int64), np.zeros(height, np.int64)
    merged = merge_days(
        order,
        users,
        dates,
        np.column_stack([partials[name].to_numpy() for name in _COUNTS]),
        halves_of_money(partials["revenue"]),
        partials["first_event_time"].to_physical().to_numpy(),
        partials["last_event_time"].to_physical().to_numpy(),
        rows,
        counts,
        revenue,
        firsts,
        lasts,
    )
    keys = partials.select("user_id", "event_date")[rows[:merged]]
    return keys.with_columns(
        pl.Series("first_event_time", firsts[:merged]).cast(USER_DAYS["first_event_time"]),
        pl.Series("last_event_time", lasts[:merged]).cast(USER_DAYS["last_event_time"]),
        *(pl.Series(name, counts[:merged, at]) for at, name in enumerate(_COUNTS)),
        money_of_halves(revenue[:merged]).alias("revenue"),
    )


@dataclass(frozen=True)
class UserDays:
    """The user-days of a shard, and the days that the run looks at.

    Attributes:
        days: `combine_user_days`.
        calendar: From the first day with an event to `as_of`.
    """

    days: pl.DataFrame
    calendar: Calendar


def user_day_table(days: pl.DataFrame) -> pl.DataFrame:
    """The rows of fct_user_days, of `combine_user_days` of a user shard."""
    return FCT_USER_DAYS.conform(days)


@dataclass(frozen=True)
class ActiveDays:
    """The days on which the users of a shard were active, as kernels take them.

    Attributes:
        ends: Where the days of each user end.
        numbers: Each day, ascending within a user, as its place in `dates`.
        dates: The numbers of the dates that occur, in no order: few, of which more is looked up.
        revenue: Of each day.
    """

    ends: Integers
    numbers: Numbers
    dates: Integers
    revenue: Halves

    def indexes(self, period: Period) -> Integers:
        """The index of the period that holds each day."""
        return period_indexes(self.dates, period)[self.numbers]

    def run_starts(self, groups: Integers) -> npt.NDArray[np.intp]:
        """Where runs of days of one user and group begin.

        Args:
            groups: The group of each day, ascending within a user.
        """
        is_start = np.ones(len(groups), np.bool_)
        is_start[1:] = groups[1:] != groups[:-1]
        is_start[self.ends[:-1]] = True
        return np.flatnonzero(is_start)


def active_days(days: pl.DataFrame, activity: Activity) -> ActiveDays:
    """The days of an activity.

    Args:
        days: `combine_user_days` of a user shard.
        activity: What makes a user active.
    """
    days = days.select("user_id", "event_date", "revenue", "purchases")
    if activity == "purchase":
        days = days.filter(pl.col("purchases") > 0)
    dates = day_numbers(days["event_date"])
    numbers, firsts = number_keys(dates)
    return ActiveDays(user_ends(days), numbers, dates[firsts], halves_of_money(days["revenue"]))


def user_ends(days: pl.DataFrame) -> Integers:
    """Where the rows of each user end, of rows sorted by `user_id`."""
    users = days["user_id"].to_numpy()
    ends = np.flatnonzero(users[1:] != users[:-1]) + 1
    return np.append(ends, len(users)) if len(users) else ends


PURCHASE_HISTORIES: Final = pl.Schema(
    {
        "user_id": pl.Int64(),
        "rfm_segment": pl.String(),
        "event_dates": pl.List(pl.Date()),
        "revenues": pl.List(MONEY),
    }
)
"""A row per user with a purchase: its segment; its purchase days, in order; the revenue of each."""


def purchase_histories(days: pl.DataFrame, scored: pl.DataFrame) -> pl.DataFrame:
    """The `PURCHASE_HISTORIES` of a user shard.

    A user is one row, so that users stay whole wherever rows are parted.

    Args:
        days: `user_id`, `event_date`, `purchases`, `revenue` of its user-days, sorted by the first
            two; those without a purchase may be left out.
        scored: `user_id`, `rfm_segment` of all users with a purchase.
    """
    return (
        days.filter(pl.col("purchases") > 0)
        .group_by("user_id", maintain_order=True)
        .agg(event_dates="event_date", revenues="revenue")
        .join(scored, on="user_id", maintain_order="left")
        .select(PURCHASE_HISTORIES.names())
    )


def purchase_days(histories: pl.DataFrame) -> pl.DataFrame:
    """The purchase days of `PURCHASE_HISTORIES`: `user_id`, `event_date`, `revenue`, a row each."""
    return histories.select("user_id", event_date="event_dates", revenue="revenues").explode(
        "event_date", "revenue"
    )
