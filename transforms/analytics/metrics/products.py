"""What each product sells: metrics_products."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import polars as pl

from transforms.analytics.metrics.metric import COUNT, Facts, Metric, Partial, Source
from transforms.analytics.sales import SALES, sales, with_revenue_ranks, with_sales_rates
from transforms.analytics.users import DescribedUsers
from transforms.columnar.product_codes import PRODUCT_CODE, columns_of
from transforms.schema import METRICS_PRODUCTS


def product_sales(shard: DescribedUsers) -> pl.DataFrame:
    """`sales` of the users of one shard by product."""
    codes = shard.basket_events[PRODUCT_CODE].to_numpy()
    products = columns_of(codes, ("product_id",))
    return sales(shard.basket_events.hstack(products), "product_id")


PRODUCT_SALES: Final = Partial(
    name="product_sales",
    source=Source.USERS,
    schema=pl.Schema({"product_id": COUNT, **dict.fromkeys(SALES, COUNT)}),
    keys=("product_id",),
    compute=product_sales,
)


def metrics_products(partials: Mapping[str, pl.DataFrame], facts: Facts) -> pl.DataFrame:
    """The rows of metrics_products."""
    rows = facts.catalogue.products.join(
        partials[PRODUCT_SALES.name], on="product_id", how="left"
    ).with_columns(pl.col(SALES).fill_null(0))
    return METRICS_PRODUCTS.conform(with_revenue_ranks(with_sales_rates(rows), "product_id"))


METRIC: Final = Metric(METRICS_PRODUCTS, (PRODUCT_SALES,), metrics_products)
