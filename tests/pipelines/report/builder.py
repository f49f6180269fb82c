"""Plausible tables for the report's tests: made-up sessions, added up to the contract's columns."""

import json
import random
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import polars as pl

from pipelines.report.reading import OPTIONAL_TABLES, TABLES
from tests.pipelines.report.over_time import over_time_tables
from tests.pipelines.report.prediction_rows import prediction_tables
from transforms.schema import TABLES_BY_NAME

MONEY = pl.Decimal(38, 9)

CATEGORIES = {
    "electronics": ["smartphone", "audio", "clocks", "tablet", "video"],
    "appliances": ["kitchen", "environment", "personal"],
    "computers": ["notebook", "desktop", "peripherals", "components"],
    "furniture": ["living_room", "bedroom", "kitchen"],
    "apparel": ["shoes", "shirt", None],
    "auto": ["accessories"],
    "kids": ["carriage", "toys"],
    "construction": ["tools", "components"],
    "sport": ["bicycle", "ski"],
    "accessories": ["bag", "wallet"],
    "stationery": ["cartrige", "paper"],
    "country_yard": ["cultivator", "lawn_mower"],
    "medicine": ["tools"],
    "unknown": [None],
}

SEGMENTS = (
    "Champions",
    "Loyal Customers",
    "Potential Loyalists",
    "Recent Customers",
    "Promising",
    "Needs Attention",
    "About To Sleep",
    "At Risk",
    "Lost",
)
STATUSES = ("active", "declining", "at_risk", "churned")


def empty_tables() -> dict[str, pl.DataFrame]:
    """Return every table without rows."""
    return {name: TABLES_BY_NAME[name].empty_frame() for name in (*TABLES, *OPTIONAL_TABLES)}


def build_tables(
    *,
    seed: int = 7,
    users: int = 1500,
    first_day: date = date(2019, 10, 1),
    days: int = 61,
    categories: dict[str, list[str | None]] | None = None,
    purchases: bool = True,
    price_factor: int = 1,
) -> dict[str, pl.DataFrame]:
    """Return tables that agree with each other, from sessions made up with a seed.

    Those of predicted lifetime value are the same always, and of other customers.
    """
    sessions = _sessions(
        random.Random(seed),
        users=users,
        first_day=first_day,
        days=days,
        categories=categories or CATEGORIES,
        with_purchases=purchases,
        price_factor=price_factor,
    )
    last_day = first_day + timedelta(days=days - 1)
    people = _people(sessions, last_day)
    over_time = over_time_tables(sessions, first_day, last_day, _people)
    sessions = sessions.join(
        people.select("user", "rfm_segment", "activity_status", "customer_lifecycle_stage"),
        on="user",
    )
    tables = {
        "metrics_periods": _periods(sessions),
        "metrics_user_segments": _user_segments(people),
        "metrics_rfm_grid": _grid(people),
        "metrics_churn": _churn(people),
        "metrics_funnel": _funnel(sessions),
        "metrics_funnels": _funnels(sessions),
        "metrics_rfm_segments": _rfm_segments(people),
        "metrics_categories": _categories(sessions),
        "metrics_category_rfm": sessions.filter(pl.col("purchases") > 0)
        .group_by("category_lvl_1", "rfm_segment")
        .agg(pl.col("purchases", "revenue").sum()),
    }
    runs, checks = _run(sessions)
    tables |= {"pipeline_runs": runs, "data_quality": checks} | over_time | prediction_tables()
    return {
        name: tables[name].select(
            pl.col(column).cast(dtype)
            for column, dtype in TABLES_BY_NAME[name].polars_schema().items()
        )
        for name in (*TABLES, *OPTIONAL_TABLES)
    }


