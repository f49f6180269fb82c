"""The metrics tables, of their partial aggregates."""

from __future__ import annotations

import datetime as dt
import functools

from transforms.analytics.catalogue import Catalogue, catalogue, category_codes, combine_products
from transforms.analytics.metrics.categories import metrics_categories
from transforms.analytics.metrics.category_rfm import metrics_category_rfm
from transforms.analytics.metrics.churn import metrics_churn
from transforms.analytics.metrics.funnel import metrics_funnel
from transforms.analytics.metrics.periods import metrics_periods, period_users
from transforms.analytics.metrics.rfm_grid import metrics_rfm_grid
from transforms.analytics.metrics.rfm_segments import metrics_rfm_segments
from transforms.analytics.metrics.user_segments import metrics_user_segments
from transforms.analytics.session_shard import PRODUCT_SUMS, Frames, empty_session_frames
from transforms.analytics.user_shard import UserContext, user_shard_frames
from transforms.analytics.users import combine_users
from transforms.rules import Rules


@functools.cache
def empty_partials() -> Frames:
    """The partial aggregates of an input without events; made once, not to be changed."""
    of_sessions = empty_session_frames()
    combined = combine_users(of_sessions["user_days"], of_sessions["user_sessions"])
    no_sums = of_sessions[PRODUCT_SUMS]
    context = UserContext(
        Rules(as_of=dt.date.min),
        None,
        None,
        catalogue(combine_products(no_sums), category_codes(no_sums)),
    )
    of_users = user_shard_frames(of_sessions | {"users": combined}, context)
    return of_sessions | of_users | {"period_users": period_users(of_sessions["user_days"])}


def metric_tables(partials: Frames, found: Catalogue) -> Frames:
    """The metrics_* tables.

    Args:
        partials: Partial aggregates of all shards, by name.
        found: The catalogue.
    """
    of = empty_partials() | partials
    return {
        "metrics_churn": metrics_churn(of["cohort_sums"]),
        "metrics_funnel": metrics_funnel(of["session_funnel"], of["user_funnel"]),
        "metrics_periods": metrics_periods(
            of["event_days"], of["session_funnel"], of["period_users"]
        ),
        "metrics_rfm_grid": metrics_rfm_grid(of["score_sums"]),
        "metrics_rfm_segments": metrics_rfm_segments(of["user_sums"]),
        "metrics_user_segments": metrics_user_segments(of["user_sums"]),
        "metrics_categories": metrics_categories(found, of["touch_counts"]),
        "metrics_category_rfm": metrics_category_rfm(of["category_purchases"]),
    }
