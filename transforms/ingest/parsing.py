"""CSV bytes to event batches and rejected rows.

The grammar of a row is in `grammar.parse_row`, which is slow and decides. `parse_block` gives the
same answer for a block of rows at several million rows a second: a kernel reads the forms that
nearly all rows have, and leaves every line in which it meets anything else to `parse_row`.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
from numba import types

from transforms.columnar.arrays import NO_ID, codes, column
from transforms.columnar.kernels import (
    HIGH_BITS,
    WINDOW,
    Bytes,
    Flag,
    Integer,
    Integers,
    Numbers,
    Slots,
    Word,
    Words,
    count_bits,
    equal_bytes,
    filled,
    given,
    helper,
    kernel,
    load_word,
    mixed,
    occupy,
    trailing_zeros,
    zero_bytes,
)
from transforms.columnar.money import billionths
from transforms.columnar.product_codes import PRODUCT_CODE, number_products
from transforms.ingest.batch import EVENT_BATCH, EVENT_TYPE
from transforms.ingest.blocks import Block
from transforms.ingest.grammar import COLUMNS, RAW_CHARACTERS, Header, parse_row
from transforms.ingest.session_keys import (
    SESSION_NAMES,
    UUID_LENGTH,
    key_of_name,
    session_key,
    uuid_key,
)
from transforms.schema import EVENT_TYPES, MONEY_SCALE, REJECT_REASONS

REJECTED_BATCH = pl.Schema(
    {
        "source_file": pl.String(),
        "byte_offset": pl.Int64(),
        "reason": pl.Enum(REJECT_REASONS),
        "raw": pl.String(),
    }
)
"""Columns of a batch of rejected rows."""


@dataclass(frozen=True)
class ParsedBlock:
    """What a block of a file holds.

    Attributes:
        events: The accepted rows, an event batch.
        session_names: The names of its sessions whose keys do not tell them, each once.
        rejected: The other rows, a batch of rejected rows.
    """

    events: pl.DataFrame
    session_names: pl.DataFrame
    rejected: pl.DataFrame

    @property
    def rows_read(self) -> int:
        """Rows of the block; blank lines, and the header where it comes again, are none."""
        return self.events.height + self.rejected.height


def parse_block(block: Block, header: Header) -> ParsedBlock:
    """Parse a block.

    Args:
        block: Lines of files, without the header.
        header: The files' columns.
    """
    lines, has_quotes, is_ascii = _survey(block.padded)
    rows = _Rows(lines)
    odd_lines = np.empty((lines, 2), np.int64)
    texts = np.empty(len(block.padded), np.uint8)
    roles = [-1 if name is None else COLUMNS.index(name) for name in header.columns]
    rows.count, odd, used = _read_lines(
        block.padded,
        np.array(roles, np.int64),
        has_quotes,
        is_ascii or _is_text(block.data()),
        *rows.columns,
        odd_lines,
        texts,
    )
    rows.look_up_texts(texts[:used].tobytes(), block)
    rejected = []
    for start, end in odd_lines[:odd].tolist():
        line = block.data(start, end)
        row = parse_row(line, header)
        if isinstance(row, str):
            raw = line.decode(errors="replace")[:RAW_CHARACTERS]
            rejected.append((*block.place(start), row, raw))
        elif row is not None:
            rows.append(row)
    return ParsedBlock(
        rows.event_batch(),
        rows.session_names(),
        pl.DataFrame(rejected, schema=REJECTED_BATCH, orient="row"),
    )


def _is_text(data: bytes) -> bool:
    """True where all of it is UTF-8."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


