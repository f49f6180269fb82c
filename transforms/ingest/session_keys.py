"""Sessions as 128-bit keys, which are cheap to hash, compare and send; and their names again.

The key of a name that is a UUID, written in lower case, is that number, so that the key tells the
name. Any other name has a hash for its key, and goes along with it once a batch.
"""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
import polars as pl
from numba import types

from transforms.columnar.kernels import (
    Bytes,
    Flag,
    Integer,
    Word,
    Words,
    filled,
    given,
    helper,
    kernel,
    load_word,
)
from transforms.columnar.texts import fixed_width_text
from transforms.errors import RunError

SESSION_KEY: Final = ("session_high", "session_low")
"""The columns of a session's key: its high and its low 64 bits (UInt64); NULL for no session."""


SESSION_NAMES = pl.Schema(
    {"session_high": pl.UInt64(), "session_low": pl.UInt64(), "user_session": pl.String()}
)
"""Columns of a frame of the names that their keys do not tell."""


UUID_LENGTH: Final = 36


_DASH: Final = ord("-")


_EIGHTS: Final = Word(0x0808080808080808)


def key_of_name(name: str) -> tuple[int, int]:
    """The key of a name that is no UUID: BLAKE2b of its UTF-8 bytes, the same everywhere.

    >>> key_of_name("a session") == key_of_name("a session")
    True
    """
    digest = hashlib.blake2b(name.encode(), digest_size=16).digest()
    return int.from_bytes(digest[:8]), int.from_bytes(digest[8:])


def session_key(name: str) -> tuple[int, int, bool]:
    """The key of a session, and whether it tells the name.

    >>> session_key("00000000-0000-0001-0000-00000000000a")
    (1, 10, True)
    """
    text = np.frombuffer(name.encode() + bytes(8), np.uint8)
    if len(text) == UUID_LENGTH + 8:
        is_uuid, high, low = uuid_key(text, 0)
        if is_uuid:
            return int(high), int(low), True
    return *key_of_name(name), False


@helper
def hex_digits(word: Word) -> Integer:
    """The 32-bit number that eight lower-case hexadecimal digits write, or −1."""
    letters = (word >> Word(6)) & Word(0x0101010101010101)
    digits = (word & Word(0x0F0F0F0F0F0F0F0F)) + letters * Word(9)
    above_nine = ((digits + Word(0x0606060606060606)) >> Word(4)) & Word(0x0101010101010101)
    text = digits + Word(0x3030303030303030) + above_nine * Word(39)
    if text != word or digits & Word(0xF0F0F0F0F0F0F0F0):
        return -1
    pairs = (digits << Word(4) | digits >> Word(8)) & Word(0x00FF00FF00FF00FF)
    value = Word(0)
    for shift in (0, 16, 32, 48):
        value = value << Word(8) | (pairs >> Word(shift) & Word(0xFF))
    return np.int64(value)


@helper
def uuid_key(data: Bytes, start: Integer) -> tuple[Flag, Word, Word]:
    """The key of the UUID in 36 bytes of text: whether it is one, and its halves."""
    first = hex_digits(load_word(data, start))
    low_half = Word(0xFFFFFFFF)
    second = hex_digits(
        load_word(data, start + 9) & low_half | load_word(data, start + 14) << Word(32)
    )
    third = hex_digits(
        load_word(data, start + 19) & low_half | load_word(data, start + 24) << Word(32)
    )
    fourth = hex_digits(load_word(data, start + 28))
    is_uuid = (
        first >= 0
        and second >= 0
        and third >= 0
        and fourth >= 0
        and data[start + 8] == _DASH
        and data[start + 13] == _DASH
        and data[start + 18] == _DASH
        and data[start + 23] == _DASH
    )
    return (
        is_uuid,
        Word(first) << Word(32) | Word(second),
        Word(third) << Word(32) | Word(fourth),
    )


@kernel(types.void(given(types.uint64), given(types.uint64), filled(types.uint8, 2)))
def _write_uuids(high: Words, low: Words, texts: Bytes) -> None:
    """Write the UUIDs of keys, a row of 36 characters for each."""
    for row in range(len(high)):
        position = 0
        for half in range(2):
            word = high[row] if half == 0 else low[row]
            for digit in range(16):
                if position == 8 or position == 13 or position == 18 or position == 23:
                    texts[row, position] = _DASH
                    position += 1
                value = np.uint8(word >> Word(60 - 4 * digit) & Word(15))
                texts[row, position] = value + (48 if value < 10 else 87)
                position += 1


def session_texts(keys: pl.DataFrame, names: pl.DataFrame) -> pl.Series:
    """The names of sessions (String).

    Args:
        keys: `SESSION_KEY`, not NULL, each once.
        names: A `SESSION_NAMES` frame of at least those names that the keys do not tell.

    Raises:
        RunError: Two names have one key, which chance does not bring about.
    """
    texts = np.empty((keys.height, UUID_LENGTH), np.uint8)
    _write_uuids(keys["session_high"].to_numpy(), keys["session_low"].to_numpy(), texts)
    uuids = fixed_width_text(texts).alias("user_session")
    if not names.height:
        return uuids
    distinct = names.unique()
    if distinct.select(SESSION_KEY).is_duplicated().any():
        raise RunError(
            "two values of user_session have one BLAKE2b hash; nothing was published. "
            "Such values can only be made on purpose: look at where the input comes from."
        )
    named = keys.select(SESSION_KEY).join(
        distinct, on=SESSION_KEY, how="left", maintain_order="left"
    )
    return pl.select(pl.coalesce(named["user_session"], uuids)).to_series().alias("user_session")
