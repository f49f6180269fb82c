"""RFM: recency, frequency and monetary scores of the users with a purchase, and their segment.

At every snapshot the buyers so far are ranked, by what they have bought up to then. The scores of
dim_user_rfm are those of the last snapshot, `as_of`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from transforms.columnar.kernels import Integers
from transforms.columnar.money import MONEY
from transforms.columnar.ntile import (
    OrderedKeys,
    bracket_tiles,
    bracketed_keys,
    first_keys,
    order_keys,
    places_of,
    sample_keys,
)
from transforms.rules import FrequencyUnit
from transforms.schema import DIM_USER_RFM, NO_RFM_SEGMENT, RFM_TILES, SEGMENT_RULES

Frames = dict[str, pl.DataFrame]


def buyers(users: pl.DataFrame) -> pl.DataFrame:
    """The combined users with a purchase."""
    return users.filter(pl.col("purchase_count") > 0)


STATES: Final = pl.Schema(
    {
        "row": pl.Int64(),
        "user_id": pl.Int64(),
        "begin": pl.Int32(),
        "end": pl.Int32(),
        "last_purchase_date": pl.Date(),
        "frequency": pl.Int64(),
        "total_revenue": MONEY,
    }
)


@dataclass(frozen=True)
class PurchaseStates:
    """What the buyers of a shard had bought, at every snapshot.

    Attributes:
        rows: One row per user and purchase day that is the last one at a snapshot (`STATES`): `row`
            (of the user days), `begin` and `end` (the first such snapshot and the one after the
            last), and what the user has bought up to then.
        snapshots: Number of snapshots.
    """

    rows: pl.DataFrame
    snapshots: int

    def recency_keys(self) -> OrderedKeys:
        """Keys of recency: the longest ago first."""
        return self._keys("last_purchase_date")

    def monetary_keys(self) -> OrderedKeys:
        """Keys of the monetary score: the least revenue first."""
        return self._keys("total_revenue")

    def _keys(self, value: str) -> OrderedKeys:
        keys = self.rows.select(pl.col(value).alias("value"), "user_id", "begin", "end")
        return order_keys(keys, self.snapshots)


def purchase_states(
    days: pl.DataFrame, dates: pl.Series, frequency_unit: FrequencyUnit
) -> PurchaseStates:
    """What the buyers of a shard had bought, at every snapshot.

    Args:
        days: Combined user days of whole users, by user and date: `user_id`, `event_date`,
            `purchases`, `orders`, `revenue`; none after the last snapshot.
        dates: The snapshots, ascending.
        frequency_unit: What frequency counts.
    """
    number = "purchases" if frequency_unit == "items" else "orders"
    bought = days.lazy().with_row_index("row").filter(pl.col("purchases") > 0).collect()
    users = bought["user_id"].to_numpy()
    is_last = np.ones(len(users), np.bool_)
    is_last[:-1] = users[1:] != users[:-1]
    begin = dates.search_sorted(bought["event_date"]).to_numpy().astype(np.int32)
    end = np.full(len(begin), len(dates), np.int32)
    end[:-1] = np.where(is_last[:-1], end[:-1], begin[1:])
    first_of_user = _first_of_user(users)
    return PurchaseStates(
        bought.select(
            pl.col("row").cast(pl.Int64),
            "user_id",
            begin=pl.Series(begin),
            end=pl.Series(end),
            last_purchase_date="event_date",
            frequency=_running_total(bought[number], first_of_user),
            total_revenue=_running_total(bought["revenue"], first_of_user),
        ).filter(pl.col("begin") < pl.col("end")),
        len(dates),
    )


def _first_of_user(users: Integers) -> Integers:
    """For each row the first one of its user, whose rows are neighbours."""
    is_first = np.ones(len(users), np.bool_)
    is_first[1:] = users[1:] != users[:-1]
    first: Integers = np.flatnonzero(is_first)[is_first.cumsum() - 1]
    return first


def _running_total(values: pl.Series, first_of_user: Integers) -> pl.Series:
    """The sums of each user's values up to each row, itself included."""
    totals = values.cum_sum()
    return totals - (totals - values).gather(first_of_user)


# The first pass ------------------------------------------------------------------------------


def rank_samples(states: PurchaseStates) -> Frames:
    """What a user shard sends in the first pass, by name."""
    return {
        "recency_samples": sample_keys(states.recency_keys(), RFM_TILES),
        "monetary_samples": sample_keys(states.monetary_keys(), RFM_TILES),
        "frequencies": frequency_counts(states),
    }


@functools.cache
def _no_samples() -> Frames:
    """What a shard without a buyer sends."""
    return rank_samples(_no_states())


def _no_states() -> PurchaseStates:
    return PurchaseStates(STATES.to_frame(), 1)


