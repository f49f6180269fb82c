"""All that is made of the users of a shard, in two passes: before and after all are ranked."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from transforms.analytics.basket_events import BASKET_EVENTS
from transforms.analytics.calendar import Calendar
from transforms.analytics.carts import CART_SESSIONS, cart_lines, cart_table, with_categories
from transforms.analytics.catalogue import Catalogue
from transforms.analytics.category_exposures import EXPOSURES, PURCHASES
from transforms.analytics.funnels import (
    ATTEMPTS,
    FUNNEL_EVENTS,
    USER_LEVELS,
    user_counts,
    user_funnels,
)
from transforms.analytics.history import (
    HistoryRules,
    broken_validity,
    outdated_versions,
    user_history,
)
from transforms.analytics.metrics.metric import Source
from transforms.analytics.metrics.registry import partials_of
from transforms.analytics.orders import ORDERS, number_orders, order_table
from transforms.analytics.rfm import (
    PurchaseStates,
    Scoring,
    purchase_states,
    rfm_table,
    score,
    with_segment,
)
from transforms.analytics.snapshots import Snapshots, snapshots
from transforms.analytics.user_days import (
    PURCHASE_HISTORIES,
    USER_DAYS,
    UserDays,
    combine_user_days,
    purchase_histories,
    user_day_table,
)
from transforms.analytics.users import (
    USER_SESSIONS,
    DescribedUsers,
    combine_users,
    describe_users,
    user_table,
    users_without_events,
)
from transforms.rules import Rules

Frames = dict[str, pl.DataFrame]

HISTORY_DAYS = ("user_id", "event_date", "purchases", "orders", "revenue")
"""Columns of user-days that history is made of."""

Failures = dict[tuple[str, str], int]
"""How many rows break a rule, by table and check."""


@dataclass(frozen=True)
class UserFacts:
    """What is known of the whole input when users are combined.

    Attributes:
        rules: The options.
        calendar: The days that the run looks at.
        snapshots: The days at whose end the states of users are needed; the last is `as_of`.
    """

    rules: Rules
    calendar: Calendar
    snapshots: Snapshots

    @classmethod
    def of(cls, rules: Rules, calendar: Calendar) -> UserFacts:
        """The facts of a run.

        Raises:
            RunError: It is to make tables over time for too many days.
        """
        if "time" not in rules.without:
            calendar.require_bounded()
        history = rules.history if rules.has_history else "none"
        return cls(rules, calendar, snapshots(calendar.first, calendar.last, history))


@dataclass(frozen=True)
class CombinedShard:
    """The first pass on a user shard.

    Attributes:
        users: `combine_users`.
        days: The `HISTORY_DAYS` of `combine_user_days` that describing users takes: all for their
            history, those with a purchase for lifetime value.
        states: What its buyers had bought, at every snapshot.
        funnels: `levels_of_users` and `attempts_of_users` of funnels that follow users.
        tables: Rows of fct_orders and fct_user_days.
        partials: Partial aggregates, by name.
        failures: How many rows break a rule.
    """

    users: pl.DataFrame
    days: pl.DataFrame
    states: PurchaseStates
    funnels: Frames
    tables: Frames
    partials: Frames
    failures: Failures


def combine_shard(frames: Mapping[str, pl.DataFrame], facts: UserFacts) -> CombinedShard:
    """Combine what the session shards say of the users of a shard.

    Args:
        frames: Those of `session_shard.BY_USER` that there are.
        facts: What is known of the whole input.
    """
    rules = facts.rules
    days = combine_user_days(frames.get("user_days", USER_DAYS.to_frame()))
    orders = number_orders(frames.get("orders", ORDERS.to_frame()))
    sessions = frames.get("user_sessions", USER_SESSIONS.to_frame())
    users = combine_users(days, orders, sessions, rules.frequency_unit)
    tables = {}
    if "time" not in rules.without:
        tables = {"fct_orders": order_table(orders), "fct_user_days": user_day_table(days)}
    partials = dict(partials_of(Source.USER_DAYS, UserDays(days, facts.calendar), rules))
    funnels: Frames = {}
    if rules.has_user_funnels:
        told = user_funnels(frames.get("funnel_events", FUNNEL_EVENTS.to_frame()), rules.funnels)
        partials |= dict(partials_of(Source.FUNNELS, told.counts, rules))
        funnels = {"levels_of_users": told.user_levels, "attempts_of_users": told.attempts}
    return CombinedShard(
        users,
        _days_to_describe(days, rules),
        purchase_states(days, facts.snapshots.dates, rules.frequency_unit),
        funnels,
        tables,
        partials,
        {("fct_sessions", "user_in_dim_users"): users_without_events(users, sessions)},
    )


def _days_to_describe(days: pl.DataFrame, rules: Rules) -> pl.DataFrame:
    days = days.select(HISTORY_DAYS)
    if rules.has_history:
        return days
    return days.filter(pl.col("purchases") > 0) if rules.has_clv else days.clear()


def user_totals(users: pl.DataFrame) -> pl.DataFrame:
    """The date that ends the purchases of a user shard: `first_purchase_date`, the largest."""
    return users.select(pl.col("first_purchase_date").max())


@dataclass(frozen=True)
class RankedFacts:
    """What is known of all users when each shard of them is described.

    Attributes:
        of_users: What was known before.
        dataset_end: The largest first_purchase_date; None where nobody has bought.
        scoring: How buyers are scored, at every snapshot.
        catalogue: Products and categories.
        kept_values: `funnels.kept_values` of all shards.
    """

    of_users: UserFacts
    dataset_end: dt.date | None
    scoring: Scoring
    catalogue: Catalogue
    kept_values: pl.DataFrame


@dataclass(frozen=True)
class DescribedShard:
    """The second pass on a user shard.

    Attributes:
        purchases: The `PURCHASE_HISTORIES` of its buyers; none where lifetime value is left out.
        tables: Rows of dim_users and dim_user_rfm, of snap_user_status and snap_user_rfm, and of
            fct_carts.
        partials: Partial aggregates, by name.
        failures: How many rows break a rule.
    """

    purchases: pl.DataFrame
    tables: Frames
    partials: Frames
    failures: Failures


def describe_shard(frames: Mapping[str, pl.DataFrame], facts: RankedFacts) -> DescribedShard:
    """Describe the users of a shard.

    Args:
        frames: "users", "days" and `funnels` of `combine_shard`, and those of
            `session_shard.EXPOSURES_BY_USER` that there are.
        facts: What is known of all users.
    """
    rules, calendar = facts.of_users.rules, facts.of_users.calendar
    days = frames.get("days", USER_DAYS.to_frame().select(HISTORY_DAYS))
    described = describe_users(frames["users"], calendar.last, rules.thresholds)
    buyers = score(described, facts.scoring)
    shard = DescribedUsers(
        with_segment(described, buyers),
        buyers,
        frames.get("exposures", EXPOSURES.to_frame()),
        frames.get("purchases", PURCHASES.to_frame()),
        frames.get("basket_events", BASKET_EVENTS.to_frame()),
        facts.dataset_end,
        rules.cohort_observation_window_days,
        facts.catalogue,
    )
    tables = {"dim_users": user_table(described), "dim_user_rfm": rfm_table(buyers)}
    partials = dict(partials_of(Source.USERS, shard, rules))
    if rules.has_selling:
        counts = user_counts(
            _both(frames, "user_levels", "levels_of_users", USER_LEVELS),
            _both(frames, "attempts", "attempts_of_users", ATTEMPTS),
            shard.users,
            rules.funnels,
            facts.kept_values,
        )
        partials |= dict(partials_of(Source.FUNNELS, counts, rules))
        lines = with_categories(cart_lines(shard.basket_events, calendar.last), facts.catalogue)
        names = frames.get("cart_sessions", CART_SESSIONS.to_frame())
        tables["fct_carts"] = cart_table(lines, names)
        partials |= dict(partials_of(Source.CARTS, lines, rules))
    failures: Failures = {}
    if rules.has_history:
        history = user_history(
            days,
            HistoryRules(
                facts.of_users.snapshots, facts.scoring, rules.thresholds, rules.frequency_unit
            ),
        )
        for name, current in (("snap_user_rfm", "dim_user_rfm"), ("snap_user_status", "dim_users")):
            versions = tables[name] = history[name]
            failures[name, "valid_to_is_next_valid_from"] = broken_validity(versions)
            failures[name, f"current_as_in_{current}"] = outdated_versions(
                versions, tables[current]
            )
        partials |= dict(partials_of(Source.HISTORY, history, rules))
    purchases = PURCHASE_HISTORIES.to_frame()
    if rules.has_clv:
        purchases = purchase_histories(days, buyers.select("user_id", "rfm_segment"))
    return DescribedShard(purchases, tables, partials, failures)


def _both(
    frames: Mapping[str, pl.DataFrame], of_sessions: str, of_users: str, schema: pl.Schema
) -> pl.DataFrame:
    """What funnels of either scope tell of the users of a shard."""
    found = (frames[name] for name in (of_sessions, of_users) if name in frames)
    return pl.concat([schema.to_frame(), *found])
