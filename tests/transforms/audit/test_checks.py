"""The audit: every check can fail."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import polars as pl
import pytest

from transforms.audit.balance import (
    ARRIVED_CHECKSUM,
    DROP_REASONS,
    PARSED_CHECKSUM,
    check_arrival,
    check_balance,
    counted,
    require_few_rejected,
    total_counts,
)
from transforms.audit.checks import CHECKED, check_batch, quality_table, require_passed
from transforms.audit.measures import MEASURED, check_measures, measure_batch
from transforms.errors import RunError
from transforms.schema import (
    CART_STATUSES,
    REPURCHASE_WINDOW_DAYS,
    TABLES,
    TABLES_BY_NAME,
    Column,
    ColumnType,
    Severity,
    Table,
)

TIME = datetime(2019, 10, 1, 12, tzinfo=UTC)
VALUES = {
    ColumnType.STRING: "x",
    ColumnType.INT64: 1,
    ColumnType.FLOAT64: 0.5,
    ColumnType.NUMERIC: Decimal(1),
    ColumnType.BOOL: True,
    ColumnType.DATE: TIME.date(),
    ColumnType.TIMESTAMP: TIME,
}
SOUND = {
    "fct_events": {"is_cart_add": 0, "is_cart_remove": 0, "is_purchase": 0, "revenue": None},
    "fct_sessions": {
        **dict.fromkeys(("view_count", "cart_additions", "cart_removals"), 0),
    },
    "fct_orders": {"is_first_order": True, "days_since_previous_order": None},
    "fct_user_days": {"views": 0, "cart_adds": 0, "cart_removes": 0},
    **{
        name: {"views": 0, "cart_adds": 0, "cart_removes": 0}
        for name in ("metrics_products", "metrics_brands")
    },
    "fct_carts": {"resolved_time": None},
    "metrics_carts": dict.fromkeys(CART_STATUSES[1:], 0),
    "dim_users": {"data_quality_flag": None, "avg_items_per_order": 1.0},
    "metrics_lifecycle": {"retained_users": 0, "resurrected_users": 0, "dormant_users": 0},
    "dim_user_rfm": {"rfm_score": 15},
    "metrics_anomalies": {"status": "anomaly"},
    "model_clv": {"status": "ok", "spend_frequency_correlation": -0.3},
    "snap_user_rfm": {"rfm_score": 15, "valid_to": date(2019, 10, 2), "is_current": False},
    "snap_user_status": {
        "activity_status": "churned",
        "valid_to": date(2019, 10, 2),
        "is_current": False,
    },
}
# A row for every check of rows: what to change in a sound one, so that it breaks this rule.
BREAKING = {
    ("model_clv", "status_ok"): {"model": "mbg_nbd", "status": "boundary"},
    ("model_clv", "spend_independent_of_frequency"): {"spend_frequency_correlation": -0.300001},
    ("metrics_clv_validation", "selected_passed"): {"passed": False},
    ("dim_user_clv", "recency_within_age"): {"recency_days": 2},
    ("dim_user_clv", "probability_up_to_1"): {"p_alive": 1.000001},
    ("dim_user_clv", "predictions_of_a_valid_model_only"): {
        "model_status": "failed_validation: bias"
    },
    ("fct_events", "event_date_of_event_time"): {"event_date": date(2019, 10, 2)},
    ("fct_events", "revenue_of_purchases_only"): {"revenue": Decimal(1)},
    ("fct_events", "one_event_flag"): {"is_cart_add": 1},
    ("fct_events", "zero_price_purchase"): {
        "is_view": 0,
        "is_purchase": 1,
        "price": Decimal(0),
        "revenue": Decimal(0),
    },
    ("fct_sessions", "session_end_not_before_start"): {
        "session_end_time": TIME - timedelta(seconds=1)
    },
    ("fct_sessions", "event_count_of_types"): {"view_count": 1},
    ("fct_sessions", "revenue_of_converting_sessions_only"): {"total_revenue": None},
    ("dim_users", "last_event_not_before_first"): {"last_event_time": TIME - timedelta(seconds=1)},
    ("dim_users", "last_purchase_not_before_first"): {"last_purchase_date": date(2019, 9, 30)},
    ("dim_users", "revenue_of_purchasers_only"): {"has_purchase_history": False},
    ("dim_users", "ltv_equals_revenue"): {"customer_ltv": Decimal(2)},
    ("dim_users", "missing_sessions"): {"data_quality_flag": "missing_sessions"},
    ("dim_users", "anomalous_session_ratio"): {"data_quality_flag": "anomalous_session_ratio"},
    ("dim_users", "activity_after_as_of"): {"days_since_last_activity": -1},
    ("fct_orders", "first_order_has_none_before"): {"days_since_previous_order": 1},
    ("fct_orders", "products_are_items"): {"product_count": 2},
    ("fct_orders", "order_date_of_order_time"): {"order_date": date(2019, 10, 2)},
    ("fct_orders", "first_order_is_first"): {"order_number": 2},
    ("fct_user_days", "events_of_types"): {"views": 1},
    ("fct_user_days", "orders_of_purchases"): {"orders": 2},
    ("fct_user_days", "revenue_of_purchases_only"): {"purchases": 0, "views": 1, "orders": 0},
    ("dim_users", "orders_of_purchasers_only"): {"order_count": 0},
    ("dim_users", "purchases_of_orders_of_days"): {"purchase_day_count": 2},
    ("metrics_lifecycle", "active_users_add_up"): {"active_users": 2},
    ("metrics_lifecycle", "net_users_add_up"): {"net_users": 2},
    ("metrics_active_users", "wider_windows_have_more_users"): {"daily_users": 2},
    ("metrics_stickiness", "users_are_at_least"): {"users": 2},
    ("metrics_cohort_retention", "retained_users_are_eligible"): {"retained_users": 2},
    ("metrics_cohort_retention", "cumulative_revenue_has_windows"): {"revenue": Decimal(2)},
    ("metrics_cohort_retention", "is_complete_where_all_are_eligible"): {"is_complete": False},
    ("metrics_repeat_purchase", "reached_were_at_risk"): {"reached": 2},
    **{
        ("metrics_repeat_purchase", f"reached_{days}_were_eligible"): {f"reached_{days}": 2}
        for days in REPURCHASE_WINDOW_DAYS
    },
    ("metrics_repeat_purchase", "days_ascend"): {"p25_days": 2},
    **{
        (table, check): change
        for table in ("metrics_products", "metrics_brands")
        for check, change in (
            ("events_of_types", {"views": 1}),
            ("orders_of_purchases", {"orders": 2}),
            ("repeat_buyers_are_buyers", {"repeat_buyers": 2}),
            ("last_purchase_of_purchases", {"last_purchase_date": None}),
        )
    },
    ("fct_carts", "cart_date_of_first_addition"): {"cart_date": date(2019, 10, 2)},
    ("fct_carts", "additions_in_order"): {"last_added_time": TIME - timedelta(seconds=1)},
    ("fct_carts", "resolved_by_status"): {"status": "recovered", "resolved_time": None},
    ("metrics_carts", "statuses_add_up"): {"purchased": 0},
    ("metrics_carts", "carts_of_lines"): {"carts": 2},
    ("metrics_carts", "users_of_carts"): {"users": 2},
    ("metrics_product_pairs", "together_within_each"): {"together": 2, "baskets": 2},
    ("metrics_product_pairs", "each_within_all"): {"baskets_b": 2},
    ("metrics_products", "prices_in_order"): {"max_price": Decimal("0.5")},
    ("metrics_anomalies", "anomaly_by_status"): {"status": "ok"},
    ("metrics_anomalies", "direction_of_anomalies"): {"direction": None},
    ("metrics_anomalies", "bounds_in_order"): {"lower": Decimal(2)},
    ("metrics_funnels", "users_have_entities"): {"users": 2},
    ("metrics_funnels", "open_entities_are_entities"): {"open_entities": 2},
    ("metrics_funnels", "conversion_is_in_its_interval"): {"conversion_low": 0.6},
    ("metrics_funnels", "seconds_ascend"): {"p25_seconds": 2},
    ("dim_user_rfm", "score_is_sum"): {"rfm_score": 4},
    ("snap_user_rfm", "valid_to_after_valid_from"): {"valid_to": date(2019, 10, 1)},
    ("snap_user_rfm", "current_without_valid_to"): {"is_current": True},
    ("snap_user_rfm", "score_is_sum"): {"rfm_score": 4},
    ("snap_user_status", "valid_to_after_valid_from"): {"valid_to": date(2019, 10, 1)},
    ("snap_user_status", "current_without_valid_to"): {"valid_to": None},
    ("snap_user_status", "churned_by_status"): {"is_churned": 0},
    ("snap_user_status", "revenue_of_purchasers_only"): {"purchase_count": 0, "order_count": 0},
    ("snap_user_status", "orders_within_purchases"): {"order_count": 2},
    ("metrics_segment_history", "churned_within_customers"): {"churned_customers": 2},
    ("metrics_segment_history", "entered_within_customers"): {"entered": 2},
    ("metrics_segment_history", "purchases_since_within_all"): {"purchases_since": 2},
}


def value_of(column: Column):
    return column.accepted[-1] if column.accepted else VALUES[column.type]


def frame_of(table: Table, *changes: dict[str, object]) -> pl.DataFrame:
    """Rows that keep every rule, but for the changes."""
    sound = {column.name: value_of(column) for column in table.columns}
    rows = [{**sound, **SOUND.get(table.name, {}), **change} for change in changes or ({},)]
    return pl.DataFrame(rows, schema=table.polars_schema())


def failing(table: Table, frame: pl.DataFrame) -> dict[str, int]:
    return {check: rows for _, check, _, rows in check_batch(table, frame, {}).iter_rows() if rows}


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_sound_batch_passes_every_check(table):
    checks = check_batch(table, frame_of(table), {})
    assert checks.schema == CHECKED
    assert checks.filter(pl.col("failing_rows") > 0).is_empty(), checks
    assert failing(table, table.empty_frame()) == {}
    assert set(checks["table_name"]) == {table.name}


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_checks_of_columns_can_fail(table):
    for column in table.columns:
        if column.required:
            found = failing(table, frame_of(table, {}, {column.name: None}))
            assert found[f"not_null_{column.name}"] == 1
        if column.accepted:
            other = -1 if column.type is ColumnType.INT64 else "no such value"
            found = failing(table, frame_of(table, {column.name: other}, {}, {column.name: other}))
            assert found[f"accepted_{column.name}"] == 2
        if column.minimum is not None:
            below = {column.name: column.minimum - 1}
            assert failing(table, frame_of(table, below))[f"minimum_{column.name}"] == 1
            least = {column.name: column.minimum}
            assert f"minimum_{column.name}" not in failing(table, frame_of(table, least))


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_keys_must_be_unique(table):
    assert failing(table, frame_of(table, {}, {}, {}))["unique_key"] == 2
    if table.name == "metrics_categories":
        nulls = frame_of(table, {"category_lvl_2": None}, {"category_lvl_2": None})
        assert failing(table, nulls)["unique_key"] == 1


def test_every_check_of_rows_is_tried_here():
    assert {(table.name, check.name) for table in TABLES for check in table.row_checks} == set(
        BREAKING
    )


@pytest.mark.parametrize(("table", "check"), BREAKING, ids="/".join)
def test_checks_of_rows_can_fail(table, check):
    table = TABLES_BY_NAME[table]
    assert failing(table, frame_of(table, BREAKING[table.name, check]))[check] == 1


def test_text_that_is_dictionary_encoded_is_checked_as_text():
    table = TABLES_BY_NAME["fct_events"]
    frame = frame_of(table, {}, {"event_type": "look"})
    encoded = frame.with_columns(pl.col("event_type").cast(pl.Categorical))
    assert failing(table, encoded) == {"accepted_event_type": 1, "unique_key": 1}


# Sums across tables -------------------------------------------------------------------------------


def measured(**changes: int) -> pl.DataFrame:
    """The measures of all tables, 5 each but for changes named table__measure."""
    rows = [
        (table.name, measure, Decimal(changes.get(f"{table.name}__{measure}", 5)))
        for table in TABLES
        for measure in table.measures
    ]
    return pl.DataFrame(rows, schema=MEASURED, orient="row")


def test_equal_measures_pass_and_add_up_over_batches():
    twice = pl.concat([measured(), measured(fct_events__revenue=7, fct_sessions__revenue=8)])
    failed = check_measures(twice).filter(pl.col("failing_rows") > 0)
    assert "revenue_as_in_fct_events" in failed["check_name"].to_list()
    assert check_measures(measured())["failing_rows"].sum() == 0
    assert check_measures(pl.DataFrame(schema=MEASURED))["failing_rows"].sum() == 0


@pytest.mark.parametrize(
    ("table", "measure"),
    [(table.name, measure) for table in TABLES for measure in table.measures],
)
def test_a_measure_that_differs_in_one_table_fails(table, measure):
    failed = check_measures(measured(**{f"{table}__{measure}": 6})).filter(
        pl.col("failing_rows") > 0
    )
    assert failed.height >= 1
    assert all(name.startswith(f"{measure}_as_in_") for name in failed["check_name"])


def test_revenue_of_events_sessions_and_users_is_compared_to_the_last_digit():
    money = Decimal("12345678901234567890.123456789")
    frames = {
        "fct_events": {"is_view": 0, "is_purchase": 1, "price": money, "revenue": money},
        "fct_sessions": {"total_revenue": money},
        "dim_users": {"total_revenue": money - Decimal("0.000000001")},
    }
    parts = [
        measure_batch(TABLES_BY_NAME[name], frame_of(TABLES_BY_NAME[name], row))
        for name, row in frames.items()
    ]
    rows = check_measures(pl.concat(parts)).filter(check_name="revenue_as_in_fct_events")
    by_table = dict(rows.select("table_name", "failing_rows").iter_rows())
    assert by_table["fct_sessions"] == 0
    assert by_table["dim_users"] == 1


# The balance and the verdict ----------------------------------------------------------------------

COUNTS = {
    "rows_read": 100,
    "events_kept": 78,
    "after_as_of": 2,
    "duplicate": 8,
    "multi_brand_product": 5,
    "missing_session": 4,
    "rejected": 3,
    "bad_price": 3,
}


def test_counts_add_up_and_missing_ones_are_nought():
    total = total_counts(pl.concat([counted(COUNTS), counted({"rows_read": 1})]))
    assert total["rows_read"] == 101
    assert total["bad_user_id"] == 0
    assert total_counts(counted({}))["events_kept"] == 0


@pytest.mark.parametrize("count", ["rows_read", "events_kept", *DROP_REASONS, "rejected"])
def test_the_balance_fails_where_any_count_is_off(count):
    assert check_balance(COUNTS)["failing_rows"].to_list() == [0]
    assert check_balance({**COUNTS, count: COUNTS[count] + 2})["failing_rows"].to_list() == [2]


def test_an_error_stops_the_run_and_a_warning_does_not():
    table = TABLES_BY_NAME["fct_events"]
    warned = check_batch(table, frame_of(table, BREAKING["fct_events", "zero_price_purchase"]), {})
    verdict = quality_table("run", [warned, warned])
    require_passed(verdict)
    row = verdict.filter(check_name="zero_price_purchase").row(0, named=True)
    assert row == {
        "run_id": "run",
        "table_name": "fct_events",
        "check_name": "zero_price_purchase",
        "severity": Severity.WARN.value,
        "failing_rows": 2,
        "passed": False,
    }
    broken = check_batch(table, frame_of(table, {"event_id": None}, {"price": Decimal(-1)}), {})
    with pytest.raises(RunError) as raised:
        require_passed(quality_table("run", [warned, broken]))
    assert "  fct_events: minimum_price (1 rows)\n" in str(raised.value)
    assert "  fct_events: not_null_event_id (1 rows)\n" in str(raised.value)
    assert "zero_price" not in str(raised.value)


def test_rejected_rows_up_to_the_ratio_pass():
    counts = total_counts(counted(COUNTS))

    def not_called() -> str:
        raise AssertionError

    require_few_rejected(counts, 0.03, not_called)
    require_few_rejected(total_counts(counted({})), 0, not_called)
    with pytest.raises(RunError) as raised:
        require_few_rejected(counts, 0.0299, lambda: "  bad_price: a.csv")
    first, *others = str(raised.value).splitlines()
    assert first == (
        "3 of 100 rows were rejected (3.00%), more than --max_rejected_ratio=0.0299 allows; "
        "nothing was published."
    )
    assert others == [
        "Reasons: bad_price 3",
        "The first of each (keep all by --rejected_to=FILE.csv):",
        "  bad_price: a.csv",
    ]


@pytest.mark.parametrize(
    ("parsed", "arrived", "failing"),
    [([5, 7], [12], 0), ([2**40 - 1, 3], [2], 0), ([5, 7], [11], 1), ([5], [], 1)],
)
def test_events_that_arrive_as_others_fail_the_audit(parsed, arrived, failing):
    counts = pl.concat(
        counted({name: value})
        for name, values in ((PARSED_CHECKSUM, parsed), (ARRIVED_CHECKSUM, arrived))
        for value in values
    )
    (row,) = check_arrival(total_counts(counts)).rows()
    assert row == ("fct_events", "every_event_arrives_as_parsed", "error", failing)
