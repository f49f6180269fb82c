"""Which rows are dropped, and for which reason."""

from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transforms.frames import at, events, flags_of, product_codes_of, session_names
from transforms.analytics.cleaning import (
    ambiguous_products,
    candidate_brands,
    clean,
    drop_duplicates,
    multi_brand_products,
)
from transforms.columnar.product_codes import with_products
from transforms.ingest.session_keys import SESSION_KEY


def kept(frame: pl.DataFrame, *columns: str) -> list[tuple[object, ...]]:
    found = drop_duplicates(frame).select(
        pl.col(name).cast(pl.String) if name in ("brand", "category_code") else name
        for name in columns
    )
    return sorted(found.rows(), key=repr)


@pytest.mark.parametrize(
    ("column", "values", "first"),
    [
        ("category_id", [10, 9, None], 9),
        ("category_code", ["b", "B", "aa", None], "B"),
        ("brand", ["é", "z", None], "z"),
        ("brand", ["\U0001f600", "\uffee"], "\uffee"),
        ("price", [Decimal(10), Decimal("9.99")], Decimal("9.99")),
    ],
)
def test_the_first_of_duplicates_stays(column, values, first):
    for order in (values, values[::-1]):
        frame = events(*({column: value} for value in order))
        assert kept(frame, column) == [(first,)]


def test_category_comes_before_brand_and_price():
    frame = events(
        {"category_id": 2, "brand": "a", "price": Decimal(1)},
        {"category_id": 1, "brand": "b", "price": Decimal(3)},
        {"category_id": 1, "brand": "b", "price": Decimal(2)},
    )
    assert kept(frame, "category_id", "brand", "price") == [(1, "b", Decimal(2))]


@pytest.mark.parametrize(
    ("column", "other"),
    [
        ("event_time", at(1)),
        ("event_type", "cart"),
        ("product_id", 2),
        ("user_id", 8),
        ("user_session", "t"),
        ("user_session", None),
    ],
)
def test_rows_that_differ_in_the_key_are_no_duplicates(column, other):
    assert drop_duplicates(events({}, {column: other})).height == 2


def test_rows_without_a_session_are_duplicates_of_each_other():
    frame = events({"user_session": None, "brand": "b"}, {"user_session": None, "brand": "a"})
    assert kept(frame, "brand") == [("a",)]


def test_each_row_counts_under_the_first_reason():
    rows = [
        {"product_id": 1},
        {"product_id": 1},
        {"product_id": 2},
        {"product_id": 2, "user_session": None},
        {"product_id": 2, "user_session": None},
        {"product_id": 3, "user_session": None},
        {"product_id": 3, "user_session": None, "event_type": "cart"},
    ]
    cleaned = clean(events(*rows), session_names(*rows), flags_of(2))
    assert cleaned.duplicate == 2
    assert cleaned.multi_brand_product == 2
    assert cleaned.missing_session == 2
    assert with_products(cleaned.events)["product_id"].to_list() == [1]


ROWS = st.lists(
    st.builds(
        lambda seconds, kind, product, session, brand: {
            "event_time": at(seconds),
            "event_type": kind,
            "product_id": product,
            "user_session": session,
            "brand": brand,
        },
        st.integers(0, 2),
        st.sampled_from(["view", "purchase"]),
        st.integers(1, 2),
        st.sampled_from(["a", "0000000b", None]),
        st.sampled_from(["x", "y", None]),
    ),
    max_size=25,
)


@given(rows=ROWS, multi_brand=st.sampled_from([[], [1], [2], [1, 2]]))
def test_cleaning_is_what_the_rules_say_row_by_row(rows, multi_brand):
    frame = events(*rows)
    names = session_names(*rows)
    cleaned = clean(frame, names, flags_of(*multi_brand))
    distinct = drop_duplicates(frame)
    ambiguous = distinct.filter(pl.col("product_id").is_in(multi_brand))
    rest = distinct.filter(~pl.col("product_id").is_in(multi_brand))
    assert cleaned.duplicate == frame.height - distinct.height
    assert cleaned.multi_brand_product == ambiguous.height
    assert cleaned.missing_session == rest["session_high"].null_count()
    columns = ("user_session", "event_time", "event_type", "product_id", "brand")
    found = (
        with_products(cleaned.events)
        .with_columns(user_session=cleaned.user_sessions.gather(cleaned.events["session_number"]))
        .select(columns)
    )
    rest = rest.join(names, on=SESSION_KEY)
    expected = rest.select(columns)
    assert sorted(found.rows(), key=repr) == sorted(expected.rows(), key=repr)
    order = cleaned.events.select("session_number", "event_time").rows()
    assert order == sorted(order)


def test_a_product_is_ambiguous_by_brands_or_categories():
    frame = events(
        *({"product_id": 1, "brand": brand} for brand in ("a", "a", None)),
        *({"product_id": 2, "brand": brand} for brand in ("a", "b")),
        *({"product_id": 3, "category_id": category} for category in (5, None)),
        *({"product_id": 4, "category_id": category} for category in (5, 5)),
    )
    halves = pl.concat([product_codes_of(frame.head(3)), product_codes_of(frame.tail(6))])
    found = ambiguous_products(halves).sort("product_id")
    assert found.rows() == [(2, True, False), (3, False, True)]
    assert ambiguous_products(product_codes_of(frame.clear())).height == 0


def test_a_brand_that_only_duplicates_have_makes_no_product_ambiguous():
    shards = [
        events({"brand": "b"}, {"brand": "a"}, {"product_id": 2, "brand": "a"}),
        events({"brand": "a", "user_session": "t"}, {"product_id": 2, "brand": "b", "user_id": 9}),
    ]
    brands = pl.concat([candidate_brands(shard) for shard in shards])
    assert multi_brand_products(brands).to_list() == [2]


def test_nothing_is_cleaned_to_nothing():
    cleaned = clean(events({}).clear(), session_names(), flags_of())
    assert cleaned.events.height == cleaned.duplicate == cleaned.missing_session == 0
