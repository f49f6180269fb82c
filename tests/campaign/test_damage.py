"""Damaged files: each is read as plain Python reads it, or refused in a line that names it.

200 files; more by `--campaign=N`.
"""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.generate_events import main as generate
from tests.oracle.grammar import read_file
from tests.oracle.strategies import compressed
from transforms.errors import InputError
from transforms.ingest import files as ingest_files
from transforms.ingest.files import match_inputs, read_blocks, split_files
from transforms.ingest.parsing import parse_block

SUFFIXES = (".csv", ".csv", ".csv", ".csv.gz", ".csv.zst", ".csv.bz2", ".zip")
ODD = (b"\0", b"\n", b"\r\n", b'"', b",", b"\xff", b"\xef\xbb\xbf", b"-", b"\x1f\x8b", b" ")


def cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data))]


def flip(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice([1, 1, 5, 50])):
        changed[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def insert(data: bytes, chance: random.Random) -> bytes:
    for _ in range(chance.choice([1, 3, 20])):
        place = chance.randrange(len(data) + 1)
        data = data[:place] + chance.choice(ODD) * chance.choice([1, 1, 7]) + data[place:]
    return data


def move(data: bytes, chance: random.Random) -> bytes:
    first, second = sorted(chance.randrange(len(data) + 1) for _ in range(2))
    return data[:first] + data[second:] + data[first:second]


def repeat(data: bytes, chance: random.Random) -> bytes:
    first, second = sorted(chance.randrange(len(data) + 1) for _ in range(2))
    return data[:second] + data[first:]


def blank(data: bytes, chance: random.Random) -> bytes:
    """A block of zeros, as a disk or a download leaves."""
    first = chance.randrange(len(data))
    return data[:first] + bytes(min(512, len(data) - first)) + data[first + 512 :]


DAMAGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    *(cut, flip, insert, move, repeat, blank),
)


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("sound") / "a.csv"
    assert generate(["--rows", "150", "--seed", "1", "--output", str(path)]) == 0
    return path.read_bytes()


def rows_of(path: Path) -> tuple[int, int]:
    """Accepted and rejected rows, by plain Python."""
    accepted, rejected = read_file(path)
    return len(accepted), len(rejected)


def read(path: Path) -> tuple[int, int]:
    """The same, by the product; all that it read is one or the other."""
    found = [0, 0]
    for part in split_files(match_inputs([str(path)]), 2):
        for block in read_blocks(part):
            parsed = parse_block(block, part[0].file.header)
            assert parsed.rows_read == parsed.events.height + parsed.rejected.height
            found[0] += parsed.events.height
            found[1] += parsed.rejected.height
    return found[0], found[1]


def outcome(reader: Callable[[Path], tuple[int, int]], path: Path) -> tuple[int, int] | Exception:
    """What a reader counts, or why it does not."""
    try:
        return reader(path)
    except Exception as error:  # noqa: BLE001 - the decompressors of plain Python have many
        return error


def test_every_row_of_a_damaged_file_is_accounted_for(sound, tmp_path, monkeypatch, pytestconfig):
    monkeypatch.setattr(ingest_files, "BLOCK_BYTES", 2000)
    refused = 0
    number = 10 * pytestconfig.getoption("--campaign")
    for seed in range(number):
        chance = random.Random(seed)
        suffix = SUFFIXES[seed % len(SUFFIXES)]
        damage = chance.choice(DAMAGES)
        path = tmp_path / f"{seed}{suffix}"
        if chance.random() < 0.5 or suffix == ".csv":
            content = compressed(damage(sound, chance), suffix)
        else:
            content = damage(compressed(sound, suffix), chance)
        path.write_bytes(content)
        expected, found = outcome(rows_of, path), outcome(read, path)
        if isinstance(found, Exception):
            refused += 1
            assert isinstance(found, InputError), f"{path.name}: {found!r}"
            assert isinstance(expected, Exception), f"{path.name} was refused: {found}"
            assert path.name in str(found)
            assert "\n" not in str(found)
        else:
            assert found == expected, f"{damage.__name__} of {path.name}"
        path.unlink()
    assert number / 4 < refused < number * 3 / 4
