"""What becomes of what is put into a cart: fct_carts.

A cart is for a session, and an intention may outlive it: who leaves a product in the cart, and
carts or buys it in another session within days, has not given it up.
"""

from __future__ import annotations

import datetime as dt
from typing import Final

import polars as pl

from transforms.analytics.catalogue import Catalogue, metric_levels
from transforms.analytics.sessions import Sessions
from transforms.columnar.key_index import number_keys
from transforms.columnar.product_codes import PRODUCT_CODE, columns_of
from transforms.ingest.batch import is_type
from transforms.schema import CART_RECOVERY_DAYS, CART_STATUSES, FCT_CARTS

CART_SESSIONS: Final = pl.Schema(
    {"user_id": pl.Int64(), "session": pl.UInt64(), "session_id": pl.String()}
)
"""Columns of `cart_sessions`."""

_WINDOW: Final = dt.timedelta(days=CART_RECOVERY_DAYS)

_STATUS: Final = pl.Enum(CART_STATUSES)


def cart_sessions(shard: Sessions, basket_events: pl.DataFrame) -> pl.DataFrame:
    """The names of the sessions of a shard in which a user has put something into a cart.

    Args:
        shard: The sessions.
        basket_events: `basket_events.basket_events` of them.

    Returns:
        A `CART_SESSIONS` frame, each user and session once.
    """
    carted = basket_events.filter(is_type("cart")).select("user_id", "session").unique()
    rows = carted["session"] & 0xFFFF_FFFF
    return carted.with_columns(shard.sessions["session_id"].gather(rows))


def cart_lines(basket_events: pl.DataFrame, last: dt.date) -> pl.DataFrame:
    """The lines of the carts of the users of one shard.

    Args:
        basket_events: `BASKET_EVENTS` of a user shard.
        last: `as_of`: what may still happen within the days of recovery is open.

    Returns:
        One row per user, session and product with an addition to the cart: `user_id` (Int64),
        `session`, `product_id` (Int64), and the columns of fct_carts but `session_id`.
    """
    events = _numbered(basket_events)
    bought = events.filter(is_type("purchase")).select("line", "pair", time="event_time")
    lines = (
        _added(events.filter(is_type("cart")))
        .join(_removed(events.filter(is_type("remove_from_cart"))), on="line", how="left")
        .with_columns(pl.col("removals").fill_null(0))
    )
    lines = _with_next(lines, bought, "purchased_time", "first_added_time", "line", or_now=True)
    again = lines.select("pair", time="first_added_time")
    lines = _with_next(lines, again, "added_again_time", "last_added_time", "pair")
    # Not in its own session: that would be a purchase after the first addition.
    lines = _with_next(lines, bought, "recovered_time", "last_added_time", "pair")
    return lines.with_columns(_status(last)).with_columns(
        cart_date=pl.col("first_added_time").dt.date(),
        resolved_time=pl.when(_is("purchased"))
        .then("purchased_time")
        .when(_is("carried_over"))
        .then("added_again_time")
        .when(_is("recovered"))
        .then("recovered_time"),
    )


def with_categories(lines: pl.DataFrame, found: Catalogue) -> pl.DataFrame:
    """Lines with the `category_lvl_1` of their products, `unknown` where there is none."""
    level, _ = metric_levels()
    carted = lines.select("product_id").unique()
    products = found.products.select("product_id", level).join(carted, on="product_id", how="semi")
    return lines.join(products, on="product_id", how="left", maintain_order="left")


def cart_table(lines: pl.DataFrame, sessions: pl.DataFrame) -> pl.DataFrame:
    """The rows of fct_carts.

    Args:
        lines: `cart_lines` of a user shard.
        sessions: Their `cart_sessions`.
    """
    return FCT_CARTS.conform(
        lines.join(sessions, on=["user_id", "session"], how="left").sort(
            "user_id", "first_added_time", "session_id", "product_id"
        )
    )


def _numbered(events: pl.DataFrame) -> pl.DataFrame:
    """The events with `product_id`, and numbers of their `line` and of their user and product."""
    products = columns_of(events[PRODUCT_CODE].to_numpy(), ("product_id",))
    of_pair = (events["user_id"].to_numpy(), products["product_id"].to_numpy())
    pairs, _ = number_keys(*of_pair)
    line, _ = number_keys(pairs.astype("int64"), events["session"].to_numpy())
    return events.with_columns(
        products["product_id"], pl.Series("pair", pairs), pl.Series("line", line)
    )


def _added(events: pl.DataFrame) -> pl.DataFrame:
    """Lines of their additions, sorted by line."""
    added = events.sort("line", "event_time", "price").with_columns(pl.col("line").set_sorted())
    return added.group_by("line", maintain_order=True).agg(
        pl.col("user_id", "session", "product_id", "pair").first(),
        pl.col("event_time").first().alias("first_added_time"),
        pl.col("event_time").last().alias("last_added_time"),
        pl.len().cast(pl.Int64).alias("additions"),
        # Sorted by price too: the highest of the last second.
        pl.col("price").last(),
    )


def _removed(events: pl.DataFrame) -> pl.DataFrame:
    return events.group_by("line").agg(
        pl.len().cast(pl.Int64).alias("removals"),
        pl.col("event_time").max().alias("last_removed_time"),
    )


def _with_next(
    lines: pl.DataFrame,
    events: pl.DataFrame,
    name: str,
    since: str,
    by: str,
    *,
    or_now: bool = False,
) -> pl.DataFrame:
    """Lines with the time of the first event later than one of their own times.

    Args:
        lines: The lines.
        events: The events: `time`, and what tells whose they are.
        name: What to call the time; NULL where there is no such event.
        since: The line's time.
        by: What is equal in the line and the event.
        or_now: Whether an event at that very time counts.
    """
    return lines.sort(since).join_asof(
        events.select(by, pl.col("time").alias(name)).sort(name),
        left_on=since,
        right_on=name,
        by=by,
        strategy="forward",
        allow_exact_matches=or_now,
        coalesce=False,
        check_sortedness=False,  # sorted above; Polars cannot see it within groups
    )


def _status(last: dt.date) -> pl.Expr:
    """The first status that applies to a line, with the times that decide it."""
    window_end = pl.col("last_added_time") + _WINDOW
    end = dt.datetime.combine(last, dt.time(23, 59, 59), dt.UTC)
    applies = {
        "purchased": pl.col("purchased_time").is_not_null(),
        "removed": pl.col("last_removed_time") >= pl.col("last_added_time"),
        "carried_over": pl.col("added_again_time") <= window_end,
        "recovered": pl.col("recovered_time") <= window_end,
        "open": window_end > end,
        "abandoned": pl.lit(value=True),
    }
    return pl.coalesce(
        pl.when(applies[status]).then(pl.lit(status, _STATUS)) for status in CART_STATUSES
    ).alias("status")


def _is(status: str) -> pl.Expr:
    return pl.col("status") == pl.lit(status, _STATUS)
