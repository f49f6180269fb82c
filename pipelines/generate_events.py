"""Generate a demo clickstream: a CSV of any size that has the shape of REES46's.

The figures are those of "eCommerce behavior data from multi category store" by REES46 (via Kaggle,
mkechinov): 411.7 million events of 15 million users, October 2019 to April 2020. Every product,
brand, user and session here is made up.

The file is made in slices of equal event count, in time order. A slice draws the visits that start
in it; events past its end are carried into the next slice, and a visit that takes up an old session
again computes that session from its number. So memory does not grow with the file.

The same rows and seed give the same CSV bytes on every machine: only raw PCG64 output, integers and
single float additions, multiplications and divisions decide; no logarithm, no fused operation.
The catalogue and the users do not depend on the seed: several files make one shop.
"""

import argparse
import contextlib
import io
import itertools
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import BinaryIO, NoReturn, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
from backports import zstd
from isal import igzip

from transforms.schema import EVENT_TYPES

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Words = npt.NDArray[np.uint64]
Field = tuple[int, int]  # first bit and number of bits of a 64-bit word
Knots = Sequence[tuple[float, float]]  # (share below, value): a piecewise linear quantile function

SUFFIXES = (".csv", ".csv.gz", ".csv.zst")
SLICE_EVENTS = 1 << 18  # part of what a seed means: another value makes other files

# --- Shape: time ----------------------------------------------------------------------------------

FIRST_DAY, LAST_DAY = date(2019, 10, 1), date(2020, 4, 30)
HOUR, DAY = 3600, 86_400  # seconds
PERIOD = ((LAST_DAY - FIRST_DAY).days + 1) * DAY  # seconds
# Rows of each month, thousands.
MONTH_WEIGHTS = {10: 42_449, 11: 67_502, 12: 67_543, 1: 55_967, 2: 55_319, 3: 56_341, 4: 66_589}
# Sessions that start in each UTC hour, relative.
HOUR_WEIGHTS = (
    *(161, 318, 620, 899, 1141, 1268, 1333, 1360, 1406, 1373, 1336, 1298),
    *(1283, 1369, 1464, 1474, 1392, 1233, 927, 597, 342, 198, 122, 100),
)
# The sale of 17 November: 7 times the purchases = 4 times the visits, 1.75 times as ready to buy.
SALE_DAY, SALE_TRAFFIC, SALE_READINESS = date(2019, 11, 17), 4, 1.75

# --- Shape: visits and their events ---------------------------------------------------------------

# A visit is a session's events without a pause of an hour; nearly every session has one.
VISIT_EVENTS: Knots = (
    *((0, 1), (0.418, 2), (0.585, 3), (0.69, 4), (0.76, 5), (0.808, 6), (0.843, 7), (0.892, 9)),
    *((0.93, 12), (0.964, 18), (0.986, 30), (0.9955, 55), (0.9989, 110), (0.9999, 300), (1, 1250)),
)
GAP_SECONDS: Knots = (  # halves, as quantiles are rounded down
    *((0, 1), (0.05, 8.5), (0.25, 19.5), (0.5, 34.5), (0.75, 65.5), (0.9, 119.5), (0.99, 433.5)),
    *((0.998, 1200), (1, 3600)),
)
REUSED = 0.0245  # of visits; where the old session would start before the period, it is a new one
REUSE_LAG_HOURS: Knots = ((0, 1.5), (0.25, 6), (0.45, 24), (0.65, 96), (0.85, 500), (1, 3600))
# Of the events that are not the first of their visit, in visits that do not buy.
CARTS_IN_OCTOBER, CARTS_LATER, CARTS_LATER_FROM = 0.024, 0.055, date(2019, 11, 1)
REMOVALS, REMOVALS_FROM = 0.04, date(2019, 12, 1)  # of the events after such a cart event
VISITS_OF_BUYERS_THAT_BUY = 0.52  # of those with two events or more
PURCHASES_WITH_CART = 0.32  # of the visits that buy
SECOND_PURCHASE = 0.55  # of the visits that buy and go on for two more events
DUPLICATES = 0.0013  # of the events that are not the first of their visit
NULL_SESSIONS = 1e-7
SAME_PRODUCT = 0.35  # of the views after the first
OTHER_CATEGORY = 0.12  # of the views after the first

# --- Shape: users ---------------------------------------------------------------------------------

EVENTS_PER_SESSION = 4.63


