"""Pairs of products: counts of shards, and which are the best."""

import random

import polars as pl
import pytest

from tests.transforms.frames import events
from transforms.analytics import product_pairs
from transforms.analytics.product_pairs import (
    BEST_PAIRS,
    PRODUCT_BASKETS,
    PRODUCT_PAIRS,
    best_pairs,
    count_baskets,
    frequent_pairs,
    metrics_product_pairs,
)
from transforms.columnar.product_codes import PRODUCT_CODE


def purchases_of(*baskets):
    """Purchases of an order each, two orders in a session."""
    rows = [
        (number // 2, number, product)
        for number, products in enumerate(baskets)
        for product in products
    ]
    codes = events(*({"product_id": product} for _, _, product in rows))[PRODUCT_CODE]
    return pl.DataFrame(
        rows, schema={"session_index": pl.UInt32, "order": pl.UInt32, "p": pl.Int64}, orient="row"
    ).with_columns(codes)


def test_baskets_are_counted_by_order_and_by_session():
    found = count_baskets(purchases_of((1, 2, 2), (2, 3), (7,)))
    assert found.pairs.schema == PRODUCT_PAIRS
    assert sorted(found.pairs.rows()) == [
        *(("order", 1, 2, 1), ("order", 2, 3, 1)),
        *(("session", 1, 2, 1), ("session", 1, 3, 1), ("session", 2, 3, 1)),
    ]
    assert found.baskets.schema == PRODUCT_BASKETS
    of_two = found.baskets.filter(pl.col("product_id") == 2)
    assert sorted(of_two["baskets"]) == [1, 2]
    assert sorted(found.baskets.filter(pl.col("product_id").is_null())["baskets"]) == [2, 3]
    assert found.skipped == 0


def test_larger_baskets_are_skipped():
    found = count_baskets(purchases_of(range(60), range(41, 101), range(500, 601)))
    assert found.skipped == 3  # both sessions, and the third order
    assert set(found.pairs["basis"]) == {"order"}
    assert found.pairs["together"].sum() == 60 * 59


def test_of_no_purchase_nothing_is_counted():
    found = count_baskets(purchases_of((1,)).clear())
    assert found.pairs.is_empty()
    assert found.baskets["baskets"].sum() == 0
    assert metrics_product_pairs(BEST_PAIRS.to_frame(), PRODUCT_BASKETS.to_frame()).is_empty()


@pytest.mark.parametrize("at_once", [1, 5, 1000])
def test_few_pairs_at_once_count_the_same(monkeypatch, at_once):
    purchases = purchases_of((1, 2, 3), (1, 2), (2, 3, 4, 5), (1, 5))
    expected = count_baskets(purchases).pairs
    monkeypatch.setattr(product_pairs, "_PAIRS_AT_ONCE", at_once)
    assert sorted(count_baskets(purchases).pairs.rows()) == sorted(expected.rows())


def test_the_best_of_parts_are_the_best_of_all():
    """Few distinct counts, so that ties are common."""
    draw = random.Random(1)
    pairs = pl.DataFrame(
        [
            ("order", a, b, draw.randint(1, 3))
            for a in range(30)
            for b in range(a + 1, 60)
            if draw.random() < 0.9
        ],
        schema=PRODUCT_PAIRS,
        orient="row",
    )
    baskets = pl.DataFrame(
        [("order", product, draw.randint(3, 5)) for product in range(60)],
        schema=PRODUCT_BASKETS,
        orient="row",
    )
    whole = frequent_pairs(pairs, baskets, 1)
    assert 0 < whole.height < pairs.height
    for shards in (2, 3, 7):
        parts = pairs.with_columns(shard=pl.int_range(pl.len()) % shards).partition_by(
            "shard", include_key=False
        )
        best = best_pairs(pl.concat(frequent_pairs(part, baskets, 1) for part in parts))
        assert sorted(best.rows()) == sorted(whole.rows())