class _Rows:
    """The rows of a block, column by column, as a kernel fills them.

    Attributes:
        count: Rows filled.
        columns: The arrays that `_read_lines` fills, in the order of its arguments.
    """

    def __init__(self, lines: int) -> None:
        self.count = 0
        self._microseconds = np.empty(lines, np.int64)
        self._types = np.empty(lines, np.uint8)
        self._products = np.empty(lines, np.int64)
        self._categories = np.empty(lines, np.int64)
        self._category_codes = np.empty(lines, np.uint32)
        self._brands = np.empty(lines, np.uint32)
        self._prices = np.empty((lines, 2), np.uint64)
        self._users = np.empty(lines, np.int64)
        self._session_high = np.empty(lines, np.uint64)
        self._session_low = np.empty(lines, np.uint64)
        self._session_kinds = np.empty(lines, np.uint8)
        self.columns = (
            self._microseconds,
            self._types,
            self._products,
            self._categories,
            self._category_codes,
            self._brands,
            self._prices,
            self._users,
            self._session_high,
            self._session_low,
            self._session_kinds,
        )

    def look_up_texts(self, texts: bytes, block: Block) -> None:
        """Read the texts that the kernel found, and give sessions that are no UUID their keys."""
        self._dictionary: list[str | None] = [None, *texts.decode().lower().split("\n")[1:-1]]
        self._names: dict[str, tuple[int, int]] = {}
        for row in np.flatnonzero(self._session_kinds[: self.count] == _NAMED).tolist():
            # The kernel has left the name's place where its key goes.
            start = int(self._session_high[row])
            name = block.data(start, start + int(self._session_low[row])).decode()
            if name not in self._names:
                self._names[name] = key_of_name(name)
            self._session_high[row], self._session_low[row] = self._names[name]

    def append(self, row: dict[str, Any]) -> None:
        """Add a row that `parse_row` has read."""
        at = self.count
        self._microseconds[at] = (row["event_time"] - _EPOCH) // dt.timedelta(microseconds=1)
        self._types[at] = EVENT_TYPES.index(row["event_type"])
        self._products[at] = row["product_id"]
        self._categories[at] = NO_ID if row["category_id"] is None else row["category_id"]
        self._category_codes[at] = self._code(row["category_code"])
        self._brands[at] = self._code(row["brand"])
        units = billionths(row["price"])
        self._prices[at] = units & _LOW_HALF, units >> 64
        self._users[at] = row["user_id"]
        self._session_kinds[at] = _MISSING
        if (name := row["user_session"]) is not None:
            high, low, is_uuid = session_key(name)
            self._session_kinds[at] = _UUID if is_uuid else _NAMED
            self._session_high[at], self._session_low[at] = high, low
            if not is_uuid:
                self._names[name] = high, low
        self.count += 1

    def _code(self, text: str | None) -> int:
        if text is None:
            return 0
        self._dictionary.append(text)
        return len(self._dictionary) - 1

    def event_batch(self) -> pl.DataFrame:
        """The rows as an event batch; the arrays are handed over, not copied."""
        texts = codes(pl.Series(self._dictionary, dtype=pl.Categorical))
        product_codes = number_products(
            self._products[: self.count],
            self._categories[: self.count],
            texts[self._category_codes[: self.count]],
            texts[self._brands[: self.count]],
        )
        has_session = self._session_kinds[: self.count] != _MISSING
        columns = {
            "event_time": self._series(pa.timestamp("us", "UTC"), self._microseconds),
            "event_type": self._series(pa.uint8(), self._types).cat.to(EVENT_TYPE),
            "price": self._series(pa.decimal128(38, MONEY_SCALE), self._prices),
            "user_id": self._series(pa.int64(), self._users),
            "session_high": self._series(pa.uint64(), self._session_high, has_session),
            "session_low": self._series(pa.uint64(), self._session_low, has_session),
            PRODUCT_CODE: pl.Series(product_codes),
        }
        return pl.DataFrame(columns, schema=EVENT_BATCH)

    def _series(self, kind: pa.DataType, values: npt.NDArray[Any], valid: Any = None) -> pl.Series:
        """The column of the filled part of an array, NULL where not valid."""
        return column(values[: self.count], kind, valid)

    def session_names(self) -> pl.DataFrame:
        """The names that the keys do not tell, a `SESSION_NAMES` frame."""
        rows = [(*key, name) for name, key in self._names.items()]
        return pl.DataFrame(rows, schema=SESSION_NAMES, orient="row")


_NEWLINE: Final = np.uint8(ord("\n"))


_RETURN: Final = ord("\r")


_COMMA: Final = np.uint8(ord(","))


_QUOTE: Final = np.uint8(ord('"'))


_NUL: Final = np.uint8(0)


_ZERO: Final = ord("0")


_ZEROS: Final = Word(int.from_bytes(b"0" * 8))


_POINTS: Final = Word(int.from_bytes(b"." * 8))


_TENS: Final = tuple(10**exponent for exponent in range(10))


_LOW_HALF: Final = (1 << 64) - 1


_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


_ODD: Final = -1  # what the kernel does not read; numbers of the grammar are not negative


_MISSING, _UUID, _NAMED = range(3)  # kinds of sessions


