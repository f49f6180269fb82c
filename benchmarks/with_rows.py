"""The main tables in classic Beam, a dict per event: python -m benchmarks.with_rows INPUT OUTPUT.

The usual idioms (a function per step, CombinePerKey, GroupByKey by session, WriteToParquet) on the
same local runner, with a worker process per core, since Python holds the interpreter's lock. Events
hold only texts and integers, which Beam's coders take without pickle. It makes fct_events,
fct_sessions and dim_users only.
"""
# ruff: noqa: PLR2004 - the figures of the contract, as a user writes them

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Final

import apache_beam as beam
import pyarrow as pa
from apache_beam.io.parquetio import WriteToParquet
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pvalue import AsList, AsSingleton
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

TABLES: Final = ("fct_events", "fct_sessions", "dim_users")

_TIMEOUT: Final = 3600  # seconds
_ORDER_GAP: Final = 1
_COLUMNS: Final = (
    "event_time",
    "event_type",
    "product_id",
    "category_id",
    "category_code",
    "brand",
    "price",
    "user_id",
    "user_session",
)
_TEXT, _INT, _DATE = pa.string(), pa.int64(), pa.date32()
_TIME, _MONEY = pa.timestamp("us", "UTC"), pa.decimal128(38, 9)
_RATE: Final = pa.float64()
_SCHEMAS: Final = {
    "fct_events": pa.schema(
        [
            ("event_id", _TEXT),
            ("event_time", _TIME),
            ("event_date", _DATE),
            *((name, _TEXT) for name in ("event_type", "user_id", "user_session", "session_id")),
            *((name, _TEXT) for name in ("product_id", "brand", "category_code", "category_id")),
            ("price", _MONEY),
            *((name, _INT) for name in ("quantity", "is_view", "is_cart_add")),
            *((name, _INT) for name in ("is_cart_remove", "is_purchase")),
            ("revenue", _MONEY),
        ]
    ),
    "fct_sessions": pa.schema(
        [
            *((name, _TEXT) for name in ("session_id", "user_id")),
            *((f"session_{end}_time", _TIME) for end in ("start", "end")),
            ("session_start_date", _DATE),
            *((name, _INT) for name in ("session_length", "event_count", "unique_product_count")),
            *((name, _INT) for name in ("view_count", "cart_additions", "cart_removals")),
            ("purchase_count", _INT),
            ("total_revenue", _MONEY),
            *((f"reached_{stage}", _INT) for stage in ("view", "cart", "purchase")),
            ("funnel_stage", _TEXT),
            ("is_converting_session", _INT),
            *((name, _TEXT) for name in ("session_quality_tier", "session_length_bucket")),
        ]
    ),
    "dim_users": pa.schema(
        [
            ("user_id", _TEXT),
            *((f"{which}_event_time", _TIME) for which in ("first", "last")),
            *((f"{which}_event_date", _DATE) for which in ("first", "last")),
            *((f"{what}_count", _INT) for what in ("session", "event", "purchase")),
            *((name, _MONEY) for name in ("total_revenue", "customer_ltv", "avg_order_value")),
            *((f"{which}_purchase_date", _DATE) for which in ("first", "last")),
            ("customer_lifespan_days", _INT),
            *((f"days_since_last_{what}", _INT) for what in ("activity", "purchase")),
            ("activity_status", _TEXT),
            ("is_churned", _INT),
            ("has_purchase_history", pa.bool_()),
            *((name, _TEXT) for name in ("data_quality_flag", "customer_lifecycle_stage")),
            *((f"{what}_count", _INT) for what in ("order", "purchase_day")),
            ("avg_basket_value", _MONEY),
            ("avg_items_per_order", _RATE),
            ("first_order_value", _MONEY),
            ("days_to_first_purchase", _INT),
            ("order_lifecycle_stage", _TEXT),
        ]
    ),
}

Row = dict[str, Any]


# --- Cleaning -------------------------------------------------------------------------------------


def parse_line(line: str) -> Row:
    """The event of a line of the CSV; its time in seconds since 1970."""
    row: Row = dict(zip(_COLUMNS, next(csv.reader([line])), strict=True))
    # "2019-10-01 00:00:00 UTC": ten times as fast as strptime.
    time = dt.datetime.fromisoformat(row["event_time"].removesuffix(" UTC") + "+00:00")
    row["event_time"] = int(time.timestamp())
    for name in ("category_code", "brand"):
        row[name] = row[name].lower() or None
    for name in ("category_id", "user_session"):
        row[name] = row[name] or None
    return row


