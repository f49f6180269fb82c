"""Files as people have them: names, globs, wrong kinds, and files that change or have no end."""

import gzip
import io
import os
import shlex
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.oracle.strategies import GOOD_ROW, compressed
from transforms.errors import InputError
from transforms.ingest import files as reading
from transforms.ingest.files import match_inputs, read_blocks, split_files
from transforms.ingest.grammar import COLUMNS
from transforms.ingest.parsing import parse_block

HEADER = ",".join(COLUMNS).encode()
GOOD = ",".join(GOOD_ROW).encode()
CONTENT = HEADER + b"\n" + GOOD + b"\n"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The working folder, empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(*names: str, content: bytes = CONTENT) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content)


def matched(*patterns: str) -> list[str]:
    return [file.path for file in match_inputs(patterns)]


def refused(*patterns: str) -> str:
    """Why an input is refused, in one line."""
    with pytest.raises(InputError) as error:
        match_inputs(patterns)
    message = str(error.value)
    assert "\n" not in message
    assert message.isprintable()
    return message


def parsed(*patterns: str):
    """The number of rows that are accepted, and the rows that are rejected."""
    events, rejected = 0, []
    for part in split_files(match_inputs(patterns), 1):
        for block in read_blocks(part):
            found = parse_block(block, part[0].file.header)
            events += found.events.height
            rejected += found.rejected.rows()
    return events, rejected


def shell(command: str, **options) -> str:
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=True, **options)
    return os.fsdecode(done.stdout)


# Globs --------------------------------------------------------------------------------------------


def test_a_glob_in_the_working_folder(folder):
    write("2019-Oct.csv", "2019-Nov.csv", "2020-Jan.csv")
    write("2019-Dec.csv.gz", content=gzip.compress(CONTENT, mtime=0))
    assert matched("2019-*.csv*") == ["2019-Dec.csv.gz", "2019-Nov.csv", "2019-Oct.csv"]
    assert parsed("2019-*.csv*") == (3, [])


@pytest.mark.parametrize(
    "name", ["data [2019].csv", "a,b.csv", "what?.csv", "all*.csv", "a\\b.csv"]
)
def test_a_name_that_exists_wins_over_its_reading_as_a_glob(folder, name):
    write(name, "data 2.csv", "a", "b.csv", "whats.csv", "all of it.csv")
    assert matched(name) == [name]


def test_globs_are_parted_by_commas(folder):
    write("a.csv", "b.csv", "c.csv", "d, e.csv")
    assert matched("a.csv,[bc].csv", "d, e.csv") == ["a.csv", "b.csv", "c.csv", "d, e.csv"]


def test_wildcards_leave_out_what_is_hidden(folder):
    write(
        "a.csv", ".hidden.csv", "_SUCCESS", "_temporary/b.csv", ".git/c.csv", "d/e.csv", "d/_f.csv"
    )
    assert matched("*") == ["a.csv"]
    assert matched("*/*.csv") == ["d/e.csv"]
    assert matched("**/*.csv") == ["a.csv", "d/e.csv"]
    assert matched("_*/*.csv") == ["_temporary/b.csv"]
    assert matched(".git/*", "d/_f.csv") == [".git/c.csv", "d/_f.csv"]
    assert "only names that begin with _" in refused("_temporary/../*SUCCESS")


def test_wildcards_leave_out_what_the_program_publishes(folder):
    write("a.csv", "warehouse/_runs/1/fct_events/b.csv", "warehouse/_runs/1/report.html")
    Path("warehouse/_current").symlink_to("_runs/1")
    for name in ("fct_events", "report.html"):
        Path(f"warehouse/{name}").symlink_to(f"_current/{name}")
    Path("report.html").symlink_to("warehouse/_current/report.html")
    assert matched("*") == ["a.csv"]
    assert matched("**") == ["a.csv"]
    assert matched("*", "warehouse/fct_events/*") == ["a.csv", "warehouse/fct_events/b.csv"]
    assert "no file matches" not in refused("warehouse/*")


def test_a_folder_means_its_csv_files(folder):
    write(
        "data/a.csv", "data/B.CSV", "data/_c.csv", "data/.d.csv", "data/e.txt", "data/f.csv/g.csv"
    )
    for suffix in (".gz", ".zst", ".bz2", ".zip"):
        write(f"data/h.csv{suffix}", content=compressed(CONTENT, suffix))
    names = ["B.CSV", "a.csv", "h.csv.bz2", "h.csv.gz", "h.csv.zip", "h.csv.zst"]
    assert matched("data") == [f"data/{name}" for name in names]
    assert matched("data/") == [f"data/{name}" for name in names]
    assert refused("data/f.csv/..", "data/f.csv", "/proc/self/fd").startswith(
        "--input: the folder "
    )
    assert "matches only folders" in refused("dat*")