(
    _EVENT_TIME,
    _EVENT_TYPE,
    _PRODUCT_ID,
    _CATEGORY_ID,
    _CATEGORY_CODE,
    _BRAND,
    _PRICE,
    _USER_ID,
    _USER_SESSION,
) = range(len(COLUMNS))


_VIEW, _CART, _REMOVE_FROM_CART, _PURCHASE = range(len(EVENT_TYPES))


def _word(text: bytes) -> Word:
    """The word that `load_word` makes of eight bytes or, followed by zeros, of fewer."""
    return Word(int.from_bytes(text, "little"))


_VIEW_WORD: Final = _word(b"view")


_CART_WORD: Final = _word(b"cart")


_PURCHASE_WORD: Final = _word(b"purchase")


_REMOVE_WORDS: Final = (_word(b"remove_f"), _word(b"rom_cart"))


_UTC_WORD: Final = _word(b" UTC")


_TIMEOUT_WORD: Final = _word(b"_timeout")


_TIME_LENGTH: Final = len("2019-10-01 00:00:00 UTC")


_SECOND: Final = 1_000_000  # microseconds


@kernel(types.Tuple((types.int64, types.boolean, types.boolean))(given(types.uint8)))
def _survey(padded: Bytes) -> tuple[int, bool, bool]:
    """Look through a block.

    Returns:
        The most lines there can be, whether there are quotes or NUL bytes, whether all is ASCII.
    """
    lines = 0
    quotes, high_bits = Word(0), Word(0)
    for position in range(0, len(padded) - WINDOW + 1, WINDOW):
        lines += count_bits(equal_bytes(padded, position, _NEWLINE))
        quotes |= equal_bytes(padded, position, _QUOTE) | equal_bytes(padded, position, _NUL)
        for place in range(position, position + WINDOW, 8):
            high_bits |= load_word(padded, place)
    return lines + WINDOW, quotes != 0, high_bits & HIGH_BITS == 0


@helper
def _first_bytes(word: Word, count: Integer) -> Word:
    """A word with all but its first bytes, at least one, set to 0."""
    return word << Word(64 - 8 * count) >> Word(64 - 8 * count)


@helper
def _eight_digits(word: Word) -> Integer:
    """The number that eight digits write, or −1 (SWAR: three multiplications)."""
    tens = word & Word(0xF0F0F0F0F0F0F0F0)
    above_nine = (word + Word(0x0606060606060606)) & Word(0xF0F0F0F0F0F0F0F0)
    if tens | above_nine >> Word(4) != Word(0x3333333333333333):
        return _ODD
    digits = word - Word(0x3030303030303030)
    pairs = digits * Word(10) + (digits >> Word(8))
    low = (pairs & Word(0x000000FF000000FF)) * Word(0x000F424000000064)
    high = (pairs >> Word(16) & Word(0x000000FF000000FF)) * Word(0x0000271000000001)
    return np.int64((low + high) >> Word(32))


@helper
def _integer(data: Bytes, start: Integer, end: Integer) -> Integer:
    """The number that 1 to 19 digits write, at most 2^63 − 1, or −1."""
    if end <= start or end - start > 19:
        return _ODD
    first = (end - start) % 8
    value = Word(0)
    if first:
        digits = load_word(data, start) << Word(64 - 8 * first)
        number = _eight_digits(digits | Word(0x3030303030303030) >> Word(8 * first))
        if number < 0:
            return _ODD
        value = Word(number)
    for position in range(start + first, end, 8):
        number = _eight_digits(load_word(data, position))
        if number < 0:
            return _ODD
        value = value * Word(100_000_000) + Word(number)
    return np.int64(value)  # above 2^63 − 1 it is negative


@helper
def _two_digits(data: Bytes, position: Integer) -> Integer:
    """The number that two digits write, or a large negative one."""
    tens, ones = np.int64(data[position]) - _ZERO, np.int64(data[position + 1]) - _ZERO
    if tens < 0 or tens > 9 or ones < 0 or ones > 9:
        return -10_000
    return 10 * tens + ones


