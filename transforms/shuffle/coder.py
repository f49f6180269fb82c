"""How frames are encoded, and what crosses a shuffle."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any, Final, Literal, cast

import polars as pl
import pyarrow as pa
from apache_beam.coders import Coder, registry
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import MIN_TIMESTAMP
from apache_beam.utils.windowed_value import WindowedValue

from transforms.columnar.product_codes import interned, portable

NamedFrame = tuple[str, pl.DataFrame]


Payload = tuple[str, bytes]
"""A frame's name, and its bytes or where they are."""


NO_FRAME: Final[Payload] = ("", b"")
"""Tells that a shard is there, and nothing else."""


Group = tuple[int, Iterable[Payload]]
"""A shard's number and what crossed the shuffle for it."""


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


def encode_for_spill(frame: pl.DataFrame) -> bytes:
    """Encode a frame for a spill file: the disk's cache takes it faster than any codec would."""
    return encode_frame(frame, "uncompressed")


def frame_of_streams(streams: Iterable[bytes | memoryview]) -> pl.DataFrame:
    """Decode Arrow IPC streams of frames of one schema, one behind the other."""
    table = pa.concat_tables(pa.ipc.open_stream(stream).read_all() for stream in streams)
    return interned(cast(pl.DataFrame, pl.from_arrow(table, rechunk=True)))
