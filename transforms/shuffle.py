"""How frames cross a shuffle.

A named frame, `(name, frame)`, is cut by shard, pieces of the same shard are merged until they are
worth sending, and what crosses the runner is `(shard, (name, payload))`. A payload is bytes: the
frame in Arrow IPC, or, where all workers are threads of one process, a reference to where the frame
was appended to a spill file. The second keeps the memory of a local run constant.
"""

from __future__ import annotations

import io
import os
import pickle
import struct
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, NamedTuple, Protocol, cast

import apache_beam as beam
import numpy as np
import polars as pl
import pyarrow as pa
from apache_beam.coders import Coder, registry
from apache_beam.metrics import Metrics
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import MIN_TIMESTAMP
from apache_beam.utils.windowed_value import WindowedValue

from transforms.events import VARIANT, without_nulls
from transforms.kernels import Bytes, Numbers, Words
from transforms.numbering import hash_keys, rows_in_order
from transforms.packing import ALIGNMENT, Layout, Piece, can_pack, pack, unpack, unpack_rows
from transforms.variants import ProductFlags, interned, portable

NamedFrame = tuple[str, pl.DataFrame]
Payload = tuple[str, bytes]
Group = tuple[int, Iterable[Payload]]
"""A shard's number and what crossed the shuffle for it."""

ShardKey = Callable[[pl.DataFrame], pl.Series]
"""From a frame to a UInt64 series: rows of equal keys meet in one shard."""

_PIECE_BYTES: Final = 64 << 10
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
    """What a bundle's end must wrap its outputs in: with the timestamp that events are read with.

    A later one would let the watermark pass a shuffle that is not done. (Prism then starts what
    follows before its side inputs are there.)
    """
    return WindowedValue(value, MIN_TIMESTAMP, (GlobalWindow(),))


def encode_frame(frame: pl.DataFrame, compression: Literal["uncompressed", "lz4", "zstd"]) -> bytes:
    """Encode a frame as an Arrow IPC stream."""
    buffer = io.BytesIO()
    portable(frame).write_ipc_stream(buffer, compression=compression)
    return buffer.getvalue()


def decode_frame(encoded: bytes) -> pl.DataFrame:
    """Decode an Arrow IPC stream."""
    return interned(pl.read_ipc_stream(encoded))


def hash_integers(integers: pl.Series) -> pl.Series:
    """Hashes of integers of 64 bits (UInt64), the same on any machine; NULL is as 0."""
    return pl.Series(hash_keys(without_nulls(integers, 0)))


class FrameStore(Protocol):
    """Turns frames into payloads and back.

    Attributes:
        joins_payloads: Whether payloads are so small that those of a shard are best sent as one:
            one behind the other, which is a payload too.
    """

    joins_payloads: ClassVar[bool]

    def put(self, frame: pl.DataFrame) -> Iterator[bytes]:
        """Store a frame, of any height, as one or more payloads."""

    def put_shards(
        self, frames: Sequence[pl.DataFrame], keys: Words, shards: int
    ) -> Iterator[tuple[int, bytes]]:
        """Store the rows of each shard: `keys` of all rows modulo `shards`."""

    def read(self, payloads: Iterable[bytes]) -> pl.DataFrame:
        """Read payloads of frames of one schema, at least one, as one contiguous frame."""

    def read_variants(self, payloads: Iterable[bytes], wanted: ProductFlags) -> pl.DataFrame:
        """Read the rows of such payloads, of event batches, that are of some products."""

    def free(self, payloads: Iterable[Payload]) -> None:
        """Give back what a shard takes where it is stored: nothing reads it from here on."""

    def size(self, payload: bytes) -> int:
        """Bytes that a payload's frame takes where it is stored."""


