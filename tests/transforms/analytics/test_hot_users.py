"""Rows of users of whom a session shard has many are added up before they are sent."""

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tests.transforms.frames import NO_SUSPECTS, at, events, session_names
from transforms.analytics.catalogue import ProductSums
from transforms.analytics.hot_users import add_up_hot
from transforms.analytics.session_shard import session_shard
from transforms.analytics.user_days import combine_user_days
from transforms.rules import Rules


def rows_of(users):
    """Events of sessions of one event, an hour apart, every third of them a purchase."""
    return [
        {
            "user_id": user,
            "user_session": f"s{number}",
            "event_time": at(3600 * number),
            "event_type": "view" if number % 3 else "purchase",
        }
        for number, user in enumerate(users)
    ]


def by_user(rows):
    made = session_shard(
        events(*rows),
        session_names(*rows),
        NO_SUSPECTS,
        ProductSums(),
        rules=Rules(),
        shard=0,
    )
    return made.by_user


HOT = [
    *rows_of([7] * 48 + list(range(100, 120))),
    {"user_id": 7, "user_session": "late", "event_time": at(days=9)},
    *({"user_id": 8, "user_session": "late", "event_time": at(n, days=10)} for n in (1, 2)),
]
FEW = rows_of(range(60, 0, -1))


def test_a_hot_users_rows_are_added_up():
    made = by_user(HOT)
    days, sessions = made["user_days"], made["user_sessions"]
    assert days.filter(pl.col("user_id") == 7).height == 3
    assert sessions.filter(pl.col("user_id") == 7)["sessions"].to_list() == [49]
    assert days["sessions"].sum() == sessions["sessions"].sum() == 70
    assert days["orders"].sum() == made["orders"].height


def test_rows_that_repeat_no_user_stay_as_they_are():
    made = by_user(FEW)
    assert made["orders"].height == 20
    assert made["user_sessions"].height == 60

    only_views = by_user([{**row, "event_type": "view"} for row in FEW])
    assert only_views["user_days"].height == 60
    assert not only_views["user_days"]["user_id"].is_sorted()


@pytest.mark.parametrize("rows", [HOT, FEW], ids=["hot", "few"])
def test_what_is_added_up_combines_to_the_same(rows, monkeypatch):
    added_up = by_user(rows)
    monkeypatch.setattr("transforms.analytics.hot_users._MOST_DISTINCT", 0)
    as_it_is = by_user(rows)
    assert as_it_is["user_days"].height >= added_up["user_days"].height
    assert added_up["user_days"].schema == as_it_is["user_days"].schema
    assert added_up["user_sessions"].schema == as_it_is["user_sessions"].schema
    assert_frame_equal(
        combine_user_days(added_up["user_days"]), combine_user_days(as_it_is["user_days"])
    )
    totals = [
        frames["user_sessions"].group_by("user_id").sum().sort("user_id")
        for frames in (added_up, as_it_is)
    ]
    assert_frame_equal(*totals)


def test_nothing_is_added_up_of_nothing():
    empty = pl.DataFrame(schema={"user_id": pl.Int64})

    def refuse(rows):
        raise AssertionError(rows)

    assert add_up_hot(empty, ["user_id"], refuse).is_empty()
    days = pl.DataFrame({"user_id": [1, 1, 2, 3], "event_date": [at().date()] * 4})
    later = days.with_columns(pl.col("event_date") + pl.duration(days=pl.int_range(pl.len())))
    assert add_up_hot(later, ["user_id", "event_date"], refuse).height == 4
    assert add_up_hot(days, ["user_id", "event_date"], lambda rows: rows.unique()).height == 3