def test_a_file_is_read_once_however_it_is_spelled(folder):
    write("a.csv", "b/c.csv")
    Path("link.csv").symlink_to("a.csv")
    spellings = ["./a.csv", "b/../a.csv", str(folder / "a.csv"), "link.csv", "*.csv"]
    assert len(matched(*spellings)) == 1
    assert matched(*spellings) == matched(*reversed(spellings))


def test_what_is_no_file_is_refused(folder):
    os.mkfifo("pipe.csv")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.csv")
        for pattern, kind in (
            ("pipe.csv", "a pipe"),
            ("*pe.csv", "a pipe"),
            ("socket.csv", "a socket"),
            ("/dev/null", "a device"),
        ):
            assert f"this is {kind}, which cannot be read in parts" in refused(pattern)


def test_a_glob_looks_only_where_it_says(folder, monkeypatch):
    write("a/b/c.csv", "d.csv")
    looked = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: looked.append(path) or scandir(path))
    assert matched(f"{folder}/*.csv") == [f"{folder}/d.csv"]
    assert [Path(path) for path in looked] == [folder]


def test_what_to_try_works_in_a_shell(folder):
    write("my data/2019.csv", "it's/a.csv")
    for pattern in ("my data/2020-*.csv", "it's/*.gz", "*.parquet"):
        message, _, command = refused(pattern).partition("; try: ")
        assert message == f"--input: no file matches {pattern}"
        assert shell(command).strip() in {"2019.csv", "a.csv", "it's\nmy data"}
    assert refused("data/2019-*.csv").endswith("there is no folder data/")


def test_a_broken_link_is_named(folder):
    Path("a.csv").symlink_to("gone")
    for pattern in ("a.csv", "*.csv"):
        assert refused(pattern) == "a.csv: cannot be opened (No such file or directory)"


# URLs ---------------------------------------------------------------------------------------------


def test_file_urls_are_read(folder):
    write("my data.csv", "b.csv")
    assert matched(f"file://{folder}/my%20data.csv") == [f"{folder}/my data.csv"]
    assert matched(f"FILE://localhost{folder}/*.csv") == [
        f"{folder}/b.csv",
        f"{folder}/my data.csv",
    ]
    assert refused("file://data/b.csv").endswith("has three slashes: file:///data/b.csv")


@pytest.mark.parametrize("scheme", ["http", "https", "s3", "s3a", "hdfs", "abfss"])
def test_other_schemes_are_refused(scheme):
    assert refused(f"{scheme}://host/a.csv") == (
        f"--input: {scheme}://host/a.csv: {scheme}:// is not read; "
        "copy the files to a local folder or to a gs:// bucket, and give that"
    )


def test_the_scheme_of_buckets_is_written_small():
    assert refused("GS://bucket/a.csv").endswith(": write gs:// in small letters, not GS://")


# Names that are not UTF-8 -------------------------------------------------------------------------


def test_names_that_are_no_text_are_read_and_shown(folder):
    name = os.fsdecode(b"caf\xe9 'x'\n.csv")
    write(name, content=CONTENT + b"bad\n")
    assert parsed("*.csv") == (
        1,
        [(r"caf\xe9 'x'\n.csv", len(CONTENT), "malformed_row", "bad")],
    )
    Path(name).write_bytes(b"")
    assert refused(name).startswith(r"caf\xe9 'x'\n.csv: the file is empty")
    damaged = os.fsdecode(b"caf\xe9 'x'\n.csv.gz")
    Path(damaged).write_bytes(gzip.compress(CONTENT, mtime=0)[:-20])
    command = refused(damaged).rpartition("check it with gzip -t ")[2]
    assert os.fsencode(shell(f"ls {command}").strip()) == os.fsencode(damaged)


# Wrong kinds --------------------------------------------------------------------------------------

