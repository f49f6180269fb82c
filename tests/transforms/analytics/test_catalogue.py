"""Sums over products, against a plain aggregation."""

from decimal import Decimal

import polars as pl
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from tests.transforms.frames import at, events
from transforms.analytics.catalogue import ProductSums
from transforms.columnar.grouping import EVENT_SUMS
from transforms.columnar.product_codes import PRODUCT_COLUMNS, with_products
from transforms.ingest.batch import is_type

ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "product_id": st.integers(1, 3),
            "brand": st.sampled_from(["a", "b", None]),
            "category_id": st.sampled_from([0, 1, None]),
            "category_code": st.sampled_from(["x.y", "x", None]),
            "event_type": st.sampled_from(["view", "cart", "remove_from_cart", "purchase"]),
            "event_time": st.sampled_from([at(), at(1), at(days=-1), at(days=1)]),
            "price": st.decimals(0, Decimal(10) ** 20 - 1, places=9),
        }
    ),
    max_size=30,
)


def plain_sums(frame: pl.DataFrame) -> pl.DataFrame:
    types = ("view", "cart", "remove_from_cart", "purchase")
    return frame.group_by(PRODUCT_COLUMNS).agg(
        pl.len().cast(pl.Int64).alias("events"),
        *(
            is_type(name).sum().cast(pl.Int64).alias(column)
            for name, column in zip(types, EVENT_SUMS[1:-1], strict=True)
        ),
        pl.col("price").filter(is_type("purchase")).sum().alias("revenue"),
        pl.col("event_time").min().dt.date().alias("first_event_date"),
        pl.col("event_time").max().dt.date().alias("last_event_date"),
        pl.col("event_time")
        .filter(is_type("purchase"))
        .max()
        .dt.date()
        .alias("last_purchase_date"),
        pl.col("price").min().alias("min_price"),
        pl.col("price").max().alias("max_price"),
    )


def assert_same(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    assert_frame_equal(found, expected, check_row_order=False, categorical_as_str=True)


@given(st.lists(ROWS, min_size=1, max_size=3))
def test_events_are_summed_and_ranged_by_variant_over_shards(shards):
    frames = [events(*rows) for rows in shards]
    sums = ProductSums()
    for frame in frames:
        sums.add(frame)
    assert_same(sums.frame(), plain_sums(with_products(pl.concat(frames))))


def test_without_ranges_nothing_is_said_of_dates():
    sums = ProductSums()
    sums.add(events({"product_id": 1}, {"product_id": 2}), has_ranges=False)
    found = sums.frame()
    assert found["events"].to_list() == [1, 1]
    assert found["first_event_date"].null_count() == found.height
