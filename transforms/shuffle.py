"""How frames cross a shuffle.

A named frame, `(name, frame)`, is cut by shard, pieces of the same shard are merged until they are
worth sending, and what crosses the runner is `(shard, (name, payload))`. A payload is bytes: the
frame in Arrow IPC, or, where all workers are threads of one process, a reference to where the frame
was appended to a spill file. The second keeps the memory of a local run constant.
"""

from __future__ import annotations

import io
import os
import struct
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Protocol, cast

import apache_beam as beam
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.coders import Coder, registry
from apache_beam.metrics import Metrics
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue
from numba import types

from transforms.events import texts_of_codes
from transforms.kernels import Integers, Numbers, Word, Words, filled, given, kernel

NamedFrame = tuple[str, pl.DataFrame]
Payload = tuple[str, bytes]
Group = tuple[int, Iterable[Payload]]
"""A shard's number and what crossed the shuffle for it."""

ShardKey = Callable[[pl.DataFrame], pl.Series]
"""From a frame to a UInt64 series: rows of equal keys meet in one shard."""

_GOLDEN_RATIO: Final = np.uint64(0x9E3779B97F4A7C15)
_PIECE_BYTES: Final = 256 << 10
_BUFFER_BYTES: Final = (16 << 20, 96 << 20)
_INLINE_BYTES: Final = 1 << 20
_INLINE_LIMIT: Final = 20 << 20  # of one payload; engines slow down or refuse far larger ones


class FrameCoder(Coder):
    """Encodes a frame as an Arrow IPC stream, for runners that store it between stages."""

    def encode(self, value: pl.DataFrame) -> bytes:
        """Encode a frame."""
        return encode_frame(value, "lz4")

    def decode(self, encoded: bytes) -> pl.DataFrame:
        """Decode a frame."""
        return decode_frame(encoded)

    def estimate_size(self, value: pl.DataFrame) -> int:
        """The frame's bytes; Beam asks for many elements and would encode each to find out."""
        return int(value.estimated_size())

    def is_deterministic(self) -> bool:
        """Frames are never keys."""
        return False


registry.register_coder(pl.DataFrame, FrameCoder)


def in_global_window(value: Any) -> WindowedValue:
    """What a bundle's end must wrap its outputs in."""
    window = GlobalWindow()
    return WindowedValue(value, window.max_timestamp(), (window,))


def encode_frame(frame: pl.DataFrame, compression: Literal["uncompressed", "lz4", "zstd"]) -> bytes:
    """Encode a frame as an Arrow IPC stream."""
    buffer = io.BytesIO()
    frame.write_ipc_stream(buffer, compression=compression)
    return buffer.getvalue()


def decode_frame(encoded: bytes) -> pl.DataFrame:
    """Decode an Arrow IPC stream."""
    return pl.read_ipc_stream(encoded)


def hash_integers(integers: pl.Series) -> pl.Series:
    """Fibonacci hashing of integers, the high half first (UInt64)."""
    mixed = integers.fill_null(0).to_numpy().astype(np.uint64) * _GOLDEN_RATIO
    return pl.Series((mixed >> np.uint64(32)) ^ mixed)


class FrameStore(Protocol):
    """Turns frames into payloads and back."""

    def put(self, frame: pl.DataFrame) -> Iterator[bytes]:
        """Store a frame, of any height, as one or more payloads."""

    def look(self, payloads: Iterable[bytes]) -> pa.Table:
        """Look into payloads of frames of one schema; what is not compressed is not copied."""

    def frame(self, table: pa.Table) -> pl.DataFrame:
        """Make a frame of what `look` gave, or of rows of it; it is contiguous."""

    def size(self, payload: bytes) -> int:
        """Bytes that a payload's frame takes where it is stored."""


