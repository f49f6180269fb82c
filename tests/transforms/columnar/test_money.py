"""Quotients, against fractions."""

from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from transforms.columnar.money import (
    MONEY,
    average_money,
    divide_half_up,
    exact_units,
    halves_of_money,
    money_by_name,
    rate,
    rate_of_counts,
    shares,
)

UNITS = st.integers(0, 10**38 - 1)


def rounded(value: Fraction, decimals: int) -> Decimal:
    """A half rounded up, to any size."""
    shifted = value * 10**decimals
    whole = shifted.numerator // shifted.denominator
    whole += shifted - whole >= Fraction(1, 2)
    return Decimal(whole).scaleb(-decimals) if whole < 10**20 else Decimal(f"{whole}e-{decimals}")


@given(UNITS, st.integers(1, 10**38))
@example(5, 2)
def test_integers_are_divided_exactly(numerator, denominator):
    quotient = Fraction(numerator, denominator)
    expected = int(quotient) + (quotient - int(quotient) >= Fraction(1, 2))
    assert divide_half_up(numerator, denominator) == expected


@given(st.lists(st.tuples(st.integers(0, 10**12), st.integers(0, 10**12)), min_size=1))
@example([(4, 3), (1, 0), (0, 5), (1, 2_000_000)])
def test_rates_of_many_counts_are_the_same(pairs):
    over, under = (pl.Series(numbers, dtype=pl.Int64) for numbers in zip(*pairs, strict=True))
    assert rate_of_counts(over, under).to_list() == rate(over, under).to_list()


@given(UNITS, st.integers(1, 10**9))
def test_a_negative_quotient_is_rounded_away_from_zero(units, count):
    money = pl.Series([Decimal(f"-{units}e-9"), Decimal(f"{units}e-9")], dtype=MONEY)
    negative, positive = rate(money, pl.Series([count] * 2))
    assert negative == -positive
    assert divide_half_up(-units, count) == -divide_half_up(units, count)


@given(st.integers(0, 2**63 - 1), st.integers(1, 2**63 - 1), st.sampled_from([4, 6]))
@example(1, 8, 2)
@example(5, 10_000_000, 6)
def test_rates_of_counts_are_the_nearest_floats(numerator, denominator, decimals):
    (found,) = rate(pl.Series([numerator]), pl.Series([denominator]), decimals)
    assert found == float(rounded(Fraction(numerator, denominator), decimals))


@given(UNITS, st.integers(1, 10**9))
def test_rates_of_money_are_the_nearest_floats(units, count):
    money = Decimal(f"{units}e-9")
    (found,) = rate(pl.Series([money], dtype=MONEY), pl.Series([count]))
    assert found == float(rounded(Fraction(units, 10**9 * count), 6))


@given(UNITS, UNITS.filter(bool))
def test_shares_of_money_are_the_nearest_floats(part, whole):
    (found,) = rate(
        pl.Series([Decimal(f"{part}e-9")], dtype=MONEY),
        pl.Series([Decimal(f"{whole}e-9")], dtype=MONEY),
    )
    assert found == float(rounded(Fraction(part, whole), 6))


def test_a_rate_of_nothing_is_null():
    numerators = pl.Series([1, 0, None, 3], dtype=pl.Int64)
    denominators = pl.Series([0, 0, 2, None], dtype=pl.Int64)
    assert rate(numerators, denominators).to_list() == [None] * 4
    empty = pl.Series([], dtype=pl.Int64)
    assert rate(empty, empty).dtype == pl.Float64


@given(st.integers(0, 10**36), st.integers(1, 10**9))
@example(5 * 10**6, 1)
@example(10_005 * 10**6, 1)
@example(1, 3)
def test_averages_of_money_are_rounded_half_up_to_cents(units, count):
    frame = pl.DataFrame(
        {"total": [Decimal(f"{units}e-9")], "count": [count]},
        schema={"total": MONEY, "count": pl.Int64},
    )
    (found,) = frame.select(average_money(pl.col("total"), pl.col("count"))).to_series()
    assert found == rounded(Fraction(units, 10**9 * count), 2)


@pytest.mark.parametrize(("price", "cents"), [("0.005", "0.01"), ("0.0049", "0.00")])
def test_half_a_cent_goes_up(price, cents):
    frame = pl.DataFrame({"total": [Decimal(price)]}, schema={"total": MONEY})
    (found,) = frame.select(average_money(pl.col("total"), pl.lit(1))).to_series()
    assert found == Decimal(cents)
    assert found == Decimal(price).quantize(Decimal("0.01"), ROUND_HALF_UP)


def test_money_is_told_apart_by_name():
    in_turn = pl.Series([Decimal(value) for value in ("1", "2.5", "-3", "1e20")], dtype=MONEY)
    first, second = money_by_name(("gained", "lost"), halves_of_money(in_turn))
    assert (first.name, first.to_list()) == ("gained", [Decimal(1), Decimal(-3)])
    assert (second.name, second.to_list()) == ("lost", [Decimal("2.5"), Decimal("1e20")])


@given(st.lists(UNITS, min_size=1))
@example([1, 1_999_999])
@example([0, 0])
def test_shares_of_a_whole(units):
    money = pl.Series([Decimal(f"{each}e-9") for each in units], dtype=MONEY)
    exact = exact_units(money)
    assert exact.tolist() == units
    whole = sum(units)
    expected = [float(rounded(Fraction(each, whole), 6)) if whole else None for each in units]
    assert shares(exact, whole).to_list() == expected
