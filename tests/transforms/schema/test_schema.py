"""The tables as the contract lists them: names, types, nullability, keys, layout."""

import re

import polars as pl
import pytest

from transforms.schema import TABLES, TABLES_BY_NAME, ColumnType

# name type, ! where NULL is not allowed; in the order of the columns.
COLUMNS = {
    "model_clv": """
        fit STRING!, model STRING!, cutoff_date DATE, status STRING!, selected BOOL!,
        customers INT64!, repeat_customers INT64!, distinct_patterns INT64!, evaluations INT64!,
        log_likelihood FLOAT64, r FLOAT64, alpha_days FLOAT64, a FLOAT64, b FLOAT64, p FLOAT64,
        q FLOAT64, v FLOAT64, se_r FLOAT64, se_alpha_days FLOAT64, se_a FLOAT64, se_b FLOAT64,
        se_p FLOAT64, se_q FLOAT64, se_v FLOAT64, spend_frequency_correlation FLOAT64""",
    "metrics_clv_validation": """
        model STRING!, calibration_start DATE, calibration_end DATE, holdout_end DATE,
        holdout_days INT64, customers INT64!, actual_purchases INT64, predicted_purchases FLOAT64,
        bias FLOAT64, mae FLOAT64, rmse FLOAT64, gini FLOAT64, actual_revenue NUMERIC,
        predicted_revenue NUMERIC, revenue_bias FLOAT64, revenue_gini FLOAT64, total_low FLOAT64,
        total_high FLOAT64, selected BOOL!, passed BOOL, reasons STRING""",
    "metrics_clv_deciles": """
        model STRING!, decile INT64!, customers INT64!, predicted_purchases FLOAT64,
        actual_purchases INT64!, predicted_revenue NUMERIC, actual_revenue NUMERIC!,
        lift FLOAT64""",
    "metrics_clv_frequency": """
        model STRING!, frequency INT64!, customers INT64!, predicted_purchases FLOAT64,
        actual_purchases INT64!, predicted_revenue NUMERIC, actual_revenue NUMERIC!,
        lift FLOAT64""",
    "metrics_clv_predictions": """
        dimension STRING!, value STRING!, customers INT64!, expected_alive FLOAT64,
        expected_purchases_30d FLOAT64, expected_purchases_90d FLOAT64,
        expected_purchases_365d FLOAT64, expected_purchases_90d_low FLOAT64,
        expected_purchases_90d_high FLOAT64, predicted_revenue_30d NUMERIC,
        predicted_revenue_90d NUMERIC, predicted_revenue_365d NUMERIC, historic_revenue NUMERIC!""",
    "dim_user_clv": """
        user_id STRING!, frequency INT64!, recency_days INT64!, age_days INT64!,
        avg_repeat_value NUMERIC, p_alive FLOAT64, p_purchase_30d FLOAT64, p_purchase_90d FLOAT64,
        p_purchase_365d FLOAT64, expected_purchases_30d FLOAT64, expected_purchases_90d FLOAT64,
        expected_purchases_365d FLOAT64, expected_purchase_value NUMERIC,
        predicted_revenue_30d NUMERIC, predicted_revenue_90d NUMERIC,
        predicted_revenue_365d NUMERIC, clv_decile INT64, historic_revenue NUMERIC!, model STRING!,
        model_status STRING!""",
    "fct_events": """
        event_id STRING!, event_time TIMESTAMP!, event_date DATE!, event_type STRING!,
        user_id STRING!, user_session STRING!, session_id STRING!, product_id STRING!,
        brand STRING, category_code STRING, category_id STRING, price NUMERIC!, quantity INT64!,
        is_view INT64!, is_cart_add INT64!, is_cart_remove INT64!, is_purchase INT64!,
        revenue NUMERIC""",
    "fct_sessions": """
        session_id STRING!, user_id STRING!, session_start_time TIMESTAMP!,
        session_end_time TIMESTAMP!, session_start_date DATE!, session_length INT64!,
        event_count INT64!, unique_product_count INT64!, view_count INT64!, cart_additions INT64!,
        cart_removals INT64!, purchase_count INT64!, total_revenue NUMERIC, reached_view INT64!,
        reached_cart INT64!, reached_purchase INT64!, funnel_stage STRING!,
        is_converting_session INT64!, session_quality_tier STRING!,
        session_length_bucket STRING!""",
    "fct_orders": """
        order_id STRING!, user_id STRING!, session_id STRING!, order_time TIMESTAMP!,
        order_date DATE!, item_count INT64!, product_count INT64!, revenue NUMERIC!,
        order_number INT64!, days_since_previous_order INT64, seconds_in_session INT64!,
        is_first_order BOOL!""",
    "fct_user_days": """
        user_id STRING!, event_date DATE!, events INT64!, views INT64!, cart_adds INT64!,
        cart_removes INT64!, purchases INT64!, orders INT64!, sessions INT64!, revenue NUMERIC!""",
    "dim_users": """
        user_id STRING!, first_event_time TIMESTAMP!, last_event_time TIMESTAMP!,
        first_event_date DATE!, last_event_date DATE!, session_count INT64!, event_count INT64!,
        purchase_count INT64!, total_revenue NUMERIC, customer_ltv NUMERIC,
        avg_order_value NUMERIC, first_purchase_date DATE, last_purchase_date DATE,
        customer_lifespan_days INT64, days_since_last_activity INT64!,
        days_since_last_purchase INT64, activity_status STRING!, is_churned INT64!,
        has_purchase_history BOOL!, data_quality_flag STRING, customer_lifecycle_stage STRING!,
        order_count INT64!, purchase_day_count INT64!, avg_basket_value NUMERIC,
        avg_items_per_order FLOAT64, first_order_value NUMERIC, days_to_first_purchase INT64,
        order_lifecycle_stage STRING!""",
    "dim_user_rfm": """
        user_id STRING!, recency_score INT64!, frequency_score INT64!, monetary_score INT64!,
        rfm_score INT64!, rfm_segment STRING!""",
    "dim_products": """
        product_id STRING!, brand STRING, category_id STRING, category_code STRING,
        category_lvl_1 STRING, category_lvl_2 STRING, category_lvl_3 STRING,
        category_lvl_4 STRING""",
    "dim_categories": """
        raw_category_id STRING!, category_code STRING, category_lvl_1 STRING,
        category_lvl_2 STRING, category_lvl_3 STRING, category_lvl_4 STRING""",
    "metrics_churn": """
        metric_level STRING!, time_period STRING!, total_customers INT64!,
        churned_customers INT64!, churn_rate FLOAT64, cohort_start DATE, cohort_end DATE""",
    "metrics_funnel": """
        dimension STRING!, value STRING!, sessions INT64!, sessions_reached_view INT64!,
        sessions_reached_cart INT64!, sessions_reached_purchase INT64!, bounced_sessions INT64!,
        events INT64!, purchases INT64!, revenue NUMERIC!, view_to_cart_rate FLOAT64,
        cart_to_purchase_rate FLOAT64, conversion_rate FLOAT64, bounce_rate FLOAT64,
        revenue_per_session FLOAT64, revenue_per_purchasing_session FLOAT64,
        view_to_purchase_rate FLOAT64""",
    "metrics_rfm_segments": """
        rfm_segment STRING!, customers INT64!, churned_customers INT64!, purchases INT64!,
        sessions INT64!, revenue NUMERIC!, churn_rate FLOAT64, avg_order_value FLOAT64,
        avg_purchase_count FLOAT64, avg_session_count FLOAT64, avg_ltv FLOAT64,
        customer_share FLOAT64, revenue_share FLOAT64""",
    "metrics_categories": """
        level INT64!, category_lvl_1 STRING!, category_lvl_2 STRING, events INT64!, views INT64!,
        cart_adds INT64!, purchases INT64!, user_sessions INT64!, users INT64!, revenue NUMERIC!,
        purchase_rate FLOAT64, cart_add_rate FLOAT64, avg_views_per_session FLOAT64""",
    "metrics_category_rfm": """
        category_lvl_1 STRING!, rfm_segment STRING!, purchases INT64!, revenue NUMERIC!""",
    "metrics_periods": """
        period STRING!, period_start DATE!, users INT64!, purchasing_users INT64!, events INT64!,
        views INT64!, cart_adds INT64!, purchases INT64!, sessions INT64!,
        converting_sessions INT64!, revenue NUMERIC!, conversion_rate FLOAT64,
        avg_order_value NUMERIC, orders INT64!, avg_basket_value NUMERIC,
        items_per_order FLOAT64""",
    "metrics_user_segments": """
        dimension STRING!, value STRING!, customers INT64!, purchasers INT64!,
        churned_customers INT64!, purchases INT64!, sessions INT64!, revenue NUMERIC!,
        purchaser_rate FLOAT64, churn_rate FLOAT64, avg_ltv FLOAT64, customer_share FLOAT64,
        revenue_share FLOAT64""",
    "metrics_rfm_grid": """
        recency_score INT64!, frequency_score INT64!, customers INT64!, purchases INT64!,
        revenue NUMERIC!, avg_order_value NUMERIC!""",
    "metrics_lifecycle": """
        activity STRING!, period STRING!, period_start DATE!, active_users INT64!,
        new_users INT64!, retained_users INT64!, resurrected_users INT64!, dormant_users INT64!,
        net_users INT64!, retention_rate FLOAT64, churn_rate FLOAT64, quick_ratio FLOAT64,
        revenue NUMERIC!, revenue_new NUMERIC!, revenue_resurrected NUMERIC!,
        revenue_expansion NUMERIC!, revenue_contraction NUMERIC!, revenue_churned NUMERIC!,
        gross_revenue_retention FLOAT64, net_revenue_retention FLOAT64,
        revenue_quick_ratio FLOAT64, is_complete BOOL!, is_left_censored BOOL!""",
    "metrics_active_users": """
        activity STRING!, event_date DATE!, daily_users INT64!, weekly_users INT64!,
        monthly_users INT64!, stickiness FLOAT64, daily_of_weekly FLOAT64,
        weekly_of_monthly FLOAT64, weekly_is_complete BOOL!, monthly_is_complete BOOL!""",
    "metrics_stickiness": """
        activity STRING!, period STRING!, period_start DATE!, active_days INT64!, users INT64!,
        users_at_least INT64!, share FLOAT64, is_complete BOOL!""",
    "metrics_cohort_retention": """
        cohort_by STRING!, activity STRING!, method STRING!, period STRING!, cohort_start DATE,
        period_number INT64!, cohort_users INT64!, eligible_users INT64!, retained_users INT64!,
        retained_later_users INT64!, purchases INT64!, orders INT64!, revenue NUMERIC!,
        base_revenue NUMERIC!, cumulative_revenue NUMERIC!, retention_rate FLOAT64,
        unbounded_retention_rate FLOAT64, revenue_retention_rate FLOAT64,
        cumulative_revenue_per_user NUMERIC, is_complete BOOL!, is_left_censored BOOL!""",
    "metrics_repeat_purchase": """
        cohort_start DATE, purchase_number INT64!, at_risk INT64!, reached INT64!,
        reach_rate FLOAT64, eligible_30 INT64!, reached_30 INT64!, repurchase_rate_30 FLOAT64,
        eligible_60 INT64!, reached_60 INT64!, repurchase_rate_60 FLOAT64, eligible_90 INT64!,
        reached_90 INT64!, repurchase_rate_90 FLOAT64, eligible_180 INT64!, reached_180 INT64!,
        repurchase_rate_180 FLOAT64, p25_days INT64, median_days INT64, p75_days INT64,
        p90_days INT64, mean_days NUMERIC, km_median_days INT64""",
    "metrics_products": """
        product_id STRING!, brand STRING, category_lvl_1 STRING, category_lvl_2 STRING,
        events INT64!, views INT64!, cart_adds INT64!, cart_removes INT64!, purchases INT64!,
        orders INT64!, carters INT64!, buyers INT64!, repeat_buyers INT64!, revenue NUMERIC!,
        view_to_cart_rate FLOAT64, view_to_purchase_rate FLOAT64, cart_to_purchase_rate FLOAT64,
        repeat_buyer_rate FLOAT64, first_event_date DATE!, last_event_date DATE!,
        last_purchase_date DATE, min_price NUMERIC!, max_price NUMERIC!, revenue_rank INT64!,
        revenue_share FLOAT64, cumulative_share FLOAT64, abc_class STRING!""",
    "metrics_brands": """
        brand STRING!, products INT64!, events INT64!, views INT64!, cart_adds INT64!,
        cart_removes INT64!, purchases INT64!, orders INT64!, carters INT64!, buyers INT64!,
        repeat_buyers INT64!, revenue NUMERIC!, view_to_cart_rate FLOAT64,
        view_to_purchase_rate FLOAT64, cart_to_purchase_rate FLOAT64, repeat_buyer_rate FLOAT64,
        first_event_date DATE!, last_event_date DATE!, last_purchase_date DATE,
        revenue_rank INT64!, revenue_share FLOAT64, cumulative_share FLOAT64, abc_class STRING!""",
    "fct_carts": """
        user_id STRING!, session_id STRING!, product_id STRING!, cart_date DATE!,
        first_added_time TIMESTAMP!, last_added_time TIMESTAMP!, additions INT64!,
        removals INT64!, price NUMERIC!, status STRING!, resolved_time TIMESTAMP""",
    "metrics_carts": """
        period STRING!, period_start DATE, category_lvl_1 STRING, lines INT64!, carts INT64!,
        users INT64!, purchased INT64!, removed INT64!, carried_over INT64!, recovered INT64!,
        open INT64!, abandoned INT64!, cart_value NUMERIC!, purchased_value NUMERIC!,
        recovered_value NUMERIC!, abandoned_value NUMERIC!, abandonment_rate FLOAT64,
        recovery_rate FLOAT64""",
    "metrics_product_pairs": """
        basis STRING!, product_a STRING!, product_b STRING!, baskets_a INT64!, baskets_b INT64!,
        together INT64!, baskets INT64!, support FLOAT64, confidence_ab FLOAT64,
        confidence_ba FLOAT64, lift FLOAT64""",
    "snap_user_rfm": """
        user_id STRING!, valid_from DATE!, valid_to DATE, is_current BOOL!,
        recency_score INT64!, frequency_score INT64!, monetary_score INT64!, rfm_score INT64!,
        rfm_segment STRING!, previous_segment STRING""",
    "snap_user_status": """
        user_id STRING!, valid_from DATE!, valid_to DATE, is_current BOOL!,
        activity_status STRING!, is_churned INT64!, purchase_count INT64!, order_count INT64!,
        customer_ltv NUMERIC, customer_lifecycle_stage STRING!, previous_status STRING""",
    "metrics_segment_history": """
        snapshot_date DATE!, dimension STRING!, value STRING!, customers INT64!,
        churned_customers INT64!, purchases INT64!, orders INT64!, revenue NUMERIC!,
        purchases_since INT64!, revenue_since NUMERIC!, entered INT64!, customer_share FLOAT64,
        revenue_share FLOAT64""",
    "metrics_segment_migration": """
        period STRING!, snapshot_date DATE!, dimension STRING!, from_value STRING!,
        to_value STRING!, customers INT64!, purchases INT64!, revenue NUMERIC!,
        from_share FLOAT64, to_share FLOAT64""",
    "metrics_funnels": """
        funnel STRING!, breakdown STRING!, value STRING!, step_number INT64!, step_name STRING!,
        entities INT64!, users INT64!, open_entities INT64!, conversion_from_start FLOAT64,
        conversion_from_previous FLOAT64, conversion_low FLOAT64, conversion_high FLOAT64,
        closed_conversion_from_start FLOAT64, p25_seconds INT64, median_seconds INT64,
        p75_seconds INT64, p90_seconds INT64, mean_seconds NUMERIC""",
    "metrics_anomalies": """
        metric STRING!, dimension STRING!, value STRING!, event_date DATE!, actual NUMERIC!,
        baseline_days INT64!, expected NUMERIC, scale NUMERIC, lower NUMERIC, upper NUMERIC,
        score FLOAT64, is_anomaly BOOL!, direction STRING, status STRING!""",
    "rejected_rows": """
        run_id STRING!, source_file STRING!, byte_offset INT64!, reason STRING!, raw STRING!""",
    "data_quality": """
        run_id STRING!, table_name STRING!, check_name STRING!, severity STRING!,
        failing_rows INT64!, passed BOOL!""",
    "pipeline_runs": """
        run_id STRING!, started_at TIMESTAMP!, finished_at TIMESTAMP, published_at TIMESTAMP,
        status STRING!, as_of DATE, inputs STRING!, rows_read INT64!, events_kept INT64!,
        after_as_of_rows INT64!,
        duplicate_rows INT64!, multi_brand_product_rows INT64!, missing_session_rows INT64!,
        rejected_rows INT64!, rejected_by_reason STRING!, table_rows STRING!, options STRING!,
        code_version STRING!, input_fingerprint STRING, input_files INT64, new_files INT64,
        changed_files INT64, missing_files INT64, config STRING, config_sha256 STRING""",
}
KEYS = {
    "model_clv": ("fit", "model"),
    "metrics_clv_validation": ("model",),
    "metrics_clv_deciles": ("model", "decile"),
    "metrics_clv_frequency": ("model", "frequency"),
    "metrics_clv_predictions": ("dimension", "value"),
    "dim_user_clv": ("user_id",),
    "fct_events": ("event_id",),
    "fct_sessions": ("session_id",),
    "fct_orders": ("order_id",),
    "fct_user_days": ("user_id", "event_date"),
    "metrics_lifecycle": ("activity", "period", "period_start"),
    "metrics_active_users": ("activity", "event_date"),
    "metrics_stickiness": ("activity", "period", "period_start", "active_days"),
    "metrics_cohort_retention": (
        *("cohort_by", "activity", "method", "period", "cohort_start", "period_number"),
    ),
    "metrics_repeat_purchase": ("cohort_start", "purchase_number"),
    "dim_users": ("user_id",),
    "dim_user_rfm": ("user_id",),
    "dim_products": ("product_id",),
    "dim_categories": ("raw_category_id",),
    "metrics_churn": ("metric_level", "time_period"),
    "metrics_funnel": ("dimension", "value"),
    "metrics_rfm_segments": ("rfm_segment",),
    "metrics_categories": ("level", "category_lvl_1", "category_lvl_2"),
    "metrics_category_rfm": ("category_lvl_1", "rfm_segment"),
    "metrics_periods": ("period", "period_start"),
    "metrics_user_segments": ("dimension", "value"),
    "metrics_rfm_grid": ("recency_score", "frequency_score"),
    "metrics_products": ("product_id",),
    "metrics_brands": ("brand",),
    "fct_carts": ("user_id", "session_id", "product_id"),
    "metrics_product_pairs": ("basis", "product_a", "product_b"),
    "metrics_carts": ("period", "period_start", "category_lvl_1"),
    "snap_user_rfm": ("user_id", "valid_from"),
    "snap_user_status": ("user_id", "valid_from"),
    "metrics_segment_history": ("snapshot_date", "dimension", "value"),
    "metrics_segment_migration": (
        *("period", "snapshot_date", "dimension", "from_value", "to_value"),
    ),
    "metrics_funnels": ("funnel", "breakdown", "value", "step_number"),
    "metrics_anomalies": ("metric", "dimension", "value", "event_date"),
    "rejected_rows": ("run_id", "source_file", "byte_offset"),
    "data_quality": ("run_id", "table_name", "check_name"),
    "pipeline_runs": ("run_id",),
}
PARTITIONS = {
    "fct_events": "event_date",
    "fct_sessions": "session_start_date",
    "fct_orders": "order_date",
    "fct_carts": "cart_date",
    "fct_user_days": "event_date",
    "snap_user_rfm": "valid_from",
    "snap_user_status": "valid_from",
}
CLUSTERS = {
    "dim_user_clv": ("clv_decile",),
    "fct_events": ("user_id",),
    "fct_sessions": ("user_id",),
    "fct_orders": ("user_id",),
    "fct_carts": ("user_id",),
    "fct_user_days": ("user_id",),
    "dim_users": ("user_id",),
    "dim_user_rfm": ("rfm_segment",),
    "metrics_products": ("product_id",),
    "metrics_product_pairs": ("product_a",),
    "snap_user_rfm": ("user_id",),
    "snap_user_status": ("user_id",),
}
APPENDED = {"rejected_rows", "data_quality", "pipeline_runs"}


