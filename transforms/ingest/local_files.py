"""Local files: what a name or a glob means, and how a name is shown.

Globs follow Python's rules, with one addition from the data lakes: names that begin with `_`, such
as `_SUCCESS`, are hidden as those that begin with a dot are.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Iterator
from glob import iglob
from pathlib import Path
from typing import Final

from transforms.errors import InputError
from transforms.ingest.compression import COMPRESSIONS, is_csv_name

_KINDS: Final = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def find_files(pattern: str) -> list[str]:
    """Find the files that a name or a glob means.

    A name that exists is that file, whatever it would mean as a glob; a folder means the CSV files
    in it. A glob matches files, not folders, and nothing that is hidden.

    Raises:
        InputError: There are none.
    """
    if Path(pattern).is_dir():
        found = [entry.path for entry in os.scandir(pattern) if _is_csv_file(entry)]
        if not found:
            endings = ", ".join(("", *COMPRESSIONS))
            raise InputError(
                f"--input: the folder {printable(pattern)} holds no CSV file "
                f"(.csv, alone or with {endings.removeprefix(', ')} behind it); "
                f"try: ls {shell_word(pattern)}"
            )
        return found
    if os.path.lexists(pattern):
        return [pattern]
    matched = list(iglob(pattern, recursive=True))  # noqa: PTH207 - Path's hides nothing
    found = [path for path in matched if not os.path.isdir(path) and _is_shown(path, pattern)]  # noqa: PTH112 - of many
    if not found:
        raise InputError(f"--input: {_nothing_found(pattern, matched)}")
    return found


def _is_csv_file(entry: os.DirEntry[str]) -> bool:
    return not entry.is_dir() and entry.name[0] not in "._" and is_csv_name(entry.name)


def literal_folder(pattern: str) -> str:
    """The beginning of a glob that is no glob, up to and with its last slash."""
    match = re.match(r"(?:[^*?\[]*/)?", pattern)
    return match[0] if match else ""


def is_visible(path: str, pattern: str) -> bool:
    """Whether no name that wildcards stand for is hidden, by a dot or an underscore.

    >>> is_visible("data/_SUCCESS", "data/*"), is_visible("data/_SUCCESS", "data/_*")
    (False, True)
    """
    parts = path.removeprefix(literal_folder(pattern)).split("/")
    return all(part[:1] not in _hidden_marks(pattern) for part in parts)


def _hidden_marks(pattern: str) -> tuple[str, ...]:
    """What names that are hidden begin with: none that the glob itself writes."""
    written = {part[:1] for part in pattern.split("/") if part not in (".", "..")}
    return tuple(mark for mark in ("_", ".") if mark not in written)


def _is_shown(path: str, pattern: str) -> bool:
    """Whether a local path is visible, and what it links to, such as `_current/fct_events`."""
    folder = os.path.realpath(literal_folder(pattern) or ".")
    real = os.path.relpath(os.path.realpath(path), folder)
    is_inside = not real.startswith("../")
    return is_visible(path, pattern) and (not is_inside or is_visible(real, _relative(pattern)))


def _relative(pattern: str) -> str:
    return pattern.removeprefix(literal_folder(pattern))


def _nothing_found(pattern: str, matched: list[str]) -> str:
    """Say why a glob has no files, and what to try."""
    shown = printable(pattern)
    if any(os.path.isdir(path) for path in matched):  # noqa: PTH112 - of many
        return f"{shown} matches only folders; add /*.csv, or give one folder by its name"
    if matched:
        return f"{shown} matches only names that begin with _ or ., which a wildcard leaves out"
    folder = literal_folder(pattern) or "."
    if not Path(folder).is_dir():
        return f"no file matches {shown}: there is no folder {printable(folder)}"
    return f"no file matches {shown}; try: ls {shell_word(folder)}"


def require_regular(path: str, mode: int) -> None:
    """Check that a path is a file: one that can be read in parts, and twice.

    Raises:
        InputError: It is something else.
    """
    if not stat.S_ISREG(mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "no file")
        raise InputError(
            f"{printable(path)}: this is {kind}, which cannot be read in parts; "
            "copy what it gives into a file"
        )


# Names --------------------------------------------------------------------------------------------


def printable(path: str) -> str:
    r"""A path as text that any table and terminal can hold.

    Bytes that are no UTF-8, and characters that are not printable, are written as escapes.

    >>> printable("caf\udce9\n.csv")
    'caf\\xe9\\n.csv'
    """
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(_escaped(text))


def _escaped(text: str) -> Iterator[str]:
    for character in text:
        is_plain = character.isprintable()
        yield character if is_plain else character.encode("unicode_escape").decode()


def shell_word(path: str) -> str:
    r"""A path as one word of a shell's command.

    >>> print(shell_word("a.csv"), shell_word("my data.csv"), shell_word("caf\udce9"))
    a.csv 'my data.csv' $'caf\xe9'
    """
    shown = printable(path)
    if shown == path:
        return shlex.quote(path)
    escaped = path.replace("\\", "\\\\").replace("'", "\\'")
    return f"$'{printable(escaped)}'"
