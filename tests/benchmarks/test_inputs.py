import gzip
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from benchmarks import inputs

ROWS = 2000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


def prepare(folder, skew=None, files=None, gz=False):
    return inputs.prepare(folder, ROWS, skew=skew, files=files, gz=gz)


def read(files):
    return pl.read_csv(files, infer_schema=False)


def test_made_once(folder):
    first = prepare(folder)
    made = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert prepare(folder) == first
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == made
    assert first.rows == first.sample_rows == read(first.files).height == ROWS
    assert first.csv_bytes == Path(first.files).stat().st_size


def test_what_was_made_in_part_is_made_anew(tmp_path, folder):
    (tmp_path / f"partial-bench-{ROWS}.csv").write_text("half")
    assert Path(prepare(tmp_path).files).read_bytes() == Path(prepare(folder).files).read_bytes()


def test_sample(folder, monkeypatch):
    monkeypatch.setattr(inputs, "SAMPLE_ROWS", 50)
    source = prepare(folder)
    assert source.sample_rows == 50
    assert read(source.sample).equals(read(source.files).head(50))


@pytest.mark.parametrize("block_bytes", [1 << 20, 1000])
def test_one_session(tmp_path, monkeypatch, block_bytes):
    monkeypatch.setattr(inputs, "_BLOCK_BYTES", block_bytes)
    before = read(prepare(tmp_path).files)
    after = read(prepare(tmp_path, skew="session").files)
    (session, count), *_ = Counter(after["user_session"]).most_common()
    assert count == ROWS // 8
    assert after.filter(user_session=session)["user_id"].n_unique() == 1
    same = after["user_session"] != session
    assert after.filter(same).equals(before.filter(same))
    assert after.drop("user_id", "user_session").equals(before.drop("user_id", "user_session"))


def test_one_user(folder):
    before = read(prepare(folder).files)
    after = read(prepare(folder, skew="user").files)
    (user, count), *_ = Counter(after["user_id"]).most_common()
    assert ROWS * 0.4 < count < ROWS * 0.6
    same = after["user_id"] != user
    assert after.filter(same).equals(before.filter(same))
    assert after.drop("user_id").equals(before.drop("user_id"))


def test_one_product(folder):
    after = read(prepare(folder, skew="product").files)
    (product, count), *_ = Counter(after["product_id"]).most_common()
    assert count == -(-ROWS // 3)
    # Products of several brands would be dropped.
    assert after.filter(product_id=product)["brand"].unique().to_list() == ["everywhere"]


def test_many_files(folder):
    source = prepare(folder, files=7)
    pattern = Path(source.files)
    parts = [read(path) for path in sorted(pattern.parent.glob(pattern.name))]
    assert {part.height for part in parts} == {ROWS // 7, ROWS // 7 + 1}
    assert pl.concat(parts).equals(read(prepare(folder).files))


def test_gzip(folder):
    plain, packed = prepare(folder), prepare(folder, gz=True)
    assert gzip.decompress(Path(packed.files).read_bytes()) == Path(plain.files).read_bytes()
    assert packed.csv_bytes == plain.csv_bytes
