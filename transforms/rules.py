"""The options that decide values: defaults and bounds. Light to import, for the command line."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from transforms.funnels import DEFAULT_FUNNELS, Funnel

FrequencyUnit = Literal["items", "orders"]

FREQUENCY_UNITS: Final[tuple[FrequencyUnit, ...]] = get_args(FrequencyUnit)
"""What tells how often a user has bought: purchase events, or orders."""

History = Literal["none", "day", "week", "month"]

HISTORIES: Final[tuple[History, ...]] = get_args(History)
"""How often the states of customers are kept; `none`: only as they are at last."""

MOST_DAYS: Final = 36_500
"""Days that a threshold may be: a century, and far from where dates overflow."""

MOST_SECONDS: Final = 31 * 86_400
"""Seconds that a gap within a session may be: a month."""

MOST_EVENTS_PER_SESSION: Final = 1_000_000
"""Events per session that a threshold may be."""

MOST_PAIR_BASKETS: Final = 1_000_000
"""Baskets that the least for a pair of products may be."""

TABLE_GROUPS: Final = ("time", "clv", "selling")
"""The groups of tables that `--without` leaves out."""

HISTORY_GROUP: Final = "history"
"""The group of the tables of history, which go with `time` or by `--history none`."""


@dataclass(frozen=True)
class UserThresholds:
    """Thresholds of dim_users.

    Attributes:
        churn_days: Days without purchase and activity beyond which a buyer has churned.
        at_risk_days: Days without purchase beyond which a buyer is at risk.
        declining_days: Days without purchase beyond which a buyer declines.
        session_outlier_ratio: Events per session beyond which the ratio is anomalous.
    """

    churn_days: int = 60
    at_risk_days: int = 45
    declining_days: int = 30
    session_outlier_ratio: int = 200


@dataclass(frozen=True)
class ClvOptions:
    """Options of predicted customer lifetime value.

    Attributes:
        holdout_days: Days kept for the test; None for a third of the data, 28 to 182.
        max_bias: Largest share by which predicted purchases may be off in the test.
        annual_discount_rate: Rate at which revenue to come is discounted.
    """

    holdout_days: int | None = None
    max_bias: float = 0.25
    annual_discount_rate: float = 0.0


@dataclass(frozen=True)
class Rules:
    """The options that decide values.

    Attributes:
        as_of: Date from which days are counted; None for the latest event_date kept.
        session_timeout_seconds: Gap beyond which the next session starts.
        order_gap_seconds: Gap between purchases of a session beyond which the next order starts.
        frequency_unit: What frequency_score, customer_lifecycle_stage and the single purchase of
            metrics_churn count.
        cohort_observation_window_days: Days a customer of a churn cohort must have been observed.
        history: How often the states of customers are kept.
        without: Groups of tables that are left out.
        thresholds: Thresholds of dim_users.
        clv: How lifetime value is predicted and tested.
        funnels: The funnels of metrics_funnels.
        min_pair_baskets: The fewest baskets that a pair of products must be in.
    """

    as_of: dt.date | None = None
    session_timeout_seconds: int = 3600
    order_gap_seconds: int = 1
    frequency_unit: FrequencyUnit = "items"
    cohort_observation_window_days: int = 90
    history: History = "week"
    without: frozenset[str] = frozenset()
    thresholds: UserThresholds = field(default_factory=UserThresholds)
    clv: ClvOptions = field(default_factory=ClvOptions)
    funnels: tuple[Funnel, ...] = DEFAULT_FUNNELS
    min_pair_baskets: int = 5

    @property
    def left_out(self) -> frozenset[str]:
        """The groups of tables that the run does not make, as the schema names them."""
        is_kept = self.history != "none" and "time" not in self.without
        return self.without if is_kept else self.without | {HISTORY_GROUP}

    @property
    def has_history(self) -> bool:
        """Whether the states of customers are kept."""
        return HISTORY_GROUP not in self.left_out

    @property
    def has_clv(self) -> bool:
        """Whether lifetime value is predicted."""
        return "clv" not in self.without

    @property
    def has_selling(self) -> bool:
        """Whether there are tables of what sells."""
        return "selling" not in self.without

    @property
    def has_user_funnels(self) -> bool:
        """Whether users are followed beyond their sessions."""
        return self.has_selling and any(funnel.scope == "user" for funnel in self.funnels)