@helper
def _date(data: Bytes, start: Integer) -> tuple[bool, Integer]:
    """Whether ten bytes write a date, YYYY-MM-DD, and the microseconds from 1970 to it.

    The days of a date by Howard Hinnant's `days_from_civil`.
    """
    year = 100 * _two_digits(data, start) + _two_digits(data, start + 2)
    month, day = _two_digits(data, start + 5), _two_digits(data, start + 8)
    if data[start + 4] != ord("-") or data[start + 7] != ord("-") or year < 1:
        return False, 0
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    last = 31
    if month == 4 or month == 6 or month == 9 or month == 11:
        last = 30
    elif month == 2:
        last = 29 if leap else 28
    if month < 1 or month > 12 or day < 1 or day > last:
        return False, 0
    of_march = year - (month <= 2)
    era = of_march // 400
    year_of_era = of_march - era * 400
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    days = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    return True, (era * 146_097 + days - 719_468) * 86_400 * _SECOND


@helper
def _time_of_day(data: Bytes, start: Integer) -> Integer:
    """The microseconds of the day that ` HH:MM:SS UTC` writes, or a negative number."""
    hour, minute = _two_digits(data, start + 1), _two_digits(data, start + 4)
    second = _two_digits(data, start + 7)
    if (
        data[start] != ord(" ")
        or data[start + 3] != ord(":")
        or data[start + 6] != ord(":")
        or _first_bytes(load_word(data, start + 9), 4) != _UTC_WORD
        or hour > 23
        or minute > 59
        or second > 59
        or min(hour, minute, second) < 0
    ):
        return _ODD
    return (3600 * hour + 60 * minute + second) * _SECOND


@helper
def _type_of_event(data: Bytes, start: Integer, end: Integer) -> Integer:
    """The number of an event type, or −1."""
    word = load_word(data, start)
    if end - start == 4:
        if _first_bytes(word, 4) == _VIEW_WORD:
            return _VIEW
        if _first_bytes(word, 4) == _CART_WORD:
            return _CART
    elif end - start == 8 and word == _PURCHASE_WORD:
        return _PURCHASE
    elif (
        end - start == 16
        and word == _REMOVE_WORDS[0]
        and load_word(data, start + 8) == _REMOVE_WORDS[1]
    ):
        return _REMOVE_FROM_CART
    return _ODD


@helper
def _price(data: Bytes, start: Integer, end: Integer) -> Integer:
    """The billionths of a price of at most 9 digits and 9 decimals, or −1."""
    length = end - start
    if 0 < length <= 8:
        return _short_price(load_word(data, start) << Word(64 - 8 * length), length)
    point = start
    while point < end and data[point] != ord("."):
        point += 1
    if point - start > 9 or end - point > 10:
        return _ODD
    units = _integer(data, start, point)
    if units < 0 or point == end:
        return _ODD if units < 0 else units * _TENS[9]
    decimals = _integer(data, point + 1, end)
    return _ODD if decimals < 0 else units * _TENS[9] + decimals * _TENS[10 - (end - point)]


@helper
def _short_price(word: Word, length: Integer) -> Integer:
    """The billionths of a price of 1 to 8 characters, the last in the highest byte, or −1."""
    decimals: Integer = 0
    points = zero_bytes(word ^ _POINTS)
    if points:
        place = trailing_zeros(points) // 8
        decimals = 7 - place
        if decimals == 0 or decimals == length - 1:
            return _ODD  # no digit behind the point, or none before it
        before = word & ((Word(1) << Word(8 * place)) - Word(1))
        word = word >> Word(8 * place + 8) << Word(8 * place + 8) | before << Word(8)
        length -= 1
    if length < 8:
        word |= _ZEROS >> Word(8 * length)
    digits = _eight_digits(word)
    return _ODD if digits < 0 else digits * _TENS[9 - decimals]


@helper
def _is_reserved(data: Bytes, start: Integer, end: Integer) -> Flag:
    """True where a text ends in `_timeout_` and digits."""
    digits = end
    while digits > start and data[digits - 1] - _ZERO < 10 and data[digits - 1] >= _ZERO:
        digits -= 1
    return (
        digits < end
        and digits - start >= 9
        and load_word(data, digits - 9) == _TIMEOUT_WORD
        and data[digits - 1] == ord("_")
    )


