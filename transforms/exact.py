"""Exact quotients: no value may depend on how floats are summed or rounded."""

from __future__ import annotations

from decimal import Context, Decimal

import polars as pl

from transforms.schema import MONEY_SCALE

RATE_DECIMALS = 6

_EXACT = Context(prec=100)  # Python's default of 28 digits would round NUMERIC


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
            else _nearest(_units(numerator), _units(denominator), decimals)
            for numerator, denominator in zip(numerators, denominators, strict=True)
        ],
        dtype=pl.Float64,
    )


def _units(value: int | Decimal) -> int:
    """The value in units of 10^-9, which both operands of a quotient share."""
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