PARQUET = b"PAR1\x15\x04\x15\x10"
LATER = b"\n".join([GOOD] * 5)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", PARQUET, "this is a Parquet file; write it as CSV: "),
        ("a.csv.gz", gzip.compress(PARQUET, mtime=0), "this is a Parquet file; "),
        ("a.csv.gz", PARQUET, "this is a Parquet file; "),
        ("a.csv", CONTENT.decode().encode("utf-16"), "this is UTF-16 text; write it as UTF-8: "),
        ("a.csv", CONTENT.decode().encode("utf-16-le"), "this is UTF-16 text; "),
        ("a.csv", CONTENT.decode().encode("utf-16-be"), "this is UTF-16 text; "),
        ("a.csv", b"\xfe\xff" + CONTENT.decode().encode("utf-16-be"), "this is UTF-16 text; "),
        ("a.csv", b"\n <!DOCTYPE html><html>", "this is a web page, not a CSV; "),
        ("a.csv.gz", b"<html>\n", "this is a web page, not a CSV; "),
        ("a.csv", b"version https://git-lfs.github.com/spec/v1\noid", "this is a Git LFS pointer"),
        ("a.csv", b"\xfd7zXZ\0\0", "this is an xz file; decompress it: xz -d a.csv"),
        (
            "a b.csv",
            gzip.compress(CONTENT, mtime=0),
            "this is a gzip file, but its name does not say so; ",
        ),
        ("a.csv", compressed(CONTENT, ".zip"), "this is a zip file, but its name does not say so"),
        (
            "a.csv.zst",
            gzip.compress(CONTENT, mtime=0),
            "this is a gzip file, but its name ends in .zst; ",
        ),
        ("a.csv.GZ", compressed(CONTENT, ".zst"), "this is a Zstandard file, but its name ends in"),
        ("a.csv.bz2", CONTENT, "this is not compressed, but its name ends in .bz2; rename it: "),
        ("a.csv.zip", CONTENT, "this is not compressed, but its name ends in .zip; rename it: "),
        ("a.csv", CONTENT.replace(b",", b";"), "its fields are parted by semicolons, not commas"),
        ("a.csv", CONTENT.replace(b",", b"\t"), "its fields are parted by tabs, not commas"),
        ("a.csv", CONTENT.replace(b",", b"|"), "its fields are parted by vertical bars, not"),
        ("a.csv", CONTENT.replace(b"\n", b"\r"), "its lines end in CR alone, "),
        ("a.csv", HEADER + b"\r" + LATER * 5000, "its lines end in CR alone, "),
        ("a.csv", HEADER.upper() + b"\n", "the header names the columns with other capitals or "),
        ("a.csv", HEADER.replace(b",", b", ") + b",X\n", "the header names the columns with other"),
        ("a.csv", GOOD + b"\n", "there is no header, the first line is a row; put a first line "),
        ("a.csv", b'"' + GOOD.replace(b",", b'","') + b'"\n', "there is no header, "),
        ("a.csv", b"a,b\n1,2\n", "the header lacks event_time, "),
    ],
)
def test_a_wrong_kind_of_file_says_what_it_is(folder, name, content, message):
    write(name, content=content)
    assert refused(name).startswith(f"{name}: {message}")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a b.csv", gzip.compress(CONTENT, mtime=0)),
        ("a.csv.zst", gzip.compress(CONTENT, mtime=0)),
        ("it's.csv.gz", CONTENT),
        ("a.csv", CONTENT.replace(b",", b";")),
        ("a.csv", CONTENT.replace(b",", b"\t")),
        ("a.csv", CONTENT.replace(b"\n", b"\r")),
        ("a b.csv", CONTENT.decode().encode("utf-16")),
    ],
)
def test_the_command_that_mends_a_file_works(folder, name, content):
    write(name, content=content)
    command = refused(name).partition(": ")[2].partition(": ")[2]
    shell(command.replace("python3", shlex.quote(sys.executable)))
    made = [path.name for path in folder.iterdir() if path.name != name]
    assert parsed(*made) == (1, [])


def test_all_wrong_files_are_named(folder):
    write("ok.csv", content=CONTENT)
    write(*(f"{number:02}.csv" for number in range(12)), content=b"a,b\n")
    with pytest.raises(InputError) as error:
        match_inputs(["*.csv"])
    first, *named, last = str(error.value).split("\n")
    assert first == "--input: 12 of 13 files cannot be read:"
    assert [line[: len("  00.csv: the header lacks")] for line in named] == [
        f"  {number:02}.csv: the header lacks" for number in range(10)
    ]
    assert last == "  … and 2 more"


def test_capitals_in_a_suffix_do_not_matter(folder):
    write("a.CSV.GZ", content=gzip.compress(CONTENT, mtime=0))
    assert parsed("a.CSV.GZ") == (1, [])


def archived(**contents: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_a_zip_with_one_csv_inside_is_read(folder):
    others = {"__MACOSX/._a.csv": b"x", ".b.csv": b"x", "readme.txt": b"x", "folder/": b""}
    write("a.zip", content=archived(**others, **{"folder/A.CSV": CONTENT + b"bad"}))
    assert parsed("a.zip") == (1, [("a.zip", len(CONTENT), "malformed_row", "bad")])


@pytest.mark.parametrize(("names", "number"), [([], 0), (["a.txt"], 0), (["a.csv", "b.csv"], 2)])
def test_a_zip_of_none_or_several_is_refused(folder, names, number):
    write("a.csv.zip", content=archived(**dict.fromkeys(names, CONTENT)))
    assert f"a.csv.zip: the archive holds {number} CSV files" in refused("a.csv.zip")


def test_a_zip_with_a_password_is_refused(folder):
    data = bytearray(archived(**{"a.csv": CONTENT}))
    for magic, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(magic) + place] |= 1
    write("a.zip", content=bytes(data))
    assert "password required" in refused("a.zip")
    assert "unzip it" in refused("a.zip")


