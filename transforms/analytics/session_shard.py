"""All that is made of the events of a session shard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import polars as pl

from transforms.analytics.basket_events import basket_events
from transforms.analytics.carts import cart_sessions
from transforms.analytics.catalogue import ProductSums
from transforms.analytics.category_exposures import category_exposures, product_purchases
from transforms.analytics.cleaning import clean
from transforms.analytics.funnels import funnel_events, session_funnels
from transforms.analytics.hot_users import add_up_hot
from transforms.analytics.metrics.metric import Source
from transforms.analytics.metrics.registry import partials_of
from transforms.analytics.orders import find_orders, ordered_purchases
from transforms.analytics.product_pairs import BasketCounts, count_baskets
from transforms.analytics.sessions import event_table, session_table, sessionize
from transforms.analytics.user_days import user_days
from transforms.analytics.users import session_measures
from transforms.columnar.event_ids import event_ids
from transforms.columnar.product_codes import PRODUCT_CODE, ProductFlags, encoded_columns
from transforms.rules import Rules
from transforms.schema import TableBatch

Frames = dict[str, pl.DataFrame]


@dataclass(frozen=True)
class SuspectProducts:
    """Products that a session shard must treat in a way of their own.

    Attributes:
        multi_brand: Those of several brands, whose events are dropped.
        many_categories: Those that occur with several category_ids.
    """

    multi_brand: ProductFlags
    many_categories: ProductFlags


BY_USER: Final = ("user_days", "user_sessions", "orders", "funnel_events")
"""Frames that meet by user when users are combined."""

EXPOSURES_BY_USER: Final = (
    "exposures",
    "purchases",
    "basket_events",
    "cart_sessions",
    "user_levels",
    "attempts",
)
"""Frames that meet the users only when these are described."""

PRODUCT_SUMS: Final = "product_sums"


@dataclass(frozen=True)
class SessionShard:
    """All that is made of the events of a session shard.

    Attributes:
        tables: The rows of fct_events and fct_sessions.
        by_user: The frames named in `BY_USER` and `EXPOSURES_BY_USER` that there are.
        partials: Partial aggregates, by name.
        dates: The first and the last date of an event: `first`, `last`; no row without one.
        counts: Events kept, and dropped by reason.
        baskets: Counts of what is bought together; None where what sells is left out.
    """

    tables: list[TableBatch]
    by_user: Frames
    partials: Frames
    dates: pl.DataFrame
    counts: dict[str, int]
    baskets: BasketCounts | None


def session_shard(
    events: pl.DataFrame,
    names: pl.DataFrame,
    suspects: SuspectProducts,
    product_sums: ProductSums,
    *,
    rules: Rules,
    shard: int,
) -> SessionShard:
    """Clean and sessionize the events of a shard.

    Args:
        events: All event batches of the shard.
        names: The names of its sessions that their keys do not tell.
        suspects: Products to treat in a way of their own.
        product_sums: Takes in the kept events.
        rules: The options.
        shard: Its number.
    """
    cleaned = clean(events, names, suspects.multi_brand)
    kept = cleaned.events
    product_sums.add(kept, has_ranges=rules.has_selling)
    described = encoded_columns(kept[PRODUCT_CODE].to_numpy())
    cut = sessionize(cleaned, described["product_id"], rules.session_timeout_seconds)
    bought = ordered_purchases(cut, described["product_id"], rules.order_gap_seconds)
    orders = find_orders(cut, bought)
    ids = event_ids(cut.events, cut.user_sessions)
    partials = dict(partials_of(Source.SESSIONS, cut, rules))
    of_selling: Frames = {}
    baskets = None
    if rules.has_selling:
        baskets = count_baskets(bought)
        in_baskets = basket_events(cut, bought, shard)
        told = session_funnels(cut, described, ids, rules.funnels, rules.session_timeout_seconds)
        partials |= dict(partials_of(Source.FUNNELS, told.counts, rules))
        of_selling = {
            "basket_events": in_baskets,
            "cart_sessions": cart_sessions(cut, in_baskets),
            "user_levels": told.user_levels,
            "attempts": told.attempts,
        }
    if rules.has_user_funnels:
        of_selling["funnel_events"] = funnel_events(cut, described, ids, rules.funnels)
    return SessionShard(
        [event_table(cut, described, ids), session_table(cut)],
        {
            "user_days": user_days(cut.session_days, cut.sessions, orders),
            "orders": orders,
            "user_sessions": _user_sessions(cut.sessions),
            "exposures": category_exposures(kept, suspects.many_categories, shard),
            "purchases": product_purchases(kept),
            **of_selling,
        },
        partials,
        _dates(cut.session_days["event_date"]),
        {
            "events_kept": kept.height,
            "duplicate": cleaned.duplicate,
            "multi_brand_product": cleaned.multi_brand_product,
            "missing_session": cleaned.missing_session,
        },
        baskets,
    )


def _user_sessions(sessions: pl.DataFrame) -> pl.DataFrame:
    measures = session_measures(sessions.with_columns(user_id="user"), "user_id")
    return add_up_hot(
        measures,
        ["user_id"],
        lambda rows: rows.group_by("user_id").agg(pl.all().sum()).cast(rows.schema),
    )


def _dates(dates: pl.Series) -> pl.DataFrame:
    return merge_dates(pl.DataFrame({"first": dates, "last": dates}))


def merge_dates(dates: pl.DataFrame) -> pl.DataFrame:
    """The first and the last of several `SessionShard.dates`."""
    return dates.select(pl.col("first").min(), pl.col("last").max()).drop_nulls()
