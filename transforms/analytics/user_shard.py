"""All that is made of the users of a shard."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, replace

import polars as pl

from transforms.analytics.catalogue import Catalogue
from transforms.analytics.category_exposures import EXPOSURES, PURCHASES
from transforms.analytics.metrics.metric import Source
from transforms.analytics.metrics.registry import partials_of
from transforms.analytics.rfm import (
    Scoring,
    rank_brackets,
    rfm_table,
    score,
    scoring,
    with_segment,
)
from transforms.analytics.users import DescribedUsers, describe_users, user_table
from transforms.rules import Rules

Frames = dict[str, pl.DataFrame]


def user_totals(combined: pl.DataFrame) -> pl.DataFrame:
    """The dates that end the data of a user shard: `last_event_date`, `first_purchase_date`."""
    return combined.select(
        pl.col("last_event_time").max().dt.date().alias("last_event_date"),
        pl.col("first_purchase_date").max(),
    )


@dataclass(frozen=True)
class UserContext:
    """What is known of all users when each shard of them is described.

    Attributes:
        rules: The options, `as_of` resolved.
        dataset_end: The largest first_purchase_date; None where nobody has bought.
        scoring: How buyers are scored.
        catalogue: Products and categories.
    """

    rules: Rules
    dataset_end: dt.date | None
    scoring: Scoring
    catalogue: Catalogue


def user_context(
    rules: Rules, samples: Frames, candidates: Frames, found: Catalogue
) -> UserContext:
    """Resolve what depends on all users.

    Args:
        rules: The options.
        samples: What `CombineUsers` sent on its tag `samples`, of all shards.
        candidates: What `FindRankCandidates` sent, of all shards.
        found: The catalogue.
    """
    totals = samples.get("totals")
    latest, dataset_end = (None, None) if totals is None else totals.max().row(0)
    return UserContext(
        rules if rules.as_of else replace(rules, as_of=latest),
        dataset_end,
        scoring(samples, rank_brackets(samples), candidates),
        found,
    )


def user_shard_frames(
    frames: Mapping[str, pl.DataFrame], context: UserContext
) -> tuple[Frames, Frames]:
    """All that is made of the users of a shard.

    Args:
        frames: "users", and "exposures" and "purchases" where there are any, of the shard.
        context: What is known of all users.

    Returns:
        Rows by table, and partial aggregates by name.
    """
    rules = context.rules
    described = describe_users(frames["users"], rules.as_of or dt.date.min, rules.thresholds)
    buyers = score(described, context.scoring, "items")
    shard = DescribedUsers(
        with_segment(described, buyers),
        buyers,
        frames.get("exposures", EXPOSURES.to_frame()),
        frames.get("purchases", PURCHASES.to_frame()),
        context.dataset_end,
        rules.cohort_observation_window_days,
        context.catalogue,
    )
    tables = {"dim_users": user_table(described), "dim_user_rfm": rfm_table(buyers)}
    return tables, dict(partials_of(Source.USERS, shard))