@helper
def _code_of_text(
    data: Bytes,
    start: Integer,
    end: Integer,
    table: Slots,
    slots: Integer,
    known: Words,
    count: Integer,
    texts: Bytes,
    used: Integer,
) -> tuple[Integer, Integer]:
    """Find or add a text.

    Args:
        data: Where it is.
        start: Its first byte.
        end: The byte behind it.
        table: The numbers of texts, at their hashes; −1 where there is none.
        slots: How much of the table is in use, a power of two.
        known: Of each text its hash, where it begins in `texts`, and its length.
        count: Number of texts.
        texts: The texts, a newline behind each.
        used: Bytes of them.

    Returns:
        The number of the text, and the bytes used now.
    """
    length = end - start
    hashed = Word(length)
    for position in range(start, end, 8):
        word = load_word(data, position)
        hashed = mixed(hashed, word if end - position >= 8 else _first_bytes(word, end - position))
    slot = np.int64(hashed & Word(slots - 1))
    while table[slot] >= 0:
        code = np.int64(table[slot])
        if known[code, 0] == hashed and known[code, 2] == length:
            ahead = np.int64(known[code, 1]) - start
            equal = True
            for position in range(start, end, 8):
                difference = load_word(data, position) ^ load_word(texts, ahead + position)
                if end - position < 8:
                    difference = _first_bytes(difference, end - position)
                equal = equal and difference == 0
            if equal:
                return code, used
        slot = (slot + 1) & (slots - 1)
    table[slot] = count
    known[count, 0], known[count, 1], known[count, 2] = hashed, Word(used), Word(length)
    texts[used : used + length] = data[start:end]
    texts[used + length] = _NEWLINE
    return count, used + length + 1


@helper
def _make_room(table: Slots, slots: Integer, known: Words, count: Integer) -> None:
    """Spread the texts found so far over the first slots of the table."""
    table[:slots] = -1
    for code in range(1, count):
        occupy(table, slots, known[code, 0], code)


@helper
def _split_quoted(
    data: Bytes, start: Integer, end: Integer, is_text: bool, begins: Integers, ends: Integers
) -> Integer:
    """Split a line whose quotes, if any, wrap whole fields; the number of fields, or −1."""
    fields = 0
    position = start
    while True:
        is_quoted = position < end and data[position] == _QUOTE
        begin = position + 1 if is_quoted else position
        close = begin
        while close < end and data[close] != (_QUOTE if is_quoted else _COMMA):
            if data[close] == 0 or (data[close] >= 128 and not is_text):
                return _ODD
            close += 1
        position = close
        if is_quoted:
            if close == end:
                return _ODD
            position += 1
            if position < end and data[position] != _COMMA:
                return _ODD
        if fields < len(ends):
            begins[fields], ends[fields] = begin, close
        fields += 1
        if position == end:
            return fields
        position += 1


_SIGNATURE = types.UniTuple(types.int64, 3)(
    given(types.uint8),
    given(types.int64),
    types.boolean,
    types.boolean,
    filled(types.int64),
    filled(types.uint8),
    filled(types.int64),
    filled(types.int64),
    filled(types.uint32),
    filled(types.uint32),
    filled(types.uint64, 2),
    filled(types.int64),
    filled(types.uint64),
    filled(types.uint64),
    filled(types.uint8),
    filled(types.int64, 2),
    filled(types.uint8),
)


