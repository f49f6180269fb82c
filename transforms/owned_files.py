"""Files and folders of this program where other users of the machine can write too.

What is opened by name there may be a link that somebody planted. So nothing is followed: what is
not a plain file or folder of this user is refused.
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from transforms.errors import RunError


def no_follow(path: str, flags: int) -> int:
    """An `opener` for `open`: refuses links, and makes files that only their owner can read.

    Raises:
        OSError: The path is a link (ELOOP).
    """
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def own_user(folder: Path) -> int:
    """The user that files of this process belong to in a folder.

    Some file systems give all files to one user, whoever makes them.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            return os.fstat(file.fileno()).st_uid
    except OSError:  # a full disk
        return os.geteuid()


def require_own(path: Path, user: int) -> None:
    """Check that a path, if there is something, is a plain file or folder of a user, and no link.

    Raises:
        RunError: It is a link, a device or another user's.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if stat.S_ISLNK(found.st_mode):
        problem = "is a link, which this program does not make there"
    elif not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        problem = "is no plain file or folder"
    elif found.st_uid != user:
        problem = f"belongs to another user (number {found.st_uid})"
    else:
        return
    raise RunError(
        f"{path} {problem}. Remove it if it is not of use, run as the user who made this "
        "warehouse, or choose another --output."
    )