# Files that change --------------------------------------------------------------------------------


def shrink(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() * 2)


def replace(path: Path) -> None:
    Path("new").write_bytes(path.read_bytes())
    Path("new").rename(path)


def write_again(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"E")


CHANGES = {
    shrink: "it has shrunk from",
    grow: "it has grown from",
    replace: "it was replaced or written again",
    write_again: "it was replaced or written again",
}


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("moment", ["before", "while"])
@pytest.mark.parametrize(("change", "message"), CHANGES.items())
def test_a_file_that_changes_fails_the_run(  # noqa: PLR0917 - what is varied
    folder, monkeypatch, change, message, moment, suffix
):
    monkeypatch.setattr(reading, "BLOCK_BYTES", 300)
    monkeypatch.setattr(reading, "RANGE_BYTES", 2000)
    path = Path(f"a.csv{suffix}")
    content = compressed(HEADER + b"\n" + (GOOD + b"\n") * 5000, suffix)
    path.write_bytes(content)
    parts = split_files(match_inputs([str(path)]), 1)
    blocks = read_blocks(parts[0])
    if moment == "while":
        next(blocks)
    change(path)
    with pytest.raises(InputError) as error:
        list(blocks)
    assert str(error.value).startswith(f"{path}: {message}")


def test_a_file_that_goes_while_it_is_read_fails_the_run(folder):
    write("a.csv")
    blocks = read_blocks(*split_files(match_inputs(["a.csv"]), 1))
    next(blocks)
    Path("a.csv").unlink()
    with pytest.raises(InputError, match=r"a\.csv: cannot be opened"):
        list(blocks)


# Lines without an end -----------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_header_without_an_end_is_refused(folder, suffix):
    write(f"a.csv{suffix}", content=compressed(b"x" * (100 << 20), suffix))
    assert "the first line has no end within 1 MB" in refused(f"a.csv{suffix}")
    longest = HEADER + b"," + b"x" * ((1 << 20) - len(HEADER) - 1)
    write(f"b.csv{suffix}", content=compressed(longest + b"\r\n", suffix))
    assert parsed(f"b.csv{suffix}") == (0, [])
    write(f"b.csv{suffix}", content=compressed(longest + b"x\n", suffix))
    assert "no end within 1 MB" in refused(f"b.csv{suffix}")


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""], ids=["LF", "CRLF", "none"])
@pytest.mark.parametrize("suffix", ["", ".zst"])
def test_a_row_beyond_the_limit_is_malformed_and_its_neighbours_are_read(
    folder, monkeypatch, suffix, end
):
    limit = 100_000
    monkeypatch.setattr(reading, "ROW_BYTES", limit)
    monkeypatch.setattr(reading, "BLOCK_BYTES", limit // 3)
    monkeypatch.setattr(reading, "RANGE_BYTES", limit // 2)
    start = GOOD.replace(b"samsung", "é".encode() * 20_000)

    def filled(size: int) -> bytes:
        return start.replace(b"\xa9,", b"\xa9" + b"x" * (size - len(start)) + b",", 1)

    for size in (limit, limit + 1, limit + 2, 3 * limit, 10 * limit + 7):
        row = filled(size)
        assert len(row) == size
        lines = [HEADER, GOOD, row, *([GOOD, b"bad", GOOD] if end else [])]
        content = (end or b"\n").join(lines) + end
        name = f"{size}.csv{suffix}"
        write(name, content=compressed(content, suffix))
        events, rejected = parsed(name)
        bad = [(name, content.index(b"bad"), "malformed_row", "bad")] if end else []
        if size > limit:
            raw = row.decode()[:10_000]
            bad = [(name, content.index(row), "malformed_row", raw), *bad]
        assert sorted(rejected, key=lambda row: row[1]) == bad
        assert events == (3 if end else 1) + (size <= limit)


def test_memory_is_bounded_whatever_stands_in_a_file(folder):
    size = 300 << 20
    with Path("a.csv").open("wb") as file:
        file.write(CONTENT)
        file.truncate(len(CONTENT) + size)
        file.seek(0, os.SEEK_END)
        file.write(b"\n" + GOOD)
    parsed_by_a_process = (
        "import resource, sys\n"
        "from tests.transforms.ingest.test_input_files import parsed\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "events, rejected = parsed('a.csv')\n"
        "assert (events, [row[:3] for row in rejected]) == (2, [('a.csv', int(sys.argv[1]), "
        "'malformed_row')])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", parsed_by_a_process, str(len(CONTENT))],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert int(done.stdout) < 250 << 10
