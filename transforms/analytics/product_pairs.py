"""What is bought together: metrics_product_pairs.

Pairs are counted exactly, by shards of pairs: a shop has far more of them than products. What is
kept of each shard is the best pairs of each product, so that what is put together is small.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import polars as pl

from transforms.columnar.money import rate, rate_of_counts
from transforms.columnar.product_codes import PRODUCT_CODE, columns_of
from transforms.schema import BASKETS_BY, METRICS_PRODUCT_PAIRS, MOST_BASKET_PRODUCTS

_BASIS: Final = pl.Enum(BASKETS_BY)

_MOST_PARTNERS: Final = 20

_PAIRS_AT_ONCE: Final = 1 << 22

PRODUCT_PAIRS: Final = pl.Schema(
    {"basis": _BASIS, "product_a": pl.Int64(), "product_b": pl.Int64(), "together": pl.Int64()}
)
"""Columns of counts of pairs, of which the first product has the smaller id; they add up."""

PRODUCT_BASKETS: Final = pl.Schema(
    {"basis": _BASIS, "product_id": pl.Int64(), "baskets": pl.Int64()}
)
"""Columns of counts of baskets by a product they hold, and of all with NULL; they add up."""

BEST_PAIRS: Final = pl.Schema({**PRODUCT_PAIRS, "baskets_a": pl.Int64(), "baskets_b": pl.Int64()})
"""Columns of `best_pairs`."""


class BasketCounts(NamedTuple):
    """What is counted of the baskets of a session shard.

    Attributes:
        pairs: `PRODUCT_PAIRS`, each once.
        baskets: `PRODUCT_BASKETS`, each once.
        skipped: Baskets of more products than are paired.
    """

    pairs: pl.DataFrame
    baskets: pl.DataFrame
    skipped: int


def count_baskets(purchases: pl.DataFrame) -> BasketCounts:
    """Count the baskets of a session shard, which holds each order and session whole.

    Args:
        purchases: `orders.ordered_purchases` of the shard.
    """
    products = columns_of(purchases[PRODUCT_CODE].to_numpy(), ("product_id",))
    bought = purchases.hstack(products)
    pairs, baskets, skipped = [PRODUCT_PAIRS.to_frame()], [PRODUCT_BASKETS.to_frame()], 0
    for basis, basket in zip(BASKETS_BY, ("order", "session_index"), strict=True):
        items = bought.select(basket=basket, product_id="product_id").unique()
        sized = items.with_columns(products=pl.len().over("basket"))
        kept = sized.filter(pl.col("products") <= MOST_BASKET_PRODUCTS)
        skipped += items["basket"].n_unique() - kept["basket"].n_unique()
        of_all = pl.DataFrame({"product_id": [None], "baskets": [kept["basket"].n_unique()]})
        by_product = kept.group_by("product_id").len("baskets")
        basis_column = pl.lit(basis, _BASIS).alias("basis")
        pairs += [
            found.select(basis_column, *found.columns).cast(PRODUCT_PAIRS)
            for found in _pairs(kept.filter(pl.col("products") > 1))
        ]
        baskets += [
            found.select(basis_column, *found.columns).cast(PRODUCT_BASKETS)
            for found in (of_all, by_product)
        ]
    return BasketCounts(add_up_pairs(pl.concat(pairs)), pl.concat(baskets), skipped)


def _pairs(items: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Counts of the pairs of some baskets at a time, so that few are in memory at once."""
    at_once = items.sort("basket", "product_id").with_columns(
        part=(pl.col("products").cum_sum() // _PAIRS_AT_ONCE).max().over("basket")
    )
    for part in at_once.partition_by("part", maintain_order=True):
        yield (
            part.select("basket", product_a="product_id")
            .join(part.select("basket", product_b="product_id"), on="basket")
            .filter(pl.col("product_a") < pl.col("product_b"))
            .group_by("product_a", "product_b")
            .len("together")
        )


def add_up_pairs(counts: pl.DataFrame) -> pl.DataFrame:
    """`PRODUCT_PAIRS` of several shards, added up."""
    return counts.group_by("basis", "product_a", "product_b").agg(pl.col("together").sum())


def add_up_baskets(counts: pl.DataFrame) -> pl.DataFrame:
    """`PRODUCT_BASKETS` of several shards, added up."""
    return counts.group_by("basis", "product_id").agg(pl.col("baskets").sum())


def frequent_pairs(
    pairs: pl.DataFrame, baskets: pl.DataFrame, min_pair_baskets: int
) -> pl.DataFrame:
    """The pairs of one shard that may be among the best of all.

    Args:
        pairs: `PRODUCT_PAIRS` of all session shards, of the pairs of this shard.
        baskets: `add_up_baskets` of all shards.
        min_pair_baskets: The fewest baskets that a pair must be in.

    Returns:
        A `BEST_PAIRS` frame.
    """
    found = add_up_pairs(pairs).filter(pl.col("together") >= min_pair_baskets)
    for side in ("a", "b"):
        found = found.join(
            baskets.rename({"product_id": f"product_{side}", "baskets": f"baskets_{side}"}),
            on=["basis", f"product_{side}"],
            how="left",
        )
    return best_pairs(found.select(BEST_PAIRS.names()))


def best_pairs(pairs: pl.DataFrame) -> pl.DataFrame:
    """The pairs that are among the best of one of their products.

    What is the best of some pairs is the same of the best of parts of them, so that parts merge.

    Args:
        pairs: A `BEST_PAIRS` frame, each pair once.
    """
    numbered = pairs.with_row_index("pair")
    # Of equal counts with one product, the lift is the larger the fewer baskets hold the other.
    places = pl.concat(
        numbered.select(
            "pair",
            "basis",
            "together",
            product=f"product_{product}",
            other=f"product_{other}",
            other_baskets=f"baskets_{other}",
        )
        for product, other in (("a", "b"), ("b", "a"))
    ).sort(
        *("basis", "product", "together", "other_baskets", "other"),
        descending=[False, False, True, False, False],
    )
    best = places.filter(pl.int_range(pl.len()).over("basis", "product") < _MOST_PARTNERS)
    return pairs[best["pair"].unique()]


def metrics_product_pairs(pairs: pl.DataFrame, baskets: pl.DataFrame) -> pl.DataFrame:
    """The rows of metrics_product_pairs.

    Args:
        pairs: `best_pairs` of all shards.
        baskets: `add_up_baskets` of all shards.
    """
    of_all = baskets.filter(pl.col("product_id").is_null()).select("basis", "baskets")
    rows = pairs.join(of_all, on="basis", how="left").sort("basis", "product_a", "product_b")
    exact = pl.Decimal(38, 0)
    over, under = (
        rows.select(pl.col(one).cast(exact) * pl.col(other).cast(exact)).to_series()
        for one, other in (("together", "baskets"), ("baskets_a", "baskets_b"))
    )
    return METRICS_PRODUCT_PAIRS.conform(
        rows.with_columns(
            support=rate_of_counts(rows["together"], rows["baskets"]),
            confidence_ab=rate_of_counts(rows["together"], rows["baskets_a"]),
            confidence_ba=rate_of_counts(rows["together"], rows["baskets_b"]),
            lift=rate(over, under),
        )
    )
