"""The grammar of the input: a header, and rows of nine fields.

`parse_row` decides what a row holds or why it is rejected. It is slow: `parsing` reads nearly all
rows by itself and asks here for the rest.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Final

from transforms.errors import InputError
from transforms.schema import EVENT_TYPES

COLUMNS: Final = (
    "event_time",
    "event_type",
    "product_id",
    "category_id",
    "category_code",
    "brand",
    "price",
    "user_id",
    "user_session",
)
"""The columns an input file must have."""


BOM: Final = b"\xef\xbb\xbf"
RAW_CHARACTERS: Final = 10_000
"""Characters of a rejected row that are kept."""


_MAX_INTEGER: Final = 9_223_372_036_854_775_807


_MAX_DECIMALS: Final = 9


_INTEGER_DIGITS: Final = 20  # of an integer part below 10^20


_INTEGER = re.compile(r" *\+?([0-9]+) *", re.ASCII)


_PRICE = re.compile(r" *\+?([0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?) *", re.ASCII)


_EVENT_TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[ T]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.[0-9]+)?"
    r"(?: UTC| GMT| ?Z| ?([+-])([0-9]{2})(?::?([0-9]{2}))?)?",
    re.ASCII,
)


_RESERVED_SESSION = re.compile(r"_timeout_[0-9]+\Z", re.ASCII)


@dataclass(frozen=True)
class Header:
    """The names in a file's first line, in its order."""

    names: tuple[str, ...]

    @cached_property
    def columns(self) -> tuple[str | None, ...]:
        """The names, None for columns that the pipeline ignores."""
        return tuple(name if name in COLUMNS else None for name in self.names)

    @property
    def width(self) -> int:
        """Number of fields in a row."""
        return len(self.names)


def parse_header(line: bytes, source: str) -> Header:
    """Read a file's header line, with or without line end.

    Raises:
        InputError: A required column is missing or doubled, or the line is no CSV text.
    """
    text = line.removesuffix(b"\n").removesuffix(b"\r") if line.endswith(b"\n") else line
    try:
        names = _fields(text)
    except ValueError as error:
        raise InputError(
            f"{source}: the first line is not a CSV header ({error}); it must name the columns "
            + ", ".join(COLUMNS)
        ) from error
    missing = [name for name in COLUMNS if name not in names]
    doubled = [name for name in COLUMNS if names.count(name) > 1]
    if missing or doubled:
        faults = [f"lacks {', '.join(missing)}"] if missing else []
        faults += [f"names {', '.join(doubled)} more than once"] if doubled else []
        shown = ", ".join(names)
        raise InputError(
            f"{source}: the header {' and '.join(faults)}; "
            f"found: {shown[:200]}{'…' if len(shown) > 200 else ''}"  # noqa: PLR2004
        )
    return Header(tuple(names))


def split_fields(line: str) -> list[str]:
    """Split a line at its commas as RFC 4180 does, within the line.

    A quote that does not open its field is text.

    Raises:
        ValueError: A quoted field is not closed, or goes on after its closing quote.
    """
    if '"' not in line:
        return line.split(",")
    fields = []
    position = 0
    while True:
        if line.startswith('"', position):
            field, position = _quoted_field(line, position)
        else:
            end = line.find(",", position)
            end = len(line) if end < 0 else end
            field, position = line[position:end], end
        fields.append(field)
        if position == len(line):
            return fields
        position += 1


def _fields(line: bytes) -> list[str]:
    """The fields of a line; a ValueError means that it is no CSV text."""
    if b"\0" in line:
        raise ValueError("it has a NUL byte")
    return split_fields(line.decode())


def _quoted_field(line: str, start: int) -> tuple[str, int]:
    """The field that opens at `start`, and the position of the comma or line end behind it."""
    position = start + 1
    while True:
        close = line.find('"', position)
        if close < 0:
            raise ValueError("a quoted field is not closed")
        if not line.startswith('"', close + 1):
            break
        position = close + 2
    end = close + 1
    if end < len(line) and line[end] != ",":
        raise ValueError("text follows a closing quote")
    return line[start + 1 : close].replace('""', '"'), end


