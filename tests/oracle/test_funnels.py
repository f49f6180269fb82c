"""Funnels worked out by hand, for the oracle and the product."""

from decimal import Decimal

from .examples import at, column, purchase, row, where

SHOP = """
[[funnel]]
name = "f"
{keys}
[[funnel.step]]
name = "view"
event = ["view"]
[[funnel.step]]
name = "cart"
event = ["cart"]
[[funnel.step]]
name = "purchase"
event = ["purchase"]
"""


def shop(keys="", more=""):
    """A configuration of one funnel."""
    return SHOP.format(keys=keys) + more


def cart(**fields):
    return row(event_type="cart", **fields)


def removal(**fields):
    return row(event_type="remove_from_cart", **fields)


def steps(tables, *names, **values):
    """Columns of a funnel's rows, by default of all its entities."""
    chosen = {"funnel": "f", "breakdown": "overall"} | values
    return column(where(tables["metrics_funnels"], **chosen), *names)


class TestOrdered:
    def test_the_usual_funnels(self, run):
        """Product 1 is viewed and bought, product 2 viewed, put into the cart and bought."""
        tables = run(
            [
                row(event_time=at(0)),
                row(event_time=at(10), product_id="2"),
                cart(event_time=at(30), product_id="2"),
                purchase(event_time=at(60), product_id="1"),
                purchase(event_time=at(90), product_id="2"),
            ]
        )
        names = ("step_name", "entities", "users", "median_seconds")
        # The cart comes 20 s after the last view.
        assert steps(tables, *names, funnel="shop") == [
            ("view", 1, 1, 0),
            ("cart", 1, 1, 20),
            ("purchase", 1, 1, 50),
        ]
        assert steps(tables, *names, funnel="product") == [
            ("view", 2, 1, 0),
            ("cart", 1, 1, 20),
            ("purchase", 1, 1, 80),
        ]

    def test_what_comes_first_does_not_count(self, run):
        tables = run([purchase(event_time=at(0)), row(event_time=at(1))], config=shop())
        assert steps(tables, "entities") == [1, 0, 0]

    def test_within_a_second_the_funnel_decides(self, run):
        rows = [purchase(), cart(), row()]
        assert steps(run(rows, config=shop()), "entities", "mean_seconds") == [
            (1, Decimal(0)),
            (1, Decimal(0)),
            (1, Decimal(0)),
        ]

    def test_a_window_holds_its_last_second(self, run):
        rows = [
            row(event_time=at(0)),
            cart(event_time=at(60)),
            purchase(event_time=at(61)),
        ]
        assert steps(run(rows, config=shop('window = "60s"')), "entities") == [1, 1, 0]
        assert steps(run(rows, config=shop('window = "61s"')), "entities") == [1, 1, 1]

    def test_who_begins_anew_has_the_window_again(self, run):
        rows = [
            row(event_time=at(0)),
            cart(event_time=at(60)),
            row(event_time=at(61)),
            cart(event_time=at(62)),
            purchase(event_time=at(121)),
        ]
        tables = run(rows, config=shop('window = "60s"'))
        assert steps(tables, "entities", "median_seconds") == [(1, 0), (1, 60), (1, 60)]

    def test_what_is_excluded_ends_a_chain(self, run):
        exclude = '[[funnel.exclude]]\nevent = ["remove_from_cart"]\nafter = 2\nbefore = 3\n'
        rows = [
            row(event_time=at(0)),
            cart(event_time=at(1)),
            removal(event_time=at(2)),
            purchase(event_time=at(3)),
        ]
        assert steps(run(rows, config=shop("", exclude)), "entities") == [1, 1, 0]
        again = [*rows, cart(event_time=at(4)), purchase(event_time=at(5))]
        assert steps(run(again, config=shop("", exclude)), "entities") == [1, 1, 1]

    def test_what_is_held_is_the_same_in_all_steps(self, run):
        rows = [
            row(event_time=at(0), brand="acme"),
            cart(event_time=at(1), product_id="2", brand="acme"),
            purchase(event_time=at(2), product_id="3", brand="zeta"),
            row(event_time=at(3), product_id="4"),
        ]
        tables = run(rows, config=shop('hold = ["brand"]'))
        assert steps(tables, "entities") == [1, 1, 0]  # without a brand there is no entity


