"""The rules of an input file, line by line in plain Python: slow, and easy to check by eye."""

from __future__ import annotations

import bz2
import gzip
import io
import re
import zipfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import zstandard

COLUMNS = (
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
EVENT_TYPES = ("view", "cart", "remove_from_cart", "purchase")
REASONS = (
    "malformed_row",
    "bad_event_time",
    "bad_event_type",
    "bad_product_id",
    "bad_category_id",
    "bad_price",
    "bad_user_id",
    "bad_user_session",
)
LARGEST_INTEGER = 9_223_372_036_854_775_807
PRICE_LIMIT = 10**20
PRICE_DECIMALS = 9
ROW_BYTES = 64 << 20
RAW_CHARACTERS = 10_000
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

INTEGER = re.compile(r" *\+?([0-9]+) *")
PRICE = re.compile(r" *\+?([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?)([0-9]+))? *")
EVENT_TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[ T]([0-9]{2}):([0-9]{2}):([0-9]{2})"
    r"(?:\.[0-9]+)?"
    r"(?: UTC| GMT| ?Z| ?([+-])([0-9]{2})(?::?([0-9]{2}))?)?"
)
RESERVED_SESSION = re.compile(r".*_timeout_[0-9]+", re.DOTALL)


class HeaderError(ValueError):
    """The file has no header that names each of the nine columns exactly once."""


class RowError(ValueError):
    """The row is rejected; the message is the reason."""


class Event(NamedTuple):
    """An accepted row: times in UTC without a zone, brand and category_code lower-cased."""

    event_time: datetime
    event_type: str
    product_id: int
    category_id: int | None
    category_code: str | None
    brand: str | None
    price: Decimal
    user_id: int
    user_session: str | None


class RejectedRow(NamedTuple):
    """A row that is no event: the offset of its first byte, the reason, and its text."""

    byte_offset: int
    reason: str
    raw: str


def read_file(path: Path) -> tuple[list[Event], list[RejectedRow]]:
    """The accepted and the rejected rows of a plain, .gz, .zst, .bz2 or .zip file."""
    return read_csv(decompressed(path))


def decompressed(path: Path) -> bytes:
    """The bytes of the CSV; the end of the file's name says how it is compressed."""
    data = path.read_bytes()
    if path.suffix == ".gz":
        return gzip.decompress(data)
    if path.suffix == ".bz2":
        return bz2.decompress(data)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            (name,) = archive.namelist()
            return archive.read(name)
    if path.suffix == ".zst":
        reader = zstandard.ZstdDecompressor().stream_reader(
            io.BytesIO(data), read_across_frames=True
        )
        return reader.read()
    return data


def read_csv(data: bytes) -> tuple[list[Event], list[RejectedRow]]:
    """The accepted and the rejected rows of a CSV, in its order; its header may come again.

    Raises:
        HeaderError: The first line that is not blank is no proper header.
    """
    lines = physical_lines(data)
    try:
        _, first = next(lines)
        header = split_fields(row_text(first))
    except (StopIteration, RowError) as error:
        raise HeaderError("the file has no readable header") from error
    for name in COLUMNS:
        if header.count(name) != 1:
            raise HeaderError(f"the header names {name} {header.count(name)} times")

    events = []
    rejected = []
    for byte_offset, line in lines:
        try:
            if split_fields(row_text(line)) != header:
                events.append(read_row(line, header))
        except RowError as error:
            raw = line.decode("utf-8", errors="replace")[:RAW_CHARACTERS]
            rejected.append(RejectedRow(byte_offset, str(error), raw))
    return events, rejected


