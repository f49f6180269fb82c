"""Users, their scores and their cohorts, at the bounds of every rule."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.analytics.basket_events import BASKET_EVENTS
from transforms.analytics.catalogue import CATEGORY_CODES, PRODUCTS, catalogue
from transforms.analytics.category_exposures import EXPOSURES, PURCHASES
from transforms.analytics.metrics.churn import COHORT_SUMS, METRIC
from transforms.analytics.metrics.metric import Facts
from transforms.analytics.rfm import first_frequencies, segment
from transforms.analytics.users import SESSION_SUMS, DescribedUsers, describe_users
from transforms.columnar.money import MONEY
from transforms.rules import Rules, UserThresholds

AS_OF = date(2020, 4, 30)
NO_CATALOGUE = catalogue(PRODUCTS.to_frame(), CATEGORY_CODES.to_frame())
COMBINED = {
    "user_id": pl.Int64(),
    "user": pl.String(),
    "first_event_time": pl.Datetime("us", "UTC"),
    "last_event_time": pl.Datetime("us", "UTC"),
    "event_count": pl.Int64(),
    "first_purchase_date": pl.Date(),
    "last_purchase_date": pl.Date(),
    "purchase_count": pl.Int64(),
    "order_count": pl.Int64(),
    "purchase_day_count": pl.Int64(),
    "frequency": pl.Int64(),
    "first_order_value": MONEY,
    "total_revenue": MONEY,
    **{name: MONEY if name == "session_revenue" else pl.Int64() for name in SESSION_SUMS},
}


def described(
    *,
    activity: int = 0,
    purchase: int | None = None,
    lifespan: int = 0,
    purchases: int = 1,
    orders: int | None = None,
    events: int = 9,
    sessions: int = 1,
    revenue: str = "1",
    **thresholds: int,
) -> dict[str, object]:
    """A user that was last active and last bought so many days before as_of."""
    bought = None if purchase is None else AS_OF - timedelta(days=purchase)
    last = datetime.combine(AS_OF - timedelta(days=activity), datetime.max.time(), UTC)
    row = {
        "user_id": 7,
        "user": "7",
        "first_event_time": last - timedelta(days=300),
        "last_event_time": last,
        "event_count": events,
        "first_purchase_date": bought and bought - timedelta(days=lifespan),
        "last_purchase_date": bought,
        "purchase_count": purchases if bought else 0,
        "order_count": (orders or purchases) if bought else 0,
        "purchase_day_count": 1 if bought else 0,
        "frequency": purchases if bought else 0,
        "first_order_value": Decimal(revenue) if bought else None,
        "total_revenue": Decimal(revenue) if bought else None,
        **dict.fromkeys(SESSION_SUMS, 0),
        "sessions": sessions,
    }
    frame = pl.DataFrame([row], schema=COMBINED)
    return describe_users(frame, AS_OF, UserThresholds(**thresholds)).row(0, named=True)


@pytest.mark.parametrize(
    ("activity", "purchase", "status"),
    [
        (0, None, "prospect"),
        (999, None, "prospect"),
        (0, 0, "active"),
        (30, 30, "active"),
        (31, 31, "declining"),
        (0, 45, "declining"),
        (0, 46, "at_risk"),
        (60, 61, "at_risk"),
        (60, 60, "at_risk"),
        (61, 61, "churned"),
        (0, 200, "at_risk"),
    ],
)
def test_the_activity_status_changes_beyond_its_threshold(activity, purchase, status):
    row = described(activity=activity, purchase=purchase)
    assert row["activity_status"] == status
    assert row["is_churned"] == (status == "churned")
    assert row["days_since_last_activity"] == activity
    assert row["days_since_last_purchase"] == purchase


def test_the_thresholds_are_options():
    row = described(activity=6, purchase=6, churn_days=5, at_risk_days=90, declining_days=90)
    assert row["activity_status"] == "churned"
    row = described(purchase=6, churn_days=90, at_risk_days=5, declining_days=90)
    assert row["activity_status"] == "at_risk"
    row = described(purchase=6, churn_days=90, at_risk_days=90, declining_days=5)
    assert row["activity_status"] == "declining"


@pytest.mark.parametrize(
    ("purchases", "stage"),
    [
        (0, "Prospect"),
        (1, "First-Time Buyer"),
        (2, "Repeat Customer"),
        (5, "Repeat Customer"),
        (6, "Loyal Customer"),
    ],
)
def test_the_lifecycle_stage_follows_the_purchases(purchases, stage):
    row = described(purchase=1 if purchases else None, purchases=purchases)
    assert row["customer_lifecycle_stage"] == stage
    assert row["has_purchase_history"] == (purchases > 0)


@pytest.mark.parametrize(
    ("events", "sessions", "flag"),
    [
        (1, 0, "missing_sessions"),
        (200, 1, None),
        (201, 1, "anomalous_session_ratio"),
        (400, 2, None),
        (401, 2, "anomalous_session_ratio"),
    ],
)
def test_users_whose_figures_deserve_distrust_are_flagged(events, sessions, flag):
    assert described(events=events, sessions=sessions)["data_quality_flag"] == flag


def test_money_and_lifespan_of_a_buyer():
    row = described(purchase=1, purchases=3, revenue="10.000000001", lifespan=0)
    assert row["customer_ltv"] == row["total_revenue"] == Decimal("10.000000001")
    assert row["avg_order_value"] == Decimal("3.33")
    assert row["customer_lifespan_days"] == 1
    assert described(purchase=1, lifespan=40)["customer_lifespan_days"] == 40
    assert described(purchase=1, purchases=2, revenue="0.01")["avg_order_value"] == Decimal("0.01")
    prospect = described()
    for name in ("total_revenue", "customer_ltv", "avg_order_value", "customer_lifespan_days"):
        assert prospect[name] is None


# Scores -------------------------------------------------------------------------------------------

# The contract's table, the first match of (r, f, m).
SEGMENTS = (
    ("Champions", lambda r, f, m: r >= 4 and f >= 4 and m >= 4),
    ("At Risk", lambda r, f, m: r <= 2 and f >= 4 and m >= 4),
    ("Loyal Customers", lambda r, f, m: r >= 4 and f >= 3),
    ("Potential Loyalists", lambda r, f, m: r >= 3 and f >= 3),
    ("Recent Customers", lambda r, f, m: r >= 4 and f < 3),
    ("Promising", lambda r, f, m: r == 3 and f < 3),
    ("About To Sleep", lambda r, f, m: r <= 2 and f >= 3),
    ("Lost", lambda r, f, m: r <= 2 and f <= 2 and m <= 2),
    ("Needs Attention", lambda r, f, m: True),
)


def test_every_score_has_the_segment_of_the_contract():
    scores = [(r, f, m) for r in range(1, 6) for f in range(1, 6) for m in range(1, 6)]
    frame = pl.DataFrame(
        scores, schema=["recency_score", "frequency_score", "monetary_score"], orient="row"
    )
    expected = [next(name for name, rule in SEGMENTS if rule(*score)) for score in scores]
    assert frame.select(segment()).to_series().to_list() == expected
    assert set(expected) == {name for name, _ in SEGMENTS}


@given(st.lists(st.integers(1, 9), min_size=1, max_size=60), st.integers(1, 4))
def test_frequency_scores_are_fifths_of_the_percent_rank(purchases, shards):
    parts = [
        pl.DataFrame({"frequency": part}, {"frequency": pl.Int64()})
        .group_by("frequency")
        .agg(pl.len().cast(pl.Int64).alias("users"))
        .with_columns(snapshot=pl.lit(snapshot, pl.Int32))
        for shard in range(shards)
        for snapshot in (0, 3)
        if (part := purchases[shard::shards])
    ]
    first = first_frequencies(pl.concat(parts))
    others = len(purchases) - 1
    for snapshot in (0, 3):
        bounds = first.filter(pl.col("snapshot") == snapshot)["value"].to_list()
        for count in purchases:
            fewer = sum(other < count for other in purchases)
            fifths = 0 if others == 0 else 5 * fewer // others  # p < 0.2 is 5 * fewer < others
            assert 1 + sum(count >= bound for bound in bounds) == min(5, fifths + 1)


# Cohorts ------------------------------------------------------------------------------------------


def customers(*rows: tuple[str, str, int]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            (date.fromisoformat(first), date.fromisoformat(last), count)
            for first, last, count in rows
        ],
        schema={
            "first_purchase_date": pl.Date,
            "last_purchase_date": pl.Date,
            "frequency": pl.Int64,
        },
        orient="row",
    )


def churn_of(shards: list[pl.DataFrame], end: date | None, window_days: int) -> pl.DataFrame:
    """metrics_churn of shards of customers."""
    parts = [
        COHORT_SUMS.compute(
            DescribedUsers(
                users=buyers,
                buyers=buyers,
                exposures=EXPOSURES.to_frame(),
                purchases=PURCHASES.to_frame(),
                basket_events=BASKET_EVENTS.to_frame(),
                dataset_end=end,
                cohort_observation_window_days=window_days,
                catalogue=NO_CATALOGUE,
            )
        )
        for buyers in shards
    ]
    assert all(part.schema == COHORT_SUMS.schema for part in parts)
    return METRIC.finish(
        {COHORT_SUMS.name: COHORT_SUMS.merge(pl.concat(parts))}, Facts(NO_CATALOGUE, None, Rules())
    )


def test_cohorts_count_customers_whose_window_is_complete():
    frame = customers(
        ("2019-10-01", "2019-10-01", 1),
        ("2019-10-31", "2020-01-29", 2),  # again after 90 days: churned
        ("2019-10-31", "2020-01-30", 2),  # after 91: not
        ("2019-11-02", "2019-11-02", 1),  # 90 days before the end: eligible
        ("2019-11-03", "2020-01-31", 3),  # 89 days: not
        ("2020-01-31", "2020-01-31", 1),
    )
    end = date(2020, 1, 31)
    assert churn_of([frame.head(2), frame.tail(4)], end, 90).rows() == [
        (
            *("cohort_overall", "all_eligible_cohorts", 4, 3, 0.75),
            *(date(2019, 10, 1), date(2019, 11, 2)),
        ),
        (
            *("by_cohort_month", "2019-10-01", 3, 2, 0.6667),
            *(date(2019, 10, 1), date(2019, 10, 31)),
        ),
        (
            *("by_cohort_month", "2019-11-01", 1, 1, 1.0),
            *(date(2019, 11, 2), date(2019, 11, 2)),
        ),
    ]


def test_without_an_eligible_customer_there_is_one_row_of_nothing():
    for frame, end in ((customers(), None), (customers(("2020-01-01",) * 2 + (1,)), AS_OF)):
        assert churn_of([frame], end, 200).rows() == [
            ("cohort_overall", "all_eligible_cohorts", 0, 0, None, None, None)
        ]
