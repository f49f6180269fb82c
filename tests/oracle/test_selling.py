"""What sells: products, brands, carts and pairs, worked out by hand.

The examples speak through ``run`` alone, whatever it runs.
"""

from datetime import UTC, date, datetime
from decimal import Decimal

from .examples import at, bought, column, on, purchase, row, where


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


WEEK = 7 * 86_400


def status_of(tables, session="s", product="1"):
    """Status and, in seconds after the beginning, time of resolution of a line."""
    (line,) = where(tables["fct_carts"], session_id=session, product_id=product)
    resolved = line["resolved_time"]
    beginning = datetime(2019, 10, 1, tzinfo=UTC)
    return line["status"], resolved and (resolved - beginning).total_seconds()


LATE = row(event_time=at(days=30), user_id="8", user_session="late")
"""What happens elsewhere so late that every line of the beginning is decided."""


class TestCarts:
    def test_a_line(self, run):
        """The price is that of the last addition; a purchase before the first one is none."""
        rows = [
            purchase(event_time=at(5)),
            cart(event_time=at(10), price="9"),
            cart(event_time=at(20), price="3"),
            remove(event_time=at(15)),
            purchase(event_time=at(12)),
            purchase(event_time=at(30)),
            LATE,
        ]
        assert run(rows)["fct_carts"] == [
            {
                "user_id": "7",
                "session_id": "s",
                "product_id": "1",
                "cart_date": october(1),
                "first_added_time": datetime(2019, 10, 1, 0, 0, 10, tzinfo=UTC),
                "last_added_time": datetime(2019, 10, 1, 0, 0, 20, tzinfo=UTC),
                "additions": 2,
                "removals": 1,
                "price": 3,
                "status": "purchased",
                "resolved_time": datetime(2019, 10, 1, 0, 0, 12, tzinfo=UTC),
            }
        ]

    def test_bought_at_the_second_of_the_addition(self, run):
        assert status_of(run([cart(), purchase(), LATE])) == ("purchased", 0)

    def test_bought_before_only(self, run):
        rows = [purchase(), cart(event_time=at(1)), LATE]
        assert status_of(run(rows)) == ("abandoned", None)

    def test_removed_at_the_same_second(self, run):
        assert status_of(run([cart(), remove(), LATE])) == ("removed", None)

    def test_added_again_after_the_removal(self, run):
        rows = [cart(), remove(event_time=at(1)), cart(event_time=at(2)), LATE]
        assert status_of(run(rows)) == ("abandoned", None)

    def test_purchased_comes_before_removed(self, run):
        rows = [cart(), purchase(event_time=at(1)), remove(event_time=at(2)), LATE]
        assert status_of(run(rows)) == ("purchased", 1)

    def test_a_cart_carried_over_days_counts_once(self, run):
        rows = [
            cart(),
            cart(event_time=at(60), user_session="t"),
            cart(event_time=at(WEEK), user_session="u"),
            purchase(event_time=at(WEEK + 5), user_session="u"),
            LATE,
        ]
        tables = run(rows)
        assert status_of(tables) == ("carried_over", 60)
        assert status_of(tables, "t") == ("carried_over", WEEK)
        assert status_of(tables, "u") == ("purchased", WEEK + 5)
        (whole, _) = where(tables["metrics_carts"], period="all")
        assert (whole["lines"], whole["carried_over"], whole["cart_value"]) == (3, 2, 1)

    def test_added_again_after_more_than_a_week(self, run):
        rows = [cart(), cart(event_time=at(WEEK + 1), user_session="t"), LATE]
        assert status_of(run(rows)) == ("abandoned", None)

    def test_the_other_session_must_begin_its_line_later(self, run):
        """In parallel sessions, neither is carried over into the one that began before."""
        rows = [
            cart(event_time=at(10)),
            cart(event_time=at(5), user_session="t"),
            cart(event_time=at(20), user_session="t"),
            LATE,
        ]
        tables = run(rows)
        assert status_of(tables) == ("abandoned", None)
        assert status_of(tables, "t") == ("abandoned", None)

    def test_recovered_within_a_week(self, run):
        for seconds, expected in (
            (WEEK, ("recovered", WEEK)),
            (WEEK + 1, ("abandoned", None)),
        ):
            rows = [cart(), purchase(event_time=at(seconds), user_session="t"), LATE]
            assert status_of(run(rows)) == expected

    def test_by_somebody_else_or_of_something_else_it_is_not_recovered(self, run):
        rows = [
            cart(),
            purchase(event_time=at(60), user_session="t", user_id="8"),
            purchase(event_time=at(60), user_session="u", product_id="2"),
            LATE,
        ]
        assert status_of(run(rows)) == ("abandoned", None)

    def test_open_until_a_week_has_passed(self, run):
        rows = [cart(event_time=at(-1, days=1))]
        assert status_of(run(rows, as_of=october(7))) == ("open", None)
        assert status_of(run(rows, as_of=october(8))) == ("abandoned", None)

    def test_carts_over_time(self, run):
        rows = [
            cart(price="1.50"),
            cart(product_id="2", category_id="9", category_code="a.b", price="2"),
            cart(event_time=at(1), product_id="2", category_id="9", category_code="a.b", price="2"),
            cart(event_time=at(days=6), user_session="t", user_id="8", price="4"),
            remove(event_time=at(5, days=6), user_session="t", user_id="8"),
            purchase(event_time=at(7), price="1.60"),
            purchase(event_time=at(9, days=1), product_id="2", user_session="v"),
            cart(event_time=at(days=7), product_id="3", user_session="w", price="8"),
            LATE,
        ]
        carts = run(rows)["metrics_carts"]
        names = ("lines", "carts", "users", "purchased", "removed", "recovered", "abandoned")
        assert column(where(carts, period="all"), "category_lvl_1", *names) == [
            ("a", 1, 1, 1, 0, 0, 1, 0),
            ("unknown", 3, 3, 2, 1, 1, 0, 1),
            (None, 4, 3, 2, 1, 1, 1, 1),
        ]
        assert column(where(carts, period="week"), "period_start", *names) == [
            (date(2019, 9, 30), 2, 1, 1, 1, 0, 1, 0),
            (october(7), 2, 2, 2, 0, 1, 0, 1),
        ]
        assert column(where(carts, period="day"), "period_start") == [
            *(october(1), october(7), october(8)),
        ]
        (month,) = where(carts, period="month")
        values = ("cart_value", "purchased_value", "recovered_value", "abandoned_value")
        assert column([month], *values) == [(Decimal("11.5"), Decimal("1.5"), 2, 8)]
        assert (month["abandonment_rate"], month["recovery_rate"]) == (0.333333, 0.5)