def _funnels(sessions: pl.DataFrame) -> pl.DataFrame:
    """Return the funnel `shop`, by the quality of sessions too, as if all steps came in order."""
    steps = (("view", "viewed"), ("cart", "carted"), ("purchase", "bought"))
    reached = sessions.with_columns(
        viewed=pl.col("views") > 0,
        carted=(pl.col("views") > 0) & (pl.col("cart_adds") > 0),
        bought=(pl.col("views") > 0) & (pl.col("cart_adds") > 0) & (pl.col("purchases") > 0),
    )
    rows = []
    groups = [("overall", "all", reached)] + [
        ("session_quality_tier", tier, reached.filter(session_quality_tier=tier))
        for tier in sorted(reached["session_quality_tier"].unique())
    ]
    for breakdown, value, group in groups:
        first = group.filter("viewed").height
        before = None
        for number, (name, flag) in enumerate(steps, 1):
            taken = group.filter(flag)
            share = taken.height / first if first else None
            rows.append(
                {
                    "funnel": "shop",
                    "breakdown": breakdown,
                    "value": value,
                    "step_number": number,
                    "step_name": name,
                    "entities": taken.height,
                    "users": taken["user"].n_unique(),
                    "open_entities": 0,
                    "conversion_from_start": share,
                    "conversion_from_previous": taken.height / before if before else None,
                    "conversion_low": share and share * 0.9,
                    "conversion_high": share and min(1.0, share * 1.1),
                    "closed_conversion_from_start": share,
                    **{
                        f"{name}_seconds": 60 * at * (number - 1) if taken.height else None
                        for name, at in (("p25", 1), ("median", 2), ("p75", 5), ("p90", 90))
                    },
                    "mean_seconds": None,
                }
            )
            before = taken.height
    return pl.DataFrame(rows, schema=TABLES_BY_NAME["metrics_funnels"].polars_schema())


def _sessions(
    rng: random.Random,
    *,
    users: int,
    first_day: date,
    days: int,
    categories: dict[str, list[str | None]],
    with_purchases: bool,
    price_factor: int,
) -> pl.DataFrame:
    names = list(categories)
    weights = [1 / (place + 1) ** 1.3 for place in range(len(names))]
    rows = []
    for user in range(users):
        loyalty = rng.paretovariate(1.4)
        start = rng.randrange(days)
        for _ in range(min(40, 1 + int(loyalty * rng.random() * 2))):
            day = start + int(rng.random() ** 2 * (days - start))
            weekend = 1.4 if (first_day + timedelta(days=day)).weekday() >= 5 else 1
            views = 1 + int(rng.expovariate(0.35) * weekend)
            has_cart = rng.random() < 0.12 * min(3, loyalty)
            has_purchase = with_purchases and rng.random() < (0.42 if has_cart else 0.015)
            bought = 1 + int(rng.expovariate(1.6)) if has_purchase else 0
            lvl_1 = rng.choices(names, weights)[0]
            price = Decimal(int(rng.lognormvariate(4.2, 0.9) * 100)) / 100 * price_factor
            length = 0 if views == 1 and not bought else int(rng.expovariate(1 / 260))
            rows.append(
                (
                    f"{user}",
                    first_day + timedelta(days=day),
                    views,
                    1 + bought // 2 if has_cart else 0,
                    bought,
                    price * bought,
                    length,
                    lvl_1,
                    rng.choice(categories[lvl_1]),
                )
            )
    return pl.DataFrame(
        rows,
        schema={
            "user": pl.String,
            "date": pl.Date,
            "views": pl.Int64,
            "cart_adds": pl.Int64,
            "purchases": pl.Int64,
            "revenue": MONEY,
            "length": pl.Int64,
            "category_lvl_1": pl.String,
            "category_lvl_2": pl.String,
        },
        orient="row",
    ).with_columns(
        (pl.col("views") + pl.col("cart_adds") + pl.col("purchases")).alias("events"),
        pl.when((pl.col("length") < 150) | (pl.col("views") < 3))
        .then(pl.lit("Low"))
        .when((pl.col("length") <= 600) & (pl.col("views") <= 10))
        .then(pl.lit("Medium"))
        .otherwise(pl.lit("High"))
        .alias("session_quality_tier"),
        pl.when(pl.col("length") <= 60)
        .then(pl.lit("Very Short (0-60s)"))
        .when(pl.col("length") <= 300)
        .then(pl.lit("Short (61-300s)"))
        .when(pl.col("length") <= 600)
        .then(pl.lit("Medium (301-600s)"))
        .otherwise(pl.lit("Long (600+s)"))
        .alias("session_length_bucket"),
    )