def parse_integer(text: str) -> int | None:
    """The non-negative 64-bit integer that a field holds, or None."""
    match = _INTEGER.fullmatch(text)
    if match is None:
        return None
    digits = match[1].lstrip("0") or "0"
    if len(digits) > len(str(_MAX_INTEGER)) or int(digits) > _MAX_INTEGER:
        return None
    return int(digits)


def parse_price(text: str) -> Decimal | None:
    """The price that a field holds: at least 0, below 10^20, at most 9 decimals; or None."""
    match = _PRICE.fullmatch(text)
    if match is None:
        return None
    mantissa, _, exponent_text = match[1].lower().partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    significant = digits.rstrip("0")
    if not significant:
        return Decimal(0)
    # An exponent too long to be an int's text cannot bring any digits this line holds in range.
    sign = -1 if exponent_text.startswith("-") else 1
    magnitude = exponent_text.lstrip("+-").lstrip("0") or "0"
    if len(magnitude) > _INTEGER_DIGITS:
        return None
    # The value is 0.DIGITS × 10^point.
    point = len(digits) - len(fraction) + sign * int(magnitude)
    decimals = len(significant) - point
    if point > _INTEGER_DIGITS or decimals > _MAX_DECIMALS:
        return None
    return Decimal((0, tuple(map(int, significant)), -decimals))


def parse_event_time(text: str) -> dt.datetime | None:
    """The UTC time, cut to the second, that a field holds; or None."""
    match = _EVENT_TIME.fullmatch(text)
    if match is None:
        return None
    *parts, sign, offset_hours, offset_minutes = match.groups()
    try:
        time = dt.datetime(*map(int, parts), tzinfo=dt.UTC)  # type: ignore[arg-type, misc]
        if sign is not None:
            minutes = int(offset_minutes or 0)
            if minutes > 59 or int(offset_hours) > 23:  # noqa: PLR2004
                return None
            offset = dt.timedelta(hours=int(offset_hours), minutes=minutes)
            time = time - offset if sign == "+" else time + offset
    except (ValueError, OverflowError):
        return None
    return time


def parse_row(  # noqa: PLR0911 - by reason
    line: bytes, header: Header
) -> dict[str, object] | str | None:
    """Read one row by the grammar.

    Args:
        line: The row without its line end.
        header: The file's columns.

    Returns:
        The values by column, texts lower-cased where the rules say so, NULL as None; or the reason
        why the row is rejected; or None where the line is the header again, as in files that were
        put one behind the other.
    """
    try:
        fields = _fields(line)
    except ValueError:
        return "malformed_row"
    if len(fields) != header.width:
        return "malformed_row"
    if tuple(fields) == header.names:
        return None
    text = dict(zip(header.columns, fields, strict=True))

    row: dict[str, object] = {"event_time": parse_event_time(text["event_time"])}
    if row["event_time"] is None:
        return "bad_event_time"
    row["event_type"] = text["event_type"]
    if text["event_type"] not in EVENT_TYPES:
        return "bad_event_type"
    for name, parse in _NUMBERS:
        row[name] = parse(text[name])
        if row[name] is None and (text[name] or name != "category_id"):
            return f"bad_{name}"
    if _RESERVED_SESSION.search(text["user_session"]):
        return "bad_user_session"
    row["user_session"] = text["user_session"] or None
    row["category_code"] = text["category_code"].lower() or None
    row["brand"] = text["brand"].lower() or None
    return row


_NUMBERS: Sequence[tuple[str, Callable[[str], object]]] = (
    ("product_id", parse_integer),
    ("category_id", parse_integer),
    ("price", parse_price),
    ("user_id", parse_integer),
)