def frequency_counts(states: PurchaseStates) -> pl.DataFrame:
    """How many buyers of a shard have each frequency at each snapshot.

    Returns:
        Columns `snapshot` (Int32), `frequency`, `users` (Int64), which merge by adding users.
    """
    rows = states.rows
    found, number = np.unique(rows["frequency"].to_numpy(), return_inverse=True)
    changes = np.zeros((states.snapshots + 1, len(found)), np.int64)
    np.add.at(changes, (rows["begin"].to_numpy(), number), 1)
    np.add.at(changes, (rows["end"].to_numpy(), number), -1)
    users = changes.cumsum(axis=0)
    snapshot, column = users.nonzero()
    return pl.DataFrame(
        {
            "snapshot": snapshot.astype(np.int32),
            "frequency": found[column],
            "users": users[snapshot, column],
        }
    )


@dataclass(frozen=True)
class RankBrackets:
    """Where the tiles of recency and of monetary value begin, roughly: `bracket_tiles`."""

    recency: pl.DataFrame
    monetary: pl.DataFrame

    def frames(self) -> Frames:
        """The brackets by name, to be sent."""
        return {"recency_brackets": self.recency, "monetary_brackets": self.monetary}

    @classmethod
    def of(cls, frames: Mapping[str, pl.DataFrame]) -> RankBrackets:
        """The brackets that were sent."""
        return cls(frames["recency_brackets"], frames["monetary_brackets"])


def rank_brackets(samples: Frames) -> RankBrackets:
    """Bracket the tiles, from the `rank_samples` of all shards; to be done once."""
    samples = _no_samples() | samples
    return RankBrackets(
        bracket_tiles(samples["recency_samples"], RFM_TILES),
        bracket_tiles(samples["monetary_samples"], RFM_TILES),
    )


# The second pass -----------------------------------------------------------------------------


def rank_candidates(states: PurchaseStates, brackets: RankBrackets) -> Frames:
    """What a user shard sends in the second pass, by name."""
    recency, before_recency = bracketed_keys(states.recency_keys(), brackets.recency)
    monetary, before_monetary = bracketed_keys(states.monetary_keys(), brackets.monetary)
    return {
        "recency_candidates": recency,
        "before_recency": before_recency,
        "monetary_candidates": monetary,
        "before_monetary": before_monetary,
    }


@dataclass(frozen=True)
class Scoring:
    """All that is needed to score the buyers of any snapshot: four rows of each frame for one.

    Attributes:
        last: The last snapshot.
        recency: First key of each recency tile but the first: `snapshot`, `tile`, `value` (the
            last purchase date), `user_id`.
        monetary: The same of monetary tiles: `value` is the revenue.
        frequency: `first_frequencies`.
    """

    last: int
    recency: pl.DataFrame
    monetary: pl.DataFrame
    frequency: pl.DataFrame

    def frames(self) -> Frames:
        """The scoring by name, to be sent; but for the last snapshot."""
        return {
            "recency_tiles": self.recency,
            "monetary_tiles": self.monetary,
            "frequency_tiles": self.frequency,
        }

    @classmethod
    def of(cls, frames: Mapping[str, pl.DataFrame], last: int) -> Scoring:
        """The scoring that was sent."""
        return cls(
            last, frames["recency_tiles"], frames["monetary_tiles"], frames["frequency_tiles"]
        )


def scoring(samples: Frames, brackets: RankBrackets, candidates: Frames) -> Scoring:
    """The exact scoring, from both passes over all shards; to be done once."""
    samples = _no_samples() | samples
    candidates = rank_candidates(_no_states(), brackets) | candidates
    last = samples["frequencies"]["snapshot"].max()  # who has bought stays a buyer
    return Scoring(
        0 if last is None else int(last),  # type: ignore[arg-type] # an integer
        first_keys(
            candidates["recency_candidates"], candidates["before_recency"], brackets.recency
        ),
        first_keys(
            candidates["monetary_candidates"], candidates["before_monetary"], brackets.monetary
        ),
        first_frequencies(samples["frequencies"]),
    )


def first_frequencies(counts: pl.DataFrame) -> pl.DataFrame:
    """The smallest frequency of each frequency score but the first, at each snapshot.

    The percent rank p is (buyers with a smaller frequency) / (buyers − 1), 0 for a single buyer;
    the score is its fifth, 1 to 5.

    Args:
        counts: `frequency_counts` of all shards.

    Returns:
        Columns `snapshot`, `tile` (Int32), `value` (the frequency); none where nobody has it.
    """
    keys = ("snapshot", "frequency")
    ordered = counts.group_by(keys).agg(pl.col("users").sum()).sort(keys)
    users = pl.col("users")
    fewer = (users.cum_sum() - users).over("snapshot")
    others = pl.max_horizontal(users.sum().over("snapshot") - 1, 1)
    tiles = pl.int_ranges(2, pl.col("score") + 1, dtype=pl.Int32)
    return (
        ordered.with_columns(
            # p >= t / 5, without a quotient that could round.
            score=pl.sum_horizontal(
                pl.lit(1, pl.Int64),
                *(
                    (fewer * RFM_TILES >= others * tile).cast(pl.Int64)
                    for tile in range(1, RFM_TILES)
                ),
            )
        )
        .with_columns(tile=tiles)
        .explode("tile", empty_as_null=False)
        .group_by("snapshot", "tile")
        .agg(pl.col("frequency").min().alias("value"))
        .sort("snapshot", "tile")
    )


