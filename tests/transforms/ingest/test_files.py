"""Files to blocks of whole rows: any cut gives each row once, at its offset."""

import bz2
import dataclasses
import gzip
import os
import random
import shlex
import tempfile
from itertools import chain
from pathlib import Path

import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.oracle import grammar
from tests.oracle.strategies import (
    GOOD_ROW,
    arbitrary_csv_bytes,
    compressed,
    damaged_csv_bytes,
)
from transforms.errors import InputError
from transforms.ingest import files as ingest_files
from transforms.ingest.blocks import Block
from transforms.ingest.files import (
    InputFile,
    InputRange,
    Version,
    match_inputs,
    read_blocks,
    read_header,
    split_files,
)
from transforms.ingest.grammar import BOM, COLUMNS, Header
from transforms.ingest.parsing import parse_block

HEADER = ",".join(COLUMNS).encode()
GOOD = ",".join(GOOD_ROW).encode()
SUFFIXES = ("", ".gz", ".zst", ".bz2", ".zip")


def written(folder: Path, content: bytes, suffix: str = "") -> Path:
    path = folder / f"events.csv{suffix}"
    path.write_bytes(compressed(content, suffix))
    return path


def rows_of(path: Path, readers: int = 1) -> list[tuple[int, bytes]]:
    """Every row that the ranges of a file give: its offset and its bytes."""
    (file,) = match_inputs([str(path)])
    rows = []
    for part in split_files([file], readers):
        for block in read_blocks(part):
            assert len(block)
            rows += [(block.place(start)[1], line) for start, line in lines_of(block)]
    return sorted(rows)


def lines_of(block: Block):
    """The lines of a block that are not blank, cut as the grammar cuts them."""
    # The newline keeps a BOM at the beginning of a block what it is: text.
    return [(start - 1, line) for start, line in grammar.physical_lines(b"\n" + block.data())]


@settings(max_examples=150)
@given(
    content=st.one_of(damaged_csv_bytes(), arbitrary_csv_bytes()),
    blank=st.sampled_from([b"", b"\n", b"\r\n" * 40]),
    suffix=st.sampled_from(SUFFIXES),
    range_bytes=st.integers(1, 400),
    block_bytes=st.integers(1, 200),
    readers=st.integers(1, 4),
)
@example(BOM + HEADER, b"", "", 1, 1, 1)
@example(HEADER + b"\n" + GOOD, b"", "", len(HEADER), 7, 1)
@example(HEADER + b"\n" + GOOD, b"", "", len(HEADER) + 1, 7, 1)
def test_any_cut_gives_each_row_once(  # noqa: PLR0917 - what is drawn
    content, blank, suffix, range_bytes, block_bytes, readers
):
    content = blank + content
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingest_files, "RANGE_BYTES", range_bytes)
        patch.setattr(ingest_files, "BLOCK_BYTES", block_bytes)
        path = written(Path(folder), content, suffix)
        try:
            grammar.read_csv(content)
        except grammar.HeaderError:
            with pytest.raises(InputError):
                rows_of(path, readers)
        else:
            assert rows_of(path, readers) == list(grammar.physical_lines(content))[1:]


def test_what_the_readers_of_a_compressed_file_share_is_all_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr(ingest_files, "BLOCK_BYTES", 500)
    monkeypatch.setattr(ingest_files, "RANGE_BYTES", 1000)
    content = b"\n".join([HEADER, *(b"row %d" % number for number in range(1000))])
    for suffix in SUFFIXES[1:]:
        path = written(tmp_path, content, suffix)
        file = dataclasses.replace(*match_inputs([str(path)]), csv_bytes=5000)
        parts = split_files([file], 3)
        assert [(part.start, part.stride) for (part,) in parts] == [(0, 3), (1, 3), (2, 3)]
        shares = [
            {line for block in read_blocks(part) for _, line in lines_of(block)} for part in parts
        ]
        assert all(shares)
        assert sum(map(len, shares)) == 1000
        assert len(set.union(*shares)) == 1000


