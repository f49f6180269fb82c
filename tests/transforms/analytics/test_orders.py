"""Orders of sessions, and user-days made with them."""

import hashlib
from datetime import UTC, date, datetime
from decimal import Decimal

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transforms.frames import START, at, events, flags_of, session_names
from transforms.analytics.cleaning import clean
from transforms.analytics.orders import (
    find_orders,
    number_orders,
    order_table,
    ordered_purchases,
)
from transforms.analytics.sessions import sessionize
from transforms.analytics.user_days import (
    USER_DAYS,
    combine_user_days,
    user_day_table,
    user_days,
)
from transforms.analytics.users import combine_users, describe_users, session_measures, user_table
from transforms.audit.checks import check_batch
from transforms.columnar.product_codes import PRODUCT_CODE, encoded_columns
from transforms.rules import UserThresholds
from transforms.schema import DIM_USERS, FCT_ORDERS, FCT_USER_DAYS


def shard_of(*rows, timeout=3600):
    cleaned = clean(events(*rows), session_names(*rows), flags_of())
    products = encoded_columns(cleaned.events[PRODUCT_CODE].to_numpy())["product_id"]
    return sessionize(cleaned, products, timeout), products


def orders_of(*rows, gap=1):
    shard, products = shard_of(*rows)
    return find_orders(shard, ordered_purchases(shard, products, gap))


def bought(seconds=0, **values):
    return {"event_type": "purchase", "event_time": at(seconds), **values}


def md5(text):
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def days_of(*rows, gap=1):
    shard, products = shard_of(*rows)
    orders = find_orders(shard, ordered_purchases(shard, products, gap))
    return combine_user_days(user_days(shard.session_days, shard.sessions, orders))


def test_neighbours_a_gap_apart_are_one_order():
    rows = [
        {"event_time": at(0)},
        bought(100, product_id=1, price=Decimal("1.10")),
        bought(100, product_id=2, price=Decimal("2.20")),
        bought(101, product_id=1, price=Decimal("1.15")),
        bought(103, product_id=3, price=Decimal(5)),
    ]
    columns = ("order_time", "item_count", "product_count", "revenue", "seconds_in_session")
    assert orders_of(*rows).select(columns).rows() == [
        (at(100), 3, 2, Decimal("4.45"), 100),
        (at(103), 1, 1, Decimal(5), 103),
    ]
    assert orders_of(*rows, gap=0)["item_count"].to_list() == [2, 1, 1]
    assert orders_of(*rows, gap=2)["item_count"].to_list() == [4]


def test_an_order_is_of_one_user_and_session():
    rows = [
        bought(0, user_id=1, product_id=1),
        bought(0, user_id=2, product_id=1),
        bought(1, user_id=1, product_id=2),
        bought(1, user_id=1, product_id=2, user_session="t"),
        bought(3700, user_id=1, product_id=2),
    ]
    found = orders_of(*rows, gap=9999)
    assert sorted(found.select("user_id", "session_id", "item_count").rows()) == [
        (1, "s", 2),
        (1, "s_timeout_1", 1),
        (1, "t", 1),
        (2, "s", 1),
    ]


def test_no_purchase_no_order():
    assert orders_of({}).height == 0
    assert orders_of().schema == orders_of(bought()).schema


def test_orders_are_numbered_by_time_and_id():
    rows = [
        *(bought(day * 86_400, user_session=f"s{day}") for day in (0, 3)),
        *(bought(day * 86_400, user_session=f"t{day}") for day in (0, 3)),
        bought(86_400, user_id=8, user_session="u"),
    ]
    frames = [orders_of(row) for row in reversed(rows)]
    table = order_table(number_orders(pl.concat(frames)))
    assert table.schema == FCT_ORDERS.polars_schema()
    assert check_batch(FCT_ORDERS, table, {})["failing_rows"].sum() == 0
    ids = {
        session: md5(f"7|{session}|{time}")
        for session, time in (
            ("s0", "2019-10-01 00:00:00"),
            ("t0", "2019-10-01 00:00:00"),
            ("s3", "2019-10-04 00:00:00"),
            ("t3", "2019-10-04 00:00:00"),
        )
    }
    first, second = sorted(ids[name] for name in ("s0", "t0"))
    third, fourth = sorted(ids[name] for name in ("s3", "t3"))
    columns = ("order_id", "order_number", "days_since_previous_order", "is_first_order")
    assert table.filter(user_id="7").select(columns).rows() == [
        (first, 1, None, True),
        (second, 2, 0, False),
        (third, 3, 3, False),
        (fourth, 4, 0, False),
    ]
    assert table.filter(user_id="8").select(columns[1:]).rows() == [(1, None, True)]


