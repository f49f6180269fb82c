"""CSV bytes to event batches and rejected rows.

The grammar of a row (its fields, numbers, times) is in `parse_row`, which is slow and decides.
`parse_block` gives the same answer for a block of rows at several million rows a second: Polars
parses the block, and since Polars is more lenient than the grammar, a row counts as parsed only
where cheap checks prove that the grammar would say the same. Whatever is not proven goes, row by
row, to `parse_row`.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import numpy as np
import polars as pl
import pyarrow as pa

from transforms.errors import InputError
from transforms.events import EVENT_BATCH, EVENT_TYPE, MONEY
from transforms.runs import run_numbers, run_starts
from transforms.schema import EVENT_TYPES, REJECT_REASONS

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

REJECTED_BATCH = pl.Schema(
    {
        "source_file": pl.String(),
        "byte_offset": pl.Int64(),
        "reason": pl.Enum(REJECT_REASONS),
        "raw": pl.String(),
    }
)
"""Columns of a batch of rejected rows."""

BOM: Final = b"\xef\xbb\xbf"
_RAW_CHARACTERS: Final = 10_000
_MAX_INTEGER: Final = 9_223_372_036_854_775_807
_MAX_DECIMALS: Final = 9
_INTEGER_DIGITS: Final = 20  # of an integer part below 10^20

_INTEGER = re.compile(r" *\+?([0-9]+) *", re.ASCII)
_PRICE = re.compile(r" *\+?([0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?) *", re.ASCII)
_EVENT_TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[ T]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.[0-9]+)?"
    r"(?: UTC|Z|([+-])([0-9]{2}):?([0-9]{2}))?",
    re.ASCII,
)
_RESERVED_SESSION = re.compile(r"_timeout_[0-9]+\Z", re.ASCII)


@dataclass(frozen=True)
class Header:
    """The columns of one file, in its order; those the pipeline ignores are named None."""

    columns: tuple[str | None, ...]

    @property
    def width(self) -> int:
        """Number of fields in a row."""
        return len(self.columns)

    def field_name(self, position: int) -> str:
        """A unique name for a field: its column, or a stand-in for an ignored one."""
        return self.columns[position] or f"ignored_{position}"


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
    return Header(tuple(name if name in COLUMNS else None for name in names))


# The grammar of a row ----------------------------------------------------------------------------


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
            if int(offset_minutes) > 59 or int(offset_hours) > 23:  # noqa: PLR2004
                return None
            offset = dt.timedelta(hours=int(offset_hours), minutes=int(offset_minutes))
            time = time - offset if sign == "+" else time + offset
    except (ValueError, OverflowError):
        return None
    return time


def parse_row(line: bytes, header: Header) -> dict[str, object] | str:  # noqa: PLR0911 - by reason
    """Read one row by the grammar.

    Args:
        line: The row without its line end.
        header: The file's columns.

    Returns:
        The values of an event batch by column, or the reason why the row is rejected.
    """
    try:
        fields = _fields(line)
    except ValueError:
        return "malformed_row"
    if len(fields) != header.width:
        return "malformed_row"
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


# Blocks of rows -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class ParsedBlock:
    """What a block of a file holds.

    Attributes:
        events: The accepted rows, an event batch.
        rejected: The others, a batch of rejected rows.
    """

    events: pl.DataFrame
    rejected: pl.DataFrame

    @property
    def rows_read(self) -> int:
        """Rows of the block, blank lines not counted."""
        return self.events.height + self.rejected.height


def parse_block(data: bytes, header: Header, source: str, offset: int) -> ParsedBlock:
    """Parse a block of whole lines; the last may lack its end.

    Args:
        data: The lines, without the header.
        header: The file's columns.
        source: Name of the file, for rejected rows.
        offset: Offset of the block's first byte in the file, after decompression.
    """
    strings = _read_regular(data, header)
    if strings is not None:
        typed, proven = _typed(strings)
        if proven.all():
            return ParsedBlock(typed, pl.DataFrame(schema=REJECTED_BATCH))
    return _parse_irregular(data, header, source, offset)


def _read_regular(data: bytes, header: Header) -> pl.DataFrame | None:
    """Read a block in which every line is provably `width` fields without quotes, or None."""
    # Without quotes every line is a row and every comma splits fields. Polars takes a tab for a
    # space, and a BOM for nothing.
    if b'"' in data or b"\0" in data or b"\t" in data or data.startswith(BOM):
        return None
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n")
        if b"\r" in data:
            return None
    for types in (_TYPES, _LENIENT_TYPES):
        try:
            frame = pl.read_csv(
                data,
                has_header=False,
                schema={
                    header.field_name(position): types.get(name or "", pl.String())
                    for position, name in enumerate(header.columns)
                },
            )
        except pl.exceptions.NoDataError:
            return EVENT_STRINGS
        except pl.exceptions.PolarsError:
            continue  # an id that is no integer, an unknown event_type, a row too long, bad UTF-8
        if (
            frame.schema["category_id"] == pl.Int64
            and frame["category_id"].null_count()
            and (b", " in data or b" ," in data)
        ):
            continue  # to Polars, an integer of spaces alone is none
        # Polars fills a short row with NULL from the right: a value in the last field of every row
        # proves them whole, or else the count of commas does, because no row is too long.
        whole = not frame[:, -1].null_count() or data.count(b",") == frame.height * (
            header.width - 1
        )
        return frame.select(COLUMNS) if whole else None
    return None


_LENIENT_TYPES: Final[dict[str, pl.DataType]] = {
    "category_code": pl.Categorical(),
    "brand": pl.Categorical(),
}
_TYPES: Final[dict[str, pl.DataType]] = _LENIENT_TYPES | {
    "event_type": EVENT_TYPE,
    "product_id": pl.Int64(),
    "category_id": pl.Int64(),
    "user_id": pl.Int64(),
}

EVENT_STRINGS = pl.DataFrame(
    schema={name: _LENIENT_TYPES.get(name, pl.String()) for name in COLUMNS}
)


def _typed(strings: pl.DataFrame) -> tuple[pl.DataFrame, pl.Series]:
    """Give split fields their types.

    Returns:
        An event batch of all rows, and which of them the grammar reads the same way.
    """
    times = _event_times(strings["event_time"])
    proven = strings.select(
        times.is_not_null(),
        pl.col("event_type").cast(EVENT_TYPE, strict=False).is_not_null(),
        *(
            # Polars reads -0 as 0. A field that was not read as an integer must be all digits,
            # and small enough.
            pl.col(name) > 0
            if strings.schema[name] == pl.Int64
            else pl.when(pl.col(name).is_not_null()).then(
                pl.col(name).str.contains("^[0-9]+$")
                & pl.col(name).cast(pl.Int64, strict=False).is_not_null()
            )
            for name in ("product_id", "user_id", "category_id")
        ),
        pl.col("price").str.contains(r"^[0-9]{1,15}(\.[0-9]{1,9})?$"),
        reserved=~pl.col("user_session").str.contains("_timeout_", literal=True),
    ).with_columns(
        pl.col("category_id", "reserved").fill_null(value=True),
    )
    typed = strings.select(
        times,
        pl.col("event_type").cast(EVENT_TYPE, strict=False),
        pl.col("product_id", "category_id").cast(pl.Int64, strict=False),
        "category_code",
        "brand",
        pl.col("price").cast(MONEY, strict=False),
        pl.col("user_id").cast(pl.Int64, strict=False),
        "user_session",
    )
    proof = proven.select(pl.all_horizontal(pl.all())).to_series()
    return (
        typed.with_columns(lower_case(typed["category_code"]), lower_case(typed["brand"])),
        proof.fill_null(value=False),
    )


def _event_times(texts: pl.Series) -> pl.Series:
    """The times of texts in REES46's form, NULL for others.

    The files are in the order of time, with 20 events a second: each text is parsed once a run.
    """
    starts = run_starts(texts.to_frame(), [texts.name])
    distinct = texts.gather(starts)
    # Polars takes spaces, signs and single digits for digits, and 60 for a second.
    regular = distinct.str.contains("^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-5][0-9] UTC$")
    times = (
        distinct.to_frame("text")
        .select(
            pl.when(regular).then(
                pl.col("text")
                .str.to_datetime("%Y-%m-%d %H:%M:%S UTC", time_unit="us", strict=False, cache=False)
                .dt.replace_time_zone("UTC")
            )
        )
        .to_series()
    )
    return times.gather(run_numbers(starts, len(texts))).alias(texts.name)


def lower_case(text: pl.Series) -> pl.Series:
    """Lower-case a dictionary-encoded column as Python's `str.lower`; Polars' own differs."""
    values = text.unique().cast(pl.String).to_list()
    changed = {value: value.lower() for value in values if value and value != value.lower()}
    if not changed:
        return text
    return text.cast(pl.String).replace(changed).cast(pl.Categorical)


def _parse_irregular(data: bytes, header: Header, source: str, offset: int) -> ParsedBlock:
    """Parse a block line by line: those that can be are parsed together, the others one by one."""
    lines = split_lines(data)
    together, fields_data = _simple_lines(lines, header)
    strings = _read_regular(fields_data, header)
    if strings is None or strings.height != together.sum():
        together = pl.repeat(value=False, n=lines.height, eager=True)
        strings = EVENT_STRINGS
    typed, proven = _typed(strings)

    alone = lines.with_columns(
        done=pl.Series(_scatter(together.to_numpy(), proven.to_numpy()), dtype=pl.Boolean)
    ).filter(~pl.col("done"))
    rows, rejected = [], []
    for start, line in alone.select("start", "line").iter_rows():
        row = parse_row(line, header)
        if isinstance(row, str):
            raw = line.decode(errors="replace")[:_RAW_CHARACTERS]
            rejected.append((source, offset + start, row, raw))
        else:
            rows.append(row)
    return ParsedBlock(
        pl.concat([typed.filter(proven), pl.DataFrame(rows, schema=EVENT_BATCH)]),
        pl.DataFrame(rejected, schema=REJECTED_BATCH, orient="row"),
    )


def _scatter(chosen: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A mask over all lines from a mask over the chosen ones."""
    result = np.zeros(len(chosen), dtype=bool)
    result[chosen] = values
    return result


