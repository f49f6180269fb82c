"""Purchases by category and RFM segment: metrics_category_rfm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import polars as pl

from transforms.analytics.category_exposures import subcategories
from transforms.analytics.metrics.metric import COUNT, Facts, Metric, Partial, Source
from transforms.analytics.users import DescribedUsers
from transforms.columnar.money import MONEY
from transforms.schema import METRICS_CATEGORY_RFM

_KEYS: Final = ("category_lvl_1", "rfm_segment")


def category_purchases(shard: DescribedUsers) -> pl.DataFrame:
    """Purchases of a user shard by top-level category and RFM segment."""
    tops = shard.catalogue.subcategories["category_lvl_1"]
    return (
        shard.purchases.with_columns(tops[subcategories(shard.purchases, shard.catalogue)])
        .join(shard.buyers.select("user_id", "rfm_segment"), on="user_id")
        .group_by(_KEYS)
        .agg(pl.col("purchases", "revenue").sum())
    )


CATEGORY_PURCHASES: Final = Partial(
    name="category_purchases",
    source=Source.USERS,
    schema=pl.Schema({**dict.fromkeys(_KEYS, pl.String()), "purchases": COUNT, "revenue": MONEY}),
    keys=_KEYS,
    compute=category_purchases,
)


def metrics_category_rfm(partials: Mapping[str, pl.DataFrame], _: Facts) -> pl.DataFrame:
    """The rows of metrics_category_rfm."""
    return METRICS_CATEGORY_RFM.conform(partials[CATEGORY_PURCHASES.name].sort(_KEYS))


METRIC: Final = Metric(METRICS_CATEGORY_RFM, (CATEGORY_PURCHASES,), metrics_category_rfm)
