"""Input files to blocks of whole lines: globs, byte ranges, compression, headers."""

from __future__ import annotations

import os
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase, BufferedReader
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

import numpy as np
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from transforms.errors import InputError
from transforms.ingest.blocks import PADDING, Block, Origin
from transforms.ingest.compression import (
    COMPRESSIONS,
    DAMAGED,
    compression_of,
    compression_suffix,
    is_csv_name,
)
from transforms.ingest.diagnosis import diagnose, recognize
from transforms.ingest.grammar import BOM, RAW_CHARACTERS, Header, parse_header
from transforms.ingest.local_files import (
    find_files,
    is_visible,
    printable,
    require_regular,
    shell_word,
)

BLOCK_BYTES: Final = 16 << 20
"""Bytes of CSV that are parsed at once: enough for vectorised work, little enough for memory."""

RANGE_BYTES: Final = 4 * BLOCK_BYTES
"""Bytes of a plain file that one range covers."""

HEADER_BYTES: Final = 1 << 20
"""Bytes of a header at most."""

ROW_BYTES: Final = 4 * BLOCK_BYTES
"""Bytes of a row at most; a longer one is malformed."""

_HEADER_THREADS: Final = 32  # headers of files in a bucket take a round trip each


class Version(NamedTuple):
    """What tells whether a file is still what it was.

    Attributes:
        size: Its bytes as stored.
        changed: When it was changed last: nanoseconds, or seconds in a bucket.
        inode: Its number on a local disk.
    """

    size: int
    changed: float
    inode: int = 0


@dataclass(frozen=True)
class InputFile:
    """One input file.

    Attributes:
        path: Local path or gs:// URL.
        version: What it was when the run began.
        csv_bytes: Bytes of CSV; an estimate where the file is compressed.
        header: Its columns.
        rows_start: Offset of the first byte behind the header, after decompression.
    """

    path: str
    version: Version
    csv_bytes: int
    header: Header
    rows_start: int

    @property
    def size(self) -> int:
        """Bytes as stored."""
        return self.version.size

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


def match_inputs(patterns: Sequence[str]) -> list[InputFile]:
    """Find the files of one or more names and globs, and read their headers.

    Args:
        patterns: Local paths, file:// or gs:// URLs, and globs of them; several may stand in one,
            parted by commas. See docs/input.md.

    Returns:
        The files in the order of their paths, each once.

    Raises:
        InputError: A glob matches nothing, or files have wrong headers; the first ten are named.
    """
    versions: dict[str, Version] = {}
    for pattern in patterns:
        for part in _separated(pattern):
            versions |= _match(part)
    paths = _each_once(versions)
    headers: dict[str, tuple[Header, int]] = {}
    faults: list[str] = []
    with ThreadPoolExecutor(_HEADER_THREADS) as threads:
        for path, found in zip(paths, threads.map(_header_or_fault, paths), strict=True):
            if isinstance(found, str):
                faults.append(found)
            else:
                headers[path] = found
    if faults:
        raise InputError(_all_faults(faults, len(paths)))
    # Files of one kind are mostly much alike, and each look at the contents takes time.
    largest = {compression_suffix(path): path for path in sorted(paths, key=versions.__getitem__)}
    ratios = {suffix: _compression_ratio(path) for suffix, path in largest.items()}
    return [
        InputFile(
            path,
            versions[path],
            int(versions[path].size * ratios[compression_suffix(path)]),
            *headers[path],
        )
        for path in paths
    ]


def _separated(pattern: str) -> list[str]:
    """The globs in a text, parted by commas; a local name with commas that exists is one."""
    return [pattern] if os.path.lexists(pattern) else re.split(r",(?=\S)", pattern)


