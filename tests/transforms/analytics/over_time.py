"""User-days for unit tests."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import NamedTuple

import polars as pl

from transforms.analytics.user_days import USER_DAYS


class Day(NamedTuple):
    """What a user did on a day."""

    user: int
    date: date
    revenue: Decimal | None = None  # NULL without a purchase
    orders: int = 1


def bought(user: int, day: str, revenue: str = "1", orders: int = 1) -> Day:
    """A day with a purchase."""
    return Day(user, date.fromisoformat(day), Decimal(revenue), orders)


def visited(user: int, day: str) -> Day:
    """A day without one."""
    return Day(user, date.fromisoformat(day))


def frame_of(days: Sequence[Day]) -> pl.DataFrame:
    """Combined user-days; a day with k orders has k + 1 purchases."""
    rows = []
    for day in sorted(days):
        moment = datetime.combine(day.date, time(1), UTC)
        is_buyer = day.revenue is not None
        purchases = day.orders + 1 if is_buyer else 0
        rows.append(
            {
                "user_id": day.user,
                "event_date": day.date,
                "first_event_time": moment,
                "last_event_time": moment,
                "events": purchases + 1,
                "views": 1,
                "cart_adds": 0,
                "cart_removes": 0,
                "purchases": purchases,
                "orders": day.orders if is_buyer else 0,
                "sessions": 1,
                "revenue": day.revenue or Decimal(0),
            }
        )
    return pl.DataFrame(rows, schema=USER_DAYS)
