"""The table of what the shuffle costs: every row arrives, in as many pieces as it says."""

from benchmarks import shards
from pipelines.generate_events import main as generate
from transforms.shuffle import sizing


def test_passes_and_pieces(tmp_path, monkeypatch):
    path = tmp_path / "events.csv"
    assert not generate(["--rows=3000", "--seed=1", f"--output={path}"])
    frames = shards.read_range(path, 1)

    (one,) = shards.measure(4, frames)
    assert (one.pieces, one.events) == (4, 3000)
    assert one.size > 0

    monkeypatch.setattr(sizing, "_LARGEST_RANGE", 1)
    first, second = shards.measure(9, frames)
    assert (first.pieces, second.pieces) == (3, 3)
    row = shards.describe(9, 64 << 20, [first, second])
    assert row.startswith("| 9 | 64 MB | 2 | 1,000, 1,000 |")
