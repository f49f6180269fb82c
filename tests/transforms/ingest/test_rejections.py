"""Rejected rows, shown: where they stand, and what would have been accepted."""

from pathlib import Path

import polars as pl
import pytest

from tests.oracle.strategies import FIELDS_TO_TRY, GOOD_ROW, compressed
from transforms.ingest.blocks import Block
from transforms.ingest.files import line_number
from transforms.ingest.grammar import COLUMNS, Header
from transforms.ingest.parsing import REJECTED_BATCH, parse_block
from transforms.ingest.rejections import ACCEPTED, describe_examples, pick_examples
from transforms.schema import REJECT_REASONS

DOCS = Path(__file__).parents[3] / "docs" / "input.md"


def rejected(*rows: tuple[str, int, str, str]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=REJECTED_BATCH, orient="row")


def test_the_first_row_of_each_reason_is_shown():
    first = rejected(("b.csv", 3, "bad_price", "x" * 900), ("b.csv", 1, "bad_user_id", "y"))
    second = rejected(("a.csv", 9, "bad_price", "z"), ("c.csv", 0, "bad_user_id", "w"))
    picked = pl.concat(map(pick_examples, (first, second)))
    assert picked["raw"].str.len_chars().max() == 200
    expected = [("a.csv", 9, "bad_price", "z"), ("b.csv", 1, "bad_user_id", "y")]
    assert pick_examples(picked).rows() == pick_examples(pl.concat([first, second])).rows()
    assert pick_examples(picked).rows() == expected


def test_examples_say_where_they_stand_and_what_is_accepted(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"header\n\n1\r\n2,x\x1b\n")
    text = describe_examples(
        rejected(
            (str(path), 11, "bad_price", "2,x\x1b"),
            ("gone.csv", 70, "malformed_row", "'\n"),
            (str(path), 900, "bad_user_id", ""),
        )
    )
    assert text.splitlines() == [
        '  malformed_row: gone.csv, byte 70: "\'\\n"',
        f"    accepted: {ACCEPTED['malformed_row']}",
        f"  bad_price: {path}, line 4, byte 11: '2,x\\x1b'",
        f"    accepted: {ACCEPTED['bad_price']}",
        f"  bad_user_id: {path}, byte 900: ''",
        f"    accepted: {ACCEPTED['bad_user_id']}",
    ]


@pytest.mark.parametrize("suffix", ["", ".gz", ".zip"])
def test_lines_are_numbered_from_one(tmp_path, suffix):
    lines = [b"x" * (number % 300) for number in range(20_000)]
    path = tmp_path / f"a.csv{suffix}"
    path.write_bytes(compressed(b"\n".join(lines), suffix))
    for index in (0, 1, 7, 19_999):
        offset = len(b"\n".join([*lines[:index], b""]))
        assert line_number(str(path), offset) == index + 1


def test_every_reason_has_its_rule_and_the_docs_have_it_too():
    assert tuple(ACCEPTED) == REJECT_REASONS
    text = DOCS.read_text()
    table = "".join(f"| `{reason}` | {rule} |\n" for reason, rule in ACCEPTED.items())
    assert f"| reason | accepted |\n|---|---|\n{table}\n" in text
    assert all(f"`{column}`" in text for column in COLUMNS)


@pytest.mark.parametrize("reason", REJECT_REASONS[1:])
def test_what_a_rule_accepts_is_accepted(reason):
    column = reason.removeprefix("bad_")
    number = ("0", "9223372036854775807")
    accepted = {
        "event_time": (
            *("2019-10-01 00:00:00 UTC", "2019-10-01T00:00:00 UTC", "2019-10-01 00:00:00 GMT"),
            *(f"2019-10-01 00:00:00.5{zone}" for zone in ("Z", "+03:00", "+0300", "+03", "")),
        ),
        "event_type": ("view", "cart", "remove_from_cart", "purchase"),
        "category_id": (*number, ""),
        "price": ("0", "99999999999999999999.999999999"),
        "user_session": ("", "s_timeout_", *FIELDS_TO_TRY["brand"][:4]),
    }.get(column, number)
    position = COLUMNS.index(column)
    rows = [",".join((*GOOD_ROW[:position], text, *GOOD_ROW[position + 1 :])) for text in accepted]
    block = parse_block(Block.of("a.csv", 0, "\n".join(rows).encode()), Header(COLUMNS))
    assert (block.events.height, block.rejected.height) == (len(accepted), 0)