class TestStrict:
    def test_nothing_comes_between(self, run):
        rows = [
            row(event_time=at(0)),
            removal(event_time=at(1)),
            cart(event_time=at(2)),
        ]
        assert steps(run(rows, config=shop('order = "strict"')), "entities") == [1, 0, 0]
        assert steps(run(rows[::2], config=shop('order = "strict"')), "entities") == [1, 1, 0]


class TestUnordered:
    def test_any_of_the_steps_count(self, run):
        rows = [
            purchase(event_time=at(0), user_session="a"),
            row(event_time=at(5), user_session="a"),
            cart(event_time=at(0), user_session="b", user_id="8"),
        ]
        tables = run(rows, config=shop('order = "unordered"'))
        assert steps(tables, "entities", "users", "median_seconds") == [
            (2, 2, 0),
            (1, 1, 5),
            (0, 0, None),
        ]


class TestFigures:
    def test_wilsons_interval(self, run):
        """Of one of two: (1 + z²/2 ± z·√(1/2 + z²/4)) / (2 + z²), z = 1.959964."""
        rows = [row(user_session="a"), row(user_session="b"), cart(user_session="b")]
        tables = run(rows, config=shop())
        assert steps(tables, "conversion_from_start", "conversion_low", "conversion_high") == [
            (1.0, 0.34238, 1.0),
            (0.5, 0.094531, 0.905469),
            (0.0, 0.0, 0.65762),
        ]
        assert steps(tables, "conversion_from_previous") == [None, 0.5, 0.0]

    def test_who_may_go_on_is_open(self, run):
        """A session that ends on the last day less than its timeout before midnight."""
        rows = [
            row(event_time=at(0), user_session="a"),
            row(event_time=at(82_799), user_session="b"),
            row(event_time=at(82_800), user_session="c"),
            cart(event_time=at(86_000), user_session="c"),
        ]
        names = ("entities", "open_entities", "closed_conversion_from_start")
        assert steps(run(rows, config=shop()), *names) == [(3, 1, 1.0), (1, 1, 0.0), (0, 0, 0.0)]

    def test_a_window_keeps_attempts_open(self, run):
        rows = [row(event_time=at(0), user_session="a"), row(event_time=at(1), user_session="b")]
        tables = run(rows, config=shop('window = "86399s"'))
        assert steps(tables, "open_entities") == [1, 0, 0]

    def test_who_is_through_is_not_open(self, run):
        rows = [row(event_time=at(86_399)), cart(event_time=at(86_399))]
        bought = [*rows, purchase(event_time=at(86_399))]
        assert steps(run(rows, config=shop()), "open_entities") == [1, 1, 0]
        assert steps(run(bought, config=shop()), "open_entities") == [0, 0, 0]

    def test_a_user_counts_once(self, run):
        rows = [row(user_session="a"), row(user_session="b"), row(user_session="c", user_id="8")]
        assert steps(run(rows, config=shop()), "entities", "users")[0] == (3, 2)

    def test_a_funnel_that_nobody_enters_has_its_rows(self, run):
        tables = run([removal()], config=shop())
        assert steps(tables, "entities", "conversion_from_start") == [(0, None)] * 3

    def test_quarters_of_the_seconds(self, run):
        """Of 1, 2, 3 and 10 s the smallest that so many do not exceed."""
        rows = [
            each
            for name, seconds in zip("abcd", (1, 2, 3, 10), strict=True)
            for each in (
                row(user_session=name),
                cart(event_time=at(seconds), user_session=name),
            )
        ]
        names = [f"{name}_seconds" for name in ("p25", "median", "p75", "p90", "mean")]
        assert steps(run(rows, config=shop()), *names)[1] == (1, 2, 3, 10, Decimal(4))


