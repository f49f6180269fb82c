"""Wheels that tests read and nobody installs: kept in the user's cache, compared by their hash."""

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import skip_or_fail

_CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "estore-analytics"


def wheel_of(lock: Path, folder: str, missing: str) -> Path:
    """The one wheel of a lock file; pip compares its hash, also of one that is cached.

    Args:
        lock: The lock file.
        folder: Of the wheel, in the cache.
        missing: What cannot be had from PyPI where the wheel cannot.
    """
    cache = _CACHE / folder
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--require-hashes", "--dest", str(cache)]
    command += ["--find-links", str(cache), "--requirement", str(lock)]
    cache.mkdir(parents=True, exist_ok=True)
    cached = list(cache.glob("*.whl"))
    done = subprocess.run(
        [*command, *(["--no-index"] if cached else [])],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if done.returncode:
        skip_or_fail(f"{missing} cannot be had from PyPI: {done.stderr}")
    (wheel,) = cache.glob("*.whl")
    return wheel