# Scores --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ShardScoring:
    """Scores of a shard's buyers as comparisons of integers: 1, and 1 more for each bound reached.

    Attributes:
        recency_places: For each user day the place of its key of recency among the shard's; 0
            where it is not the last purchase day at any snapshot.
        monetary_places: The same of its key of monetary value.
        recency: For each snapshot and tile but the first the first place of it.
        monetary: The same of monetary tiles.
        frequency: The first frequency of it.
    """

    recency_places: Integers
    monetary_places: Integers
    recency: npt.NDArray[np.int64]
    monetary: npt.NDArray[np.int64]
    frequency: npt.NDArray[np.int64]


def shard_scoring(states: PurchaseStates, rows: int, rules: Scoring) -> ShardScoring:
    """Bring a scoring to the places of a shard.

    Args:
        states: Of the shard.
        rows: Number of its user days.
        rules: `scoring`.
    """
    of_row = states.rows["row"].to_numpy()
    places, bounds = [], []
    for ordered, first in (
        (states.recency_keys(), rules.recency),
        (states.monetary_keys(), rules.monetary),
    ):
        place = np.zeros(rows, np.int64)
        place[of_row[ordered.rows]] = np.arange(len(ordered.rows))
        places.append(place)
        first_place = places_of(ordered, first["value"], first["user_id"])
        bounds.append(_by_snapshot(first, first_place, states.snapshots))
    frequency = _by_snapshot(rules.frequency, rules.frequency["value"].to_numpy(), states.snapshots)
    return ShardScoring(places[0], places[1], bounds[0], bounds[1], frequency)


def _by_snapshot(tiles: pl.DataFrame, bounds: Integers, snapshots: int) -> npt.NDArray[np.int64]:
    """A row for each snapshot of the bounds of its tiles but the first; out of reach if none."""
    found = np.full((snapshots, RFM_TILES - 1), np.iinfo(np.int64).max, np.int64)
    found[tiles["snapshot"].to_numpy(), tiles["tile"].to_numpy() - 2] = bounds
    return found


def score(users: pl.DataFrame, rules: Scoring) -> pl.DataFrame:
    """Score the buyers of a shard as they are at the last snapshot.

    Args:
        users: `combine_users` of a shard.
        rules: `scoring`.

    Returns:
        The buyers with `recency_score`, `frequency_score`, `monetary_score`, `rfm_score`,
        `rfm_segment` beside their columns.
    """
    recency, frequency, monetary = (
        _tile_of(tiles.filter(pl.col("snapshot") == rules.last), pl.col(value), kind)
        for tiles, value, kind in (
            (rules.recency, "last_purchase_date", pl.Date()),
            (rules.frequency, "frequency", pl.Int64()),
            (rules.monetary, "total_revenue", MONEY),
        )
    )
    r, f, m = pl.col("recency_score"), pl.col("frequency_score"), pl.col("monetary_score")
    return (
        buyers(users)
        .with_columns(recency_score=recency, frequency_score=frequency, monetary_score=monetary)
        .with_columns(rfm_score=r + f + m, rfm_segment=segment())
    )


def _tile_of(tiles: pl.DataFrame, value: pl.Expr, kind: pl.DataType) -> pl.Expr:
    """The tile of `value`, and of `user` where keys have one, (Int64)."""
    reached = [pl.lit(1, pl.Int64)]
    for row in tiles.iter_rows(named=True):
        first = pl.lit(row["value"], kind)
        is_reached = value >= first
        if "user_id" in row:
            is_reached &= (value > first) | (pl.col("user") >= pl.lit(str(row["user_id"])))
        reached.append(is_reached.cast(pl.Int64))
    return pl.sum_horizontal(reached)


def segment() -> pl.Expr:
    """The segment of (recency_score, frequency_score, monetary_score): the first that matches."""
    *rules, (last, *_) = SEGMENT_RULES
    chosen = pl.lit(last)
    for rule in reversed(rules):
        fits = pl.all_horizontal(
            pl.col("recency_score").is_between(*rule.recency),
            pl.col("frequency_score").is_between(*rule.frequency),
            pl.col("monetary_score").is_between(*rule.monetary),
        )
        chosen = pl.when(fits).then(pl.lit(rule.segment)).otherwise(chosen)
    return chosen


def with_segment(described: pl.DataFrame, scored: pl.DataFrame) -> pl.DataFrame:
    """Give users their RFM segment; those without a purchase get `No RFM Score`."""
    return described.join(
        scored.select("user_id", "rfm_segment"), on="user_id", how="left"
    ).with_columns(pl.col("rfm_segment").fill_null(NO_RFM_SEGMENT))


def rfm_table(scored: pl.DataFrame) -> pl.DataFrame:
    """The rows of dim_user_rfm."""
    return DIM_USER_RFM.conform(scored.with_columns(user_id="user"))