def test_compressed_files_have_readers_by_their_share_of_the_input(monkeypatch):
    monkeypatch.setattr(ingest_files, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(ingest_files, "RANGE_BYTES", 1000)

    def readers(sizes, workers):
        files = [
            InputFile(f"{size}.csv.gz", Version(size, 0), 5 * size, Header(COLUMNS), 0)
            for size in sizes
        ]
        return [part.file.size for (part,) in split_files(files, workers)]

    assert readers([7000, 8000, 9000], 2) == [7000, 8000, 9000]
    assert readers([1000, 9000], 2) == [1000, 9000, 9000]
    assert readers([9000], 16) == [9000] * 4
    assert readers([8000, 9000], None) == [8000] * 4 + [9000] * 4


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_csv_in_a_file_is_estimated_by_the_beginning_of_the_largest_of_its_kind(
    tmp_path, suffix
):
    numbers = random.Random(1)
    content = b"\n".join([HEADER, *(b"row %d" % numbers.getrandbits(200) for _ in range(90_000))])
    path = written(tmp_path, content, suffix)
    (tmp_path / f"small.csv{suffix}").write_bytes(compressed(HEADER, suffix))

    files = match_inputs([str(tmp_path / "*")])

    found = {file.path: file.csv_bytes for file in files}
    assert found[str(path)] == pytest.approx(len(content), rel=0.06)
    assert sum(found.values()) == pytest.approx(len(content), rel=0.06)


def test_a_small_compressed_file_has_one_reader(tmp_path):
    (file,) = match_inputs([str(written(tmp_path, HEADER + b"\n" + GOOD, ".gz"))])
    assert [part.stride for (part,) in split_files([file], 8)] == [1]


def test_ranges_cover_a_plain_file(tmp_path, monkeypatch):
    monkeypatch.setattr(ingest_files, "BLOCK_BYTES", 100)
    monkeypatch.setattr(ingest_files, "RANGE_BYTES", 100)
    (file,) = match_inputs([str(written(tmp_path, HEADER + b"\n" + GOOD * 3))])
    parts = [part for (part,) in split_files([file], 1)]
    ends = [part.end for part in parts]
    assert [part.start for part in parts] == [0, *ends[:-1]]
    assert ends[-1] == file.size
    assert max(part.end - part.start for part in parts) == 100


def test_blocks_are_about_as_large_as_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(ingest_files, "BLOCK_BYTES", 4096)
    content = HEADER + b"\n" + (GOOD + b"\n") * 2000
    for suffix in SUFFIXES:
        (file,) = match_inputs([str(written(tmp_path, content, suffix))])
        sizes = [len(block) for part in split_files([file], 1) for block in read_blocks(part)]
        assert max(sizes) <= 4096 + len(GOOD) + 1
        assert sum(sizes) == len(content) - len(HEADER) - 1


def test_a_row_longer_than_many_ranges_is_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(ingest_files, "RANGE_BYTES", 1 << 20)
    monkeypatch.setattr(ingest_files, "BLOCK_BYTES", 1 << 18)
    long = b"x" * (50 << 20)
    path = written(tmp_path, b"\n".join([HEADER, GOOD, long, GOOD]))
    rows = rows_of(path)
    assert [len(line) for _, line in rows] == [len(GOOD), len(long), len(GOOD)]
    assert [offset for offset, _ in rows] == [
        len(HEADER) + 1,
        len(HEADER) + len(GOOD) + 2,
        len(HEADER) + len(GOOD) + len(long) + 3,
    ]


# Compression --------------------------------------------------------------------------------------


def test_files_of_several_members_are_read_to_their_end(tmp_path):
    content = b"\n".join([HEADER, *[GOOD] * 300])
    halves = (content[:7000], content[7000:])
    members = {
        ".gz": b"".join(map(gzip.compress, (*halves, b""))),
        ".bz2": b"".join(map(bz2.compress, halves)),
        ".zst": b"".join(zstandard.ZstdCompressor().compress(half) for half in halves),
    }
    for suffix, data in members.items():
        path = tmp_path / f"events.csv{suffix}"
        path.write_bytes(data)
        assert rows_of(path) == list(grammar.physical_lines(content))[1:]


def test_zstd_with_a_window_and_no_size_is_read(tmp_path):
    path = tmp_path / "events.csv.zst"
    content = b"\n".join([HEADER, *(b"%d" % number for number in range(200_000))])
    compressor = zstandard.ZstdCompressor().compressobj()
    path.write_bytes(compressor.compress(content) + compressor.flush())
    assert len(rows_of(path)) == 200_000


@pytest.mark.parametrize("suffix", SUFFIXES[1:])
@pytest.mark.parametrize("kept", [0.6, 0.99, -1])
def test_a_file_that_is_cut_off_is_named(tmp_path, suffix, kept):
    content = HEADER + b"\n" + os.urandom(400_000).replace(b"\n", b"x") + b"\n"
    data = compressed(content, suffix)
    path = tmp_path / f"events.csv{suffix}"
    path.write_bytes(data[: int(len(data) * kept) if kept > 0 else -1])
    with pytest.raises(InputError, match=r"damaged or cut off after [0-9,]+ bytes of CSV") as error:
        rows_of(path)
    assert str(error.value).startswith(f"{path}: ")
    assert str(error.value).endswith(f" -t {shlex.quote(str(path))}")


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [
        (".gz", gzip.compress),
        (".bz2", bz2.compress),
        (".zst", zstandard.ZstdCompressor(write_checksum=True).compress),
        (".zip", lambda content: compressed(content, ".zip")),
    ],
)
def test_a_damaged_file_is_named(tmp_path, suffix, compress):
    lines = [HEADER, *(os.urandom(1000).replace(b"\n", b"x") for _ in range(2000)), b""]
    data = bytearray(compress(b"\n".join(lines)))
    data[-1000] ^= 0xFF
    path = tmp_path / f"events.csv{suffix}"
    path.write_bytes(data)
    with pytest.raises(InputError, match="damaged or cut off") as error:
        rows_of(path)
    assert str(path) in str(error.value)


