"""Exact money and quotients: no value may depend on how floats are summed or rounded."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from decimal import Context, Decimal

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from transforms.columnar.arrays import column
from transforms.columnar.kernels import Flag, Integer, helper
from transforms.schema import MONEY_SCALE

RATE_DECIMALS = 6


_EXACT = Context(prec=100)  # Python's default of 28 digits would round NUMERIC


Halves = npt.NDArray[np.uint64]
"""Money as kernels take it: a row of the low and the high 64 bits of its billionths for each."""


def halves_of_money(money: pl.Series) -> Halves:
    """The halves of money, which is not copied.

    Args:
        money: Decimal of scale 9, without NULL.
    """
    array = money.rechunk().to_arrow()
    halves = np.frombuffer(array.buffers()[1] or b"", np.uint64).reshape(-1, 2)
    return halves[array.offset : array.offset + len(array)]


def money_of_halves(halves: Halves, valid: npt.NDArray[np.bool_] | None = None) -> pl.Series:
    """The money of halves, which are not copied, NULL where not valid."""
    return column(halves, pa.decimal128(38, MONEY_SCALE), valid)


def money_by_name(names: Sequence[str], halves: Halves) -> list[pl.Series]:
    """The money of each name, from halves that hold a row for each name in turn."""
    return [
        money_of_halves(halves[at :: len(names)].copy()).alias(name)
        for at, name in enumerate(names)
    ]


@helper
def add_money(sums: Halves, at: Integer, added: Halves, row: Integer) -> None:
    """Add a row of money to a sum, in a kernel."""
    low = sums[at, 0] + added[row, 0]
    carry = low < sums[at, 0]
    sums[at, 0] = low
    sums[at, 1] += added[row, 1] + np.uint64(carry)


@helper
def subtract_money(sums: Halves, at: Integer, taken: Halves, row: Integer) -> None:
    """Subtract a row of money from a sum, in a kernel."""
    borrow = sums[at, 0] < taken[row, 0]
    sums[at, 0] -= taken[row, 0]
    sums[at, 1] -= taken[row, 1] + np.uint64(borrow)


@helper
def is_more_money(money: Halves, row: Integer, other: Halves, other_row: Integer) -> Flag:
    """Whether a row of money, not negative, is more than another, in a kernel."""
    is_more: Flag = money[row, 0] > other[other_row, 0]
    if money[row, 1] != other[other_row, 1]:
        is_more = money[row, 1] > other[other_row, 1]
    return is_more


def divide_half_up(numerator: int, denominator: int) -> int:
    """The quotient of an integer and a positive one, a half rounded away from zero.

    >>> divide_half_up(5, 2), divide_half_up(7, 3), divide_half_up(-5, 2)
    (3, 2, -3)
    """
    quotient = (2 * abs(numerator) + denominator) // (2 * denominator)
    return quotient if numerator >= 0 else -quotient


def rate(
    numerators: pl.Series, denominators: pl.Series, decimals: int = RATE_DECIMALS
) -> pl.Series:
    """Quotients of counts or money, rounded half away from zero.

    For metrics, which have few different quotients: the arithmetic is Python's, exact at any size.

    Args:
        numerators: Integers or Decimals.
        denominators: The same, not negative; NULL or 0 gives NULL.
        decimals: Decimal places kept.

    Returns:
        Float64, the nearest to each rounded quotient.
    """
    has_rate = (denominators > 0) & numerators.is_not_null()
    is_counted = (has_rate & (numerators != 0)).fill_null(value=False)
    quotients = pl.select(pl.when(has_rate).then(pl.lit(0.0))).to_series()
    rows = is_counted.arg_true()
    pairs = zip(numerators.gather(rows), denominators.gather(rows), strict=True)
    nearest = functools.cache(functools.partial(_nearest, decimals=decimals))
    counted = pl.Series([nearest(*pair) for pair in pairs], dtype=pl.Float64)
    return quotients.scatter(rows, counted).alias(numerators.name)


def billionths(value: int | Decimal) -> int:
    """The value in units of 10^-9: those of money, which both operands of a quotient share."""
    return int(Decimal(value).scaleb(MONEY_SCALE, _EXACT))


def _nearest(numerator: int | Decimal, denominator: int | Decimal, decimals: int) -> float:
    quotient = divide_half_up(billionths(numerator) * 10**decimals, billionths(denominator))
    return float(Decimal(quotient).scaleb(-decimals, _EXACT))


def rate_of_counts(numerators: pl.Series, denominators: pl.Series) -> pl.Series:
    """Quotients of counts, for tables with many rows.

    Args:
        numerators: Integers from 0 to 10^12, without NULL.
        denominators: The same; 0 gives NULL.

    Returns:
        Float64, the nearest to each quotient rounded half up to `RATE_DECIMALS`.
    """
    over, under = numerators.to_numpy(), denominators.to_numpy()
    positive = np.maximum(under, 1)
    one = 10**RATE_DECIMALS
    # Not by Polars, which multiplies by 1 / one, and so is not always the nearest.
    rates = pl.Series(numerators.name, (2 * one * over + positive) // (2 * positive) / one)
    return rates.set(pl.Series(under == 0), None)


def exact_units(money: pl.Series) -> npt.NDArray[np.object_]:
    """Money in billionths, as Python's integers, which do not overflow: for tables of few rows.

    Args:
        money: Decimals of scale 9, without NULL.
    """
    return np.array(money.to_physical().to_list(), np.object_)


def shares(parts: npt.NDArray[np.object_], whole: int) -> pl.Series:
    """Shares, rounded half up to `RATE_DECIMALS`.

    Args:
        parts: `exact_units`, from 0 to the whole.
        whole: What they are shares of; 0 gives NULL.

    Returns:
        Float64, the nearest to each rounded share.
    """
    if not whole:
        return pl.Series([None] * len(parts), dtype=pl.Float64)
    one = 10**RATE_DECIMALS
    rounded = (2 * one * parts + whole) // (2 * whole)
    return pl.Series(rounded.astype(np.int64) / one)


def average_money(total: pl.Expr, count: pl.Expr) -> pl.Expr:
    """Money divided by a count, rounded half away from zero to two decimals.

    Args:
        total: Decimal of scale 9, not negative.
        count: Positive integers.
    """
    units = total.to_physical()  # 10^-9 each, so that a hundredth is 10^7
    hundredth = count.cast(pl.Int128) * 10 ** (MONEY_SCALE - 2)
    hundredths = (units + hundredth // 2) // hundredth
    average: pl.Expr = hundredths.cast(pl.Decimal(38, 0)) * pl.lit(Decimal("0.01"))
    return average


MONEY = pl.Decimal(38, MONEY_SCALE)
"""Exact money, the range of BigQuery's NUMERIC."""
