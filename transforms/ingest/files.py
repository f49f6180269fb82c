"""Input files to blocks of whole lines: globs, byte ranges, compression, headers."""

from __future__ import annotations

import bz2
import sys
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase, BufferedReader
from itertools import accumulate, groupby
from typing import Any, Final, NamedTuple, cast

import numpy as np
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from backports import zstd
from isal import igzip, igzip_lib

from transforms.errors import InputError
from transforms.ingest.blocks import PADDING, Block, Origin
from transforms.ingest.grammar import BOM, Header, parse_header

BLOCK_BYTES: Final = 16 << 20
"""Bytes of CSV that are parsed at once: enough for vectorised work, little enough for memory."""


RANGE_BYTES: Final = 4 * BLOCK_BYTES
"""Bytes of a plain file that one range covers."""


class _Compression(NamedTuple):
    """A compression: what reads a file of it, and the command that tests one."""

    decompressed: Callable[[BufferedIOBase], BufferedIOBase]
    tool: str


_COMPRESSIONS: Final[Mapping[str, _Compression]] = {
    ".gz": _Compression(lambda stored: igzip.GzipFile(fileobj=stored, mode="rb"), "gzip"),
    ".zst": _Compression(zstd.ZstdFile, "zstd"),
    ".bz2": _Compression(bz2.BZ2File, "bzip2"),
}


_HEADER_THREADS: Final = 32  # headers of files in a bucket take a round trip each


@dataclass(frozen=True)
class InputFile:
    """One input file.

    Attributes:
        path: Local path or gs:// URL.
        size: Bytes as stored.
        csv_bytes: Bytes of CSV; an estimate where the file is compressed.
        header: Its columns.
        rows_start: Offset of the first byte behind the header, after decompression.
    """

    path: str
    size: int
    csv_bytes: int
    header: Header
    rows_start: int

    @property
    def suffix(self) -> str:
        """The compression's suffix, or nothing for a plain file."""
        return compression_suffix(self.path)


@dataclass(frozen=True)
class InputRange:
    """What one reader reads of a file.

    A plain file is cut into byte ranges; a row belongs to the range in which its first byte lies.
    A compressed file cannot be entered in the middle: each of its readers decompresses it whole
    and keeps every `stride`-th block, so that parsing spreads over the workers and no block is
    stored or sent.

    Attributes:
        file: The file.
        start: First byte of the range, or number of the first block kept.
        end: Byte behind the range; unused where the file is compressed.
        stride: Number of readers that share a compressed file.
    """

    file: InputFile
    start: int
    end: int
    stride: int = 1


def compression_suffix(path: str) -> str:
    """`.gz`, `.zst`, `.bz2` or nothing."""
    return next((suffix for suffix in _COMPRESSIONS if path.endswith(suffix)), "")


def match_inputs(patterns: Sequence[str]) -> list[InputFile]:
    """Find the files of one or more globs and read their headers.

    Returns:
        The files in the order of their paths, each once.

    Raises:
        InputError: A glob matches nothing, or a file's header is wrong.
    """
    sizes: dict[str, int] = {}
    for pattern in patterns:
        found = {
            metadata.path: metadata.size_in_bytes
            for result in FileSystems.match([pattern])
            for metadata in result.metadata_list
        }
        if not found:
            where = "gcloud storage ls" if pattern.startswith("gs://") else "ls"
            raise InputError(f"--input: no file matches {pattern}; try: {where} '{pattern}'")
        sizes |= found
    with ThreadPoolExecutor(_HEADER_THREADS) as threads:
        headers = list(threads.map(read_header, sorted(sizes)))
    # Files of one kind are mostly much alike, and each look at the contents takes time.
    largest = {compression_suffix(path): path for path in sorted(sizes, key=sizes.__getitem__)}
    ratios = {suffix: _compression_ratio(path) for suffix, path in largest.items()}
    return [
        InputFile(path, size, int(size * ratios[compression_suffix(path)]), *header)
        for (path, size), header in zip(sorted(sizes.items()), headers, strict=True)
    ]


