"""Numbers, money, rates and dates as a reader of the report sees them.

Money carries no currency sign: the input does not name a currency.
"""

from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal, localcontext

MISSING = "–"
_MINUS = "\N{MINUS SIGN}"
_UNITS = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K"))
_LARGEST_COMPACT = Decimal(10**15)
_WHOLE_FROM = Decimal(1000)
_FROM_COMPACT = Decimal(10_000)
_SMALL_PERCENT = Decimal("0.1")
_LARGE_CHANGE_PERCENT = 1000

type_number = int | float | Decimal


def _rounded(value: type_number, decimals: int) -> Decimal:
    with localcontext(prec=60):
        return Decimal(str(value)).quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP)


def count(value: int | None) -> str:
    """Return a whole number with thousands separators.

    >>> count(1234567)
    '1,234,567'
    """
    return MISSING if value is None else f"{value:,}"


def decimal(value: type_number | None, decimals: int = 2) -> str:
    """Return a number with thousands separators and a fixed number of decimals.

    >>> decimal(Decimal("1234.565"))
    '1,234.57'
    """
    return MISSING if value is None else f"{_rounded(value, decimals):,}"


def compact(value: type_number | None, decimals: int = 2) -> str:
    """Return a number short enough for a label: three digits and a unit from 10,000 on.

    `decimals` are those of a number below 1,000 that is not whole by its type.

    >>> compact(9876), compact(1234567), compact(Decimal("12.5")), compact(10**20)
    ('9,876', '1.23M', '12.50', '1.00e20')
    """
    if value is None:
        return MISSING
    number = Decimal(str(value))
    if abs(number) < _FROM_COMPACT:
        is_whole = isinstance(value, int) or abs(number) >= _WHOLE_FROM
        return decimal(number, 0 if is_whole else decimals)
    rounded = Decimal(f"{number:.2e}")
    if rounded >= _LARGEST_COMPACT:
        return f"{number:.2e}".replace("e+", "e")
    factor, unit = next((factor, unit) for factor, unit in _UNITS if rounded >= factor)
    scaled = rounded / factor
    return f"{_rounded(scaled, max(0, 2 - scaled.adjusted()))}{unit}"


def rate(value: float | None) -> str:
    """Return a share as a percentage: one decimal, two where it is below a tenth of a percent.

    >>> rate(0.0567), rate(0.00042), rate(0.0), rate(None)
    ('5.7%', '0.04%', '0.0%', '–')
    """
    if value is None:
        return MISSING
    percent = Decimal(str(value)) * 100
    decimals = 2 if 0 < percent < _SMALL_PERCENT else 1
    return f"{_rounded(percent, decimals):,}%"


def signed(text: str, value: type_number) -> str:
    """Put a plus or a true minus sign before the text of an absolute value."""
    return f"{_MINUS if value < 0 else '+'}{text}"


def relative_change(latest: type_number, previous: type_number) -> str | None:
    """Return the change between two amounts, None where there is nothing to compare with.

    >>> relative_change(120, 100), relative_change(50, 2), relative_change(5, 0)
    ('+20.0%', '×25', None)
    """
    if not previous:
        return None
    percent = (Decimal(str(latest)) / Decimal(str(previous)) - 1) * 100
    if percent > _LARGE_CHANGE_PERCENT:
        return f"×{_rounded(percent / 100 + 1, 0):,}"
    return signed(f"{_rounded(abs(percent), 1):,}%", percent)


def point_change(latest: float, previous: float) -> str:
    """Return the change between two rates in percentage points.

    >>> point_change(0.051, 0.048)
    '+0.3 pts'
    """
    points = (Decimal(str(latest)) - Decimal(str(previous))) * 100
    decimals = 2 if 0 < abs(points) < _SMALL_PERCENT else 1
    return signed(f"{_rounded(abs(points), decimals)} pts", points)


def day(value: date | None) -> str:
    """Return a date.

    >>> day(date(2019, 10, 1))
    '1 Oct 2019'
    """
    return MISSING if value is None else f"{value.day} {value:%b} {value.year}"


def month(value: date) -> str:
    """Return a month.

    >>> month(date(2019, 10, 1))
    'Oct 2019'
    """
    return f"{value:%b} {value.year}"


def day_range(first: date, last: date) -> str:
    """Return a range of dates.

    >>> day_range(date(2019, 10, 1), date(2019, 11, 30))
    '1 Oct 2019 to 30 Nov 2019'
    """
    return day(first) if first == last else f"{day(first)} to {day(last)}"


def duration(value: timedelta) -> str:
    """Return a run time in its two largest units.

    >>> duration(timedelta(seconds=3725)), duration(timedelta(seconds=4.24))
    ('1 h 2 min', '4.2 s')
    """
    seconds = value.total_seconds()
    if seconds < 60:  # noqa: PLR2004
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min {rest} s"


def plural(number: int, singular: str, many: str | None = None) -> str:
    """Return a count with its noun.

    >>> plural(1, "day"), plural(1200, "category", "categories")
    ('1 day', '1,200 categories')
    """
    return f"{count(number)} {singular if number == 1 else many or singular + 's'}"
