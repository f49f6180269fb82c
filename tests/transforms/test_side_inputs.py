"""A side input that an engine loses fails the run; the tables would be wrong without it."""

from datetime import date

import pytest

from tests.transforms.frames import events, variants_of
from transforms.analytics.cleaning import ambiguous_products
from transforms.errors import RunError
from transforms.rules import Rules
from transforms.shuffle.stores import InlineStore
from transforms.steps.progress import Progress
from transforms.steps.sessions import ProcessSessionShards
from transforms.steps.suspects import FindAmbiguousProducts, FindCandidateBrands

STORE = InlineStore()
ONE_BRAND = events({"brand": "a"}, {"brand": "a", "user_id": 8})
# One product, whose brands are gone with the duplicates that have them.
NO_BRAND_LEFT = events(
    {"category_id": 1}, {"category_id": 2, "brand": "a"}, {"category_id": 3, "brand": "b"}
)


def payloads(name, frame):
    return [(name, payload) for payload in STORE.put(frame)]


def process(frame, ambiguous, brands, few_rejected=(True,)):
    step = ProcessSessionShards(Rules(as_of=date.min), STORE, Progress(None))
    step.start_bundle()
    return list(step.process((0, payloads("events", frame)), ambiguous, brands, few_rejected))


def found_in(frame):
    group = (0, payloads("variants", variants_of(frame)))
    return list(FindAmbiguousProducts(STORE).process(group))


def brands_of(frame):
    group = (0, payloads("events", frame))
    return candidate_brands(group, found_in(frame))


def candidate_brands(group, ambiguous):
    step = FindCandidateBrands(STORE)
    step.start_bundle()
    return list(step.process(group, ambiguous))


@pytest.mark.parametrize("frame", [ONE_BRAND, NO_BRAND_LEFT], ids=["one brand", "none left"])
def test_with_all_side_inputs_a_shard_is_processed(frame):
    assert process(frame, found_in(frame), brands_of(frame))


def test_products_that_were_lost_fail_the_run():
    assert ambiguous_products(variants_of(ONE_BRAND)).is_empty()
    with pytest.raises(RunError, match="lost a side input"):
        process(ONE_BRAND, [], [])
    assert not candidate_brands((0, payloads("events", ONE_BRAND)), [])


def test_in_a_run_that_has_failed_nothing_else_is_said_to_be_lost():
    assert not process(ONE_BRAND, [], [], few_rejected=())


def test_brands_that_were_lost_fail_the_run():
    with pytest.raises(RunError, match="lost a side input"):
        process(NO_BRAND_LEFT, found_in(NO_BRAND_LEFT), [])
