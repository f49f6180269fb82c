"""How frames cross a shuffle.

A named frame, `(name, frame)`, is cut by shard, pieces of the same shard are merged until they are
worth sending, and what crosses the runner is `(shard, (name, payload))`. A payload is bytes: the
packed frame as every process understands it, or, where all workers are threads of one process, a
reference to where the frame was appended to a spill file. The second keeps the memory of a local
run constant.
"""

from __future__ import annotations

import io
import logging
import os
import struct
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple, Protocol

import numpy as np
import polars as pl

from transforms.columnar.kernels import Bytes, Integers, Numbers
from transforms.columnar.key_index import rows_in_order
from transforms.columnar.packing import (
    ALIGNMENT,
    Layout,
    Piece,
    can_pack,
    pack,
    unpack,
    unpack_rows,
)
from transforms.columnar.portable_pieces import (
    can_encode,
    decode_pieces,
    encode_pieces,
    is_encoded,
)
from transforms.columnar.product_codes import PRODUCT_CODE, ProductFlags, process_token
from transforms.errors import RunError
from transforms.owned_files import no_follow
from transforms.shuffle.coder import (
    NO_FRAME,
    Payload,
    encode_for_spill,
    encode_frame,
    frame_of_streams,
)

_LOGGER: Final = logging.getLogger(__name__)


def store_frames(store: FrameStore, frames: Mapping[str, pl.DataFrame]) -> Iterator[Payload]:
    """Store named frames; empty ones need no sending."""
    for name, frame in frames.items():
        if frame.height:
            for payload in store.put(frame):
                yield name, payload


def store_all(store: FrameStore, frames: Mapping[str, pl.DataFrame]) -> Iterator[Payload]:
    """Store named frames, empty ones too: that one is missing is then known to be a fault."""
    for name, frame in frames.items():
        for payload in store.put(frame):
            yield name, payload


_INLINE_BYTES: Final = 1 << 20


_INLINE_LIMIT: Final = 20 << 20  # of one payload; engines slow down or refuse far larger ones


class FrameStore(Protocol):
    """Turns frames into payloads and back.

    Attributes:
        joins_payloads: Whether payloads are so small that those of a shard are best sent as one:
            one behind the other, which is a payload too.
    """

    joins_payloads: ClassVar[bool]

    def put(self, frame: pl.DataFrame) -> Iterator[bytes]:
        """Store a frame, of any height, as one or more payloads."""

    def put_parts(
        self, frames: Sequence[pl.DataFrame], parts: Numbers, count: int
    ) -> Iterator[tuple[int, bytes]]:
        """Store the rows of each part: `parts` of all rows, which are below `count`."""

    def read(self, payloads: Iterable[bytes]) -> pl.DataFrame:
        """Read payloads of frames of one schema, at least one, as one contiguous frame."""

    def read_products(self, payloads: Iterable[bytes], wanted: ProductFlags) -> pl.DataFrame:
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
        rows = _inline_rows([frame])
        if frame.height and can_encode(frame.schema):
            order = np.arange(frame.height, dtype=np.uint32)
            yield from encode_pieces([frame], order, _piece_ends(0, frame.height, rows))
            return
        for start in range(0, max(1, frame.height), rows):
            yield from self._encode(frame.slice(start, rows))

    def put_parts(
        self, frames: Sequence[pl.DataFrame], parts: Numbers, count: int
    ) -> Iterator[tuple[int, bytes]]:
        """Encode the rows of each part."""
        if not can_encode(frames[0].schema):
            for part, piece in partition_frame(pl.concat(frames), parts, count):
                for payload in self.put(piece):
                    yield part, payload
            return
        order, bounds = rows_by_part(parts, count)
        rows = _inline_rows(frames)
        ends = [_piece_ends(start, end, rows) for _, start, end in bounds]
        numbers = [part for (part, _, _), of in zip(bounds, ends, strict=True) for _ in of]
        yield from zip(numbers, encode_pieces(frames, order, np.concatenate(ends)), strict=True)

    def _encode(self, piece: pl.DataFrame) -> Iterator[bytes]:
        if piece.height > 1 and piece.estimated_size() > _INLINE_LIMIT:  # rows of odd sizes
            half = piece.height // 2
            yield from self._encode(piece.head(half))
            yield from self._encode(piece.tail(-half))
        else:
            yield encode_frame(piece, "zstd")

    def read(self, payloads: Iterable[bytes]) -> pl.DataFrame:
        """Decode payloads: pieces, and streams of frames that are empty or of odd columns."""
        pieces: list[bytes] = []
        streams: list[bytes] = []
        for payload in payloads:
            (pieces if is_encoded(payload) else streams).append(payload)
        frames = [decode_pieces(pieces)] if pieces else []
        if streams:
            frames.append(frame_of_streams(streams))
        return frames[0] if len(frames) == 1 else pl.concat(frames, rechunk=True)

    def read_products(self, payloads: Iterable[bytes], wanted: ProductFlags) -> pl.DataFrame:
        """Decode payloads, and leave the other rows out."""
        events = self.read(payloads)
        return events.filter(pl.Series(wanted.known()[events[PRODUCT_CODE].to_numpy()]))

    def free(self, payloads: Iterable[Payload]) -> None:
        """Nothing: the runner has them."""

    def size(self, payload: bytes) -> int:
        """Bytes of a payload."""
        return len(payload)