def test_the_id_of_an_order_long_ago():
    time = datetime(1, 1, 2, 3, 4, 5, tzinfo=UTC)
    found = number_orders(orders_of(bought(event_time=time)))
    assert found["order_id"].to_list() == [md5("7|s|0001-01-02 03:04:05")]


# User-days ----------------------------------------------------------------------------------------


def test_a_day_sums_up_what_a_user_did():
    rows = [
        {"event_time": at(10), "user_id": 9},
        bought(20, user_id=9, price=Decimal("2.5")),
        bought(30, user_id=9, price=Decimal(1), product_id=2),
        {"event_time": at(5), "user_id": 9, "user_session": "t", "event_type": "cart"},
        {"event_time": at(0, days=1), "user_id": 9, "user_session": "u"},
        {"event_time": at(7), "user_id": 8, "user_session": "v", "event_type": "remove_from_cart"},
    ]
    found = days_of(*rows)
    assert found.schema == USER_DAYS
    assert found.rows() == [
        (8, date(2019, 10, 1), at(7), at(7), 1, 0, 0, 1, 0, 0, 1, Decimal(0)),
        (9, date(2019, 10, 1), at(5), at(30), 4, 1, 1, 0, 2, 2, 2, Decimal("3.5")),
        (9, date(2019, 10, 2), *[at(0, days=1)] * 2, 1, 1, 0, 0, 0, 0, 1, Decimal(0)),
    ]
    table = user_day_table(found)
    assert table.schema == FCT_USER_DAYS.polars_schema()
    assert check_batch(FCT_USER_DAYS, table, {})["failing_rows"].sum() == 0


def test_a_session_is_of_the_day_it_starts():
    rows = [{"event_time": at(86_399)}, bought(86_399), bought(86_400), {"event_time": at(86_402)}]
    found = days_of(*rows)
    assert found.select("event_date", "events", "orders", "sessions").rows() == [
        (date(2019, 10, 1), 2, 1, 1),
        (date(2019, 10, 2), 2, 0, 0),
    ]


