"""The tables of what sells: products, baskets and carts."""

from __future__ import annotations

import polars as pl

from transforms.schema.types import (
    DATE,
    INT64,
    NUMERIC,
    STRING,
    Column,
    RowCheck,
    Table,
    count,
    rate,
    required,
    revenue,
    totals,
)
from transforms.schema.values import ABC_CLASSES

_SUMS = (
    required("events", INT64, "Events.", minimum=1),
    count("views", "Views."),
    count("cart_adds", "Additions to the cart."),
    count("cart_removes", "Removals from the cart."),
    count("purchases", "Purchases."),
    count("orders", "Distinct orders (as in fct_orders) that hold it."),
    count("carters", "Distinct users with an addition to the cart."),
    count("buyers", "Distinct users with a purchase."),
    count("repeat_buyers", "Distinct users with purchases on two days or more."),
    revenue("Sum of purchases; 0 where there is none.", required=True),
    rate("view_to_cart_rate", "cart_adds / views, of events."),
    rate("view_to_purchase_rate", "purchases / views, of events."),
    rate("cart_to_purchase_rate", "Users who both carted and bought it / carters."),
    rate("repeat_buyer_rate", "repeat_buyers / buyers."),
    required("first_event_date", DATE, "Date of the first event."),
    required("last_event_date", DATE, "Date of the last event."),
    Column("last_purchase_date", DATE, "Date of the last purchase; NULL without one."),
)


def _ranks(tie: str) -> tuple[Column, ...]:
    return (
        required(
            "revenue_rank",
            INT64,
            f"1, 2, … by revenue, the largest first; ties by {tie}.",
            minimum=1,
        ),
        rate("revenue_share", "Share of all revenue; NULL where there is none."),
        rate("cumulative_share", "Share of the rows up to this rank."),
        required(
            "abc_class",
            STRING,
            "A while the share of the rows before it is below 0.8, B while it is below 0.95, else "
            "C; C without revenue.",
            accepted=ABC_CLASSES,
        ),
    )


_ROW_CHECKS = (
    RowCheck(
        "events_of_types",
        pl.sum_horizontal("views", "cart_adds", "cart_removes", "purchases") != pl.col("events"),
    ),
    RowCheck("orders_of_purchases", pl.col("orders") > pl.col("purchases")),
    RowCheck("repeat_buyers_are_buyers", pl.col("repeat_buyers") > pl.col("buyers")),
    RowCheck(
        "last_purchase_of_purchases",
        pl.col("last_purchase_date").is_not_null() != (pl.col("purchases") > 0),
    ),
)

_MEASURES = totals("events", "views", "cart_adds", "cart_removes", "purchases", "revenue")


METRICS_PRODUCTS = Table(
    name="metrics_products",
    group="selling",
    grain="one row per product of dim_products",
    key=("product_id",),
    cluster_by=("product_id",),
    columns=(
        required("product_id", STRING, "The product."),
        Column("brand", STRING, "brand of dim_products."),
        Column("category_lvl_1", STRING, "category_lvl_1 of dim_products."),
        Column("category_lvl_2", STRING, "category_lvl_2 of dim_products."),
        *_SUMS,
        required("min_price", NUMERIC, "Smallest price of its events.", minimum=0),
        required("max_price", NUMERIC, "Largest price of its events.", minimum=0),
        *_ranks("product_id as a number"),
    ),
    row_checks=(
        *_ROW_CHECKS,
        RowCheck("prices_in_order", pl.col("min_price") > pl.col("max_price")),
    ),
    measures=_MEASURES,
)


METRICS_BRANDS = Table(
    name="metrics_brands",
    group="selling",
    grain="one row per brand of dim_products",
    key=("brand",),
    columns=(
        required("brand", STRING, "The brand; unknown where there is none."),
        required("products", INT64, "Its products in dim_products.", minimum=1),
        *_SUMS,
        *_ranks("brand"),
    ),
    row_checks=_ROW_CHECKS,
    measures=_MEASURES,
)