@kernel(_SIGNATURE)
def _read_lines(
    padded: Bytes,
    roles: Integers,
    has_quotes: bool,
    is_text: bool,
    microseconds: Integers,
    event_types: Bytes,
    products: Integers,
    categories: Integers,
    category_codes: Numbers,
    brands: Numbers,
    prices: Words,
    users: Integers,
    session_high: Words,
    session_low: Words,
    session_kinds: Bytes,
    odd_lines: Integers,
    texts: Bytes,
) -> tuple[int, int, Integer]:
    """Read the lines of a block that have the usual form.

    Args:
        padded: The block; the first newline of its padding ends its last line.
        roles: Of each field, the number of its column in `COLUMNS`, or −1.
        has_quotes: There may be quotes or NUL bytes.
        is_text: All of it is UTF-8.
        microseconds: Filled, as those below, with a value for each row that is read.
        event_types: Numbers of `EVENT_TYPES`.
        products: Ids.
        categories: Ids, `NO_ID` for NULL.
        category_codes: Numbers of texts, 0 for NULL.
        brands: The same.
        prices: Billionths, the low and the high half.
        users: Ids.
        session_high: High half of a UUID; of another name, where it starts.
        session_low: Low half; of another name, its length.
        session_kinds: `_MISSING`, `_UUID` or `_NAMED`.
        odd_lines: Filled with the start and end of each line that is not read.
        texts: Filled with the texts of categories and brands, a newline behind each; the first is
            none.

    Returns:
        The number of rows, of odd lines, and of bytes of texts.
    """
    size = len(padded) - WINDOW + 1
    width = len(roles)
    begins, ends = np.zeros(width, np.int64), np.zeros(width, np.int64)
    rows, odds = 0, 0
    # There is room for two texts a line, of which only a little is used.
    known = np.empty((2 * len(odd_lines) + 1, 3), np.uint64)
    slots: Integer = 1024
    table = np.empty(slots + 4 * len(known), np.int32)
    text_count: Integer = 1
    _make_room(table, slots, known, text_count)
    texts[0] = _NEWLINE
    used: Integer = 1
    field = 0
    line = 0
    is_suspect: Flag = not is_text
    date_start, date_end = Word(0), Word(0)
    date: Integer = 0
    for window in range(0, size, WINDOW):
        newlines = equal_bytes(padded, window, _NEWLINE)
        marks = newlines | equal_bytes(padded, window, _COMMA)
        suspects = Word(0)
        if has_quotes:
            suspects = equal_bytes(padded, window, _QUOTE) | equal_bytes(padded, window, _NUL)
        while marks:
            lowest = marks & (~marks + Word(1))
            marks ^= lowest
            mark = window + trailing_zeros(lowest)
            if not newlines & lowest:
                if field < width:
                    ends[field] = mark
                field += 1
                if field < width:
                    begins[field] = mark + 1
                continue
            if mark >= size:
                break
            start, end = line, mark
            line = mark + 1
            fields: Integer = field + 1
            field = 0
            if end > start and padded[end - 1] == _RETURN and end < size - 1:
                end -= 1  # a CR at the end of the data is text
            if is_suspect or suspects & (lowest - Word(1)):
                fields = _split_quoted(padded, start, end, is_text, begins, ends)
                suspects &= ~(lowest - Word(1))
                is_suspect = not is_text
            else:
                begins[0] = start
                ends[width - 1] = end
            if end == start:
                continue
            is_usual: Flag = fields == width
            for number in range(width):
                if not is_usual:
                    break
                role, first, last = roles[number], begins[number], ends[number]
                if role == _EVENT_TIME:
                    is_usual = last - first == _TIME_LENGTH
                    if is_usual:
                        if (
                            load_word(padded, first) != date_start
                            or load_word(padded, first + 2) != date_end
                        ):
                            is_usual, date = _date(padded, first)
                            date_start = load_word(padded, first) if is_usual else Word(0)
                            date_end = load_word(padded, first + 2)
                        time = _time_of_day(padded, first + 10)
                        is_usual = is_usual and time >= 0
                        microseconds[rows] = date + time
                elif role == _EVENT_TYPE:
                    kind = _type_of_event(padded, first, last)
                    is_usual = kind >= 0
                    event_types[rows] = kind
                elif role == _PRODUCT_ID:
                    products[rows] = _integer(padded, first, last)
                    is_usual = products[rows] >= 0
                elif role == _CATEGORY_ID:
                    categories[rows] = _integer(padded, first, last)
                    is_usual = first == last or categories[rows] >= 0
                elif role == _CATEGORY_CODE or role == _BRAND:
                    code: Integer = 0
                    if first < last:
                        code, used = _code_of_text(
                            padded, first, last, table, slots, known, text_count, texts, used
                        )
                        if code == text_count:
                            text_count += 1
                            if 2 * text_count == slots:
                                slots *= 2
                                _make_room(table, slots, known, text_count)
                    if role == _BRAND:
                        brands[rows] = code
                    else:
                        category_codes[rows] = code
                elif role == _PRICE:
                    units = _price(padded, first, last)
                    is_usual = units >= 0
                    prices[rows, 0], prices[rows, 1] = Word(units), Word(0)
                elif role == _USER_ID:
                    users[rows] = _integer(padded, first, last)
                    is_usual = users[rows] >= 0
                elif role == _USER_SESSION:
                    session_kinds[rows] = _MISSING
                    if first < last:
                        is_uuid: Flag = False
                        if last - first == UUID_LENGTH:
                            is_uuid, session_high[rows], session_low[rows] = uuid_key(padded, first)
                        session_kinds[rows] = _UUID
                        if not is_uuid:
                            is_usual = not _is_reserved(padded, first, last)
                            session_kinds[rows] = _NAMED
                            session_high[rows], session_low[rows] = Word(first), Word(last - first)
            if is_usual:
                rows += 1
            else:
                odd_lines[odds, 0], odd_lines[odds, 1] = start, end
                odds += 1
        is_suspect = is_suspect or suspects != 0
    return rows, odds, used