@dataclass(frozen=True)
class UserGroup:
    """Users who are about equally active."""

    visits: float  # share of all visits
    visits_per_user: float
    active: float  # share of the period during which one user comes


USER_GROUPS = (
    UserGroup(0.12, 1, 0.02),
    UserGroup(0.18, 2.8, 0.15),
    UserGroup(0.23, 8, 0.35),
    UserGroup(0.24, 25, 0.7),
    UserGroup(0.16, 80, 1),
    UserGroup(0.07, 300, 1),
)
BUYERS = 0.22  # of users; 13 % of all users then do buy
FIRST_USER_ID = 512_000_000

# --- Shape: catalogue -----------------------------------------------------------------------------

PRODUCT_COUNT, CATEGORY_COUNT, BRAND_COUNT = 386_000, 700, 4_300
SHELF = 1 << 20  # places; a product is shown as often as it has places
# Share of the products, from the most shown on, to share of the events.
POPULARITY: Knots = (
    *((0, 0), (1 / PRODUCT_COUNT, 0.011), (4 / PRODUCT_COUNT, 0.022), (0.00003, 0.037)),
    *((0.0001, 0.053), (0.0003, 0.076), (0.001, 0.103), (0.003, 0.133), (0.01, 0.17)),
    *((0.03, 0.25), (0.1, 0.39), (0.3, 0.60), (1, 1)),
)
CATEGORY_SIZES: Knots = ((0, 0), (0.2, 4), (0.4, 20), (0.7, 100), (0.9, 300), (1, CATEGORY_COUNT))
BRAND_SIZES: Knots = (
    *((0, 0), (0.1, 1), (0.18, 2), (0.3, 5), (0.5, 25), (0.7, 150), (0.9, 1200)),
    (1, BRAND_COUNT),
)
NULL_BRAND, NULL_CATEGORY_CODE = 0.14, 0.32  # of events
PRICE_CENTS: Knots = (
    *((0, 0), (0.001, 0), (0.001, 80), (0.05, 1200), (0.25, 6_800), (0.5, 16_400)),
    *((0.75, 36_100), (0.95, 100_700), (0.99, 180_000), (1, 257_400)),
)
PRICE_WOBBLE = 20  # thousandths that a price moves up or down from week to week
TWO_BRAND_RANKS = (60, 90, 150, 250, 400)  # these well-known products change their brand once
REBRANDING_DAY = date(2020, 1, 15)
CATEGORY_WORDS = {
    "electronics": "smartphone tablet telephone clocks audio.headphone audio.subwoofer "
    "audio.acoustic video.tv video.projector camera.photo camera.video",
    "appliances": "kitchen.refrigerators kitchen.washer kitchen.oven kitchen.kettle kitchen.hood "
    "kitchen.blender environment.vacuum environment.air_heater personal.massager iron sewing",
    "computers": "notebook desktop components.memory components.hdd components.cpu "
    "peripherals.printer peripherals.monitor peripherals.mouse network.router ebooks",
    "apparel": "shoes shoes.keds shoes.sandals shirt tshirt jeans dress scarf underwear",
    "furniture": "bedroom.bed bedroom.blanket living_room.sofa living_room.cabinet kitchen.table",
    "construction": "tools.drill tools.saw tools.generator tools.light components.faucet",
    "auto": "accessories.player accessories.alarm accessories.compressor accessories.winch",
    "kids": "toys carriage skates swing dolls fmcg.diapers",
    "sport": "bicycle ski trainer tennis snowboard",
    "accessories": "bag wallet umbrella",
    "country_yard": "cultivator lawn_mower",
    "stationery": "cartrige paper",
    "medicine": "tools.tonometer",
}

# --- Numbers --------------------------------------------------------------------------------------

# The fields of the random words of a visit, of a session and of an event.
VISIT_SIZE, REUSE, REUSE_LAG = (0, 16), (0, 16), (16, 32)
READINESS, PURCHASE_STEP, CART_FIRST = (0, 16), (16, 12), (28, 8)
BUYS_AGAIN, VISIT_PLACE = (36, 8), (44, 20)
GROUP, MEMBER, BUYER = (0, 16), (16, 40), (32, 32)
ACTION, GAP, NOVELTY, PLACE = (0, 16), (16, 16), (32, 12), (44, 20)
CATALOGUE_KEY = 46
# Odd multiples of the golden ratio spread evenly: also of the few busiest users, 22 % are buyers.
GOLDEN = np.uint64(0x9E37_79B9_7F4A_7C15)
VIEW, CART, REMOVE_FROM_CART, PURCHASE = range(4)  # the places in EVENT_TYPES


