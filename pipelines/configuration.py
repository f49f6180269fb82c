"""The configuration file of a run: read once, before any work, and checked. Light to import.

A section is read by one function, its line in `_SECTIONS`; what a file may say is in
docs/configuration.md.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NoReturn, cast

from pipelines.toml_lines import Path as KeyPath
from pipelines.toml_lines import line_of, lines_of_keys
from transforms import funnels
from transforms.funnels import EventFilter, Exclusion, Funnel, Step
from transforms.rules import MOST_DAYS
from transforms.schema.values import EVENT_TYPES

_NAME: Final = "[a-z0-9_]{1,60}"
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_WINDOWS: Final = {"session": None, "user": 7 * _SECONDS["d"]}
_MOST_BYTES: Final = 1_000_000
_FILTER_KEYS: Final = ("event", *funnels.PRODUCT_PROPERTIES, "price_min", "price_max")
_PRICES_END: Final = 10**20
_IDS: Final = ("product_id", "category_id")


class ConfigurationError(Exception):
    """The file is wrong; the message says where, and what is expected."""


@dataclass(frozen=True)
class Configuration:
    """What a file says.

    Attributes:
        text: The file.
        funnels: Its funnels; those of a run without a configuration where it names none.
    """

    text: str
    funnels: tuple[Funnel, ...]

    @property
    def sha256(self) -> str:
        """The SHA-256 of the file, in hexadecimal digits."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def read_configuration(path: str) -> Configuration:
    """Read a file and check it.

    Args:
        path: A local file, or gs://BUCKET/NAME.

    Raises:
        ConfigurationError: It cannot be read, or is wrong; one line.
    """
    content = _read_object(path) if path.startswith("gs://") else _read_file(path)
    if len(content) > _MOST_BYTES:
        raise ConfigurationError(f"{path} is larger than a configuration may be, 1 MB")
    return parse_configuration(content, path)


def parse_configuration(content: bytes, path: str) -> Configuration:
    """Check what a file holds.

    Args:
        content: It.
        path: What the file is called in messages.

    Raises:
        ConfigurationError: It is wrong; one line.
    """
    try:
        text = content.decode()
        # Python's parser takes both ends of lines; hashes and line numbers should not differ.
        text = text.removeprefix("\ufeff").replace("\r\n", "\n")
        document = tomllib.loads(text, parse_float=Decimal)
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not a text in UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: not TOML: {error}") from error
    root = _Table(path, lines_of_keys(text), (), document)
    root.require_known(tuple(_SECTIONS))
    return Configuration(text, **{name: read(root) for name, read in _SECTIONS.values()})


def _read_file(path: str) -> bytes:
    try:
        return Path(path).expanduser().read_bytes()
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigurationError(f"{path} cannot be read ({reason})") from error


