"""Random input for hypothesis, full of trouble: few distinct values, so that collisions are common.

``clickstream_rows`` invents rows, ``csv_bytes`` and ``input_files`` write them to files in
different ways, ``run_options`` draws options for a run. ``runs`` draws rows and options together,
in any age. ``damaged_csv_bytes`` invents files for the grammar of the input, with lines that are
damaged in every way; ``arbitrary_csv_bytes`` are files of any bytes.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import zipfile
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple

import zstandard
from hypothesis import strategies as st

from .grammar import BYTE_ORDER_MARK, COLUMNS

Row = dict[str, str]
"""The text of every column of one CSV row."""


# Values. A sort as text and a sort as number differ: 9 and 10, 99 and 100.

USER_IDS = ("9", "10", "100", "99", "2", "11", "0", "512", "513", "9223372036854775807")
PRODUCT_IDS = ("9", "10", "100", "101", "102", "9223372036854775807")
USER_SESSIONS = (
    "26dd6e6e-4dac-4778-8d2c-92e149dab885",
    "26dd6e6e-4dac-4778-8d2c-92e149dab886",
    "s",
    "S",
    "s_timeout_",
    "s_timeout_1x",
    "Séance",
    "a|b",
    ' a, "b" ',
    "",
    "",
)
BRANDS_OF_A_PRODUCT = (
    ("acme",),
    ("acme", ""),
    ("",),
    ("Acme", "acme", "ACME"),
    ("acme", "zeta"),
    ("acme", " acme"),
    ("NULL", ""),
    ("nan", ""),
    ("İstanbul", "i̇stanbul"),
    ("ΟΔΟΣ", "οδος"),
    ("日本", "日本"),
    ("é", "é"),
    ("a,b", 'a"b'),
    ("\U0001f600", "\uffee"),
)
CATEGORIES = (
    ("9", "electronics.audio.headphone.wired.cheap"),
    ("9", "Electronics.Audio"),
    ("10", "electronics"),
    ("10", ""),
    ("10", "appliances.kitchen"),
    ("2053013555631882655", "electronics.audio"),
    ("1487580005134238553", ""),
    ("11", "unknown"),
    ("11", "unknown.Éclairage"),
    ("", "electronics.clocks"),
    ("", ""),
)
PRICES = (
    "1.00",
    "2.62",
    "0",
    "0.005",
    "10.005",
    "0.01",
    "33.335",
    "1.123456789",
    "0.000000001",
    "5e-9",
    "1e2",
    "3.1000000000000",
    "99999999999999999999.999999999",
)
EVENT_TYPES = ("view", "view", "cart", "remove_from_cart", "purchase", "purchase")
FIRST_TIME = datetime(2019, 10, 1, tzinfo=UTC)
# Tables have a row for every day, so all rows of an input are of one age: that of the shop, or the
# beginning or the end of what a date can say (from its first day, up to its last week).
FAR_FIRST_TIMES = (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 6, 25, tzinfo=UTC))
# Of FIRST_TIME, 89 is a Sunday, after which the ISO year 2020 begins, 92 the New Year, 151 a 29th
# of February.
START_DAYS = (0, 0, 1, 5, 6, 15, 30, 31, 45, 46, 60, 61, 89, 90, 91, 92, 121, 151, 152, 181)
# Years after FIRST_TIME: 3 January 2021, a Sunday of the ISO year 2020, and 31 December 2022.
LATE_DAYS = (460, 461, 1187)
START_SECONDS = (0, 3599, 43_200, 86_399, 86_399)
GAP_SECONDS = (0, 0, 1, 59, 60, 61, 149, 150, 300, 301, 600, 601, 3599, 3600, 3601, 86_400)
CHECKOUT_GAP_SECONDS = (0, 0, 0, 1, 1, 2, 3)
RESERVED_SESSIONS = ("s_timeout_3", "_timeout_0", "26dd6e6e_timeout_12")

# Spellings. The first of each is the plain one; all of them mean the same value.

TIME_SPELLINGS: tuple[Callable[[datetime], str], ...] = (
    lambda time: f"{naive(time, ' ')} UTC",
    lambda time: f"{naive(time, 'T')}Z",
    lambda time: naive(time, " "),
    lambda time: f"{naive(time, ' ')}.999999999 UTC",
    lambda time: f"{naive(time, 'T')}.5",
    lambda time: with_offset(time, timedelta(hours=3), "+03:00"),
    lambda time: with_offset(time, timedelta(hours=-5, minutes=-30), "-0530"),
    lambda time: with_offset(time, timedelta(hours=3), "+03"),
    lambda time: with_offset(time, timedelta(), " +0000"),
    lambda time: f"{naive(time, ' ')} GMT",
    lambda time: f"{naive(time, ' ')} Z",
)
INTEGER_SPELLINGS: tuple[Callable[[str], str], ...] = (
    lambda digits: digits,
    lambda digits: f"+{digits}",
    lambda digits: f" {digits}",
    lambda digits: f"00{digits}",
    lambda digits: f"  +0{digits} ",
)
PRICE_SPELLINGS: tuple[Callable[[str], str], ...] = (
    lambda price: price,
    lambda price: f" +0{price} ",
    lambda price: price if "e" in price else f"{price}E0",
    lambda price: price if "e" in price else f"{price}e-00",
    lambda price: price if "." not in price or "e" in price else f"{price}00000000000",
)


def naive(time: datetime, separator: str) -> str:
    """The time without a zone."""
    return time.replace(tzinfo=None).isoformat(separator)


def with_offset(time: datetime, offset: timedelta, text: str) -> str:
    """The time as a clock in another zone shows it, or in UTC where that clock has no such year."""
    try:
        return naive(time.astimezone(timezone(offset)), "T") + text
    except OverflowError:
        return naive(time, "T")


@st.composite
def clickstream_rows(
    draw: st.DrawFn, max_visits: int = 12, first_time: datetime = FIRST_TIME
) -> list[Row]:
    """Rows of valid form: visits to a shop, told twice or more, and a few reserved session names.

    A visit is a user's walk through a session; sessions and users are so few that sessions are
    shared by users and reused weeks later. Some visits end in a checkout, of purchases seconds
    apart. Any row may come again, with another brand, category or price.
    """
    catalogue = {
        product_id: draw(
            st.tuples(
                st.sampled_from(BRANDS_OF_A_PRODUCT),
                st.lists(st.sampled_from(CATEGORIES), min_size=1, max_size=2),
            )
        )
        for product_id in PRODUCT_IDS
    }
    rows: list[Row] = []
    for _ in range(draw(st.integers(0, max_visits))):
        rows += draw(visits(catalogue, first_time))
    if rows:
        copies = st.lists(st.tuples(st.sampled_from(rows), changes()), max_size=len(rows))
        rows += [{**row, **change} for row, change in draw(copies)]
    return rows


@st.composite
def visits(
    draw: st.DrawFn, catalogue: dict[str, tuple[Any, Any]], first_time: datetime
) -> list[Row]:
    """The rows of one walk through a session."""
    user_id = draw(st.sampled_from(USER_IDS))
    user_session = draw(st.sampled_from(USER_SESSIONS))
    rarity = draw(st.integers(0, 59))
    is_late = rarity == 1 and first_time == FIRST_TIME
    time = first_time + timedelta(
        days=draw(st.sampled_from(LATE_DAYS if is_late else START_DAYS)),
        seconds=draw(st.sampled_from(START_SECONDS)),
    )
    if rarity == 2:
        user_session = draw(st.sampled_from(RESERVED_SESSIONS))
    steps = draw(
        st.lists(
            st.tuples(st.sampled_from(EVENT_TYPES), st.sampled_from(GAP_SECONDS)),
            min_size=1,
            max_size=6,
        )
    )
    if draw(st.integers(0, 3)) == 1:
        purchases = st.tuples(st.just("purchase"), st.sampled_from(CHECKOUT_GAP_SECONDS))
        steps += draw(st.lists(purchases, min_size=2, max_size=4))
    if rarity in {3, 4, 5}:  # an order over midnight, which chance alone hardly ever makes
        time = time.replace(hour=23, minute=59, second=59)
        steps = [("purchase", 1), ("purchase", 0)]
    rows = []
    for event_type, gap_seconds in steps:
        product_id = draw(st.sampled_from(PRODUCT_IDS))
        brands, categories = catalogue[product_id]
        category_id, category_code = draw(st.sampled_from(categories))
        row = {
            "event_time": draw(st.sampled_from(TIME_SPELLINGS))(time),
            "event_type": event_type,
            "product_id": spelled(draw, product_id),
            "category_id": spelled(draw, category_id) if category_id else "",
            "category_code": category_code,
            "brand": draw(st.sampled_from(brands)),
            "price": draw(prices()),
            "user_id": spelled(draw, user_id),
            "user_session": user_session,
        }
        rows.append(row)
        time += timedelta(seconds=gap_seconds)
        if draw(st.integers(0, 9)) == 1:
            user_id = draw(st.sampled_from(USER_IDS))
    return rows


def spelled(draw: st.DrawFn, digits: str) -> str:
    """An integer, in one of its spellings."""
    return draw(st.sampled_from(INTEGER_SPELLINGS))(digits)


def prices() -> st.SearchStrategy[str]:
    """A price, in one of its spellings."""
    return st.builds(
        lambda price, spelling: spelling(price),
        st.sampled_from(PRICES),
        st.sampled_from(PRICE_SPELLINGS),
    )


def changes() -> st.SearchStrategy[Row]:
    """What sets a copy of a row apart: nothing, a column beside the key, or the session gone."""
    brands = [brand for brands in BRANDS_OF_A_PRODUCT for brand in brands]
    return st.one_of(
        st.just({}),
        st.just({}),
        st.builds(lambda brand: {"brand": brand}, st.sampled_from(brands)),
        st.builds(lambda price: {"price": price}, prices()),
        st.builds(
            lambda category: {"category_id": category[0], "category_code": category[1]},
            st.sampled_from(CATEGORIES),
        ),
        st.just({"brand": ""}),
        st.just({"category_id": ""}),
        st.just({"user_session": ""}),
    )


@st.composite
def run_options(draw: st.DrawFn, first_time: datetime = FIRST_TIME) -> dict[str, Any]:
    """Options of a run, as arguments of ``oracle_tables``: the defaults, or small values.

    Args:
        first_time: That of the rows, near which ``as_of`` is: before them all, on the first day,
            between them, on the last day of a month, or long after them.
    """
    if draw(st.booleans()):
        return {}
    options = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "churn_threshold_days": st.sampled_from([0, 15, 60, 90]),
                "at_risk_threshold_days": st.sampled_from([0, 30, 45]),
                "declining_threshold_days": st.sampled_from([0, 5, 30]),
                "session_outlier_ratio": st.sampled_from([1, 2, 3]),
                "session_timeout_seconds": st.sampled_from([1, 60, 300, 3599, 86_400]),
                "cohort_observation_window_days": st.sampled_from([1, 30, 90]),
                "order_gap_seconds": st.sampled_from([0, 1, 2, 60]),
                "min_pair_baskets": st.sampled_from([1, 2, 3]),
                "frequency_unit": st.sampled_from(["items", "orders"]),
                "history": st.sampled_from(["none", "day", "week", "month"]),
                "clv_holdout_days": st.sampled_from([1, 28, 60, 36_500]),
            },
        )
    )
    # A snapshot a day of all users: not of years.
    is_daily = options.get("history") == "day"
    days = draw(st.sampled_from([0, 1, 5, 31, 61] if is_daily else [-1, 0, 31, 91, 122, 460, 1600]))
    if is_daily or draw(st.booleans()):
        room = date.max - first_time.date()
        options["as_of"] = first_time.date() + min(timedelta(days=days), room)
    return options


@st.composite
def runs(draw: st.DrawFn) -> tuple[list[Row], dict[str, Any]]:
    """Rows and options of a run; of one in six, at the beginning or the end of all dates."""
    is_far = draw(st.integers(0, 5)) == 1
    first_time = draw(st.sampled_from(FAR_FIRST_TIMES)) if is_far else FIRST_TIME
    rows = draw(clickstream_rows(first_time=first_time))
    return rows, draw(run_options(first_time=first_time))


# Files.


class InputFile(NamedTuple):
    """A file to be: its name, whose end says how it is compressed, and its content before that."""

    name: str
    content: bytes


def write_files(folder: Path, files: Sequence[InputFile]) -> list[Path]:
    """Write the files, compressed as their names say; the paths in the same order."""
    paths = []
    for name, content in files:
        path = folder / name
        path.write_bytes(compressed(content, path.suffix))
        paths.append(path)
    return paths


def compressed(content: bytes, suffix: str) -> bytes:
    """The content as a file with this suffix holds it, in two members or frames where it can."""
    middle = len(content) // 2
    halves = (content[:middle], content[middle:])
    if suffix == ".gz":
        return b"".join(gzip.compress(half, mtime=0) for half in halves)
    if suffix == ".bz2":
        return b"".join(bz2.compress(half) for half in halves)
    if suffix == ".zip":
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("folder/events.csv", content)
        return buffer.getvalue()
    if suffix == ".zst":
        return b"".join(zstandard.ZstdCompressor().compress(half) for half in halves)
    return content


@st.composite
def input_files(draw: st.DrawFn, rows: Sequence[Row], max_files: int = 3) -> list[InputFile]:
    """The rows shuffled and spread over files, each written in its own way."""
    shuffled = draw(st.permutations(rows))
    number = draw(st.integers(1, max_files))
    cuts = sorted(draw(st.integers(0, len(rows))) for _ in range(number - 1))
    bounds = [0, *cuts, len(rows)]
    files = []
    for index in range(number):
        suffix = draw(st.sampled_from(["", "", "", ".gz", ".zst", ".bz2", ".zip"]))
        content = draw(csv_bytes(shuffled[bounds[index] : bounds[index + 1]]))
        files.append(InputFile(f"events_{index}.csv{suffix}", content))
    return files


@st.composite
def csv_bytes(draw: st.DrawFn, rows: Sequence[Row]) -> bytes:
    """A CSV with these rows in this order; columns, quoting, line ends and blank lines vary."""
    columns = list(draw(st.permutations(COLUMNS)))
    for extra in draw(st.lists(st.sampled_from(["extra", "Brand", " price", ""]), max_size=2)):
        columns.insert(draw(st.integers(0, len(columns))), extra)
    filler = draw(st.sampled_from(["", "x", 'a, "b"', "é"]))
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]))
    line_ends = draw(st.sampled_from([("\n",), ("\r\n",), ("\n", "\r\n"), ("\n\n", "\r\n\n\r\n")]))
    texts = [csv_line(columns, quoting)]
    texts += [csv_line([row.get(name, filler) for name in columns], quoting) for row in rows]
    for _ in range(draw(st.integers(0, 2))):  # as in files put one behind the other
        texts.insert(draw(st.integers(1, len(texts))), csv_line(columns, quoting))
    body = "".join(text + line_ends[index % len(line_ends)] for index, text in enumerate(texts))
    if draw(st.booleans()):
        body = draw(st.sampled_from(["\n", "\r\n"])) + body
    if draw(st.booleans()):
        body = body.rstrip("\r\n")
    mark = BYTE_ORDER_MARK if draw(st.booleans()) else b""
    return mark + body.encode("utf-8")


def csv_line(fields: Sequence[str], quoting: Any) -> str:
    """The fields as one line, without its end."""
    buffer = io.StringIO()
    csv.writer(buffer, quoting=quoting, lineterminator="").writerow(fields)
    return buffer.getvalue()


# Damage. Among these texts are good ones that look bad and bad ones that look good.

GOOD_ROW = (
    "2019-10-01 00:00:00 UTC",
    "view",
    "1004856",
    "2053013555631882655",
    "electronics.smartphone",
    "samsung",
    "130.76",
    "541312140",
    "72d76fde-8bb3-4e00-8c23-a032dfed738c",
)
TIMES_TO_TRY = (
    "",
    " 2019-10-01 00:00:00 UTC",
    "2019-10-01 00:00:00 UTC ",
    "2019-10-01 00:00:00  UTC",
    "2019-10-01 00:00:00 utc",
    "2019-10-01 00:00:00 Z",
    "2019-10-01 00:00:00Z",
    "2019-10-01T00:00:00",
    "2019-10-01T00:00:00z",
    "2019-10-01t00:00:00",
    "2019-10-01T00:00:00 UTC",
    "2019-10-01 00:00:00UTC",
    "2019-10-01 00:00:00.",
    "2019-10-01 00:00:00.1234567890123 UTC",
    "2019-10-01 00:00:00.9+03:00",
    "2019-10-01 00:00:00+0300",
    "2019-10-01 00:00:00 +03:00",
    "2019-10-01 00:00:00+03",
    "2019-10-01 00:00:00+00",
    "2019-10-01 00:00:00 +0000",
    "2019-10-01 00:00:00  +0000",
    "2019-10-01 00:00:00+3",
    "2019-10-01 00:00:00+03:",
    "2019-10-01 00:00:00+030",
    "2019-10-01 00:00:00-24",
    "2019-10-01 00:00:00 GMT",
    "2019-10-01 00:00:00GMT",
    "2019-10-01 00:00:00 gmt",
    "2019-10-01 00:00:00 GMT+03",
    "2019-10-01 00:00:00-23:59",
    "2019-10-01 00:00:00+24:00",
    "2019-10-01 00:00:00+03:60",
    "2019-10-01 00:00",
    "2019-10-01",
    "2019-10-1 00:00:00",
    "2019-02-29 00:00:00",
    "2020-02-29 00:00:00",
    "1900-02-29 00:00:00",
    "2019-13-01 00:00:00",
    "2019-00-01 00:00:00",
    "2019-10-00 00:00:00",
    "2019-10-01 24:00:00",
    "2019-10-01 23:60:00",
    "2019-06-30 23:59:60",
    "0000-12-31 23:00:00-03:00",
    "0001-01-01 00:00:00",
    "0001-01-01 00:00:00+00:01",
    "9999-12-31 23:59:59.999",
    "9999-12-31 23:59:59-00:01",
    "+2019-10-01 00:00:00",
    "12019-10-01 00:00:00",
    "2019/10/01 00:00:00",
    "20191001T000000Z",
    "1569888000",
    "\uff12\uff10\uff11\uff19-10-01 00:00:00",
)
INTEGERS_TO_TRY = (
    "",
    "0",
    "+0",
    "-0",
    "-1",
    " ",
    "+",
    "++1",
    "+ 1",
    " +1 ",
    "\t1",
    "1\r",
    "1\u00a0",
    "007",
    "9223372036854775807",
    "9223372036854775808",
    "00009223372036854775807",
    "99999999999999999999999999999999999999999",
    "1.0",
    "1e3",
    "0x10",
    "1_000",
    "1,000",
    "1 000",
    "NULL",
    "nan",
    "\u0663",
    "\uff11",
    "²",
)
PRICES_TO_TRY = (
    *INTEGERS_TO_TRY,
    "5.",
    ".5",
    "1.5",
    " +1.5e0 ",
    "1.5 e0",
    "1e+2",
    "1e 2",
    "1e",
    "1e--2",
    "-1.50",
    "-0.00",
    "1E-9",
    "1E-10",
    "10E-10",
    "0.1234567891",
    "0.1234567890",
    "1.00000000000000000000",
    "99999999999999999999.999999999",
    "99999999999999999999.9999999990",
    "99999999999999999999.9999999999",
    "100000000000000000000",
    "1e20",
    "0.001e22",
    "0.0001e24",
    "1e19",
    "1e999999999999999999999999",
    "0e999999999999999999999999",
    "1e-999999999999999999999999",
    "0.0e-999999999999999999999999",
    "inf",
    "Infinity",
    "NaN",
    "1f",
    "1d",
    "$1",
    "1.2.3",
    "1,5",
    "\u0661.\u0665",
)
TEXTS_TO_TRY = (
    "",
    " ",
    "NULL",
    "nan",
    'in"side',
    '"',
    '""',
    "a,b",
    "a\rb",
    "\r",
    "\ufeff",
    "\u2028",
    "\u0085",
    "\x0b",
    "\x1a",
    "İ",
    "ΑΣ",
    "ẞ",
    "日本",
    "\U0001f600",
)
FIELDS_TO_TRY = {
    "event_time": TIMES_TO_TRY,
    "event_type": (
        *("", "View", "view ", " view", "cart", "remove_from_cart", "purchase", "purchases", "buy"),
        "event_type",
    ),
    "product_id": INTEGERS_TO_TRY,
    "category_id": INTEGERS_TO_TRY,
    "category_code": (*TEXTS_TO_TRY, "a..b", ".", "A.B.C.D.E"),
    "brand": TEXTS_TO_TRY,
    "price": PRICES_TO_TRY,
    "user_id": INTEGERS_TO_TRY,
    "user_session": (
        *TEXTS_TO_TRY,
        "s_timeout_1",
        "s_timeout_01",
        "_timeout_1",
        "timeout_1",
        "s_timeout_",
        "s_timeout_1 ",
        "s_timeout_1a",
        "s_Timeout_1",
        "s_timeout_\u0663",
        "s_timeout_-1",
        "a_timeout_1_timeout_2",
        "s_timeout_1\r",
    ),
}
BAD_BYTES = (
    b"\0",
    b"\xff",
    b"\xc3",
    b"\xc0\xaf",
    b"\xed\xa0\x80",
    b"\xe2\x82",
    b"\xf0\x9f\x98",
    b"\xf4\x90\x80\x80",
    b"\xef\xbb\xbf",
    b'"',
    b'""',
    b'",',
    b',"',
    b",",
    b"\n",
    b"\r",
    b"\r\n",
    b" ",
)


@st.composite
def tried_fields(draw: st.DrawFn) -> list[str]:
    """The fields of a good row, one to three of them replaced by texts worth trying."""
    fields = list(GOOD_ROW)
    for position in draw(st.lists(st.integers(0, len(fields) - 1), max_size=3)):
        fields[position] = draw(st.sampled_from(FIELDS_TO_TRY[COLUMNS[position]]))
    return fields


@st.composite
def tried_lines(draw: st.DrawFn) -> bytes:
    """A line that is well-formed CSV, with fields worth trying."""
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    return csv_line(draw(tried_fields()), quoting).encode("utf-8")


@st.composite
def damaged_lines(draw: st.DrawFn) -> bytes:
    """What once was one line: fields too many or too few, broken quotes, bad bytes inside."""
    fields = draw(tried_fields())
    for _ in range(draw(st.integers(0, 2))):
        position = draw(st.integers(0, len(fields)))
        if draw(st.booleans()):
            fields.insert(position, draw(st.sampled_from(TEXTS_TO_TRY)))
        else:
            fields = fields[:position] + fields[position + 1 :]
    line = ",".join(fields).encode("utf-8")
    for bad in draw(st.lists(st.sampled_from(BAD_BYTES), max_size=3)):
        position = draw(st.integers(0, len(line)))
        line = line[:position] + bad + line[position:]
    return line


@st.composite
def damaged_csv_bytes(draw: st.DrawFn, max_lines: int = 12) -> bytes:
    """A file with a good header, good lines and lines that are damaged in every way."""
    good = csv_line(GOOD_ROW, csv.QUOTE_MINIMAL).encode("utf-8")
    header = ",".join(COLUMNS).encode("ascii")
    headers = [header, header + b",", header.upper(), csv_line(COLUMNS, csv.QUOTE_ALL).encode()]
    any_line = st.one_of(
        st.just(good),
        tried_lines(),
        damaged_lines(),
        st.sampled_from(headers),
        st.just(b""),
        st.binary(max_size=20),
    )
    lines = [header, *draw(st.lists(any_line, max_size=max_lines))]
    mark = BYTE_ORDER_MARK if draw(st.booleans()) else b""
    line_ends = [draw(st.sampled_from([b"\n", b"\r\n"])) for _ in lines]
    if draw(st.booleans()):
        line_ends[-1] = b""
    return mark + b"".join(b"".join(pair) for pair in zip(lines, line_ends, strict=True))


def arbitrary_csv_bytes() -> st.SearchStrategy[bytes]:
    """Any bytes at all; sometimes with a header in front."""
    pieces = st.sampled_from([*BAD_BYTES, b"1", b"view", ",".join(GOOD_ROW).encode("ascii")])
    soup = st.one_of(st.binary(max_size=200), st.lists(pieces, max_size=40).map(b"".join))
    header = ",".join(COLUMNS).encode("ascii") + b"\n"
    return st.builds(
        lambda head, body: head + body,
        st.sampled_from(
            [b"", BYTE_ORDER_MARK, header, BYTE_ORDER_MARK + header, b"\n\r\n" + header]
        ),
        soup,
    )


# Funnels.

PROPERTY_VALUES = {
    "product_id": [9, "10", "9223372036854775807"],
    "brand": ["acme", "zeta", "Acme"],
    "category_id": ["9", 10],
    "category_lvl_1": ["electronics", "appliances"],
    "category_lvl_2": ["audio", "kitchen"],
}
HELD = ("product_id", "brand", "category_id", "category_lvl_1", "category_lvl_2")
BROKEN_DOWN_BY = (
    "product_id",
    "brand",
    "category_lvl_1",
    "category_lvl_4",
    "day",
    "week",
    "month",
    "session_quality_tier",
    "session_length_bucket",
    "rfm_segment",
    "activity_status",
    "customer_lifecycle_stage",
    "order_lifecycle_stage",
)


@st.composite
def configurations(draw: st.DrawFn) -> str:
    """The text of a configuration of one funnel or two."""
    lines: list[str] = []
    for number in range(draw(st.integers(1, 2))):
        order = draw(st.sampled_from(["ordered", "ordered", "strict", "unordered"]))
        lines += ["[[funnel]]", f'name = "f{number}"', f'order = "{order}"']
        lines.append(f'scope = "{draw(st.sampled_from(["session", "user"]))}"')
        for key, known in (("hold", HELD), ("breakdown", BROKEN_DOWN_BY)):
            chosen = draw(st.lists(st.sampled_from(known), max_size=2, unique=True))
            lines.append(f"{key} = {chosen!r}")
        if draw(st.booleans()):
            lines.append(f'window = "{draw(st.sampled_from(["1s", "2m", "1h", "1d", "40d"]))}"')
        steps = draw(st.integers(1, 4))
        has_exclusion = order != "unordered" and steps > 1 and draw(st.booleans())
        for step in range(1, steps + 1):
            lines += ["[[funnel.step]]", f'name = "step {step}"', *draw(conditions())]
            if has_exclusion or draw(st.integers(0, 3)) == 1:
                # What is excluded takes no step: such events are of prices of their own.
                lines.append(draw(st.sampled_from(["price_min = 33.34", "price_max = 32.99"])))
        if has_exclusion:
            after = draw(st.integers(1, steps - 1))
            before = draw(st.integers(after + 1, steps))
            lines += ["[[funnel.exclude]]", f"after = {after}", f"before = {before}"]
            lines += ["price_min = 33", "price_max = 33.339", *draw(kinds())]
    return "\n".join(lines) + "\n"


@st.composite
def conditions(draw: st.DrawFn) -> list[str]:
    """What a step asks for beside the price, a line each."""
    lines = draw(kinds())
    if draw(st.integers(0, 3)) == 1:
        name = draw(st.sampled_from(list(PROPERTY_VALUES)))
        values = draw(
            st.lists(st.sampled_from(PROPERTY_VALUES[name]), min_size=1, max_size=2, unique=True)
        )
        lines.append(f"{name} = {values!r}")
    return lines


@st.composite
def kinds(draw: st.DrawFn) -> list[str]:
    """A condition on the event type, or none."""
    known = ["view", "cart", "remove_from_cart", "purchase"]
    chosen = draw(st.lists(st.sampled_from(known), max_size=2, unique=True))
    return [f"event = {chosen!r}"] if chosen else []