def split_lines(data: bytes) -> pl.DataFrame:
    """Split a block into its lines that are not blank.

    Returns:
        Columns `start` (Int64, offset in the block) and `line` (Binary, without line end).
    """
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n"))
    if not data.endswith(b"\n"):
        ends = np.append(ends, len(data))
    offsets = np.empty(len(ends) + 1, np.int64)
    offsets[0] = 0
    offsets[1:] = np.minimum(ends + 1, len(data))
    array = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(ends), [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    )
    line = pl.col("line").bin
    # A CR without an LF behind it is text.
    end = pl.when(line.ends_with(b"\r\n")).then(2).otherwise(line.ends_with(b"\n").cast(pl.Int32))
    return (
        pl.DataFrame({"start": offsets[:-1], "line": pl.Series(pl.from_arrow(array))})
        .with_columns(line.slice(0, line.size().cast(pl.Int64) - end))
        .filter(line.size() > 0)
    )


def _simple_lines(lines: pl.DataFrame, header: Header) -> tuple[pl.Series, bytes]:
    """Find the lines whose fields a comma splits and whose quotes, if any, wrap whole fields.

    Returns:
        Which lines they are, and a block of them without the quotes.
    """
    text = _texts(lines["line"]).to_frame("text")
    field = r'(?:[^",\t\r\x00]*|"[^",\t\r\x00]*")'
    whole = pl.col("text").str.contains(f"^{field}(?:,{field}){{{header.width - 1}}}$")
    simple = text.select(
        (whole & ~pl.col("text").str.starts_with(BOM.decode())).fill_null(value=False)
    ).to_series()
    chosen = text.filter(simple).select(pl.col("text").str.replace_all('"', "", literal=True))
    return simple, "\n".join(chosen["text"].to_list()).encode()


def _texts(lines: pl.Series) -> pl.Series:
    """The lines as text, NULL where one is no UTF-8."""
    try:
        return lines.cast(pl.String)
    except pl.exceptions.PolarsError:
        return pl.Series(map(_text, lines), dtype=pl.String)


def _text(line: bytes) -> str | None:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return None