def _mapped(path: Path) -> Bytes:
    """A file, mapped into memory for as long as the array is used."""
    with open(path, "rb", opener=no_follow) as file:
        if not os.fstat(file.fileno()).st_size:  # nothing but columns of one value
            return np.empty(0, np.uint8)
        return np.frombuffer(mmap(file.fileno(), 0, access=ACCESS_READ), np.uint8)


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
        process: Whose numbers and codes are packed.
    """

    store: bytes
    shard: int
    start: int
    length: int
    rows: int = 0
    layout: int = 0
    layout_length: int = 0
    process: bytes = b""

    @classmethod
    def all_of(cls, payload: bytes) -> Iterator[_Reference]:
        """What a payload says, or several that are joined."""
        return map(cls._make, _REFERENCE.iter_unpack(payload))

    def payload(self) -> bytes:
        """The payload that says it."""
        return _REFERENCE.pack(*self)


_REFERENCE: Final = struct.Struct("<16siQQQQI16s")


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
        if frame.height and can_pack(frame.schema):
            layout, columns = pack([frame], np.arange(frame.height, dtype=np.uint32))
            known = self._append(_NO_SHARD, [layout.encode()])
            yield self._append_packed(
                _NO_SHARD, known, [column.data for column in columns], frame.height
            )
        else:
            yield self._append(_NO_SHARD, [encode_for_spill(frame)]).payload()

    def put_parts(
        self, frames: Sequence[pl.DataFrame], parts: Numbers, count: int
    ) -> Iterator[tuple[int, bytes]]:
        """Append the rows of each part, a shard, to its file."""
        if not can_pack(frames[0].schema):
            for shard, piece in partition_frame(pl.concat(frames), parts, count):
                yield shard, self._append(shard, [encode_for_spill(piece)]).payload()
            return
        order, bounds = rows_by_part(parts, count)
        layout, columns = pack(frames, order)
        known = self._append(_NO_SHARD, [layout.encode()])
        for shard, start, end in bounds:
            packed = [column[start:end].data for column in columns]
            yield shard, self._append_packed(shard, known, packed, end - start)

    def read(self, payloads: Iterable[bytes]) -> pl.DataFrame:
        """Read payloads."""
        pieces, streams = self._look(payloads)
        # Of one schema only frames without a row are not packed where others are.
        return unpack(pieces) if pieces else frame_of_streams(streams)

    def read_products(self, payloads: Iterable[bytes], wanted: ProductFlags) -> pl.DataFrame:
        """Read rows of packed payloads."""
        pieces, _ = self._look(payloads)
        return unpack_rows(pieces, PRODUCT_CODE, wanted.known())

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
                path = self._path(store, shard)
                try:
                    path.unlink(missing_ok=True)
                except OSError as error:  # costs space, and nothing else: it goes with the folder
                    _LOGGER.warning("%s stays until the run ends: %s", path, error.strerror)

    def size(self, payload: bytes) -> int:
        """Bytes in files."""
        return sum(found.length for found in _Reference.all_of(payload))

    def _path(self, store: bytes, shard: int) -> Path:
        name = store.hex() if shard == _NO_SHARD else f"{store.hex()}-{shard}"
        return Path(self.directory) / f"{name}.frames"

    def _append(self, shard: int, buffers: Sequence[bytes | memoryview]) -> _Reference:
        self._id = self._id or uuid.uuid4().bytes
        length = sum(memoryview(buffer).nbytes for buffer in buffers)
        with open(self._path(self._id, shard), "ab", buffering=0, opener=no_follow) as file:
            start = file.tell()
            padded = [*buffers, bytes(-length % ALIGNMENT)]
            written = os.writev(file.fileno(), padded)
            if written < length + len(padded[-1]):
                with io.BufferedWriter(file) as writer:  # goes on, or says that the disk is full
                    writer.write(b"".join(padded)[written:])
        return _Reference(self._id, shard, start, length)

    def _append_packed(
        self, shard: int, layout: _Reference, columns: Sequence[memoryview], rows: int
    ) -> bytes:
        return (
            self._append(shard, columns)
            ._replace(
                rows=rows,
                layout=layout.start,
                layout_length=layout.length,
                process=process_token(),
            )
            .payload()
        )

    def _look(self, payloads: Iterable[bytes]) -> tuple[list[Piece], list[memoryview]]:
        """Map payloads into memory: packed pieces, or streams."""
        files: dict[tuple[bytes, int], Bytes] = {}
        pieces, streams = [], []
        for found in sorted(chain.from_iterable(map(_Reference.all_of, payloads))):
            key = (found.store, found.shard)
            if key not in files:
                files[key] = _mapped(self._path(*key))
            if found.rows:
                if found.process != process_token():
                    raise RunError(_FOREIGN)
                layout = self._layout(found)
                if found.start + found.rows * layout.row_bytes > len(files[key]):
                    raise RunError(_damaged(self._path(*key)))
                pieces.append(Piece(layout, found.rows, files[key], found.start))
            else:
                streams.append(files[key][found.start : found.start + found.length].data)
        return pieces, streams

    def _layout(self, found: _Reference) -> Layout:
        key = (found.store, found.layout)
        if key not in self._layouts:
            path = self._path(found.store, _NO_SHARD)
            with open(path, "rb", opener=no_follow) as file:
                file.seek(found.layout)
                encoded = file.read(found.layout_length)
            try:
                self._layouts[key] = Layout.decode(encoded)
            except ValueError as error:
                raise RunError(_damaged(path)) from error
        return self._layouts[key]

    def __getstate__(self) -> dict[str, Any]:
        """A copy has an id of its own."""
        return {**self.__dict__, "_id": b"", "_layouts": {}}


_FOREIGN: Final = (
    "a worker was given frames that only the process that wrote them can read; nothing was "
    "published. Workers of a local run are threads of one process: leave the options out that "
    "make it several, or choose another --runner."
)


def _damaged(path: Path) -> str:
    return (
        f"{path} does not hold what this run wrote there; nothing was published. Run again; "
        "if it happens again, check the disk, and who else can write in the folder."
    )


def frame_store(spill_directory: str | None, *, is_replayed: bool = False) -> FrameStore:
    """The store of a run: a folder that all workers share, or None for a distributed shuffle."""
    return InlineStore() if spill_directory is None else SpillStore(spill_directory, is_replayed)


def collect_frames(store: FrameStore, payloads: Iterable[Payload]) -> dict[str, pl.DataFrame]:
    """Read payloads back: one frame for each name that occurs."""
    by_name: dict[str, list[bytes]] = defaultdict(list)
    for name, payload in payloads:
        if (name, payload) != NO_FRAME:
            by_name[name].append(payload)
    return {name: store.read(found) for name, found in by_name.items()}


def take_frames(store: FrameStore, payloads: Iterable[Payload]) -> dict[str, pl.DataFrame]:
    """Read the payloads of a shard, as `collect_frames` does, for the last time."""
    found = list(payloads)
    frames = collect_frames(store, found)
    store.free(found)
    return frames


def partition_frame(
    frame: pl.DataFrame, parts: Numbers, count: int
) -> Iterator[tuple[int, pl.DataFrame]]:
    """Cut a frame into the rows of each part."""
    if count == 1:
        yield 0, frame
        return
    order, bounds = rows_by_part(parts, count)
    ordered = frame[order]
    for part, start, end in bounds:
        yield part, ordered.slice(start, end - start)


def rows_by_part(parts: Numbers, count: int) -> tuple[Numbers, list[tuple[int, int, int]]]:
    """The rows in the order of their parts; each part that has any, its start and its end."""
    order, ends = rows_in_order(parts, count)
    bounds = pairwise([0, *ends.tolist()])
    return order, [(part, start, end) for part, (start, end) in enumerate(bounds) if end > start]


def _inline_rows(frames: Sequence[pl.DataFrame]) -> int:
    """Rows that make a payload of `_INLINE_BYTES`."""
    rows = sum(frame.height for frame in frames)
    pieces = max(1, sum(int(frame.estimated_size()) for frame in frames) // _INLINE_BYTES)
    return max(1, -(-rows // pieces))


def _piece_ends(start: int, end: int, rows: int) -> Integers:
    """Where pieces of at most so many rows end."""
    return np.append(np.arange(start + rows, end, rows, dtype=np.int64), end)
