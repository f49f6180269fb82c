"""What every test may use: the sample data, and the rule for tools a machine may lack."""

import os
import signal
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings

# Examples run the real thing, which may take its time. Where all must run (CI), the same examples
# run every time: a change is judged there, not luck.
settings.register_profile(
    "project",
    deadline=None,
    derandomize=os.environ.get("ESTORE_REQUIRE_ALL") == "1",
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("project")

# A shell ignores these for what it runs in the background, and so would the commands under test.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)


collect_ignore = ["orchestrators"]  # in environments of their own: make test-orchestrators


def skip_or_fail(reason: str) -> NoReturn:
    """Skip the test for something the machine lacks; fail it where all must run (CI)."""
    if os.environ.get("ESTORE_REQUIRE_ALL") == "1":
        pytest.fail(f"{reason} (ESTORE_REQUIRE_ALL=1 forbids to skip)", pytrace=False)
    pytest.skip(reason)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--sample-data",
        metavar="DIR",
        default=os.environ.get("ESTORE_SAMPLE_DATA"),
        help="folder with samples of the REES46 files (default: $ESTORE_SAMPLE_DATA)",
    )

    parser.addoption(
        "--campaign",
        metavar="N",
        type=int,
        default=20,
        help="runs of the fault campaign to kill; half as many calls fail, ten times as many files "
        "are damaged (default: 20)",
    )


def pytest_configure(config: pytest.Config) -> None:
    folder = config.getoption("--sample-data")
    if folder and not Path(folder).is_dir():
        message = f"--sample-data (or ESTORE_SAMPLE_DATA): {folder} is not a folder"
        raise pytest.UsageError(message)


@pytest.fixture(scope="session")
def sample_data(pytestconfig: pytest.Config) -> Path:
    """The folder with samples of the REES46 files."""
    folder = pytestconfig.getoption("--sample-data")
    if not folder:
        skip_or_fail("needs REES46 samples: give --sample-data=DIR or set ESTORE_SAMPLE_DATA")
    return Path(folder).resolve()