def _people(sessions: pl.DataFrame, last_day: date) -> pl.DataFrame:
    """One row per user: totals, scores and groups (scores by simple cuts, not by the contract)."""
    bought = pl.col("purchases") > 0
    people = sessions.group_by("user").agg(
        pl.len().alias("sessions"),
        pl.col("purchases").sum(),
        pl.col("revenue").sum(),
        pl.col("date").filter(bought).min().alias("first"),
        pl.col("date").filter(bought).max().alias("last"),
    )
    age = (pl.lit(last_day) - pl.col("last")).dt.total_days()
    people = people.with_columns(
        pl.when(age.is_not_null()).then(5 - (age / 61 * 5).cast(pl.Int64).clip(0, 4)).alias("r"),
        pl.when(age.is_not_null()).then(pl.col("purchases").clip(1, 5)).alias("f"),
        pl.when(age.is_null())
        .then(pl.lit("prospect"))
        .when(age > 50)
        .then(pl.lit("churned"))
        .when(age > 40)
        .then(pl.lit("at_risk"))
        .when(age > 25)
        .then(pl.lit("declining"))
        .otherwise(pl.lit("active"))
        .alias("activity_status"),
        pl.when(pl.col("purchases") == 0)
        .then(pl.lit("Prospect"))
        .when(pl.col("purchases") == 1)
        .then(pl.lit("First-Time Buyer"))
        .when(pl.col("purchases") <= 5)
        .then(pl.lit("Repeat Customer"))
        .otherwise(pl.lit("Loyal Customer"))
        .alias("customer_lifecycle_stage"),
    )
    r, f, m = pl.col("r"), pl.col("f"), pl.col("revenue") > 150
    return people.with_columns(
        pl.when(r.is_null())
        .then(pl.lit("No RFM Score"))
        .when((r >= 4) & (f >= 4) & m)
        .then(pl.lit("Champions"))
        .when((r <= 2) & (f >= 4) & m)
        .then(pl.lit("At Risk"))
        .when((r >= 4) & (f >= 3))
        .then(pl.lit("Loyal Customers"))
        .when((r >= 3) & (f >= 3))
        .then(pl.lit("Potential Loyalists"))
        .when(r >= 4)
        .then(pl.lit("Recent Customers"))
        .when(r == 3)
        .then(pl.lit("Promising"))
        .when(f >= 3)
        .then(pl.lit("About To Sleep"))
        .when(m)
        .then(pl.lit("Needs Attention"))
        .otherwise(pl.lit("Lost"))
        .alias("rfm_segment"),
        (pl.col("activity_status") == "churned").alias("churned"),
    )


def _over(numerator: pl.Expr, denominator: pl.Expr) -> pl.Expr:
    return (
        pl.when(denominator != 0)
        .then(numerator.cast(pl.Float64) / denominator.cast(pl.Float64))
        .round(6)
    )


def _money_over(numerator: str, denominator: str) -> pl.Expr:
    quotient = pl.col(numerator).cast(pl.Float64) / pl.col(denominator)
    return pl.when(pl.col(denominator) != 0).then(quotient.round(2)).cast(MONEY)


def _periods(sessions: pl.DataFrame) -> pl.DataFrame:
    converting = pl.col("purchases") > 0
    frames = [
        sessions.with_columns(
            pl.lit(period).alias("period"), pl.col("date").dt.truncate(every).alias("period_start")
        )
        .group_by("period", "period_start")
        .agg(
            pl.col("user").n_unique().alias("users"),
            pl.col("user").filter(converting).n_unique().alias("purchasing_users"),
            pl.col("events", "views", "cart_adds", "purchases", "revenue").sum(),
            pl.len().cast(pl.Int64).alias("sessions"),
            converting.sum().cast(pl.Int64).alias("converting_sessions"),
            converting.sum().cast(pl.Int64).alias("orders"),
        )
        for period, every in (("day", "1d"), ("week", "1w"), ("month", "1mo"))
    ]
    return pl.concat(frames).with_columns(
        _over(pl.col("converting_sessions"), pl.col("sessions")).alias("conversion_rate"),
        _money_over("revenue", "purchases").alias("avg_order_value"),
        _money_over("revenue", "orders").alias("avg_basket_value"),
        _over(pl.col("purchases"), pl.col("orders")).alias("items_per_order"),
    )


def _by(frame: pl.DataFrame, dimension: str, aggregates: Sequence[pl.Expr]) -> pl.DataFrame:
    value = pl.lit("all") if dimension == "overall" else pl.col(dimension).cast(pl.String)
    return (
        frame.with_columns(pl.lit(dimension).alias("dimension"), value.alias("value"))
        .group_by("dimension", "value")
        .agg(aggregates)
    )


