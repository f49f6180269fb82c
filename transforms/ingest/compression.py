"""Compressions of input files, by the end of a file's name."""

from __future__ import annotations

import bz2
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping
from io import BufferedIOBase
from typing import Final, NamedTuple, cast

from backports import zstd
from isal import igzip, igzip_lib


class Compression(NamedTuple):
    """A compression.

    Attributes:
        name: What its users call it.
        magic: What a file of it begins with.
        decompressed: Gives what a file of it holds; a ValueError says why that cannot be read.
        test: The command that tests a file of it.
    """

    name: str
    magic: re.Pattern[bytes]
    decompressed: Callable[[BufferedIOBase], BufferedIOBase]
    test: str


def _only_csv(stored: BufferedIOBase) -> BufferedIOBase:
    """The one CSV in a zip archive; what a Mac's archiver or an editor adds does not count."""
    with zipfile.ZipFile(stored) as archive:
        members = [
            member
            for member in archive.infolist()
            if re.fullmatch(r"(?!__MACOSX/)(?:.*/)?[^./][^/]*\.csv", member.filename, re.IGNORECASE)
        ]
        if len(members) != 1:
            raise ValueError(
                f"the archive holds {len(members)} CSV files, and only of one with exactly one is "
                "it clear what to read; unzip it, and give its files as --input"
            )
        try:
            return cast(BufferedIOBase, archive.open(members[0]))
        except (RuntimeError, NotImplementedError) as error:
            raise ValueError(f"{error}; unzip it, and give its file as --input") from error


COMPRESSIONS: Final[Mapping[str, Compression]] = {
    ".gz": Compression(
        "gzip",
        re.compile(rb"\x1f\x8b"),
        lambda stored: igzip.GzipFile(fileobj=stored, mode="rb"),
        "gzip -t",
    ),
    ".zst": Compression(
        "Zstandard",
        re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"),  # a frame, or one to be skipped
        zstd.ZstdFile,
        "zstd -t",
    ),
    ".bz2": Compression("bzip2", re.compile(rb"BZh[1-9]"), bz2.BZ2File, "bzip2 -t"),
    ".zip": Compression("zip", re.compile(rb"PK(?:\x03\x04|\x05\x06)"), _only_csv, "unzip -t"),
}

DAMAGED: Final = (
    OSError,
    EOFError,
    zlib.error,
    cast(type[Exception], igzip_lib.IsalError),  # its stub says an instance
    zstd.ZstdError,
    zipfile.BadZipFile,
)
"""What reading a damaged file raises."""


def compression_suffix(path: str) -> str:
    """`.gz`, `.zst`, `.bz2`, `.zip`, or nothing for a plain file; capitals are read too."""
    return next((suffix for suffix in COMPRESSIONS if path.lower().endswith(suffix)), "")


def is_csv_name(name: str) -> bool:
    """Whether a file of this name, compressed or not, is a CSV."""
    suffix = compression_suffix(name)
    return name.lower().removesuffix(suffix).endswith(".csv")


def compression_of(head: bytes) -> str:
    """The suffix of the compression whose files begin so, or nothing."""
    return next((suffix for suffix, kind in COMPRESSIONS.items() if kind.magic.match(head)), "")