def event_key(row: Row) -> tuple[str, ...]:
    """What duplicates have in common."""
    names = ("event_time", "event_type", "product_id", "user_id", "user_session")
    return tuple(str(row[name]) for name in names)


def first_row(rows: Iterable[Row]) -> Row:
    """The duplicate that stays."""
    return min(rows, key=_duplicate_order)


def _duplicate_order(row: Row) -> tuple[object, ...]:
    order: list[object] = []
    for name in ("category_id", "category_code", "brand"):
        value = row[name]
        number = int(value) if name == "category_id" and value else value
        order += [value is None, number if value else 0]
    return (*order, Decimal(row["price"]))


def several_brands(product: tuple[str, Iterable[str]]) -> bool:
    """True where a product has more than one brand."""
    return len(set(product[1])) > 1


# --- Sessions -------------------------------------------------------------------------------------


def sessionize(element: tuple[str, Iterable[Row]]) -> Iterator[list[Row]]:
    """(user_session, its events) → one list of events for each session in it."""
    name, events = element
    session: list[Row] = []
    number = 0
    for event in sorted(events, key=lambda row: row["event_time"]):
        if session and event["event_time"] - session[-1]["event_time"] > _TIMEOUT:
            yield session
            session = []
            number += 1
        event["session_id"] = f"{name}_timeout_{number}" if number else name
        session.append(event)
    yield session