def test_the_session_of_several_users_is_of_one():
    # The session is 9's, the largest as text, who has no event on the day it starts.
    rows = [{"user_id": 10, "event_time": at(86_000)}, {"user_id": 9, "event_time": at(86_401)}]
    columns = ("user_id", "event_date", "sessions")
    assert days_of(*rows).select(columns).rows() == [
        (9, date(2019, 10, 2), 0),
        (10, date(2019, 10, 1), 0),
    ]
    # With an event of that day elsewhere, it is counted there, and the event's times are kept.
    rows.append({"user_id": 9, "event_time": at(86_200), "user_session": "t"})
    found = days_of(*rows).filter(user_id=9, event_date=date(2019, 10, 1))
    assert found.select("sessions", "first_event_time", "events").rows() == [(2, at(86_200), 1)]
    # Taking turns within the day.
    turns = [{"user_id": user, "event_time": at(at_)} for at_, user in enumerate((10, 9, 10, 9))]
    assert days_of(*turns).select("user_id", "events", "sessions").rows() == [(9, 2, 1), (10, 2, 0)]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["view", "cart", "purchase"]),
            st.integers(0, 4),
            st.sampled_from(["s", "t"]),
            st.sampled_from([9, 10, 11]),
            st.integers(0, 3),
        ),
        max_size=30,
        unique=True,
    ),
    st.integers(0, 2),
)
@settings(max_examples=30, deadline=None)
def test_orders_and_days_are_what_the_rules_say(rows, gap):
    raw = [
        {
            "event_type": kind,
            "event_time": at(86_398 + second),
            "user_session": name,
            "user_id": user,
            "product_id": product,
        }
        for kind, second, name, user, product in rows
    ]
    orders = []
    for user, name in sorted({(row["user_id"], row["user_session"]) for row in raw}):
        times = sorted(
            row["event_time"]
            for row in raw
            if (row["user_id"], row["user_session"]) == (user, name)
            and row["event_type"] == "purchase"
        )
        for place, time in enumerate(times):
            if place and (time - times[place - 1]).total_seconds() <= gap:
                orders[-1][-1] += 1
            else:
                orders.append([user, name, time, 1])
    found = orders_of(*raw, gap=gap).select("user_id", "session_id", "order_time", "item_count")
    assert sorted(found.rows()) == sorted(map(tuple, orders))
    days = days_of(*raw, gap=gap)
    expected = sorted(
        (
            user,
            day,
            len(some),
            sum(row["event_type"] == "purchase" for row in some),
            sum(order[0] == user and order[2].date() == day for order in orders),
            min(row["event_time"] for row in some),
            max(row["event_time"] for row in some),
        )
        for user, day in {(row["user_id"], row["event_time"].date()) for row in raw}
        for some in ([r for r in raw if r["user_id"] == user and r["event_time"].date() == day],)
    )
    columns = ("user_id", "event_date", "events", "purchases", "orders")
    assert days.select(*columns, "first_event_time", "last_event_time").rows() == expected


# Users of them ------------------------------------------------------------------------------------


def users_of(*rows, unit="items"):
    shard, products = shard_of(*rows)
    orders = find_orders(shard, ordered_purchases(shard, products, 1))
    return combine_users(
        combine_user_days(user_days(shard.session_days, shard.sessions, orders)),
        number_orders(orders),
        session_measures(shard.sessions.with_columns(user_id="user"), "user_id"),
        unit,
    )


CHECKOUT = [
    {"event_time": at(0)},
    *(bought(86_400 + 5, product_id=n, price=Decimal(n), user_session="t") for n in (1, 2, 4)),
    bought(86_400 * 3, price=Decimal("0.01"), user_session="u"),
    {"user_id": 8, "event_time": at(50), "user_session": "v"},
]


def test_users_have_orders():
    described = describe_users(users_of(*CHECKOUT), date(2019, 10, 4), UserThresholds())
    table = user_table(described).sort("user_id")
    assert check_batch(DIM_USERS, table, {})["failing_rows"].sum() == 0
    columns = ("purchase_count", "order_count", "purchase_day_count", "avg_order_value")
    more = ("avg_basket_value", "avg_items_per_order", "first_order_value")
    last = ("days_to_first_purchase", "customer_lifecycle_stage", "order_lifecycle_stage")
    assert table.select(columns + more + last).rows() == [
        (
            *(4, 2, 2, Decimal("1.75")),
            *(Decimal("3.51"), 2.0, Decimal(7)),
            *(1, "Repeat Customer", "Repeat Customer"),
        ),
        (0, 0, 0, None, None, None, None, None, "Prospect", "Prospect"),
    ]
    columns = ("first_event_time", "last_event_time", "event_count", "session_count")
    assert table.select(columns).rows() == [
        (START, at(86_400 * 3), 5, 3),
        (at(50), at(50), 1, 1),
    ]


def test_frequency_counts_items_or_orders():
    rows = CHECKOUT[:4]
    for unit, frequency, stage in (
        ("items", 3, "Repeat Customer"),
        ("orders", 1, "First-Time Buyer"),
    ):
        users = users_of(*rows, unit=unit)
        assert users["frequency"].to_list() == [frequency]
        described = describe_users(users, date(2019, 10, 4), UserThresholds())
        assert described["customer_lifecycle_stage"].to_list() == [stage]
        assert described["order_lifecycle_stage"].to_list() == ["First-Time Buyer"]
