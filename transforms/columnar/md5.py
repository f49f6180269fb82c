"""MD5 (RFC 1321) of many texts side by side.

Event ids are MD5 by contract. MD5 is a chain of 64 steps per 64 bytes that no processor can overlap
within one text, so each step is applied to `LANES` texts at once, which the compiler turns into
vector instructions. Tested against hashlib.
"""

from __future__ import annotations

import hashlib
import math
from typing import Final

import numpy as np

from transforms.columnar.kernels import Numbers, Word, helper

LANES: Final = 128


BLOCK_BYTES: Final = 64


START: Final = np.array([0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476], np.uint32)


_ROTATIONS: Final = np.array(
    (7, 12, 17, 22) * 4 + (5, 9, 14, 20) * 4 + (4, 11, 16, 23) * 4 + (6, 10, 15, 21) * 4, np.uint32
)


_SINES: Final = np.array([int(abs(math.sin(step + 1)) * 2**32) for step in range(64)], np.uint32)


@helper
def _rotated_sum(
    mixed: np.uint32,
    a: np.uint32,
    b: np.uint32,
    sine: np.uint32,
    word: np.uint32,
    rotation: np.uint32,
) -> np.uint32:
    """One step's new part; each operation is cut to 32 bits, for Numba adds in 64."""
    total = np.uint32(mixed + a + sine + word)
    return np.uint32(b + (np.uint32(total << rotation) | total >> np.uint32(32 - rotation)))


@helper
def add_block(words: Numbers, state: Numbers) -> None:
    """The 64 steps on one block of each text, not yet added to the state before it.

    Args:
        words: The block's 16 words of 32 bits, a row for each.
        state: The four parts of the digests so far, a row for each; changed.
    """
    for step in range(64):
        a, b, c, d = -step & 3, (1 - step) & 3, (2 - step) & 3, (3 - step) & 3
        sine, rotation = _SINES[step], _ROTATIONS[step]
        if step < 16:
            for lane in range(LANES):
                x, y, z = state[b, lane], state[c, lane], state[d, lane]
                state[a, lane] = _rotated_sum(
                    z ^ (x & (y ^ z)), state[a, lane], x, sine, words[step, lane], rotation
                )
        elif step < 32:
            word = (5 * step + 1) & 15
            for lane in range(LANES):
                x, y, z = state[b, lane], state[c, lane], state[d, lane]
                state[a, lane] = _rotated_sum(
                    y ^ (z & (x ^ y)), state[a, lane], x, sine, words[word, lane], rotation
                )
        elif step < 48:
            word = (3 * step + 5) & 15
            for lane in range(LANES):
                x, y, z = state[b, lane], state[c, lane], state[d, lane]
                state[a, lane] = _rotated_sum(
                    x ^ y ^ z, state[a, lane], x, sine, words[word, lane], rotation
                )
        else:
            word = 7 * step & 15
            for lane in range(LANES):
                x, y, z = state[b, lane], state[c, lane], state[d, lane]
                state[a, lane] = _rotated_sum(
                    y ^ (x | ~z), state[a, lane], x, sine, words[word, lane], rotation
                )


@helper
def hex_word(part: np.uint32) -> Word:
    """The eight lower-case hexadecimal digits of four bytes, as a word."""
    spread = Word(part)
    spread = (spread | spread << Word(16)) & Word(0x0000FFFF0000FFFF)
    spread = (spread | spread << Word(8)) & Word(0x00FF00FF00FF00FF)
    digits = spread >> Word(4) & Word(0x000F000F000F000F)
    digits |= (spread & Word(0x000F000F000F000F)) << Word(8)
    above_nine = (digits + Word(0x0606060606060606)) >> Word(4) & Word(0x0101010101010101)
    return digits + Word(0x3030303030303030) + above_nine * Word(39)


def hex_digest(text: str) -> str:
    """The MD5 of one text, as lower-case hex: for texts too few, or too long, for lanes."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
