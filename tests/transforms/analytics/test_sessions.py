"""Sessions, and the ids of events."""

import hashlib
from datetime import datetime
from decimal import Decimal

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.transforms.frames import at, events, flags_of, session_names
from transforms.analytics.cleaning import clean
from transforms.analytics.sessions import (
    event_table,
    length_bucket,
    quality_tier,
    session_table,
    sessionize,
)
from transforms.columnar.event_ids import event_ids
from transforms.columnar.product_codes import PRODUCT_CODE, encoded_columns, with_product_codes
from transforms.ingest.batch import EVENT_TYPE


def test_dictionaries_hold_a_text_once():
    rows = [{"user_id": 7, "event_time": at(days=day, seconds=day * 4000)} for day in (0, 0, 1, 2)]
    frame, names = events(*rows, {"user_id": 8}), session_names(*rows)
    cleaned = clean(frame, names, flags_of())
    products = encoded_columns(cleaned.events[PRODUCT_CODE].to_numpy())
    shard = sessionize(cleaned, products["product_id"], 3600)
    _, _, encoded = event_table(shard, products, event_ids(shard.events, shard.user_sessions))
    dictionaries = {
        name: array.dictionary.to_pylist()
        for name, array in encoded.items()
        if isinstance(array, pa.DictionaryArray)
    }
    assert {"user_id", "session_id", "product_id"} < set(dictionaries)
    assert encoded["user_id"].to_pylist() == list(cleaned.events["user_id"].cast(pl.String))
    assert all(len(texts) == len(set(texts)) for texts in dictionaries.values())


def sessions_of(*rows: dict[str, object], timeout: int = 3600) -> list[dict[str, object]]:
    cleaned = clean(events(*rows), session_names(*rows), flags_of())
    products = encoded_columns(cleaned.events[PRODUCT_CODE].to_numpy())
    shard = sessionize(cleaned, products["product_id"], timeout)
    _, frame, _ = session_table(shard)
    return frame.sort("session_id").to_dicts()


def test_a_gap_of_more_than_the_timeout_starts_the_next_session():
    times = [0, 3600, 7201, 7202, 10_802, 90_000]
    found = sessions_of(*({"event_time": at(seconds)} for seconds in reversed(times)))
    assert [(row["session_id"], row["event_count"], row["session_length"]) for row in found] == [
        ("s", 2, 3600),
        ("s_timeout_1", 3, 3601),
        ("s_timeout_2", 1, 0),
    ]
    assert [row["session_start_time"] for row in found] == [at(0), at(7201), at(90_000)]


def test_sessions_are_numbered_by_their_user_session():
    rows = [
        {"user_session": name, "event_time": at(days=day)} for name in ("b", "a") for day in (0, 1)
    ]
    assert [row["session_id"] for row in sessions_of(*rows)] == [
        *("a", "a_timeout_1"),
        *("b", "b_timeout_1"),
    ]


def test_the_largest_user_as_text_has_the_session():
    rows = [{"user_id": user} for user in (10, 9, 100, 512)]
    assert [row["user_id"] for row in sessions_of(*rows)] == ["9"]
    rows = [{"user_id": user, "event_time": at(days=user)} for user in (10, 9)]
    assert [row["user_id"] for row in sessions_of(*rows)] == ["9", "10"]


def test_a_session_counts_its_events():
    kinds = ["view", "view", "cart", "remove_from_cart", "purchase", "purchase"]
    (row,) = sessions_of(
        *(
            {
                "event_type": kind,
                "event_time": at(number),
                "product_id": number % 3,
                "price": Decimal("0.105"),
            }
            for number, kind in enumerate(kinds)
        )
    )
    assert row["event_count"] == 6
    assert row["unique_product_count"] == 3
    assert (row["view_count"], row["cart_additions"], row["cart_removals"]) == (2, 1, 1)
    assert (row["purchase_count"], row["total_revenue"]) == (2, Decimal("0.21"))
    assert (row["reached_view"], row["reached_cart"], row["reached_purchase"]) == (1, 1, 1)
    assert row["is_converting_session"] == 1


@pytest.mark.parametrize(
    ("kinds", "stage", "revenue"),
    [
        (["remove_from_cart"], "no_activity", None),
        (["view", "remove_from_cart"], "view", None),
        (["cart", "view"], "cart", None),
        (["view", "purchase"], "purchase", Decimal(0)),
    ],
)
def test_the_furthest_stage_and_revenue_where_there_is_some(kinds, stage, revenue):
    (row,) = sessions_of(*({"event_type": kind, "price": Decimal(0)} for kind in kinds))
    assert row["funnel_stage"] == stage
    assert row["total_revenue"] == revenue


@pytest.mark.parametrize(
    ("length", "count", "tier", "bucket"),
    [
        (0, 1, "Low", "Very Short (0-60s)"),
        (60, 3, "Low", "Very Short (0-60s)"),
        (61, 99, "Low", "Short (61-300s)"),
        (149, 3, "Low", "Short (61-300s)"),
        (150, 2, "Low", "Short (61-300s)"),
        (150, 3, "Medium", "Short (61-300s)"),
        (300, 10, "Medium", "Short (61-300s)"),
        (301, 11, "High", "Medium (301-600s)"),
        (600, 10, "Medium", "Medium (301-600s)"),
        (601, 3, "High", "Long (600+s)"),
        (601, 2, "Low", "Long (600+s)"),
    ],
)
def test_tiers_and_buckets_have_the_bounds_of_the_contract(length, count, tier, bucket):
    frame = pl.DataFrame({"session_length": [length], "event_count": [count]})
    assert frame.select(tier=quality_tier(), bucket=length_bucket()).row(0) == (tier, bucket)


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(
            st.datetimes(datetime(2019, 1, 1), datetime(2021, 12, 31)),  # noqa: DTZ001 - made UTC below
            st.sampled_from(["view", "cart", "remove_from_cart", "purchase"]),
            st.integers(0, 2**63 - 1),
            st.integers(0, 2**63 - 1),
            st.text(min_size=1, max_size=80),
        ),
        max_size=20,
    )
)
@example(
    [
        (datetime(1, 1, 1), "view", 0, 1, "a|b"),  # noqa: DTZ001
        (datetime(9999, 12, 31, 23, 59, 59), "cart", 1, 0, "x" * 500),  # noqa: DTZ001
    ]
)
def test_event_ids_are_the_md5_of_the_key(rows):
    rows = [(time.replace(microsecond=0), *rest) for time, *rest in rows]
    columns = list(zip(*rows, strict=True)) or [()] * 5
    frame = pl.DataFrame(
        {
            "event_time": pl.Series(columns[0], dtype=pl.Datetime("us")),
            "event_type": pl.Series(columns[1], dtype=EVENT_TYPE),
            "user_id": pl.Series(columns[2], dtype=pl.Int64),
            "product_id": pl.Series(columns[3], dtype=pl.Int64),
            "session_number": pl.Series(range(len(rows)), dtype=pl.UInt32),
            "category_id": pl.Series([None] * len(rows), dtype=pl.Int64),
            "category_code": pl.Series([None] * len(rows), dtype=pl.Categorical),
            "brand": pl.Series([None] * len(rows), dtype=pl.Categorical),
        }
    ).with_columns(pl.col("event_time").dt.replace_time_zone("UTC"))
    found = event_ids(with_product_codes(frame), pl.Series(columns[4], dtype=pl.String))
    assert [bytes(row).decode() for row in found] == [
        hashlib.md5(f"{time}|{kind}|{user}|{product}|{session}".encode()).hexdigest()  # noqa: S324
        for time, kind, user, product, session in rows
    ]