def interpolate(x: Floats, xs: Floats, ys: Floats) -> Floats:
    """Return the value at `x` of the line through the points; at a jump, the value after it.

    `numpy.interp` would do, but may fuse its multiplication and addition on some machines.
    """
    left = np.clip(np.searchsorted(xs, x, side="right") - 1, 0, len(xs) - 2)
    slope = (ys[left + 1] - ys[left]) / (xs[left + 1] - xs[left])
    return ys[left] + (x - xs[left]) * slope


def at_shares(shares: Floats, knots: Knots) -> Floats:
    """Return the quantiles at `shares` (0 to 1)."""
    xs, ys = np.array(knots, dtype=np.float64).T
    return interpolate(shares, xs, ys)


@cache
def quantile_table(knots: Knots) -> Ints:
    """Return the quantiles for every 16-bit draw, rounded down."""
    shares = (np.arange(1 << 16) + 0.5) / (1 << 16)
    return at_shares(shares, knots).astype(np.int64)


def bits(words: Words, field: Field) -> Ints:
    """Return a field of each word as a number."""
    first, count = field
    return ((words >> np.uint64(first)) & np.uint64((1 << count) - 1)).astype(np.int64)


def shares_in(words: Words, field: Field) -> Floats:
    """Return a field of each word as a number from 0 to below 1."""
    return bits(words, field) / (1 << field[1])


def chance(words: Words, field: Field, share: float | Floats) -> Flags:
    """Return true with a chance of `share`; of two shares of one field, the larger holds both."""
    return shares_in(words, field) < share


def scrambled(numbers: Ints, key: int) -> Words:
    """Return random-looking words, always the same for a number and key (SplitMix64)."""
    words = numbers.astype(np.uint64) * GOLDEN + np.uint64(key)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58_476D_1CE4_E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D0_49BB_1331_11EB)
    return words ^ (words >> np.uint64(31))


def seconds_until(day: date) -> int:
    """Return the seconds from the start of the period to the start of `day`."""
    return (day - FIRST_DAY).days * DAY


def text_series(characters: npt.NDArray[np.uint8]) -> pl.Series:
    """Return one text for each row of ASCII characters."""
    count, width = characters.shape
    offsets = pa.py_buffer(np.arange(count + 1, dtype=np.int64) * width)
    return pl.Series(pa.LargeStringArray.from_buffers(count, offsets, pa.py_buffer(characters)))


