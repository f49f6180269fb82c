"""The tables but those over time, in Polars: python -m benchmarks.with_polars INPUT_GLOB OUTPUT.

As a good user would write it for one machine: the streaming engine on all cores, sessions and
other texts as Categoricals, ids as integers until they are written, one sort, and sessions found by
comparing neighbours. DataFrames stay in memory.
"""
# ruff: noqa: PLR2004 - the figures of the contract, as a user writes them

from __future__ import annotations

import sys
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Final

import polars as pl
import polars_hash as plh

_TIMEOUT: Final = pl.duration(seconds=3600)
_ORDER_GAP: Final = pl.duration(seconds=1)
_CHURN_DAYS, _AT_RISK_DAYS, _DECLINING_DAYS = 60, 45, 30
_OUTLIER_RATIO: Final = 200
_WINDOW_DAYS: Final = 90

_EVENT_TYPES: Final = pl.Enum(["view", "cart", "remove_from_cart", "purchase"])
_CSV: Final = {
    "event_time": pl.String(),
    "event_type": pl.String(),
    "product_id": pl.Int64(),
    "category_id": pl.Int64(),
    "category_code": pl.String(),
    "brand": pl.String(),
    "price": pl.Decimal(38, 9),
    "user_id": pl.Int64(),
    "user_session": pl.String(),
}
_KEY: Final = ("event_time", "event_type", "product_id", "user_id", "user_session")
_LEVELS: Final = tuple(f"category_lvl_{level}" for level in range(1, 5))
_RATE_DECIMALS: Final = 6
_MONEY_UNITS: Final = 10**9
_TILES: Final = 5
_NO_SEGMENT: Final = "No RFM Score"


def _is(event_type: str) -> pl.Expr:
    return pl.col("event_type") == event_type


def _flag(condition: pl.Expr) -> pl.Expr:
    return condition.cast(pl.Int64)


def _sum(condition: pl.Expr) -> pl.Expr:
    return condition.sum().cast(pl.Int64)


def _rows() -> pl.Expr:
    return pl.len().cast(pl.Int64)


def _first_match(*cases: tuple[pl.Expr, str], otherwise: str | None) -> pl.Expr:
    """The text of the first case that is true."""
    result = pl.lit(otherwise, pl.String)
    for condition, text in reversed(cases):
        result = pl.when(condition).then(pl.lit(text)).otherwise(result)
    return result


def _collect(frame: pl.LazyFrame) -> pl.DataFrame:
    return frame.collect(engine="streaming")


# --- Exact quotients ------------------------------------------------------------------------------


def _whole_quotient(numerator: pl.Expr, denominator: pl.Expr) -> pl.Expr:
    """The quotient of whole numbers, a half rounded up; NULL where the denominator is 0."""
    divisor = 2 * pl.when(denominator > 0).then(denominator)
    return (2 * numerator + denominator) // divisor


def _units(column: str) -> pl.Expr:
    """Money in billionths."""
    return pl.col(column).to_physical().cast(pl.Int128)


def _count(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.Int128)


def _ratio(numerator: pl.Expr, denominator: pl.Expr, decimals: int = _RATE_DECIMALS) -> pl.Expr:
    """A quotient of whole numbers as a float, rounded to some decimals."""
    quotient = _whole_quotient(numerator * 10**decimals, denominator)
    # By its text: Polars divides by a constant as it multiplies, which can miss the nearest float.
    return (quotient.cast(pl.String) + f"e-{decimals}").cast(pl.Float64)


def _mean_money(total: str, count: str) -> pl.Expr:
    return _ratio(_units(total), _count(count) * _MONEY_UNITS)


