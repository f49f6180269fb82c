"""Who touched which category, against what the contract says, row by row."""

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transforms.frames import at, events, flags_of, session_names
from transforms.analytics.category_exposures import category_exposures
from transforms.analytics.cleaning import clean

ROWS = st.lists(
    st.builds(
        lambda product, category, user, session: {
            "product_id": product,
            "category_id": category,
            "user_id": user,
            "user_session": session,
        },
        st.integers(1, 4),
        st.sampled_from([0, 1, None]),
        st.sampled_from([7, 7, 7, 100, 8]),
        st.sampled_from(["a", "b", "c"]),
    ),
    max_size=25,
).map(lambda rows: [{**row, "event_time": at(second)} for second, row in enumerate(rows)])
SHARD = 3


@pytest.mark.parametrize("ambiguous", [(), (2,), (1, 2, 3, 4)])
@given(rows=ROWS)
def test_users_and_sessions_are_told_once_for_what_they_touched(ambiguous, rows):
    cleaned = clean(events(*rows), session_names(*rows), flags_of())
    found = category_exposures(cleaned.events, flags_of(*ambiguous), SHARD)
    assert not found.is_duplicated().any()

    kept = cleaned.events["session_number"]
    number_of = {cleaned.user_sessions[number]: number for number in kept.unique().to_list()}
    users = defaultdict(set)
    for row in rows:
        users[row["user_session"]].add(row["user_id"])
    of_users, of_sessions, holders = set(), set(), {}
    for row in rows:
        is_ambiguous = row["product_id"] in ambiguous
        topic = (
            None if is_ambiguous else row["category_id"],
            row["product_id"] if is_ambiguous else None,
        )
        session = (SHARD << 32) + number_of[row["user_session"]]
        of_users.add((row["user_id"], *topic))
        of_sessions.add((session, *topic))
        holders[session] = max(users[row["user_session"]])
    columns = ("category_id", "product_id")
    told = found.filter("is_user").select("user_id", *columns)
    assert set(told.rows()) == of_users
    told = found.drop_nulls("session").select("session", *columns)
    assert sorted(told.rows(), key=repr) == sorted(of_sessions, key=repr)
    told = found.drop_nulls("session").select("session", "user_id")
    assert all(holders[session] == user for session, user in told.rows())
