"""What crosses a distributed shuffle comes in sizes that engines like."""

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from transforms.shuffle.stores import InlineStore

MEBIBYTE = 1 << 20


@pytest.fixture(autouse=True, scope="module")
def spread():
    """Not needed here."""


def noise(rows: int, size: int, seed: int) -> pl.Series:
    """Text that no codec makes smaller than half."""
    words = pl.int_range(rows * (size // 16), eager=True).hash(seed).cast(pl.String).str.zfill(20)
    return (
        pl.DataFrame({"row": pl.int_range(words.len(), eager=True) // (size // 16), "text": words})
        .group_by("row", maintain_order=True)
        .agg(pl.col("text").str.slice(4).str.join())["text"]
    )


def test_large_frames_become_pieces_of_about_a_megabyte():
    frame = pl.DataFrame({"text": noise(100_000, 80, 1)})
    payloads = list(InlineStore().put(frame))

    assert max(map(len, payloads)) <= MEBIBYTE
    assert min(map(len, payloads)) >= MEBIBYTE // 4
    assert_frame_equal(InlineStore().read(payloads), frame)


def test_rows_of_odd_sizes_do_not_share_a_payload():
    frame = pl.DataFrame({"text": [*noise(30_000, 16, 2), *noise(20, 4 * MEBIBYTE, 3)]})
    payloads = list(InlineStore().put(frame))

    assert max(map(len, payloads)) <= 20 * MEBIBYTE
    assert_frame_equal(InlineStore().read(payloads), frame)
