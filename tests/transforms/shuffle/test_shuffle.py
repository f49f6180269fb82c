"""How frames cross a shuffle: the hashes, the stores, the partition, the buffers."""

import os
import pickle
from itertools import chain
from pathlib import Path

import apache_beam as beam
import numpy as np
import polars as pl
import pytest
from apache_beam.coders import registry
from apache_beam.testing import test_pipeline
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.utils.timestamp import MIN_TIMESTAMP
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from tests.transforms.frames import at, events, flags_of
from transforms.analytics.shard_keys import product_shard_key, session_shard_key
from transforms.columnar.key_index import hash_integers
from transforms.errors import RunError
from transforms.ingest.session_keys import SESSION_KEY, session_key
from transforms.shuffle import partition, stores
from transforms.shuffle.coder import FrameCoder
from transforms.shuffle.partition import GroupFrames, PartitionFrames, StoreFrames
from transforms.shuffle.sizing import Levels
from transforms.shuffle.stores import (
    InlineStore,
    SpillStore,
    collect_frames,
    frame_store,
    partition_frame,
)

SOME = events(
    {"brand": "é", "category_code": "a.b", "category_id": 3},
    {"event_type": "purchase", "user_session": None, "event_time": at(5)},
    {"product_id": 2**63 - 1, "user_id": 0},
)


@pytest.fixture(params=["inline", "spill"])
def store(request, tmp_path):
    return frame_store(str(tmp_path) if request.param == "spill" else None)


# Another version, machine or library must not give other shards: a retried worker would disagree.
HASHES_OF_INTEGERS = [
    0,
    11400714820970677676,
    6018027439040311425,
    792130953312262555,
    16269401290717332909,
    0,
]


def test_the_hash_of_integers_is_pinned():
    assert hash_integers(pl.Series([0, 1, 7, 541312140, 2**63 - 1, None])).to_list() == (
        HASHES_OF_INTEGERS
    )


@pytest.mark.parametrize("name", ["s{:x}", "00000000-0000-4000-8000-{:012x}", "{:08x}-0000"])
def test_sessions_spread_over_any_number_of_shards(name):
    names = (session_key(name.format(number)) for number in range(20_000))
    sessions = (
        events({})
        .drop(SESSION_KEY)
        .join(
            pl.DataFrame(
                [key[:2] for key in names],
                schema=dict.fromkeys(SESSION_KEY, pl.UInt64),
                orient="row",
            ),
            how="cross",
        )
    )
    for shards in (2, 3, 16, 100):
        counts = (session_shard_key(sessions) % shards).value_counts()["count"]
        assert len(counts) == shards
        assert counts.max() < 1.35 * 20_000 / shards


def test_the_hash_of_integers_spreads_neighbours_over_any_number_of_shards():
    for step in (1, 2, 1000, 1 << 20):
        numbers = pl.Series(np.arange(20_000) * step)
        for shards in (2, 3, 16, 100):
            counts = (hash_integers(numbers) % shards).value_counts()["count"]
            assert len(counts) == shards
            assert counts.max() < 1.35 * 20_000 / shards


def test_duplicates_without_a_session_meet_in_one_shard():
    batch = events(
        {"user_session": None, "user_id": 5, "brand": "a"},
        {"user_session": None, "user_id": 5, "brand": "b"},
        {"user_session": "x", "user_id": 5},
        {"user_session": "x", "user_id": 6},
    )
    keys = session_shard_key(batch)
    assert keys[0] == keys[1]
    assert keys[2] == keys[3]
    assert keys[2] == session_shard_key(batch.slice(2, 1))[0]


def test_frames_come_back_as_they_were(store):
    frames = {"some": SOME, "none": SOME.clear(), "again": SOME.reverse()}
    payloads = [(name, payload) for name, frame in frames.items() for payload in store.put(frame)]
    collected = collect_frames(store, payloads)
    for name, frame in frames.items():
        assert_frame_equal(collected[name], frame, categorical_as_str=True)