def _match(pattern: str) -> dict[str, Version]:
    """The files of a name or glob.

    Raises:
        InputError: There are none, or they are where this program does not read.
    """
    if is_in_bucket(pattern):
        return _match_in_bucket(pattern)
    if (url := re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", pattern)) and url[1].lower() != "file":
        raise InputError(f"--input: {printable(pattern)}: {_other_scheme(url[1])}")
    if url:
        split = urlsplit(pattern, allow_fragments=False)
        if split.netloc not in ("", "localhost"):
            raise InputError(
                f"--input: {printable(pattern)}: a file URL of this machine has three slashes: "
                f"file:///{split.netloc}{split.path}"
            )
        pattern = unquote(pattern.partition("://")[2].removeprefix(split.netloc))
    found = {}
    for path in find_files(pattern):
        status = _status(path)
        require_regular(path, status.st_mode)
        found[path] = Version(status.st_size, status.st_mtime_ns, status.st_ino)
    return found


def _match_in_bucket(pattern: str) -> dict[str, Version]:
    """The objects of a name or glob, or of a folder, which ends in a slash."""
    is_folder = pattern.endswith("/")
    listed = f"{pattern}*" if is_folder else pattern
    found = {
        metadata.path: Version(metadata.size_in_bytes, metadata.last_updated_in_seconds)
        for result in FileSystems.match([listed])
        for metadata in result.metadata_list
        if is_visible(metadata.path, listed)
        and not metadata.path.endswith("/")
        and (not is_folder or is_csv_name(metadata.path))
    }
    if not found:
        raise InputError(
            f"--input: no file matches {pattern}; try: gcloud storage ls {shell_word(pattern)}"
        )
    return found


def _other_scheme(scheme: str) -> str:
    if scheme.lower() == "gs":
        return f"write gs:// in small letters, not {scheme}://"
    return (
        f"{scheme}:// is not read; copy the files to a local folder or to a gs:// bucket, "
        "and give that"
    )


def is_in_bucket(path: str) -> bool:
    """True for an input in a bucket."""
    return path.startswith("gs://")


def _each_once(paths: Iterable[str]) -> list[str]:
    """The paths in order; of a local file that several lead to, the first."""
    first: dict[str, str] = {}
    for path in sorted(paths):
        first.setdefault(path if is_in_bucket(path) else os.path.realpath(path), path)
    return list(first.values())


def _header_or_fault(path: str) -> tuple[Header, int] | str:
    """What `read_header` gives, or why it does not."""
    try:
        return read_header(path)
    except InputError as error:
        return str(error)


_SHOWN_FAULTS: Final = 10


def _all_faults(faults: Sequence[str], files: int) -> str:
    """What is wrong with files, as one message."""
    if len(faults) == 1:
        return faults[0]
    left = len(faults) - _SHOWN_FAULTS
    return "\n  ".join(
        (
            f"--input: {len(faults):,} of {files:,} files cannot be read:",
            *faults[:_SHOWN_FAULTS],
            *([f"… and {left:,} more"] if left > 0 else []),
        )
    )


InputRanges = tuple[InputRange, ...]
"""What one reader reads: a range, or small files of one header."""


def split_files(
    files: Sequence[InputFile], workers: int | None, least_range: int = 0
) -> list[InputRanges]:
    """Cut files into ranges, and put small files together.

    Args:
        files: The files.
        workers: Number of workers, None where it is not known.
        least_range: CSV that a range should have where there is that much.
    """
    total = sum(file.csv_bytes for file in files)
    size = max(RANGE_BYTES, least_range)
    most = size if workers is None else min(size, -(-total // (2 * workers)))
    found: list[InputRanges] = []
    small: defaultdict[Header, list[InputFile]] = defaultdict(list)
    for file in files:
        if file.csv_bytes <= BLOCK_BYTES:
            small[file.header].append(file)
        elif file.suffix:
            # A file that is more than a worker's share of the input is shared.
            readers = _MOST_READERS if workers is None else -(-workers * file.csv_bytes // total)
            stride = max(1, min(readers, _MOST_READERS, file.csv_bytes // size))
            found += [(InputRange(file, first, file.size, stride),) for first in range(stride)]
        else:
            found += [
                (InputRange(file, start, min(start + size, file.size)),)
                for start in range(0, file.size, size)
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
    name = printable(path)
    with _open(path) as file:
        with _damage_named(path, 0):
            head = file.peek(_HEAD_BYTES)
        _require_as_named(head, path)
        stream, position = _decompressed(file, path), 0
        while True:
            with _damage_named(path, position):
                line = stream.readline(HEADER_BYTES + len(BOM) + 2)
            if not line:
                raise InputError(f"{name}: the file is empty; its first line must name the columns")
            start = len(BOM) if not position and line.startswith(BOM) else 0
            position += len(line)
            if line[start:] not in (b"", b"\n", b"\r\n"):
                break
    line = line[start:]
    try:
        return _short_header(line, name), position
    except InputError as error:
        if advice := diagnose(line, path):
            raise InputError(f"{name}: {advice}") from error
        raise


def _short_header(line: bytes, name: str) -> Header:
    """Read a file's header line, unless it is too long to be one."""
    if len(line.rstrip(b"\r\n")) > HEADER_BYTES:
        raise InputError(
            f"{name}: the first line has no end within {HEADER_BYTES >> 20} MB; "
            "it must name the columns"
        )
    return parse_header(line, name)


_HEAD_BYTES: Final = 64


def _require_as_named(head: bytes, path: str) -> None:
    """Check that a file is compressed as the end of its name says.

    Raises:
        InputError: It is compressed in another way, or not.
    """
    named, found = compression_suffix(path), compression_of(head)
    if not head or named == found:
        return
    plain = path[: len(path) - len(named)]
    move = "gcloud storage mv" if is_in_bucket(path) else "mv"
    is_named = f"its name ends in {path[len(plain) :]}" if named else "its name does not say so"
    what = f"a {COMPRESSIONS[found].name} file" if found else recognize(head, path)
    if what is None or found:
        raise InputError(
            f"{printable(path)}: this is {what or 'not compressed'}, but {is_named}; "
            f"rename it: {move} {shell_word(path)} {shell_word(plain + found)}"
        )
    raise InputError(f"{printable(path)}: {what}")


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


def line_number(path: str, offset: int) -> int | None:
    """The number of the line in which an offset of a file lies, after decompression.

    None where that cannot be told soon: the file cannot be read by this name, or is very long.
    """
    if offset > _COUNTED_BYTES:
        return None
    position, line = 0, 1
    try:
        with _open(path) as file:
            stream = _decompressed(file, path)
            while position < offset:
                with _damage_named(path, position):
                    data = stream.read(min(_STORED_BYTES, offset - position))
                if not data:
                    return None
                position += len(data)
                line += data.count(b"\n")
    except InputError:
        return None
    return line


_COUNTED_BYTES: Final = 1 << 30


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
    with _unchanged(part.file) as file:
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
    name = printable(path)
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
            block = Block([Origin(0, name, offset)], lines)
        else:
            begun = filled - cut
            with _damage_named(path, offset + filled):
                line_end = stream.readline(ROW_BYTES + 2 - begun)
                has_end = line_end.endswith(b"\n") or not line_end
                length = begun + len(line_end.removesuffix(b"\n").removesuffix(b"\r"))
                skipped = 0 if has_end or length <= ROW_BYTES else _skip_line(stream)
            read = filled + len(line_end) + skipped
            if length > ROW_BYTES:
                # Its beginning stands for it; the NUL makes it malformed.
                line = bytes(buffer[cut:filled]) + line_end
                line_end = line[: 4 * RAW_CHARACTERS] + b"\0\n"
                filled = cut
            block, rest = Block.of(name, offset, bytes(buffer[:filled]), line_end), b""
            yield block
            offset += read
            continue
        yield block
        offset += len(block)


def _skip_line(stream: BufferedIOBase) -> int:
    """Read up to the end of a line; the number of bytes."""
    skipped = 0
    while data := stream.readline(_STORED_BYTES):
        skipped += len(data)
        if data.endswith(b"\n"):
            break
    return skipped


_LINE_BYTES: Final = 1 << 16
_STORED_BYTES: Final = 1 << 20


def _decompressed(stream: BufferedIOBase, path: str) -> BufferedIOBase:
    """What a stream holds, decompressed as its path's suffix says.

    Raises:
        InputError: It cannot be decompressed.
    """
    suffix = compression_suffix(path)
    if not suffix:
        return stream
    with _damage_named(path, 0):
        try:
            return COMPRESSIONS[suffix].decompressed(stream)
        except ValueError as error:
            raise InputError(f"{printable(path)}: {error}") from error


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
    except DAMAGED as error:
        suffix, name = compression_suffix(path), printable(path)
        if not suffix:
            raise InputError(f"{name}: cannot be read behind byte {done:,} ({error})") from error
        raise InputError(
            f"{name}: damaged or cut off after {done:,} bytes of CSV ({error}); "
            f"copy the file again, and check it with {COMPRESSIONS[suffix].test} {shell_word(path)}"
        ) from error


@contextmanager
def _unchanged(file: InputFile) -> Iterator[BufferedReader]:
    """Open a file of the run, and make sure that it stays what it was when the run began.

    Raises:
        InputError: It cannot be opened, or was changed before all of the block was done.
    """
    with _open(file.path) as stream:
        _require_unchanged(file)
        try:
            yield stream
        except InputError:
            _require_unchanged(file)  # which is the cause, then
            raise
        _require_unchanged(file)


def _require_unchanged(file: InputFile) -> None:
    version = _version(file.path)
    if version == file.version:
        return
    if version.size < file.size:
        how = f"has shrunk from {file.size:,} to {version.size:,} bytes"
    elif version.size > file.size:
        how = f"has grown from {file.size:,} to {version.size:,} bytes"
    else:
        how = "was replaced or written again"
    raise InputError(
        f"{printable(file.path)}: it {how} since the run began; "
        "nothing was published: run again when what writes it is done"
    )


def _version(path: str) -> Version:
    """What a file is now.

    Raises:
        InputError: It is not there.
    """
    if is_in_bucket(path):
        try:
            metadata = FileSystems.get_filesystem(path).metadata(path)
        except Exception as error:  # each file system has errors of its own
            raise InputError(f"{path}: cannot be looked at ({error})") from error
        return Version(metadata.size_in_bytes, metadata.last_updated_in_seconds)
    status = _status(path)
    return Version(status.st_size, status.st_mtime_ns, status.st_ino)


def _status(path: str) -> os.stat_result:
    """What the disk says of a local file.

    Raises:
        InputError: It is not there.
    """
    try:
        return Path(path).stat()
    except OSError as error:
        raise InputError(f"{printable(path)}: cannot be opened ({error.strerror})") from error


def _open(path: str) -> BufferedReader:
    """Open a file for reading, as stored.

    Raises:
        InputError: It cannot be opened.
    """
    try:
        stream: Any = (
            FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
            if is_in_bucket(path)
            else Path(path).open("rb", buffering=0)  # noqa: SIM115 - the caller closes it
        )
    except Exception as error:  # each file system has errors of its own
        raise InputError(f"{printable(path)}: cannot be opened ({error})") from error
    # What a file system gives may read lines byte by byte.
    return BufferedReader(stream, _LINE_BYTES)
