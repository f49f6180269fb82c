"""The files of the SQL, in the order in which they are run."""

from pathlib import Path

SQL_FILES = tuple(
    Path(__file__).with_name("tables") / f"{name}.sql"
    for name in (
        "macros",
        "events_deduplicated",
        "multi_brand_products",
        "fct_events",
        "event_counts",
        "fct_sessions",
        "fct_orders",
        "fct_user_days",
        "dim_users",
        "dim_user_rfm",
        "dim_categories",
        "dim_products",
        "metrics_churn",
        "metrics_funnel",
        "metrics_rfm_segments",
        "metrics_categories",
        "metrics_category_rfm",
        "metrics_periods",
        "metrics_user_segments",
        "metrics_rfm_grid",
        "product_users",
        "metrics_products",
        "metrics_brands",
        "metrics_anomalies",
        "fct_carts",
        "metrics_carts",
        "metrics_product_pairs",
        "funnel_events",
        "funnel_attempts",
        "metrics_funnels",
        "clv_split",
        "clv_customers",
        "model_clv",
        "clv_test",
        "metrics_clv_validation",
        "metrics_clv_deciles",
        "metrics_clv_frequency",
        "dim_user_clv",
        "metrics_clv_predictions",
        "days",
        "calendar",
        "activity_days",
        "metrics_lifecycle",
        "metrics_active_users",
        "metrics_stickiness",
        "cohort_members",
        "cohort_windows",
        "metrics_cohort_retention",
        "metrics_repeat_purchase",
        "state_dates",
        "user_states",
        "snapshots",
        "snap_user_rfm",
        "snap_user_status",
        "metrics_segment_history",
        "metrics_segment_migration",
    )
)
"""The SQL, one file a table, each after those it reads."""

NEEDED_BY_FUNNELS = frozenset(
    (
        "macros",
        "events_deduplicated",
        "multi_brand_products",
        "fct_events",
        "event_counts",
        "fct_sessions",
        "fct_orders",
        "dim_users",
        "dim_user_rfm",
        "funnel_events",
        "funnel_attempts",
        "metrics_funnels",
    )
)
"""What metrics_funnels is made of, for tests of many configurations."""

FIRST_OVER_TIME = Path(__file__).with_name("tables") / "days.sql"
"""The first file of the tables over time, which no other table needs."""

SELLING = frozenset(
    (
        *("product_users", "metrics_products", "metrics_brands", "fct_carts", "metrics_carts"),
        *("metrics_product_pairs", "funnel_events", "funnel_attempts", "metrics_funnels"),
        "metrics_anomalies",
    )
)
"""The files of the tables of what sells, which no other table needs."""