def test_frames_of_a_name_come_back_as_one_whether_or_not_some_are_empty(store):
    frames = (SOME.clear(), SOME, SOME.clear(), SOME.reverse())
    payloads = [("some", payload) for frame in frames for payload in store.put(frame)]
    collected = collect_frames(store, payloads)["some"]
    assert_frame_equal(collected, pl.concat(frames), categorical_as_str=True)


def test_inline_payloads_are_pieces(monkeypatch):
    monkeypatch.setattr(stores, "_INLINE_BYTES", 1000)
    frame = pl.DataFrame({"number": range(10_000)})
    payloads = list(InlineStore().put(frame))
    assert len(payloads) > 50
    assert_frame_equal(collect_frames(InlineStore(), [("n", p) for p in payloads])["n"], frame)


def test_a_copy_of_a_spill_store_writes_a_file_of_its_own(tmp_path):
    store = SpillStore(str(tmp_path))
    first = next(store.put(SOME))
    other = pickle.loads(pickle.dumps(store))  # noqa: S301 - as a runner does
    second = next(other.put(SOME.reverse()))
    third = next(store.put(SOME.head(1)))
    assert len(list(tmp_path.iterdir())) == 2
    assert_frame_equal(other.read([first]), SOME, categorical_as_str=True)
    assert_frame_equal(store.read([second]), SOME.reverse(), categorical_as_str=True)
    assert_frame_equal(other.read([third]), SOME.head(1), categorical_as_str=True)


def packed(store: SpillStore) -> bytes:
    """The payload of some packed rows."""
    ((_, payload),) = store.put_parts([SOME], np.zeros(3, np.uint32), 1)
    return payload


@pytest.fixture
def trap(tmp_path):
    """A pickle that makes a file where it is loaded, and that file."""
    made = tmp_path / "made"

    class Trap:
        def __reduce__(self):
            return (made.touch, ())

    return pickle.dumps(Trap()), made


def test_a_spill_that_somebody_swapped_runs_nothing_and_is_named(tmp_path, trap):
    foreign, made = trap
    (folder := tmp_path / "spill").mkdir()
    store = SpillStore(str(folder))
    payload = packed(store)
    (layouts,) = (path for path in folder.iterdir() if "-" not in path.name)
    assert not layouts.read_bytes().startswith(b"\x80")
    layouts.write_bytes(foreign.ljust(layouts.stat().st_size, b"\n"))
    with pytest.raises(RunError, match=r"\.frames does not hold what this run wrote there"):
        store.read([payload])
    assert not made.exists()


def test_a_spill_that_was_cut_is_named(tmp_path):
    store = SpillStore(str(tmp_path))
    payload = packed(store)
    (rows,) = (path for path in tmp_path.iterdir() if "-" in path.name)
    os.truncate(rows, 8)
    with pytest.raises(RunError, match="does not hold what this run wrote there"):
        store.read([payload])


def test_a_link_in_the_spill_folder_is_not_followed(tmp_path):
    store = SpillStore(str(tmp_path / "spill"))
    (tmp_path / "spill").mkdir()
    payload = packed(store)
    (rows,) = (path for path in (tmp_path / "spill").iterdir() if "-" in path.name)
    rows.rename(tmp_path / "elsewhere")
    rows.symlink_to(tmp_path / "elsewhere")
    size = rows.stat().st_size
    for use in (lambda: store.read([payload]), lambda: packed(store)):
        with pytest.raises(OSError, match="symbolic links"):
            use()
    assert rows.stat().st_size == size


def test_a_spill_file_that_cannot_be_removed_is_only_warned_of(tmp_path, monkeypatch, caplog):
    store = SpillStore(str(tmp_path))
    payload = packed(store)

    def refuse(path, *, missing_ok):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "unlink", refuse)
    store.free([("some", payload)])
    assert "stays until the run ends: Operation not permitted" in caplog.text


