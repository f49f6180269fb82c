"""Metrics by product category: metrics_categories and metrics_category_rfm.

An event counts for the category of its product in dim_products, which is known only when all events
are. Sums come from the products. Distinct sessions and users need to know who touched what: the
session shards send each (session, user, category) once, which is a fraction of the events.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numba import types

from transforms.events import EVENT_SUMS, VARIANT, is_type
from transforms.exact import rate
from transforms.kernels import AHEAD, Flag, Integers, Numbers, filled, given, kernel, prefetch
from transforms.numbering import count_distinct, number_keys
from transforms.products import Catalogue, metric_levels
from transforms.schema import METRICS_CATEGORIES, METRICS_CATEGORY_RFM
from transforms.variants import ProductFlags, columns_of, known_variants, with_products

_LEVELS = ("category_lvl_1", "category_lvl_2")


def touches(events: pl.DataFrame, ambiguous: ProductFlags, shard: int) -> pl.DataFrame:
    """Who touched what, each once.

    A row is counted in the user shard of its `user_id`. A session of several users would be counted
    in several, so its rows are parted: one per user and category, without the session, and one per
    category, with the session, in the shard of its largest user.

    Args:
        events: Kept events of a session shard with `session_number`, sorted by it.
        ambiguous: Products that occur with several category_ids. Any other product's category in
            dim_products is that of its events; these are sent themselves.
        shard: Number of the session shard.

    Returns:
        Columns `user_id`, `is_user` (Boolean: the row counts for the user), `session` (UInt64,
        unique over all shards; NULL where the row does not count for one), `category_id` and
        `product_id` (NULL unless the product is ambiguous; `category_id` then is).
    """
    is_ambiguous = ambiguous.known()
    room = len(is_ambiguous)  # other threads may have numbered more since
    products, categories, *_ = known_variants().codes[:room].T
    touched = np.empty(events.height, np.uint32)
    count, has_shared = _find_touches(
        events["session_number"].to_numpy(),
        events["user_id"].to_numpy(),
        events[VARIANT].to_numpy(),
        np.where(is_ambiguous, room + 1 + products, np.minimum(categories, room)),
        np.zeros(2 * room + 1, np.uint32),
        touched,
    )
    distinct = events["session_number", "user_id", VARIANT][touched[:count]]
    variants = distinct[VARIANT].to_numpy()
    described = columns_of(variants, ("category_id", "product_id"))
    is_product = pl.Series(is_ambiguous[variants])
    rows = distinct.select(
        "user_id",
        pl.lit(value=True).alias("is_user"),
        (pl.col("session_number").cast(pl.UInt64) + (shard << 32)).alias("session"),
        pl.when(~is_product).then(described["category_id"]).alias("category_id"),
        pl.when(is_product).then(described["product_id"]).alias("product_id"),
    )
    if not has_shared:
        return rows
    return _part_shared(rows.unique())


def _part_shared(touched: pl.DataFrame) -> pl.DataFrame:
    """Part the rows of sessions of several users: see `touches`."""
    is_shared = pl.col("user_id").n_unique().over("session") > 1
    shared, others = touched.filter(is_shared), touched.filter(~is_shared)
    of_users = shared.with_columns(session=pl.lit(None, pl.UInt64)).unique()
    of_sessions = shared.with_columns(
        user_id=pl.col("user_id").max().over("session"), is_user=pl.lit(value=False)
    ).unique()
    return pl.concat([others, of_users, of_sessions])


@kernel(
    types.Tuple((types.int64, types.boolean))(
        given(types.uint32),
        given(types.int64),
        given(types.uint32),
        given(types.uint32),
        filled(types.uint32),
        filled(types.uint32),
    )
)
def _find_touches(
    sessions: Numbers,
    users: Integers,
    variants: Numbers,
    topics: Numbers,
    last_session: Numbers,
    touched: Numbers,
) -> tuple[int, Flag]:
    """Find the first event of each session and topic, and of each change of its users.

    Args:
        sessions: Each event's, in ascending order.
        users: Each event's.
        variants: Each event's.
        topics: For each variant what it counts for.
        last_session: Zeros, one for each topic; filled. (Most of them are not even looked at, and
            memory that the system gives as zeros costs nothing until then.)
        touched: Filled with the events.

    Returns:
        How many there are, and whether a session has several users.
    """
    last_event = np.empty(len(last_session), np.uint32)
    count = 0
    has_shared: Flag = False
    for row in range(len(sessions)):
        prefetch(topics, np.int64(variants[min(row + AHEAD, len(variants) - 1)]))
        topic, session = topics[variants[row]], sessions[row]
        has_shared |= row > 0 and session == sessions[row - 1] and users[row] != users[row - 1]
        # 0 is no session here.
        if last_session[topic] != session + 1 or users[last_event[topic]] != users[row]:
            touched[count] = row
            count += 1
            last_session[topic] = session + 1
            last_event[topic] = row
    return count, has_shared


def purchases(events: pl.DataFrame) -> pl.DataFrame:
    """Who bought what: `user_id`, `product_id`, `purchases`, `revenue`."""
    return (
        with_products(events.filter(is_type("purchase")))
        .group_by("user_id", "product_id")
        .agg(pl.len().cast(pl.Int64).alias("purchases"), pl.col("price").sum().alias("revenue"))
    )


def subcategories(rows: pl.DataFrame, found: Catalogue) -> Numbers:
    """The number of each row's subcategory, of touches or purchases."""
    # Most touches name no product, and most products are not bought in this shard.
    named = rows.select("product_id").drop_nulls().unique()
    products = found.products.join(named, on="product_id", how="semi")
    numbers = [
        rows.select(key)
        .join(table.select(key, "subcategory"), on=key, how="left", maintain_order="left")
        .get_column("subcategory")
        for key, table in (("product_id", products), ("category_id", found.categories))
        if key in rows.columns
    ]
    return pl.select(pl.coalesce(*numbers, 0)).to_series().to_numpy()


