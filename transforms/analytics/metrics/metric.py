"""What a metrics table is made of: partial aggregates of shards, and how they become its rows.

A metrics table is one module of this package that exports `METRIC`, and its entry in the schema.
The registry finds it; staging, audit, documentation and reports follow from the schema.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

import polars as pl

from transforms.analytics.calendar import Calendar
from transforms.analytics.catalogue import Catalogue
from transforms.rules import Rules
from transforms.schema import Table


class Source(Enum):
    """What a partial aggregate is made of: something of one shard, by the type of its members."""

    SESSIONS = auto()
    """Of a session shard, `Sessions`."""

    USER_DAYS = auto()
    """Of a user shard before all users are known, `user_days.UserDays`."""

    USERS = auto()
    """Of a user shard, `users.DescribedUsers`."""

    FUNNELS = auto()
    """Of a shard of sessions or users that tells of funnels, `funnels.FunnelCounts`."""

    CARTS = auto()
    """Of a user shard, `carts.cart_lines` with `category_lvl_1`."""

    HISTORY = auto()
    """Of a user shard whose history is kept, `history.user_history`."""


@dataclass(frozen=True)
class Partial:
    """An aggregate that is made per shard, and that merges by adding.

    Attributes:
        name: Its name, unique.
        source: What it is made of.
        schema: The columns of its frames.
        keys: Columns that rows are merged by; the others are added up.
        compute: Makes a frame, in which a key may occur several times, of what the source gives.
        minima: Columns of which the smallest value is kept instead.
        maxima: Columns of which the largest value is kept instead.
    """

    name: str
    source: Source
    schema: pl.Schema
    keys: tuple[str, ...]
    compute: Callable[[Any], pl.DataFrame]
    minima: tuple[str, ...] = ()
    maxima: tuple[str, ...] = ()

    def merge(self, frames: pl.DataFrame) -> pl.DataFrame:
        """One row for each key of the frames, of any number of shards, one behind the other."""
        extremes = (*self.minima, *self.maxima)
        return (
            frames.group_by(self.keys)
            .agg(
                pl.col(name for name in self.schema if name not in (*self.keys, *extremes)).sum(),
                pl.col(self.minima).min(),
                pl.col(self.maxima).max(),
            )
            .select(self.schema.names())
        )


@dataclass(frozen=True)
class Facts:
    """What is known of the whole input when a metrics table is made.

    Attributes:
        catalogue: Products and categories.
        calendar: The days that the run looks at; None where no event was kept.
        rules: The options.
    """

    catalogue: Catalogue
    calendar: Calendar | None
    rules: Rules


Checks = Callable[[pl.DataFrame, Mapping[str, pl.DataFrame], Facts], Mapping[str, int]]
"""From a table, the merged partials and the facts to failing rows by check."""


@dataclass(frozen=True)
class Metric:
    """A metrics table.

    Attributes:
        table: Its entry in the schema.
        partials: What it is made of; metrics may share one.
        finish: Makes its rows of the merged partials, by name, each with a row at most for a key.
        checks: Counts the rows that break a rule between rows, by the names of the checks, of the
            table and of what it was made of.
    """

    table: Table
    partials: tuple[Partial, ...]
    finish: Callable[[Mapping[str, pl.DataFrame], Facts], pl.DataFrame]
    checks: Checks | None = None


def over_time(
    table: Table,
    partial: Partial,
    finish: Callable[[pl.DataFrame, Calendar], pl.DataFrame],
    checks: Callable[[pl.DataFrame], Mapping[str, int]] | None = None,
) -> Metric:
    """A metrics table over the days that a run looks at, of one partial aggregate.

    Args:
        table: Its entry in the schema.
        partial: What it is made of.
        finish: Makes its rows of the merged partial; not called where there are no days.
        checks: See `Metric`.
    """

    def rows(partials: Mapping[str, pl.DataFrame], facts: Facts) -> pl.DataFrame:
        if facts.calendar is None:
            return table.empty_frame()
        return finish(partials[partial.name], facts.calendar)

    return Metric(
        table, (partial,), rows, None if checks is None else lambda found, *_: checks(found)
    )


COUNT: Final = pl.Int64()
"""The type of what is counted in a partial aggregate."""
