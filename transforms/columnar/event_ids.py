"""Event ids: MD5 of what identifies an event."""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl
from numba import types

from transforms.columnar.kernels import (
    AHEAD,
    Bytes,
    Integer,
    Integers,
    Numbers,
    Word,
    Words,
    filled,
    given,
    helper,
    kernel,
    load_word,
    prefetch,
    store_word,
    trailing_zeros,
)
from transforms.columnar.md5 import (
    BLOCK_BYTES,
    LANES,
    START,
    add_block,
    hex_digest,
    hex_word,
)
from transforms.columnar.product_codes import PRODUCT_CODE, known_codes, with_products
from transforms.schema import EVENT_TYPES

_BAR: Final = ord("|")


_DASH, _COLON, _SPACE = Word(ord("-")), Word(ord(":")), Word(ord(" "))


_DAY: Final = 86_400  # seconds


_TYPES: Final = np.frombuffer(
    "".join(f"{name}|" for name in EVENT_TYPES).encode() + bytes(8), np.uint8
)


_TYPE_ENDS: Final = np.cumsum([0, *(len(name) + 1 for name in EVENT_TYPES)])


_KEY_BYTES: Final = 4 * BLOCK_BYTES


_ENDING: Final = 9  # bytes that MD5 adds to a text at least


_OTHERS: Final = len("2019-10-01 00:00:00|remove_from_cart||") + 2 * len(str(2**63 - 1)) + 1


_LONGEST_SESSION: Final = _KEY_BYTES - _ENDING - _OTHERS