def _user_segments(people: pl.DataFrame) -> pl.DataFrame:
    aggregates = [
        pl.len().cast(pl.Int64).alias("customers"),
        (pl.col("purchases") > 0).sum().cast(pl.Int64).alias("purchasers"),
        pl.col("churned").sum().cast(pl.Int64).alias("churned_customers"),
        pl.col("purchases", "sessions", "revenue").sum(),
    ]
    frames = [
        _by(people, dimension, aggregates)
        for dimension in ("overall", "activity_status", "customer_lifecycle_stage")
    ]
    return pl.concat(frames).with_columns(
        _over(pl.col("purchasers"), pl.col("customers")).alias("purchaser_rate"),
        _over(pl.col("churned_customers"), pl.col("customers")).alias("churn_rate"),
        _over(pl.col("revenue"), pl.col("purchasers")).alias("avg_ltv"),
        _over(pl.col("customers"), pl.lit(people.height)).alias("customer_share"),
        _over(pl.col("revenue"), pl.lit(people["revenue"].sum())).alias("revenue_share"),
    )


def _grid(people: pl.DataFrame) -> pl.DataFrame:
    return (
        people.filter(pl.col("r").is_not_null())
        .group_by(pl.col("r").alias("recency_score"), pl.col("f").alias("frequency_score"))
        .agg(pl.len().alias("customers"), pl.col("purchases", "revenue").sum())
        .with_columns(_money_over("revenue", "purchases").alias("avg_order_value"))
    )


def _churn(people: pl.DataFrame) -> pl.DataFrame:
    buyers = people.filter(pl.col("first").is_not_null())
    aggregates = [
        pl.len().cast(pl.Int64).alias("total_customers"),
        (pl.col("purchases") == 1).sum().cast(pl.Int64).alias("churned_customers"),
        pl.col("first").min().alias("cohort_start"),
        pl.col("first").max().alias("cohort_end"),
    ]
    overall = buyers.select(aggregates).with_columns(
        pl.lit("cohort_overall").alias("metric_level"),
        pl.lit("all_eligible_cohorts").alias("time_period"),
    )
    by_month = (
        buyers.with_columns(
            pl.lit("by_cohort_month").alias("metric_level"),
            pl.col("first").dt.truncate("1mo").cast(pl.String).alias("time_period"),
        )
        .group_by("metric_level", "time_period")
        .agg(aggregates)
    )
    return pl.concat([overall, by_month], how="diagonal").with_columns(
        _over(pl.col("churned_customers"), pl.col("total_customers")).round(4).alias("churn_rate")
    )


def _funnel(sessions: pl.DataFrame) -> pl.DataFrame:
    def reached(column: str) -> pl.Expr:
        return (pl.col(column) > 0).sum().cast(pl.Int64)

    aggregates = [
        pl.len().cast(pl.Int64).alias("sessions"),
        reached("views").alias("sessions_reached_view"),
        reached("cart_adds").alias("sessions_reached_cart"),
        reached("purchases").alias("sessions_reached_purchase"),
        (pl.col("events") == 1).sum().cast(pl.Int64).alias("bounced_sessions"),
        pl.col("events", "purchases", "revenue").sum(),
    ]
    renamed = sessions.with_columns(pl.col("date").alias("session_start_date"))
    frames = [
        _by(renamed, dimension, aggregates)
        for dimension in (
            "overall",
            "session_start_date",
            "session_quality_tier",
            "session_length_bucket",
            "customer_lifecycle_stage",
            "activity_status",
            "rfm_segment",
        )
    ]
    view, cart, purchase = (pl.col(f"sessions_reached_{s}") for s in ("view", "cart", "purchase"))
    return pl.concat(frames).with_columns(
        _over(cart, view).alias("view_to_cart_rate"),
        _over(purchase, cart).alias("cart_to_purchase_rate"),
        _over(purchase, pl.col("sessions")).alias("conversion_rate"),
        _over(pl.col("bounced_sessions"), pl.col("sessions")).alias("bounce_rate"),
        _over(pl.col("revenue"), pl.col("sessions")).alias("revenue_per_session"),
        _over(pl.col("revenue"), purchase).alias("revenue_per_purchasing_session"),
        _over(purchase, view).alias("view_to_purchase_rate"),
    )


