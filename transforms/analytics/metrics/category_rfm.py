"""Purchases by category and RFM segment: metrics_category_rfm."""

from __future__ import annotations

import polars as pl

from transforms.analytics.catalogue import Catalogue
from transforms.analytics.category_exposures import subcategories
from transforms.schema import METRICS_CATEGORY_RFM


def category_purchases(
    bought: pl.DataFrame, scored: pl.DataFrame, found: Catalogue
) -> pl.DataFrame:
    """Purchases by top-level category and RFM segment, of one user shard.

    Args:
        bought: `purchases` of the shard's users.
        scored: The shard's buyers with `rfm_segment`.
        found: The catalogue.
    """
    tops = found.subcategories["category_lvl_1"]
    return (
        bought.with_columns(tops[subcategories(bought, found)])
        .join(scored.select("user_id", "rfm_segment"), on="user_id")
        .group_by("category_lvl_1", "rfm_segment")
        .agg(pl.col("purchases", "revenue").sum())
    )


def metrics_category_rfm(partials: pl.DataFrame) -> pl.DataFrame:
    """The rows of metrics_category_rfm, of `category_purchases` of all user shards."""
    keys = ("category_lvl_1", "rfm_segment")
    return METRICS_CATEGORY_RFM.conform(
        partials.group_by(keys).agg(pl.col("purchases", "revenue").sum()).sort(keys)
    )
