"""Inputs, and the tables that the local runner makes of them."""

import os
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pytest

from pipelines import generate_events
from tests.conftest import skip_or_fail
from tests.pipelines.running import run
from transforms.ingest import files as ingest_files
from transforms.shuffle import sizing

SHARDS = 5
RANGE_BYTES = 1 << 16
DAMAGED = (
    b"2019-10-01 00:00:00 UTC,view,1\n"
    b"yesterday,view,1,1,,,1.00,1,s\n"
    b"2019-10-01 00:00:00 UTC,view,1,1,,,free,1,s\n"
)


@pytest.fixture(scope="session")
def prism() -> Path:
    """The program of Prism, as `make prism` leaves it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    program = cache / "estore-analytics" / f"prism-{beam.__version__}" / "prism"
    if not program.exists():
        skip_or_fail("needs Prism, Beam's runner in Go: make prism")
    return program


@pytest.fixture(autouse=True, scope="module")
def spread():
    """Many ranges and shards, as a large input has them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sizing, "session_shards", lambda size, workers: SHARDS)
        patch.setattr(sizing, "least_range", lambda shards: 0)
        patch.setattr(ingest_files, "RANGE_BYTES", RANGE_BYTES)
        yield


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[Path]:
    """A plain and a compressed file; the plain one has rows that are rejected."""
    folder = tmp_path_factory.mktemp("events")
    for name, rows in (("a.csv", 4000), ("b.csv.gz", 1500)):
        generate_events.main([f"--rows={rows}", "--seed=7", f"--output={folder / name}"])
    with (folder / "a.csv").open("ab") as file:
        file.write(DAMAGED)
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def expected(files, tmp_path_factory) -> dict[str, pa.Table]:
    """What the local runner publishes."""
    return run(files, tmp_path_factory.mktemp("local"))
