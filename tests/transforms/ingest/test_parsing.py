"""Blocks of CSV to event batches, against the grammar spelled out line by line."""

from decimal import Decimal

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.oracle import grammar
from tests.oracle.strategies import (
    FIELDS_TO_TRY,
    GOOD_ROW,
    arbitrary_csv_bytes,
    csv_line,
    damaged_csv_bytes,
)
from transforms.columnar.product_codes import with_products
from transforms.errors import InputError
from transforms.ingest import parsing
from transforms.ingest.batch import EVENT_BATCH
from transforms.ingest.blocks import Block
from transforms.ingest.grammar import (
    COLUMNS,
    Header,
    parse_event_time,
    parse_header,
    parse_integer,
    parse_price,
)
from transforms.ingest.parsing import REJECTED_BATCH, parse_block
from transforms.ingest.session_keys import SESSION_KEY, session_texts

HEADER = Header(COLUMNS)
GOOD_LINE = ",".join(GOOD_ROW)
SESSION = GOOD_ROW[-1]


def line(**fields: str) -> str:
    """A good row with some fields of its own, written as they stand."""
    return ",".join({**dict(zip(COLUMNS, GOOD_ROW, strict=True)), **fields}.values())


def parsed(data: bytes, header: Header = HEADER, offset: int = 0):
    """The rows of a block: event tuples and (byte_offset, reason, raw), each in any order."""
    block = parse_block(Block.of("a.csv", offset, data), header)
    assert block.events.schema == EVENT_BATCH
    assert block.rejected.schema == REJECTED_BATCH
    assert block.rows_read == block.events.height + block.rejected.height
    assert set(block.rejected["source_file"]) <= {"a.csv"}
    assert block.events.schema == EVENT_BATCH
    events = with_products(block.events).with_columns(
        pl.col("event_time").dt.replace_time_zone(None),
        pl.col("event_type", "category_code", "brand").cast(pl.String),
    )
    keys = events.select(SESSION_KEY).drop_nulls().unique()
    names = keys.with_columns(session_texts(keys, block.session_names))
    events = events.join(names, on=SESSION_KEY, how="left").select(COLUMNS)
    return events.rows(), block.rejected.drop("source_file").rows()


def expected(data: bytes):
    """The same by the grammar, for a block with the header in front."""
    head = ",".join(COLUMNS).encode() + b"\n"
    events, rejected = grammar.read_csv(head + data)
    return (
        [tuple(event) for event in events],
        [(offset - len(head), reason, raw) for offset, reason, raw in rejected],
    )


def in_any_order(rows):
    return [sorted(part, key=repr) for part in rows]


def assert_as_grammar(data: bytes) -> None:
    assert in_any_order(parsed(data)) == in_any_order(expected(data))