class TestBreakdowns:
    def test_they_are_of_the_event_that_begins(self, run):
        rows = [
            row(event_time=at(0), brand="acme", product_id="1"),
            row(event_time=at(1), product_id="2"),
            cart(event_time=at(2), brand="zeta", product_id="3"),
            row(event_time=at(days=7), user_session="t", brand="acme"),
        ]
        tables = run(rows, config=shop('breakdown = ["brand", "week", "session_quality_tier"]'))
        first = {"step_number": 1}
        assert steps(tables, "value", "entities", breakdown="brand", **first) == [
            ("(none)", 1),
            ("acme", 1),
        ]
        assert steps(tables, "value", "entities", breakdown="week", **first) == [
            ("2019-09-30", 1),
            ("2019-10-07", 1),
        ]
        assert steps(tables, "value", "entities", breakdown="session_quality_tier", **first) == [
            ("Low", 2)
        ]

    def test_rare_values_are_others(self, run, monkeypatch):
        """The two with most sessions, the smaller text first; who saw two others counts once."""
        monkeypatch.setattr("transforms.analytics.funnels.MOST_VALUES", 2)
        rows = [
            row(user_session=f"{brand}{n}", user_id=user, brand=brand, product_id=product)
            for brand, product, user, count in (
                ("d", "1", "7", 2),
                ("a", "2", "8", 1),
                ("b", "3", "9", 1),
                ("c", "4", "9", 1),
            )
            for n in range(count)
        ]
        tables = run(rows, config=shop('breakdown = ["brand"]'), most_values=2)
        found = steps(tables, "value", "entities", "users", breakdown="brand", step_number=1)
        assert found == [("(other)", 2, 1), ("a", 1, 1), ("d", 2, 1)]

    def test_what_the_user_is_at_last(self, run):
        rows = [
            row(user_session="a"),
            row(user_session="b"),
            purchase(event_time=at(9), user_session="c"),
            row(user_session="d", user_id="8"),
        ]
        keys = 'breakdown = ["customer_lifecycle_stage", "rfm_segment"]'
        tables = run(rows, config=shop(keys))
        names = ("value", "entities", "users")
        of_stages = {"breakdown": "customer_lifecycle_stage", "step_number": 1}
        assert steps(tables, *names, **of_stages) == [
            ("First-Time Buyer", 2, 1),
            ("Prospect", 1, 1),
        ]
        assert ("No RFM Score", 1, 1) in steps(tables, *names, breakdown="rfm_segment")


class TestUsers:
    def test_steps_are_taken_across_sessions(self, run):
        rows = [
            row(event_time=at(0), user_session="a"),
            cart(event_time=at(days=1), user_session="b"),
            purchase(event_time=at(days=6), user_session="c"),
            purchase(event_time=at(days=6), user_session="c", user_id="8"),
        ]
        tables = run(rows, config=shop('scope = "user"'))
        assert steps(tables, "entities", "users", "median_seconds") == [
            (1, 1, 0),
            (1, 1, 86_400),
            (1, 1, 6 * 86_400),
        ]

    def test_a_window_of_seven_days_is_usual(self, run):
        rows = [
            row(event_time=at(0), user_session="a"),
            cart(event_time=at(1, days=7), user_session="b"),
        ]
        tables = run(rows, config=shop('scope = "user"'))
        assert steps(tables, "entities", "open_entities") == [(1, 0), (0, 0), (0, 0)]
        tables = run(rows, config=shop('scope = "user"\nwindow = "8d"'))
        assert steps(tables, "entities", "open_entities") == [(1, 1), (1, 1), (0, 0)]

    def test_who_shares_a_session_is_counted_alone(self, run):
        rows = [row(event_time=at(0)), cart(event_time=at(1), user_id="8")]
        assert steps(run(rows, config=shop('scope = "user"')), "entities") == [1, 0, 0]
        assert steps(run(rows, config=shop()), "entities") == [1, 1, 0]

    def test_the_session_is_that_of_the_event_that_begins(self, run):
        rows = [
            row(event_time=at(0), user_session="short"),
            *(row(event_time=at(9000 + 200 * n), user_session="long") for n in range(5)),
        ]
        tables = run(rows, config=shop('scope = "user"\nbreakdown = ["session_length_bucket"]'))
        found = steps(tables, "value", breakdown="session_length_bucket", step_number=1)
        assert found == ["Very Short (0-60s)"]  # the level was first reached there