# Globs and headers --------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"\n\r\n", BOM, BOM + b"\n"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_empty_file_says_so(tmp_path, content, suffix):
    path = written(tmp_path, content, suffix)
    with pytest.raises(InputError, match="the file is empty; its first line must name the columns"):
        match_inputs([str(path)])


def test_a_file_with_a_header_alone_has_no_rows(tmp_path):
    for content in (HEADER, HEADER + b"\n", BOM + b"\n" + HEADER + b"\r\n\r\n"):
        assert rows_of(written(tmp_path, content)) == []


def test_globs_give_each_file_once_in_the_order_of_paths(tmp_path):
    for name in ("b.csv", "a.csv", "c.csv.gz"):
        (tmp_path / name).write_bytes(compressed(HEADER, Path(name).suffix))
    (tmp_path / "notes.txt").write_text("no CSV")
    files = match_inputs([f"{tmp_path}/*.csv*", f"{tmp_path}/a.csv"])
    assert [Path(file.path).name for file in files] == ["a.csv", "b.csv", "c.csv.gz"]
    assert [file.suffix for file in files] == ["", "", ".gz"]
    assert [file.size for file in files] == [
        path.stat().st_size for path in sorted(tmp_path.glob("*.csv*"))
    ]


def test_a_glob_that_matches_nothing_says_so(tmp_path):
    (tmp_path / "a.csv").write_bytes(HEADER)
    with pytest.raises(InputError) as error:
        match_inputs([f"{tmp_path}/a.csv", f"{tmp_path}/2019-*.csv"])
    folder = shlex.quote(f"{tmp_path}/")
    assert str(error.value) == (f"--input: no file matches {tmp_path}/2019-*.csv; try: ls {folder}")