def _read_object(path: str) -> bytes:
    # Slow to import, and of use only here.
    from google.api_core.exceptions import GoogleAPIError  # noqa: PLC0415
    from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415
    from google.cloud import storage  # noqa: PLC0415

    bucket, _, name = path.removeprefix("gs://").partition("/")
    try:
        content: bytes = storage.Client().bucket(bucket).blob(name).download_as_bytes(timeout=20.0)
    except (GoogleAPIError, GoogleAuthError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigurationError(
            f"{path} cannot be read ({reason}); try: gcloud storage cat '{path}'"
        ) from error
    return content


# Values -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Table:
    """A table of the document.

    Attributes:
        file: The name of the file.
        lines: On which line each key stands.
        path: The keys that lead to it.
        values: What it holds.
    """

    file: str
    lines: dict[KeyPath, int]
    path: KeyPath
    values: Mapping[str, Any]

    def fail(self, key: str | None, message: str) -> NoReturn:
        """Raise an error about a key, or about the whole table where it is None."""
        path = self.path if key is None else (*self.path, key)
        where = ".".join(str(part) for part in path if isinstance(part, str)) or "file"
        raise ConfigurationError(
            f"{self.file}, line {line_of(self.lines, path)}: {where}: {message}"
        )

    def require_known(self, known: Sequence[str]) -> None:
        """Check that there is no other key."""
        for key in self.values:
            if key not in known:
                self.fail(key, f"unknown key; known here are {', '.join(known)}")

    def tables(self, key: str, most: int) -> list[_Table]:
        """The tables of a list, of none where the key is not there."""
        found = self.values.get(key, [])
        if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
            name = ".".join([part for part in self.path if isinstance(part, str)] + [key])
            self.fail(key, f"must be tables; write [[{name}]] before each")
        if len(found) > most:
            self.fail(key, f"there are {len(found):,}, and may be {most}")
        return [
            _Table(self.file, self.lines, (*self.path, key, place), each)
            for place, each in enumerate(found)
        ]

    def text(self, key: str, pattern: str, expected: str) -> str:
        """A text that is there and of a form."""
        if key not in self.values:
            self.fail(None, f"has no {key}; it must be {expected}")
        value = self.values[key]
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            self.fail(key, f"{value!r} is not {expected}")
        return value

    def one_of(self, key: str, known: Sequence[str], default: str) -> str:
        """One of a few texts."""
        value = self.values.get(key, default)
        if value not in known:
            self.fail(key, f"{value!r} is not one of {', '.join(known)}")
        return str(value)

    def some_of(self, key: str, known: Sequence[str]) -> tuple[str, ...]:
        """Several of a few texts, each once; none where the key is not there."""
        values = self.values.get(key, [])
        if not isinstance(values, list):
            self.fail(key, f"must be a list of some of {', '.join(known)}")
        for place, value in enumerate(values):
            if value not in known:
                self.fail(key, f"{value!r} is not one of {', '.join(known)}")
            if value in values[:place]:
                self.fail(key, f"{value!r} is there twice")
        return tuple(values)

    def whole(self, key: str, most: int) -> int:
        """A whole number that is there, from 1 on."""
        value = self.values.get(key)
        if type(value) is not int or not 1 <= value <= most:
            at = key if key in self.values else None
            self.fail(at, f"{key} must be a whole number, from 1 to {most}")
        return value

    def amount(self, key: str) -> Decimal | None:
        """A price, exactly as it is written; None where the key is not there."""
        value = self.values.get(key)
        if value is None:
            return None
        amount = Decimal(value) if type(value) in (int, Decimal) else Decimal("nan")
        if not amount.is_finite() or not 0 <= amount < _PRICES_END:
            self.fail(key, f"{str(value)!r} is not a price, a number from 0 on")
        return amount

    def ids_or_texts(self, key: str) -> tuple[str, ...]:
        """The values of a property of products: ids as numbers or as text, else text."""
        values = self.values[key]
        if not isinstance(values, list) or not values:
            self.fail(key, "must be a list of one value or more")
        if key in _IDS:
            texts = [str(value) if type(value) is int else value for value in values]
            for text in texts:
                if not isinstance(text, str) or not re.fullmatch("0|[1-9][0-9]{0,18}", text):
                    self.fail(key, f"{text!r} is not an id, a whole number")
        else:
            texts = values
            for text in texts:
                if not isinstance(text, str) or not text.strip():
                    self.fail(key, f"{text!r} is not a text")
        # Of events, the text of brands and categories is in lower case.
        return tuple(dict.fromkeys(text.lower() for text in texts))


# Funnels ------------------------------------------------------------------------------------------


def _read_funnels(root: _Table) -> tuple[Funnel, ...]:
    if "funnel" not in root.values:
        return funnels.DEFAULT_FUNNELS
    read: dict[str, Funnel] = {}
    for table in root.tables("funnel", most=100):
        funnel = _read_funnel(table)
        if funnel.name in read:
            table.fail("name", f"there is another funnel {funnel.name!r}; names must differ")
        read[funnel.name] = funnel
    return tuple(read.values())


def _read_funnel(table: _Table) -> Funnel:
    table.require_known(
        ("name", "scope", "hold", "order", "window", "breakdown", "step", "exclude")
    )
    name = table.text("name", _NAME, "1 to 60 of a-z, 0-9 and _")
    scope = table.one_of("scope", funnels.SCOPES, "session")
    order = table.one_of("order", funnels.ORDERS, "ordered")
    steps = _read_steps(table)
    exclusions = tuple(
        _read_exclusion(each, steps)
        for each in table.tables("exclude", most=funnels.MOST_EXCLUSIONS)
    )
    if order == "unordered" and exclusions:
        table.fail("exclude", "steps without an order have nothing between them; leave it out")
    return Funnel(
        name,
        steps,
        scope=cast(funnels.Scope, scope),
        hold=table.some_of("hold", funnels.PRODUCT_PROPERTIES),
        order=cast(funnels.Order, order),
        window=_read_window(table, _WINDOWS[scope]),
        breakdowns=table.some_of("breakdown", funnels.BREAKDOWNS),
        exclusions=exclusions,
    )


def _read_steps(table: _Table) -> tuple[Step, ...]:
    tables = table.tables("step", most=funnels.MOST_STEPS)
    if not tables:
        table.fail(None, "has no steps; write [[funnel.step]] for each, with a name")
    steps: dict[str, Step] = {}
    for each in tables:
        each.require_known(("name", *_FILTER_KEYS))
        name = each.text("name", r"\S(.{0,58}\S)?", "a text of 1 to 60 characters")
        if name in steps:
            each.fail("name", f"there is another step {name!r}; names must differ")
        steps[name] = Step(name, _read_filter(each))
    return tuple(steps.values())


def _read_exclusion(table: _Table, steps: Sequence[Step]) -> Exclusion:
    table.require_known(("after", "before", *_FILTER_KEYS))
    excluded = _read_filter(table)
    after, before = table.whole("after", len(steps)), table.whole("before", len(steps))
    if after >= before:
        table.fail("before", f"must be above after, {after}")
    for number in range(after + 1, before + 1):
        if excluded.may_meet(steps[number - 1].filter):
            name = steps[number - 1].name
            table.fail(
                None, f"an event may be excluded and take step {number}, {name!r}, at the same time"
            )
    return Exclusion(excluded, after, before)


def _read_filter(table: _Table) -> EventFilter:
    lowest, highest = table.amount("price_min"), table.amount("price_max")
    if lowest is not None and highest is not None and lowest > highest:
        table.fail("price_max", "must not be below price_min")
    if "event" in table.values and not table.some_of("event", EVENT_TYPES):
        table.fail("event", f"must be a list of some of {', '.join(EVENT_TYPES)}")
    return EventFilter(
        table.some_of("event", EVENT_TYPES),
        tuple(
            (name, table.ids_or_texts(name))
            for name in funnels.PRODUCT_PROPERTIES
            if name in table.values
        ),
        lowest,
        highest,
    )


def _read_window(table: _Table, default: int | None) -> int | None:
    if "window" not in table.values:
        return default
    expected = f"a whole number with s, m, h or d, up to {MOST_DAYS}d; for example 7d"
    text = table.text("window", "[1-9][0-9]{0,9}[smhd]", expected)
    seconds = int(text[:-1]) * _SECONDS[text[-1]]
    if seconds > MOST_DAYS * _SECONDS["d"]:
        table.fail("window", f"{text!r} is not {expected}")
    return seconds


_SECTIONS: Final[Mapping[str, tuple[str, Callable[[_Table], Any]]]] = {
    "funnel": ("funnels", _read_funnels),
}
"""The keys at the top of a file: the field of `Configuration`, and what reads it."""
