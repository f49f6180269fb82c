"""Cutting frames by shard."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import apache_beam as beam
import numpy as np
import polars as pl
from apache_beam.metrics import Metrics

from transforms.shuffle.coder import Group, NamedFrame, Payload, in_global_window
from transforms.shuffle.stores import FrameStore

ShardKey = Callable[[pl.DataFrame], pl.Series]
"""From a frame to a UInt64 series: rows of equal keys meet in one shard."""


METRICS_NAMESPACE: Final = "PartitionFrames"
_PIECE_BYTES: Final = 64 << 10


_BUFFER_BYTES: Final = (16 << 20, 96 << 20)


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
        self._bytes_sent = Metrics.distribution(METRICS_NAMESPACE, "payload_bytes")
        self._milliseconds = Metrics.distribution(METRICS_NAMESPACE, "shuffle_msec")
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
