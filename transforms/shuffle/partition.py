"""Cutting frames by shard."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import apache_beam as beam
import numpy as np
import polars as pl
from apache_beam.metrics import Metrics

from transforms.columnar.kernels import Numbers
from transforms.shuffle.coder import NO_FRAME, Group, NamedFrame, Payload, in_global_window
from transforms.shuffle.sizing import Levels
from transforms.shuffle.stores import FrameStore

ShardKey = Callable[[pl.DataFrame], pl.Series]
"""From a frame to a UInt64 series: rows of equal keys meet in one shard."""


METRICS_NAMESPACE: Final = "PartitionFrames"
_PIECE_BYTES: Final = 64 << 10


_BUFFER_BYTES: Final = (16 << 20, 96 << 20)


_FORWARDED_BYTES: Final = 24 << 20  # of payloads, in which there are 1.3 million events


@beam.typehints.with_input_types(NamedFrame)
@beam.typehints.with_output_types(tuple[int, Payload])
class PartitionFrames(beam.DoFn):
    """Cuts named frames by shard and stores the pieces, merged over neighbouring frames.

    Elements would otherwise be frames × shards, and shrink as the input grows. Where there are two
    levels, what is cut is groups of shards, and the key is the number of a slice of a group.
    """

    def __init__(self, levels: Levels, keys: Mapping[str, ShardKey], store: FrameStore) -> None:
        self._levels = levels
        self._keys = dict(keys)
        self._store = store
        self._bytes_sent = Metrics.distribution(METRICS_NAMESPACE, "payload_bytes")
        self._milliseconds = Metrics.distribution(METRICS_NAMESPACE, "shuffle_msec")
        self._parts = levels.shards if levels.groups == 1 else levels.groups
        self._part_shards = 1 if levels.groups == 1 else levels.group_shards
        smallest, largest = _BUFFER_BYTES
        # A distributed engine may end a bundle after each range: all of it is sent at once.
        enough = max(smallest, self._parts * _PIECE_BYTES) if store.joins_payloads else largest
        self._limit = min(largest, enough)
        self._turn: int | None = None

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
        slices = self._levels.slices
        # Slices take turns, beginning anywhere: which of them a row is in changes nothing.
        self._turn = random.randrange(slices) if self._turn is None else self._turn + 1  # noqa: S311
        for name, frames in self._buffers.items():
            shards = _shards_of(frames, self._keys[name], self._levels.shards)
            if self._part_shards > 1:
                shards //= np.uint32(self._part_shards)
            for part, payload in self._store.put_parts(frames, shards, self._parts):
                self._bytes_sent.update(self._store.size(payload))
                key = part * slices + self._turn % slices
                if self._store.joins_payloads:
                    self._joined[key, name] += payload
                else:
                    yield key, (name, payload)
        self._milliseconds.update(int((time.monotonic() - started) * 1000))
        self._empty_buffers()

    def _empty_buffers(self) -> None:
        self._buffers: dict[str, list[pl.DataFrame]] = defaultdict(list)
        self._bytes = 0


def _shards_of(frames: Sequence[pl.DataFrame], key: ShardKey, shards: int) -> Numbers:
    """The shard of each row: its key modulo their number."""
    keys = np.concatenate([key(frame).to_numpy() for frame in frames])
    found: Numbers = np.remainder(keys, np.uint64(shards)).astype(np.uint32)
    return found


@beam.typehints.with_input_types(Group)
@beam.typehints.with_output_types(tuple[int, Payload])
class ForwardFrames(beam.DoFn):
    """A slice of a group of shards → (shard, Payload): the second of two levels."""

    def __init__(self, levels: Levels, keys: Mapping[str, ShardKey], store: FrameStore) -> None:
        self._levels = levels
        self._keys = dict(keys)
        self._store = store

    def process(self, element: Group) -> Iterator[tuple[int, Payload]]:
        """Cut what arrived by shard, some megabytes at a time."""
        number, arriving = element
        first = number // self._levels.slices * self._levels.group_shards
        payloads: dict[str, list[bytes]] = defaultdict(list)
        size = 0
        for name, payload in arriving:
            payloads[name].append(payload)
            size += len(payload)
            if size >= _FORWARDED_BYTES:
                yield from self._forward(payloads, first)
                payloads.clear()
                size = 0
        yield from self._forward(payloads, first)

    def _forward(
        self, payloads: Mapping[str, list[bytes]], first: int
    ) -> Iterator[tuple[int, Payload]]:
        for name, found in payloads.items():
            frame = self._store.read(found)
            shards = _shards_of([frame], self._keys[name], self._levels.shards)
            parts = shards - np.uint32(first)
            for part, payload in self._store.put_parts([frame], parts, self._levels.group_shards):
                yield first + part, (name, payload)


@beam.typehints.with_input_types(NamedFrame)
@beam.typehints.with_output_types(tuple[int, Payload])
class SendFrames(beam.PTransform[beam.PCollection[NamedFrame], beam.PCollection[Any]]):
    """PCollection[NamedFrame] → PCollection[tuple[shard, Payload]].

    Rows of equal keys are of one shard.

    Args:
        levels: How many shards there are, and how they are reached.
        keys: For each frame name, the function that gives the rows' keys.
        store: How frames cross.
    """

    def __init__(self, levels: Levels, keys: Mapping[str, ShardKey], store: FrameStore) -> None:
        super().__init__()
        self._how = (levels, keys, store)

    def expand(self, pcoll: beam.PCollection[NamedFrame]) -> beam.PCollection[tuple[int, Payload]]:
        """Partition and store; once more where there are two levels."""
        levels, _, _ = self._how
        sent: beam.PCollection[tuple[int, Payload]] = pcoll | "Partition" >> beam.ParDo(
            PartitionFrames(*self._how)
        )
        if levels.passes > 1:
            sent = (
                sent
                | "GroupSlices" >> beam.GroupByKey()
                | "Forward" >> beam.ParDo(ForwardFrames(*self._how))
            )
        return sent


class GroupFrames(beam.PTransform[beam.PCollection[NamedFrame], beam.PCollection[Group]]):
    """PCollection[NamedFrame] → PCollection[tuple[shard, Iterable[Payload]]].

    Rows of equal keys are in one group; read it with `collect_frames`.

    Args:
        levels: How many groups there are at most, and how they are reached.
        keys: For each frame name, the function that gives the rows' keys.
        store: How frames cross.
        with_empty: Have a group for each shard, also where nothing is sent to it: that one is
            missing is then known to be a fault.
    """

    def __init__(
        self,
        levels: Levels,
        keys: Mapping[str, ShardKey],
        store: FrameStore,
        *,
        with_empty: bool = False,
    ) -> None:
        super().__init__()
        self._levels = levels
        self._send = SendFrames(levels, keys, store)
        self._with_empty = with_empty

    def expand(self, pcoll: beam.PCollection[NamedFrame]) -> beam.PCollection[Group]:
        """Send, group."""
        sent = pcoll | "Send" >> self._send
        if self._with_empty:
            shards = (
                pcoll.pipeline
                | "Shards" >> beam.Create([self._levels.shards])
                | "EachShard"
                >> beam.FlatMap(_nothing_for_each).with_output_types(tuple[int, Payload])
            )
            sent = (sent, shards) | "WithEmpty" >> beam.Flatten()
        groups: beam.PCollection[Group] = sent | "Group" >> beam.GroupByKey()
        return groups


def _nothing_for_each(shards: int) -> Iterator[tuple[int, Payload]]:
    for shard in range(shards):
        yield shard, NO_FRAME


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