@pytest.mark.parametrize("is_replayed", [False, True])
def test_a_shard_given_free_takes_no_space(tmp_path, is_replayed):
    store = SpillStore(str(tmp_path), is_replayed)
    frames = (SOME, pl.DataFrame({"text": ["a", "b", "c"]}))  # packed, and not
    shards = {0: [], 1: []}
    for frame in frames:
        for shard, payload in store.put_parts([frame], np.array([0, 1, 0], np.uint32), 2):
            shards[shard].append(("some", payload))
    kept = next(store.put(SOME))
    read = store.read([shards[0][0][1]])
    before = set(tmp_path.iterdir())
    store.free([*shards[0], ("some", kept)])
    store.free(shards[0])  # of an attempt that came too late
    assert len(before - set(tmp_path.iterdir())) == (0 if is_replayed else 1)
    assert_frame_equal(read, SOME.gather_every(2), categorical_as_str=True)
    assert_frame_equal(store.read([shards[1][0][1]]), SOME.slice(1, 1), categorical_as_str=True)
    assert_frame_equal(store.read([shards[1][1][1]]), frames[1].slice(1, 1))
    assert_frame_equal(store.read([kept]), SOME, categorical_as_str=True)


def test_what_the_system_writes_in_part_is_written_whole(tmp_path, monkeypatch):
    writev = os.writev
    monkeypatch.setattr(os, "writev", lambda file, buffers: writev(file, [bytes(buffers[0])[:5]]))
    store = SpillStore(str(tmp_path))
    payloads = [
        payload
        for frame in (SOME, SOME.reverse())
        for _, payload in store.put_parts([frame], np.zeros(3, np.uint32), 1)
    ]
    assert_frame_equal(
        store.read(payloads), pl.concat([SOME, SOME.reverse()]), categorical_as_str=True
    )


def test_rows_of_some_products(store):
    payloads = [
        payload
        for frame in (SOME, SOME.reverse(), SOME.head(1))
        for _, payload in store.put_parts([frame], np.zeros(frame.height, np.uint32), 1)
    ]
    wanted = flags_of(2**63 - 1)
    assert_frame_equal(
        store.read_products(payloads, wanted), pl.concat([SOME.tail(1), SOME.tail(1)])
    )
    assert not store.read_products(payloads, flags_of()).height


def test_the_registered_coder_keeps_a_frame():
    coder = registry.get_coder(pl.DataFrame)
    assert isinstance(coder, FrameCoder)
    assert not coder.is_deterministic()
    assert_frame_equal(coder.decode(coder.encode(SOME)), SOME, categorical_as_str=True)


@given(st.lists(st.integers(0, 2**63 - 1), max_size=60), st.integers(1, 9))
def test_a_partition_holds_every_row_in_its_shard(numbers, shards):
    frame = pl.DataFrame({"product_id": numbers}, schema={"product_id": pl.Int64})
    rows = []
    parts = (product_shard_key(frame) % shards).cast(pl.UInt32).to_numpy()
    for shard, piece in partition_frame(frame, parts, shards):
        assert piece.columns == frame.columns
        assert (product_shard_key(piece) % shards == shard).all()
        rows += piece["product_id"].to_list()
    assert sorted(rows) == sorted(numbers)


@settings(max_examples=4)
@given(
    batches=st.lists(st.lists(st.integers(0, 50), max_size=20), min_size=1, max_size=6),
    shards=st.sampled_from([1, 2, 7]),
    buffer=st.sampled_from([1, 100, 1 << 24]),
)
def test_groups_hold_every_row_once_and_equal_keys_together(
    tmp_path_factory, batches, shards, buffer
):
    store = SpillStore(str(tmp_path_factory.mktemp("spill")))
    frames = [
        ("numbers", pl.DataFrame({"product_id": batch}, schema={"product_id": pl.Int64}))
        for batch in batches
    ]

    def check(groups) -> None:
        found = {}
        for shard, payloads in groups:
            assert 0 <= shard < shards
            found[shard] = collect_frames(store, payloads)["numbers"]["product_id"].to_list()
        assert sorted(chain(*found.values())) == sorted(chain(*batches))
        seen = [set(rows) for rows in found.values()]
        assert len(set().union(*seen)) == sum(map(len, seen))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partition, "_BUFFER_BYTES", (buffer, buffer))
        with test_pipeline.TestPipeline() as pipeline:
            groups = (
                pipeline
                | beam.Create(frames)
                | GroupFrames(Levels(shards), {"numbers": product_shard_key}, store)
            )
            assert_that(groups, check)