def touch_counts(touched: pl.DataFrame, found: Catalogue) -> pl.DataFrame:
    """Distinct sessions and users by category, of the touches of one user shard.

    Returns:
        One row per `level` and category: `level`, `category_lvl_1`, `category_lvl_2`,
        `user_sessions`, `users`; over shards they add up.
    """
    levels = found.subcategories
    top_of, tops = number_keys(levels["category_lvl_1"].rank("dense").to_numpy())
    numbers = subcategories(touched, found)
    by_top, by_sub = [], []
    for name, items, is_counted in (
        ("user_sessions", touched["session"], touched["session"].is_not_null()),
        ("users", touched["user_id"], touched["is_user"]),
    ):
        groups = numbers[is_counted.to_numpy()]
        top, sub = count_distinct(
            items.filter(is_counted).to_numpy(), (top_of[groups], groups), levels.height
        )
        by_top.append(pl.Series(name, top[: len(tops)]))
        by_sub.append(pl.Series(name, sub))
    no_sub = pl.lit(None, pl.String).alias("category_lvl_2")
    of_levels = (
        levels[tops].with_columns(no_sub, *by_top),
        levels.with_columns(by_sub),
    )
    return pl.concat(
        of_level.select(pl.lit(level, pl.Int64).alias("level"), pl.all()).filter(
            (pl.col("user_sessions") > 0) | (pl.col("users") > 0)
        )
        for level, of_level in enumerate(of_levels, start=1)
    )


def _by_level(frame: pl.DataFrame, *aggregations: pl.Expr) -> pl.DataFrame:
    """Aggregate by top-level category (level 1) and by subcategory (level 2)."""
    top = frame.group_by("category_lvl_1").agg(*aggregations)
    sub = frame.group_by(_LEVELS).agg(*aggregations)
    return pl.concat(
        [
            top.with_columns(
                pl.lit(1, pl.Int64).alias("level"),
                pl.lit(None, pl.String).alias("category_lvl_2"),
            ),
            sub.with_columns(pl.lit(2, pl.Int64).alias("level")),
        ],
        how="diagonal",
    ).select("level", *_LEVELS, pl.all().exclude("level", *_LEVELS))


def category_purchases(
    bought: pl.DataFrame, scored: pl.DataFrame, found: Catalogue
) -> pl.DataFrame:
    """Purchases by top-level category and RFM segment, of one user shard.

    Args:
        bought: `purchases` of the shard's users.
        scored: The shard's buyers with `rfm_segment`.
        found: The catalogue.
    """
    tops = found.subcategories["category_lvl_1"]
    return (
        bought.with_columns(tops[subcategories(bought, found)])
        .join(scored.select("user_id", "rfm_segment"), on="user_id")
        .group_by("category_lvl_1", "rfm_segment")
        .agg(pl.col("purchases", "revenue").sum())
    )


def metrics_categories(found: Catalogue, counts: pl.DataFrame) -> pl.DataFrame:
    """The rows of metrics_categories.

    Args:
        found: The catalogue.
        counts: `touch_counts` of all user shards.
    """
    keys = ("level", *_LEVELS)
    sums = _by_level(found.products.with_columns(metric_levels()), pl.col(EVENT_SUMS).sum()).join(
        counts.group_by(keys).agg(pl.col("user_sessions", "users").sum()),
        on=keys,
        nulls_equal=True,
        how="left",
    )
    return METRICS_CATEGORIES.conform(
        sums.with_columns(
            purchase_rate=rate(sums["purchases"], sums["events"]),
            cart_add_rate=rate(sums["cart_adds"], sums["events"]),
            avg_views_per_session=rate(sums["views"], sums["user_sessions"]),
        ).sort(keys, nulls_last=True)
    )


def metrics_category_rfm(partials: pl.DataFrame) -> pl.DataFrame:
    """The rows of metrics_category_rfm, of `category_purchases` of all user shards."""
    keys = ("category_lvl_1", "rfm_segment")
    return METRICS_CATEGORY_RFM.conform(
        partials.group_by(keys).agg(pl.col("purchases", "revenue").sum()).sort(keys)
    )
