"""History: the states of customers at snapshots, as versions; and how many moved where.

The state at a snapshot is that of dim_users and dim_user_rfm with `as_of` of that day. A version is
a run of snapshots at which a user's versioned columns are equal. Users are followed one by one
through the snapshots, so memory holds their days and versions, and for each snapshot its sums.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from transforms.analytics.calendar import day_numbers
from transforms.analytics.rfm import (
    Scoring,
    purchase_states,
    shard_scoring,
)
from transforms.analytics.snapshots import Snapshots
from transforms.analytics.user_days import user_ends
from transforms.columnar.kernels import Integers
from transforms.columnar.money import MONEY, Halves, halves_of_money, money_of_halves
from transforms.columnar.snapshot_kernels import (
    MOVES,
    NO_END,
    SEGMENTS,
    SLOTS,
    Flow,
    Move,
    RfmVersion,
    StatusVersion,
    Stock,
    add_up,
    follow_users,
)
from transforms.rules import FrequencyUnit, UserThresholds
from transforms.schema import (
    ACTIVITY_STATUSES,
    HISTORY_DIMENSIONS,
    LIFECYCLE_STAGE_UP_TO,
    LIFECYCLE_STAGES,
    MIGRATION_DIMENSIONS,
    MIGRATION_PERIODS,
    NEW_CUSTOMER,
    RFM_SEGMENTS,
    RFM_TILES,
    SEGMENT_RULES,
    SNAP_USER_RFM,
    SNAP_USER_STATUS,
)

Frames = dict[str, pl.DataFrame]

_VERSION_ROOM: Final = 1 << 14  # versions that are made at a time
_VALUES: Final = {
    "overall": ("all",),
    "rfm_segment": SEGMENTS,
    "activity_status": ACTIVITY_STATUSES,
    "customer_lifecycle_stage": LIFECYCLE_STAGES,
}
_DIMENSION: Final = pl.Enum(HISTORY_DIMENSIONS)
_VALUE: Final = pl.Enum([value for values in _VALUES.values() for value in values] + [NEW_CUSTOMER])
_PERIOD: Final = pl.Enum(MIGRATION_PERIODS)

HISTORY_SUMS: Final = (
    "customers",
    "churned_customers",
    "purchases",
    "orders",
    "revenue",
    "entered",
    "purchases_since",
    "revenue_since",
)
"""What is summed over the customers of a snapshot and value; two of them are money."""

MIGRATION_SUMS: Final = ("customers", "purchases", "revenue")
"""What is summed over the customers that moved from a value to another."""


HISTORY_PARTIAL: Final = pl.Schema(
    {
        "snapshot_date": pl.Date(),
        "dimension": _DIMENSION,
        "value": _VALUE,
        **{name: MONEY if "revenue" in name else pl.Int64() for name in HISTORY_SUMS},
    }
)
"""Columns of "segment_history"."""

MIGRATION_PARTIAL: Final = pl.Schema(
    {
        "period": _PERIOD,
        "snapshot_date": pl.Date(),
        "dimension": _DIMENSION,
        "from_value": _VALUE,
        "to_value": _VALUE,
        **{name: MONEY if name == "revenue" else pl.Int64() for name in MIGRATION_SUMS},
    }
)
"""Columns of "segment_migration"."""

KNOWN_USERS: Final = pl.Schema({"first_event_date": pl.Date(), "users": pl.Int64()})
"""Columns of "known_users"."""


def segment_table() -> npt.NDArray[np.uint8]:
    """The number (of `RFM_SEGMENTS`) of the segment of each (recency, frequency, monetary) − 1."""
    numbers = np.empty((RFM_TILES,) * 3, np.uint8)
    for rule in reversed(SEGMENT_RULES):
        ranges = (rule.recency, rule.frequency, rule.monetary)
        numbers[tuple(slice(low - 1, high) for low, high in ranges)] = RFM_SEGMENTS.index(
            rule.segment
        )
    return numbers


@dataclass(frozen=True)
class HistoryRules:
    """What is known of all users when the history of a shard of them is made.

    Attributes:
        snapshots: The snapshots.
        scoring: How buyers are scored at each of them.
        thresholds: Where the classes of users begin.
        frequency_unit: What frequency and the lifecycle stage count.
    """

    snapshots: Snapshots
    scoring: Scoring
    thresholds: UserThresholds
    frequency_unit: FrequencyUnit


def user_history(days: pl.DataFrame, rules: HistoryRules) -> Frames:
    """All that history makes of the users of a shard.

    Args:
        days: Combined user days, by user and date: `user_id`, `event_date`, `purchases`, `orders`,
            `revenue`; none after the last snapshot.
        rules: What is known of all users.

    Returns:
        Rows of "snap_user_rfm" and "snap_user_status", and the partial aggregates
        "segment_history" (`snapshot_date`, `dimension`, `value`; `HISTORY_SUMS`),
        "segment_migration" (`period`, `snapshot_date`, `dimension`, `from_value`, `to_value`;
        `MIGRATION_SUMS`) and "known_users" (`first_event_date`; `users`), which merge by adding
        what is not a key.
    """
    ends = user_ends(days)
    users = days["user_id"].to_numpy()[ends - 1]
    snapshots = rules.snapshots
    sums = _Sums(len(snapshots.dates))
    rfm, status = [], []
    for versions in _follow(days, ends, rules, sums):
        rfm.append(_rfm_rows(versions.rfm, users, snapshots))
        status.append(_status_rows(versions.status, versions.revenue, users, snapshots))
    return {
        "snap_user_rfm": pl.concat(rfm),
        "snap_user_status": pl.concat(status),
        "segment_history": _history_partial(sums, snapshots),
        "segment_migration": _migration_partial(sums, snapshots),
        "known_users": known_users(days),
    }


def known_users(days: pl.DataFrame) -> pl.DataFrame:
    """How many users of a shard have their first event on each day.

    Args:
        days: `combine_user_days` of the shard.

    Returns:
        Columns `first_event_date`, `users`, which merge by adding users.
    """
    is_first = pl.col("user_id").ne_missing(pl.col("user_id").shift(1))
    return (
        days.filter(is_first)
        .group_by(first_event_date="event_date")
        .agg(pl.len().cast(pl.Int64).alias("users"))
    )


class _Sums:
    """What is summed over users, as `follow_users` fills it."""

    def __init__(self, snapshots: int) -> None:
        moves = (len(MIGRATION_PERIODS), snapshots, MOVES)
        self.stocks = np.zeros((snapshots, SLOTS, len(Stock())), np.int64)
        self.stock_revenue = np.zeros((snapshots * SLOTS, 2), np.uint64)
        self.flows = np.zeros((snapshots, SLOTS, len(Flow())), np.int64)
        self.flow_revenue = np.zeros((snapshots * SLOTS, 2), np.uint64)
        self.moves = np.zeros((*moves, len(Move())), np.int64)
        self.prospects = np.zeros((snapshots + 1, len(MIGRATION_PERIODS)), np.int64)
        self.moved_revenue = np.zeros((int(np.prod(moves)), 2), np.uint64)


@dataclass(frozen=True)
class _Versions:
    """Some versions, as `follow_users` fills them; valid until the next are made."""

    rfm: npt.NDArray[np.int32]
    status: npt.NDArray[np.int64]
    revenue: Halves


def _follow(
    days: pl.DataFrame, ends: Integers, rules: HistoryRules, sums: _Sums
) -> Iterator[_Versions]:
    """Follow the users of a shard, some at a time: their versions, and what is summed."""
    snapshots, thresholds = rules.snapshots, rules.thresholds
    states = purchase_states(days, snapshots.dates, rules.frequency_unit)
    bounds = shard_scoring(states, days.height, rules.scoring)
    room = max(_VERSION_ROOM, len(snapshots.dates))
    made = _Versions(
        np.empty((room, len(RfmVersion())), np.int32),
        np.empty((room, len(StatusVersion())), np.int64),
        np.empty((room, 2), np.uint64),
    )
    *bounded, _ = LIFECYCLE_STAGE_UP_TO.values()
    of_periods = (snapshots.ends_week, snapshots.ends_month)
    period_numbers = np.column_stack([_numbered(is_end) for is_end in of_periods])
    given = (
        ends,
        day_numbers(days["event_date"]),
        days["purchases"].to_numpy(),
        days["orders"].to_numpy(),
        halves_of_money(days["revenue"]),
        bounds.recency_places,
        bounds.monetary_places,
        snapshots.days,
        snapshots.is_kept,
        _next(snapshots.is_kept),
        period_numbers,
        np.column_stack([_next(is_end) for is_end in of_periods]),
        bounds.recency,
        bounds.monetary,
        bounds.frequency,
        thresholds.churn_days,
        thresholds.at_risk_days,
        thresholds.declining_days,
        rules.frequency_unit == "orders",
        segment_table(),
        np.array(bounded, np.int64),
    )
    summed = (
        sums.stocks,
        sums.stock_revenue,
        sums.flows,
        sums.flow_revenue,
        sums.moves,
        sums.moved_revenue,
        sums.prospects,
    )
    user, is_done = 0, False
    while not is_done:
        user, rfm_count, status_count = follow_users(
            *given, user, *summed, made.rfm, made.status, made.revenue
        )
        is_done = user == len(ends)
        if is_done:
            add_up(sums.stocks, sums.stock_revenue, sums.prospects, period_numbers, sums.moves)
        yield _Versions(
            made.rfm[:rfm_count], made.status[:status_count], made.revenue[:status_count]
        )


def _numbered(is_end: npt.NDArray[np.bool_]) -> Integers:
    """0 where a snapshot does not end a period, 1 where it ends the first, else 2."""
    numbers: Integers = np.minimum(is_end.cumsum(), 2) * is_end
    return numbers


def _next(is_one: npt.NDArray[np.bool_]) -> Integers:
    """For each snapshot the first from it on that is one; their number if there is none."""
    places = np.append(np.flatnonzero(is_one), len(is_one))
    following: Integers = places[np.searchsorted(places, np.arange(len(is_one)))]
    return following


# The rows of versions ------------------------------------------------------------------------


def _validity(
    versions: npt.NDArray[Any], users: Integers, snapshots: Snapshots
) -> dict[str, pl.Series]:
    """The columns of versions that say whose they are and when they hold."""
    columns = StatusVersion()  # those of RfmVersion begin alike
    end = versions[:, columns.end]
    is_current = pl.Series(end == NO_END)
    return {
        "user_id": pl.Series(users[versions[:, columns.user]]),
        "valid_from": snapshots.dates.gather(versions[:, columns.begin].astype(np.uint32)),
        "valid_to": snapshots.dates.gather(pl.Series(end).set(is_current, None)),
        "is_current": is_current,
    }


def _texts(numbers: npt.NDArray[Any], values: Sequence[str]) -> pl.Series:
    """The values of numbers, NULL for those that are none."""
    codes = pl.Series(numbers.astype(np.int64))
    return codes.set(codes == NO_END, None).cast(pl.UInt8).cat.to(pl.Enum(values))


def _rfm_rows(
    versions: npt.NDArray[np.int32], users: Integers, snapshots: Snapshots
) -> pl.DataFrame:
    columns = RfmVersion()
    scores = {
        name: versions[:, column].astype(np.int64)
        for name, column in (
            ("recency_score", columns.recency),
            ("frequency_score", columns.frequency),
            ("monetary_score", columns.monetary),
        )
    }
    return SNAP_USER_RFM.conform(
        pl.DataFrame(
            _validity(versions, users, snapshots)
            | scores
            | {
                "rfm_score": sum(scores.values()),
                "rfm_segment": _texts(versions[:, columns.segment], RFM_SEGMENTS),
                "previous_segment": _texts(versions[:, columns.previous], RFM_SEGMENTS),
            }
        )
    )


def _status_rows(
    versions: npt.NDArray[np.int64], revenue: Halves, users: Integers, snapshots: Snapshots
) -> pl.DataFrame:
    columns = StatusVersion()
    status = _texts(versions[:, columns.status], ACTIVITY_STATUSES)
    purchases = versions[:, columns.purchases].copy()
    return SNAP_USER_STATUS.conform(
        pl.DataFrame(
            _validity(versions, users, snapshots)
            | {
                "activity_status": status,
                "is_churned": (status == "churned").cast(pl.Int64),
                "purchase_count": purchases,
                "order_count": versions[:, columns.orders].copy(),
                "customer_ltv": money_of_halves(revenue.copy(), purchases > 0),
                "customer_lifecycle_stage": _texts(versions[:, columns.stage], LIFECYCLE_STAGES),
                "previous_status": _texts(versions[:, columns.previous], ACTIVITY_STATUSES),
            }
        )
    )


# Partial aggregates --------------------------------------------------------------------------


def _slots() -> pl.DataFrame:
    """The dimension and value of each slot."""
    return pl.DataFrame(
        [(dimension, value) for dimension, values in _VALUES.items() for value in values],
        {"dimension": _DIMENSION, "value": _VALUE},
        orient="row",
    )


def _moves() -> pl.DataFrame:
    """The dimension, the value before and the value after of each pair of values."""
    return pl.DataFrame(
        [
            (dimension, before, after)
            for dimension in MIGRATION_DIMENSIONS
            for before in (*_VALUES[dimension], NEW_CUSTOMER)
            for after in _VALUES[dimension]
        ],
        {"dimension": _DIMENSION, "from_value": _VALUE, "to_value": _VALUE},
        orient="row",
    )


def _history_partial(sums: _Sums, snapshots: Snapshots) -> pl.DataFrame:
    stocks, flows = Stock(), Flow()
    is_kept = snapshots.is_kept[:, np.newaxis]
    snapshot, slot = (is_kept & (sums.stocks[:, :, stocks.customers] > 0)).nonzero()
    row = snapshot * SLOTS + slot
    found = sums.stocks[snapshot, slot]
    since = sums.flows[snapshot, slot]
    return (
        _slots()[slot]
        .insert_column(0, snapshots.dates.gather(snapshot).alias("snapshot_date"))
        .with_columns(
            customers=found[:, stocks.customers],
            churned_customers=found[:, stocks.churned],
            purchases=found[:, stocks.purchases],
            orders=found[:, stocks.orders],
            revenue=money_of_halves(sums.stock_revenue[row]),
            entered=since[:, flows.entered],
            purchases_since=since[:, flows.purchases],
            revenue_since=money_of_halves(sums.flow_revenue[row]),
        )
    )


def _migration_partial(sums: _Sums, snapshots: Snapshots) -> pl.DataFrame:
    columns = Move()
    period, snapshot, move = (sums.moves[..., columns.customers] > 0).nonzero()
    row = (period * len(snapshots.dates) + snapshot) * MOVES + move
    found = sums.moves[period, snapshot, move]
    return (
        _moves()[move]
        .insert_column(0, pl.Series("period", period.astype(np.uint8)).cat.to(_PERIOD))
        .insert_column(1, snapshots.dates.gather(snapshot).alias("snapshot_date"))
        .with_columns(
            customers=found[:, columns.customers],
            purchases=found[:, columns.purchases],
            revenue=money_of_halves(sums.moved_revenue[row]),
        )
    )


# The tables ----------------------------------------------------------------------------------


# Identities ----------------------------------------------------------------------------------


def broken_validity(versions: pl.DataFrame) -> int:
    """Number of versions whose `valid_to` is not the `valid_from` of the user's next one.

    Args:
        versions: Rows of snap_user_rfm or snap_user_status of whole users.
    """
    ordered = versions.sort("user_id", "valid_from")
    following = pl.col("valid_from").shift(-1).over("user_id")
    return count_failing(ordered, pl.col("valid_to").ne_missing(following))


def outdated_versions(versions: pl.DataFrame, current: pl.DataFrame) -> int:
    """Number of current versions without an equal row of a table, and of rows without a version.

    Args:
        versions: Rows of snap_user_rfm or snap_user_status of whole users.
        current: The rows of dim_user_rfm or dim_users of the same users, a row of each.
    """
    newest = versions.filter("is_current")
    shared = [name for name in current.columns if name in newest.columns]
    both = newest.select(*shared).join(
        current.select(shared), on="user_id", how="full", suffix="_of_table", validate="1:1"
    )
    # A user without a row differs in all columns, of which the id is never NULL.
    differs = pl.any_horizontal(
        _text_or_value(both, name).ne_missing(_text_or_value(both, f"{name}_of_table"))
        for name in shared
    )
    return count_failing(both, differs)


def _text_or_value(frame: pl.DataFrame, name: str) -> pl.Expr:
    """A column, as text where it is dictionary-encoded."""
    if isinstance(frame.schema[name], pl.Categorical | pl.Enum):
        return pl.col(name).cast(pl.String)
    return pl.col(name)


def count_failing(frame: pl.DataFrame, failing: pl.Expr) -> int:
    """The rows for which something is true."""
    return int(frame.select(failing.sum()).item())
