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

WEEK, MONTH = 0, 1
"""The periods between whose ends users migrate."""

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
_NOBODY: Final = -1


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
    period_ends: npt.NDArray[np.int64],
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
        period_ends: For each snapshot and period (week, month): 0 if it is not the last day of
            one, 1 if it is that of the first, else 2.
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
        rfm_versions: Filled with rows of `RfmVersion`: at least as many as snapshots.
        status_versions: Filled with rows of `StatusVersion`: the same.
        status_revenue: Filled with the revenue of each.

    Returns:
        The first user that is not followed, and the number of versions of either kind.
    """
    snapshots = len(days)
    rfm_count, status_count = 0, 0
    total = np.zeros((1, 2), np.uint64)  # revenue of the user to date
    added = np.zeros((1, 2), np.uint64)  # the same since the snapshot before
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
        row = ends[user - 1] if user else 0
        total[0] = 0
        bought, ordered, last_purchase, last_activity, purchase_row = 0, 0, 0, 0, 0
        kept_bought, kept_ordered, kept_status = 0, 0, _NOBODY
        recency, frequency, monetary, segment = 0, 0, 0, _NO_SEGMENT
        kept_scores, scores = 0, 0
        kept_total[0] = 0
        for period in range(2):
            period_codes[period, 0], period_codes[period, 1] = _SEGMENTS, _STATUSES
            period_bought[period] = 0
            period_total[period] = 0
        for snapshot in range(np.searchsorted(days, dates[row]), snapshots):
            day = days[snapshot]
            while row < ends[user] and dates[row] <= day:
                last_activity = dates[row]
                if purchases[row] > 0:
                    last_purchase, purchase_row = last_activity, row
                    bought += purchases[row]
                    ordered += orders[row]
                    add_money(total, 0, revenue, row)
                row += 1
            status = _PROSPECT
            if bought:
                status = status_of(
                    day - last_purchase,
                    day - last_activity,
                    churn_days,
                    at_risk_days,
                    declining_days,
                )
                count = ordered if counts_orders else bought
                recency = _score(recency_places[purchase_row], recency_bounds, snapshot)
                frequency = _score(count, frequency_bounds, snapshot)
                monetary = _score(monetary_places[purchase_row], monetary_bounds, snapshot)
                segment = segments[recency - 1, frequency - 1, monetary - 1]
                scores = (recency * 8 + frequency) * 8 + monetary

            for period in range(2):
                if period_ends[snapshot, period] == 0:
                    continue
                if period_ends[snapshot, period] > 1:
                    of_segment = period_codes[period, 0] * _SEGMENTS + segment
                    of_status = (
                        (_SEGMENTS + 1) * _SEGMENTS + period_codes[period, 1] * _STATUSES + status
                    )
                    moves[period, snapshot, of_segment, _MOVE.customers] += 1
                    moves[period, snapshot, of_status, _MOVE.customers] += 1
                    if bought != period_bought[period]:
                        more = bought - period_bought[period]
                        moves[period, snapshot, of_segment, _MOVE.purchases] += more
                        moves[period, snapshot, of_status, _MOVE.purchases] += more
                        added[0] = total[0]
                        subtract_money(added, 0, period_total, period)
                        first_move = (period * snapshots + snapshot) * MOVES
                        add_money(moved_revenue, first_move + of_segment, added, 0)
                        add_money(moved_revenue, first_move + of_status, added, 0)
                period_codes[period, 0], period_codes[period, 1] = segment, status
                period_bought[period] = bought
                period_total[period] = total[0]

            if not is_kept[snapshot]:
                continue
            has_bought = bought != kept_bought
            if status == kept_status and scores == kept_scores and not has_bought:
                continue
            is_known = kept_status != _NOBODY
            slots[1] = 1 + segment
            slots[2] = 1 + _SEGMENTS + status
            slots[3] = (
                1
                + _SEGMENTS
                + _STATUSES
                + _stage_of(ordered if counts_orders else bought, stage_up_to)
            )
            if has_bought:
                added[0] = total[0]
                subtract_money(added, 0, kept_total, 0)
            for dimension in range(4):
                slot, before = slots[dimension], kept_slots[dimension]
                stocks[snapshot, slot, _STOCK.customers] += 1
                stocks[snapshot, slot, _STOCK.churned] += status == _CHURNED
                stocks[snapshot, slot, _STOCK.purchases] += bought
                stocks[snapshot, slot, _STOCK.orders] += ordered
                add_money(stock_revenue, snapshot * SLOTS + slot, total, 0)
                if is_known:
                    stocks[snapshot, before, _STOCK.customers] -= 1
                    stocks[snapshot, before, _STOCK.churned] -= kept_status == _CHURNED
                    stocks[snapshot, before, _STOCK.purchases] -= kept_bought
                    stocks[snapshot, before, _STOCK.orders] -= kept_ordered
                    subtract_money(stock_revenue, snapshot * SLOTS + before, kept_total, 0)
                if not is_known or slot != before:
                    flows[snapshot, slot, _FLOW.entered] += 1
                if has_bought:
                    flows[snapshot, slot, _FLOW.purchases] += bought - kept_bought
                    add_money(flow_revenue, snapshot * SLOTS + slot, added, 0)
            if scores != kept_scores:
                previous = NO_END
                if kept_scores:
                    rfm_versions[rfm_count - 1, _RFM.end] = snapshot
                    previous = rfm_versions[rfm_count - 1, _RFM.segment]
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
                previous = NO_END
                if is_known:
                    status_versions[status_count - 1, _VERSION.end] = snapshot
                    previous = kept_status
                status_versions[status_count, _VERSION.user] = user
                status_versions[status_count, _VERSION.begin] = snapshot
                status_versions[status_count, _VERSION.end] = NO_END
                status_versions[status_count, _VERSION.status] = status
                status_versions[status_count, _VERSION.purchases] = bought
                status_versions[status_count, _VERSION.orders] = ordered
                status_versions[status_count, _VERSION.stage] = slots[3] - 1 - _SEGMENTS - _STATUSES
                status_versions[status_count, _VERSION.previous] = previous
                status_revenue[status_count] = total[0]
                status_count += 1
            kept_slots[:] = slots
            kept_status, kept_scores, kept_bought, kept_ordered = status, scores, bought, ordered
            kept_total[0] = total[0]
    return len(ends), rfm_count, status_count


@kernel(types.void(filled(types.int64, 3), _MONEY))
def add_up_stocks(stocks: npt.NDArray[np.int64], revenue: Halves) -> None:
    """Make of the changes of stocks at each snapshot the stocks."""
    slots = stocks.shape[1]
    for snapshot in range(1, len(stocks)):
        stocks[snapshot] += stocks[snapshot - 1]
        for slot in range(slots):
            add_money(revenue, snapshot * slots + slot, revenue, (snapshot - 1) * slots + slot)
