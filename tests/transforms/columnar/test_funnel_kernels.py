"""How far entities get, against all chains of a few events."""

from itertools import combinations
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.columnar.funnel_kernels import EXCLUSION_BIT, Grouped, gather_steps, walk_steps

FOREVER = np.iinfo(np.int64).max
STEPS = 3


class Event(NamedTuple):
    time: int
    steps: frozenset[int]
    exclusions: frozenset[int]
    event_id: str

    @property
    def rank(self):
        return 0 if self.exclusions else min(self.steps, default=11)

    @property
    def mask(self):
        return sum(1 << (step - 1) for step in self.steps) + sum(
            1 << (EXCLUSION_BIT + number) for number in self.exclusions
        )


EVENTS = st.builds(
    Event,
    st.integers(0, 4),
    st.frozensets(st.integers(1, STEPS), max_size=2),
    st.frozensets(st.integers(0, 1), max_size=1) | st.just(frozenset()),
    st.text("01f", min_size=32, max_size=32),
)
WINDOWS = st.sampled_from([0, 1, 2, 3, FOREVER])
EXCLUSIONS = st.lists(
    st.sampled_from([(1, 2), (2, 3), (1, 3)]), min_size=2, max_size=2, unique=True
)


def grouped(entities):
    """The events of some entities as the kernels take them, their rows in no order."""
    events = [event for entity in entities for event in entity]
    rows = np.random.default_rng(1).permutation(len(events)).astype(np.uint32)
    at_rows = dict(zip(rows.tolist(), events, strict=True))
    placed = [at_rows[row] for row in range(len(events))]
    order, ends, start = rows.copy(), [], 0
    for entity in entities:
        end = start + len(entity)
        order[start:end] = sorted(order[start:end], key=lambda row: at_rows[row].time)
        ends.append(end)
        start = end
    ids = np.frombuffer("".join(each.event_id for each in placed).encode(), np.uint64)
    return placed, Grouped(
        order,
        np.array(ends, np.int64),
        np.array([each.time for each in placed], np.int64),
        np.array([each.mask for each in placed], np.uint32),
        ids.reshape(-1, 4),
    )


def in_order(entity):
    return sorted(entity, key=lambda each: (each.time, each.rank, each.event_id))


def is_chain(events, places, window, exclusions, is_strict):
    chain = [events[place] for place in places]
    if any(number not in each.steps for number, each in enumerate(chain, 1)):
        return False
    if chain[-1].time - chain[0].time > window:
        return False
    if is_strict and places[-1] - places[0] != len(places) - 1:
        return False
    for number, (after, before) in enumerate(exclusions):
        if len(places) > after:
            between = events[places[after - 1] + 1 : places[min(before, len(places)) - 1]]
            # An event that is excluded and takes step `after` breaks what was there before it.
            if any(number in each.exclusions for each in between):
                return False
    return True


def furthest_of_chains(events, window, exclusions, is_strict):
    """The level, and for each level the place that first reaches it and the latest start then."""
    reached = {}
    for level in range(1, STEPS + 1):
        chains = [
            places
            for places in combinations(range(len(events)), level)
            if is_chain(events, places, window, exclusions, is_strict)
        ]
        if not chains:
            break
        end = min(places[-1] for places in chains)
        reached[level] = (max(places[0] for places in chains if places[-1] == end), end)
    return reached


def assert_found(found, placed, entities, expected):
    for number, (entity, reached) in enumerate(zip(entities, expected, strict=True)):
        events = in_order(entity)
        assert found.level[number] == len(reached)
        for level, (start, end) in reached.items():
            assert found.waits[number, level - 1] == events[end].time - events[start].time
        if reached:
            start, _ = reached[len(reached)]
            assert placed[found.start[number]] == events[start]


def allowed(events, exclusions):
    """What a configuration allows: no event is excluded before a step and takes it."""
    return [
        each
        for each in events
        if not any(
            set(range(after + 1, before + 1)) & each.steps
            for after, before in (exclusions[number] for number in each.exclusions)
        )
    ]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.lists(EVENTS, max_size=7), max_size=3), WINDOWS, EXCLUSIONS, st.booleans())
def test_one_pass_finds_what_all_chains_give(entities, window, exclusions, is_strict):
    entities = [allowed(entity, exclusions) for entity in entities]
    if not is_strict:
        entities = [[each for each in entity if each.mask] for entity in entities]
    placed, events = grouped(entities)
    found = walk_steps(events, STEPS, window, np.array(exclusions, np.int64), is_strict=is_strict)
    expected = [
        furthest_of_chains(in_order(entity), window, exclusions, is_strict) for entity in entities
    ]
    assert_found(found, placed, entities, expected)


def furthest_of_windows(events, window):
    reached = {}
    for start, first in enumerate(events):
        taken = {}
        for place in range(start, len(events)):
            if events[place].time - first.time <= window:
                taken.setdefault(events[place].rank, place)
        for level, place in enumerate(sorted(taken.values()), 1):
            reached.setdefault(level, (start, place))
    return reached


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(EVENTS, max_size=9), max_size=3), WINDOWS)
def test_steps_in_any_order_are_those_of_the_best_window(entities, window):
    entities = [
        [each._replace(exclusions=frozenset()) for each in entity if each.steps]
        for entity in entities
    ]
    placed, events = grouped(entities)
    found = gather_steps(events, STEPS, window)
    expected = [furthest_of_windows(in_order(entity), window) for entity in entities]
    assert_found(found, placed, entities, expected)


@pytest.mark.parametrize("count", [2, 16, 17, 300])
def test_events_of_one_second_are_in_the_order_of_the_funnel(count):
    """However many there are: the last view by its id begins the attempt."""
    views = [Event(1, frozenset({1}), frozenset(), f"{n * 7919 % 997:032x}") for n in range(count)]
    purchase = Event(1, frozenset({2}), frozenset(), "0" * 32)
    placed, events = grouped([[purchase, *views]])
    found = walk_steps(events, 2, 0, np.empty((0, 2), np.int64), is_strict=True)
    assert found.level.tolist() == [2]
    assert placed[found.start[0]] == max(views, key=lambda each: each.event_id)


def test_nothing_gets_nowhere():
    _, events = grouped([])
    none = np.empty((0, 2), np.int64)
    assert len(walk_steps(events, 2, FOREVER, none, is_strict=False).level) == 0
    assert len(gather_steps(events, 2, FOREVER).level) == 0