def character_table(texts: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Return texts of one length as rows of ASCII characters."""
    return np.frombuffer("".join(texts).encode("ascii"), dtype=np.uint8).reshape(len(texts), -1)


# --- The calendar ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Calendar:
    """When visits start: seconds since the start of the period to share of all visits, and back."""

    hour_starts: Floats  # seconds, and the end of the last hour
    shares: Floats  # of the visits that start before each of these

    def seconds_at(self, shares: Floats) -> Ints:
        """Return the second by which `shares` of the visits have started."""
        return interpolate(shares, self.shares, self.hour_starts).astype(np.int64)

    def shares_at(self, seconds: Ints) -> Floats:
        """Return the share of visits that start before `seconds`."""
        return interpolate(seconds.astype(np.float64), self.hour_starts, self.shares)


def days() -> list[date]:
    """Return the days of the period."""
    return [FIRST_DAY + timedelta(days=day) for day in range(PERIOD // DAY)]


@cache
def calendar() -> Calendar:
    """Build the calendar from the weights of months, days and hours."""
    traffic = {day: SALE_TRAFFIC if day == SALE_DAY else 1 for day in days()}
    month_traffic = {
        month: sum(traffic[day] for day in days() if day.month == month) for month in MONTH_WEIGHTS
    }
    day_weights = [
        MONTH_WEIGHTS[day.month] * traffic[day] // month_traffic[day.month] for day in days()
    ]
    weights = np.outer(day_weights, HOUR_WEIGHTS).ravel()
    edges = np.concatenate([[0], np.cumsum(weights)])
    return Calendar(np.arange(0.0, PERIOD + HOUR, HOUR), edges / edges[-1])


# --- The catalogue --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Catalogue:
    """What the shop sells. Products are sorted by category; a brand of BRAND_COUNT is NULL."""

    product_ids: Ints
    product_categories: Ints
    product_brands: Ints
    product_later_brands: Ints  # from REBRANDING_DAY on
    product_prices: Ints  # cents
    category_ids: pl.Series
    category_codes: pl.Series
    brands: pl.Series
    shelf: Ints  # product in each place; the places of a category are neighbours
    category_places: Ints  # first place of each category, and the end


def middle_shares(weights: Ints, order: Ints) -> Floats:
    """Return, for each item, the share of all weight before its middle, counted in `order`."""
    ends = np.cumsum(weights[order])
    shares = np.empty(len(weights))
    shares[order] = (ends - weights[order] / 2) / ends[-1]
    return shares


def places_by_rank() -> Ints:
    """Return how many places on the shelf each product has, from the most shown product on."""
    shares = at_shares(np.arange(PRODUCT_COUNT + 1) / PRODUCT_COUNT, POPULARITY)
    ends = np.rint(shares * SHELF).astype(np.int64)
    return ends[1:] - ends[:-1]


def category_codes() -> list[str]:
    """Return the dotted paths that categories have; several categories share one."""
    return [f"{top}.{rest}" for top, words in CATEGORY_WORDS.items() for rest in words.split()]


def brand_names() -> list[str]:
    """Return made-up brands, all different."""
    syllables = [head + tail for head in "bdfghjklmnprstvz" for tail in ("a", "e", "i", "o", "ux")]
    count = len(syllables)  # 80: two make 6,400 names, of which every 2,741st is taken
    pairs = [divmod(number * 2741 % count**2, count) for number in range(BRAND_COUNT)]
    return [syllables[first] + syllables[second] for first, second in pairs]


@cache
def catalogue() -> Catalogue:
    """Build the catalogue; it depends on nothing but the constants of this module."""
    draws = np.random.PCG64(CATALOGUE_KEY).random_raw(PRODUCT_COUNT)
    categories = quantile_table(CATEGORY_SIZES)[bits(draws, (0, 16))]
    by_category = np.argsort(categories, kind="stable")  # so the rank decides within a category
    draws, categories = draws[by_category], categories[by_category]
    places = places_by_rank()[by_category]
    ends = np.cumsum(places)
    last_of_category = np.searchsorted(categories, np.arange(CATEGORY_COUNT), side="right") - 1
    category_places = np.concatenate([[0], ends[last_of_category]])

    brands = quantile_table(BRAND_SIZES)[bits(draws, (16, 16))]
    no_brand = middle_shares(places, np.argsort(bits(draws, (32, 32)), kind="stable")) < NULL_BRAND
    two_brands = np.isin(by_category, TWO_BRAND_RANKS)
    brands[no_brand & ~two_brands] = BRAND_COUNT

    category_draws = scrambled(np.arange(CATEGORY_COUNT), CATALOGUE_KEY)
    price_level = bits(category_draws, (0, 20))[categories] + bits(draws, (24, 20))
    price_order = np.argsort(price_level, kind="stable")
    no_code = (
        middle_shares(np.diff(category_places), np.argsort(category_draws, kind="stable"))
        < NULL_CATEGORY_CODE
    )
    codes = category_codes()
    code_of_category = np.where(no_code, len(codes), np.arange(CATEGORY_COUNT) % len(codes))
    return Catalogue(
        product_ids=1_000_000 + np.arange(PRODUCT_COUNT) * 147 + bits(draws, (40, 7)),
        product_categories=categories,
        product_brands=brands,
        product_later_brands=np.where(two_brands, (brands + 1) % BRAND_COUNT, brands),
        product_prices=at_shares(middle_shares(places, price_order), PRICE_CENTS).astype(np.int64),
        category_ids=pl.Series(2_053_013_550_000_000_000 + np.arange(CATEGORY_COUNT) * 8_388_593),
        category_codes=pl.Series([*codes, None])[code_of_category],
        brands=pl.Series([*brand_names(), None]),
        shelf=np.repeat(np.arange(PRODUCT_COUNT), places),
        category_places=category_places,
    )


# --- Visits ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """What is asked for, and how it falls into slices."""

    rows: int
    seed: int

    @property
    def slices(self) -> int:
        """Return the number of slices."""
        return -(-self.rows // SLICE_EVENTS)

    @property
    def visits_per_slice(self) -> float:
        """Return the number of visits to expect in a slice."""
        return self.rows / self.slices / float(quantile_table(VISIT_EVENTS).mean())

    def events_in(self, number: int) -> int:
        """Return how many events the visits of a slice have."""
        return self.rows * (number + 1) // self.slices - self.rows * number // self.slices

    def end_of(self, number: int) -> int:
        """Return the second at which the next slice starts, or the period ends."""
        if number + 1 == self.slices:
            return PERIOD
        return int(calendar().seconds_at(np.array([(number + 1) / self.slices]))[0])

    def draws(self, number: int) -> np.random.PCG64:
        """Return the source of a slice's random bits."""
        return np.random.PCG64(np.random.SeedSequence(self.seed, spawn_key=(self.rows, number)))

    def session_keys(self) -> list[int]:
        """Return the three keys that make a session's id and user of its number."""
        source = np.random.SeedSequence(self.seed, spawn_key=(self.rows,))
        return [int(key) for key in source.generate_state(3, np.uint64)]


@dataclass(frozen=True)
class Visits:
    """The visits that start in one slice, one array item each, in order of their start."""

    starts: Ints  # seconds
    sizes: Ints  # events
    sessions: Ints  # number of the session: slice * SLICE_EVENTS + position in the slice
    users: Ints
    buys: Flags
    purchase_steps: Ints  # the event of the visit (first = 0) that is a purchase, if it buys
    carts_first: Flags  # if it buys: whether the event before the purchase puts into the cart
    buys_again: Flags
    places: Ints  # on the shelf, of a product of the visit's category


def visit_sizes(source: np.random.PCG64, events: int) -> Ints:
    """Return numbers of events per visit that add up to `events`."""
    drawn = quantile_table(VISIT_EVENTS)[bits(source.random_raw(events), VISIT_SIZE)]
    ends = np.cumsum(drawn)
    count = int(np.searchsorted(ends, events)) + 1
    sizes: Ints = drawn[:count]
    sizes[-1] -= ends[count - 1] - events
    return sizes


def visit_sessions(plan: Plan, number: int, shares: Floats, starts: Ints, draws: Words) -> Ints:
    """Return each visit's session: mostly a new one, sometimes that of a much earlier visit.

    In earlier slices a visit's place is known only about: 0.95 keeps within those that exist.
    """
    sessions = number * SLICE_EVENTS + np.arange(len(starts))
    lags = at_shares(shares_in(draws, REUSE_LAG), REUSE_LAG_HOURS) * HOUR
    earlier = starts - lags.astype(np.int64)
    again = np.flatnonzero(chance(draws, REUSE, REUSED) & (earlier >= 0))
    then = calendar().shares_at(earlier[again])
    slices, within = np.divmod(then * plan.slices, 1)
    here = np.maximum(np.searchsorted(shares, then, side="right") - 1, 0)
    there = (within * plan.visits_per_slice * 0.95).astype(np.int64)
    sessions[again] = slices.astype(np.int64) * SLICE_EVENTS + np.where(
        slices == number, here, there
    )
    return sessions


def session_users(plan: Plan, sessions: Ints) -> Ints:
    """Return the user id of each session. The number of users grows with the number of rows.

    A user of a group comes during a part of the period; later users have larger ids.
    """
    words = scrambled(sessions, plan.session_keys()[0])
    slices, positions = np.divmod(sessions, SLICE_EVENTS)
    shares = (slices + np.minimum(positions / plan.visits_per_slice, 1)) / plan.slices
    limits = np.cumsum([group.visits for group in USER_GROUPS[:-1]])
    groups = np.searchsorted(limits, shares_in(words, GROUP), side="right")
    active = np.array([group.active for group in USER_GROUPS])[groups]
    all_sessions = plan.rows / EVENTS_PER_SESSION
    sizes = np.array([all_sessions * group.visits / group.visits_per_user for group in USER_GROUPS])
    members = (shares * (1 - active) + shares_in(words, MEMBER) * active) * sizes[groups]
    users: Ints = FIRST_USER_ID + members.astype(np.int64) * len(USER_GROUPS) + groups
    return users


@cache
def byte_texts() -> npt.NDArray[np.uint16]:
    """Return the two hexadecimal digits of every byte, as one item."""
    return character_table([f"{byte:02x}" for byte in range(256)]).view(np.uint16).ravel()


def session_ids(plan: Plan, sessions: Ints) -> pl.Series:
    """Return the UUID (version 4) of each session, as text."""
    _, high_key, low_key = plan.session_keys()
    high, low = scrambled(sessions, high_key), scrambled(sessions, low_key)
    high = high & np.uint64(0xFFFF_FFFF_FFFF_0FFF) | np.uint64(0x4000)
    low = low & np.uint64(0x3FFF_FFFF_FFFF_FFFF) | np.uint64(0x8000_0000_0000_0000)
    words = np.stack([high, low], axis=1).astype(">u8")
    digits = byte_texts()[words.view(np.uint8)].view(np.uint8)
    text = np.full((len(sessions), 36), ord("-"), dtype=np.uint8)
    for group, (start, end) in enumerate(((0, 8), (8, 12), (12, 16), (16, 20), (20, 32))):
        text[:, start + group : end + group] = digits[:, start:end]
    return text_series(text)


def draw_visits(plan: Plan, number: int, source: np.random.PCG64) -> Visits:
    """Draw the visits that start in slice `number`."""
    sizes = visit_sizes(source, plan.events_in(number))
    count = len(sizes)
    fractions = np.sort(source.random_raw(count) >> np.uint64(11)) / (1 << 53)
    shares = (number + fractions) / plan.slices
    starts = calendar().seconds_at(shares)
    sessions = visit_sessions(plan, number, shares, starts, source.random_raw(count))
    users = session_users(plan, sessions)

    draws = source.random_raw(count)
    on_sale_day = starts // DAY == (SALE_DAY - FIRST_DAY).days
    readiness = VISITS_OF_BUYERS_THAT_BUY * np.where(on_sale_day, SALE_READINESS, 1)
    is_buyer = chance(users.astype(np.uint64) * GOLDEN, BUYER, BUYERS)
    return Visits(
        starts=starts,
        sizes=sizes,
        sessions=sessions,
        users=users,
        buys=is_buyer & (sizes > 1) & chance(draws, READINESS, readiness),
        purchase_steps=1 + bits(draws, PURCHASE_STEP) % np.maximum(sizes - 1, 1),
        carts_first=chance(draws, CART_FIRST, PURCHASES_WITH_CART),
        buys_again=chance(draws, BUYS_AGAIN, SECOND_PURCHASE),
        places=bits(draws, VISIT_PLACE),
    )


# --- Events ---------------------------------------------------------------------------------------


def event_types(visits: Visits, owners: Ints, firsts: Ints, draws: Words) -> tuple[Ints, Flags]:
    """Return each event's type, and whether it repeats the event before it.

    A visit that buys has one purchase or two, maybe with a cart event right before the first. The
    other visits put products into the cart, and in later months take some out again, at random.
    """
    is_first = np.zeros(len(draws), dtype=np.bool_)
    is_first[firsts] = True
    repeats = chance(draws, ACTION, DUPLICATES) & ~is_first

    in_october = visits.starts < seconds_until(CARTS_LATER_FROM)
    cart_shares = np.where(in_october, CARTS_IN_OCTOBER, CARTS_LATER) * ~visits.buys
    is_cart = chance(draws, ACTION, DUPLICATES + cart_shares[owners]) & ~repeats & ~is_first
    after_cart = 1 + np.flatnonzero(is_cart[:-1] & ~is_first[1:] & ~is_cart[1:])
    is_removal = ~chance(draws[after_cart], ACTION, 1 - REMOVALS)
    is_removal &= visits.starts[owners[after_cart]] >= seconds_until(REMOVALS_FROM)

    types = np.full(len(draws), VIEW)
    types[is_cart] = CART
    types[after_cart[is_removal]] = REMOVE_FROM_CART
    purchases = firsts + visits.purchase_steps
    types[purchases[visits.buys]] = PURCHASE
    types[purchases[visits.buys & visits.carts_first] - 1] = CART
    fits_second = visits.purchase_steps + 2 < visits.sizes
    types[purchases[visits.buys & visits.buys_again & fits_second] + 2] = PURCHASE
    types[repeats] = types[np.flatnonzero(repeats) - 1]
    return types, repeats


def event_products(visits: Visits, owners: Ints, has_new_product: Flags, draws: Words) -> Ints:
    """Return each event's product: that of the event before, unless `has_new_product`.

    A visit stays mostly in one category. Every new product is drawn as often as it has places on
    the shelf, whichever way it is drawn.
    """
    shop = catalogue()
    categories = shop.product_categories[shop.shelf[visits.places]]
    first_places = shop.category_places[categories]
    place_counts = shop.category_places[categories + 1] - first_places

    owners, draws = owners[has_new_product], draws[has_new_product]
    place = bits(draws, PLACE)
    in_category = first_places[owners] + place * place_counts[owners] // SHELF
    stays = chance(draws, NOVELTY, 1 - OTHER_CATEGORY)
    new_products = shop.shelf[np.where(stays, in_category, place)]
    products: Ints = new_products[np.cumsum(has_new_product) - 1]
    return products


def event_seconds(visits: Visits, owners: Ints, firsts: Ints, repeats: Flags, draws: Words) -> Ints:
    """Return the time of each event. A visit that would outlast the period starts earlier."""
    gaps = quantile_table(GAP_SECONDS)[bits(draws, GAP)]
    gaps[firsts] = 0
    gaps[repeats] = 0
    elapsed = np.cumsum(gaps)
    lengths = elapsed[firsts + visits.sizes - 1] - elapsed[firsts]
    starts = np.minimum(visits.starts, PERIOD - 1 - lengths)
    starts = np.maximum(starts, visits.starts[0])  # never in an earlier slice
    seconds: Ints = np.minimum(elapsed + (starts - elapsed[firsts])[owners], PERIOD - 1)
    return seconds


def draw_events(plan: Plan, number: int) -> pl.DataFrame:
    """Draw the events of the visits that start in slice `number`, visit by visit.

    Columns: seconds (since the start of the period), event_type (index in EVENT_TYPES), product
    (index in the catalogue), user_id, user_session.
    """
    source = plan.draws(number)
    visits = draw_visits(plan, number, source)
    draws = source.random_raw(plan.events_in(number))
    owners = np.repeat(np.arange(len(visits.sizes)), visits.sizes)
    firsts = np.cumsum(visits.sizes) - visits.sizes
    types, repeats = event_types(visits, owners, firsts, draws)
    has_new_product = (types == VIEW) & ~repeats & ~chance(draws, NOVELTY, SAME_PRODUCT)
    has_new_product[firsts] = True
    is_lost = draws < np.uint64(NULL_SESSIONS * 2**64)
    return pl.DataFrame(
        {
            "seconds": event_seconds(visits, owners, firsts, repeats, draws),
            "event_type": types,
            "product": event_products(visits, owners, has_new_product, draws),
            "user_id": visits.users[owners],
            "user_session": session_ids(plan, visits.sessions)[owners],
            "is_lost": is_lost,
        }
    ).select(
        pl.exclude("user_session", "is_lost"), pl.when(~pl.col("is_lost")).then("user_session")
    )


def events_in_order(plan: Plan) -> Iterator[pl.DataFrame]:
    """Yield all events in order of time, a slice at a time; columns as in `draw_events`."""
    carried: list[pl.DataFrame] = []
    for number in range(plan.slices):
        events = pl.concat([*carried, draw_events(plan, number)])
        events = events.sort("seconds", maintain_order=True)
        ready = int(events["seconds"].search_sorted(plan.end_of(number), side="left"))
        yield events[:ready]
        carried = [events[ready:]]


# --- The file -------------------------------------------------------------------------------------


@cache
def day_texts() -> npt.NDArray[np.uint8]:
    """Return the text of every day of the period, with a space at the end."""
    return character_table([f"{day} " for day in days()])


@cache
def clock_texts() -> npt.NDArray[np.uint8]:
    """Return the text of every second of a day, with the time zone."""
    clocks = itertools.product(range(24), range(60), range(60))
    return character_table([f"{h:02}:{m:02}:{s:02} UTC" for h, m, s in clocks])


def csv_columns(events: pl.DataFrame) -> pl.DataFrame:
    """Return the columns of the CSV for events as in `draw_events`."""
    shop = catalogue()
    seconds, products = events["seconds"].to_numpy(), events["product"].to_numpy()
    day, second = np.divmod(seconds, DAY)
    texts = [np.take(day_texts(), day, axis=0), np.take(clock_texts(), second, axis=0)]
    categories = shop.product_categories[products]
    is_rebranded = seconds >= seconds_until(REBRANDING_DAY)
    brands = np.where(
        is_rebranded, shop.product_later_brands[products], shop.product_brands[products]
    )
    prices = shop.product_prices[products]
    wobble = (products * 7 + day // 7 * 13) % (2 * PRICE_WOBBLE + 1) - PRICE_WOBBLE
    return pl.DataFrame(
        {
            "event_time": text_series(np.hstack(texts)),
            "event_type": pl.Series(EVENT_TYPES)[events["event_type"]],
            "product_id": shop.product_ids[products],
            "category_id": shop.category_ids[categories],
            "category_code": shop.category_codes[categories],
            "brand": shop.brands[brands],
            "price": prices + prices * wobble // 1000,
            "user_id": events["user_id"],
            "user_session": events["user_session"],
        }
    ).with_columns(pl.col("price").cast(pl.Decimal(18, 2)) / 100)


def csv_chunks(plan: Plan) -> Iterator[tuple[int, memoryview]]:
    """Yield the text of the file in turn, each with its number of data rows."""
    for number, events in enumerate(events_in_order(plan)):
        text = io.BytesIO()
        csv_columns(events).write_csv(text, include_header=number == 0, quote_style="never")
        yield events.height, text.getbuffer()


class Writable(Protocol):
    """What text can be written to."""

    def write(self, data: bytes | memoryview, /) -> int:
        """Take the bytes."""


def compressed(file: BinaryIO, path: Path) -> contextlib.AbstractContextManager[Writable]:
    """Return what compresses into `file` as the name `path` says."""
    if path.suffix == ".gz":
        return igzip.IGzipFile(path.stem, "wb", fileobj=file, mtime=0)
    if path.suffix == ".zst":
        return zstd.ZstdFile(file, "wb")
    return contextlib.nullcontext(file)


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Writable]:
    """Open `path` for writing, compressed as its name says; it appears only when it is complete."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file, compressed(file, path) as target:
            yield target
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_events(plan: Plan, path: Path) -> None:
    """Write the file, and where a person watches, the progress.

    Raises:
        OSError: the file cannot be written; nothing is left of it.
    """
    watched, started, written = sys.stderr.isatty(), time.monotonic(), 0
    with new_file(path) as file:
        for rows, text in csv_chunks(plan):
            file.write(text)
            written += rows
            if watched:
                rate = written / (time.monotonic() - started)
                left = (plan.rows - written) / rate
                line = f"{written:,} of {plan.rows:,} rows, {rate:,.0f} rows/s, {left:.0f} s left"
                print(f"\r{line:<78}", end="", file=sys.stderr, flush=True)
    if watched:
        print(f"\r{'':<78}\r", end="", file=sys.stderr, flush=True)


# --- The command ----------------------------------------------------------------------------------


class OneLineParser(argparse.ArgumentParser):
    """A parser that says in one line what is wrong."""

    def error(self, message: str) -> NoReturn:
        """Print the message and exit with 2."""
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def row_count(text: str) -> int:
    """Return the number of rows that an argument asks for."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def seed_number(text: str) -> int:
    """Return the seed that an argument names."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def output_path(text: str) -> Path:
    """Return the path of a file that can be written."""
    path = Path(text)
    if not path.name.endswith(SUFFIXES):
        raise argparse.ArgumentTypeError(f"{text!r} does not end in {', '.join(SUFFIXES)}")
    try:
        has_parent, is_taken = path.parent.is_dir(), path.is_dir()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error.strerror}") from error
    if not has_parent:
        raise argparse.ArgumentTypeError(f"there is no directory {str(path.parent)!r}; create it")
    if is_taken:
        raise argparse.ArgumentTypeError(f"{text!r} is a directory; name a file")
    return path


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Return rows, seed and output; exit with 2 where they are wrong."""
    parser = OneLineParser(
        prog="generate_events",
        description="Write a made-up clickstream of October 2019 to April 2020, like REES46's.",
        allow_abbrev=False,
    )
    parser.add_argument("--rows", type=row_count, required=True, help="data rows to write")
    parser.add_argument(
        "--seed",
        type=seed_number,
        default=1,
        help="same rows and seed: same file; another seed: other sessions in the same shop "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--output",
        type=output_path,
        required=True,
        metavar="FILE",
        help=f"file to write, replaced if it exists; ends in {', '.join(SUFFIXES)}",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the command: 0 written, 1 failed, 2 (as SystemExit) wrong arguments."""
    arguments = parse_arguments(argv)
    plan, path = Plan(arguments.rows, arguments.seed), arguments.output
    started = time.monotonic()
    try:
        write_events(plan, path)
    except OSError as error:
        print(f"generate_events: cannot write {path}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("generate_events: interrupted, nothing written", file=sys.stderr)
        return 1
    seconds = time.monotonic() - started
    size, rate = path.stat().st_size / 1e6, plan.rows / seconds
    print(f"{path}: {plan.rows:,} rows, {size:,.1f} MB, {seconds:.1f} s, {rate:,.0f} rows/s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
