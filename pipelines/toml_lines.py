"""On which line of a TOML document each key stands, which Python's parser does not tell."""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from typing import Final

Path = tuple[str | int, ...]
"""The keys that lead to a value; the number of an item, from 0, in a list of tables."""

_STRING: Final = (
    r'"""(?:\\.|[^\\])*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'"
)
_TOKEN: Final = re.compile(
    rf"(?P<string>{_STRING})|(?P<comment>\#[^\n]*)|(?P<mark>[\[\]{{}}=.,\n])"
    r"|(?P<bare>[^\s\[\]{}=.,#\"']+)",
    re.DOTALL,
)


def lines_of_keys(text: str) -> dict[Path, int]:
    """The line, from 1, of each key and table header of a valid document.

    Keys within inline tables are not told: `line_of` gives the line of what holds them.
    """
    lines: dict[Path, int] = {}
    table: Path = ()
    items: dict[Path, int] = defaultdict(lambda: -1)
    for statement in _statements(text):
        line, tokens = statement[0][0], [token for _, token in statement]
        if tokens[0] == "[":
            is_item = tokens[1] == "["
            table = _within(_keys(tokens[2:-2] if is_item else tokens[1:-1]), items)
            lines.setdefault(table, line)
            if is_item:
                items[table] += 1
                # Lists within the one before are not continued.
                for path in [path for path in items if path[: len(table)] == table != path]:
                    del items[path]
                table = (*table, items[table])
            lines.setdefault(table, line)
        else:
            keys = (*table, *_keys(tokens[: tokens.index("=")]))
            for end in range(len(table) + 1, len(keys) + 1):
                lines.setdefault(keys[:end], line)
    return lines


def line_of(lines: dict[Path, int], path: Path) -> int:
    r"""The line of a key, or of the nearest that holds it.

    >>> line_of(lines_of_keys('[[a]]\nb = {c = 1}'), ("a", 0, "b", "c"))
    2
    """
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


def _statements(text: str) -> Iterator[list[tuple[int, str]]]:
    """The tokens of each header or assignment, with their lines, without comments."""
    statement: list[tuple[int, str]] = []
    depth, line, counted = 0, 1, 0
    is_value = False
    for match in _TOKEN.finditer(text):
        line += text.count("\n", counted, match.start())
        counted = match.start()
        found = match[0]
        if match["comment"]:
            continue
        if found == "\n":
            if statement and not depth:
                yield statement
                statement, is_value = [], False
            continue
        if match["mark"] and is_value:
            depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(found, 0)
        is_value = is_value or found == "="
        statement.append((line, found))
    if statement:
        yield statement


def _keys(tokens: list[str]) -> list[str]:
    """The keys of a dotted key."""
    return [next(iter(tomllib.loads(f"{key} = 0"))) for key in tokens if key != "."]


def _within(keys: list[str], items: dict[Path, int]) -> Path:
    """The path of a header: a list of tables on the way means its last table."""
    path: Path = ()
    for place, key in enumerate(keys):
        path = (*path, key)
        if place < len(keys) - 1 and path in items:
            path = (*path, items[path])
    return path
