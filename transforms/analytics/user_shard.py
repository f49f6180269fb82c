"""All that is made of the users of a shard."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from typing import Final

import polars as pl

from transforms.analytics.catalogue import Catalogue
from transforms.analytics.metrics.categories import touch_counts
from transforms.analytics.metrics.category_rfm import category_purchases
from transforms.analytics.metrics.churn import cohort_sums
from transforms.analytics.metrics.funnel import user_funnel, with_segment
from transforms.analytics.metrics.rfm_grid import score_sums
from transforms.analytics.metrics.rfm_segments import user_sums
from transforms.analytics.rfm import Scoring, rank_brackets, rfm_table, score, scoring
from transforms.analytics.session_shard import Frames
from transforms.analytics.users import describe_users, user_table
from transforms.rules import Rules


def user_totals(combined: pl.DataFrame) -> pl.DataFrame:
    """The dates that end the data of a user shard: `last_event_date`, `first_purchase_date`."""
    return combined.select(
        pl.col("last_event_time").max().dt.date().alias("last_event_date"),
        pl.col("first_purchase_date").max(),
    )


TABLES_OF_USERS: Final = ("dim_users", "dim_user_rfm")


PARTIALS_OF_USERS: Final = (
    "user_funnel",
    "user_sums",
    "score_sums",
    "cohort_sums",
    "touch_counts",
    "category_purchases",
)


@dataclass(frozen=True)
class UserContext:
    """What is known of all users when each shard of them is described.

    Attributes:
        rules: The options, `as_of` resolved.
        dataset_end: The largest first_purchase_date; None where nobody has bought.
        scoring: How buyers are scored; None where nobody has bought.
        catalogue: Products and categories.
    """

    rules: Rules
    dataset_end: dt.date | None
    scoring: Scoring | None
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


def user_shard_frames(frames: Frames, context: UserContext) -> Frames:
    """All that is made of the users of a shard.

    Args:
        frames: "users", "touches" and "purchases" of the shard.
        context: What is known of all users.

    Returns:
        Frames by the names in `TABLES_OF_USERS` and `PARTIALS_OF_USERS`.
    """
    rules = context.rules
    described = describe_users(frames["users"], rules.as_of or dt.date.min, rules.thresholds)
    scored = score(described, context.scoring)
    segmented = with_segment(described, scored)
    return {
        "dim_users": user_table(described),
        "dim_user_rfm": rfm_table(scored),
        "user_funnel": user_funnel(segmented),
        "user_sums": user_sums(segmented),
        "score_sums": score_sums(scored),
        "cohort_sums": cohort_sums(
            described, context.dataset_end, rules.cohort_observation_window_days
        ),
        "touch_counts": touch_counts(frames["touches"], context.catalogue),
        "category_purchases": category_purchases(frames["purchases"], scored, context.catalogue),
    }
