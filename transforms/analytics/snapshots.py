"""Snapshot dates: the days at whose end the state of every customer is kept."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from transforms.rules import History

_SUNDAY = 7


@dataclass(frozen=True)
class Snapshots:
    """The days at whose end the states of customers are needed.

    Attributes:
        dates: Those days, ascending (Date). The last is D1.
        is_kept: Which of them are snapshot dates S: the states at the others, ends of months,
            are needed for the migration between months alone and cut no versions.
        ends_week: Which of them end a week whose migration is shown, or the one before the first.
        ends_month: The same of months.
    """

    dates: pl.Series
    is_kept: npt.NDArray[np.bool_]
    ends_week: npt.NDArray[np.bool_]
    ends_month: npt.NDArray[np.bool_]

    @property
    def days(self) -> npt.NDArray[np.int64]:
        """The dates as days since 1970-01-01."""
        return self.dates.to_physical().to_numpy().astype(np.int64)

    @property
    def kept(self) -> pl.Series:
        """The snapshot dates S."""
        return self.dates.filter(pl.Series(self.is_kept))


def snapshots(first: dt.date, last: dt.date, history: History) -> Snapshots:
    """The snapshots of a run.

    S is the Sundays (`week`), the ends of months (`month`) or all days (`day`) from D0 to D1, and
    D1. A migration leads from the last day of a period to that of the next, both from D0 to D1: by
    week where history is by week or day, by month unless it is `none`.

    Args:
        first: D0, the first day with a kept event.
        last: D1, `as_of`.
        history: The option.
    """
    days = pl.date_range(first, last, eager=True)
    is_sunday = days.dt.weekday() == _SUNDAY
    is_month_end = days == days.dt.month_end()
    nothing = pl.repeat(value=False, n=len(days), eager=True)
    kept = {"none": nothing, "day": ~nothing, "week": is_sunday, "month": is_month_end}[history]
    kept |= days == last
    ends_week = is_sunday if history in {"week", "day"} else nothing
    ends_month = nothing if history == "none" else is_month_end
    needed = kept | ends_month
    return Snapshots(
        days.filter(needed),
        kept.filter(needed).to_numpy(),
        ends_week.filter(needed).to_numpy(),
        ends_month.filter(needed).to_numpy(),
    )
