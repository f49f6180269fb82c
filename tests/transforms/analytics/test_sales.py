"""The events that sales are told by, who carts and buys, and ranks by revenue."""

from decimal import Decimal

import polars as pl

from tests.transforms.frames import at, events, flags_of, session_names
from transforms.analytics.basket_events import BASKET_EVENTS, basket_events
from transforms.analytics.carts import CART_SESSIONS, cart_sessions
from transforms.analytics.cleaning import clean
from transforms.analytics.orders import ordered_purchases
from transforms.analytics.sales import SALES, sales, with_revenue_ranks
from transforms.analytics.sessions import sessionize
from transforms.columnar.money import MONEY
from transforms.columnar.product_codes import PRODUCT_CODE, encoded_columns, with_products


def basket_events_of(*rows, number=0):
    cleaned = clean(events(*rows), session_names(*rows), flags_of())
    products = encoded_columns(cleaned.events[PRODUCT_CODE].to_numpy())["product_id"]
    shard = sessionize(cleaned, products, 3600)
    found = basket_events(shard, ordered_purchases(shard, products, 1), number)
    assert found.schema == BASKET_EVENTS
    return with_products(found)


ROWS = (
    {"event_type": "view", "product_id": 1},
    {"event_type": "cart", "product_id": 1, "event_time": at(1)},
    {"event_type": "purchase", "product_id": 1, "event_time": at(2)},
    {"event_type": "purchase", "product_id": 2, "event_time": at(3)},
    {"event_type": "purchase", "product_id": 1, "event_time": at(5)},
    {"event_type": "remove_from_cart", "product_id": 3, "event_time": at(days=1)},
)


def test_all_but_views_are_sent():
    found = basket_events_of(*ROWS, number=3).sort("event_time")
    assert found["session"].to_list() == [3 << 32, *[3 << 32] * 3, (3 << 32) + 1]
    assert found["event_type"].to_list() == ["cart", *["purchase"] * 3, "remove_from_cart"]
    assert found["order"].to_list() == [None, 1, 1, 2, None]
    assert found["product_id"].to_list() == [1, 1, 2, 1, 3]


def test_nothing_is_sent_of_nothing():
    assert basket_events_of(ROWS[0]).is_empty()


def test_sales_of_shards_add_up():
    users = [
        basket_events_of(*({**row, "user_id": user} for row in ROWS[:count]), number=user)
        for user, count in ((1, 6), (2, 2), (3, 3))
    ]
    later = basket_events_of({**ROWS[2], "user_id": 1, "event_time": at(days=2)}, number=9)
    whole = sales(pl.concat([*users, later]), "product_id").sort("product_id")
    assert (
        whole.select("product_id", *SALES).rows()
        == [
            (1, 4, 3, 2, 2, 1),
            (2, 1, 0, 1, 0, 0),
            (3, 0, 0, 0, 0, 0),
        ][:2]
    )
    parts = pl.concat(
        [sales(pl.concat([users[0], later]), "product_id"), sales(users[1], "product_id")]
    )
    parts = pl.concat([parts, sales(users[2], "product_id")])
    assert parts.group_by("product_id").sum().sort("product_id").equals(whole)


def ranks_of(*revenues):
    rows = pl.DataFrame(
        {"product_id": range(len(revenues)), "revenue": pl.Series(revenues, dtype=MONEY)}
    )
    return with_revenue_ranks(rows, "product_id")


def test_classes_are_exact():
    """Floats would say that 0.8 is reached by the first, a billionth too early."""
    billionth = Decimal("0.000000001")
    found = ranks_of(*map(Decimal, (8, 1, 1)))
    assert found["abc_class"].to_list() == ["A", "B", "B"]
    found = ranks_of(8 - billionth, Decimal(1) + billionth, Decimal(1))
    assert found["abc_class"].to_list() == ["A", "A", "B"]
    assert found["cumulative_share"].to_list() == [0.8, 0.9, 1]


def test_ranks_of_nothing():
    assert ranks_of().is_empty()
    assert ranks_of(Decimal(0))["abc_class"].to_list() == ["C"]


def test_sessions_with_a_cart_are_named():
    rows = ({"event_type": "cart"}, {"event_type": "cart", "event_time": at(1), "product_id": 2})
    other = {"user_session": "t", "event_type": "purchase"}
    cleaned = clean(events(*rows, other), session_names(*rows, other), flags_of())
    products = encoded_columns(cleaned.events[PRODUCT_CODE].to_numpy())["product_id"]
    shard = sessionize(cleaned, products, 3600)
    found = cart_sessions(shard, basket_events(shard, ordered_purchases(shard, products, 1), 5))
    assert found.schema == CART_SESSIONS
    assert found.select("user_id", "session_id").rows() == [(7, "s")]
    assert found["session"].item() >> 32 == 5
