"""The CDNOW sample: 2,357 customers of a shop for CDs, on whom the models were published."""

import datetime as dt
import zipfile
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from tests.wheels import wheel_of

LOCK = Path(__file__).with_name("requirements-cdnow.lock")
SAMPLE = "lifetimes/datasets/CDNOW_sample.txt"


def cdnow_wheel() -> Path:
    """The wheel that holds the sample."""
    return wheel_of(LOCK, "cdnow", "NO KNOWN ANSWERS: the CDNOW sample")


@pytest.fixture(scope="session")
def cdnow() -> pl.DataFrame:
    """Purchase days of the CDNOW sample: `user_id`, `event_date`, `revenue`."""
    with zipfile.ZipFile(cdnow_wheel()) as archive:
        rows = [line.split() for line in archive.read(SAMPLE).decode().splitlines()]
    assert len(rows) == 6_919
    return (
        pl.DataFrame(
            {
                "user_id": [int(row[1]) for row in rows],
                "event_date": [dt.datetime.strptime(row[2], "%Y%m%d").date() for row in rows],  # noqa: DTZ007
                "revenue": [Decimal(row[4]) for row in rows],
            },
            schema_overrides={"revenue": pl.Decimal(38, 9)},
        )
        .group_by("user_id", "event_date")
        .agg(pl.col("revenue").sum())
    )
