"""From 10 MB to 10 TB of input pieces are worth sending, and an event costs the same."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.runners import FEWEST_WORKERS
from transforms.ingest import files as ingest_files
from transforms.shuffle import partition, sizing

CSV_BYTES_PER_EVENT = 132
FRAME_BYTES_PER_EVENT = 53
FEWEST_EVENTS = 1000
MICROSECONDS_PER_EVENT = 5  # of a whole run
SHUFFLED = 0.5  # of it, once written and read, where pieces are large
PER_PIECE = 150  # what a piece costs whatever is in it

sizes = st.floats(7, 13).map(lambda exponent: int(10**exponent))


def range_bytes(shards):
    return max(ingest_files.RANGE_BYTES, sizing.least_range(shards))


def pieces(csv_bytes):
    """Events a piece, in each pass."""
    shards = sizing.session_shards(csv_bytes, FEWEST_WORKERS)
    levels = sizing.session_levels(shards)
    bundle = min(csv_bytes, range_bytes(shards)) / CSV_BYTES_PER_EVENT
    if levels.passes == 1:
        return [bundle / shards]
    of_slice = csv_bytes / CSV_BYTES_PER_EVENT / levels.groups / levels.slices
    return [bundle / levels.groups, of_slice / levels.group_shards]


@given(sizes)
@settings(max_examples=200)
def test_pieces_hold_a_thousand_events_and_an_event_costs_the_same(csv_bytes):
    found = pieces(csv_bytes)
    assert min(found) >= FEWEST_EVENTS
    cost = MICROSECONDS_PER_EVENT + sum(PER_PIECE / events for events in found)
    cost += (len(found) - 1) * SHUFFLED
    assert cost <= 1.5 * MICROSECONDS_PER_EVENT


@given(sizes)
def test_a_range_is_sent_at_once_and_in_few_parts(csv_bytes):
    shards = sizing.session_shards(csv_bytes, FEWEST_WORKERS)
    bundle = range_bytes(shards)
    assert ingest_files.RANGE_BYTES <= bundle <= 192 << 20
    assert bundle / CSV_BYTES_PER_EVENT * FRAME_BYTES_PER_EVENT <= partition._BUFFER_BYTES[1]
    assert sizing.session_levels(shards).most_parts <= 1228


@given(st.integers(1, 250_000))
@settings(max_examples=200)
@pytest.mark.parametrize(
    "levels_of", [sizing.session_levels, sizing.user_levels, sizing.product_levels]
)
def test_groups_hold_every_shard(levels_of, sessions):
    levels = levels_of(sessions)
    assert (levels.groups - 1) * levels.group_shards < levels.shards
    assert levels.shards <= levels.groups * levels.group_shards
    assert levels.slices >= 1
    if levels_of is not sizing.session_levels:
        # What a session shard says of users and products is cut into parts of as many events.
        parts = levels.shards if levels.passes == 1 else levels.groups
        assert sizing.SHARD_BYTES / CSV_BYTES_PER_EVENT / parts >= FEWEST_EVENTS


@pytest.mark.parametrize("csv_bytes", [19 << 30, 30 << 30])
def test_ranges_of_an_input_of_usual_size_are_as_they_were(csv_bytes):
    shards = sizing.session_shards(csv_bytes, 2)
    assert (range_bytes(shards) == ingest_files.RANGE_BYTES) == (csv_bytes <= 19 << 30)