def test_the_header_and_where_rows_start_are_read_from_any_file(tmp_path):
    content = BOM + b"\r\n\n" + HEADER + b"\r\n" + GOOD
    for suffix in SUFFIXES:
        header, rows_start = read_header(str(written(tmp_path, content, suffix)))
        assert header.columns == COLUMNS
        assert rows_start == content.index(GOOD)


def test_ranges_are_parsed_to_the_offsets_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(ingest_files, "RANGE_BYTES", 300)
    monkeypatch.setattr(ingest_files, "BLOCK_BYTES", 90)
    content = b"\n".join([HEADER, GOOD, b"bad", GOOD, "é".encode(), b"", GOOD, b"worse"])
    for suffix in SUFFIXES:
        (file,) = match_inputs([str(written(tmp_path, content, suffix))])
        rejected = [
            row
            for part in split_files([file], 2)
            for block in read_blocks(part)
            for row in parse_block(block, file.header).rejected.select("byte_offset", "raw").rows()
        ]
        assert sorted(rejected) == [
            (content.index(raw.encode()), raw) for raw in ("bad", "é", "worse")
        ]


def test_a_file_that_vanishes_is_named(tmp_path):
    path = written(tmp_path, HEADER)
    (file,) = match_inputs([str(path)])
    path.unlink()
    with pytest.raises(InputError, match="cannot be opened") as error:
        list(read_blocks((InputRange(file, 0, file.size),)))
    assert str(path) in str(error.value)


@settings(max_examples=60)
@given(
    contents=st.lists(
        st.tuples(st.one_of(damaged_csv_bytes(), arbitrary_csv_bytes()), st.sampled_from(SUFFIXES)),
        min_size=2,
        max_size=6,
    ),
    block_bytes=st.integers(1, 2000),
    workers=st.sampled_from([None, 1, 2]),
)
def test_small_files_are_read_together_as_they_are_alone(contents, block_bytes, workers):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        paths = []
        for number, (content, suffix) in enumerate(contents):
            path = Path(folder) / f"{number}.csv{suffix}"
            path.write_bytes(compressed(HEADER + b"\n" + content, suffix))
            paths.append(str(path))
        files = match_inputs(paths)
        alone = [rejected_and_events([(InputRange(file, 0, file.size),)]) for file in files]
        patch.setattr(ingest_files, "BLOCK_BYTES", block_bytes)
        patch.setattr(ingest_files, "RANGE_BYTES", 4 * block_bytes)
        rejected, events = rejected_and_events(split_files(files, workers))
    assert rejected == sorted(chain(*(rows for rows, _ in alone)))
    assert events == sorted(chain(*(rows for _, rows in alone)))


def rejected_and_events(parts):
    """What is parsed of some ranges, in an order of its own."""
    parsed = [
        parse_block(block, ranges[0].file.header)
        for ranges in parts
        for block in read_blocks(ranges)
    ]
    return (
        sorted(row for block in parsed for row in block.rejected.rows()),
        sorted(str(row) for block in parsed for row in block.events.rows()),
    )


def test_small_files_share_blocks(tmp_path):
    paths = [str(tmp_path / f"{number}.csv") for number in range(50)]
    for number, path in enumerate(paths):
        Path(path).write_bytes(HEADER + b"\n" + GOOD + b"\n" + b"bad %d\n" % number)
    files = match_inputs(paths)
    for workers, expected in ((None, 1), (1, 2), (2, 4)):
        parts = split_files(files, workers)
        assert len(parts) in {expected, expected + 1}
        blocks = [block for ranges in parts for block in read_blocks(ranges)]
        assert len(blocks) == len(parts)
        rejected, _ = rejected_and_events(parts)
        assert {(path, raw) for path, _, _, raw in rejected} == {
            (path, f"bad {number}") for number, path in enumerate(paths)
        }
    other = InputFile("other.csv", Version(5, 0), 5, Header(COLUMNS[::-1]), 0)
    assert len(split_files([*files, other], None)) == 2
