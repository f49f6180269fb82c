"""The states of users at snapshots, one user after the other.

Nothing is kept of a user but its versions, and of a snapshot but its sums.

A state has a code in each dimension: the RFM segment, the activity status, the lifecycle stage.
`SLOTS` numbers the values of all dimensions, after one for everybody.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import types

from transforms.columnar.kernels import (
    Bytes,
    Flag,
    Flags,
    Integer,
    Integers,
    filled,
    given,
    helper,
    kernel,
)
from transforms.columnar.money import Halves, add_money, subtract_money
from transforms.schema import (
    ACTIVITY_STATUSES,
    LIFECYCLE_STAGES,
    NO_RFM_SEGMENT,
    RFM_SEGMENTS,
)

SEGMENTS: Final = (*RFM_SEGMENTS, NO_RFM_SEGMENT)
"""The values of the dimension rfm_segment, by code."""

SLOTS: Final = 1 + len(SEGMENTS) + len(ACTIVITY_STATUSES) + len(LIFECYCLE_STAGES)
"""Number of values of all dimensions: everybody, segments, statuses, stages."""

MOVES: Final = (len(SEGMENTS) + 1) * len(SEGMENTS) + (len(ACTIVITY_STATUSES) + 1) * len(
    ACTIVITY_STATUSES
)
"""Number of pairs of a value before and one after: of segments, of statuses. The row of users
without a value before is the last of each."""

NO_END: Final = -1
"""Stands for the end of a version that is current, and for a version before that is none."""


class RfmVersion(NamedTuple):
    """Columns of what is kept of a version of snap_user_rfm (Int32)."""

    user: int = 0
    begin: int = 1
    end: int = 2
    recency: int = 3
    frequency: int = 4
    monetary: int = 5
    segment: int = 6
    previous: int = 7


class StatusVersion(NamedTuple):
    """Columns of what is kept of a version of snap_user_status (Int64)."""

    user: int = 0
    begin: int = 1
    end: int = 2
    status: int = 3
    purchases: int = 4
    orders: int = 5
    stage: int = 6
    previous: int = 7


class Stock(NamedTuple):
    """Columns of what is counted of the users that have a value."""

    customers: int = 0
    churned: int = 1
    purchases: int = 2
    orders: int = 3


class Flow(NamedTuple):
    """Columns of what is counted since the snapshot before."""

    entered: int = 0
    purchases: int = 1


class Move(NamedTuple):
    """Columns of what is counted of the users that moved from a value to a value."""

    customers: int = 0
    purchases: int = 1


_RFM: Final = RfmVersion()
_VERSION: Final = StatusVersion()
_STOCK: Final = Stock()
_FLOW: Final = Flow()
_MOVE: Final = Move()
_NO_SEGMENT: Final = SEGMENTS.index(NO_RFM_SEGMENT)
_ACTIVE, _DECLINING, _AT_RISK, _CHURNED, _PROSPECT = range(len(ACTIVITY_STATUSES))
_SEGMENTS: Final = len(SEGMENTS)
_STATUSES: Final = len(ACTIVITY_STATUSES)
_NOBODY: Final = NO_END
_NOTHING: Final = np.zeros((1, 2), np.uint64)
_FIRST_STATUS: Final = 1 + _SEGMENTS
_FIRST_STAGE: Final = _FIRST_STATUS + _STATUSES
_STATUS_MOVES: Final = (_SEGMENTS + 1) * _SEGMENTS  # those of statuses are behind them
_NEW_UNSEGMENTED: Final = _SEGMENTS * _SEGMENTS + _NO_SEGMENT
_NEW_PROSPECT: Final = _STATUS_MOVES + _STATUSES * _STATUSES + _PROSPECT
_STAYS_UNSEGMENTED: Final = _NO_SEGMENT * _SEGMENTS + _NO_SEGMENT
_STAYS_PROSPECT: Final = _STATUS_MOVES + _PROSPECT * _STATUSES + _PROSPECT


@helper
def status_of(
    since_purchase: Integer,
    since_activity: Integer,
    churn_days: Integer,
    at_risk_days: Integer,
    declining_days: Integer,
) -> int:
    """The activity status of a buyer: a number of `ACTIVITY_STATUSES`."""
    if since_purchase > churn_days and since_activity > churn_days:
        return _CHURNED
    if since_purchase > at_risk_days:
        return _AT_RISK
    if since_purchase > declining_days:
        return _DECLINING
    return _ACTIVE


@helper
def _score(value: Integer, bounds: npt.NDArray[np.int64], snapshot: Integer) -> int:
    """1, and 1 more for each bound that is reached."""
    reached = 1
    for tile in range(bounds.shape[1]):
        reached += value >= bounds[snapshot, tile]
    return reached


@helper
def _stage_of(count: Integer, up_to: Integers) -> int:
    """The first stage whose bound a count does not exceed; the last one has none."""
    stage = 0
    while stage < len(up_to) and count > up_to[stage]:
        stage += 1
    return stage


@helper
def _first_from(days: Integers, date: Integer) -> int:
    """The first snapshot that is not before a date; there is one."""
    low, high = 0, len(days) - 1
    while low < high:
        middle = (low + high) // 2
        if days[middle] < date:
            low = middle + 1
        else:
            high = middle
    return low


@helper
def _copy_money(money: Halves, at: Integer, other: Halves, row: Integer) -> None:
    money[at, 0] = other[row, 0]
    money[at, 1] = other[row, 1]


_MONEY = filled(types.uint64, 2)
_COUNTS = filled(types.int64, 3)


@kernel(
    types.UniTuple(types.int64, 3)(
        given(types.int64),  # the user days
        given(types.int64),
        given(types.int64),
        given(types.int64),
        given(types.uint64, 2),
        given(types.int64),
        given(types.int64),
        given(types.int64),  # the snapshots
        given(types.bool_),
        given(types.int64),
        given(types.int64, 2),
        given(types.int64, 2),
        given(types.int64, 2),  # the bounds of scores
        given(types.int64, 2),
        given(types.int64, 2),
        types.int64,  # the rules
        types.int64,
        types.int64,
        types.boolean,
        given(types.uint8, 3),
        given(types.int64),
        types.int64,
        _COUNTS,  # what is filled
        _MONEY,
        _COUNTS,
        _MONEY,
        filled(types.int64, 4),
        _MONEY,
        filled(types.int64, 2),
        filled(types.int32, 2),
        filled(types.int64, 2),
        _MONEY,
    )
)
def follow_users(
    ends: Integers,
    dates: Integers,
    purchases: Integers,
    orders: Integers,
    revenue: Halves,
    recency_places: Integers,
    monetary_places: Integers,
    days: Integers,
    is_kept: Flags,
    next_kept: Integers,
    period_numbers: npt.NDArray[np.int64],
    next_ends: npt.NDArray[np.int64],
    recency_bounds: npt.NDArray[np.int64],
    monetary_bounds: npt.NDArray[np.int64],
    frequency_bounds: npt.NDArray[np.int64],
    churn_days: int,
    at_risk_days: int,
    declining_days: int,
    counts_orders: Flag,
    segments: Bytes,
    stage_up_to: Integers,
    first_user: int,
    stocks: npt.NDArray[np.int64],
    stock_revenue: Halves,
    flows: npt.NDArray[np.int64],
    flow_revenue: Halves,
    moves: npt.NDArray[np.int64],
    moved_revenue: Halves,
    prospects: npt.NDArray[np.int64],
    rfm_versions: npt.NDArray[np.int32],
    status_versions: npt.NDArray[np.int64],
    status_revenue: Halves,
) -> tuple[int, int, int]:
    """Follow users through all snapshots, as long as there is room for the versions of one more.

    Args:
        ends: For each user where its days end; users and days ascend.
        dates: Of each user day, since 1970-01-01.
        purchases: Of each.
        orders: Of each.
        revenue: Of each.
        recency_places: Of each, as in `ShardScoring`.
        monetary_places: The same.
        days: Of each snapshot, since 1970-01-01.
        is_kept: Which snapshots cut versions and are counted.
        next_kept: For each snapshot the first of those that is not before it.
        period_numbers: For each snapshot and period (week, month): 0 if it is not the last day of
            one, 1 if it is that of the first, else 2.
        next_ends: For each snapshot and period the first last day that is not before it; their
            number if there is none.
        recency_bounds: For each snapshot the first place of each tile but the first.
        monetary_bounds: The same.
        frequency_bounds: The same, of frequencies.
        churn_days: Days without purchase and activity beyond which a buyer has churned.
        at_risk_days: Days without purchase beyond which a buyer is at risk.
        declining_days: Days without purchase beyond which a buyer declines.
        counts_orders: Whether frequency and stage count orders, not purchases.
        segments: The code of each segment by the three scores − 1.
        stage_up_to: The largest count of each stage but the last.
        first_user: The user to begin with.
        stocks: For each snapshot and slot the changes of `Stock`; added to.
        stock_revenue: For each, in one row after the other, the change of revenue; added to.
        flows: For each snapshot and slot `Flow`; added to.
        flow_revenue: For each the revenue since the kept snapshot before; added to.
        moves: For each period, snapshot and pair of values `Move`; added to.
        moved_revenue: For each the revenue since the period's end before; added to.
        prospects: For each snapshot and period the change in the number of users that are
            prospects, and were so at an end of the period before; added to. One row more.
        rfm_versions: Filled with rows of `RfmVersion`: at least as many as snapshots.
        status_versions: Filled with rows of `StatusVersion`: the same.
        status_revenue: Filled with the revenue of each.

    Returns:
        The first user that is not followed, and the number of versions of either kind.
    """
    snapshots = len(days)
    rfm_count, status_count = 0, 0
    total = np.zeros((1, 2), np.uint64)  # revenue of the user to date
    added = np.zeros((1, 2), np.uint64)  # the same since a snapshot before
    kept_total = np.zeros((1, 2), np.uint64)  # as it was at the kept snapshot before
    period_total = np.zeros((2, 2), np.uint64)  # as it was at the last end of week and month
    period_bought = np.zeros(2, np.int64)
    period_codes = np.zeros((2, 2), np.int64)  # segment and status then
    kept_slots = np.zeros(4, np.int64)
    slots = np.zeros(4, np.int64)
    for user in range(first_user, len(ends)):
        if rfm_count + snapshots > len(rfm_versions) or status_count + snapshots > len(
            status_versions
        ):
            return user, rfm_count, status_count
        row, end = ends[user - 1] if user else 0, ends[user]
        snapshot = _first_from(days, dates[row])
        purchase_row = row
        while purchase_row < end and purchases[purchase_row] == 0:
            purchase_row += 1
        first_purchase = snapshots
        if purchase_row < end:
            first_purchase = _first_from(days, dates[purchase_row])
        for period in range(2):
            period_codes[period, 0], period_codes[period, 1] = _SEGMENTS, _STATUSES
            period_bought[period] = 0
            _copy_money(period_total, period, _NOTHING, 0)
            came = next_ends[snapshot, period]
            if came < first_purchase:
                if period_numbers[came, period] > 1:
                    moves[period, came, _NEW_UNSEGMENTED, _MOVE.customers] += 1
                    moves[period, came, _NEW_PROSPECT, _MOVE.customers] += 1
                prospects[came + 1, period] += 1
                prospects[first_purchase, period] -= 1
                period_codes[period, 0], period_codes[period, 1] = _NO_SEGMENT, _PROSPECT
        kept_bought, kept_ordered, kept_status = 0, 0, _NOBODY
        kept_scores, scores = 0, 0
        _copy_money(kept_total, 0, _NOTHING, 0)
        kept = next_kept[snapshot]
        if kept < first_purchase:
            kept_status = _PROSPECT
            kept_slots[0], kept_slots[1] = 0, 1 + _NO_SEGMENT
            kept_slots[2], kept_slots[3] = _FIRST_STATUS + _PROSPECT, _FIRST_STAGE
            for dimension in range(4):
                stocks[kept, kept_slots[dimension], _STOCK.customers] += 1
                flows[kept, kept_slots[dimension], _FLOW.entered] += 1
            status_versions[status_count] = 0
            status_versions[status_count, _VERSION.user] = user
            status_versions[status_count, _VERSION.begin] = kept
            status_versions[status_count, _VERSION.end] = NO_END
            status_versions[status_count, _VERSION.status] = _PROSPECT
            status_versions[status_count, _VERSION.previous] = NO_END
            _copy_money(status_revenue, status_count, _NOTHING, 0)
            status_count += 1

        _copy_money(total, 0, _NOTHING, 0)
        bought, ordered, last_purchase, last_activity, count = 0, 0, 0, 0, 0
        recency_place, monetary_place = 0, 0
        for snapshot in range(first_purchase, snapshots):
            day = days[snapshot]
            while row < end and dates[row] <= day:
                last_activity = dates[row]
                if purchases[row] > 0:
                    last_purchase = last_activity
                    recency_place, monetary_place = recency_places[row], monetary_places[row]
                    bought += purchases[row]
                    ordered += orders[row]
                    count = ordered if counts_orders else bought
                    add_money(total, 0, revenue, row)
                row += 1
            status = status_of(
                day - last_purchase, day - last_activity, churn_days, at_risk_days, declining_days
            )
            recency = _score(recency_place, recency_bounds, snapshot)
            frequency = _score(count, frequency_bounds, snapshot)
            monetary = _score(monetary_place, monetary_bounds, snapshot)
            segment = np.int64(segments[recency - 1, frequency - 1, monetary - 1])
            scores = (recency * 8 + frequency) * 8 + monetary

            for period in range(2):
                number = period_numbers[snapshot, period]
                if number == 0:
                    continue
                has_bought = bought != period_bought[period]
                if number > 1:
                    of_segment = period_codes[period, 0] * _SEGMENTS + segment
                    of_status = _STATUS_MOVES + period_codes[period, 1] * _STATUSES + status
                    moves[period, snapshot, of_segment, _MOVE.customers] += 1
                    moves[period, snapshot, of_status, _MOVE.customers] += 1
                    if has_bought:
                        more = bought - period_bought[period]
                        moves[period, snapshot, of_segment, _MOVE.purchases] += more
                        moves[period, snapshot, of_status, _MOVE.purchases] += more
                        _copy_money(added, 0, total, 0)
                        subtract_money(added, 0, period_total, period)
                        first_move = (period * snapshots + snapshot) * MOVES
                        add_money(moved_revenue, first_move + of_segment, added, 0)
                        add_money(moved_revenue, first_move + of_status, added, 0)
                period_codes[period, 0], period_codes[period, 1] = segment, status
                if has_bought:
                    period_bought[period] = bought
                    _copy_money(period_total, period, total, 0)

            if not is_kept[snapshot]:
                continue
            has_bought = bought != kept_bought
            if scores == kept_scores and status == kept_status and not has_bought:
                continue
            is_known = kept_status != _NOBODY
            slots[1], slots[2] = 1 + segment, _FIRST_STATUS + status
            stage = _stage_of(count, stage_up_to)
            slots[3] = _FIRST_STAGE + stage
            if has_bought:
                _copy_money(added, 0, total, 0)
                subtract_money(added, 0, kept_total, 0)
            churned, was_churned = status == _CHURNED, kept_status == _CHURNED
            for dimension in range(4):
                slot, before = slots[dimension], kept_slots[dimension]
                has_entered = not is_known or slot != before
                if not has_entered and not has_bought and churned == was_churned:
                    continue
                stocks[snapshot, slot, _STOCK.customers] += 1
                stocks[snapshot, slot, _STOCK.churned] += churned
                stocks[snapshot, slot, _STOCK.purchases] += bought
                stocks[snapshot, slot, _STOCK.orders] += ordered
                add_money(stock_revenue, snapshot * SLOTS + slot, total, 0)
                if is_known:
                    stocks[snapshot, before, _STOCK.customers] -= 1
                    stocks[snapshot, before, _STOCK.churned] -= was_churned
                    stocks[snapshot, before, _STOCK.purchases] -= kept_bought
                    stocks[snapshot, before, _STOCK.orders] -= kept_ordered
                    subtract_money(stock_revenue, snapshot * SLOTS + before, kept_total, 0)
                flows[snapshot, slot, _FLOW.entered] += has_entered
                if has_bought:
                    flows[snapshot, slot, _FLOW.purchases] += bought - kept_bought
                    add_money(flow_revenue, snapshot * SLOTS + slot, added, 0)
                kept_slots[dimension] = slot
            if scores != kept_scores:
                previous = np.int64(NO_END)
                if kept_scores:
                    rfm_versions[rfm_count - 1, _RFM.end] = snapshot
                    previous = np.int64(rfm_versions[rfm_count - 1, _RFM.segment])
                rfm_versions[rfm_count, _RFM.user] = user
                rfm_versions[rfm_count, _RFM.begin] = snapshot
                rfm_versions[rfm_count, _RFM.end] = NO_END
                rfm_versions[rfm_count, _RFM.recency] = recency
                rfm_versions[rfm_count, _RFM.frequency] = frequency
                rfm_versions[rfm_count, _RFM.monetary] = monetary
                rfm_versions[rfm_count, _RFM.segment] = segment
                rfm_versions[rfm_count, _RFM.previous] = previous
                rfm_count += 1
            if status != kept_status or has_bought:
                if is_known:
                    status_versions[status_count - 1, _VERSION.end] = snapshot
                status_versions[status_count, _VERSION.user] = user
                status_versions[status_count, _VERSION.begin] = snapshot
                status_versions[status_count, _VERSION.end] = NO_END
                status_versions[status_count, _VERSION.status] = status
                status_versions[status_count, _VERSION.purchases] = bought
                status_versions[status_count, _VERSION.orders] = ordered
                status_versions[status_count, _VERSION.stage] = stage
                status_versions[status_count, _VERSION.previous] = kept_status
                _copy_money(status_revenue, status_count, total, 0)
                status_count += 1
            kept_status, kept_scores, kept_bought, kept_ordered = status, scores, bought, ordered
            _copy_money(kept_total, 0, total, 0)
    return len(ends), rfm_count, status_count


@kernel(
    types.void(
        filled(types.int64, 3),
        _MONEY,
        filled(types.int64, 2),
        given(types.int64, 2),
        filled(types.int64, 4),
    )
)
def add_up(
    stocks: npt.NDArray[np.int64],
    stock_revenue: Halves,
    prospects: npt.NDArray[np.int64],
    period_numbers: npt.NDArray[np.int64],
    moves: npt.NDArray[np.int64],
) -> None:
    """Make of changes at each snapshot what there is: stocks, and prospects that stay so.

    Args:
        stocks: As `follow_users` fills them; added up.
        stock_revenue: The same.
        prospects: The same.
        period_numbers: As there.
        moves: As there; the prospects are added.
    """
    slots = stocks.shape[1]
    for snapshot in range(len(stocks)):
        if snapshot:
            stocks[snapshot] += stocks[snapshot - 1]
            prospects[snapshot] += prospects[snapshot - 1]
            for slot in range(slots):
                row = snapshot * slots + slot
                add_money(stock_revenue, row, stock_revenue, row - slots)
        for period in range(2):
            if period_numbers[snapshot, period] > 1:
                staying = prospects[snapshot, period]
                moves[period, snapshot, _STAYS_UNSEGMENTED, _MOVE.customers] += staying
                moves[period, snapshot, _STAYS_PROSPECT, _MOVE.customers] += staying