@dataclass(frozen=True)
class InlineStore:
    """The payload is the frame itself, in pieces of about 1 MB: for a distributed shuffle."""

    joins_payloads: ClassVar[bool] = False

    def put(self, frame: pl.DataFrame) -> Iterator[bytes]:
        """Encode a frame as one or more payloads."""
        pieces = max(1, int(frame.estimated_size()) // _INLINE_BYTES)
        rows = max(1, -(-frame.height // pieces))
        for start in range(0, max(1, frame.height), rows):
            yield from self._encode(frame.slice(start, rows))

    def put_shards(
        self, frames: Sequence[pl.DataFrame], keys: Words, shards: int
    ) -> Iterator[tuple[int, bytes]]:
        """Encode the rows of each shard."""
        for shard, piece in partition_frame(pl.concat(frames), keys, shards):
            for payload in self.put(piece):
                yield shard, payload

    def _encode(self, piece: pl.DataFrame) -> Iterator[bytes]:
        if piece.height > 1 and piece.estimated_size() > _INLINE_LIMIT:  # rows of odd sizes
            half = piece.height // 2
            yield from self._encode(piece.head(half))
            yield from self._encode(piece.tail(-half))
        else:
            # Half the bytes of lz4 for 0.2 µs an event: a shuffle service charges by the byte.
            yield encode_frame(piece, "zstd")

    def read(self, payloads: Iterable[bytes]) -> pl.DataFrame:
        """Decode payloads."""
        return _frame_of_streams(payloads)

    def read_variants(self, payloads: Iterable[bytes], wanted: ProductFlags) -> pl.DataFrame:
        """Decode payloads, and leave the other rows out."""
        events = self.read(payloads)
        return events.filter(pl.Series(wanted.known()[events[VARIANT].to_numpy()]))

    def free(self, payloads: Iterable[Payload]) -> None:
        """Nothing: the runner has them."""

    def size(self, payload: bytes) -> int:
        """Bytes of a payload."""
        return len(payload)


def _mapped(path: Path) -> Bytes:
    """A file, mapped into memory for as long as the array is used."""
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:  # nothing but columns of one value
            return np.empty(0, np.uint8)
        return np.frombuffer(mmap(file.fileno(), 0, access=ACCESS_READ), np.uint8)


def _stream(frame: pl.DataFrame) -> bytes:
    """Encode a frame for a spill file: the disk's cache takes it faster than any codec would."""
    return encode_frame(frame, "uncompressed")


def _frame_of_streams(streams: Iterable[bytes | memoryview]) -> pl.DataFrame:
    """Decode Arrow IPC streams of frames of one schema, one behind the other."""
    table = pa.concat_tables(pa.ipc.open_stream(stream).read_all() for stream in streams)
    return interned(cast(pl.DataFrame, pl.from_arrow(table, rechunk=True)))


class _Reference(NamedTuple):
    """Where a frame is: the payload of a `SpillStore`.

    Attributes:
        store: Id of the copy of the store that has written it.
        shard: Whose file; `_NO_SHARD` for frames that are not of one.
        start: Where it starts in the file.
        length: Its bytes.
        rows: Its rows if it is packed, and 0 if it is an Arrow IPC stream.
        layout: Where its layout starts in the copy's file without a shard, if it is packed.
        layout_length: Bytes of the layout.
    """

    store: bytes
    shard: int
    start: int
    length: int
    rows: int = 0
    layout: int = 0
    layout_length: int = 0

    @classmethod
    def all_of(cls, payload: bytes) -> Iterator[_Reference]:
        """What a payload says, or several that are joined."""
        return map(cls._make, _REFERENCE.iter_unpack(payload))

    def payload(self) -> bytes:
        """The payload that says it."""
        return _REFERENCE.pack(*self)


_REFERENCE: Final = struct.Struct("<16siQQQQI")
_NO_SHARD: Final = -1


@dataclass
class SpillStore:
    """The payload is a reference into an append-only file, for workers that are threads.

    Each copy writes files of its own, one for each shard; an attempt that fails leaves bytes that
    nothing refers to. Columns of fixed width are packed. Categorical ones are stored as their
    codes, which mean the same in the whole process. Frames with other columns are stored as Arrow
    IPC streams.

    Attributes:
        directory: Folder of the spill files; removed by the run's owner.
        is_replayed: Whether the runner reads shards again that were given free.
    """

    joins_payloads: ClassVar[bool] = True

    directory: str
    is_replayed: bool = False
    _id: bytes = field(default=b"", init=False, repr=False)
    _layouts: dict[tuple[bytes, int], Layout] = field(default_factory=dict, init=False, repr=False)

    def put(self, frame: pl.DataFrame) -> Iterator[bytes]:
        """Append a frame to this copy's file."""
        yield self._append(_NO_SHARD, [_stream(frame)]).payload()

    def put_shards(
        self, frames: Sequence[pl.DataFrame], keys: Words, shards: int
    ) -> Iterator[tuple[int, bytes]]:
        """Append the rows of each shard to its file."""
        if not can_pack(frames[0].schema):
            for shard, piece in partition_frame(pl.concat(frames), keys, shards):
                yield shard, self._append(shard, [_stream(piece)]).payload()
            return
        order, parts = rows_by_shard(keys, shards)
        layout, columns = pack(frames, order)
        known = self._append(_NO_SHARD, [pickle.dumps(layout)])
        for shard, start, end in parts:
            reference = self._append(shard, [column[start:end].data for column in columns])
            yield (
                shard,
                reference._replace(
                    rows=end - start, layout=known.start, layout_length=known.length
                ).payload(),
            )

    def read(self, payloads: Iterable[bytes]) -> pl.DataFrame:
        """Read payloads."""
        pieces, streams = self._look(payloads)
        return unpack(pieces) if pieces else _frame_of_streams(streams)

    def read_variants(self, payloads: Iterable[bytes], wanted: ProductFlags) -> pl.DataFrame:
        """Read rows of packed payloads."""
        pieces, _ = self._look(payloads)
        return unpack_rows(pieces, VARIANT, wanted.known())

    def free(self, payloads: Iterable[Payload]) -> None:
        """Remove the files of a shard: what is written next finds their memory in use."""
        if self.is_replayed:
            return
        files = {
            (found.store, found.shard)
            for _, payload in payloads
            for found in _Reference.all_of(payload)
        }
        for store, shard in files:
            if shard != _NO_SHARD:
                self._path(store, shard).unlink(missing_ok=True)

    def size(self, payload: bytes) -> int:
        """Bytes in files."""
        return sum(found.length for found in _Reference.all_of(payload))

    def _path(self, store: bytes, shard: int) -> Path:
        name = store.hex() if shard == _NO_SHARD else f"{store.hex()}-{shard}"
        return Path(self.directory) / f"{name}.frames"

    def _append(self, shard: int, buffers: Sequence[bytes | memoryview]) -> _Reference:
        self._id = self._id or uuid.uuid4().bytes
        length = sum(memoryview(buffer).nbytes for buffer in buffers)
        with self._path(self._id, shard).open("ab", buffering=0) as file:
            start = file.tell()
            padded = [*buffers, bytes(-length % ALIGNMENT)]
            written = os.writev(file.fileno(), padded)
            if written < length + len(padded[-1]):
                with io.BufferedWriter(file) as writer:  # goes on, or says that the disk is full
                    writer.write(b"".join(padded)[written:])
        return _Reference(self._id, shard, start, length)

    def _look(self, payloads: Iterable[bytes]) -> tuple[list[Piece], list[memoryview]]:
        """Map payloads into memory: packed pieces, or streams."""
        files: dict[tuple[bytes, int], Bytes] = {}
        pieces, streams = [], []
        for found in sorted(chain.from_iterable(map(_Reference.all_of, payloads))):
            key = (found.store, found.shard)
            if key not in files:
                files[key] = _mapped(self._path(*key))
            if found.rows:
                pieces.append(Piece(self._layout(found), found.rows, files[key], found.start))
            else:
                streams.append(files[key][found.start : found.start + found.length].data)
        return pieces, streams

    def _layout(self, found: _Reference) -> Layout:
        key = (found.store, found.layout)
        if key not in self._layouts:
            with self._path(found.store, _NO_SHARD).open("rb") as file:
                file.seek(found.layout)
                # Written by this process, in a folder of its own.
                self._layouts[key] = pickle.loads(file.read(found.layout_length))  # noqa: S301
        return self._layouts[key]

    def __getstate__(self) -> dict[str, Any]:
        """A copy has an id of its own."""
        return {**self.__dict__, "_id": b"", "_layouts": {}}


def frame_store(spill_directory: str | None, *, is_replayed: bool = False) -> FrameStore:
    """The store of a run: a folder that all workers share, or None for a distributed shuffle."""
    return InlineStore() if spill_directory is None else SpillStore(spill_directory, is_replayed)


def collect_frames(store: FrameStore, payloads: Iterable[Payload]) -> dict[str, pl.DataFrame]:
    """Read payloads back: one frame for each name that occurs."""
    by_name: dict[str, list[bytes]] = defaultdict(list)
    for name, payload in payloads:
        by_name[name].append(payload)
    return {name: store.read(found) for name, found in by_name.items()}


def take_frames(store: FrameStore, payloads: Iterable[Payload]) -> dict[str, pl.DataFrame]:
    """Read the payloads of a shard, as `collect_frames` does, for the last time."""
    found = list(payloads)
    frames = collect_frames(store, found)
    store.free(found)
    return frames


def partition_frame(
    frame: pl.DataFrame, keys: Words, shards: int
) -> Iterator[tuple[int, pl.DataFrame]]:
    """Cut a frame into the rows of each shard: `keys` modulo `shards`."""
    if shards == 1:
        yield 0, frame
        return
    order, parts = rows_by_shard(keys, shards)
    ordered = frame[order]
    for shard, start, end in parts:
        yield shard, ordered.slice(start, end - start)


def rows_by_shard(keys: Words, shards: int) -> tuple[Numbers, list[tuple[int, int, int]]]:
    """The rows in the order of their shards; each shard that has any, its start and its end."""
    order, ends = rows_in_order(np.remainder(keys, np.uint64(shards)).astype(np.uint32), shards)
    bounds = pairwise([0, *ends.tolist()])
    return order, [(shard, start, end) for shard, (start, end) in enumerate(bounds) if end > start]


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
        self._empty_buffers()
        self._joined: dict[tuple[int, str], bytearray] = defaultdict(bytearray)

    def process(self, element: NamedFrame) -> Iterator[tuple[int, Payload]]:
        """Buffer a frame; send all when there is enough of them."""
        name, frame = element
        if frame.height:
            self._buffers[name].append(frame)
            self._bytes += int(frame.estimated_size())
        if self._bytes >= self._limit:
            yield from self._flush()

    def finish_bundle(self) -> Iterator[Any]:
        """Send the rest, and what was kept back to be joined."""
        yield from map(in_global_window, self._flush())
        for (shard, name), payload in self._joined.items():
            yield in_global_window((shard, (name, bytes(payload))))

    def _flush(self) -> Iterator[tuple[int, Payload]]:
        started = time.monotonic()
        for name, frames in self._buffers.items():
            keys = np.concatenate([self._keys[name](frame).to_numpy() for frame in frames])
            for shard, payload in self._store.put_shards(frames, keys, self._shards):
                self._bytes_sent.update(self._store.size(payload))
                if self._store.joins_payloads:
                    self._joined[shard, name] += payload
                else:
                    yield shard, (name, payload)
        self._milliseconds.update(int((time.monotonic() - started) * 1000))
        self._empty_buffers()

    def _empty_buffers(self) -> None:
        self._buffers: dict[str, list[pl.DataFrame]] = defaultdict(list)
        self._bytes = 0


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
