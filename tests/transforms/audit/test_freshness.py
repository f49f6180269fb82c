"""Warnings of old, shrinking and odd input, and of days without events."""

from datetime import UTC, date, datetime

import polars as pl
import pytest

from transforms.audit.checks import quality_table, require_no_warnings, warned
from transforms.audit.freshness import check_days, check_last_day, check_volume, rows_of
from transforms.errors import RunError

STARTED = datetime(2019, 12, 1, 23, 30, tzinfo=UTC)
DAYS = pl.DataFrame({"event_date": [date(2019, 11, day) for day in (28, 25, 28)]})


def failing(checked: pl.DataFrame) -> dict[str, int]:
    assert set(checked["severity"]) == {"warn"}
    return dict(checked.select("check_name", "failing_rows").iter_rows())


@pytest.mark.parametrize(
    ("as_of", "max_age_days", "fresh", "missing"),
    [
        (date(2019, 11, 28), None, 0, 2),
        (date(2019, 11, 28), 3, 0, 2),
        (date(2019, 11, 28), 2, 3, 2),
        (date(2019, 11, 30), 2, 3, 4),
    ],
)
def test_age_and_gaps(as_of, max_age_days, fresh, missing):
    found = check_days(DAYS, as_of, STARTED, max_age_days)
    assert failing(found) == {"fresh": fresh, "missing_days": missing}


def test_no_events_are_neither_old_nor_missing():
    assert set(failing(check_days(DAYS.clear(), None, STARTED, 1)).values()) == {0}


def test_fewer_than_nine_tenths_of_the_rows_before():
    assert failing(check_volume(900, 1000)) == {"volume": 0}
    assert failing(check_volume(899, 1000)) == {"volume": 101}
    assert failing(check_volume(0, None)) == {"volume": 0}
    assert rows_of({"rows_read": 5}) == 5
    assert rows_of({}) is None
    assert rows_of(None) is None


def test_anomalies_count_on_the_last_day_alone():
    rows = pl.DataFrame(
        {
            "event_date": [date(2019, 11, 27), date(2019, 11, 28), date(2019, 11, 28)],
            "is_anomaly": [True, True, False],
        }
    )
    assert failing(check_last_day(rows)) == {"anomalous_day": 1}
    assert failing(check_last_day(rows.clear())) == {"anomalous_day": 0}


def test_warnings_stop_a_run_that_is_told_so():
    require_no_warnings(quality_table("r", [warned(("t", "fresh", 0))]))
    with pytest.raises(RunError, match=r"nothing was published.*: t: fresh \(3\)$"):
        require_no_warnings(quality_table("r", [warned(("t", "fresh", 3), ("t", "volume", 0))]))