def _rfm_segments(people: pl.DataFrame) -> pl.DataFrame:
    order_value = pl.col("revenue").cast(pl.Float64) / pl.col("purchases")
    return (
        people.group_by("rfm_segment")
        .agg(
            pl.len().alias("customers"),
            pl.col("churned").sum().alias("churned_customers"),
            pl.col("purchases", "sessions", "revenue").sum(),
            order_value.filter(pl.col("purchases") > 0).mean().round(6).alias("avg_order_value"),
            pl.col("revenue")
            .filter(pl.col("purchases") > 0)
            .cast(pl.Float64)
            .mean()
            .round(6)
            .alias("avg_ltv"),
        )
        .with_columns(
            _over(pl.col("churned_customers"), pl.col("customers")).alias("churn_rate"),
            _over(pl.col("purchases"), pl.col("customers")).alias("avg_purchase_count"),
            _over(pl.col("sessions"), pl.col("customers")).alias("avg_session_count"),
            _over(pl.col("customers"), pl.lit(people.height)).alias("customer_share"),
            _over(pl.col("revenue"), pl.lit(people["revenue"].sum())).alias("revenue_share"),
        )
    )


def _categories(sessions: pl.DataFrame) -> pl.DataFrame:
    aggregates = [
        pl.col("events", "views", "cart_adds", "purchases", "revenue").sum(),
        pl.len().alias("user_sessions"),
        pl.col("user").n_unique().alias("users"),
    ]
    level_1 = (
        sessions.group_by("category_lvl_1")
        .agg(aggregates)
        .with_columns(pl.lit(1).alias("level"), pl.lit(None, pl.String).alias("category_lvl_2"))
    )
    level_2 = (
        sessions.group_by("category_lvl_1", "category_lvl_2")
        .agg(aggregates)
        .with_columns(pl.lit(2).alias("level"))
    )
    return pl.concat([level_1, level_2], how="diagonal").with_columns(
        _over(pl.col("purchases"), pl.col("events")).alias("purchase_rate"),
        _over(pl.col("cart_adds"), pl.col("events")).alias("cart_add_rate"),
        _over(pl.col("views"), pl.col("user_sessions")).alias("avg_views_per_session"),
    )


def _run(sessions: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    kept = int(sessions["events"].sum())
    reasons = {"malformed_row": kept // 900, "bad_price": kept // 2500, "bad_event_time": 3}
    dropped = {
        "after_as_of_rows": 0,
        "duplicate_rows": kept // 60,
        "multi_brand_product_rows": kept // 200,
        "missing_session_rows": 12,
    }
    rejected = sum(reasons.values())
    started = datetime(2024, 3, 5, 6, 30, 11, tzinfo=UTC)

    def run(run_id: str, started_at: datetime) -> dict[str, object]:
        return {
            "run_id": run_id,
            "started_at": started_at,
            "finished_at": started_at + timedelta(minutes=3, seconds=42),
            "published_at": started_at + timedelta(minutes=3, seconds=41),
            "status": "published",
            "as_of": sessions["date"].max(),
            "inputs": json.dumps(
                ["gs://shop-events/2019-Oct.csv.gz", "gs://shop-events/2019-Nov.csv.gz"]
            ),
            "rows_read": kept + sum(dropped.values()) + rejected,
            "events_kept": kept,
            **dropped,
            "rejected_rows": rejected,
            "rejected_by_reason": json.dumps(reasons),
            "table_rows": json.dumps({"fct_events": kept, "fct_sessions": sessions.height}),
            "options": json.dumps({"session_timeout_seconds": 3600, "churn_threshold_days": 60}),
            "code_version": "0.1.0+4f2c9d1",
            "input_fingerprint": None,
            "input_files": 2,
            "new_files": 1,
            "changed_files": 0,
            "missing_files": 0,
            "config": None,
            "config_sha256": None,
        }

    runs = pl.DataFrame(
        [
            run("20240305T063011-newest", started),
            run("20240304T063011-older", started - timedelta(days=1)),
        ]
    )
    checks = pl.DataFrame(
        [
            {
                "run_id": run_id,
                "table_name": table,
                "check_name": check,
                "severity": "warn" if check == "accepted_values" else "error",
                "failing_rows": failing if check == "accepted_values" else 0,
                "passed": not (check == "accepted_values" and failing),
            }
            for run_id, failing in (("20240305T063011-newest", 0), ("20240304T063011-older", 5))
            for table in ("fct_events", "fct_sessions", "dim_users", "dim_user_rfm")
            for check in ("unique_key", "not_null", "accepted_values")
        ]
    )
    return runs, checks
