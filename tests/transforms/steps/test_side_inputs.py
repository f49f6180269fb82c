"""A side input that an engine loses fails the run; the tables would be wrong without it."""

from datetime import date

import polars as pl
import pytest

from tests.transforms.frames import events, product_codes_of
from transforms.analytics.cleaning import ambiguous_products
from transforms.analytics.product_pairs import PRODUCT_PAIRS
from transforms.errors import RunError
from transforms.rules import Rules
from transforms.shuffle.coder import NO_FRAME
from transforms.shuffle.stores import InlineStore
from transforms.steps.product_pairs import PRODUCT_PAIRS_FRAME, CountPairs, DescribePairs
from transforms.steps.progress import Progress
from transforms.steps.sessions import ProcessSessionShards
from transforms.steps.suspects import FindAmbiguousProducts, FindCandidateBrands, ShardCounts

STORE = InlineStore()
SHARDS = ShardCounts(products=2, sessions=3)
ONE_BRAND = events({"brand": "a"}, {"brand": "a", "user_id": 8})
# One product, whose brands are gone with the duplicates that have them.
NO_BRAND_LEFT = events(
    {"category_id": 1}, {"category_id": 2, "brand": "a"}, {"category_id": 3, "brand": "b"}
)


def payloads(name, frame):
    return [(name, payload) for payload in STORE.put(frame)]


def process(frame, ambiguous, brands, few_rejected=(True,)):
    step = ProcessSessionShards(Rules(as_of=date.min), SHARDS, STORE, Progress(None))
    step.start_bundle()
    return list(step.process((0, payloads("events", frame)), ambiguous, brands, few_rejected))


def stored(named_frames):
    """As a side input arrives: an answer of each shard, put together."""
    return [payload for name, frame in named_frames for payload in payloads(name, frame)]


def found_in(frame):
    """What the shard with the products found, and one without any."""
    groups = (0, payloads("product_codes", product_codes_of(frame))), (1, [NO_FRAME])
    return stored(
        answer for group in groups for answer in FindAmbiguousProducts(STORE).process(group)
    )


def brands_of(frame):
    groups = (0, payloads("events", frame)), (1, [NO_FRAME]), (2, [NO_FRAME])
    return [answer for group in groups for answer in candidate_brands(group, found_in(frame))]


def candidate_brands(group, ambiguous):
    step = FindCandidateBrands(SHARDS.products, STORE)
    step.start_bundle()
    return stored(step.process(group, ambiguous))


def some_are_lost(found):
    """One shard's answer less."""
    (last,) = [index for index, (name, _) in enumerate(found) if name == "answers"][-1:]
    return found[:last] + found[last + 1 :]


@pytest.mark.parametrize("frame", [ONE_BRAND, NO_BRAND_LEFT], ids=["one brand", "none left"])
def test_with_all_side_inputs_a_shard_is_processed(frame):
    assert process(frame, found_in(frame), brands_of(frame))


def test_products_that_were_lost_fail_the_run():
    assert ambiguous_products(product_codes_of(ONE_BRAND)).is_empty()
    with pytest.raises(RunError, match="lost a side input"):
        process(ONE_BRAND, [], [])
    with pytest.raises(RunError, match="lost a side input"):
        candidate_brands((0, payloads("events", ONE_BRAND)), [])


@pytest.mark.parametrize("frame", [ONE_BRAND, NO_BRAND_LEFT], ids=["one brand", "none left"])
def test_what_was_lost_in_part_fails_the_run(frame):
    found, brands = found_in(frame), brands_of(frame)
    for given in ((some_are_lost(found), brands), (found, some_are_lost(brands))):
        with pytest.raises(RunError, match="lost a side input"):
            process(frame, *given)
    with pytest.raises(RunError, match="lost a side input"):
        candidate_brands((0, payloads("events", frame)), some_are_lost(found))


def test_a_shard_without_an_event_makes_nothing():
    step = ProcessSessionShards(Rules(as_of=date.min), SHARDS, STORE, Progress(None))
    step.start_bundle()
    found = found_in(ONE_BRAND), brands_of(ONE_BRAND)
    assert not list(step.process((1, [NO_FRAME]), *found, [True]))


def test_in_a_run_that_has_failed_nothing_else_is_said_to_be_lost():
    assert not process(ONE_BRAND, [], [], few_rejected=())


def test_brands_that_were_lost_fail_the_run():
    with pytest.raises(RunError, match="lost a side input"):
        process(NO_BRAND_LEFT, found_in(NO_BRAND_LEFT), [])


def test_baskets_that_were_lost_fail_the_run():
    pairs = pl.DataFrame([("order", 1, 2, 5)], schema=PRODUCT_PAIRS, orient="row")
    count = CountPairs(Rules(), STORE)
    count.start_bundle()
    with pytest.raises(RunError, match="lost a side input"):
        list(count.process((0, payloads(PRODUCT_PAIRS_FRAME, pairs)), []))
    best = payloads("best_pairs", pairs.with_columns(baskets_a=5, baskets_b=5))
    with pytest.raises(RunError, match="lost a side input"):
        list(DescribePairs(STORE).process(None, best, []))
    assert [rows.height for _, rows, _ in DescribePairs(STORE).process(None, [], [])] == [0]
