"""The oracle itself, against cases worked out by hand."""

import bz2
import gzip
import hashlib
import re
from collections import Counter
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import pairwise

import hypothesis
import pyarrow as pa
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from . import grammar
from .compare import assert_tables_equal
from .examples import at, column, csv_text, purchase, row
from .grammar import COLUMNS, HeaderError, parse_event_time, parse_integer, parse_price, read_csv
from .oracle import TABLE_KEYS, oracle_tables
from .strategies import (
    GOOD_ROW,
    arbitrary_csv_bytes,
    clickstream_rows,
    csv_bytes,
    csv_line,
    damaged_csv_bytes,
    input_files,
    runs,
    write_files,
)

HEADER = ",".join(COLUMNS).encode("ascii")
GOOD_LINE = ",".join(GOOD_ROW).encode("ascii")
SMALL = settings(max_examples=20, deadline=None)


def reasons(data):
    """Reasons of the rejected rows of a file that has the usual header."""
    return [rejected.reason for rejected in read_csv(HEADER + b"\n" + data)[1]]


class TestGrammar:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("0", 0),
            ("007", 7),
            (" 7", 7),
            ("+5", 5),
            ("  +05  ", 5),
            ("9223372036854775807", 2**63 - 1),
            ("000009223372036854775807", 2**63 - 1),
            pytest.param("0" * 5000 + "1", 1, id="many zeros"),
        ],
    )
    def test_integers(self, text, value):
        assert parse_integer(text) == value

    @pytest.mark.parametrize(
        "text",
        [
            "",
            " ",
            "+",
            "+ 5",
            "++5",
            "-1",
            "-0",
            "5.0",
            "1e3",
            "0x10",
            "1_0",
            "\t5",
            "5\r",
            "\u0663",
            "\uff11",
            "9223372036854775808",
            pytest.param("9" * 5000, id="many nines"),
        ],
    )
    def test_no_integers(self, text):
        assert parse_integer(text) is None

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("0", "0"),
            ("0e-100", "0"),
            pytest.param("0.0e" + "9" * 5000, "0", id="zero with a huge exponent"),
            ("35.79", "35.79"),
            (" +035.790 ", "35.79"),
            ("1.5e2", "150"),
            ("1.5E+02", "150"),
            ("15e-1", "1.5"),
            ("1e-9", "0.000000001"),
            ("10e-10", "0.000000001"),
            ("1.1234567890000", "1.123456789"),
            ("99999999999999999999.999999999", "99999999999999999999.999999999"),
            ("0.1e20", "10000000000000000000"),
            pytest.param("0." + "0" * 6000 + "1e6001", "1", id="many zeros"),
        ],
    )
    def test_prices(self, text, value):
        assert parse_price(text) == Decimal(value)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            " ",
            "-1",
            "-0",
            ".5",
            "5.",
            "1e",
            "1 e2",
            "+ 1",
            "1,5",
            "nan",
            "inf",
            "0x1",
            "1_0",
            "1e20",
            "100000000000000000000",
            "1e-10",
            "0.1234567891",
            pytest.param("1e" + "9" * 5000, id="huge exponent"),
        ],
    )
    def test_no_prices(self, text):
        assert parse_price(text) is None

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("2019-10-01 00:00:00 UTC", "2019-10-01T00:00:00"),
            ("2019-10-01T00:00:00 UTC", "2019-10-01T00:00:00"),
            ("2019-10-01 00:00:00Z", "2019-10-01T00:00:00"),
            ("2019-10-01T00:00:00", "2019-10-01T00:00:00"),
            ("2019-10-01 00:00:00.999999999 UTC", "2019-10-01T00:00:00"),
            ("2019-10-01 00:00:00.9+03:00", "2019-09-30T21:00:00"),
            ("2019-10-01T00:00:00-0530", "2019-10-01T05:30:00"),
            ("2019-10-01 00:00:00 GMT", "2019-10-01T00:00:00"),
            ("2019-10-01 00:00:00 Z", "2019-10-01T00:00:00"),
            ("2019-10-01 00:00:00 +0000", "2019-10-01T00:00:00"),
            ("2019-10-01 00:00:00+03", "2019-09-30T21:00:00"),
            ("2019-10-01 00:00:00 -03:30", "2019-10-01T03:30:00"),
            ("2020-02-29 23:59:59", "2020-02-29T23:59:59"),
            ("0001-01-01 00:00:00", "0001-01-01T00:00:00"),
            ("9999-12-31 23:59:59", "9999-12-31T23:59:59"),
        ],
    )
    def test_times(self, text, value):
        assert parse_event_time(text) == datetime.fromisoformat(value)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            " 2019-10-01 00:00:00",
            "2019-10-01 00:00:00 ",
            "2019-10-01 00:00:00 utc",
            "2019-10-01 00:00:00UTC",
            "2019-10-01 00:00:00GMT",
            "2019-10-01 00:00:00  Z",
            "2019-10-01 00:00:00+3",
            "2019-10-01 00:00:00+24",
            "2019-10-01 00:00:00+24:00",
            "2019-10-01 00:00:00+03:60",
            "2019-10-01 00:00:00.",
            "2019-10-01t00:00:00",
            "2019-10-01 00:00",
            "2019-02-29 00:00:00",
            "2019-10-01 24:00:00",
            "2016-12-31 23:59:60",
            "0000-06-01 00:00:00",
            "0001-01-01 00:00:00+00:01",
            "9999-12-31 23:59:59-00:01",
            "\uff12\uff10\uff11\uff19-10-01 00:00:00",
        ],
    )
    def test_no_times(self, text):
        assert parse_event_time(text) is None

    @pytest.mark.parametrize(
        ("line", "fields"),
        [
            ("a,b", ["a", "b"]),
            (",", ["", ""]),
            ('"",""', ["", ""]),
            ('"a,b","c""d"', ["a,b", 'c"d']),
            ('a"b,c"', ['a"b', 'c"']),
            (' "a"', [' "a"']),
        ],
    )
    def test_fields(self, line, fields):
        assert grammar.split_fields(line) == fields

    @pytest.mark.parametrize("line", ['"', '"a', '"a"b', '"a" ', 'a,"b', '"""', 'a,"b"c,d'])
    def test_broken_quotes(self, line):
        with pytest.raises(grammar.RowError, match="malformed_row"):
            grammar.split_fields(line)

    def test_columns_may_stand_in_any_order_among_others(self):
        names = ["x", *reversed(COLUMNS), "brand ", "x"]
        values = ["a,b", *reversed(GOOD_ROW), "", '"']
        data = f"{csv_line(names, 0)}\n{csv_line(values, 0)}\n".encode()
        (event,), rejected = read_csv(data)
        assert event == read_csv(HEADER + b"\n" + GOOD_LINE)[0][0]
        assert event.brand == "samsung"
        assert rejected == []

    @pytest.mark.parametrize(
        "header",
        [
            b"",
            b"\n\r\n",
            b"\xef\xbb\xbf",
            HEADER.replace(b"brand,", b""),
            HEADER + b",brand",
            HEADER.replace(b"brand", b"Brand"),
            HEADER.replace(b"brand", b" brand"),
            HEADER.replace(b"brand", b'"brand'),
            HEADER + b",\xff",
            HEADER + b",\0",
        ],
    )
    def test_bad_headers(self, header):
        with pytest.raises(HeaderError):
            read_csv(header + b"\n" + GOOD_LINE if header.strip() else header)

    def test_bom_blank_lines_crlf_and_a_missing_last_end(self):
        data = b"\xef\xbb\xbf\r\n\n" + HEADER + b"\r\n\r\n" + GOOD_LINE + b"\r\n\n\n" + GOOD_LINE
        events, rejected = read_csv(data)
        assert len(events) == 2
        assert events[0] == events[1]
        assert events[0].user_session == GOOD_ROW[-1]
        assert rejected == []

    def test_the_header_may_come_again(self):
        again = HEADER.replace(b"brand", b'"brand"')
        events, rejected = read_csv(b"\n".join([HEADER, GOOD_LINE, again, GOOD_LINE, HEADER]))
        assert (len(events), rejected) == (2, [])
        other = HEADER.replace(b"price,", b"")
        _, ((_, reason, _),) = read_csv(b"\n".join([HEADER, other]))
        assert reason == "malformed_row"

    def test_header_alone(self):
        assert read_csv(HEADER) == ([], [])

    def test_offsets_count_every_byte_of_the_file(self):
        start = b"\xef\xbb\xbf\n" + HEADER + b"\r\n\r\n" + GOOD_LINE + b"\r\n\n"
        _, rejected = read_csv(start + "ä,ö\r\n".encode() + b"x")
        assert rejected == [
            (len(start), "malformed_row", "ä,ö"),
            (len(start) + 7, "malformed_row", "x"),
        ]

    def test_only_crlf_and_lf_end_a_line(self):
        assert reasons(b"\r\r\n") == ["malformed_row"]
        assert reasons(b" \n") == ["malformed_row"]
        event = read_csv(HEADER + b"\n" + GOOD_LINE + b"\r")[0][0]
        assert event.user_session == GOOD_ROW[-1] + "\r"
        line = GOOD_LINE.replace(b"samsung", "a\u2028b\u0085c\rd\x0be".encode())
        assert read_csv(HEADER + b"\n" + line)[0][0].brand == "a\u2028b\u0085c\rd\x0be"

    def test_a_quoted_newline_damages_its_two_lines_only(self):
        broken = GOOD_LINE.replace(b"samsung", b'"sam\nsung"')
        events, rejected = read_csv(b"\n".join([HEADER, GOOD_LINE, broken, GOOD_LINE]))
        assert len(events) == 2
        assert [each.reason for each in rejected] == ["malformed_row", "malformed_row"]
        assert "\n".join(each.raw for each in rejected) == broken.decode()

    @pytest.mark.parametrize("bad", [b"\0", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\xaf"])
    def test_bytes_that_are_no_text(self, bad):
        line = GOOD_LINE.replace(b"samsung", b"sam" + bad + b"sung")
        assert reasons(line) == ["malformed_row"]

    def test_raw_text_is_readable_and_short(self):
        line = b"\xff\xe2\x82," + "é".encode() * 20_000
        (rejected,) = read_csv(HEADER + b"\n" + line)[1]
        assert rejected.raw == "\ufffd\ufffd," + "é" * 9_997

    def test_the_first_reason_counts(self):
        bad = {
            "event_time": ("x", "bad_event_time"),
            "event_type": ("View", "bad_event_type"),
            "product_id": ("x", "bad_product_id"),
            "category_id": ("x", "bad_category_id"),
            "price": ("x", "bad_price"),
            "user_id": ("x", "bad_user_id"),
            "user_session": ("x_timeout_1", "bad_user_session"),
        }
        fields = {name: text for name, (text, _) in bad.items()}
        for name, (_, reason) in bad.items():
            line = csv_line([fields.get(c, "") for c in COLUMNS], 0).encode()
            assert reasons(line) == [reason]
            assert reasons(line + b",") == ["malformed_row"]
            fields[name] = row()[name] or "1"

    def test_four_columns_may_be_empty(self):
        for quoted in ("", '""'):
            for index, name in enumerate(COLUMNS):
                line = ",".join([*GOOD_ROW[:index], quoted, *GOOD_ROW[index + 1 :]]).encode()
                if name in ("category_id", "category_code", "brand", "user_session"):
                    assert getattr(read_csv(HEADER + b"\n" + line)[0][0], name) is None
                else:
                    assert reasons(line) == [f"bad_{name}"]

    @pytest.mark.parametrize(
        ("session", "is_reserved"),
        [
            ("s_timeout_3", True),
            ("_timeout_0", True),
            ("s_timeout_1_timeout_007", True),
            ("s_timeout_", False),
            ("s_timeout_1 ", False),
            ("s_Timeout_1", False),
            ("s_timeout_\u0663", False),
            ("timeout_1", False),
        ],
    )
    def test_reserved_sessions(self, session, is_reserved):
        line = csv_line([*GOOD_ROW[:-1], session], 0).encode()
        assert reasons(line) == (["bad_user_session"] if is_reserved else [])

    def test_text_is_kept_except_for_the_case_of_brand_and_category(self):
        fields = dict(zip(COLUMNS, GOOD_ROW, strict=True))
        fields |= {"brand": " ΑΣ İ", "category_code": "NULL", "user_session": " S,É"}
        data = HEADER + b"\n" + csv_line(list(fields.values()), 0).encode()
        event = read_csv(data)[0][0]
        assert (event.brand, event.category_code, event.user_session) == (
            " ας i\u0307",
            "null",
            " S,É",
        )

    @pytest.mark.parametrize(
        ("name", "compress"),
        [
            ("a.csv", bytes),
            ("a.csv.gz", gzip.compress),
            ("a.csv.bz2", bz2.compress),
            ("a.csv.zst", lambda data: zstandard.ZstdCompressor().compress(data)),
        ],
    )
    def test_compressed_files_of_several_members(self, tmp_path, name, compress):
        path = tmp_path / name
        path.write_bytes(
            compress(HEADER + b"\n" + GOOD_LINE[:9]) + compress(GOOD_LINE[9:] + b"\nx")
        )
        events, rejected = grammar.read_file(path)
        assert [event.user_id for event in events] == [541312140]
        assert [each.byte_offset for each in rejected] == [len(HEADER) + len(GOOD_LINE) + 2]


class TestCleaning:
    @pytest.mark.parametrize(
        ("first", "second"),
        [
            ({"category_id": "9"}, {"category_id": "10"}),
            ({"category_id": "9", "brand": "z"}, {"brand": "a"}),
            ({"category_code": "a", "brand": "z"}, {"category_code": "b", "brand": "a"}),
            ({"category_code": "a"}, {}),
            ({"brand": "z"}, {"brand": "é"}),
            ({"brand": "z", "price": "10"}, {"price": "9"}),
            ({"brand": "\uffee"}, {"brand": "\U0001f600"}),
            ({"brand": "A", "price": "10"}, {"brand": "b", "price": "9"}),
            ({"brand": "a"}, {"brand": "B"}),
            ({"brand": "a", "price": "9"}, {"brand": "A", "price": "10"}),
        ],
    )
    def test_the_first_duplicate_stays(self, run, first, second):
        for rows in ([row(**first), row(**second)], [row(**second), row(**first)]):
            tables = run(rows)
            (event,) = tables["fct_events"]
            fields = row(**first)
            assert event["category_id"] == (fields["category_id"] or None)
            assert event["category_code"] == (fields["category_code"] or None)
            assert event["brand"] == (fields["brand"].lower() or None)
            assert event["price"] == Decimal(fields["price"])
            assert tables["counts"][0]["duplicate"] == 1

    @pytest.mark.parametrize(
        ("field", "other"),
        [
            ("event_time", "2019-10-01 00:00:01 UTC"),
            ("event_type", "cart"),
            ("product_id", "2"),
            ("user_id", "8"),
            ("user_session", "S"),
        ],
    )
    def test_rows_of_another_key_are_no_duplicates(self, run, field, other):
        tables = run([row(), row(**{field: other})])
        assert len(tables["fct_events"]) == 2

    def test_spelling_makes_no_difference(self, run):
        same = {"event_time": "2019-10-01T03:00:00.7+03:00", "product_id": " +01", "user_id": "007"}
        assert run([row(), row(**same)])["counts"][0]["duplicate"] == 1

    def test_duplicates_without_a_session(self, run):
        counts = run([row(user_session=""), row(user_session=""), row()])["counts"][0]
        assert (counts["duplicate"], counts["missing_session"], counts["events_kept"]) == (1, 1, 1)

    def test_products_with_two_brands_go_with_all_their_rows(self, run):
        rows = [
            row(product_id="1", brand="a"),
            row(product_id="1", brand="b", user_id="8"),
            row(product_id="1", user_id="9"),
            row(product_id="1", user_id="9", user_session=""),
            row(product_id="2", brand="A"),
            row(product_id="2", brand="a", user_id="8"),
            row(product_id="2", user_id="9"),
        ]
        tables = run(rows)
        assert set(column(tables["fct_events"], "product_id")) == {"2"}
        counts = tables["counts"][0]
        assert (counts["multi_brand_product"], counts["missing_session"]) == (4, 0)

    def test_a_row_without_a_session_can_tell_the_second_brand(self, run):
        tables = run([row(brand="a"), row(brand="b", user_session="")])
        assert tables["counts"][0]["multi_brand_product"] == 2

    def test_a_duplicate_that_goes_tells_no_second_brand(self, run):
        tables = run([row(brand="a"), row(brand="b"), row(user_id="8")])
        assert column(tables["fct_events"], "brand", "user_id") in (
            [("a", "7"), (None, "8")],
            [(None, "8"), ("a", "7")],
        )
        assert tables["counts"][0]["duplicate"] == 1
        assert tables["counts"][0]["multi_brand_product"] == 0

    def test_counts_add_up(self, run):
        rows = [
            row(),
            row(),
            row(product_id="2", brand="a"),
            row(product_id="2", brand="b", user_id="8"),
        ]
        rows += [
            row(user_session="", user_id="9"),
            row(price="x"),
            row(price="-1"),
            row(user_id=""),
        ]
        # Neither a duplicate, nor of two brands, nor without a session; but rejected all the same.
        late = {"event_time": at(days=1)}
        rows += [row(**late), row(**late), row(**late, brand="a"), row(**late, brand="b")]
        rows += [row(**late, user_session=""), row(**late, price="x")]
        assert run(rows, as_of=date(2019, 10, 1))["counts"] == [
            {
                "rows_read": 14,
                "events_kept": 1,
                "after_as_of": 5,
                "duplicate": 1,
                "multi_brand_product": 2,
                "missing_session": 1,
                "rejected": 4,
                "malformed_row": 0,
                "bad_event_time": 0,
                "bad_event_type": 0,
                "bad_product_id": 0,
                "bad_category_id": 0,
                "bad_price": 3,
                "bad_user_id": 1,
                "bad_user_session": 0,
                "as_of": date(2019, 10, 1),
            }
        ]

    def test_rejected_rows(self, run, tmp_path):
        (rejected,) = run([row(), row(event_type="buy")])["rejected_rows"]
        line = "2019-10-01 00:00:00 UTC,buy,1,,,,1.00,7,s"
        assert rejected == {
            "source_file": str(tmp_path / "events.csv"),
            "byte_offset": len(HEADER) + 1 + len(line) + 1 + len("view") - len("buy"),
            "reason": "bad_event_type",
            "raw": line,
        }


class TestEvents:
    def test_an_event(self, run):
        fields = row(
            event_time="0987-01-02T03:04:05.6Z",
            event_type="purchase",
            product_id="0012",
            category_id="+5",
            category_code="A.b",
            brand="X",
            price="1.005",
            user_id=" 7",
            user_session="S|t",
        )
        name = b"0987-01-02 03:04:05|purchase|7|12|S|t"
        assert run([fields])["fct_events"] == [
            {
                "event_id": hashlib.md5(name, usedforsecurity=False).hexdigest(),
                "event_time": datetime(987, 1, 2, 3, 4, 5, tzinfo=UTC),
                "event_date": date(987, 1, 2),
                "event_type": "purchase",
                "user_id": "7",
                "user_session": "S|t",
                "session_id": "S|t",
                "product_id": "12",
                "brand": "x",
                "category_code": "a.b",
                "category_id": "5",
                "price": Decimal("1.005"),
                "quantity": 1,
                "is_view": 0,
                "is_cart_add": 0,
                "is_cart_remove": 0,
                "is_purchase": 1,
                "revenue": Decimal("1.005"),
            }
        ]

    def test_flags(self, run):
        types = ["view", "cart", "remove_from_cart", "purchase"]
        events = run([row(event_type=each) for each in types])["fct_events"]
        flags = column(events, "is_view", "is_cart_add", "is_cart_remove", "is_purchase", "revenue")
        assert dict(zip(column(events, "event_type"), flags, strict=True)) == {
            "view": (1, 0, 0, 0, None),
            "cart": (0, 1, 0, 0, None),
            "remove_from_cart": (0, 0, 1, 0, None),
            "purchase": (0, 0, 0, 1, Decimal(1)),
        }


class TestSessions:
    @pytest.mark.parametrize(("gap", "sessions"), [(3599, 1), (3600, 1), (3601, 2)])
    def test_only_a_longer_gap_starts_a_session(self, run, gap, sessions):
        tables = run([row(), row(event_time=at(gap))])
        assert len(tables["fct_sessions"]) == sessions

    def test_names_and_numbers(self, run):
        times = [0, 3600, 7200, 10_801, 10_801, 14_401, 20_000]
        rows = [row(event_time=at(t), product_id=str(i)) for i, t in enumerate(times)]
        rows += [row(event_time=at(5, days=30)), row(user_session="s_timeout_")]
        tables = run(reversed(rows))
        assert column(tables["fct_sessions"], "session_id", "event_count", "session_length") == [
            ("s", 3, 7200),
            ("s_timeout_", 1, 0),
            ("s_timeout_1", 3, 3600),
            ("s_timeout_2", 1, 0),
            ("s_timeout_3", 1, 0),
        ]
        assert Counter(column(tables["fct_events"], "session_id", "user_session")) == {
            ("s", "s"): 3,
            ("s_timeout_1", "s"): 3,
            ("s_timeout_2", "s"): 1,
            ("s_timeout_3", "s"): 1,
            ("s_timeout_", "s_timeout_"): 1,
        }

    def test_the_timeout_is_an_option(self, run):
        rows = [row(), row(event_time=at(60)), row(event_time=at(121))]
        tables = run(rows, session_timeout_seconds=60)
        assert column(tables["fct_sessions"], "session_id") == ["s", "s_timeout_1"]

    def test_dropped_rows_bridge_no_gap(self, run):
        rows = [row(), row(event_time=at(3600), product_id="2", brand="a")]
        rows += [row(event_time=at(3600), product_id="2", brand="b", user_id="8")]
        rows += [row(event_time=at(7200))]
        assert len(run(rows)["fct_sessions"]) == 2

    def test_a_session_of_two_users_belongs_to_the_largest_text(self, run):
        rows = [
            row(user_id="10"),
            row(user_id="9", event_time=at(5)),
            row(user_id="9", product_id="2"),
        ]
        rows += [row(user_id="10", user_session="t")]
        tables = run(rows)
        assert column(tables["fct_sessions"], "session_id", "user_id") == [("s", "9"), ("t", "10")]
        assert column(tables["dim_users"], "user_id", "session_count", "event_count") == [
            ("10", 1, 2),
            ("9", 1, 2),
        ]

    def test_each_part_of_a_shared_session_has_its_own_user(self, run):
        tables = run([row(user_id="9"), row(user_id="10", event_time=at(0, days=20))])
        assert column(tables["fct_sessions"], "session_id", "user_id") == [
            ("s", "9"),
            ("s_timeout_1", "10"),
        ]

    def test_a_session(self, run):
        rows = [
            row(),
            row(event_time=at(10), event_type="cart"),
            row(event_time=at(20), event_type="cart", product_id="2"),
            row(event_time=at(30), event_type="remove_from_cart", product_id="2"),
            purchase(event_time=at(200), price="2.5"),
            purchase(event_time=at(200), price="0.005", product_id="3"),
        ]
        assert run(rows)["fct_sessions"] == [
            {
                "session_id": "s",
                "user_id": "7",
                "session_start_time": datetime(2019, 10, 1, tzinfo=UTC),
                "session_end_time": datetime(2019, 10, 1, 0, 3, 20, tzinfo=UTC),
                "session_start_date": date(2019, 10, 1),
                "session_length": 200,
                "event_count": 6,
                "unique_product_count": 3,
                "view_count": 1,
                "cart_additions": 2,
                "cart_removals": 1,
                "purchase_count": 2,
                "total_revenue": Decimal("2.505"),
                "reached_view": 1,
                "reached_cart": 1,
                "reached_purchase": 1,
                "funnel_stage": "purchase",
                "is_converting_session": 1,
                "session_quality_tier": "Medium",
                "session_length_bucket": "Short (61-300s)",
            }
        ]

    @pytest.mark.parametrize(
        ("types", "stage"),
        [
            (["remove_from_cart"], "no_activity"),
            (["view", "remove_from_cart"], "view"),
            (["cart"], "cart"),
            (["view", "purchase"], "purchase"),
        ],
    )
    def test_stage_and_revenue(self, run, types, stage):
        (session,) = run([row(event_type=each) for each in types])["fct_sessions"]
        assert session["funnel_stage"] == stage
        assert session["total_revenue"] == (Decimal(1) if stage == "purchase" else None)
        assert session["reached_cart"] == (1 if stage == "cart" else 0)

    @pytest.mark.parametrize(
        ("length", "events", "tier", "bucket"),
        [
            (0, 3, "Low", "Very Short (0-60s)"),
            (60, 3, "Low", "Very Short (0-60s)"),
            (61, 3, "Low", "Short (61-300s)"),
            (149, 11, "Low", "Short (61-300s)"),
            (150, 2, "Low", "Short (61-300s)"),
            (150, 3, "Medium", "Short (61-300s)"),
            (300, 10, "Medium", "Short (61-300s)"),
            (301, 11, "High", "Medium (301-600s)"),
            (600, 10, "Medium", "Medium (301-600s)"),
            (601, 3, "High", "Long (600+s)"),
            (601, 2, "Low", "Long (600+s)"),
        ],
    )
    def test_tier_and_bucket(self, run, length, events, tier, bucket):
        rows = [row(product_id=str(n)) for n in range(events - 1)] + [row(event_time=at(length))]
        rows[-1]["product_id"] = "99"
        (session,) = run(rows)["fct_sessions"]
        assert column([session], "session_length", "event_count") == [(length, events)]
        assert column([session], "session_quality_tier", "session_length_bucket") == [
            (tier, bucket)
        ]


class TestUsers:
    def test_a_user(self, run):
        rows = [
            row(event_time=at(0, days=1)),
            purchase(event_time=at(10, days=1), price="0.01"),
            purchase(event_time=at(20, days=3), price="0.02"),
            row(event_time=at(20, days=9)),
        ]
        assert run(rows, as_of=date(2019, 11, 13))["dim_users"] == [
            {
                "user_id": "7",
                "first_event_time": datetime(2019, 10, 2, tzinfo=UTC),
                "last_event_time": datetime(2019, 10, 10, 0, 0, 20, tzinfo=UTC),
                "first_event_date": date(2019, 10, 2),
                "last_event_date": date(2019, 10, 10),
                "session_count": 3,
                "event_count": 4,
                "purchase_count": 2,
                "total_revenue": Decimal("0.03"),
                "customer_ltv": Decimal("0.03"),
                "avg_order_value": Decimal("0.02"),
                "first_purchase_date": date(2019, 10, 2),
                "last_purchase_date": date(2019, 10, 4),
                "customer_lifespan_days": 2,
                "days_since_last_activity": 34,
                "days_since_last_purchase": 40,
                "activity_status": "declining",
                "is_churned": 0,
                "has_purchase_history": True,
                "data_quality_flag": None,
                "customer_lifecycle_stage": "Repeat Customer",
                "order_count": 2,
                "purchase_day_count": 2,
                "avg_basket_value": Decimal("0.02"),
                "avg_items_per_order": 1.0,
                "first_order_value": Decimal("0.01"),
                "days_to_first_purchase": 0,
                "order_lifecycle_stage": "Repeat Customer",
            }
        ]

    def test_a_user_without_a_purchase(self, run):
        (user,) = run([row(event_time=at(0, days=0))], as_of=date(2021, 1, 1))["dim_users"]
        missing = [name for name, value in user.items() if value is None]
        assert missing == [
            "total_revenue",
            "customer_ltv",
            "avg_order_value",
            "first_purchase_date",
            "last_purchase_date",
            "customer_lifespan_days",
            "days_since_last_purchase",
            "data_quality_flag",
            "avg_basket_value",
            "avg_items_per_order",
            "first_order_value",
            "days_to_first_purchase",
        ]
        assert column([user], "order_count", "purchase_day_count") == [(0, 0)]
        assert user["order_lifecycle_stage"] == "Prospect"
        assert user["activity_status"] == "prospect"
        assert user["customer_lifecycle_stage"] == "Prospect"
        assert user["has_purchase_history"] is False
        assert user["days_since_last_activity"] == 458

    @pytest.mark.parametrize(
        ("since_purchase", "since_activity", "status"),
        [
            (61, 61, "churned"),
            (61, 60, "at_risk"),
            (60, 60, "at_risk"),
            (46, 0, "at_risk"),
            (45, 45, "declining"),
            (31, 0, "declining"),
            (30, 30, "active"),
            (0, 0, "active"),
        ],
    )
    def test_status(self, run, since_purchase, since_activity, status):
        rows = [
            purchase(event_time=at(days=100 - since_purchase)),
            row(event_time=at(days=100 - since_activity)),
            row(event_time=at(days=100), user_id="8", user_session="t"),
        ]
        user = run(rows)["dim_users"][0]
        assert column([user], "days_since_last_purchase", "days_since_last_activity") == [
            (since_purchase, since_activity)
        ]
        assert column([user], "activity_status", "is_churned") == [
            (status, int(status == "churned"))
        ]

    def test_thresholds_are_options(self, run):
        rows = [purchase(event_time=at(days=0)), row(event_time=at(days=10), user_id="8")]
        for options, status in [
            ({"churn_threshold_days": 9}, "churned"),
            ({"at_risk_threshold_days": 9}, "at_risk"),
            ({"declining_threshold_days": 9}, "declining"),
        ]:
            assert run(rows, **options)["dim_users"][0]["activity_status"] == status

    @pytest.mark.parametrize(
        ("prices", "total", "average"),
        [
            (["10.005"], "10.005", "10.01"),
            (["0.004999999"], "0.004999999", "0.00"),
            (["0.005"], "0.005", "0.01"),
            (["0.01", "0.02"], "0.03", "0.02"),
            (["0.01", "0.01", "0.02"], "0.04", "0.01"),
            (["1", "1", "0"], "2", "0.67"),
            (
                ["99999999999999999999.999999999"] * 3,
                "299999999999999999999.999999997",
                "100000000000000000000",
            ),
        ],
    )
    def test_averages_round_half_away_from_zero(self, run, prices, total, average):
        rows = [purchase(price=price, product_id=str(n)) for n, price in enumerate(prices)]
        (user,) = run(rows)["dim_users"]
        assert user["avg_order_value"] == Decimal(average)
        assert user["total_revenue"] == Decimal(total)

    def test_quality_flags(self, run):
        rows = [row(product_id=str(n)) for n in range(5)]
        rows += [row(user_id="6", user_session="s"), row(user_id="5", user_session="t")]
        for ratio, flag in [(5, None), (4, "anomalous_session_ratio")]:
            users = run(rows, session_outlier_ratio=ratio)["dim_users"]
            assert column(users, "user_id", "data_quality_flag") == [
                ("5", None),
                ("6", "missing_sessions"),
                ("7", flag),
            ]

    @pytest.mark.parametrize(
        ("number", "stage"),
        [
            (1, "First-Time Buyer"),
            (2, "Repeat Customer"),
            (5, "Repeat Customer"),
            (6, "Loyal Customer"),
        ],
    )
    def test_lifecycle(self, run, number, stage):
        (user,) = run([purchase(product_id=str(n)) for n in range(number)])["dim_users"]
        assert user["customer_lifecycle_stage"] == stage
        assert user["customer_lifespan_days"] == 1


def shoppers(purchases, days=None, price="1"):
    """Purchases by user: how many, and on which day."""
    return [
        purchase(
            user_id=user_id,
            user_session=f"s{user_id}",
            product_id=str(n),
            event_time=at(days=(days or {}).get(user_id, 0)),
            price=price,
        )
        for user_id, number in purchases.items()
        for n in range(number)
    ]


class TestRfm:
    def test_one_user(self, run):
        assert run(shoppers({"7": 3}))["dim_user_rfm"] == [
            {
                "user_id": "7",
                "recency_score": 1,
                "frequency_score": 1,
                "monetary_score": 1,
                "rfm_score": 3,
                "rfm_segment": "Lost",
            }
        ]

    def test_tiles_of_equal_users_go_by_their_ids_as_text(self, run):
        users = ["1", "10", "100", "2", "20", "3", "9"]
        ranks = run(shoppers(dict.fromkeys(users, 1)))["dim_user_rfm"]
        assert column(ranks, "user_id") == users
        assert column(ranks, "recency_score") == [1, 1, 2, 2, 3, 4, 5]
        assert column(ranks, "monetary_score") == [1, 1, 2, 2, 3, 4, 5]
        assert column(ranks, "frequency_score") == [1] * 7

    def test_recent_users_and_large_revenues_score_high(self, run):
        days = {"1": 40, "2": 30, "3": 20, "4": 10, "5": 0}
        rows = shoppers(dict.fromkeys(days, 1), days)
        for each in rows:
            each["price"] = {"1": "9", "2": "10", "3": "8", "4": "11", "5": "7"}[each["user_id"]]
        ranks = run(rows)["dim_user_rfm"]
        assert column(ranks, "recency_score") == [5, 4, 3, 2, 1]
        assert column(ranks, "monetary_score") == [3, 4, 2, 5, 1]

    def test_frequency_is_a_percent_rank(self, run):
        ranks = run(shoppers({str(n): n for n in range(1, 7)}))["dim_user_rfm"]
        # p is 0, 0.2, 0.4, 0.6, 0.8, 1: a score begins at its bound.
        assert column(ranks, "frequency_score") == [1, 2, 3, 4, 5, 5]
        ranks = run(shoppers({"1": 1, "2": 1, "3": 2, "4": 2, "5": 2, "6": 3}))["dim_user_rfm"]
        # p is 0, 0, 0.4, 0.4, 0.4, 1.
        assert column(ranks, "frequency_score") == [1, 1, 3, 3, 3, 5]

    def test_users_without_a_purchase_have_no_rank(self, run):
        tables = run([*shoppers({"1": 1}), row(user_id="2")])
        assert column(tables["dim_user_rfm"], "user_id") == ["1"]

    def test_segments(self, run):
        def segment(r, f, m):
            if min(r, f, m) >= 4:
                return "Champions"
            if r <= 2 and f >= 4 and m >= 4:
                return "At Risk"
            if f >= 3:
                return {5: "Loyal Customers", 4: "Loyal Customers", 3: "Potential Loyalists"}.get(
                    r, "About To Sleep"
                )
            if r >= 3:
                return "Promising" if r == 3 else "Recent Customers"
            return "Lost" if m <= 2 else "Needs Attention"

        users = {str(n): 1 + n * 7 % 6 for n in range(60)}
        days = {str(n): n * 11 % 60 for n in range(60)}
        rows = shoppers(users, days)
        for each in rows:
            each["price"] = str(int(each["user_id"]) * 37 % 100)
        ranks = run(rows)["dim_user_rfm"]
        scores = column(ranks, "recency_score", "frequency_score", "monetary_score")
        assert column(ranks, "rfm_segment") == [segment(*each) for each in scores]
        assert column(ranks, "rfm_score") == [sum(each) for each in scores]
        assert set(column(ranks, "rfm_segment")) == {
            "Champions",
            "At Risk",
            "Loyal Customers",
            "Potential Loyalists",
            "Recent Customers",
            "Promising",
            "About To Sleep",
            "Lost",
            "Needs Attention",
        }


class TestProductsAndCategories:
    def events(self, *pairs):
        """Views of product 1, one for each (brand, category_id, category_code)."""
        return [
            row(brand=brand, category_id=category_id, category_code=code, event_time=at(n))
            for n, (brand, category_id, code) in enumerate(pairs)
        ]

    @pytest.mark.parametrize(
        ("pairs", "winner"),
        [
            ([("a", "10", ""), ("a", "9", ""), ("a", "10", "")], ("a", "10")),
            ([("a", "10", ""), ("a", "9", "")], ("a", "9")),
            ([("", "9", ""), ("a", "10", "")], ("a", "10")),
            ([("a", "", ""), ("a", "10", "")], ("a", "10")),
            ([("", "9", ""), ("", "9", ""), ("a", "10", "")], (None, "9")),
            ([("", "", "")], (None, None)),
        ],
    )
    def test_the_most_frequent_pair(self, run, pairs, winner):
        products = run(self.events(*pairs))["dim_products"]
        assert column(products, "product_id", "brand", "category_id") == [("1", *winner)]

    def test_the_most_frequent_code(self, run):
        pairs = [("", "9", "b.x"), ("", "9", ""), ("", "9", ""), ("", "9", "A.y"), ("", "10", "")]
        pairs += [("", "11", "c"), ("", "11", "d"), ("", "11", "d"), ("", "", "lost")]
        assert run(self.events(*pairs))["dim_categories"] == [
            {
                "raw_category_id": category_id,
                "category_code": code,
                "category_lvl_1": lvl_1,
                "category_lvl_2": lvl_2,
                "category_lvl_3": None,
                "category_lvl_4": None,
            }
            for category_id, code, lvl_1, lvl_2 in [
                ("10", None, None, None),
                ("11", "d", "d", None),
                ("9", "a.y", "a", "y"),
            ]
        ]

    def test_a_product_takes_the_code_of_its_category(self, run):
        rows = self.events(("", "9", "x"), ("", "10", "a.b.c.d.e"))
        rows += [
            row(product_id="2", category_id="9", category_code="k.l.m.n.o", event_time=at(n))
            for n in (7, 8)
        ]
        products = run(rows)["dim_products"]
        names = ("category_id", "category_code", *(f"category_lvl_{n}" for n in (1, 2, 3, 4)))
        assert column(products, *names) == [("9", "k.l.m.n.o", "k", "l", "m", "n")] * 2

    def test_metrics(self, run):
        rows = [
            row(product_id="1", category_id="9", category_code="a.b"),
            row(product_id="1", category_id="9", category_code="a.b", event_type="cart"),
            purchase(
                product_id="1", category_id="9", category_code="a.b", user_id="8", price="2.50"
            ),
            row(product_id="2", category_id="10", category_code="a", user_session="t"),
            purchase(
                product_id="2", category_id="10", category_code="a", user_session="t", price="0"
            ),
            row(product_id="3"),
            row(
                product_id="4",
                category_id="11",
                category_code="unknown",
                event_type="remove_from_cart",
            ),
        ]
        tables = run(rows)
        assert column(
            tables["metrics_categories"], "level", "category_lvl_1", "category_lvl_2"
        ) == [
            (1, "a", None),
            (1, "unknown", None),
            (2, "a", "b"),
            (2, "a", None),
            (2, "unknown", None),
        ]
        figures = tables["metrics_categories"]
        assert figures[0] == {
            "level": 1,
            "category_lvl_1": "a",
            "category_lvl_2": None,
            "events": 5,
            "views": 2,
            "cart_adds": 1,
            "purchases": 2,
            "user_sessions": 2,
            "users": 2,
            "revenue": Decimal("2.50"),
            "purchase_rate": 0.4,
            "cart_add_rate": 0.2,
            "avg_views_per_session": 1.0,
        }
        assert column(figures, "events", "user_sessions", "users", "revenue")[1:] == [
            (2, 1, 1, 0),
            (3, 1, 2, Decimal("2.50")),
            (2, 1, 1, 0),
            (2, 1, 1, 0),
        ]
        assert column(figures, "purchase_rate", "avg_views_per_session")[2:4] == [
            (0.333333, 1.0),
            (0.5, 1.0),
        ]
        # User 7 bought for 0, user 8 for 2.50; with equal dates both tile by text: r = m = 1 and 2.
        assert tables["metrics_category_rfm"] == [
            {
                "category_lvl_1": "a",
                "rfm_segment": "Lost",
                "purchases": 2,
                "revenue": Decimal("2.50"),
            }
        ]

    def test_purchases_of_unknown_categories(self, run):
        assert column(run([purchase()])["metrics_category_rfm"], "category_lvl_1") == ["unknown"]


class TestChurn:
    def test_cohorts(self, run):
        def buys(user_id, *days):
            return [
                purchase(user_id=user_id, user_session=f"s{user_id}", event_time=at(days=day))
                for day in days
            ]

        rows = [
            *buys("1", 0),  # once: churned
            *buys("2", 0, 91),  # after 91 days: stays
            *buys("3", 5, 95),  # after 90 days: churned
            *buys("4", 31, 150),  # November: stays
            *buys("5", 32, 33),  # 89 days before the end: not eligible
            *buys("6", 121),  # the end of first purchases
            row(user_id="9", event_time=at(days=200), user_session="s9"),
        ]
        churn = run(rows)["metrics_churn"]
        assert churn == [
            {
                "metric_level": level,
                "time_period": period,
                "total_customers": total,
                "churned_customers": churned,
                "churn_rate": rate,
                "cohort_start": start,
                "cohort_end": end,
            }
            for level, period, total, churned, rate, start, end in [
                (
                    "by_cohort_month",
                    "2019-10-01",
                    3,
                    2,
                    0.6667,
                    date(2019, 10, 1),
                    date(2019, 10, 6),
                ),
                ("by_cohort_month", "2019-11-01", 1, 0, 0.0, date(2019, 11, 1), date(2019, 11, 1)),
                (
                    "cohort_overall",
                    "all_eligible_cohorts",
                    4,
                    2,
                    0.5,
                    date(2019, 10, 1),
                    date(2019, 11, 1),
                ),
            ]
        ]

    def test_the_window_is_an_option(self, run):
        rows = [*shoppers({"1": 1, "2": 1}, {"1": 0, "2": 10})]
        rows += [purchase(user_id="1", user_session="s1", event_time=at(days=11))]
        for window, total, churned in [(10, 1, 0), (11, 0, 0)]:
            churn = run(rows, cohort_observation_window_days=window)["metrics_churn"][-1]
            assert column([churn], "total_customers", "churned_customers") == [(total, churned)]

    def test_nobody_eligible(self, run):
        for rows in ([], [row()], [purchase()]):
            assert run(rows)["metrics_churn"] == [
                {
                    "metric_level": "cohort_overall",
                    "time_period": "all_eligible_cohorts",
                    "total_customers": 0,
                    "churned_customers": 0,
                    "churn_rate": None,
                    "cohort_start": None,
                    "cohort_end": None,
                }
            ]


class TestMetrics:
    ROWS = (
        row(),
        row(event_type="cart", event_time=at(1)),
        purchase(event_time=at(2), price="10"),
        row(user_session="t", event_time=at(0, days=6)),
        purchase(user_session="u", event_time=at(0, days=13), price="0.005"),
        row(user_id="8", user_session="v", event_time=at(86_399, days=30)),
        row(user_id="8", user_session="v", event_time=at(86_401, days=30)),
    )

    def test_funnel(self, run):
        funnel = {
            (each.pop("dimension"), each.pop("value")): each
            for each in run(self.ROWS)["metrics_funnel"]
        }
        assert funnel["overall", "all"] == {
            "sessions": 4,
            "sessions_reached_view": 3,
            "sessions_reached_cart": 1,
            "sessions_reached_purchase": 2,
            "bounced_sessions": 2,
            "events": 7,
            "purchases": 2,
            "revenue": Decimal("10.005"),
            "view_to_cart_rate": 0.333333,
            "cart_to_purchase_rate": 2.0,
            "conversion_rate": 0.5,
            "bounce_rate": 0.5,
            "revenue_per_session": 2.50125,
            "revenue_per_purchasing_session": 5.0025,
            "view_to_purchase_rate": 0.666667,
        }
        assert {key: each["sessions"] for key, each in funnel.items()} == {
            ("overall", "all"): 4,
            ("session_start_date", "2019-10-01"): 1,
            ("session_start_date", "2019-10-07"): 1,
            ("session_start_date", "2019-10-14"): 1,
            ("session_start_date", "2019-10-31"): 1,
            ("session_quality_tier", "Low"): 4,
            ("session_length_bucket", "Very Short (0-60s)"): 4,
            ("customer_lifecycle_stage", "Repeat Customer"): 3,
            ("customer_lifecycle_stage", "Prospect"): 1,
            ("activity_status", "active"): 3,
            ("activity_status", "prospect"): 1,
            ("rfm_segment", "Lost"): 3,
            ("rfm_segment", "No RFM Score"): 1,
        }
        prospects = funnel["rfm_segment", "No RFM Score"]
        assert prospects["revenue"] == 0
        assert prospects["cart_to_purchase_rate"] is None
        assert prospects["revenue_per_purchasing_session"] is None
        assert prospects["revenue_per_session"] == 0.0

    def test_rfm_segments(self, run):
        assert run(self.ROWS)["metrics_rfm_segments"] == [
            {
                "rfm_segment": "Lost",
                "customers": 1,
                "churned_customers": 0,
                "purchases": 2,
                "sessions": 3,
                "revenue": Decimal("10.005"),
                "churn_rate": 0.0,
                "avg_order_value": 5.0,
                "avg_purchase_count": 2.0,
                "avg_session_count": 3.0,
                "avg_ltv": 10.005,
                "customer_share": 0.5,
                "revenue_share": 1.0,
            },
            {
                "rfm_segment": "No RFM Score",
                "customers": 1,
                "churned_customers": 0,
                "purchases": 0,
                "sessions": 1,
                "revenue": Decimal(0),
                "churn_rate": 0.0,
                "avg_order_value": None,
                "avg_purchase_count": 0.0,
                "avg_session_count": 1.0,
                "avg_ltv": None,
                "customer_share": 0.5,
                "revenue_share": 0.0,
            },
        ]

    def test_avg_order_value_of_a_segment_is_the_mean_of_its_users_own(self, run):
        rows = [
            purchase(user_id="1", user_session="s1", price="1"),
            purchase(user_id="2", user_session="s2", price="0.01"),
            purchase(user_id="2", user_session="s2", price="0.02", product_id="2"),
        ]
        later = ["3", "4", "5", "6"]
        rows += shoppers(dict.fromkeys(later, 3), dict.fromkeys(later, 9), price="5")
        segments = run(rows)["metrics_rfm_segments"]
        # Users 1 and 2 are the oldest two of six, with the smallest counts and revenues.
        (lost,) = (each for each in segments if each["rfm_segment"] == "Lost")
        assert column([lost], "customers", "purchases", "revenue") == [(2, 3, Decimal("1.03"))]
        assert column([lost], "avg_order_value", "avg_ltv") == [(0.51, 0.515)]

    def test_no_revenue_has_no_share(self, run):
        tables = run([row()])
        assert column(tables["metrics_rfm_segments"], "revenue_share") == [None]
        assert column(tables["metrics_user_segments"], "revenue_share") == [None] * 3
        tables = run([purchase(price="0")])
        assert column(tables["metrics_rfm_segments"], "revenue_share") == [None]

    def test_user_segments(self, run):
        segments = run(self.ROWS)["metrics_user_segments"]
        assert column(segments, "dimension", "value") == [
            ("activity_status", "active"),
            ("activity_status", "prospect"),
            ("customer_lifecycle_stage", "Prospect"),
            ("customer_lifecycle_stage", "Repeat Customer"),
            ("overall", "all"),
        ]
        assert segments[-1] == {
            "dimension": "overall",
            "value": "all",
            "customers": 2,
            "purchasers": 1,
            "churned_customers": 0,
            "purchases": 2,
            "sessions": 4,
            "revenue": Decimal("10.005"),
            "purchaser_rate": 0.5,
            "churn_rate": 0.0,
            "avg_ltv": 10.005,
            "customer_share": 1.0,
            "revenue_share": 1.0,
        }
        assert segments[1]["avg_ltv"] is None
        assert segments[1]["revenue"] == 0

    def test_rfm_grid(self, run):
        assert run(self.ROWS)["metrics_rfm_grid"] == [
            {
                "recency_score": 1,
                "frequency_score": 1,
                "customers": 1,
                "purchases": 2,
                "revenue": Decimal("10.005"),
                "avg_order_value": Decimal("5.00"),
            }
        ]

    def test_periods(self, run):
        periods = run(self.ROWS)["metrics_periods"]
        # 1 October 2019 is a Tuesday; session v starts in October and ends in November.
        figures = ("period", "period_start", "users", "events", "sessions")
        assert column(periods, *figures) == [
            ("day", date(2019, 10, 1), 1, 3, 1),
            ("day", date(2019, 10, 7), 1, 1, 1),
            ("day", date(2019, 10, 14), 1, 1, 1),
            ("day", date(2019, 10, 31), 1, 1, 1),
            ("day", date(2019, 11, 1), 1, 1, 0),
            ("month", date(2019, 10, 1), 2, 6, 4),
            ("month", date(2019, 11, 1), 1, 1, 0),
            ("week", date(2019, 9, 30), 1, 3, 1),
            ("week", date(2019, 10, 7), 1, 1, 1),
            ("week", date(2019, 10, 14), 1, 1, 1),
            ("week", date(2019, 10, 28), 1, 2, 1),
        ]
        assert periods[5] == {
            "period": "month",
            "period_start": date(2019, 10, 1),
            "users": 2,
            "purchasing_users": 1,
            "events": 6,
            "views": 3,
            "cart_adds": 1,
            "purchases": 2,
            "sessions": 4,
            "converting_sessions": 2,
            "revenue": Decimal("10.005"),
            "conversion_rate": 0.5,
            "avg_order_value": Decimal("5.00"),
            "orders": 2,
            "avg_basket_value": Decimal("5.00"),
            "items_per_order": 1.0,
        }
        assert periods[4] == {
            "period": "day",
            "period_start": date(2019, 11, 1),
            "users": 1,
            "purchasing_users": 0,
            "events": 1,
            "views": 1,
            "cart_adds": 0,
            "purchases": 0,
            "sessions": 0,
            "converting_sessions": 0,
            "revenue": Decimal(0),
            "conversion_rate": None,
            "avg_order_value": None,
            "orders": 0,
            "avg_basket_value": None,
            "items_per_order": None,
        }

    @pytest.mark.parametrize(
        ("total", "sessions", "expected"),
        [
            ("0.000001", 2, 0.000001),
            ("0.000000999", 2, 0.0),
            ("0.000003", 2, 0.000002),
            ("2", 3, 0.666667),
            ("1", 3, 0.333333),
            ("99999999999999999999.999999999", 1, 1e20),
            ("12345678901234567890.123456499", 1, 12345678901234567890.123456),
        ],
    )
    def test_rates_round_half_away_from_zero(self, run, total, sessions, expected):
        rows = [row(user_session=f"s{n}") for n in range(1, sessions)]
        (overall,) = (
            each
            for each in run([*rows, purchase(price=total)])["metrics_funnel"]
            if each["dimension"] == "overall"
        )
        assert overall["revenue_per_session"] == expected

    @pytest.mark.parametrize("rows", [[], [row(user_session="")], [row(price="")]])
    def test_nothing_kept(self, run, rows):
        tables = run(rows)
        filled = {name for name, content in tables.items() if content}
        # Of nobody, too, it is told why no model is there, and that none entered a funnel.
        told = {"metrics_churn", "counts", "model_clv", "metrics_clv_validation", "metrics_funnels"}
        assert filled - {"rejected_rows"} == told
        assert tables["counts"][0]["as_of"] is None


class TestColumns:
    def test_types(self, tmp_path):
        path = tmp_path / "events.csv"
        path.write_bytes(HEADER + b"\n" + GOOD_LINE + b"\n")
        allowed = {
            pa.string(),
            pa.int64(),
            pa.float64(),
            pa.decimal128(38, 9),
            pa.date32(),
            pa.timestamp("us", tz="UTC"),
            pa.bool_(),
        }
        tables = oracle_tables([path])
        assert set(tables) == {*TABLE_KEYS, "counts"}
        for table in tables.values():
            assert set(table.schema.types) <= allowed
            assert not [
                f
                for f in table.schema
                if re.search("rate$|share$", f.name) and f.type != pa.float64()
            ]

    def test_several_files_make_one_input(self, tmp_path):
        paths = [tmp_path / "a.csv", tmp_path / "b.csv"]
        for path in paths:
            path.write_bytes(HEADER + b"\n" + GOOD_LINE + b"\nx")
        tables = oracle_tables(paths)
        assert tables["counts"].select(["duplicate", "rejected"]).to_pylist() == [
            {"duplicate": 1, "rejected": 2}
        ]
        assert tables["rejected_rows"]["source_file"].to_pylist() == [str(path) for path in paths]


class TestCompare:
    TABLE = pa.table(
        {
            "user_id": ["1", "2", "2"],
            "total_revenue": pa.array([Decimal("1.50"), None, Decimal(2)], pa.decimal128(38, 9)),
            "first_event_time": pa.array([datetime(2019, 10, 1)] * 3, pa.timestamp("us", "UTC")),  # noqa: DTZ001
            "rate": [0.5, None, 0.1],
            "session_count": [1, 2, 3],
        }
    )

    def differences(self, other):
        with pytest.raises(AssertionError) as failure:
            assert_tables_equal({"dim_users": other}, {"dim_users": self.TABLE})
        return str(failure.value)

    def test_order_width_scale_and_encoding_do_not_matter(self):
        table = self.TABLE
        other = pa.table(
            {
                "rate": table["rate"],
                "session_count": table["session_count"].cast(pa.int8()),
                "user_id": table["user_id"].cast(pa.large_string()).dictionary_encode(),
                "first_event_time": table["first_event_time"].cast(pa.timestamp("ns")),
                "total_revenue": table["total_revenue"].cast(pa.decimal128(20, 2)),
            }
        ).take([2, 0, 1])
        assert_tables_equal({"dim_users": other}, {"dim_users": table})

    def test_missing_and_surplus_tables(self):
        with pytest.raises(AssertionError, match="a: missing\nb: not expected"):
            assert_tables_equal({"b": self.TABLE}, {"a": self.TABLE})

    def test_missing_and_surplus_columns(self):
        other = self.TABLE.rename_columns({"rate": "ratio"})
        text = self.differences(other)
        assert "dim_users.rate: missing" in text
        assert "dim_users.ratio: not expected" in text

    def test_another_kind(self):
        other = self.TABLE.set_column(
            4, "session_count", self.TABLE["session_count"].cast(pa.float64())
        )
        assert "dim_users.session_count: is float, expected integer" in self.differences(other)

    def test_another_value(self):
        other = self.TABLE.set_column(3, "rate", pa.array([0.5 + 2**-53, None, 0.1]))
        assert self.differences(other).splitlines()[1:] == [
            "dim_users: 3 rows, expected 3",
            "  user_id='1'",
            "    rate: 0.5000000000000001, expected 0.5",
        ]

    def test_a_value_instead_of_none(self):
        other = self.TABLE.set_column(3, "rate", pa.array([0.5, 0.0, 0.1]))
        assert "rate: 0.0, expected None" in self.differences(other)

    def test_rows_count(self):
        assert "not expected: user_id='1'" in self.differences(self.TABLE.take([0, 0, 1, 2]))
        assert "missing: user_id='1'" in self.differences(self.TABLE.slice(1))
        assert "3 rows, expected 3" in self.differences(self.TABLE.take([0, 1, 1]))


class TestStrategies:
    @given(data=st.data(), run=runs())
    @SMALL
    def test_one_answer(self, tmp_path_factory, data, run):
        rows, options = run
        folder = tmp_path_factory.mktemp("input")
        one = folder / "one.csv"
        one.write_bytes(data.draw(csv_bytes(rows)))
        expected = oracle_tables([one], **options)
        files = write_files(folder, data.draw(input_files(rows)))
        actual = oracle_tables(files, **options)

        assert Counter(actual.pop("rejected_rows")["reason"].to_pylist()) == Counter(
            expected.pop("rejected_rows")["reason"].to_pylist()
        )
        assert_tables_equal(actual, expected)

        counts = expected["counts"].to_pylist()[0]
        dropped = ("after_as_of", "duplicate", "multi_brand_product", "missing_session", "rejected")
        assert counts["rows_read"] == len(rows)
        assert counts["rows_read"] == counts["events_kept"] + sum(counts[name] for name in dropped)
        assert counts["rejected"] == counts["bad_user_session"]
        for name, key in TABLE_KEYS.items():
            if name in expected:
                keys = expected[name].select(key).to_pylist()
                assert len({tuple(each.values()) for each in keys}) == len(keys)

    @given(data=damaged_csv_bytes())
    @SMALL
    def test_damaged_files_lose_no_row(self, data):
        events, rejected = read_csv(data)
        lines = data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").split(b"\n")
        headers = (HEADER, b",".join(b'"%b"' % name for name in HEADER.split(b",")))
        rows = [line for line in lines if line and line not in headers]
        assert len(events) + len(rejected) == len(rows)
        for each in rejected:
            start = data[each.byte_offset :].split(b"\n")[0].removesuffix(b"\r")
            assert start.decode("utf-8", "replace") == each.raw

    @given(data=arbitrary_csv_bytes())
    @SMALL
    def test_any_bytes_are_read_or_refused(self, data):
        try:
            read_csv(data)
        except HeaderError:
            assert not data.lstrip(b"\xef\xbb\xbf\r\n").startswith(HEADER + b"\n")

    def test_rows_are_full_of_trouble(self, tmp_path):
        path = tmp_path / "events.csv"
        wanted = {
            "duplicate",
            "multi_brand_product",
            "missing_session",
            "bad_user_session",
            "one brand because duplicates went",
            "duplicates without a session",
            "gap of the timeout",
            "gap above the timeout",
            "session of two users",
            "session reused weeks later",
            "user without a session",
            "several segments",
            "order of several seconds",
            "orders seconds apart",
            "order over midnight",
            "user of one day",
            "dormant and resurrected users",
            "years apart",
            "a third purchase day",
            "a segment left and come back to",
        }
        seen = set()

        def look(rows):
            path.write_text(csv_text(rows), encoding="utf-8")
            tables = oracle_tables([path], without_selling=True)
            seen.update(troubles(grammar.read_file(path)[0], tables), troubles_over_time(tables))
            if seen >= wanted:
                raise AllSeenError

        drawn = settings(
            max_examples=500,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[hypothesis.Phase.generate],
        )
        with suppress(AllSeenError):  # then there is nothing more to look for
            drawn(given(rows=clickstream_rows())(look))()
        assert seen >= wanted


class AllSeenError(Exception):
    """All troubles that are looked for have come."""


def troubles(accepted, tables):
    """What is difficult about some accepted rows and the tables made of them."""
    counts = tables["counts"].to_pylist()[0]
    yield from (name for name, count in counts.items() if count)
    kept = tables["fct_events"].to_pylist()

    brands = {(event.product_id, event.brand) for event in accepted if event.brand}
    several = {product for product, n in Counter(p for p, _ in brands).items() if n > 1}
    if several & {int(event["product_id"]) for event in kept}:
        yield "one brand because duplicates went"
    keys = Counter(event[:3] + event[7:] for event in accepted if event.user_session is None)
    if max(keys.values(), default=0) > 1:
        yield "duplicates without a session"
    times = sorted((event["user_session"], event["event_time"]) for event in kept)
    for (session, time), (next_session, next_time) in pairwise(times):
        gap = (next_time - time).total_seconds()
        if session == next_session and gap == 3600:
            yield "gap of the timeout"
        if session == next_session and gap == 3601:
            yield "gap above the timeout"
        if session == next_session and gap > 14 * 86_400:
            yield "session reused weeks later"
    users = {(event["session_id"], event["user_id"]) for event in kept}
    if len({session for session, _ in users}) < len(users):
        yield "session of two users"
    if 0 in tables["dim_users"]["session_count"].to_pylist():
        yield "user without a session"
    if len(set(tables["dim_user_rfm"]["rfm_segment"].to_pylist())) > 2:
        yield "several segments"


def troubles_over_time(tables):
    """What is difficult about the orders, days and states of some tables."""
    orders = {
        (order["session_id"], order["user_id"], order["order_time"])
        for order in tables["fct_orders"].to_pylist()
    }
    purchases = {
        (event["session_id"], event["user_id"], event["event_time"])
        for event in tables["fct_events"].to_pylist()
        if event["is_purchase"]
    }
    days = tables["fct_user_days"].to_pylist()
    dates = [day["event_date"] for day in days] or [date.min]
    entered = Counter(
        (version["user_id"], version["rfm_segment"])
        for version in tables["snap_user_rfm"].to_pylist()
        if version["rfm_segment"] != version["previous_segment"]
    )
    found = {
        "order of several seconds": purchases > orders,
        "orders seconds apart": any(
            order[:2] == other[:2] and (other[2] - order[2]).total_seconds() < 4
            for order, other in pairwise(sorted(orders))
        ),
        "order over midnight": any(day["purchases"] and not day["orders"] for day in days),
        "user of one day": 1 in Counter(day["user_id"] for day in days).values(),
        "dormant and resurrected users": any(
            period["dormant_users"] and period["resurrected_users"]
            for period in tables["metrics_lifecycle"].to_pylist()
        ),
        "years apart": (max(dates) - min(dates)).days > 366,
        "a third purchase day": 3
        in tables["metrics_repeat_purchase"]["purchase_number"].to_pylist(),
        "a segment left and come back to": max(entered.values(), default=0) > 1,
    }
    return {name for name, is_there in found.items() if is_there}