def physical_lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Offset and content of every line that is not blank, without its LF or CRLF."""
    position = len(BYTE_ORDER_MARK) if data.startswith(BYTE_ORDER_MARK) else 0
    while position < len(data):
        end = data.find(b"\n", position)
        if end == -1:
            line, following = data[position:], len(data)
        else:
            line, following = data[position:end].removesuffix(b"\r"), end + 1
        if line:
            yield position, line
        position = following


def row_text(line: bytes) -> str:
    """The line as text; one that is no UTF-8, holds a NUL or is too long is malformed."""
    if len(line) > ROW_BYTES:
        raise RowError("malformed_row")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RowError("malformed_row") from error
    if "\0" in text:
        raise RowError("malformed_row")
    return text


def split_fields(line: str) -> list[str]:
    """The fields of one line, quoted as in RFC 4180.

    >>> split_fields('a,"b,c","d""e",f"g,')
    ['a', 'b,c', 'd"e', 'f"g', '']
    """
    fields = []
    position = 0
    while True:
        if line.startswith('"', position):
            field, position = quoted_field(line, position)
        else:
            comma = line.find(",", position)
            end = len(line) if comma == -1 else comma
            field, position = line[position:end], end
        fields.append(field)
        if position == len(line):
            return fields
        position += 1


def quoted_field(line: str, position: int) -> tuple[str, int]:
    """The field whose opening quote is at ``position``, and where the comma after it stands."""
    parts = []
    position += 1
    while True:
        quote = line.find('"', position)
        if quote == -1:
            raise RowError("malformed_row")
        parts.append(line[position:quote])
        position = quote + 1
        if not line.startswith('"', position):
            break
        parts.append('"')
        position += 1
    if position < len(line) and line[position] != ",":
        raise RowError("malformed_row")
    return "".join(parts), position


def read_row(line: bytes, header: list[str]) -> Event:
    """The event of a line; a ``RowError`` names the first reason against it."""
    fields = split_fields(row_text(line))
    if len(fields) != len(header):
        raise RowError("malformed_row")
    field = {name: text or None for name, text in zip(header, fields, strict=True)}

    event_time = parse_event_time(field["event_time"] or "")
    if event_time is None:
        raise RowError("bad_event_time")
    event_type = field["event_type"]
    if event_type not in EVENT_TYPES:
        raise RowError("bad_event_type")
    product_id = parse_integer(field["product_id"] or "")
    if product_id is None:
        raise RowError("bad_product_id")
    category_id = None
    if field["category_id"] is not None:
        category_id = parse_integer(field["category_id"])
        if category_id is None:
            raise RowError("bad_category_id")
    price = parse_price(field["price"] or "")
    if price is None:
        raise RowError("bad_price")
    user_id = parse_integer(field["user_id"] or "")
    if user_id is None:
        raise RowError("bad_user_id")
    user_session = field["user_session"]
    if user_session is not None and RESERVED_SESSION.fullmatch(user_session):
        raise RowError("bad_user_session")
    category_code = field["category_code"]
    brand = field["brand"]
    return Event(
        event_time=event_time,
        event_type=event_type,
        product_id=product_id,
        category_id=category_id,
        category_code=None if category_code is None else category_code.lower(),
        brand=None if brand is None else brand.lower(),
        price=price,
        user_id=user_id,
        user_session=user_session,
    )


def parse_integer(text: str) -> int | None:
    """The integer, or None where the text is none.

    >>> parse_integer(' +007 '), parse_integer('-1'), parse_integer('9223372036854775808')
    (7, None, None)
    """
    match = INTEGER.fullmatch(text)
    if match is None:
        return None
    return small_integer(match[1], LARGEST_INTEGER)


def small_integer(digits: str, largest: int) -> int | None:
    """The number, or None above ``largest``; never converts a text of absurd length."""
    significant = digits.lstrip("0")
    if len(significant) > len(str(largest)):
        return None
    value = int(significant or "0")
    return value if value <= largest else None


def parse_price(text: str) -> Decimal | None:
    """The exact price, or None where the text is none.

    >>> parse_price('1.50'), parse_price('15E-1'), parse_price('.5'), parse_price('1e20')
    (Decimal('1.500000000'), Decimal('1.500000000'), None, None)
    """
    match = PRICE.fullmatch(text)
    if match is None:
        return None
    whole, fraction, sign, exponent_digits = match.groups()
    fraction = fraction or ""
    digits = (whole + fraction).lstrip("0")
    significant = digits.rstrip("0")
    if significant == "":
        return Decimal("0.000000000")
    exponent = small_integer(exponent_digits or "0", 10**18)
    if exponent is None:
        return None
    if sign == "-":
        exponent = -exponent
    # The value is significant x 10^power, and significant does not end in a zero.
    power = exponent - len(fraction) + len(digits) - len(significant)
    if power < -PRICE_DECIMALS or len(significant) + power > len(str(PRICE_LIMIT - 1)):
        return None
    billionths = int(significant) * 10 ** (power + PRICE_DECIMALS)
    return Decimal((0, tuple(int(digit) for digit in str(billionths)), -PRICE_DECIMALS))


def parse_event_time(text: str) -> datetime | None:
    """The second in UTC, without a zone, or None where the text is no time.

    >>> parse_event_time('2019-10-01T02:30:00.999+03:00')
    datetime.datetime(2019, 9, 30, 23, 30)
    >>> parse_event_time('2019-10-01 02:30:00 +03')
    datetime.datetime(2019, 9, 30, 23, 30)
    """
    match = EVENT_TIME.fullmatch(text)
    if match is None:
        return None
    sign, offset_hours, offset_minutes = match.group(7, 8, 9)
    try:
        numbers = (int(part) for part in match.group(1, 2, 3, 4, 5, 6))
        local = datetime(*numbers)  # noqa: DTZ001 - like DuckDB's TIMESTAMP, without a zone
        if sign is None:
            return local
        minutes = int(offset_minutes or "0")
        if int(offset_hours) > 23 or minutes > 59:
            return None
        offset = timedelta(hours=int(offset_hours), minutes=minutes)
        return local - offset if sign == "+" else local + offset
    except (ValueError, OverflowError):
        return None
