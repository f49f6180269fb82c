"""The CDNOW sample: 2,357 customers of a shop for CDs, on whom the models were published."""

import datetime as dt
import os
import subprocess
import sys
import zipfile
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from tests.conftest import skip_or_fail

LOCK = Path(__file__).with_name("requirements-cdnow.lock")
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "estore-analytics/cdnow"
SAMPLE = "lifetimes/datasets/CDNOW_sample.txt"


def cdnow_wheel() -> Path:
    """The wheel that holds the sample; pip compares its hash, also of one that is cached."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--require-hashes", "--dest", str(CACHE)]
    command += ["--find-links", str(CACHE), "--requirement", str(LOCK)]
    CACHE.mkdir(parents=True, exist_ok=True)
    cached = list(CACHE.glob("*.whl"))
    done = subprocess.run(
        [*command, *(["--no-index"] if cached else [])],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if done.returncode:
        skip_or_fail(f"NO KNOWN ANSWERS: the CDNOW sample cannot be had from PyPI: {done.stderr}")
    (wheel,) = CACHE.glob("*.whl")
    return wheel


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
