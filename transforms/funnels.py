"""Funnels: what one is, and those that are there without a configuration. Light to import."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from itertools import product
from typing import Final, Literal, get_args

Scope = Literal["session", "user"]

SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
"""What takes the steps."""

Order = Literal["ordered", "strict", "unordered"]

ORDERS: Final[tuple[Order, ...]] = get_args(Order)
"""How the steps follow each other."""

CATEGORY_COLUMNS: Final = tuple(f"category_lvl_{level}" for level in range(1, 5))
"""The parts of an event's own category_code."""

PRODUCT_PROPERTIES: Final = ("product_id", "brand", "category_id", *CATEGORY_COLUMNS)
"""What an event says of its product: a step may ask for it, and all steps may share it."""

PERIOD_BREAKDOWNS: Final = ("day", "week", "month")

START_BREAKDOWNS: Final = ("product_id", "brand", *CATEGORY_COLUMNS, *PERIOD_BREAKDOWNS)
"""What the event that begins an attempt says."""

SESSION_BREAKDOWNS: Final = ("session_quality_tier", "session_length_bucket")
"""What the session of that event says."""

USER_BREAKDOWNS: Final = (
    "rfm_segment",
    "activity_status",
    "customer_lifecycle_stage",
    "order_lifecycle_stage",
)
"""What the user is at last."""

BREAKDOWNS: Final = (*START_BREAKDOWNS, *SESSION_BREAKDOWNS, *USER_BREAKDOWNS)

OVERALL: Final = "overall"
"""The breakdown that every funnel has, of the one value `ALL`."""

ALL: Final = "all"

NO_VALUE: Final = "(none)"
"""What stands for a value that is not there."""

OTHER_VALUES: Final = "(other)"
"""What stands for all values beyond the `MOST_VALUES` with most entities."""

MOST_VALUES: Final = 1000

MOST_STEPS: Final = 10

MOST_EXCLUSIONS: Final = 10


@dataclass(frozen=True)
class EventFilter:
    """Which events are meant: those to which all conditions apply.

    Attributes:
        events: Event types; none for all.
        properties: For each of some `PRODUCT_PROPERTIES` its values, as text.
        price_min: The lowest price.
        price_max: The highest price.
    """

    events: tuple[str, ...] = ()
    properties: tuple[tuple[str, tuple[str, ...]], ...] = ()
    price_min: Decimal | None = None
    price_max: Decimal | None = None

    def may_meet(self, other: EventFilter) -> bool:
        """Whether an event may be of both."""
        if self.events and other.events and not set(self.events) & set(other.events):
            return False
        for (name, values), (other_name, others) in product(self.properties, other.properties):
            if name == other_name and not set(values) & set(others):
                return False
        highest = min((p for p in (self.price_max, other.price_max) if p is not None), default=None)
        lowest = max((p for p in (self.price_min, other.price_min) if p is not None), default=None)
        return highest is None or lowest is None or lowest <= highest


@dataclass(frozen=True)
class Step:
    """A step of a funnel.

    Attributes:
        name: Its name, unique in the funnel.
        filter: The events that take it.
    """

    name: str
    filter: EventFilter


@dataclass(frozen=True)
class Exclusion:
    """Events that must not fall between two steps.

    Attributes:
        filter: The events.
        after: The number of the first of the two steps, from 1.
        before: The number of the second.
    """

    filter: EventFilter
    after: int
    before: int


@dataclass(frozen=True)
class Funnel:
    """A funnel.

    Attributes:
        name: Its name, unique.
        steps: Its steps.
        scope: Whose events it is about.
        hold: Properties that must be the same in all steps.
        order: How the steps follow each other.
        window: Seconds that an attempt may take; None for any.
        breakdowns: What its figures are broken down by.
        exclusions: What must not fall between its steps.
    """

    name: str
    steps: tuple[Step, ...]
    scope: Scope = "session"
    hold: tuple[str, ...] = ()
    order: Order = "ordered"
    window: int | None = None
    breakdowns: tuple[str, ...] = ()
    exclusions: tuple[Exclusion, ...] = ()

    @property
    def asks_for(self) -> frozenset[str]:
        """What it must know of events beside their time and type.

        Any of `price`, `product_code` (for all that events say of their products) and the
        `SESSION_BREAKDOWNS`.
        """
        filters = [step.filter for step in self.steps]
        filters += [exclusion.filter for exclusion in self.exclusions]
        of_product = any(each.properties for each in filters) or bool(self.hold)
        of_product |= any(
            name in START_BREAKDOWNS and name not in PERIOD_BREAKDOWNS for name in self.breakdowns
        )
        has_price = any(
            bound is not None for each in filters for bound in (each.price_min, each.price_max)
        )
        asked = {name for name in self.breakdowns if name in SESSION_BREAKDOWNS}
        if of_product:
            asked.add("product_code")
        if has_price:
            asked.add("price")
        return frozenset(asked)

    @property
    def user_breakdowns(self) -> tuple[str, ...]:
        """The breakdowns by what its users are."""
        return tuple(name for name in self.breakdowns if name in USER_BREAKDOWNS)

    @property
    def begins_with_a_view(self) -> bool:
        """Whether every session with a view, and no other, takes the first step."""
        first = self.steps[0].filter
        is_whole = not self.hold and self.order != "unordered"
        return self.scope == "session" and is_whole and first == EventFilter(("view",))


_SHOP: Final = tuple(Step(name, EventFilter((name,))) for name in ("view", "cart", "purchase"))

DEFAULT_FUNNELS: Final = (
    Funnel("shop", _SHOP),
    Funnel("product", _SHOP, hold=("product_id",)),
)
"""The funnels of a run without a configuration of its own."""
