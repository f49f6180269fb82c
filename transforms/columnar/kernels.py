"""Compiled functions: loops over arrays where a chain of vectorised steps reads memory too often.

A kernel is Python that Numba compiles for the processor it runs on. It takes and fills arrays, lets
go of the interpreter's lock, and touches nothing else. Its signature is given, so that a module's
kernels are compiled when it is imported for the first time; later processes find them in a cache.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar, cast

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import config, njit, types
from numba.extending import intrinsic

Bytes = npt.NDArray[np.uint8]


Integers = npt.NDArray[np.int64]


Numbers = npt.NDArray[np.uint32]


Words = npt.NDArray[np.uint64]


Slots = npt.NDArray[np.int32]


Word = np.uint64


Integer = int | np.int64


Flag = bool | np.bool_


Flags = npt.NDArray[np.bool_]
"""What kernels take and give: arrays by the size of their items, integers and truth values."""


Parameters = ParamSpec("Parameters")


Result = TypeVar("Result")


def _cache_folder() -> Path:
    """Where compiled kernels are kept: one folder for each state of their sources.

    Numba itself looks only at the file of the kernel, not at those of what it calls. A folder that
    cannot be written, as in an image, is read through a copy that goes with the process.
    """
    sources = hashlib.sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        source = path.read_bytes()
        if b"@kernel" in source or b"@helper" in source:
            sources.update(source)
    name = f"estore-analytics/kernels-{sources.hexdigest()[:16]}"
    folder = None
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / name
        if not folder.exists() and sys.stderr.isatty():
            print("compiling for this machine, once: about 20 seconds", file=sys.stderr)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError) as error:  # no home, or a read-only one
        copy = Path(tempfile.mkdtemp(prefix="estore-analytics-kernels-"))
        atexit.register(shutil.rmtree, copy, ignore_errors=True)
        with suppress(OSError):
            if folder is not None and any(folder.iterdir()):
                return shutil.copytree(folder, copy, dirs_exist_ok=True)
        _say_not_kept(_reason(error))
        return copy


@functools.cache
def _say_not_kept(reason: str) -> None:
    """Say, once, why each run takes long to begin, and what to do."""
    print(
        f"customer-analytics: compiled code cannot be kept ({reason}), so each run compiles for "
        "a minute; set XDG_CACHE_HOME to a folder that can be written",
        file=sys.stderr,
    )


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


_CACHE: Final = _cache_folder()
config.CACHE_DIR = str(_CACHE)  # type: ignore[attr-defined] # made when it is imported


def given(dtype: Any, dimensions: int = 1) -> types.Array:
    """The type of an array that a kernel only reads."""
    return types.Array(dtype, dimensions, "C", readonly=True)


def filled(dtype: Any, dimensions: int = 1) -> types.Array:
    """The type of an array that a kernel writes."""
    return types.Array(dtype, dimensions, "C")


def kernel(
    signature: Any,
) -> Callable[[Callable[Parameters, Result]], Callable[Parameters, Result]]:
    """Compile a function for one signature, or find it in the cache.

    A cache that is damaged is made anew; one that cannot be written is left out.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}

    def compiled(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        cached = njit(signature, cache=True, **options)
        try:
            return cast(Callable[Parameters, Result], cached(function))
        except Exception:  # noqa: BLE001 - what is read may be anything
            for path in _CACHE.rglob(f"*.{function.__qualname__}-*.nb*"):
                path.unlink(missing_ok=True)
        try:
            return cast(Callable[Parameters, Result], cached(function))
        except OSError as error:
            _say_not_kept(_reason(error))
        return cast(Callable[Parameters, Result], njit(signature, **options)(function))

    return compiled


def helper(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """A function that kernels call."""
    return cast(Callable[Parameters, Result], njit(error_model="numpy")(function))


WINDOW: Final = 64
"""Bytes that `equal_bytes` looks at."""


AHEAD: Final = 16
"""Rows for which `prefetch` is told early what they will look up; a power of two."""


HIGH_BITS: Final = Word(0x8080808080808080)


_LOW_BITS: Final = Word(0x7F7F7F7F7F7F7F7F)


_HASH_FACTOR: Final = Word(0x9E3779B97F4A7C15)


_WORD_POINTER: Final = ir.PointerType(ir.IntType(64))


_BYTE_POINTER: Final = ir.PointerType(ir.IntType(8))


_INDEX: Final = ir.IntType(32)


_BYTES: Final = ir.VectorType(ir.IntType(8), WINDOW)


def _load_word(_typing: Any, data: Any, _position: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        start = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        pointer = builder.bitcast(builder.gep(start, [arguments[1]]), _WORD_POINTER)
        return builder.load(pointer, align=1)

    return types.uint64(data, types.int64), generate


def _store_word(_typing: Any, data: Any, _position: Any, _word: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        start = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        pointer = builder.bitcast(builder.gep(start, [arguments[1]]), _WORD_POINTER)
        builder.store(arguments[2], pointer, align=1)
        return context.get_dummy_value()

    return types.void(data, types.int64, types.uint64), generate


def _trailing_zeros(_typing: Any, _word: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


def _equal_bytes(_typing: Any, data: Any, _position: Any, _byte: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        start = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        pointer = builder.bitcast(builder.gep(start, [arguments[1]]), ir.PointerType(_BYTES))
        one = builder.insert_element(ir.Constant(_BYTES, ir.Undefined), arguments[2], _INDEX(0))
        all_equal = builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(_INDEX, WINDOW), 0))
        equal = builder.icmp_unsigned("==", builder.load(pointer, align=1), all_equal)
        return builder.bitcast(equal, ir.IntType(WINDOW))

    return types.uint64(data, types.int64, types.uint8), generate


def _count_bits(_typing: Any, _word: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), generate


def _prefetch(_typing: Any, data: Any, _item: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        start = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        pointer = builder.bitcast(builder.gep(start, [arguments[1]]), _BYTE_POINTER)
        kind = ir.FunctionType(ir.VoidType(), [_BYTE_POINTER, _INDEX, _INDEX, _INDEX])
        fetch = builder.module.declare_intrinsic("llvm.prefetch", [_BYTE_POINTER], kind)
        to_read, into_all_caches, data_not_code = (ir.Constant(_INDEX, bits) for bits in (0, 3, 1))
        builder.call(fetch, [pointer, to_read, into_all_caches, data_not_code])
        return context.get_dummy_value()

    return types.void(data, types.int64), generate


load_word = cast(Callable[[Bytes, Integer], Word], intrinsic(_load_word))
"""The eight bytes of an array from any position on, the first the lowest; all must exist."""


store_word = cast(Callable[[Bytes, Integer, Word], None], intrinsic(_store_word))
"""Set eight bytes of an array, the lowest first; all must exist."""


trailing_zeros = cast(Callable[[Word], int], intrinsic(_trailing_zeros))
"""The number of zero bits below the lowest one of a word that is not 0."""


count_bits = cast(Callable[[Word], int], intrinsic(_count_bits))
"""The number of bits of a word that are 1."""


prefetch = cast(Callable[[npt.NDArray[Any], Integer], None], intrinsic(_prefetch))
"""Have an item of an array brought into the caches, counted over all its dimensions.

A loop that looks up random rows of a large table asks for them some rows ahead: it would wait for
memory at each of them otherwise, for the time of a hundred instructions.
"""


equal_bytes = cast(Callable[[Bytes, Integer, np.uint8], Word], intrinsic(_equal_bytes))
"""A bit for each byte of a window of an array, the first the lowest: 1 where it is the given one.

All bytes of the window must exist. (One vector instruction, or a few.)
"""


@helper
def zero_bytes(word: Word) -> Word:
    """The high bit of every byte that is 0."""
    return ~(((word & _LOW_BITS) + _LOW_BITS) | word | _LOW_BITS)


@helper
def mixed(hashed: Word, word: Word) -> Word:
    """Take one more word into a hash: Fibonacci hashing, the high half first."""
    product = (hashed ^ word) * _HASH_FACTOR
    return product ^ (product >> Word(32))


@helper
def occupy(slots: Slots, used_slots: Integer, hashed: Word, number: Integer) -> None:
    """Put a number into the first free one (−1) of the slots in use, a power of two."""
    slot = np.int64(hashed & Word(used_slots - 1))
    while slots[slot] >= 0:
        slot = (slot + 1) & (used_slots - 1)
    slots[slot] = number
