"""Exact money and quotients: no value may depend on how floats are summed or rounded."""

from __future__ import annotations

from decimal import Context, Decimal

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from transforms.columnar.arrays import column
from transforms.columnar.kernels import Integer, helper
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


@helper
def add_money(sums: Halves, at: Integer, added: Halves, row: Integer) -> None:
    """Add a row of money to a sum, in a kernel."""
    low = sums[at, 0] + added[row, 0]
    carry = low < sums[at, 0]
    sums[at, 0] = low
    sums[at, 1] += added[row, 1] + np.uint64(carry)


def divide_half_up(numerator: int, denominator: int) -> int:
    """The quotient of a non-negative integer and a positive one, a half rounded up.

    >>> divide_half_up(5, 2), divide_half_up(7, 3)
    (3, 2)
    """
    return (2 * numerator + denominator) // (2 * denominator)


def rate(
    numerators: pl.Series, denominators: pl.Series, decimals: int = RATE_DECIMALS
) -> pl.Series:
    """Quotients of counts or money, rounded half away from zero.

    For metrics, which have few rows: the arithmetic is Python's, exact at any size.

    Args:
        numerators: Integers or Decimals, not negative.
        denominators: The same; NULL or 0 gives NULL.
        decimals: Decimal places kept.

    Returns:
        Float64, the nearest to each rounded quotient.
    """
    return pl.Series(
        [
            None
            if numerator is None or not denominator
            else _nearest(billionths(numerator), billionths(denominator), decimals)
            for numerator, denominator in zip(numerators, denominators, strict=True)
        ],
        dtype=pl.Float64,
    )


def billionths(value: int | Decimal) -> int:
    """The value in units of 10^-9: those of money, which both operands of a quotient share."""
    return int(Decimal(value).scaleb(MONEY_SCALE, _EXACT))


def _nearest(numerator: int, denominator: int, decimals: int) -> float:
    quotient = divide_half_up(numerator * 10**decimals, denominator)
    return float(Decimal(quotient).scaleb(-decimals, _EXACT))


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
