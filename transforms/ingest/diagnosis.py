"""What a file is that has no header as it should be, and what to do with it."""

from __future__ import annotations

import re
from typing import Final

from transforms.ingest.grammar import BOM, COLUMNS, parse_event_time, split_fields
from transforms.ingest.local_files import shell_word

_PARQUET: Final = (
    "this is a Parquet file; write it as CSV: "
    'python3 -c "import polars, sys; '
    'polars.read_parquet(sys.stdin.buffer).write_csv(sys.stdout.buffer)" < {path} > NEW.csv'
)
_XZ: Final = "this is an xz file; decompress it: xz -d {path}"
_UTF_16: Final = "this is UTF-16 text; write it as UTF-8: iconv -f UTF-16 -t UTF-8 {path} > NEW.csv"
_WEB_PAGE: Final = (
    "this is a web page, not a CSV; open it in a browser to see why, and download the data again"
)
_LFS_POINTER: Final = (
    "this is a Git LFS pointer, which stands for the file; fetch that: git lfs pull"
)
_KINDS: Final = (
    (re.compile(rb"PAR1"), _PARQUET),
    (re.compile(rb"\xfd7zXZ\0"), _XZ),
    # With a mark, or by the zeros of its first letters.
    (re.compile(rb"\xff\xfe|\xfe\xff|\0?[a-zA-Z\"]\0[a-zA-Z]\0"), _UTF_16),
    (re.compile(rb"\s*<(?:!doctype|html|head|\?xml)", re.IGNORECASE), _WEB_PAGE),
    (re.compile(rb"version https://git-lfs"), _LFS_POINTER),
)
_SEPARATORS: Final = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_REWRITE: Final = (
    'python3 -c "import csv, sys; csv.writer(sys.stdout).writerows('
    """csv.reader(sys.stdin, delimiter='{separator}'))" < {path} > NEW.csv"""
)
_SHOWN_CHARACTERS: Final = 300


def recognize(head: bytes, path: str) -> str | None:
    """Say what a file is and what to do, by its first bytes; None where they may be a CSV's."""
    for magic, text in _KINDS:
        if magic.match(head):
            return text.format(path=shell_word(path))
    return None


def diagnose(line: bytes, path: str) -> str | None:
    """Say what a file is and what to do, by a first line that is no header.

    Args:
        line: The first line that is not blank, or its beginning.
        path: The file, for commands to try.

    Returns:
        One line, or None where there is nothing to add to what the grammar says.
    """
    if kind := recognize(line, path):
        return kind
    text = line.removeprefix(BOM).decode(errors="replace").rstrip("\r\n")
    if set(COLUMNS) <= set(text.split(",")):
        return None
    return _other_dialect(text, shell_word(path))


def _other_dialect(text: str, path: str) -> str | None:
    """Say in what dialect of CSV a first line is, and what to do.

    Args:
        text: The line.
        path: The file, as a word of a command.
    """
    if "\r" in text and _is_header(text.split("\r", 1)[0]):
        return (
            "its lines end in CR alone, as those of an old Mac; "
            f"write LF instead: tr '\\r' '\\n' < {path} > NEW.csv"
        )
    if _is_header(text):
        plain = ",".join(_plain_names(text, ","))
        return (
            "the header names the columns with other capitals or with spaces; "
            f"its first line must be: {plain[:_SHOWN_CHARACTERS]}"
        )
    for separator, name in _SEPARATORS.items():
        if _is_header(text, separator):
            shown = separator.encode("unicode_escape").decode()
            return (
                f"its fields are parted by {name}, not commas; write it anew, with commas, and a "
                f"point in numbers: {_REWRITE.format(separator=shown, path=path)}"
            )
    if any(parse_event_time(field.strip(' "')) for field in text.split(",")):
        return (
            "there is no header, the first line is a row; put a first line before it that names "
            f"the columns in their order, such as: {','.join(COLUMNS)}"
        )
    return None


def _plain_names(text: str, separator: str) -> list[str]:
    """The fields of a line without spaces and capitals; none where its quotes are broken."""
    if separator != ",":
        text = text.replace(separator, ",")
    try:
        return [name.strip(' "').lower() for name in split_fields(text)]
    except ValueError:
        return []


def _is_header(text: str, separator: str = ",") -> bool:
    """Whether a line would be a header if separator, capitals and spaces did not matter."""
    names = _plain_names(text, separator)
    return all(names.count(column) == 1 for column in COLUMNS)