def calls_of_parse_row(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The lines that reach the slow path, as they come."""
    lines = []
    parse_row = parsing.parse_row

    def counted(line: bytes, header: Header) -> object:
        lines.append(line)
        return parse_row(line, header)

    monkeypatch.setattr(parsing, "parse_row", counted)
    return lines


# The grammar --------------------------------------------------------------------------------------


@settings(max_examples=400)
@given(damaged_csv_bytes())
@example(",".join(COLUMNS).encode() + b"\n" + GOOD_LINE.encode() + b"\r")
def test_damaged_rows_are_read_as_the_grammar_says(data):
    data = data.removeprefix(grammar.BYTE_ORDER_MARK)
    assert_as_grammar(data[data.index(b"\n") + 1 :] if b"\n" in data else b"")


@settings(max_examples=300)
@given(st.one_of(arbitrary_csv_bytes(), st.binary(max_size=100)))
def test_any_bytes_are_read_as_the_grammar_says(data):
    assert_as_grammar(data)


@pytest.mark.parametrize("quoted", [False, True], ids=["bare", "quoted"])
@pytest.mark.parametrize(("column", "texts"), FIELDS_TO_TRY.items(), ids=FIELDS_TO_TRY)
def test_every_field_is_read_as_the_grammar_says(column, texts, quoted):
    for text in texts:
        field = '"' + text.replace('"', '""') + '"' if quoted else text
        tried = line(**{column: field})
        # Alone, and with a neighbour that needs no care.
        assert_as_grammar(tried.encode())
        assert_as_grammar(f"{GOOD_LINE}\n{tried}\n{GOOD_LINE}\n".encode())


@given(st.text(st.sampled_from(' +-.eE0123459"\u0663'), max_size=24))
@example("9223372036854775807")
@example("9223372036854775808")
@example("1" + "0" * 5000)
@example("0e" + "9" * 5000)
@example("1e-" + "9" * 5000)
@example("99999999999999999999.999999999")
def test_numbers_are_read_as_the_grammar_says(text):
    assert parse_integer(text) == grammar.parse_integer(text)
    assert parse_price(text) == grammar.parse_price(text)


@given(
    st.builds(
        "{:04}-{:02}-{:02}{}{:02}:{:02}:{:02}{}{}".format,
        st.sampled_from([0, 1, 1900, 2000, 2019, 9999]),
        st.integers(0, 13),
        st.integers(0, 32),
        st.sampled_from([" ", "T", "t", ""]),
        st.integers(0, 24),
        st.integers(0, 60),
        st.integers(0, 60),
        st.sampled_from(["", ".", ".9", ".123456789012"]),
        st.sampled_from(
            [
                *("", " UTC", "UTC", " GMT", "GMT", "Z", " Z", "  Z", "z"),
                *("+03:00", "-0330", "+24:00", "-23:59", "+03:60"),
                *("+00", "-03", " +03", " +0000", " -03:30", "+3", "+24"),
            ]
        ),
    )
)
def test_times_are_read_as_the_grammar_says(text):
    time = parse_event_time(text)
    assert (time and time.replace(tzinfo=None)) == grammar.parse_event_time(text)


def test_the_first_reason_counts():
    fields = {
        "event_time": "never",
        "event_type": "look",
        "product_id": "-1",
        "category_id": "x",
        "price": "-1",
        "user_id": "1.5",
        "user_session": "s_timeout_1",
    }
    reasons = []
    while fields:
        ((_, reason, _),) = parsed(line(**fields).encode())[1]
        reasons.append(reason)
        fields.pop(next(iter(fields)))
    assert reasons == list(grammar.REASONS[1:])
    assert parsed(b"," + line(event_time="never").encode())[1][0][1] == "malformed_row"


def test_a_quoted_newline_makes_both_its_lines_malformed_and_keeps_its_neighbours():
    first, second = line(brand='"b\nc"').split("\n")
    lines = [line(brand="a"), first, second, line(brand="d")]
    data = "\n".join(lines).encode()
    events, rejected = parsed(data)
    assert [event[5] for event in events] == ["a", "d"]
    assert rejected == [
        (data.index(lines[1].encode()), "malformed_row", lines[1]),
        (data.index(lines[2].encode()), "malformed_row", lines[2]),
    ]


def test_the_raw_text_of_a_rejected_row_is_cut_and_its_invalid_bytes_replaced():
    data = b"\xff\xc3\x28" + "é".encode() * 20_000 + b"\n" + GOOD_LINE.encode()
    (event,), ((offset, reason, raw),) = parsed(data, offset=1000)
    assert event[-1] == SESSION
    assert (offset, reason) == (1000, "malformed_row")
    assert raw == "\ufffd\ufffd(" + "é" * 9_997


def test_offsets_count_bytes_of_the_file():
    good = GOOD_LINE.encode()
    data = b"\n\r\n" + good + b"\r\n" + "é,bad\r\n".encode() + b"\n" + good + b"\nworse"
    _, rejected = parsed(data, offset=7)
    assert rejected == [
        (7 + data.index("é".encode()), "malformed_row", "é,bad"),
        (7 + data.index(b"worse"), "malformed_row", "worse"),
    ]


@pytest.mark.parametrize("zone", ["+00", " +0000", " Z", " GMT", "+0000", "-00:00"])
def test_zones_as_other_programs_write_them(zone):
    events, rejected = parsed(line(event_time=f"2019-10-01 00:00:00{zone}").encode())
    assert (events, rejected) == parsed(GOOD_LINE.encode())


def test_headers_inside_a_file_are_no_rows():
    names = ["extra", *COLUMNS, 'a, "b"']
    header = parse_header(csv_line(names, 0).encode(), "a.csv")
    row = f"x,{GOOD_LINE},y"
    others = [",".join(names[1:]), csv_line(names, 0).upper(), csv_line(["", *names[1:]], 0)]
    lines = [row, csv_line(names, 0), row, csv_line(names, 1) + "\r", *others]
    events, rejected = parsed("\n".join([*lines, row]).encode(), header)
    assert len(events) == 3
    assert [raw for _, _, raw in rejected] == others


@pytest.mark.parametrize("data", [b"", b"\n", b"\n\r\n\n", b"\r\n"])
def test_blank_lines_are_no_rows(data):
    assert parsed(data) == ([], [])


def test_a_row_of_50_megabytes_is_text_like_any_other():
    brand = "x" * (50 << 20)
    data = "\n".join([line(brand="a"), line(brand=brand), line(user_id=brand)]).encode()
    block = parse_block(Block.of("a.csv", 0, data), HEADER)
    assert with_products(block.events)["brand"].cast(pl.String).to_list() == ["a", brand]
    assert block.rejected["reason"].to_list() == ["bad_user_id"]
    assert block.rejected["raw"].to_list() == [line(user_id=brand)[:10_000]]


def test_any_number_of_texts_is_told_apart():
    brands = [f"{'brand ' * (number % 4)}{number}" for number in range(3000)]
    data = "\n".join(line(brand=brand, category_code=f"c{brand}") for brand in brands * 2).encode()
    block = parse_block(Block.of("a.csv", 0, data), HEADER)
    events = with_products(block.events)
    assert events["brand"].cast(pl.String).to_list() == brands * 2
    assert events["category_code"].cast(pl.String).to_list() == [f"c{b}" for b in brands] * 2


def test_text_is_lower_cased_as_python_does():
    texts = ["İSTANBUL", "ΟΔΟΣ", "ẞ", "ǅ", "Éa", "日本", "K"]  # the last is the Kelvin sign
    data = "\n".join(line(brand=text, category_code=text) for text in texts).encode()
    events, _ = parsed(data)
    assert [event[4:6] for event in events] == [(text.lower(), text.lower()) for text in texts]


# The fast path ------------------------------------------------------------------------------------


def test_rows_as_REES46_writes_them_take_the_fast_path(monkeypatch):  # noqa: N802 - a name
    slow = calls_of_parse_row(monkeypatch)
    rows = [
        line(),
        line(brand="", category_code="", category_id=""),
        line(price="0", user_session=""),
        line(price="2574.07", event_type="remove_from_cart", brand="Émile"),
    ]
    events, rejected = parsed("\n".join(rows * 100).encode())
    assert (len(events), rejected, slow) == (400, [], [])


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize(
    "damaged",
    [
        *(line(**{column: "?,"}) for column in COLUMNS),
        *(line(**{column: "-7"}) for column in COLUMNS),
        line(event_time="2019-10-01T00:00:00Z"),
        line(event_type="view "),
        line(product_id="+7"),
        line(category_id="9223372036854775808"),
        line(price="1e2"),
        line(user_id="007"),
        line(user_session="s_timeout_1"),
        line(brand='"a,b"'),
        line(brand='"a""b"'),
        line(brand='"a'),
        line(brand='a"b'),
        line(brand="a\0b"),
        line(brand="a\tb"),
        line(brand="a\rb"),
        line(user_session="s\r"),
        "\ufeff" + GOOD_LINE,
        GOOD_LINE[:-40],
        GOOD_LINE + ",",
        "",
        "?",
    ],
)
def test_one_odd_row_does_not_slow_its_neighbours(monkeypatch, damaged, end):
    slow = calls_of_parse_row(monkeypatch)
    data = end.join([GOOD_LINE] * 500 + [damaged] + [GOOD_LINE] * 500).encode()
    assert_as_grammar(data)
    assert len(slow) <= 1
    assert set(slow) <= {damaged.encode()}


@pytest.mark.parametrize("damaged", [b"\xff", b"a\xc3,", b"\xed\xa0\x80"])
def test_one_row_that_is_no_text_does_not_slow_its_neighbours(monkeypatch, damaged):
    slow = calls_of_parse_row(monkeypatch)
    good = GOOD_LINE.encode() + b"\n"
    broken = good.replace(b"samsung", damaged)
    assert_as_grammar(good * 500 + broken + good * 500)
    assert slow == [broken.strip(b"\n")]


def test_a_mark_in_the_middle_of_a_file_is_text():
    assert_as_grammar(f"\ufeff{GOOD_LINE}\n{GOOD_LINE}".encode())
    assert_as_grammar(b"\xef\xbb\xbf")


# The header ---------------------------------------------------------------------------------------


def test_columns_come_in_any_order_and_others_are_ignored():
    names = ["extra", *reversed(COLUMNS), "", "Brand", "extra"]
    header = parse_header((csv_line(names, 0) + "\r\n").encode(), "a.csv")
    assert header.width == len(names)
    fields = dict(zip(COLUMNS, GOOD_ROW, strict=True))
    rows = [csv_line([fields.get(name, 'x"y,') for name in names], quoting) for quoting in (0, 1)]
    events, rejected = parsed("\n".join([*rows, GOOD_LINE]).encode(), header)
    assert events == expected(f"{GOOD_LINE}\n{GOOD_LINE}".encode())[0]
    assert [reason for _, reason, _ in rejected] == ["malformed_row"]


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        (",".join(COLUMNS[1:]), "lacks event_time; found: event_type, "),
        (",".join((*COLUMNS, "price", "brand")), "names brand, price more than once"),
        (",".join((*COLUMNS[2:], "price")), "lacks event_time, event_type and names price more"),
        (GOOD_LINE, "lacks event_time, event_type, product_id"),
        ("Event_time" + ",".join(COLUMNS)[10:], "lacks event_time"),
        ('"event_time', "is not a CSV header (a quoted field is not closed)"),
        ("\udcff", "is not a CSV header"),
        (",".join(COLUMNS) + ",a\0b", "is not a CSV header"),
        ("x" * 10_000, "…"),
    ],
)
def test_a_wrong_header_says_what_is_wrong(header, fault):
    with pytest.raises(InputError) as raised:
        parse_header(header.encode("utf-8", "surrogateescape"), "gs://bucket/a.csv")
    message = str(raised.value)
    assert message.startswith("gs://bucket/a.csv: ")
    assert fault in message
    assert "\n" not in message
    assert len(message) < 600


@settings(max_examples=200)
@given(st.one_of(st.binary(max_size=60), arbitrary_csv_bytes()))
def test_a_header_is_accepted_where_the_grammar_accepts_it(data):
    first = next(iter(data.split(b"\n")))
    try:
        grammar.read_csv(b"\n" + first)  # the newline: here a BOM is text
    except grammar.HeaderError:
        with pytest.raises(InputError):
            parse_header(first, "a.csv")
    else:
        parse_header(first, "a.csv")


def test_money_keeps_every_digit():
    prices = ["99999999999999999999.999999999", "0.000000001", "1e-9", "12345678901234567.89"]
    events, _ = parsed("\n".join(line(price=price) for price in prices).encode())
    assert {event[6] for event in events} == {Decimal(price) for price in prices}
