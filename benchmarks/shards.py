"""What crossing the distributed shuffle costs, by number of shards: python -m benchmarks.shards.

The steps of the graph cut, encode, forward and read one bundle's worth of generated events, with
the shapes that inputs of different sizes have: the same functions choose the size of the range, the
groups and the slices. Pieces are read as many together as a shard receives. What the engine itself
adds is not in it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from benchmarks.inputs import prepare
from transforms.analytics.shard_keys import session_shard_key
from transforms.ingest.files import RANGE_BYTES, match_inputs, read_blocks, split_files
from transforms.ingest.parsing import parse_block
from transforms.shuffle import sizing
from transforms.shuffle.coder import NamedFrame, Payload
from transforms.shuffle.partition import ForwardFrames, PartitionFrames, ShardKey
from transforms.shuffle.stores import InlineStore

SHAPES: Final = (8, 1132, 11_320, 113_200)
"""Session shards: of 400 MB of CSV, of REES46 (54 GB), of ten times and of a hundred times that."""

_CSV_BYTES_PER_EVENT: Final = 132
_ROWS: Final = 2_000_000  # more than a range has


@dataclass(frozen=True)
class Pass:
    """What one pass through the shuffle costs.

    Attributes:
        pieces: How many pieces the events were sent in.
        events: How many there were.
        size: Bytes of the pieces.
        seconds: CPU time of cutting, encoding and reading.
    """

    pieces: int
    events: int
    size: int
    seconds: float


def measure(shards: int, frames: Sequence[pl.DataFrame]) -> list[Pass]:
    """Send one bundle's worth of events to so many shards, and read them.

    Args:
        shards: Session shards.
        frames: The event batches of one range.
    """
    levels = sizing.session_levels(shards)
    started = time.process_time()
    pieces = _sent(PartitionFrames(levels, {"events": session_shard_key}, InlineStore()), frames)
    first = time.process_time() - started
    events = sum(frame.height for frame in frames)
    if levels.passes == 1:
        return [_pass(pieces, events, first + _read(pieces, events))]
    # The pieces stand in for those of one slice: their rows are dealt to the shards of one group.
    forward = ForwardFrames(levels, {"events": _within_group(levels.group_shards)}, InlineStore())
    started = time.process_time()
    forwarded = [payload for _, payload in forward.process((0, pieces))]
    second = time.process_time() - started
    # Reading what arrives at a group is a part of forwarding it.
    return [
        _pass(pieces, events, first),
        _pass(forwarded, events, second + _read(forwarded, events)),
    ]


def _sent(partition: PartitionFrames, frames: Sequence[pl.DataFrame]) -> list[Payload]:
    def sent() -> Iterator[Any]:
        for frame in frames:
            named: NamedFrame = ("events", frame)
            yield from partition.process(named)
        yield from (windowed.value for windowed in partition.finish_bundle())

    partition.start_bundle()
    return [payload for _, payload in sent()]


def _within_group(group_shards: int) -> ShardKey:
    return lambda events: session_shard_key(events) % group_shards


def _read(pieces: Sequence[Payload], events: int) -> float:
    """Read pieces, as many together as a shard of usual size receives."""
    store = InlineStore()
    of_shard = max(1, sizing.SHARD_BYTES // _CSV_BYTES_PER_EVENT * len(pieces) // events)
    started = time.process_time()
    for together in (pieces[at : at + of_shard] for at in range(0, len(pieces), of_shard)):
        store.read([payload for _, payload in together])
    return time.process_time() - started


def _pass(pieces: Sequence[Payload], events: int, seconds: float) -> Pass:
    return Pass(len(pieces), events, sum(len(payload) for _, payload in pieces), seconds)


def read_range(path: Path, size: int) -> list[pl.DataFrame]:
    """The event batches of the first range of a file.

    Args:
        path: The file.
        size: CSV that the range has.
    """
    part, *_ = split_files(match_inputs([str(path)]), None, size)
    header = part[0].file.header
    return [parse_block(block, header).events for block in read_blocks(part)]


def describe(shards: int, size: int, passes: Sequence[Pass]) -> str:
    """A row of the table."""
    events = passes[0].events
    a_piece = ", ".join(f"{of.events / of.pieces:,.0f}" for of in passes)
    return (
        f"| {shards:,} | {size >> 20} MB | {len(passes)} | {a_piece} "
        f"| {sum(of.size for of in passes) / events:.1f} "
        f"| {sum(of.seconds for of in passes) / events * 1e6:.2f} |"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, in Markdown."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.shards", description=(__doc__ or "").partition("\n\n")[2]
    )
    parser.add_argument("--data", type=Path, default=Path("data"), help="(default: %(default)s)")
    parser.add_argument("--shapes", type=int, nargs="+", default=SHAPES, help="session shards")
    options = parser.parse_args(arguments)
    path = Path(prepare(options.data, _ROWS, skew=None, files=None, gz=False).files)
    print(
        "| session shards | a range | passes | events a piece | bytes an event "
        "| encode + decode, µs an event |\n|---:|---:|---:|---:|---:|---:|"
    )
    for shards in options.shapes:
        size = max(RANGE_BYTES, sizing.least_range(shards))
        frames = read_range(path, size)
        measure(shards, frames)  # once for what a process does only once
        print(describe(shards, size, measure(shards, frames)))


if __name__ == "__main__":
    main()