def test_the_tables_are_those_of_the_contract():
    assert [table.name for table in TABLES if table.name not in COLUMNS] == []
    assert set(TABLES_BY_NAME) == set(COLUMNS)


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_have_the_names_types_and_nullability_of_the_contract(name):
    found = [
        f"{column.name} {column.type.value}{'!' if column.required else ''}"
        for column in TABLES_BY_NAME[name].columns
    ]
    assert found == re.split(r",\s+", COLUMNS[name].strip())


@pytest.mark.parametrize("name", COLUMNS)
def test_keys_and_layout_are_those_of_the_contract(name):
    table = TABLES_BY_NAME[name]
    assert table.key == KEYS[name]
    assert table.partition_by == PARTITIONS.get(name)
    assert table.cluster_by == CLUSTERS.get(name, ())
    assert table.appended == (name in APPENDED)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_table_and_column_is_described(table):
    assert table.grain.startswith("one row ")
    for column in table.columns:
        assert column.description.endswith("."), column.name
    assert {*table.key, *table.cluster_by} <= set(table.column_names)
    assert len(set(table.column_names)) == len(table.columns)
    checks = [check.name for check in table.row_checks]
    assert len(set(checks)) == len(checks)


def test_conform_orders_and_types_the_columns():
    table = TABLES_BY_NAME["metrics_category_rfm"]
    frame = pl.DataFrame(
        {"revenue": ["1.5"], "purchases": [2], "rfm_segment": ["Lost"], "category_lvl_1": ["a"]},
        schema_overrides={"purchases": pl.UInt8(), "rfm_segment": pl.Categorical()},
    )
    conformed = table.conform(frame.with_columns(extra=1))
    assert conformed.columns == list(table.column_names)
    assert conformed.schema["purchases"] == pl.Int64
    assert conformed.schema["revenue"] == ColumnType.NUMERIC.polars
    with pytest.raises(pl.exceptions.ColumnNotFoundError):
        table.conform(frame.drop("revenue"))
