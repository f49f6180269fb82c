"""What each brand sells: metrics_brands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import polars as pl

from transforms.analytics.catalogue import merged_ranges
from transforms.analytics.metrics.metric import COUNT, Facts, Metric, Partial, Source
from transforms.analytics.sales import SALES, sales, with_revenue_ranks, with_sales_rates
from transforms.analytics.users import DescribedUsers
from transforms.columnar.grouping import EVENT_SUMS
from transforms.columnar.product_codes import PRODUCT_CODE, columns_of
from transforms.schema import METRICS_BRANDS, UNKNOWN_BRAND

_BRAND: Final = pl.col("brand").fill_null(UNKNOWN_BRAND)


def brand_sales(shard: DescribedUsers) -> pl.DataFrame:
    """`sales` of the users of one shard by brand: that of the product in dim_products."""
    products = columns_of(shard.basket_events[PRODUCT_CODE].to_numpy(), ("product_id",))
    brands = (
        shard.catalogue.products.select("product_id", _BRAND)
        .join(products.unique(), on="product_id", how="semi")
        .with_columns(brand_number=pl.col("brand").rank("dense"))
    )
    numbers = products.join(brands, on="product_id", how="left", maintain_order="left")
    return (
        sales(shard.basket_events.hstack(numbers.select("brand_number")), "brand_number")
        .join(brands.select("brand", "brand_number").unique(), on="brand_number")
        .select("brand", *SALES)
    )


BRAND_SALES: Final = Partial(
    name="brand_sales",
    source=Source.USERS,
    schema=pl.Schema({"brand": pl.String(), **dict.fromkeys(SALES, COUNT)}),
    keys=("brand",),
    compute=brand_sales,
)


def metrics_brands(partials: Mapping[str, pl.DataFrame], facts: Facts) -> pl.DataFrame:
    """The rows of metrics_brands."""
    rows = (
        facts.catalogue.products.with_columns(_BRAND)
        .group_by("brand")
        .agg(pl.len().cast(pl.Int64).alias("products"), pl.col(EVENT_SUMS).sum(), *merged_ranges())
        .join(partials[BRAND_SALES.name], on="brand", how="left")
        .with_columns(pl.col(SALES).fill_null(0))
    )
    return METRICS_BRANDS.conform(with_revenue_ranks(with_sales_rates(rows), "brand"))


METRIC: Final = Metric(METRICS_BRANDS, (BRAND_SALES,), metrics_brands)
