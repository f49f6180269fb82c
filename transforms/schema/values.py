"""The values that columns may hold, and the bounds of classes: the only place that has them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, get_args

EVENT_TYPES: Final = ("view", "cart", "remove_from_cart", "purchase")

FUNNEL_STAGES: Final = ("purchase", "cart", "view", "no_activity")
"""How far a session went, the furthest first."""

QUALITY_TIERS: Final = ("Low", "Medium", "High")


class TierBounds(NamedTuple):
    """Where a quality tier of sessions ends.

    Attributes:
        seconds: Length of the session.
        events: Its events.
    """

    seconds: int
    events: int


LOW_TIER_BELOW: Final = TierBounds(seconds=150, events=3)
"""A session below either is `Low`."""

MEDIUM_TIER_UP_TO: Final = TierBounds(seconds=600, events=10)
"""Of the others, a session above either is `High`."""

LENGTH_BUCKET_UP_TO: Final[Mapping[str, int | None]] = MappingProxyType(
    {
        "Very Short (0-60s)": 60,
        "Short (61-300s)": 300,
        "Medium (301-600s)": 600,
        "Long (600+s)": None,
    }
)
"""The most seconds of a session of each bucket, ascending."""

LENGTH_BUCKETS: Final = tuple(LENGTH_BUCKET_UP_TO)


def bounds_of(classes: Mapping[str, int | None]) -> str:
    """The classes as text, each with the most that it holds.

    >>> bounds_of({"few": 2, "many": None})
    'few up to 2, many above'
    """
    return ", ".join(
        f"{name} above" if most is None else f"{name} up to {most}"
        for name, most in classes.items()
    )


ACTIVITY_STATUSES: Final = ("active", "declining", "at_risk", "churned", "prospect")

LIFECYCLE_STAGE_UP_TO: Final[Mapping[str, int | None]] = MappingProxyType(
    {"Prospect": 0, "First-Time Buyer": 1, "Repeat Customer": 5, "Loyal Customer": None}
)
"""The most purchases, or orders, of a customer of each stage, ascending."""

LIFECYCLE_STAGES: Final = tuple(LIFECYCLE_STAGE_UP_TO)

RFM_TILES: Final = 5
SCORES: Final = tuple(range(1, RFM_TILES + 1))


class SegmentRule(NamedTuple):
    """Which customers are of an RFM segment: those whose scores all lie in its ranges.

    Attributes:
        segment: Its name.
        recency: The smallest and the largest recency score.
        frequency: The same of the frequency score.
        monetary: The same of the monetary score.
    """

    segment: str
    recency: tuple[int, int] = (1, RFM_TILES)
    frequency: tuple[int, int] = (1, RFM_TILES)
    monetary: tuple[int, int] = (1, RFM_TILES)


SEGMENT_RULES: Final = (
    SegmentRule("Champions", recency=(4, 5), frequency=(4, 5), monetary=(4, 5)),
    SegmentRule("At Risk", recency=(1, 2), frequency=(4, 5), monetary=(4, 5)),
    SegmentRule("Loyal Customers", recency=(4, 5), frequency=(3, 5)),
    SegmentRule("Potential Loyalists", recency=(3, 5), frequency=(3, 5)),
    SegmentRule("Recent Customers", recency=(4, 5), frequency=(1, 2)),
    SegmentRule("Promising", recency=(3, 3), frequency=(1, 2)),
    SegmentRule("About To Sleep", recency=(1, 2), frequency=(3, 5)),
    SegmentRule("Lost", recency=(1, 2), frequency=(1, 2), monetary=(1, 2)),
    SegmentRule("Needs Attention"),
)
"""The first rule that fits decides; the last one fits all."""


def segments_by_scores() -> str:
    """The rules of the segments as text."""

    def scores(smallest: int, largest: int) -> str:
        return str(smallest) if smallest == largest else f"{smallest}-{largest}"

    rules = (
        f"{segment} {' '.join(scores(*bounds) for bounds in ranges)}"
        for segment, *ranges in SEGMENT_RULES
    )
    return "; ".join(rules)


RFM_SEGMENTS: Final = (
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
"""The segments, the best customers first."""

NO_RFM_SEGMENT: Final = "No RFM Score"
"""Stands for the segment of a user without a purchase."""

UNKNOWN_CATEGORY: Final = "unknown"

UNKNOWN_BRAND: Final = "unknown"

ABC_CLASSES: Final = ("A", "B", "C")
"""Products or brands by what they earn: those of the first 80 % of all revenue, of 15 % more, and
the rest."""

ANOMALY_METRICS: Final = (
    "revenue",
    "orders",
    "purchases",
    "sessions",
    "users",
    "events",
    "conversion_rate",
    "avg_basket_value",
    "view_to_cart_rate",
)
"""What each day is judged by; each category by the first three of them."""

ANOMALY_STATUSES: Final = ("ok", "anomaly", "too_little_history", "incomplete_day")

NULL_WORDS: Final = ("nan", "null", "none", "\\n")
"""Words, in lower case, that programs write where they mean no value; the last one is `\\N`."""

NULL_WORD_COLUMNS: Final = ("brand", "category_code", "user_session")
"""Columns in which such words are looked for."""

CATEGORY_LEVELS: Final = tuple(f"category_lvl_{level}" for level in range(1, 5))

REJECT_REASONS: Final = (
    "malformed_row",
    "bad_event_time",
    "bad_event_type",
    "bad_product_id",
    "bad_category_id",
    "bad_price",
    "bad_user_id",
    "bad_user_session",
)
"""Why a row is rejected, in the order in which the reasons are tried."""

FUNNEL_DIMENSIONS: Final = (
    "overall",
    "session_start_date",
    "session_quality_tier",
    "session_length_bucket",
    "customer_lifecycle_stage",
    "activity_status",
    "rfm_segment",
)

Period = Literal["day", "week", "month"]

PERIODS: Final[tuple[Period, ...]] = get_args(Period)

CART_STATUSES: Final = ("purchased", "removed", "carried_over", "recovered", "open", "abandoned")
"""What becomes of a line of a cart, in the order in which they are tried."""

CART_VALUE_STATUSES: Final = ("purchased", "recovered", "abandoned")
"""Those whose value is told in metrics_carts."""

CART_RECOVERY_DAYS: Final = 7
"""Days after the last addition within which a line may be carried on or recovered."""

BASKETS_BY: Final = ("order", "session")
"""What makes a basket: an order, or what is bought in a session."""

MOST_BASKET_PRODUCTS: Final = 100
"""Distinct products of a basket beyond which they are not paired."""

CART_PERIODS: Final = ("all", *PERIODS)

Activity = Literal["visit", "purchase"]

ACTIVITIES: Final[tuple[Activity, ...]] = get_args(Activity)
"""What makes a user active on a day: any kept event, or a purchase."""

CohortBy = Literal["first_visit", "first_purchase"]

COHORTS_BY: Final[tuple[CohortBy, ...]] = get_args(CohortBy)
"""Whose date puts a user into a cohort."""

RetentionMethod = Literal["calendar", "rolling", "bracket"]

RETENTION_METHODS: Final[tuple[RetentionMethod, ...]] = get_args(RetentionMethod)
"""How the time since a user's start is cut: by periods, by one length, by brackets."""