def sold_together(*baskets):
    """Purchases of each basket in a session of its own."""
    return [
        purchase(product_id=str(product), user_session=f"b{number}", user_id=str(number))
        for number, products in enumerate(baskets)
        for product in products
    ]


class TestProductPairs:
    def test_a_pair(self, run):
        """As numbers 9 is before 10. Of four baskets three have 10, two have 9, two have both."""
        rows = sold_together((9, 10), (10, 9), (10,), (3,))
        pairs = run(rows, min_pair_baskets=2)["metrics_product_pairs"]
        assert pairs == [
            {
                "basis": basis,
                "product_a": "9",
                "product_b": "10",
                "baskets_a": 2,
                "baskets_b": 3,
                "together": 2,
                "baskets": 4,
                "support": 0.5,
                "confidence_ab": 1,
                "confidence_ba": 0.666667,
                "lift": 1.333333,
            }
            for basis in ("order", "session")
        ]
        assert run(rows, min_pair_baskets=3)["metrics_product_pairs"] == []

    def test_five_baskets_by_default(self, run):
        assert run(sold_together(*[(1, 2)] * 4))["metrics_product_pairs"] == []
        assert len(run(sold_together(*[(1, 2)] * 5))["metrics_product_pairs"]) == 2

    def test_two_orders_of_a_session(self, run):
        rows = [
            purchase(event_time=at(0), product_id="1"),
            purchase(event_time=at(0), product_id="2"),
            purchase(event_time=at(9), product_id="3"),
        ]
        pairs = run(rows, min_pair_baskets=1)["metrics_product_pairs"]
        names = ("basis", "product_a", "product_b", "baskets")
        assert column(pairs, *names) == [
            ("order", "1", "2", 2),
            ("session", "1", "2", 1),
            ("session", "1", "3", 1),
            ("session", "2", "3", 1),
        ]

    def test_several_users_of_a_session(self, run):
        """They share the basket of the session; an order is of one of them."""
        rows = [purchase(product_id="1"), purchase(product_id="2", user_id="8")]
        pairs = run(rows, min_pair_baskets=1)["metrics_product_pairs"]
        assert column(pairs, "basis", "together") == [("session", 1)]

    def test_baskets_beyond_100_products_are_skipped(self, run):
        rows = sold_together(range(1, 102), (1, 2), (1,))
        pairs = run(rows, min_pair_baskets=1)["metrics_product_pairs"]
        assert column(pairs, "together", "baskets_a", "baskets") == [(1, 2, 2)] * 2
        assert len(run(sold_together(range(1, 101)))["metrics_products"]) == 100

    def test_the_best_of_either_product(self, run):
        """1 is sold with 22 others; the 20 best of it, and what is of the best of the other.

        Those with fewer baskets of their own have the larger lift: 2 and 3 have the most.
        """
        others = range(2, 24)
        rows = sold_together(*((1, other) for other in others), (2,), (3,), (3, 4))
        pairs = run(rows, min_pair_baskets=1)["metrics_product_pairs"]
        found = column(where(pairs, basis="order"), "product_a", "product_b")
        # Pairs with 1 are the first of each other product, and so are all kept.
        assert len(found) == 23

    def test_what_is_of_the_best_of_neither(self, run):
        """1 and 2 meet once, and each meets 20 others twice."""
        baskets = [(1, other) for other in range(10, 30)] + [(2, other) for other in range(30, 50)]
        rows = sold_together(*baskets, *baskets, (1, 2))
        pairs = run(rows, min_pair_baskets=1)["metrics_product_pairs"]
        assert len(pairs) == 80
        assert where(pairs, product_a="1", product_b="2") == []