@pytest.mark.parametrize("buffer", [1, 1 << 24])
def test_two_levels_bring_every_row_to_its_shard(monkeypatch, buffer):
    monkeypatch.setattr(partition, "_BUFFER_BYTES", (buffer, buffer))
    monkeypatch.setattr(partition, "_FORWARDED_BYTES", buffer)
    levels = Levels(shards=10, groups=4, slices=3)
    store = InlineStore()
    names = ("numbers", "others")
    frames = [
        (name, pl.DataFrame({"product_id": range(start, start + 40)}))
        for name in names
        for start in range(0, 400, 40)
    ]

    def check(groups) -> None:
        found = {shard: collect_frames(store, payloads) for shard, payloads in groups}
        assert found.keys() == set(range(10))
        for name in names:
            rows = [number for of in found.values() for number in of[name]["product_id"]]
            assert sorted(rows) == list(range(400))
            for shard, of in found.items():
                assert (product_shard_key(of[name]) % 10 == shard).all()

    with test_pipeline.TestPipeline() as pipeline:
        groups = (
            pipeline
            | beam.Create(frames)
            | GroupFrames(levels, dict.fromkeys(names, product_shard_key), store)
        )
        assert_that(groups, check)


def test_a_group_for_each_shard_where_asked(store):
    numbers = pl.DataFrame({"product_id": [1]})

    def check(groups) -> None:
        found = {shard: collect_frames(store, payloads) for shard, payloads in groups}
        assert found.keys() == {0, 1, 2}
        assert [frames["numbers"].rows() for frames in found.values() if frames] == [[(1,)]]
        for _, payloads in groups:
            store.free(payloads)

    with test_pipeline.TestPipeline() as pipeline:
        groups = (
            pipeline
            | beam.Create([("numbers", numbers)])
            | GroupFrames(Levels(3), {"numbers": product_shard_key}, store, with_empty=True)
        )
        assert_that(groups, check)


def test_references_to_the_pieces_of_a_shard_are_sent_as_one(tmp_path, monkeypatch):
    monkeypatch.setattr(partition, "_BUFFER_BYTES", (1, 1))
    store = SpillStore(str(tmp_path))
    dofn = PartitionFrames(Levels(2), {"numbers": product_shard_key}, store)
    numbers = pl.DataFrame({"product_id": range(50)}, schema={"product_id": pl.Int64})
    dofn.start_bundle()
    for start in (0, 20, 40):
        assert not list(dofn.process(("numbers", numbers.slice(start, 20))))

    sent = dict(sent.value for sent in dofn.finish_bundle())

    assert sent.keys() == {0, 1}
    # 50 numbers below 50 in 20, 20 and 10: a byte each.
    assert sum(store.size(payload) for _, payload in sent.values()) == 50
    received = pl.concat(collect_frames(store, [payload])["numbers"] for payload in sent.values())
    assert_frame_equal(received.sort("product_id"), numbers)


def test_a_partition_has_the_timestamp_of_its_rows():
    """With a later one, Prism started what follows a shuffle before its side inputs were there."""
    numbers = pl.DataFrame({"product_id": range(50)}, schema={"product_id": pl.Int64})
    dofn = PartitionFrames(Levels(2), {"numbers": product_shard_key}, InlineStore())
    with test_pipeline.TestPipeline() as pipeline:
        stamps = (
            pipeline
            | beam.Create([("numbers", numbers)])
            | beam.ParDo(dofn)
            | beam.Map(lambda _, timestamp=beam.DoFn.TimestampParam: timestamp)
        )
        assert_that(stamps, equal_to([MIN_TIMESTAMP] * 2))


def test_stored_frames_are_payloads_and_empty_ones_are_not_sent(store):
    step = StoreFrames(store)
    payloads = [*step.process(("some", SOME)), *step.process(("none", SOME.clear()))]
    assert list(collect_frames(store, payloads)) == ["some"]