InputRanges = tuple[InputRange, ...]
"""What one reader reads: a range, or small files of one header."""


def split_files(files: Sequence[InputFile], workers: int | None) -> list[InputRanges]:
    """Cut files into ranges, and put small files together.

    Args:
        files: The files.
        workers: Number of workers, None where it is not known.
    """
    total = sum(file.csv_bytes for file in files)
    most = RANGE_BYTES if workers is None else min(RANGE_BYTES, -(-total // (2 * workers)))
    found: list[InputRanges] = []
    small: defaultdict[Header, list[InputFile]] = defaultdict(list)
    for file in files:
        if file.csv_bytes <= BLOCK_BYTES:
            small[file.header].append(file)
        elif file.suffix:
            # A file that is more than a worker's share of the input is shared.
            readers = _MOST_READERS if workers is None else -(-workers * file.csv_bytes // total)
            stride = max(1, min(readers, _MOST_READERS, file.csv_bytes // RANGE_BYTES))
            found += [(InputRange(file, first, file.size, stride),) for first in range(stride)]
        else:
            found += [
                (InputRange(file, start, min(start + RANGE_BYTES, file.size)),)
                for start in range(0, file.size, RANGE_BYTES)
            ]
    for of_header in small.values():
        ends = accumulate(file.csv_bytes for file in of_header)
        for _, group in groupby(zip(ends, of_header, strict=True), lambda end: end[0] // most):
            found.append(tuple(InputRange(file, 0, file.size) for _, file in group))
    return found


_MOST_READERS: Final = 4
"""Readers that share a compressed file at most; each decompresses all of it."""


def read_header(path: str) -> tuple[Header, int]:
    """Read a file's header, its first line that is not blank.

    Returns:
        The header, and the offset of the first byte behind it, after decompression.

    Raises:
        InputError: The header is wrong or the file cannot be read.
    """
    with _open(path) as file:
        for block in _lines(_decompressed(file, path), path, 0, sys.maxsize, _LINE_BYTES):
            data = block.data()
            position = len(BOM) if not block.offset and data.startswith(BOM) else 0
            while position < len(data):
                end = data.find(b"\n", position) + 1 or len(data)
                line = data[position:end]
                if line not in (b"\n", b"\r\n"):
                    return parse_header(line, path), block.offset + end
                position = end
    raise InputError(f"{path}: the file is empty; its first line must name the columns")


def _compression_ratio(path: str) -> float:
    """Bytes of CSV for a byte as stored, at the beginning of a file.

    Raises:
        InputError: The file cannot be read or decompressed.
    """
    if not compression_suffix(path):
        return 1
    stored = csv = 0
    with _open(path) as file:
        stream = _decompressed(file, path)
        while True:
            with _damage_named(path, csv):
                data = stream.read(_LINE_BYTES)
            # Where more of the file is asked for, all that came before is decompressed.
            if not data or (stored >= _STORED_BYTES and file.tell() > stored):
                break
            stored = file.tell()
            csv += len(data)
    return csv / stored


def read_blocks(ranges: InputRanges) -> Iterator[Block]:
    """Read ranges of files of one header.

    Yields:
        Blocks of whole rows, each good until the next is asked for. The header and a BOM are left
        out. Small files are joined: what each block costs beside its rows is more than they are.

    Raises:
        InputError: A file cannot be read or decompressed.
    """
    waiting: list[Block] = []
    size = 0
    for part in ranges:
        for block in _blocks(part):
            if len(ranges) == 1 or not block.can_be_joined:
                yield block
                continue
            if waiting and size + len(block) > BLOCK_BYTES:
                yield Block.joined(waiting)
                waiting, size = [], 0
            waiting.append(Block.joined([block]))  # a copy, which stays good
            size += len(block)
    if waiting:
        yield Block.joined(waiting)


def _blocks(part: InputRange) -> Iterator[Block]:
    """Read a range: blocks of whole rows, each good until the next is asked for."""
    path, end, size = part.file.path, part.end, BLOCK_BYTES
    with _open(path) as file:
        stream, position = _decompressed(file, path), 0
        if part.file.suffix:
            # What there will be is only estimated, and a buffer costs what it could hold.
            end, size = sys.maxsize, min(size, max(_STORED_BYTES, 2 * part.file.csv_bytes))
        elif part.start:
            # The range begins with a row only where the byte before it ends one.
            position = stream.seek(part.start - 1)
            position += len(stream.readline(end - position))
        for number, block in enumerate(_lines(stream, path, position, end, size)):
            is_ours = not part.file.suffix or number % part.stride == part.start
            if is_ours and block.offset + len(block) > part.file.rows_start:
                yield block.behind(part.file.rows_start)


def _lines(stream: BufferedIOBase, path: str, offset: int, end: int, size: int) -> Iterator[Block]:
    """Blocks of the lines that begin between two offsets, each good until the next is asked for.

    Args:
        stream: The lines, after decompression; it stands at the first offset.
        path: Where they are from.
        offset: The offset.
        end: The offset behind them.
        size: Bytes of a block, if no line is longer.

    Raises:
        InputError: The file cannot be read, or is damaged or cut off.
    """
    # One buffer for all blocks: fresh memory costs more than what is read into it.
    buffer = bytearray(min(size, end - offset) + len(PADDING))
    rest = b""  # of the block before: the beginning of a line
    while offset < end:
        wanted = min(len(buffer) - len(PADDING), end - offset)
        buffer[: len(rest)] = rest
        filled = len(rest)
        with memoryview(buffer) as view, _damage_named(path, offset):
            while filled < wanted and (count := stream.readinto(view[filled:wanted])):
                filled += count
        if not filled:
            break
        cut = buffer.rfind(b"\n", 0, filled) + 1
        is_last = filled < wanted or offset + filled == end
        if cut == filled or (cut and not is_last):
            rest = bytes(buffer[cut:filled])
            buffer[cut : cut + len(PADDING)] = PADDING
            lines = np.frombuffer(buffer, np.uint8, cut + len(PADDING))
            block = Block([Origin(0, path, offset)], lines)
        else:
            with _damage_named(path, offset + filled):
                line_end = stream.readline()
            block, rest = Block.of(path, offset, bytes(buffer[:filled]), line_end), b""
        yield block
        offset += len(block)


_LINE_BYTES: Final = 1 << 16


_STORED_BYTES: Final = 1 << 20


_DAMAGED: Final = (
    OSError,
    EOFError,
    zlib.error,
    cast(type[Exception], igzip_lib.IsalError),  # its stub says an instance
    zstd.ZstdError,
)


def _decompressed(stream: BufferedIOBase, path: str) -> BufferedIOBase:
    """What a stream holds, decompressed as its path's suffix says."""
    suffix = compression_suffix(path)
    return _COMPRESSIONS[suffix].decompressed(stream) if suffix else stream


@contextmanager
def _damage_named(path: str, done: int) -> Iterator[None]:
    """Say which file could not be read, and about where.

    Args:
        path: The file.
        done: Bytes of CSV that were read before.

    Raises:
        InputError: The file cannot be read, or is damaged or cut off.
    """
    try:
        yield
    except _DAMAGED as error:
        suffix = compression_suffix(path)
        if not suffix:
            raise InputError(f"{path}: cannot be read behind byte {done:,} ({error})") from error
        raise InputError(
            f"{path}: damaged or cut off after {done:,} bytes of CSV ({error}); "
            f"copy the file again, and check it with {_COMPRESSIONS[suffix].tool} -t '{path}'"
        ) from error


def _open(path: str) -> BufferedIOBase:
    """Open a file for reading, as stored.

    Raises:
        InputError: It cannot be opened.
    """
    try:
        stream: Any = FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
    except Exception as error:  # each file system has errors of its own
        raise InputError(f"{path}: cannot be opened ({error})") from error
    # What a file system gives may read lines byte by byte.
    return stream if isinstance(stream, BufferedReader) else BufferedReader(stream, _LINE_BYTES)
