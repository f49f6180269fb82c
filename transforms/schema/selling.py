"""The tables of what sells: products, baskets and carts."""

from __future__ import annotations

import polars as pl

from transforms.schema.types import (
    DATE,
    INT64,
    NUMERIC,
    STRING,
    TIMESTAMP,
    Column,
    RowCheck,
    Table,
    count,
    rate,
    required,
    revenue,
    totals,
)
from transforms.schema.values import (
    ABC_CLASSES,
    BASKETS_BY,
    CART_PERIODS,
    CART_RECOVERY_DAYS,
    CART_STATUSES,
    CART_VALUE_STATUSES,
    MOST_BASKET_PRODUCTS,
)

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


def _money(name: str, description: str) -> Column:
    return required(name, NUMERIC, description, minimum=0)


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


FCT_CARTS = Table(
    name="fct_carts",
    group="selling",
    grain="one row per user, session and product with an addition to the cart",
    key=("user_id", "session_id", "product_id"),
    partition_by="cart_date",
    cluster_by=("user_id",),
    large=True,
    columns=(
        required("user_id", STRING, "Whose cart it is."),
        required("session_id", STRING, "The fct_sessions row that holds the additions."),
        required("product_id", STRING, "What was added."),
        required("cart_date", DATE, "UTC date of first_added_time."),
        required("first_added_time", TIMESTAMP, "Time of the first addition (UTC)."),
        required("last_added_time", TIMESTAMP, "Time of the last addition (UTC)."),
        required("additions", INT64, "Additions to the cart.", minimum=1),
        count("removals", "Removals from the cart, in this session."),
        required(
            "price",
            NUMERIC,
            "Price of the last addition; the highest of those at that second.",
            minimum=0,
        ),
        required(
            "status",
            STRING,
            "The first that applies. purchased: the user buys the product in this session at or "
            "after first_added_time. removed: the last addition or removal is a removal; at the "
            "same second the removal is later. carried_over: the user adds it again in another "
            f"session that first does so within {CART_RECOVERY_DAYS} days after last_added_time. "
            "recovered: the user buys it in another session within that time. open: that time "
            "ends after as_of. Else abandoned.",
            accepted=CART_STATUSES,
        ),
        Column(
            "resolved_time",
            TIMESTAMP,
            "Time of the first purchase that counts, or of the addition in the other session "
            "(UTC); NULL for removed, open and abandoned.",
        ),
    ),
    row_checks=(
        RowCheck(
            "cart_date_of_first_addition",
            pl.col("cart_date") != pl.col("first_added_time").dt.date(),
        ),
        RowCheck("additions_in_order", pl.col("first_added_time") > pl.col("last_added_time")),
        RowCheck(
            "resolved_by_status",
            pl.col("resolved_time").is_null()
            != pl.col("status").cast(pl.String).is_in(("removed", "open", "abandoned")),
        ),
    ),
    measures={"cart_lines": pl.len()} | totals(cart_adds="additions"),
)


METRICS_CARTS = Table(
    name="metrics_carts",
    group="selling",
    grain="one row for all carts, one per day, ISO week and month with one, and one per "
    "category_lvl_1",
    key=("period", "period_start", "category_lvl_1"),
    columns=(
        required("period", STRING, "Length of the period.", accepted=CART_PERIODS),
        Column("period_start", DATE, "First day of the period of cart_date; NULL for all."),
        Column(
            "category_lvl_1",
            STRING,
            "Top-level category of the product in dim_products, unknown where there is none; NULL "
            "in the rows of all categories.",
        ),
        required("lines", INT64, "Rows of fct_carts.", minimum=1),
        required("carts", INT64, "Distinct (user_id, session_id) of them.", minimum=1),
        required("users", INT64, "Distinct users of them.", minimum=1),
        *(count(status, f"Lines of status {status}.") for status in CART_STATUSES),
        _money("cart_value", "Sum of price over all lines but those removed and carried_over."),
        *(
            _money(f"{status}_value", f"Sum of price over the lines of status {status}.")
            for status in CART_VALUE_STATUSES
        ),
        rate("abandonment_rate", "abandoned / (purchased + recovered + abandoned)."),
        rate("recovery_rate", "recovered / (recovered + abandoned)."),
    ),
    row_checks=(
        RowCheck("statuses_add_up", pl.sum_horizontal(CART_STATUSES) != pl.col("lines")),
        RowCheck("carts_of_lines", pl.col("carts") > pl.col("lines")),
        RowCheck("users_of_carts", pl.col("users") > pl.col("carts")),
    ),
    measures=totals(
        where=(pl.col("period") == "all") & pl.col("category_lvl_1").is_null(), cart_lines="lines"
    ),
)


METRICS_PRODUCT_PAIRS = Table(
    name="metrics_product_pairs",
    group="selling",
    grain="one row per kind of basket and pair of products that is often bought together",
    key=("basis", "product_a", "product_b"),
    cluster_by=("product_a",),
    columns=(
        required(
            "basis",
            STRING,
            "What a basket is: the products of an order, or those bought in a session_id.",
            accepted=BASKETS_BY,
        ),
        required("product_a", STRING, "The product of the smaller number."),
        required(
            "product_b",
            STRING,
            "The other one. The pair is in --min_pair_baskets (5) baskets or more, and among the "
            "20 best of one of its products: by together, then by lift, then by the other's "
            "number.",
        ),
        required(
            "baskets_a",
            INT64,
            f"Baskets with product_a, of any size up to {MOST_BASKET_PRODUCTS} distinct products.",
            minimum=1,
        ),
        required("baskets_b", INT64, "The same with product_b.", minimum=1),
        required("together", INT64, "The same with both.", minimum=1),
        required(
            "baskets", INT64, f"All baskets up to {MOST_BASKET_PRODUCTS} products.", minimum=1
        ),
        rate("support", "together / baskets."),
        rate("confidence_ab", "together / baskets_a."),
        rate("confidence_ba", "together / baskets_b."),
        rate("lift", "together · baskets / (baskets_a · baskets_b)."),
    ),
    row_checks=(
        RowCheck(
            "together_within_each",
            pl.col("together") > pl.min_horizontal("baskets_a", "baskets_b"),
        ),
        RowCheck(
            "each_within_all", pl.max_horizontal("baskets_a", "baskets_b") > pl.col("baskets")
        ),
    ),
)
