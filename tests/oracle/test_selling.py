"""What sells: products, brands, carts and pairs, worked out by hand.

The examples speak through ``run`` alone, whatever it runs.
"""

from datetime import date
from decimal import Decimal

from .examples import at, bought, column, on, purchase, row


def cart(**fields):
    """An addition to the cart with some fields of its own."""
    return row(event_type="cart", **fields)


def remove(**fields):
    """A removal from the cart."""
    return row(event_type="remove_from_cart", **fields)


def october(day):
    """A day of October 2019."""
    return date(2019, 10, day)


class TestProducts:
    def test_a_product(self, run):
        product = {"product_id": "5", "brand": "a", "category_id": "9"}
        shelf = {"category_code": "electronics.audio.headphone"}
        rows = [
            on("2019-10-01", "1", **product, **shelf, price="9.50"),
            on("2019-10-01", "1", event_type="cart", **product, price="10"),
            bought("2019-10-01", "1", "10", **product),
            bought("2019-10-02", "1", "10", **product),
            on("2019-10-02", "2", event_type="cart", **product, price="11"),
            on("2019-10-03", "2", event_type="remove_from_cart", **product, price="11"),
            bought("2019-10-03", "3", "8", **product),
            on("2019-10-04", "3", **product, price="8"),
        ]
        assert run(rows)["metrics_products"] == [
            {
                "product_id": "5",
                "brand": "a",
                "category_lvl_1": "electronics",
                "category_lvl_2": "audio",
                "events": 8,
                "views": 2,
                "cart_adds": 2,
                "cart_removes": 1,
                "purchases": 3,
                "orders": 3,
                "carters": 2,
                "buyers": 2,
                "repeat_buyers": 1,
                "revenue": 28,
                "view_to_cart_rate": 1,
                "view_to_purchase_rate": 1.5,
                "cart_to_purchase_rate": 0.5,  # of the users 1 and 2, the first
                "repeat_buyer_rate": 0.5,
                "first_event_date": october(1),
                "last_event_date": october(4),
                "last_purchase_date": october(3),
                "min_price": 8,
                "max_price": 11,
                "revenue_rank": 1,
                "revenue_share": 1,
                "cumulative_share": 1,
                "abc_class": "A",
            }
        ]

    def test_orders_that_hold_a_product(self, run):
        """One checkout of two items of a product is one order of it; the other order is late."""
        rows = [
            purchase(event_time=at(10), product_id="1", price="1"),
            purchase(event_time=at(11), product_id="1", price="2"),
            purchase(event_time=at(11), product_id="2"),
            purchase(event_time=at(20), product_id="1"),
        ]
        products = run(rows)["metrics_products"]
        assert column(products, "product_id", "purchases", "orders") == [("1", 3, 2), ("2", 1, 1)]
        assert column(products, "buyers", "repeat_buyers") == [(1, 0), (1, 0)]
        joined = run(rows, order_gap_seconds=9)["metrics_products"]
        assert column(joined, "product_id", "orders") == [("1", 1), ("2", 1)]

    def test_of_nothing_there_is_no_rate(self, run):
        (product,) = run([bought("2019-10-01", price="0")])["metrics_products"]
        rates = {name: value for name, value in product.items() if value is None}
        assert rates.keys() == {
            *("brand", "category_lvl_1", "category_lvl_2"),
            *("view_to_cart_rate", "view_to_purchase_rate", "cart_to_purchase_rate"),
            *("revenue_share", "cumulative_share"),
        }
        assert (product["repeat_buyer_rate"], product["abc_class"]) == (0, "C")

    def test_classes_by_the_share_before(self, run):
        """Of 100: the second begins at 0.79, the third at 0.8, the fourth at 0.95."""
        prices = {"1": "79", "2": "1", "3": "15", "4": "5", "5": "0"}
        rows = [bought("2019-10-01", price=price, product_id=id_) for id_, price in prices.items()]
        products = sorted(run(rows)["metrics_products"], key=lambda each: each["revenue_rank"])
        assert column(products, "product_id", "cumulative_share", "abc_class") == [
            ("1", 0.79, "A"),
            ("3", 0.94, "A"),
            ("4", 0.99, "B"),
            ("2", 1, "C"),
            ("5", 1, "C"),
        ]

    def test_a_class_begins_at_its_share(self, run):
        prices = {"1": "80", "2": "15", "3": "5"}
        rows = [bought("2019-10-01", price=price, product_id=id_) for id_, price in prices.items()]
        assert column(run(rows)["metrics_products"], "abc_class") == ["A", "B", "C"]

    def test_equal_revenues_rank_by_id_as_a_number(self, run):
        rows = [on("2019-10-01", product_id=product) for product in ("10", "9", "100")]
        products = run(rows)["metrics_products"]
        assert column(products, "product_id", "revenue_rank") == [
            ("10", 2),
            ("100", 3),
            ("9", 1),
        ]


class TestBrands:
    def test_brands(self, run):
        """Who carts one product of a brand and buys another has carted and bought the brand."""
        rows = [
            on("2019-10-01", "1", event_type="cart", product_id="1", brand="a", price="3"),
            bought("2019-10-01", "1", "2.50", product_id="2", brand="a"),
            bought("2019-10-02", "1", "3", product_id="1", brand="a"),
            bought("2019-10-02", "2", "4", product_id="3"),
            on("2019-10-03", "2", product_id="4", brand="unknown"),
        ]
        brands = run(rows)["metrics_brands"]
        names = ("brand", "products", "events", "orders", "carters", "buyers", "repeat_buyers")
        assert column(brands, *names) == [("a", 2, 3, 2, 1, 1, 1), ("unknown", 2, 2, 1, 0, 1, 0)]
        rates = ("cart_to_purchase_rate", "repeat_buyer_rate", "revenue_rank", "revenue_share")
        assert column(brands, *rates) == [(1, 1, 1, 0.578947), (None, 0, 2, 0.421053)]
        assert column(brands, "revenue") == [Decimal("5.5"), 4]
        assert column(brands, "last_event_date") == [october(2), october(3)]
