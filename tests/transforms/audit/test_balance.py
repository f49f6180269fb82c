"""Runs that keep nothing, or drop much."""

import pytest

from transforms.audit.balance import (
    check_dropped,
    counted,
    require_events,
    total_counts,
)
from transforms.errors import RunError


def counts(**rows: int) -> dict[str, int]:
    return total_counts(counted(rows))


def test_a_run_that_keeps_no_event_fails_and_says_what_became_of_the_rows():
    nothing = counts(rows_read=1_000, missing_session=900, rejected=100, bad_price=100)
    with pytest.raises(RunError) as failure:
        require_events(nothing, allow_empty=False)
    message = str(failure.value)
    assert "no event is left of 1,000 rows (missing session 900, rejected 100)" in message
    assert "--allow_empty" in message
    with pytest.raises(RunError, match="no event is left of 0 rows; nothing was published"):
        require_events(counts(), allow_empty=False)
    require_events(nothing, allow_empty=True)
    require_events(counts(rows_read=2, events_kept=1, rejected=1), allow_empty=False)


@pytest.mark.parametrize(("ratio", "failing"), [(0.5, 0), (0.49, 5), (0, 5), (1, 0)])
def test_a_large_share_of_dropped_rows_is_warned_of(ratio, failing):
    some = counts(
        rows_read=10, events_kept=4, rejected=1, duplicate=2, missing_session=2,
        multi_brand_product=1,
    )  # fmt: skip
    assert check_dropped(some, ratio).rows() == [
        ("fct_events", "few_rows_dropped", "warn", failing)
    ]


def test_no_rows_are_no_dropped_rows():
    assert check_dropped(counts(), 0)["failing_rows"].to_list() == [0]
