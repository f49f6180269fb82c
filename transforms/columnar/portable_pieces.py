"""Pieces of frames in few bytes, as every process understands them: for a distributed shuffle.

A frame is packed as the local shuffle packs it (`packing`), but for what only this process knows
the meaning of. In place of a process's own numbers a piece has numbers of its own: each distinct
product code, and each distinct text of a categorical column, is told once a piece, in a table
behind the rows. Tables are told of their schema alone, depth first: a frame of event batches is
the rows, the product codes, the category codes' texts, the brands' texts.

All pieces of a call share their layout, so that a piece costs little more than its bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
from numba import types

from transforms.columnar.arrays import (
    COMPATIBLE,
    NO_CODE,
    NO_ID,
    codes,
    texts_of_codes,
    with_nulls,
    without_nulls,
)
from transforms.columnar.kernels import Bytes, Integers, Numbers, filled, given, kernel
from transforms.columnar.packing import (
    ALIGNMENT,
    Layout,
    Part,
    Piece,
    can_pack,
    describe_schema,
    pack,
    schema_described,
    unpack,
)
from transforms.columnar.product_codes import PRODUCT_CODE, columns_of, number_products

_MAGIC: Final = b"piece\x01"  # an Arrow IPC stream begins with four bytes of ones

_HEAD: Final = struct.Struct(f"<{len(_MAGIC)}sI")  # then a compressed body of so many bytes
_BODY: Final = struct.Struct("<HHH")  # bytes of the schema; parts of all layouts; tables
_NUMBER: Final = np.dtype("<i8")

_CODEC: Final = pa.Codec("zstd", compression_level=1)

_TEXT: Final = pl.Schema({"text": pl.String()})
_PRODUCT_CODES: Final = pl.Schema(
    {
        "product_id": pl.Int64(),
        "category_id": pl.Int64(),
        "category_code": pl.Categorical(),
        "brand": pl.Categorical(),
    }
)


def can_encode(schema: pl.Schema) -> bool:
    """Whether frames of a schema can be encoded: all columns of fixed width, or of known texts."""
    known = (dtype for dtype in schema.dtypes() if dtype != pl.Categorical())
    return bool(schema) and all(
        can_pack(pl.Schema({"": dtype})) and not isinstance(dtype, pl.Categorical)
        for dtype in known
    )


def is_encoded(payload: bytes) -> bool:
    """Whether a payload is of `encode_pieces`."""
    return payload.startswith(_MAGIC)


class _Table(NamedTuple):
    """A table of some pieces.

    Attributes:
        layout: How its rows are packed.
        columns: The parts that take bytes, in the order in which a piece holds them.
        ends: Where the rows of each piece end.
        texts: The bytes of its texts, if it has any.
        text_ends: Where those of each piece end.
    """

    layout: Layout
    columns: list[npt.NDArray[Any]]
    ends: Integers
    texts: Bytes
    text_ends: Integers


def encode_pieces(
    frames: Sequence[pl.DataFrame], order: Numbers, ends: Integers
) -> Iterator[bytes]:
    """Encode the rows of frames of one schema, which `can_encode` allows, in pieces.

    Args:
        frames: The frames, at least one.
        order: All of their rows, one frame behind the other, in the order in which they are wanted.
        ends: Where in that order each piece ends, ascending; none is empty.
    """
    tables = list(_tables(frames, order, ends))
    schema = describe_schema(frames[0].schema)
    parts = [part for table in tables for of in table.layout.parts for part in of]
    layouts = np.array([(part.size, part.base, part.unit) for part in parts], _NUMBER)
    head = _BODY.pack(len(schema), len(parts), len(tables)) + schema + layouts.tobytes()
    bounds = np.array([ends for table in tables for ends in (table.ends, table.text_ends)])
    starts = np.hstack([np.zeros((len(bounds), 1), np.int64), bounds[:, :-1]])
    counts = np.ascontiguousarray((bounds - starts).T, _NUMBER)
    for counted, first, last in zip(counts, starts.T.tolist(), bounds.T.tolist(), strict=True):
        body = bytearray(head + counted.tobytes())
        for table, start, end in zip(tables, first[::2], last[::2], strict=True):
            body += bytes(-len(body) % ALIGNMENT)
            for column in table.columns:
                body += column[start:end].data
        for table, start, end in zip(tables, first[1::2], last[1::2], strict=True):
            body += table.texts[start:end].data
        yield _HEAD.pack(_MAGIC, len(body)) + _CODEC.compress(body, asbytes=True)


def _tables(frames: Sequence[pl.DataFrame], order: Numbers, ends: Integers) -> Iterator[_Table]:
    """The rows, and behind them what their numbers mean."""
    schema = frames[0].schema
    if schema == _TEXT:
        yield _text_table(frames[0]["text"], ends)
        return
    told: list[tuple[pl.DataFrame, Integers]] = []
    for name, dtype in schema.items():
        if name == PRODUCT_CODE:
            numbers = np.concatenate([frame[name].to_numpy() for frame in frames])
            numbered, distinct, distinct_ends = _number_within(numbers, order, ends)
            told.append((columns_of(distinct), distinct_ends))
        elif dtype == pl.Categorical():
            numbers = np.concatenate([codes(frame[name]) for frame in frames])
            numbers += np.uint32(1)  # 0 for NULL
            numbered, distinct, distinct_ends = _number_within(numbers, order, ends)
            texts = texts_of_codes(with_nulls(distinct - np.uint32(1), NO_CODE)).cast(pl.String)
            told.append((texts.alias("text").to_frame(), distinct_ends))
        else:
            continue
        frames = _with_column(frames, pl.Series(name, numbered))
    layout, columns = pack(frames, order)
    none = np.zeros(len(ends), np.int64)
    yield _Table(layout, list(columns), ends, np.empty(0, np.uint8), none)
    for frame, frame_ends in told:
        yield from _tables([frame], np.arange(frame.height, dtype=np.uint32), frame_ends)


def _with_column(frames: Sequence[pl.DataFrame], column: pl.Series) -> list[pl.DataFrame]:
    """Frames with a column of all their rows in place of one of the same name."""
    starts = accumulate((frame.height for frame in frames), initial=0)
    return [
        frame.with_columns(column.slice(start, frame.height))
        for start, frame in zip(starts, frames, strict=False)
    ]


def _text_table(texts: pl.Series, ends: Integers) -> _Table:
    """The table of some texts: their lengths, and their bytes."""
    array = texts.to_arrow(compat_level=COMPATIBLE)
    _, offsets, data = array.buffers()
    text_ends = np.frombuffer(offsets, np.int64)[array.offset :][: len(array) + 1]
    lengths = pl.Series("text", np.diff(text_ends)).set(texts.is_null(), None)
    layout, columns = pack([lengths.to_frame()], np.arange(len(texts), dtype=np.uint32))
    found = np.frombuffer(data or b"", np.uint8)
    return _Table(
        layout, list(columns), ends, found[text_ends[0] :], text_ends[ends] - text_ends[0]
    )


def _number_within(
    numbers: Numbers, order: Numbers, ends: Integers
) -> tuple[Numbers, Numbers, Integers]:
    """Number what occurs in each piece anew, from 0 on.

    Returns:
        For each row its number in its piece; the distinct numbers that were given, one piece behind
        the other; where those of each piece end.
    """
    places = np.full(int(numbers.max(initial=0)) + 1, -1, np.int64)
    within, distinct = np.empty(len(numbers), np.uint32), np.empty(len(numbers), np.uint32)
    distinct_ends = np.empty(len(ends), np.int64)
    count = _number_pieces(numbers, order, ends, places, within, distinct, distinct_ends)
    return within, distinct[:count], distinct_ends


@kernel(
    types.int64(
        *(given(types.uint32), given(types.uint32), given(types.int64), filled(types.int64)),
        *(filled(types.uint32), filled(types.uint32), filled(types.int64)),
    )
)
def _number_pieces(
    numbers: Numbers,
    order: Numbers,
    ends: Integers,
    places: Integers,
    within: Numbers,
    distinct: Numbers,
    distinct_ends: Integers,
) -> int:
    """Fill in what `_number_within` returns, and return how many distinct numbers there are.

    Args:
        numbers: Of all rows.
        order: The rows, piece by piece.
        ends: Where each piece ends.
        places: −1 for each number that may occur; filled with where it is among the distinct ones.
        within: Filled, by row.
        distinct: Filled.
        distinct_ends: Filled.
    """
    count = start = 0
    for piece in range(len(ends)):
        first = count
        for place in range(start, ends[piece]):
            row = order[place]
            number = numbers[row]
            if places[number] < first:
                places[number] = count
                distinct[count] = number
                count += 1
            within[row] = places[number] - first
        start = ends[piece]
        distinct_ends[piece] = count
    return count


def decode_pieces(payloads: Iterable[bytes]) -> pl.DataFrame:
    """The rows of pieces of one schema, at least one, one behind the other.

    Raises:
        ValueError: One of them is something else.
    """
    schema, tables = _found_tables([_decompressed(payload) for payload in payloads])
    frame, _ = _read(_schema(schema), iter(tables))
    return frame


def _decompressed(payload: bytes) -> Bytes:
    magic, size = _HEAD.unpack_from(payload)
    if magic != _MAGIC:
        raise ValueError("no piece of a frame")
    compressed = memoryview(payload)[_HEAD.size :]
    return np.frombuffer(_CODEC.decompress(compressed, decompressed_size=size), np.uint8)


@lru_cache(maxsize=64)
def _schema(described: bytes) -> pl.Schema:
    return schema_described(described)


@lru_cache(maxsize=64)
def _packed_schemas(described: bytes) -> list[pl.Schema]:
    """The schema of each table as it is packed."""

    def tables(schema: pl.Schema) -> Iterator[pl.Schema]:
        if schema == _TEXT:
            yield pl.Schema({"text": pl.Int64()})
            return
        numbered = [
            name
            for name, dtype in schema.items()
            if name == PRODUCT_CODE or dtype == pl.Categorical()
        ]
        yield pl.Schema({**schema, **dict.fromkeys(numbered, pl.UInt32())})
        for name in numbered:
            yield from tables(_PRODUCT_CODES if name == PRODUCT_CODE else _TEXT)

    return list(tables(_schema(described)))


@lru_cache(maxsize=4096)
def _layouts(described: bytes, numbers: bytes) -> list[Layout]:
    """The layouts of the tables of pieces that were encoded together."""
    parts = iter(np.frombuffer(numbers, _NUMBER).reshape(-1, 3).tolist())
    return [
        Layout(
            schema,
            tuple(
                tuple(Part(*next(parts)) for _ in range(3 if dtype == pl.Decimal else 2))
                for dtype in schema.dtypes()
            ),
        )
        for schema in _packed_schemas(described)
    ]


class _Found(NamedTuple):
    """A table of all pieces.

    Attributes:
        pieces: Its packed rows, of the pieces that have any.
        rows: How many each piece has.
        texts: The bytes of its texts, by piece.
    """

    pieces: list[Piece]
    rows: list[int]
    texts: list[Bytes]


def _found_tables(bodies: Sequence[Bytes]) -> tuple[bytes, list[_Found]]:
    """The described schema of some pieces, and their tables as `_tables` yields them."""
    sizes = [len(body) + -len(body) % ALIGNMENT for body in bodies]
    file = np.empty(sum(sizes), np.uint8)  # one for all, for one call of a kernel for all
    schema, found = b"", list[_Found]()
    for body, start in zip(bodies, accumulate(sizes, initial=0), strict=False):
        file[start : start + len(body)] = body
        schema_bytes, parts, tables = _BODY.unpack_from(body.data)
        at = _BODY.size + schema_bytes
        described = body[_BODY.size : at].tobytes()
        if not found:
            schema, found = described, [_Found([], [], []) for _ in range(tables)]
        elif described != schema:
            raise ValueError("pieces of different frames")
        end = at + 3 * parts * _NUMBER.itemsize
        layouts = _layouts(described, body[at:end].tobytes())
        at, end = end, end + 2 * tables * _NUMBER.itemsize
        counts = np.frombuffer(body[at:end].tobytes(), _NUMBER).tolist()
        for table, layout, rows in zip(found, layouts, counts[::2], strict=True):
            end += -end % ALIGNMENT
            table.rows.append(rows)
            table.pieces.append(Piece(layout, rows, file, start + end))
            end += rows * layout.row_bytes
        for table, size in zip(found, counts[1::2], strict=True):
            table.texts.append(body[end : end + size])
            end += size
        if end != len(body):
            raise ValueError("a piece that was cut")
    return schema, found


def _read(schema: pl.Schema, tables: Iterator[_Found]) -> tuple[pl.DataFrame, list[int]]:
    """The rows of the next table, with what those behind it tell; how many each piece has."""
    table = next(tables)
    rows = unpack(table.pieces)
    if schema == _TEXT:
        return _texts(rows["text"], table.texts).to_frame(), table.rows
    columns = []
    for name, dtype in schema.items():
        column = rows[name]
        if name == PRODUCT_CODE:
            told, counts = _read(_PRODUCT_CODES, tables)
            product, category, code, brand = told
            meant = number_products(
                product.to_numpy(), without_nulls(category, NO_ID), codes(code), codes(brand)
            )
            column = pl.Series(meant[_among_all(column, table.rows, counts)])
        elif dtype == pl.Categorical():
            told, counts = _read(_TEXT, tables)
            meant = codes(told["text"].cast(pl.Categorical))
            numbers = meant[_among_all(column, table.rows, counts)]
            column = texts_of_codes(with_nulls(numbers, NO_CODE))
        columns.append(column.alias(name))
    return pl.DataFrame(columns), table.rows


def _among_all(numbers: pl.Series, rows: Sequence[int], told: Sequence[int]) -> Integers:
    """Numbers within their pieces as numbers among what all pieces tell."""
    starts = np.cumsum([0, *told[:-1]])
    found: Integers = numbers.to_numpy() + np.repeat(starts, rows)
    return found


def _texts(lengths: pl.Series, texts: Sequence[Bytes]) -> pl.Series:
    """Texts of their lengths and bytes."""
    ends = np.cumsum(without_nulls(lengths, 0), dtype=np.int64)
    offsets = np.append(np.zeros(1, np.int64), ends)
    valid = None
    if lengths.null_count():
        valid = pa.py_buffer(np.packbits(lengths.is_not_null(), bitorder="little"))
    buffers = [valid, pa.py_buffer(offsets), pa.py_buffer(np.concatenate(texts))]
    array = pa.Array.from_buffers(pa.large_string(), len(lengths), buffers)
    return pl.Series("text", pl.from_arrow(array))
