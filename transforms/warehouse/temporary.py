"""Folders of a run below the temporary folder: held while it works, swept if it was killed."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from typing import Final

from transforms.errors import RunError
from transforms.owned_files import own_user, require_own
from transforms.warehouse.local import LOCK, locked

_YOUNG_SECONDS: Final = 60
"""A folder that is younger may be about to be held by whoever has made it."""


@contextmanager
def held(folder: Path) -> Iterator[Path]:
    """Hold a folder of this process, so that no sweep takes it; it goes away with the block."""
    with locked(folder):
        try:
            yield folder
        finally:
            rmtree(folder, ignore_errors=True)


def sweep(prefix: str) -> None:
    """Remove folders that dead runs held: this user's, not just made, and held by no process.

    Folders without a lock are of other programs and stay.

    Args:
        prefix: What the folders' names begin with.
    """
    parent = Path(tempfile.gettempdir())
    user = own_user(parent)
    for left in parent.glob(f"{prefix}*"):
        with suppress(RunError, OSError):
            require_own(left, user)
            is_ours = (left / LOCK).is_file()
            if is_ours and time.time() - left.stat().st_mtime > _YOUNG_SECONDS:
                with locked(left):
                    rmtree(left)
