"""Folders that go with a run: held while it works, swept by the next if it was killed."""

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


def sweep(prefix: str, parent: Path | None = None, *, is_ours: bool = False) -> None:
    """Remove folders that dead runs held: this user's, not just made, and held by no process.

    Args:
        prefix: What the folders' names begin with.
        parent: Where they are; None for the temporary folder.
        is_ours: No other program makes folders of such names. Otherwise those without a lock are
            somebody else's, and stay.
    """
    parent = parent or Path(tempfile.gettempdir())
    user = own_user(parent)
    for left in parent.glob(f"{prefix}*"):
        with suppress(RunError, OSError):
            require_own(left, user)
            is_known = is_ours or (left / LOCK).is_file()
            if is_known and time.time() - left.stat().st_mtime > _YOUNG_SECONDS:
                with locked(left):
                    rmtree(left)
