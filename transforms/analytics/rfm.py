"""RFM: recency, frequency and monetary scores of the users with a purchase, and their segment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from transforms.columnar.money import MONEY
from transforms.columnar.ntile import (
    Bracket,
    bracket_tiles,
    bracketed_keys,
    first_keys,
    sample_keys,
    tile_of,
)
from transforms.schema import DIM_USER_RFM, NO_RFM_SEGMENT, RFM_TILES, SEGMENT_RULES


def buyers(users: pl.DataFrame) -> pl.DataFrame:
    """The combined users with a purchase."""
    return users.filter(pl.col("purchase_count") > 0)


def recency_keys(users: pl.DataFrame) -> pl.DataFrame:
    """Sort keys of recency: the longest ago first, which any as_of orders the same way."""
    return buyers(users).select(value="last_purchase_date", user="user")


def monetary_keys(users: pl.DataFrame) -> pl.DataFrame:
    """Sort keys of the monetary score: the least revenue first."""
    return buyers(users).select(value="total_revenue", user="user")


def frequency_counts(users: pl.DataFrame) -> pl.DataFrame:
    """How many buyers have bought how often: columns `frequency`, `users`."""
    return buyers(users).group_by("frequency").agg(pl.len().cast(pl.Int64).alias("users"))


def frequency_scores(counts: pl.DataFrame) -> pl.DataFrame:
    """The frequency score of each frequency.

    The percent rank p is (buyers with a smaller one) / (buyers − 1), 0 for a single buyer; the
    score is its fifth, 1 to 5.

    Args:
        counts: `frequency_counts` of all shards.

    Returns:
        Columns `frequency`, `frequency_score`.
    """
    ordered = counts.group_by("frequency").agg(pl.col("users").sum()).sort("frequency")
    fewer = pl.col("users").cum_sum() - pl.col("users")
    others = pl.max_horizontal(pl.col("users").sum() - 1, 1)
    return ordered.select(
        "frequency",
        # p >= t / 5, without a quotient that could round.
        frequency_score=pl.sum_horizontal(
            pl.lit(1, pl.Int64),
            *((fewer * RFM_TILES >= others * tile).cast(pl.Int64) for tile in range(1, RFM_TILES)),
        ),
    )


@dataclass(frozen=True)
class RankBrackets:
    """Where the tiles of recency and of monetary value begin, roughly."""

    recency: list[Bracket]
    monetary: list[Bracket]


def rank_samples(users: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """What a user shard sends in the first pass, by name."""
    return {
        "recency_samples": sample_keys(recency_keys(users)),
        "monetary_samples": sample_keys(monetary_keys(users)),
        "frequency_counts": frequency_counts(users),
    }


def rank_brackets(samples: dict[str, pl.DataFrame]) -> RankBrackets:
    """Bracket the tiles, from the `rank_samples` of all shards."""
    return RankBrackets(
        *(
            bracket_tiles(samples[name], RFM_TILES) if name in samples else []
            for name in ("recency_samples", "monetary_samples")
        )
    )


def rank_candidates(users: pl.DataFrame, brackets: RankBrackets) -> dict[str, pl.DataFrame]:
    """What a user shard sends in the second pass, by name."""
    return {
        "recency_candidates": bracketed_keys(recency_keys(users), brackets.recency),
        "monetary_candidates": bracketed_keys(monetary_keys(users), brackets.monetary),
    }


@dataclass(frozen=True)
class Scoring:
    """All that is needed to score a buyer.

    Attributes:
        recency: First key of each recency tile but the first.
        monetary: First key of each monetary tile but the first.
        frequency: `frequency_scores`.
    """

    recency: dict[int, tuple[Any, str]]
    monetary: dict[int, tuple[Any, str]]
    frequency: pl.DataFrame


def scoring(
    samples: dict[str, pl.DataFrame], brackets: RankBrackets, candidates: dict[str, pl.DataFrame]
) -> Scoring | None:
    """The exact scoring, from both passes over all shards; None where nobody has bought."""
    if "frequency_counts" not in samples:
        return None
    return Scoring(
        first_keys(candidates["recency_candidates"], brackets.recency) if brackets.recency else {},
        first_keys(candidates["monetary_candidates"], brackets.monetary)
        if brackets.monetary
        else {},
        frequency_scores(samples["frequency_counts"]),
    )


def score(users: pl.DataFrame, rules: Scoring | None) -> pl.DataFrame:
    """Score the buyers of a shard.

    Args:
        users: `combine_users` of a shard.
        rules: `scoring`.

    Returns:
        The buyers with `recency_score`, `frequency_score`, `monetary_score`, `rfm_score`,
        `rfm_segment` beside their columns.
    """
    scored = buyers(users)
    if rules is None:
        rules = Scoring({}, {}, frequency_scores(frequency_counts(users)))
    r, f, m = pl.col("recency_score"), pl.col("frequency_score"), pl.col("monetary_score")
    return (
        scored.with_columns(
            recency_score=tile_of(rules.recency, pl.col("last_purchase_date"), pl.Date()),
            monetary_score=tile_of(rules.monetary, pl.col("total_revenue"), MONEY),
        )
        .join(rules.frequency, on="frequency", how="left", maintain_order="left")
        .with_columns(rfm_score=r + f + m, rfm_segment=segment())
    )


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
