"""Warnings of odd dates and of words for NULL: when they speak, and when they do not."""

from datetime import UTC, date, datetime

import polars as pl
import pytest

from transforms.analytics.null_words import NullWords, products_of_second_null_word
from transforms.audit.balance import counted, total_counts
from transforms.audit.plausibility import (
    EXPLANATIONS,
    check_dates,
    check_null_words,
    null_word_count,
)
from transforms.ingest.batch import ROWS, event_batch

STARTED = datetime(2019, 12, 1, 23, 30, tzinfo=UTC)
MAIN = {date(2019, 11, 29): 4000, date(2019, 11, 30): 6000}


def failing(days: dict[date, int] | list[tuple[date, int]]) -> dict[str, int]:
    rows = list(days.items()) if isinstance(days, dict) else days
    frame = pl.DataFrame(
        rows, schema={"event_date": pl.Date, "events": pl.Int64}, orient="row"
    ).sample(fraction=1, shuffle=True, seed=1)
    found = check_dates(frame, STARTED)
    assert set(found["severity"]) == {"warn"}
    assert set(found["table_name"]) == {"fct_events"}
    return dict(found.select("check_name", "failing_rows").iter_rows())


@pytest.mark.parametrize(
    ("added", "future", "isolated"),
    [
        ({}, 0, 0),
        ({date(2019, 12, 1): 3}, 0, 0),  # the day on which the run began
        ({date(2019, 12, 2): 3}, 3, 0),
        ({date(2099, 1, 1): 1}, 1, 1),
        ({date(2099, 1, 1): 1, date(2099, 1, 2): 2}, 3, 3),  # neighbours, apart together
        ({date(2099, 1, 1): 1, date(1970, 1, 1): 2}, 1, 3),
        ({date(1970, 1, 1): 11}, 0, 0),  # 0.11 % are not few
        ({date(1970, 1, 1): 10}, 0, 10),
        ({date(2018, 11, 29): 1}, 0, 0),  # 365 days before
        ({date(2018, 11, 28): 1}, 0, 1),  # 366
    ],
)
def test_days_to_come_and_days_apart_are_warned_of_by_their_events(added, future, isolated):
    assert failing(MAIN | added) == {"future_event": future, "isolated_date": isolated}


def test_a_day_at_the_edge_of_the_others_does_not_lie_apart():
    days = MAIN | {date(2019, 12, 1): 1, date(2025, 1, 1): 100}
    assert failing(days)["isolated_date"] == 0


def test_days_of_several_shards_add_up():
    assert failing([*MAIN.items(), *[(date(1970, 1, 1), 6)] * 2])["isolated_date"] == 0
    assert failing([*MAIN.items(), *[(date(1970, 1, 1), 5)] * 2])["isolated_date"] == 10


def test_no_days_are_not_odd():
    assert failing({}) == {"future_event": 0, "isolated_date": 0}


# Words for NULL -----------------------------------------------------------------------------------


def batch(*rows: tuple[int, str | None, str | None, str | None]):
    """An event batch of (product_id, brand, category_code, user_session)."""
    frame = pl.DataFrame(
        {
            "event_time": [datetime(2019, 10, 1, tzinfo=UTC)] * len(rows),
            "event_type": ["view"] * len(rows),
            "product_id": [row[0] for row in rows],
            "category_id": [None] * len(rows),
            "category_code": [row[2] for row in rows],
            "brand": [row[1] for row in rows],
            "price": [1] * len(rows),
            "user_id": [1] * len(rows),
            "user_session": [row[3] for row in rows],
        },
        schema=ROWS,
    )
    return event_batch(frame)


def test_rows_with_words_for_null_are_counted_by_column():
    words = NullWords()
    sound = batch((1, "acme", "a.b", "s"), (2, None, None, None), (3, "nano", "nullable", "no"))
    assert words.count(*batch((99, None, None, "s"))) == {}, "before there is a text"
    assert words.count(*sound) == {}
    found = batch(
        (1, "nan", "a.b", "s"),
        (2, "NULL", "None", r"\N"),
        (3, r"\n", None, "NaN"),
        (3, r"\n", None, "s"),
    )
    assert words.count(*found) == {"brand": 4, "category_code": 1, "user_session": 2}
    assert words.count(*sound) == {}, "of other batches"


@pytest.mark.parametrize(("rows", "failed"), [(1, 0), (2, 2)])
@pytest.mark.parametrize("column", ["brand", "category_code", "user_session"])
def test_more_than_one_row_in_a_thousand_is_warned_of(column, rows, failed):
    counts = total_counts(counted({"rows_read": 1000, null_word_count(column): rows}))
    found = check_null_words(counts, second_brands=3)
    failures = dict(found.filter(pl.col("failing_rows") > 0)["check_name", "failing_rows"].rows())
    products = {"null_word_second_brand": 3} if column == "brand" else {}
    assert failures == ({null_word_count(column): rows} | products if failed else {})
    assert set(found["severity"]) == {"warn"}


def test_products_count_that_only_a_word_makes_of_several_brands():
    brands = pl.DataFrame(
        [
            *((1, "acme"), (1, "nan")),
            *((2, "acme"), (2, "bolt"), (2, "nan")),  # of several without it
            *((3, "null"), (3, "None")),
            *((4, "acme"), (4, "bolt")),
        ],
        schema={"product_id": pl.Int64, "brand": pl.Categorical},
        orient="row",
    )
    assert products_of_second_null_word(brands) == 2
    assert products_of_second_null_word(brands.clear()) == 0


def test_every_warning_is_explained():
    dates = check_dates(pl.DataFrame(schema={"event_date": pl.Date, "events": pl.Int64}), STARTED)
    words = check_null_words(total_counts(counted({})), 0)
    assert {*dates["check_name"], *words["check_name"]} <= EXPLANATIONS.keys()
