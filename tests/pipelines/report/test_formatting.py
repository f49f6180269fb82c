"""Numbers and dates as the page writes them."""

import doctest
from datetime import date, timedelta
from decimal import Decimal

import pytest

from pipelines.report import formatting


def test_examples_in_the_docstrings_hold():
    results = doctest.testmod(formatting)
    assert results.attempted > 10
    assert results.failed == 0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (9999, "9,999"),
        (10_000, "10.0K"),
        (99_949, "99.9K"),
        (99_950, "100K"),
        (999_499, "999K"),
        (999_500, "1.00M"),
        (Decimal("9999.994"), "10,000"),
        (Decimal("999.995"), "1,000.00"),
        (1.5, "1.50"),
        (999_999_999_999_999, "1.00e15"),
        (Decimal(10) ** 29, "1.00e29"),
        (None, "–"),
    ],
)
def test_compact(value, text):
    assert formatting.compact(value) == text


def test_rounding_is_half_away_from_zero_also_for_large_money():
    assert formatting.decimal(Decimal("12345678901234567890123456789.125")) == (
        "12,345,678,901,234,567,890,123,456,789.13"
    )
    assert formatting.rate(0.12345) == "12.3%"
    assert formatting.rate(0.1235) == "12.4%"


@pytest.mark.parametrize(
    ("latest", "previous", "text"),
    [
        (110, 100, "+10.0%"),
        (90, 100, "−10.0%"),
        (Decimal("0.5"), Decimal("0.4"), "+25.0%"),
        (0, 5, "−100.0%"),
        (1200, 100, "×12"),
        (3, 0, None),
    ],
)
def test_relative_change(latest, previous, text):
    assert formatting.relative_change(latest, previous) == text


def test_small_changes_of_rates_keep_two_decimals():
    assert formatting.point_change(0.1003, 0.1) == "+0.03 pts"
    assert formatting.point_change(0.05, 0.08) == "−3.0 pts"


def test_dates_and_times():
    assert formatting.day_range(date(2019, 10, 1), date(2019, 10, 1)) == "1 Oct 2019"
    assert formatting.duration(timedelta(seconds=61)) == "1 min 1 s"
    assert formatting.plural(1, "category", "categories") == "1 category"