def _mean_cents(total: str, count: str) -> pl.Expr:
    """Money divided by a count, in two decimals."""
    cents = _whole_quotient(_units(total), _count(count) * (_MONEY_UNITS // 100))
    return (cents.cast(pl.Decimal(38, 0)) * pl.lit(Decimal("0.01"))).cast(pl.Decimal(38, 9))


# --- Cleaning -------------------------------------------------------------------------------------


def read_events(files: str) -> pl.DataFrame:
    """All rows of the CSVs that match a glob, typed."""
    return _collect(
        pl.scan_csv(files, schema=_CSV).with_columns(
            pl.col("event_time").str.to_datetime("%Y-%m-%d %H:%M:%S UTC", time_unit="us"),
            pl.col("event_type").cast(_EVENT_TYPES),
            pl.col("category_code", "brand").str.to_lowercase().cast(pl.Categorical),
            pl.col("user_session").cast(pl.Categorical),
        )
    )


def sort_by_session(events: pl.DataFrame) -> pl.DataFrame:
    """Sort by session, by its number rather than its text, and time."""
    return (
        events.with_columns(session=pl.col("user_session").to_physical())
        .sort("session", "event_time")
        .drop("session")
    )


def drop_duplicates(events: pl.DataFrame) -> pl.DataFrame:
    """Keep the first of equal rows of sorted events: only neighbours can be equal."""
    same = pl.all_horizontal(
        pl.col(name).eq_missing(pl.col(name).shift()) for name in ("user_session", "event_time")
    )
    close = events.lazy().with_row_index("row").filter(same | same.shift(-1, fill_value=False))
    near = _collect(close)
    surplus = near["row"].filter(
        ~near.with_columns(pl.col("category_code", "brand").cast(pl.String))
        .sort("category_id", "category_code", "brand", "price", nulls_last=True)
        .with_columns(repeated=pl.struct(_KEY).is_first_distinct())
        .sort("row")["repeated"]
    )
    keep = pl.repeat(value=True, n=events.height, eager=True).scatter(surplus, values=False)
    return events.filter(keep)


def drop_rest(events: pl.DataFrame) -> pl.DataFrame:
    """Drop the products of several brands and events without a session."""
    several = _collect(
        events.lazy()
        .select("product_id", "brand")
        .unique()
        .drop_nulls()
        .group_by("product_id")
        .len()
        .filter(pl.col("len") > 1)
    )["product_id"]
    return events.filter(
        pl.col("user_session").is_not_null(), ~pl.col("product_id").is_in(several.implode())
    )


# --- Events and sessions --------------------------------------------------------------------------


def number_sessions(events: pl.DataFrame) -> pl.DataFrame:
    """Add the column `session`, counted through sorted events."""
    changed = pl.col("user_session") != pl.col("user_session").shift()
    late = pl.col("event_time").diff() > _TIMEOUT
    return events.with_columns(
        session=(changed | late).fill_null(value=True).cast(pl.UInt32).cum_sum()
    )


def sum_sessions(events: pl.DataFrame) -> pl.DataFrame:
    """fct_sessions, with `session` and `user` (an integer)."""
    grouped = _collect(
        events.lazy()
        .group_by("session")
        .agg(
            pl.col("user_session").first(),
            pl.col("user_id").min().alias("smallest_user"),
            pl.col("user_id").max().alias("user"),
            pl.col("event_time").min().alias("session_start_time"),
            pl.col("event_time").max().alias("session_end_time"),
            _rows().alias("event_count"),
            pl.col("product_id").n_unique().cast(pl.Int64).alias("unique_product_count"),
            _sum(_is("view")).alias("view_count"),
            _sum(_is("cart")).alias("cart_additions"),
            _sum(_is("remove_from_cart")).alias("cart_removals"),
            _sum(_is("purchase")).alias("purchase_count"),
            pl.col("price").filter(_is("purchase")).sum().alias("total_revenue"),
        )
    ).sort("session")
    shared = grouped.filter(pl.col("smallest_user") != pl.col("user"))
    largest = (
        events.filter(pl.col("session").is_in(shared["session"].implode()))
        .group_by("session")
        .agg(pl.col("user_id").cast(pl.String).max().cast(pl.Int64).alias("largest"))
    )
    number = pl.int_range(pl.len()).over(pl.col("user_session").to_physical())
    length, count = pl.col("session_length"), pl.col("event_count")
    buys, carts, views = (
        pl.col(name) > 0 for name in ("purchase_count", "cart_additions", "view_count")
    )
    return (
        grouped.join(largest, on="session", how="left", maintain_order="left")
        .with_columns(
            number.alias("number"),
            pl.col("user_session").cast(pl.String),
            pl.coalesce("largest", "user").alias("user"),
            (pl.col("session_end_time") - pl.col("session_start_time"))
            .dt.total_seconds()
            .alias("session_length"),
        )
        .select(
            pl.when(pl.col("number") == 0)
            .then("user_session")
            .otherwise(pl.format("{}_timeout_{}", "user_session", "number"))
            .alias("session_id"),
            pl.col("user").cast(pl.String).alias("user_id"),
            "session_start_time",
            "session_end_time",
            pl.col("session_start_time").dt.date().alias("session_start_date"),
            "session_length",
            "event_count",
            "unique_product_count",
            "view_count",
            "cart_additions",
            "cart_removals",
            "purchase_count",
            pl.when(buys).then("total_revenue").alias("total_revenue"),
            _flag(views).alias("reached_view"),
            _flag(carts).alias("reached_cart"),
            _flag(buys).alias("reached_purchase"),
            _first_match(
                (buys, "purchase"), (carts, "cart"), (views, "view"), otherwise="no_activity"
            ).alias("funnel_stage"),
            _flag(buys).alias("is_converting_session"),
            _first_match(
                ((length < 150) | (count < 3), "Low"),
                ((length <= 600) & (count <= 10), "Medium"),
                otherwise="High",
            ).alias("session_quality_tier"),
            _first_match(
                (length <= 60, "Very Short (0-60s)"),
                (length <= 300, "Short (61-300s)"),
                (length <= 600, "Medium (301-600s)"),
                otherwise="Long (600+s)",
            ).alias("session_length_bucket"),
            "session",
            "user",
        )
    )


def event_table(events: pl.DataFrame, session_ids: pl.Series) -> pl.LazyFrame:
    """fct_events; `session` counts through `session_ids` from 1."""
    key = pl.concat_str(
        pl.col("event_time").dt.to_string("%Y-%m-%d %H:%M:%S"),
        "event_type",
        "user_id",
        "product_id",
        "user_session",
        separator="|",
    )
    return (
        events.with_columns(session_id=session_ids.gather(events["session"] - 1))
        .lazy()
        .with_columns(
            pl.col("event_type", "user_session", "brand", "category_code").cast(pl.String)
        )
        .with_columns(pl.col("user_id", "product_id", "category_id").cast(pl.String), key=key)
        .select(
            plh.col("key").nchash.md5().alias("event_id"),
            "event_time",
            pl.col("event_time").dt.date().alias("event_date"),
            "event_type",
            "user_id",
            "user_session",
            "session_id",
            "product_id",
            "brand",
            "category_code",
            "category_id",
            "price",
            pl.lit(1, pl.Int64).alias("quantity"),
            _flag(_is("view")).alias("is_view"),
            _flag(_is("cart")).alias("is_cart_add"),
            _flag(_is("remove_from_cart")).alias("is_cart_remove"),
            _flag(_is("purchase")).alias("is_purchase"),
            pl.when(_is("purchase")).then("price").alias("revenue"),
        )
    )


def order_table(events: pl.DataFrame, session_ids: pl.Series) -> pl.DataFrame:
    """The orders, in their order: `user` (an integer), `order_time`, `revenue`."""
    purchases = (
        events.filter(_is("purchase"))
        .select("user_id", "session", "event_time", "price")
        .sort("user_id", "session", "event_time")
    )
    changed = pl.any_horizontal(
        pl.col(name) != pl.col(name).shift() for name in ("user_id", "session")
    )
    late = pl.col("event_time").diff() > _ORDER_GAP
    orders = (
        purchases.with_columns(order=(changed | late).fill_null(value=True).cum_sum())
        .group_by("order")
        .agg(
            pl.col("user_id").first().alias("user"),
            pl.col("session").first(),
            pl.col("event_time").min().alias("order_time"),
            pl.col("price").sum().alias("revenue"),
        )
    )
    key = pl.concat_str(
        "user",
        session_ids.gather(orders["session"] - 1),
        pl.col("order_time").dt.to_string("%Y-%m-%d %H:%M:%S"),
        separator="|",
    )
    return (
        orders.with_columns(key=key)
        .with_columns(order_id=plh.col("key").nchash.md5())
        .sort("order_time", "order_id")
        .select("user", "order_time", "revenue")
    )


# --- Users ----------------------------------------------------------------------------------------


def user_days(events: pl.DataFrame) -> pl.DataFrame:
    """Sums by user (an integer) and date."""
    return _collect(
        events.lazy()
        .group_by(pl.col("user_id").alias("user"), pl.col("event_time").dt.date().alias("date"))
        .agg(
            pl.col("event_time").min().alias("first_event_time"),
            pl.col("event_time").max().alias("last_event_time"),
            _rows().alias("events"),
            _sum(_is("view")).alias("views"),
            _sum(_is("cart")).alias("cart_adds"),
            _sum(_is("purchase")).alias("purchases"),
            pl.col("price").filter(_is("purchase")).sum().alias("revenue"),
        )
    )


def _lifecycle_stage(number: str) -> pl.Expr:
    return _first_match(
        (pl.col(number) == 0, "Prospect"),
        (pl.col(number) == 1, "First-Time Buyer"),
        (pl.col(number) <= 5, "Repeat Customer"),
        otherwise="Loyal Customer",
    )


def user_table(days: pl.DataFrame, sessions: pl.DataFrame, orders: pl.DataFrame) -> pl.DataFrame:
    """dim_users, with `user` (an integer)."""
    buying = pl.col("date").filter(pl.col("purchases") > 0)
    per_user = (
        days.lazy()
        .group_by("user")
        .agg(
            pl.col("first_event_time").min(),
            pl.col("last_event_time").max(),
            pl.col("events").sum().alias("event_count"),
            pl.col("purchases").sum().alias("purchase_count"),
            pl.col("revenue").sum().alias("revenue"),
            buying.min().alias("first_purchase_date"),
            buying.max().alias("last_purchase_date"),
            _sum(pl.col("purchases") > 0).alias("purchase_day_count"),
        )
    )
    session_counts = sessions.lazy().group_by("user").agg(_rows().alias("session_count"))
    of_orders = (
        orders.lazy()
        .group_by("user", maintain_order=True)
        .agg(_rows().alias("order_count"), pl.col("revenue").first().alias("first_order_value"))
    )
    as_of = pl.lit(days["date"].max(), pl.Date)
    purchases = pl.col("purchase_count")
    since_purchase, since_activity = (
        pl.col(f"days_since_last_{what}") for what in ("purchase", "activity")
    )
    return _collect(
        per_user.join(session_counts, on="user", how="left")
        .join(of_orders, on="user", how="left")
        .with_columns(
            pl.col("session_count", "order_count").fill_null(0),
            pl.col("first_event_time").dt.date().alias("first_event_date"),
            pl.col("last_event_time").dt.date().alias("last_event_date"),
            pl.when(purchases > 0).then("revenue").alias("total_revenue"),
            _mean_cents("revenue", "purchase_count").alias("avg_order_value"),
            (pl.col("last_purchase_date") - pl.col("first_purchase_date"))
            .dt.total_days()
            .clip(lower_bound=1)
            .alias("customer_lifespan_days"),
            (as_of - pl.col("last_purchase_date"))
            .dt.total_days()
            .alias("days_since_last_purchase"),
        )
        .with_columns(
            (as_of - pl.col("last_event_date")).dt.total_days().alias("days_since_last_activity"),
            (pl.col("first_purchase_date") - pl.col("first_event_date"))
            .dt.total_days()
            .alias("days_to_first_purchase"),
            _mean_cents("revenue", "order_count").alias("avg_basket_value"),
            _ratio(_count("purchase_count"), _count("order_count")).alias("avg_items_per_order"),
        )
        .with_columns(
            activity_status=_first_match(
                (purchases == 0, "prospect"),
                ((since_purchase > _CHURN_DAYS) & (since_activity > _CHURN_DAYS), "churned"),
                (since_purchase > _AT_RISK_DAYS, "at_risk"),
                (since_purchase > _DECLINING_DAYS, "declining"),
                otherwise="active",
            )
        )
        .select(
            pl.col("user").cast(pl.String).alias("user_id"),
            "first_event_time",
            "last_event_time",
            "first_event_date",
            "last_event_date",
            "session_count",
            "event_count",
            "purchase_count",
            "total_revenue",
            pl.col("total_revenue").alias("customer_ltv"),
            "avg_order_value",
            "first_purchase_date",
            "last_purchase_date",
            "customer_lifespan_days",
            "days_since_last_activity",
            "days_since_last_purchase",
            "activity_status",
            _flag(pl.col("activity_status") == "churned").alias("is_churned"),
            (purchases > 0).alias("has_purchase_history"),
            _first_match(
                (pl.col("session_count") == 0, "missing_sessions"),
                (
                    pl.col("event_count") > _OUTLIER_RATIO * pl.col("session_count"),
                    "anomalous_session_ratio",
                ),
                otherwise=None,
            ).alias("data_quality_flag"),
            _lifecycle_stage("purchase_count").alias("customer_lifecycle_stage"),
            "order_count",
            "purchase_day_count",
            "avg_basket_value",
            "avg_items_per_order",
            "first_order_value",
            "days_to_first_purchase",
            _lifecycle_stage("order_count").alias("order_lifecycle_stage"),
            "user",
        )
    )


def _tile() -> pl.Expr:
    """NTILE(5) of the rows as they are sorted."""
    rows, row = pl.len().cast(pl.Int64), pl.int_range(pl.len(), dtype=pl.Int64)
    size, larger = rows // _TILES, rows % _TILES
    in_larger = larger * (size + 1)
    return (
        pl.when(row < in_larger)
        .then(row // (size + 1))
        .otherwise(larger + (row - in_larger) // pl.max_horizontal(size, 1))
        + 1
    )


def rfm_table(users: pl.DataFrame) -> pl.DataFrame:
    """dim_user_rfm, with `user` (an integer)."""
    buyers = users.filter("has_purchase_history")
    r, f, m = (pl.col(f"{name}_score") for name in ("recency", "frequency", "monetary"))
    fewer = pl.col("purchase_count").rank("min").cast(pl.Int64) - 1
    others = pl.max_horizontal(pl.len().cast(pl.Int64) - 1, 1)
    fifths = [_flag(_TILES * fewer >= others * fifth) for fifth in range(1, _TILES)]
    return (
        buyers.sort("days_since_last_purchase", "user_id", descending=[True, False])
        .with_columns(recency_score=_tile())
        .sort("total_revenue", "user_id")
        .with_columns(monetary_score=_tile(), frequency_score=pl.sum_horizontal(1, *fifths))
        .select(
            "user_id",
            r,
            f.cast(pl.Int64),
            m,
            (r + f + m).cast(pl.Int64).alias("rfm_score"),
            _first_match(
                ((r >= 4) & (f >= 4) & (m >= 4), "Champions"),
                ((r <= 2) & (f >= 4) & (m >= 4), "At Risk"),
                ((r >= 4) & (f >= 3), "Loyal Customers"),
                ((r >= 3) & (f >= 3), "Potential Loyalists"),
                ((r >= 4) & (f < 3), "Recent Customers"),
                ((r == 3) & (f < 3), "Promising"),
                ((r <= 2) & (f >= 3), "About To Sleep"),
                ((r <= 2) & (f <= 2) & (m <= 2), "Lost"),
                otherwise="Needs Attention",
            ).alias("rfm_segment"),
            "user",
        )
    )


# --- Products and categories ----------------------------------------------------------------------


def product_sums(events: pl.DataFrame) -> pl.DataFrame:
    """Sums by product and what was said of it."""
    return _collect(
        events.lazy()
        .group_by("product_id", "brand", "category_id", "category_code")
        .agg(
            _rows().alias("events"),
            _sum(_is("view")).alias("views"),
            _sum(_is("cart")).alias("cart_adds"),
            _sum(_is("purchase")).alias("purchases"),
            pl.col("price").filter(_is("purchase")).sum().alias("revenue"),
        )
    ).with_columns(pl.col("brand", "category_code").cast(pl.String))


def category_table(sums: pl.DataFrame) -> pl.DataFrame:
    """dim_categories, with `category_id` (an integer)."""
    parts = pl.col("category_code").str.split(".")
    return (
        sums.drop_nulls("category_id")
        .group_by("category_id", "category_code")
        .agg(pl.col("events").sum())
        .sort(
            pl.col("category_code").is_null(),
            "events",
            "category_code",
            descending=[False, True, False],
        )
        .unique("category_id", keep="first", maintain_order=True)
        .select(
            pl.col("category_id").cast(pl.String).alias("raw_category_id"),
            "category_code",
            *(parts.list.get(n, null_on_oob=True).alias(name) for n, name in enumerate(_LEVELS)),
            "category_id",
        )
    )


def product_table(sums: pl.DataFrame, categories: pl.DataFrame) -> pl.DataFrame:
    """dim_products, but with integers as ids."""
    return (
        sums.group_by("product_id", "brand", "category_id")
        .agg(pl.col("events").sum())
        .sort("events", "brand", "category_id", descending=[True, False, False], nulls_last=True)
        .unique("product_id", keep="first", maintain_order=True)
        .join(categories, on="category_id", how="left")
        .select("product_id", "brand", "category_id", "category_code", *_LEVELS)
    )


# --- Metrics --------------------------------------------------------------------------------------


def churn_table(users: pl.DataFrame) -> pl.DataFrame:
    """metrics_churn."""
    first, last = pl.col("first_purchase_date"), pl.col("last_purchase_date")
    window = pl.duration(days=_WINDOW_DAYS)
    customers = (
        users.filter("has_purchase_history")
        .filter(first.max() - first >= window)
        .with_columns(
            has_churned=(pl.col("purchase_count") == 1) | (last - first <= window),
            month=first.dt.strftime("%Y-%m-01"),
        )
    )
    figures = (
        _rows().alias("total_customers"),
        _sum(pl.col("has_churned")).alias("churned_customers"),
        first.min().alias("cohort_start"),
        first.max().alias("cohort_end"),
    )
    overall = customers.select(
        *figures,
        metric_level=pl.lit("cohort_overall"),
        time_period=pl.lit("all_eligible_cohorts"),
    )
    months = customers.group_by(pl.col("month").alias("time_period")).agg(
        *figures, metric_level=pl.lit("by_cohort_month")
    )
    return pl.concat([overall, months], how="diagonal").select(
        "metric_level",
        "time_period",
        "total_customers",
        "churned_customers",
        _ratio(_count("churned_customers"), _count("total_customers"), 4).alias("churn_rate"),
        "cohort_start",
        "cohort_end",
    )


def funnel_table(sessions: pl.DataFrame, users: pl.DataFrame, rfm: pl.DataFrame) -> pl.DataFrame:
    """metrics_funnel."""
    of_users = users.join(rfm, on="user", how="left").select(
        "user",
        "customer_lifecycle_stage",
        "activity_status",
        pl.col("rfm_segment").fill_null(_NO_SEGMENT),
    )
    dimensions = [
        "overall",
        "session_start_date",
        "session_quality_tier",
        "session_length_bucket",
        "customer_lifecycle_stage",
        "activity_status",
        "rfm_segment",
    ]
    sums = ("sessions", "view", "cart", "purchase", "bounced", "events", "purchases", "revenue")
    by_all = _collect(
        sessions.lazy()
        .join(of_users.lazy(), on="user")
        .group_by(dimensions[1:])
        .agg(
            _rows().alias("sessions"),
            pl.col("reached_view").sum().alias("view"),
            pl.col("reached_cart").sum().alias("cart"),
            pl.col("reached_purchase").sum().alias("purchase"),
            _sum(pl.col("event_count") == 1).alias("bounced"),
            pl.col("event_count").sum().alias("events"),
            pl.col("purchase_count").sum().alias("purchases"),
            pl.col("total_revenue").sum().alias("revenue"),
        )
    ).with_columns(overall=pl.lit("all"))
    return pl.concat(
        by_all.group_by(pl.col(dimension).cast(pl.String).alias("value"))
        .agg(pl.col(sums).sum())
        .select(
            pl.lit(dimension).alias("dimension"),
            "value",
            "sessions",
            pl.col("view").alias("sessions_reached_view"),
            pl.col("cart").alias("sessions_reached_cart"),
            pl.col("purchase").alias("sessions_reached_purchase"),
            pl.col("bounced").alias("bounced_sessions"),
            "events",
            "purchases",
            "revenue",
            _ratio(_count("cart"), _count("view")).alias("view_to_cart_rate"),
            _ratio(_count("purchase"), _count("cart")).alias("cart_to_purchase_rate"),
            _ratio(_count("purchase"), _count("sessions")).alias("conversion_rate"),
            _ratio(_count("bounced"), _count("sessions")).alias("bounce_rate"),
            _mean_money("revenue", "sessions").alias("revenue_per_session"),
            _mean_money("revenue", "purchase").alias("revenue_per_purchasing_session"),
            _ratio(_count("purchase"), _count("view")).alias("view_to_purchase_rate"),
        )
        for dimension in dimensions
    )


def _user_sums(users: pl.DataFrame, keys: Sequence[pl.Expr]) -> pl.DataFrame:
    """What metrics of users have in common, by keys."""
    return users.group_by(keys).agg(
        _rows().alias("customers"),
        _sum(pl.col("has_purchase_history")).alias("purchasers"),
        pl.col("is_churned").sum().alias("churned_customers"),
        pl.col("purchase_count").sum().alias("purchases"),
        pl.col("session_count").sum().alias("sessions"),
        pl.col("total_revenue").sum().alias("revenue"),
        pl.col("avg_order_value").sum().alias("order_values"),
    )


def _shares(users: pl.DataFrame) -> tuple[pl.Expr, pl.Expr]:
    customers = pl.lit(users.height, pl.Int128)
    revenue = pl.lit(users["total_revenue"].sum(), pl.Decimal(38, 9)).to_physical().cast(pl.Int128)
    return (
        _ratio(_count("customers"), customers).alias("customer_share"),
        _ratio(_units("revenue"), revenue).alias("revenue_share"),
    )


def rfm_segment_table(users: pl.DataFrame, rfm: pl.DataFrame) -> pl.DataFrame:
    """metrics_rfm_segments."""
    segmented = users.join(rfm.select("user", "rfm_segment"), on="user", how="left")
    return _user_sums(segmented, [pl.col("rfm_segment").fill_null(_NO_SEGMENT)]).select(
        "rfm_segment",
        "customers",
        "churned_customers",
        "purchases",
        "sessions",
        "revenue",
        _ratio(_count("churned_customers"), _count("customers")).alias("churn_rate"),
        _mean_money("order_values", "purchasers").alias("avg_order_value"),
        _ratio(_count("purchases"), _count("customers")).alias("avg_purchase_count"),
        _ratio(_count("sessions"), _count("customers")).alias("avg_session_count"),
        _mean_money("revenue", "purchasers").alias("avg_ltv"),
        *_shares(users),
    )


def user_segment_table(users: pl.DataFrame) -> pl.DataFrame:
    """metrics_user_segments."""
    dimensions = ("overall", "activity_status", "customer_lifecycle_stage")
    return pl.concat(
        _user_sums(users.with_columns(overall=pl.lit("all")), [pl.col(dimension).alias("value")])
        .with_columns(dimension=pl.lit(dimension))
        .select(
            "dimension",
            "value",
            "customers",
            "purchasers",
            "churned_customers",
            "purchases",
            "sessions",
            "revenue",
            _ratio(_count("purchasers"), _count("customers")).alias("purchaser_rate"),
            _ratio(_count("churned_customers"), _count("customers")).alias("churn_rate"),
            _mean_money("revenue", "purchasers").alias("avg_ltv"),
            *_shares(users),
        )
        for dimension in dimensions
    )


def rfm_grid_table(users: pl.DataFrame, rfm: pl.DataFrame) -> pl.DataFrame:
    """metrics_rfm_grid."""
    return (
        rfm.join(users, on="user")
        .group_by("recency_score", "frequency_score")
        .agg(
            _rows().alias("customers"),
            pl.col("purchase_count").sum().alias("purchases"),
            pl.col("total_revenue").sum().alias("revenue"),
        )
        .with_columns(_mean_cents("revenue", "purchases").alias("avg_order_value"))
    )


def period_table(days: pl.DataFrame, sessions: pl.DataFrame, orders: pl.DataFrame) -> pl.DataFrame:
    """metrics_periods."""
    by_start = sessions.group_by("session_start_date").agg(
        _rows().alias("sessions"),
        pl.col("is_converting_session").sum().alias("converting_sessions"),
    )
    periods = []
    for period, length in (("day", "1d"), ("week", "1w"), ("month", "1mo")):
        start = pl.col("date").dt.truncate(length).alias("period_start")
        events = (
            days.lazy()
            .group_by("user", start)
            .agg(pl.col("events", "views", "cart_adds", "purchases", "revenue").sum())
            .group_by("period_start")
            .agg(
                _rows().alias("users"),
                _sum(pl.col("purchases") > 0).alias("purchasing_users"),
                pl.col("events", "views", "cart_adds", "purchases", "revenue").sum(),
            )
        )
        started = (
            by_start.lazy()
            .group_by(pl.col("session_start_date").dt.truncate(length).alias("period_start"))
            .agg(pl.col("sessions", "converting_sessions").sum())
        )
        ordered = (
            orders.lazy()
            .group_by(pl.col("order_time").dt.date().dt.truncate(length).alias("period_start"))
            .agg(_rows().alias("orders"))
        )
        periods.append(
            events.join(started, on="period_start", how="left")
            .join(ordered, on="period_start", how="left")
            .with_columns(
                pl.col("sessions", "converting_sessions", "orders").fill_null(0),
                period=pl.lit(period),
            )
        )
    return _collect(pl.concat(periods)).select(
        "period",
        "period_start",
        "users",
        "purchasing_users",
        "events",
        "views",
        "cart_adds",
        "purchases",
        "sessions",
        "converting_sessions",
        "revenue",
        _ratio(_count("converting_sessions"), _count("sessions")).alias("conversion_rate"),
        _mean_cents("revenue", "purchases").alias("avg_order_value"),
        "orders",
        _mean_cents("revenue", "orders").alias("avg_basket_value"),
        _ratio(_count("purchases"), _count("orders")).alias("items_per_order"),
    )


def _metric_levels(products: pl.DataFrame) -> pl.DataFrame:
    return products.select(
        "product_id", pl.col("category_lvl_1").fill_null("unknown"), "category_lvl_2"
    )


def category_metrics(
    events: pl.DataFrame, sums: pl.DataFrame, products: pl.DataFrame
) -> pl.DataFrame:
    """metrics_categories."""
    levels = ["category_lvl_1", "category_lvl_2"]
    metric_levels = _metric_levels(products)
    categories = metric_levels.select(levels).unique().with_row_index("category")
    numbered = metric_levels.join(categories, on=levels, nulls_equal=True)
    touches = _collect(
        events.lazy()
        .select("product_id", "user_id", session=pl.col("user_session").to_physical())
        .join(numbered.lazy().select("product_id", "category"), on="product_id")
        .select("category", "session", "user_id")
        .unique()
    ).join(categories, on="category")
    summed = sums.join(metric_levels, on="product_id")
    tables = []
    for level in (1, 2):
        keys = levels[:level]
        distinct = (
            touches.lazy()
            .group_by(keys)
            .agg(
                pl.col("session").n_unique().cast(pl.Int64).alias("user_sessions"),
                pl.col("user_id").n_unique().cast(pl.Int64).alias("users"),
            )
        )
        totals = (
            summed.lazy()
            .group_by(keys)
            .agg(pl.col("events", "views", "cart_adds", "purchases", "revenue").sum())
        )
        tables.append(
            totals.join(distinct, on=keys, nulls_equal=True).with_columns(
                pl.lit(level, pl.Int64).alias("level")
            )
        )
    return _collect(pl.concat(tables, how="diagonal")).select(
        "level",
        *levels,
        "events",
        "views",
        "cart_adds",
        "purchases",
        "user_sessions",
        "users",
        "revenue",
        _ratio(_count("purchases"), _count("events")).alias("purchase_rate"),
        _ratio(_count("cart_adds"), _count("events")).alias("cart_add_rate"),
        _ratio(_count("views"), _count("user_sessions")).alias("avg_views_per_session"),
    )


def category_rfm_table(
    events: pl.DataFrame, products: pl.DataFrame, rfm: pl.DataFrame
) -> pl.DataFrame:
    """metrics_category_rfm."""
    return _collect(
        events.lazy()
        .filter(_is("purchase"))
        .join(_metric_levels(products).lazy(), on="product_id")
        .join(rfm.lazy().drop("user_id"), left_on="user_id", right_on="user")
        .group_by("category_lvl_1", "rfm_segment")
        .agg(_rows().alias("purchases"), pl.col("price").sum().alias("revenue"))
    )


# --- The command ----------------------------------------------------------------------------------


def _write(table: str, frame: pl.DataFrame | pl.LazyFrame, output: Path) -> None:
    (output / table).mkdir(parents=True)
    times = pl.selectors.datetime().dt.replace_time_zone("UTC")
    frame.lazy().with_columns(times).sink_parquet(
        output / table / f"{table}.parquet", compression="zstd", compression_level=1
    )


def write_tables(files: str, output: Path) -> None:
    """Read the CSVs that match a glob; write the tables as OUTPUT/TABLE/TABLE.parquet."""
    events = number_sessions(drop_rest(drop_duplicates(sort_by_session(read_events(files)))))
    sessions = sum_sessions(events)
    _write("fct_events", event_table(events, sessions["session_id"]), output)
    _write("fct_sessions", sessions.drop("session", "user"), output)
    days = user_days(events)
    orders = order_table(events, sessions["session_id"])
    users = user_table(days, sessions, orders)
    _write("dim_users", users.drop("user"), output)
    rfm = rfm_table(users)
    _write("dim_user_rfm", rfm.drop("user"), output)
    sums = product_sums(events)
    categories = category_table(sums)
    _write("dim_categories", categories.drop("category_id"), output)
    products = product_table(sums, categories)
    ids = pl.col("product_id", "category_id").cast(pl.String)
    _write("dim_products", products.with_columns(ids), output)
    _write("metrics_churn", churn_table(users), output)
    _write("metrics_funnel", funnel_table(sessions, users, rfm), output)
    _write("metrics_periods", period_table(days, sessions, orders), output)
    _write("metrics_rfm_segments", rfm_segment_table(users, rfm), output)
    _write("metrics_user_segments", user_segment_table(users), output)
    _write("metrics_rfm_grid", rfm_grid_table(users, rfm), output)
    _write("metrics_categories", category_metrics(events, sums, products), output)
    _write("metrics_category_rfm", category_rfm_table(events, products, rfm), output)


if __name__ == "__main__":
    write_tables(sys.argv[1], Path(sys.argv[2]))
