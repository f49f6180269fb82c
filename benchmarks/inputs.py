"""What is measured on: a generated clickstream, as it is or made difficult, in constant memory."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, Final

import polars as pl
from isal import igzip

SAMPLE_ROWS: Final = 200_000
_BLOCK_BYTES: Final = 64 << 20
_COPY_BYTES: Final = 1 << 20
_SEED: Final = 1


@dataclass(frozen=True)
class Input:
    """A clickstream on disk.

    Attributes:
        files: Glob of its files.
        rows: Its rows.
        csv_bytes: Its size, uncompressed.
        sample: CSV of its first rows, for what is too slow for all of it.
        sample_rows: The rows of that.
    """

    files: str
    rows: int
    csv_bytes: int
    sample: Path
    sample_rows: int


def prepare(folder: Path, rows: int, *, skew: str | None, files: int | None, gz: bool) -> Input:
    """Generate the input, or take it where it was generated before.

    Args:
        folder: Where generated data is kept.
        rows: Rows to generate.
        skew: One of `SKEWS`, or None.
        files: Number of files to cut it into, or None for one.
        gz: True for one gzip file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f"bench-{rows}"
    source = _made(folder / f"{name}.csv", lambda path: _generate(rows, path))
    if skew is not None:
        name += f"-{skew}"
        plain, expressions = source, SKEWS[skew](rows)
        source = _made(folder / f"{name}.csv", lambda path: _transform(plain, path, expressions))
    sample_rows = min(rows, SAMPLE_ROWS)
    sample = _made(
        folder / f"{name}-first-{sample_rows}.csv",
        lambda path: _copy_first(source, path, sample_rows),
    )
    found = source
    if files is not None:
        found = _made(
            folder / f"{name}-{files}-files", lambda path: _cut(source, path, rows, files)
        )
    if gz:
        found = _made(folder / f"{name}.csv.gz", lambda path: _compress(source, path))
    glob = f"{found}/*.csv" if found.is_dir() else str(found)
    return Input(glob, rows, source.stat().st_size, sample, sample_rows)


def _made(path: Path, make: Callable[[Path], None]) -> Path:
    """The file or folder, made under another name first so that it is never there in part."""
    if not path.exists():
        print(f"making {path}", file=sys.stderr)
        partial = path.with_name(f"partial-{path.name}")
        if partial.is_dir():
            shutil.rmtree(partial)
        make(partial)
        partial.rename(path)
    return path


def _generate(rows: int, path: Path) -> None:
    subprocess.run(
        [
            *(sys.executable, "-m", "pipelines.generate_events"),
            *("--rows", str(rows), "--seed", str(_SEED), "--output", str(path)),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )


# --- Skew -----------------------------------------------------------------------------------------


def one_session(rows: int) -> dict[str, pl.Expr]:
    """Make an eighth of the rows, one after the other, the session of one user."""
    first = rows // 2
    chosen = pl.col("row").is_between(first, first + rows // 8, closed="left")
    return {
        "user_id": _replaced("user_id", chosen, "512000000"),
        "user_session": _replaced("user_session", chosen, "00000000-0000-4000-8000-000000000000"),
    }


def one_user(_: int) -> dict[str, pl.Expr]:
    """Make half of the sessions, and so of the rows, those of one user."""
    chosen = pl.col("user_session").str.slice(0, 1).is_in(list("01234567"))
    return {"user_id": _replaced("user_id", chosen, "512000000")}


def one_product(_: int) -> dict[str, pl.Expr]:
    """Make every third row one of the same product."""
    chosen = pl.col("row") % 3 == 0
    return {
        "product_id": _replaced("product_id", chosen, "1"),
        "category_id": _replaced("category_id", chosen, "2053013550000000000"),
        "category_code": _replaced("category_code", chosen, "electronics.smartphone"),
        "brand": _replaced("brand", chosen, "everywhere"),
    }


def _replaced(column: str, chosen: pl.Expr, value: str) -> pl.Expr:
    return pl.when(chosen).then(pl.lit(value)).otherwise(pl.col(column))


SKEWS: Final[Mapping[str, Callable[[int], dict[str, pl.Expr]]]] = {
    "session": one_session,
    "user": one_user,
    "product": one_product,
}
"""What an input may have far too much of."""


def _transform(source: Path, path: Path, expressions: Mapping[str, pl.Expr]) -> None:
    """Rewrite columns of a CSV; the expressions may use the number of the row, `row`."""
    with source.open("rb") as plain, path.open("wb") as target:
        header = plain.readline()
        target.write(header)
        names = header.decode().strip().split(",")
        row = 0
        for block in _line_blocks(plain):
            frame = pl.read_csv(block, has_header=False, new_columns=names, infer_schema=False)
            frame.with_row_index("row", row).with_columns(**expressions).drop("row").write_csv(
                target, include_header=False
            )
            row += frame.height


def _line_blocks(file: BinaryIO) -> Iterator[bytes]:
    """The rest of a file, in blocks of whole lines."""
    rest = b""
    while block := file.read(_BLOCK_BYTES):
        lines, newline, tail = (rest + block).rpartition(b"\n")
        rest = tail
        yield lines + newline
    if rest:
        yield rest


# --- Packaging ------------------------------------------------------------------------------------


def _copy_first(source: Path, path: Path, rows: int) -> None:
    with source.open("rb") as plain, path.open("wb") as target:
        target.writelines(islice(plain, rows + 1))


def _cut(source: Path, folder: Path, rows: int, files: int) -> None:
    """Cut a CSV into files of about the same number of rows, each with the header."""
    folder.mkdir()
    with source.open("rb") as plain:
        header = plain.readline()
        for number in range(files):
            count = rows * (number + 1) // files - rows * number // files
            with (folder / f"{number:06}.csv").open("wb") as target:
                target.writelines(chain([header], islice(plain, count)))


def _compress(source: Path, path: Path) -> None:
    with source.open("rb") as plain, igzip.open(path, "wb") as target:
        shutil.copyfileobj(plain, target, _COPY_BYTES)
