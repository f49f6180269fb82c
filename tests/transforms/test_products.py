"""Sums over products, against a plain aggregation."""

from decimal import Decimal

import polars as pl
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from tests.transforms.frames import events
from transforms.events import EVENT_SUMS, is_type
from transforms.products import ProductSums, index_products

ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "product_id": st.integers(1, 3),
            "brand": st.sampled_from(["a", "b", None]),
            "category_id": st.sampled_from([0, 1, None]),
            "category_code": st.sampled_from(["x.y", "x", None]),
            "event_type": st.sampled_from(["view", "cart", "remove_from_cart", "purchase"]),
            "price": st.decimals(0, Decimal(10) ** 20 - 1, places=9),
        }
    ),
    max_size=30,
)
VARIANT = ("product_id", "brand", "category_id", "category_code")


def plain_sums(frame: pl.DataFrame) -> pl.DataFrame:
    types = ("view", "cart", "remove_from_cart", "purchase")
    return frame.group_by(VARIANT).agg(
        pl.len().cast(pl.Int64).alias("events"),
        *(
            is_type(name).sum().cast(pl.Int64).alias(column)
            for name, column in zip(types, EVENT_SUMS[1:-1], strict=True)
        ),
        pl.col("price").filter(is_type("purchase")).sum().alias("revenue"),
    )


def assert_same(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    assert_frame_equal(found, expected, check_row_order=False, categorical_as_str=True)


@given(ROWS)
def test_products_are_indexed_and_summed_by_variant(rows):
    frame = events(*rows)
    indexed = index_products(frame)
    assert indexed.text.gather(indexed.index).cast(pl.Int64).to_list() == (
        frame["product_id"].to_list()
    )
    assert indexed.text.is_unique().all()
    assert_same(indexed.sums, plain_sums(frame))


@given(st.lists(ROWS, min_size=1, max_size=3))
def test_sums_of_shards_add_up_to_those_of_all(shards):
    frames = [events(*rows) for rows in shards]
    sums = ProductSums()
    for frame in frames:
        sums.add(index_products(frame).sums)
    found = sums.frame()
    assert_same(found, plain_sums(pl.concat(frames)))