def event_ids(events: pl.DataFrame, user_sessions: pl.Series) -> Bytes:
    """The event_id of each event: lower-case hex MD5 of the key's text, joined by |.

    Args:
        events: `event_time`, `event_type`, `user_id`, `product code`, `session_number`.
        user_sessions: The text of each `session_number`.

    Returns:
        A row of 32 ASCII characters for each event.
    """
    sessions = events["session_number"].to_numpy()
    texts = user_sessions.to_arrow(compat_level=pl.CompatLevel.oldest())
    _, ends, data = texts.buffers()
    session_ends = np.frombuffer(ends, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    ids = np.empty((events.height, 4), np.uint64)
    _hash_events(
        events["event_time"].dt.epoch("s").to_numpy(),
        events["event_type"].to_physical().to_numpy(),
        events["user_id"].to_numpy(),
        events[PRODUCT_CODE].to_numpy(),
        known_codes().product_id,
        sessions,
        np.append(np.frombuffer(data or b"", np.uint8), np.zeros(8, np.uint8)),
        session_ends,
        ids,
    )
    texts_of_ids = ids.view(np.uint8)
    is_long = np.diff(session_ends) > _LONGEST_SESSION
    if is_long.any():
        for row in np.flatnonzero(is_long[sessions]).tolist():
            event = with_products(events.slice(row, 1)).row(0, named=True)
            key = key_text(event, user_sessions[int(sessions[row])])
            texts_of_ids[row] = np.frombuffer(hex_digest(key).encode(), np.uint8)
    return texts_of_ids


def key_text(event: dict[str, object], user_session: str) -> str:
    """The text whose MD5 is an event's id."""
    parts = (str(event["event_time"])[:19], event["event_type"])
    return "|".join(map(str, (*parts, event["user_id"], event["product_id"], user_session)))


@helper
def _digits(number: Integer) -> Word:
    """Eight digits of a number below 10^8, as a word (SWAR)."""
    fours = Word(number // 10_000) | Word(number % 10_000) << Word(32)
    hundreds = (fours * Word(10_486)) >> Word(20) & Word(0x0000007F0000007F)
    twos = hundreds | (fours - hundreds * Word(100)) << Word(16)
    tens = (twos * Word(103)) >> Word(10) & Word(0x000F000F000F000F)
    return (tens | (twos - tens * Word(10)) << Word(8)) + Word(0x3030303030303030)


@helper
def _write_number(keys: Bytes, position: Integer, number: Integer) -> Integer:
    """Write a number; return the position behind it. Up to 8 bytes behind that are changed."""
    if number >= 10**16:
        position = _write_number_below(keys, position, number // 10**16)
        store_word(keys, position, _digits(number // 10**8 % 10**8))
        store_word(keys, position + 8, _digits(number % 10**8))
        return position + 16
    if number >= 10**8:
        position = _write_number_below(keys, position, number // 10**8)
        store_word(keys, position, _digits(number % 10**8))
        return position + 8
    return _write_number_below(keys, position, number)


@helper
def _write_number_below(keys: Bytes, position: Integer, number: Integer) -> Integer:
    """Write a number below 10^8, as `_write_number` does."""
    digits = _digits(number)
    zeros = min(trailing_zeros(digits - Word(0x3030303030303030) | Word(1) << Word(56)) // 8, 7)
    store_word(keys, position, digits >> Word(8 * zeros))
    return position + 8 - zeros


@helper
def _date_words(days: Integer) -> tuple[Word, Word]:
    """`YYYY-MM-` and `DD` of the days since 1970, by Howard Hinnant's `civil_from_days`."""
    of_march = days + 719_468
    era = of_march // 146_097
    day_of_era = of_march - era * 146_097
    year_of_era = (
        day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096
    ) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month_of_march = (5 * day_of_year + 2) // 153
    month = (month_of_march + 2) % 12 + 1
    day = day_of_year - (153 * month_of_march + 2) // 5 + 1
    year = era * 400 + year_of_era + (month <= 2)
    digits = _digits(year * 10_000 + month * 100 + day)
    year_and_month = (
        digits & Word(0xFFFFFFFF)
        | _DASH << Word(32)
        | (digits >> Word(32) & Word(0xFFFF)) << Word(40)
        | _DASH << Word(56)
    )
    return year_and_month, digits >> Word(48)


@helper
def _time_word(second: Integer) -> Word:
    """`HH:MM:SS` of a second of the day."""
    digits = _digits(second // 3600 * 10_000 + second // 60 % 60 * 100 + second % 60)
    return (
        digits >> Word(16) & Word(0xFFFF)
        | _COLON << Word(16)
        | (digits >> Word(32) & Word(0xFFFF)) << Word(24)
        | _COLON << Word(40)
        | (digits >> Word(48)) << Word(48)
    )


@helper
def _copy(keys: Bytes, position: Integer, data: Bytes, start: Integer, end: Integer) -> Integer:
    """Copy bytes, eight at once; return the position behind them."""
    for place in range(start, end, 8):
        store_word(keys, position + place - start, load_word(data, place))
    return position + end - start


@kernel(
    types.void(
        given(types.int64),
        given(types.uint8),
        given(types.int64),
        given(types.uint32),
        given(types.int64),
        given(types.uint32),
        given(types.uint8),
        given(types.int64),
        filled(types.uint64, 2),
    )
)
def _hash_events(
    seconds: Integers,
    event_types: Bytes,
    users: Integers,
    product_codes: Numbers,
    products: Integers,
    sessions: Numbers,
    session_bytes: Bytes,
    session_ends: Integers,
    ids: Words,
) -> None:
    """Fill in the ids of events, but for those whose session has a very long name."""
    keys = np.zeros(LANES * _KEY_BYTES + 8, np.uint8)
    key_words = keys[: LANES * _KEY_BYTES].view(np.uint32).reshape(LANES, _KEY_BYTES // 4)
    blocks = np.zeros(LANES, np.int64)
    words = np.empty((BLOCK_BYTES // 4, LANES), np.uint32)
    state, added = np.empty((4, LANES), np.uint32), np.empty((4, LANES), np.uint32)
    day, year_and_month, day_of_month = np.int64(1) << 62, Word(0), Word(0)
    for first in range(0, len(seconds), LANES):
        lanes = min(LANES, len(seconds) - first)
        most = 0
        for lane in range(lanes):
            row, start = first + lane, lane * _KEY_BYTES
            session = np.int64(sessions[row])
            name, name_end = session_ends[session], session_ends[session + 1]
            if name_end - name > _LONGEST_SESSION:
                name_end = name
            if seconds[row] // _DAY != day:
                day = seconds[row] // _DAY
                year_and_month, day_of_month = _date_words(day)
            store_word(keys, start, year_and_month)
            store_word(keys, start + 8, day_of_month | _SPACE << Word(16))
            store_word(keys, start + 11, _time_word(seconds[row] - day * _DAY))
            keys[start + 19] = _BAR
            kind = np.int64(event_types[row])
            end = _copy(keys, start + 20, _TYPES, _TYPE_ENDS[kind], _TYPE_ENDS[kind + 1])
            ahead = product_codes[min(row + AHEAD, len(product_codes) - 1)]
            prefetch(products, np.int64(ahead))
            end = _write_number(keys, end, users[row])
            keys[end] = _BAR
            end = _write_number(keys, end + 1, products[product_codes[row]])
            keys[end] = _BAR
            end = _copy(keys, end + 1, session_bytes, name, name_end)
            length = end - start
            blocks[lane] = (length + _ENDING - 1) // BLOCK_BYTES + 1
            most = max(most, blocks[lane])
            # A 1 bit, zeros, and the number of bits end the text.
            store_word(keys, end, Word(0x80))
            for place in range(end + 8, start + blocks[lane] * BLOCK_BYTES, 8):
                store_word(keys, place, Word(0))
            store_word(keys, start + blocks[lane] * BLOCK_BYTES - 8, Word(8 * length))
        for part in range(4):
            for lane in range(LANES):
                state[part, lane] = START[part]
        for block in range(most):
            for lane in range(LANES):
                for word in range(16):
                    words[word, lane] = key_words[lane, 16 * block + word]
            added[:] = state
            add_block(words, added)
            for part in range(4):
                for lane in range(LANES):
                    if block < blocks[lane]:
                        state[part, lane] += added[part, lane]
        for lane in range(lanes):
            for part in range(4):
                ids[first + lane, part] = hex_word(state[part, lane])