def _time(seconds: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


def event_row(event: Row) -> Row:
    """A row of fct_events."""
    kind, time, price = event["event_type"], _time(event["event_time"]), Decimal(event["price"])
    key = (
        f"{time:%Y-%m-%d %H:%M:%S}|{kind}|{event['user_id']}"
        f"|{event['product_id']}|{event['user_session']}"
    )
    return {
        **event,
        "event_id": hashlib.md5(key.encode(), usedforsecurity=False).hexdigest(),
        "event_time": time,
        "event_date": time.date(),
        "price": price,
        "quantity": 1,
        "is_view": int(kind == "view"),
        "is_cart_add": int(kind == "cart"),
        "is_cart_remove": int(kind == "remove_from_cart"),
        "is_purchase": int(kind == "purchase"),
        "revenue": price if kind == "purchase" else None,
    }


def session_row(events: list[Row]) -> Row:
    """A row of fct_sessions."""
    start, end = _time(events[0]["event_time"]), _time(events[-1]["event_time"])
    kinds = [event["event_type"] for event in events]
    views, carts, purchases = (kinds.count(kind) for kind in ("view", "cart", "purchase"))
    length = int((end - start).total_seconds())
    stage = "cart" if carts else "view" if views else "no_activity"
    tier = "Medium" if length <= 600 and len(events) <= 10 else "High"
    buckets = ((60, "Very Short (0-60s)"), (300, "Short (61-300s)"), (600, "Medium (301-600s)"))
    return {
        "session_id": events[0]["session_id"],
        "user_id": max(event["user_id"] for event in events),
        "session_start_time": start,
        "session_end_time": end,
        "session_start_date": start.date(),
        "session_length": length,
        "event_count": len(events),
        "unique_product_count": len({event["product_id"] for event in events}),
        "view_count": views,
        "cart_additions": carts,
        "cart_removals": kinds.count("remove_from_cart"),
        "purchase_count": purchases,
        "total_revenue": sum(
            Decimal(event["price"]) for event in events if event["event_type"] == "purchase"
        )
        if purchases
        else None,
        "reached_view": int(views > 0),
        "reached_cart": int(carts > 0),
        "reached_purchase": int(purchases > 0),
        "funnel_stage": "purchase" if purchases else stage,
        "is_converting_session": int(purchases > 0),
        "session_quality_tier": "Low" if length < 150 or len(events) < 3 else tier,
        "session_length_bucket": next(
            (text for limit, text in buckets if length <= limit), "Long (600+s)"
        ),
    }


# --- Users ----------------------------------------------------------------------------------------


_NOTHING: Final[Row] = {
    "first": None,
    "last": None,
    "events": 0,
    "sessions": 0,
    "purchases": 0,
    "revenue": "0",
    "purchase_days": [],
    "orders": 0,
    "first_order": None,
}


def user_of_event(event: Row) -> tuple[str, Row]:
    """What an event adds to its user."""
    seen = {**_NOTHING, "first": event["event_time"], "last": event["event_time"], "events": 1}
    if event["event_type"] == "purchase":
        day = event["event_time"] // 86_400
        seen |= {"purchases": 1, "revenue": event["price"], "purchase_days": [day]}
    return event["user_id"], seen


def user_of_session(session: Row) -> tuple[str, Row]:
    """What a session adds to its user."""
    return session["user_id"], {**_NOTHING, "sessions": 1}


def users_of_orders(session: list[Row]) -> Iterator[tuple[str, Row]]:
    """What the orders of a session, given by its events, add to their users."""
    purchases = [event for event in session if event["event_type"] == "purchase"]
    purchases.sort(key=lambda event: (event["user_id"], event["event_time"]))
    order: list[Row] = []
    for event in purchases:
        if order and (
            event["user_id"] != order[-1]["user_id"]
            or event["event_time"] - order[-1]["event_time"] > _ORDER_GAP
        ):
            yield user_of_order(order)
            order = []
        order.append(event)
    if order:
        yield user_of_order(order)


def user_of_order(events: list[Row]) -> tuple[str, Row]:
    """What an order adds to its user; the first one is known by its time, then its id."""
    first = events[0]
    time = first["event_time"]
    key = f"{first['user_id']}|{first['session_id']}|{_time(time):%Y-%m-%d %H:%M:%S}"
    order_id = hashlib.md5(key.encode(), usedforsecurity=False).hexdigest()
    revenue = str(sum(Decimal(event["price"]) for event in events))
    return first["user_id"], {**_NOTHING, "orders": 1, "first_order": (time, order_id, revenue)}


def sum_user(parts: Iterable[Row]) -> Row:
    """Add up what events and sessions add to a user."""
    found = list(parts)
    total: Row = {
        name: sum(part[name] for part in found)
        for name in ("events", "sessions", "purchases", "orders")
    }
    total["revenue"] = str(sum(Decimal(part["revenue"]) for part in found))
    total["purchase_days"] = sorted({day for part in found for day in part["purchase_days"]})
    for name, choose in (("first", min), ("last", max), ("first_order", min)):
        total[name] = choose((p[name] for p in found if p[name] is not None), default=None)
    return total


def user_row(element: tuple[str, Row], as_of: int) -> Row:
    """A row of dim_users; days are counted from 1970."""
    user_id, user = element
    purchases, sessions, orders = user["purchases"], user["sessions"], user["orders"]
    days = user["purchase_days"]
    first, last = (days[0], days[-1]) if days else (0, 0)  # of nobody who buys
    since_activity = as_of - user["last"] // 86_400
    since_purchase = as_of - last if purchases else None
    revenue = Decimal(user["revenue"]) if purchases else None
    status = activity_status(since_activity, since_purchase)
    anomalous = user["events"] > 200 * sessions
    items = rounded(Decimal(purchases), orders, "0.000001")
    return {
        "user_id": user_id,
        "first_event_time": _time(user["first"]),
        "last_event_time": _time(user["last"]),
        "first_event_date": _time(user["first"]).date(),
        "last_event_date": _time(user["last"]).date(),
        "session_count": sessions,
        "event_count": user["events"],
        "purchase_count": purchases,
        "total_revenue": revenue,
        "customer_ltv": revenue,
        "avg_order_value": rounded(revenue, purchases, "0.01"),
        "first_purchase_date": _time(first * 86_400).date() if days else None,
        "last_purchase_date": _time(last * 86_400).date() if days else None,
        "customer_lifespan_days": max(1, last - first) if purchases else None,
        "days_since_last_activity": since_activity,
        "days_since_last_purchase": since_purchase,
        "activity_status": status,
        "is_churned": int(status == "churned"),
        "has_purchase_history": purchases > 0,
        "data_quality_flag": "missing_sessions"
        if not sessions
        else "anomalous_session_ratio"
        if anomalous
        else None,
        "customer_lifecycle_stage": lifecycle_stage(purchases),
        "order_count": orders,
        "purchase_day_count": len(days),
        "avg_basket_value": rounded(revenue, orders, "0.01"),
        "avg_items_per_order": float(items) if items is not None else None,
        "first_order_value": Decimal(user["first_order"][2]) if orders else None,
        "days_to_first_purchase": first - user["first"] // 86_400 if days else None,
        "order_lifecycle_stage": lifecycle_stage(orders),
    }


def rounded(total: Decimal | None, number: int, unit: str) -> Decimal | None:
    """A mean, a half rounded up; None where there is nothing to divide by."""
    if total is None or not number:
        return None
    return (total / number).quantize(Decimal(unit), ROUND_HALF_UP)


def lifecycle_stage(number: int) -> str:
    """How often a user has bought, in words."""
    stages = ((0, "Prospect"), (1, "First-Time Buyer"), (5, "Repeat Customer"))
    return next((text for limit, text in stages if number <= limit), "Loyal Customer")


def activity_status(since_activity: int, since_purchase: int | None) -> str:
    """How long ago a user last bought, in words."""
    if since_purchase is None:
        return "prospect"
    if since_purchase > 60 and since_activity > 60:
        return "churned"
    return "at_risk" if since_purchase > 45 else "declining" if since_purchase > 30 else "active"


# --- The graph ------------------------------------------------------------------------------------


def build(pipeline: beam.Pipeline, source: str, output: str) -> None:
    """Read a CSV; write the three tables as OUTPUT/TABLE/*.parquet."""
    rows = (
        pipeline
        | "Read" >> beam.io.ReadFromText(source, skip_header_lines=1)
        | "Parse" >> beam.Map(parse_line)
        | "KeyByEvent" >> beam.WithKeys(event_key)
        | "DropDuplicates" >> beam.CombinePerKey(first_row)
        | "DropKeys" >> beam.Values()
    )
    several = (
        rows
        | "WithBrand" >> beam.Filter(lambda row: row["brand"] is not None)
        | "Brands" >> beam.Map(lambda row: (row["product_id"], row["brand"]))
        | "DistinctBrands" >> beam.Distinct()
        | "ByProduct" >> beam.GroupByKey()
        | "SeveralBrands" >> beam.Filter(several_brands)
        | "Products" >> beam.Keys()
    )
    sessions = (
        rows
        | "Keep"
        >> beam.Filter(
            lambda row, dropped: (
                row["user_session"] is not None and row["product_id"] not in dropped
            ),
            AsList(several),
        )
        | "KeyBySession" >> beam.WithKeys(lambda row: row["user_session"])
        | "BySession" >> beam.GroupByKey()
        | "Sessionize" >> beam.FlatMap(sessionize)
    )
    events = sessions | "Events" >> beam.FlatMap(lambda session: session)
    session_rows = sessions | "SessionRows" >> beam.Map(session_row)
    as_of = (
        events
        | "Dates" >> beam.Map(lambda event: event["event_time"] // 86_400)
        | "LatestDate" >> beam.CombineGlobally(lambda days: max(days, default=0))
    )
    users = (
        (
            events | "UsersOfEvents" >> beam.Map(user_of_event),
            session_rows | "UsersOfSessions" >> beam.Map(user_of_session),
            sessions | "UsersOfOrders" >> beam.FlatMap(users_of_orders),
        )
        | "AllUsers" >> beam.Flatten()
        | "SumUsers" >> beam.CombinePerKey(sum_user)
        | "UserRows" >> beam.Map(user_row, AsSingleton(as_of))
    )
    for table, written in (
        ("fct_events", events | "EventRows" >> beam.Map(event_row)),
        ("fct_sessions", session_rows),
        ("dim_users", users),
    ):
        _ = written | f"Write_{table}" >> WriteToParquet(
            f"{output}/{table}/part", _SCHEMAS[table], codec="zstd", file_name_suffix=".parquet"
        )


def main(source: str, output: str) -> None:
    """Run on all cores."""
    logging.getLogger().setLevel(logging.ERROR)  # the runner's warnings are about its own workings
    options = PipelineOptions(
        [],
        direct_running_mode="multi_processing",
        direct_num_workers=os.cpu_count(),
        pickle_library="cloudpickle",
    )
    with beam.Pipeline(runner=FnApiRunner(), options=options) as pipeline:
        build(pipeline, source, output)


if __name__ == "__main__":
    # Under its importable name, so that workers find what is pickled by reference.
    from benchmarks import with_rows  # noqa: PLW0406

    with_rows.main(*sys.argv[1:])