@dataclass(frozen=True)
class InlineStore:
    """The payload is the frame itself, in pieces of about 1 MB: for a distributed shuffle."""

    def put(self, frame: pl.DataFrame) -> Iterator[bytes]:
        """Encode a frame as one or more payloads."""
        pieces = max(1, int(frame.estimated_size()) // _INLINE_BYTES)
        rows = max(1, -(-frame.height // pieces))
        for start in range(0, max(1, frame.height), rows):
            yield from self._encode(frame.slice(start, rows))

    def _encode(self, piece: pl.DataFrame) -> Iterator[bytes]:
        if piece.height > 1 and piece.estimated_size() > _INLINE_LIMIT:  # rows of odd sizes
            half = piece.height // 2
            yield from self._encode(piece.head(half))
            yield from self._encode(piece.tail(-half))
        else:
            # Half the bytes of lz4 for 0.2 µs an event: a shuffle service charges by the byte.
            yield encode_frame(piece, "zstd")

    def look(self, payloads: Iterable[bytes]) -> pa.Table:
        """Decode payloads."""
        return pa.concat_tables(pa.ipc.open_stream(payload).read_all() for payload in payloads)

    def frame(self, table: pa.Table) -> pl.DataFrame:
        """Make a frame of what was decoded."""
        return cast(pl.DataFrame, pl.from_arrow(table, rechunk=True))

    def size(self, payload: bytes) -> int:
        """Bytes of a payload."""
        return len(payload)


_REFERENCE = struct.Struct("<QQ")
_CODES: Final = " (codes)"  # behind the name of a column
_ALIGNMENT: Final = 64  # of frames in a spill file; less well aligned columns would be copied


@dataclass
class SpillStore:
    """The payload is a reference into an append-only file, for workers that are threads.

    Each copy writes a file of its own; an attempt that fails leaves bytes that nothing refers to.
    Categorical columns are written as their codes, which mean the same in the whole process: the
    texts would be as many bytes again.

    Attributes:
        directory: Folder of the spill files; removed by the run's owner.
    """

    directory: str
    _file: io.FileIO | None = field(default=None, init=False, repr=False)

    def put(self, frame: pl.DataFrame) -> Iterator[bytes]:
        """Append a frame to this copy's file."""
        file = self._own_file()
        start = file.seek(-file.tell() % _ALIGNMENT, os.SEEK_CUR)
        coded = pl.DataFrame(
            [
                series.to_physical().alias(series.name + _CODES)
                if series.dtype == pl.Categorical
                else series
                for series in frame
            ]
        )
        # Uncompressed: the disk's cache takes it faster than any codec would.
        coded.write_ipc_stream(file, compression="uncompressed")
        yield _REFERENCE.pack(start, file.tell() - start) + os.fsencode(file.name)

    def look(self, payloads: Iterable[bytes]) -> pa.Table:
        """Map payloads into memory, where they are as long as the table is used."""
        files: dict[bytes, pa.MemoryMappedFile] = {}
        tables = []
        for payload in payloads:
            start, length = _REFERENCE.unpack_from(payload)
            path = payload[_REFERENCE.size :]
            if path not in files:
                files[path] = pa.memory_map(os.fsdecode(path))
            files[path].seek(start)
            tables.append(pa.ipc.open_stream(files[path].read_buffer(length)).read_all())
        return pa.concat_tables(tables)

    def frame(self, table: pa.Table) -> pl.DataFrame:
        """Make a frame of what was mapped."""
        coded = cast(pl.DataFrame, pl.from_arrow(table, rechunk=True))
        return pl.DataFrame(
            [
                texts_of_codes(series).alias(series.name.removesuffix(_CODES))
                if series.name.endswith(_CODES)
                else series
                for series in coded
            ]
        )

    def size(self, payload: bytes) -> int:
        """Bytes in the file."""
        _, length = _REFERENCE.unpack_from(payload)
        return int(length)

    def _own_file(self) -> io.FileIO:
        if self._file is None:
            self._file = (Path(self.directory) / f"{uuid.uuid4().hex}.frames").open(
                "xb", buffering=0
            )
        return self._file

    def __getstate__(self) -> dict[str, Any]:
        """An open file stays with its copy."""
        return {**self.__dict__, "_file": None}

    def __del__(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def frame_store(spill_directory: str | None) -> FrameStore:
    """The store of a run: a folder that all workers share, or None for a distributed shuffle."""
    return InlineStore() if spill_directory is None else SpillStore(spill_directory)


def read_frames(store: FrameStore, payloads: Iterable[bytes]) -> pl.DataFrame:
    """Read payloads of frames of one schema, at least one, as one contiguous frame."""
    return store.frame(store.look(payloads))


def read_rows(
    store: FrameStore, payloads: Iterable[bytes], column: str, values: pl.Series
) -> pl.DataFrame:
    """Read the rows of such payloads that have one of the values in a column."""
    table = store.look(payloads)
    found = table.filter(pc.is_in(table[column], values.to_arrow()))
    return store.frame(found.combine_chunks())  # few rows of many pieces


def collect_frames(store: FrameStore, payloads: Iterable[Payload]) -> dict[str, pl.DataFrame]:
    """Read payloads back: one frame for each name that occurs."""
    by_name: dict[str, list[bytes]] = defaultdict(list)
    for name, payload in payloads:
        by_name[name].append(payload)
    return {name: read_frames(store, found) for name, found in by_name.items()}


def partition_frame(
    frame: pl.DataFrame, keys: pl.Series, shards: int
) -> Iterator[tuple[int, pl.DataFrame]]:
    """Cut a frame into the rows of each shard: `keys` modulo `shards`."""
    if shards == 1:
        yield 0, frame
        return
    order = np.empty(frame.height, np.uint32)
    ends = np.empty(shards, np.int64)
    order_by_shard(keys.to_numpy(), order, ends)
    ordered = frame[order]
    start = 0
    for shard, end in enumerate(ends.tolist()):
        if end > start:
            yield shard, ordered.slice(start, end - start)
        start = end


@kernel(types.void(given(types.uint64), filled(types.uint32), filled(types.int64)))
def order_by_shard(keys: Words, order: Numbers, ends: Integers) -> None:
    """Fill in the rows in the order of their shards, and where each shard ends."""
    shards = Word(len(ends))
    ends[:] = 0
    for row in range(len(keys)):
        ends[keys[row] % shards] += 1
    total = 0
    for shard in range(len(ends)):
        total += ends[shard]
        ends[shard] = total - ends[shard]
    for row in range(len(keys)):
        shard = keys[row] % shards
        order[ends[shard]] = row
        ends[shard] += 1


@beam.typehints.with_input_types(NamedFrame)
@beam.typehints.with_output_types(tuple[int, Payload])
class PartitionFrames(beam.DoFn):
    """Cuts named frames by shard and stores the pieces, merged over neighbouring frames.

    Elements would otherwise be frames × shards, and shrink as the input grows.
    """

    def __init__(self, shards: int, keys: Mapping[str, ShardKey], store: FrameStore) -> None:
        self._shards = shards
        self._keys = dict(keys)
        self._store = store
        self._bytes_sent = Metrics.distribution(type(self), "payload_bytes")
        self._milliseconds = Metrics.distribution(type(self), "shuffle_msec")
        smallest, largest = _BUFFER_BYTES
        self._limit = min(largest, max(smallest, shards * _PIECE_BYTES))

    def start_bundle(self) -> None:
        """Begin with nothing buffered."""
        self._buffers: dict[str, list[pl.DataFrame]] = defaultdict(list)
        self._bytes = 0

    def process(self, element: NamedFrame) -> Iterator[tuple[int, Payload]]:
        """Buffer a frame; send all when there is enough of them."""
        name, frame = element
        if frame.height:
            self._buffers[name].append(frame)
            self._bytes += int(frame.estimated_size())
        if self._bytes >= self._limit:
            yield from self._flush()

    def finish_bundle(self) -> Iterator[Any]:
        """Send the rest."""
        yield from map(in_global_window, self._flush())

    def _flush(self) -> Iterator[tuple[int, Payload]]:
        started = time.monotonic()
        for name, frames in self._buffers.items():
            frame = pl.concat(frames)
            for shard, piece in partition_frame(frame, self._keys[name](frame), self._shards):
                for payload in self._store.put(piece):
                    self._bytes_sent.update(self._store.size(payload))
                    yield shard, (name, payload)
        self._milliseconds.update(int((time.monotonic() - started) * 1000))
        self.start_bundle()


class GroupFrames(beam.PTransform[beam.PCollection[NamedFrame], beam.PCollection[Group]]):
    """PCollection[NamedFrame] → PCollection[tuple[shard, Iterable[Payload]]].

    Rows of equal keys are in one group; read it with `collect_frames`.

    Args:
        shards: Number of groups at most.
        keys: For each frame name, the function that gives the rows' keys.
        store: How frames cross.
    """

    def __init__(self, shards: int, keys: Mapping[str, ShardKey], store: FrameStore) -> None:
        super().__init__()
        self._partition = PartitionFrames(shards, keys, store)

    def expand(self, pcoll: beam.PCollection[NamedFrame]) -> beam.PCollection[Group]:
        """Partition, store, group."""
        groups: beam.PCollection[Group] = (
            pcoll | "Partition" >> beam.ParDo(self._partition) | "Group" >> beam.GroupByKey()
        )
        return groups


@beam.typehints.with_input_types(NamedFrame)
@beam.typehints.with_output_types(Payload)
class StoreFrames(beam.DoFn):
    """NamedFrame → Payload: small frames that a later step takes whole, as a side input."""

    def __init__(self, store: FrameStore) -> None:
        self._store = store

    def process(self, element: NamedFrame) -> Iterator[Payload]:
        """Store a frame, unless it is empty."""
        name, frame = element
        if frame.height:
            for payload in self._store.put(frame):
                yield name, payload