ROLLING_DAYS: Final[Mapping[Period, int]] = MappingProxyType({"week": 7, "month": 30})
"""The days of a rolling window."""

BRACKETS_UP_TO: Final = (0, 7, 30, 60, 90, 180, 365)
"""The last day of each bracket, counted from a user's start."""

ACTIVE_WINDOW_DAYS: Final[Mapping[str, int]] = MappingProxyType(
    {"daily": 1, "weekly": 7, "monthly": 28}
)
"""Days, the last one included, in which users are counted as active: 28 are whole weeks."""

REPURCHASE_WINDOW_DAYS: Final = (30, 60, 90, 180)
"""Days within which the next purchase is waited for."""

LAST_PURCHASE_NUMBER: Final = 10
"""The last occasion of which metrics_repeat_purchase tells."""

HISTORY_DIMENSIONS: Final = (
    "overall",
    "rfm_segment",
    "activity_status",
    "customer_lifecycle_stage",
)
"""What customers of a snapshot are split by."""

MIGRATION_DIMENSIONS: Final = ("rfm_segment", "activity_status")
MIGRATION_PERIODS: Final = ("week", "month")

NEW_CUSTOMER: Final = "New"
"""Stands for the value, before, of a user without an event by then."""


CLV_FREQUENCY_MODELS = ("bg_nbd", "mbg_nbd")
CLV_SPEND_MODEL = "gamma_gamma"
CLV_BASELINE = "past_rate"
CLV_FITS = ("calibration", "final")
CLV_STATUSES = ("ok", "not_converged", "boundary", "too_few_customers", "no_holdout")
CLV_HORIZONS = (30, 90, 365)
"""Days ahead that are predicted."""

CLV_INTERVAL_DAYS = 90
"""The horizon whose purchases of all customers have an interval."""

CLV_DECILES = 10
CLV_MOST_FREQUENT = 7
"""Repeat purchases from which on customers share a row of metrics_clv_frequency."""

CLV_MOST_CORRELATION = 0.3
"""Correlation of purchases and their value beyond which gamma_gamma is to be doubted."""
