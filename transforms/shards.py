"""What happens to one shard of sessions, of products and of users, and to all of them together.

Each step is a function from frames to named frames; the DoFns below it only move frames.
"""

from __future__ import annotations

import datetime as dt
import functools
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import apache_beam as beam
import numpy as np
import polars as pl
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput

from transforms import categories, churn, funnel, periods, products, rfm, segments, users
from transforms.cleaning import (
    ambiguous_products,
    candidate_brands,
    clean,
    multi_brand_products,
)
from transforms.errors import RunError
from transforms.events import EVENT_BATCH, EVENT_SUMS, VARIANT
from transforms.numbering import with_room
from transforms.parsing import parse_block
from transforms.progress import Progress
from transforms.quality import checked, counted
from transforms.reading import InputRanges, read_blocks
from transforms.schema import FCT_SESSIONS, REJECTED_ROWS
from transforms.session_keys import SESSION_NAMES
from transforms.sessions import event_table, session_table, sessionize
from transforms.shuffle import (
    FrameStore,
    Group,
    NamedFrame,
    Payload,
    collect_frames,
    in_global_window,
    take_frames,
)
from transforms.sinks import TableBatch
from transforms.variants import ProductFlags, columns_of, encoded_columns, known_variants

Frames = dict[str, pl.DataFrame]


@dataclass(frozen=True)
class Rules:
    """The options that decide values.

    Attributes:
        as_of: Date from which days are counted; None for the latest event_date kept.
        session_timeout_seconds: Gap beyond which the next session starts.
        cohort_observation_window_days: Days a customer of a churn cohort must have been observed.
        thresholds: Thresholds of dim_users.
    """

    as_of: dt.date | None = None
    session_timeout_seconds: int = 3600
    cohort_observation_window_days: int = 90
    thresholds: users.UserThresholds = field(default_factory=users.UserThresholds)


# Ranges of the input ------------------------------------------------------------------------------


@beam.typehints.with_input_types(InputRanges)
@beam.typehints.with_output_types(NamedFrame, rejected=TableBatch, counts=NamedFrame)
class ParseRanges(beam.DoFn):
    """InputRanges → ("events", event batch); on the tag `rejected`, ("rejected_rows", frame).

    On the tag `counts`: ("counts", COUNTED frame) of the rows read and rejected.
    """

    REJECTED: Final = "rejected"
    COUNTS: Final = "counts"

    def __init__(self, run_id: str, progress: Progress) -> None:
        self._run_id = run_id
        self._progress = progress
        self._rows_read = Metrics.counter(type(self), "rows_read")
        self._rows_rejected = Metrics.counter(type(self), "rows_rejected")
        self._bytes_read = Metrics.counter(type(self), "csv_bytes_read")
        self._milliseconds = Metrics.distribution(type(self), "parse_msec")

    def process(self, element: InputRanges) -> Iterator[NamedFrame | TaggedOutput[str, Any]]:
        """Parse ranges of files of one header, block by block."""
        header = element[0].file.header
        for block in read_blocks(element):
            started = time.monotonic()
            parsed = parse_block(block, header)
            self._milliseconds.update(int((time.monotonic() - started) * 1000))
            counts = {"rows_read": parsed.rows_read, "rejected": parsed.rejected.height}
            self._rows_read.inc(parsed.rows_read)
            self._bytes_read.inc(len(block))
            if parsed.rejected.height:
                self._rows_rejected.inc(parsed.rejected.height)
                for reason, rows in parsed.rejected.group_by("reason").len().iter_rows():
                    counts[reason] = rows
                    Metrics.counter(type(self), f"rows_rejected_{reason}").inc(rows)
                rejected = REJECTED_ROWS.conform(
                    parsed.rejected.with_columns(run_id=pl.lit(self._run_id))
                )
                yield TaggedOutput(self.REJECTED, (REJECTED_ROWS.name, rejected, {}))
            yield TaggedOutput(self.COUNTS, ("counts", counted(counts)))
            yield "session_names", parsed.session_names
            yield "events", parsed.events
            self._progress.add("parse", parsed.rows_read, len(block))


# Products that may be of several brands ----------------------------------------------------------


@beam.typehints.with_input_types(NamedFrame)
@beam.typehints.with_output_types(NamedFrame)
class ProductVariants(beam.DoFn):
    """Event batches → ("variants", frame): products' variants in a bundle, each once."""

    def __init__(self) -> None:
        self._occurs = np.zeros(0, np.bool_)

    def start_bundle(self) -> None:
        """Begin with none."""
        self._occurs = np.zeros(0, np.bool_)

    def process(self, element: NamedFrame) -> None:
        """Take in a batch."""
        name, frame = element
        if name == "events":
            self._occurs = with_room(self._occurs, len(known_variants().product_id))
            self._occurs[frame[VARIANT].to_numpy()] = True

    def finish_bundle(self) -> Iterator[Any]:
        """Send what was found."""
        yield in_global_window(("variants", columns_of(np.flatnonzero(self._occurs))))


@beam.typehints.with_output_types(Payload)
class FindAmbiguousProducts(beam.DoFn):
    """Variants of a product shard → payload "ambiguous": see `ambiguous_products`."""

    def __init__(self, store: FrameStore) -> None:
        self._store = store

    def process(self, element: Group) -> Iterator[Payload]:
        """Look at one shard."""
        _, payloads = element
        found = ambiguous_products(collect_frames(self._store, payloads)["variants"])
        # Also where nothing is found: that no shard has answered is then known to be a fault.
        for payload in self._store.put(found):
            yield "ambiguous", payload


@beam.typehints.with_output_types(Payload)
class FindCandidateBrands(beam.DoFn):
    """Events of a session shard → payload "brands": see `candidate_brands`."""

    def __init__(self, store: FrameStore) -> None:
        self._store = store

    def start_bundle(self) -> None:
        """The candidates are read once a bundle."""
        self._candidates: ProductFlags | None = None

    def process(self, element: Group, ambiguous: Iterable[Payload]) -> Iterator[Payload]:
        """Look at one shard, if any product needs it."""
        if self._candidates is None:
            found = collect_frames(self._store, ambiguous).get("ambiguous")
            if found is None:
                return  # lost by the engine, as `read_suspects` will find
            self._candidates = ProductFlags(found.filter("many_brands")["product_id"])
        if self._candidates.products.len():
            _, payloads = element
            events = self._store.read_variants(
                [payload for name, payload in payloads if name == "events"], self._candidates
            )
            for payload in self._store.put(candidate_brands(events)):
                yield "brands", payload


@dataclass(frozen=True)
class SuspectProducts:
    """Products that a session shard must treat in a way of their own.

    Attributes:
        multi_brand: Those of several brands, whose events are dropped.
        many_categories: Those that occur with several category_ids.
    """

    multi_brand: ProductFlags
    many_categories: ProductFlags


def read_suspects(
    store: FrameStore, ambiguous: Iterable[Payload], brands: Iterable[Payload]
) -> SuspectProducts:
    """The suspect products, of what `FindAmbiguousProducts` and `FindCandidateBrands` found.

    Raises:
        RunError: The engine has lost one of them.
    """
    found = collect_frames(store, ambiguous).get("ambiguous")
    confirmed = collect_frames(store, brands).get("brands")
    if found is None or (confirmed is None and found["many_brands"].any()):
        raise RunError(_LOST)
    multi_brand = (
        found["product_id"].clear() if confirmed is None else multi_brand_products(confirmed)
    )
    return SuspectProducts(
        ProductFlags(multi_brand), ProductFlags(found.filter("many_categories")["product_id"])
    )


_LOST: Final = (
    "the engine lost a side input, so the tables would be wrong; nothing was published. Run again; "
    "if it happens again, choose another --runner."
)


def store_frames(store: FrameStore, frames: Mapping[str, pl.DataFrame]) -> Iterator[Payload]:
    """Store named frames; empty ones need no sending."""
    for name, frame in frames.items():
        if frame.height:
            for payload in store.put(frame):
                yield name, payload


# Sessions -----------------------------------------------------------------------------------------

BY_USER: Final = ("user_days", "user_sessions")
TOUCHES_BY_USER: Final = ("touches", "purchases")
PRODUCT_SUMS: Final = "product_sums"
PARTIALS_OF_SESSIONS: Final = ("session_funnel", "event_days", "counts")


def session_shard_frames(
    events: pl.DataFrame,
    names: pl.DataFrame,
    suspects: SuspectProducts,
    product_sums: products.ProductSums,
    *,
    timeout_seconds: int,
    shard: int,
) -> tuple[list[TableBatch], Frames]:
    """All that is made of the events of a session shard.

    Args:
        events: All event batches of the shard.
        names: The names of its sessions that their keys do not tell.
        suspects: Products to treat in a way of their own.
        product_sums: Takes in the kept events.
        timeout_seconds: Gap beyond which the next session starts.
        shard: Its number.

    Returns:
        The rows of fct_events and fct_sessions; and the frames named in `BY_USER`,
        `TOUCHES_BY_USER` and `PARTIALS_OF_SESSIONS`.
    """
    cleaned = clean(events, names, suspects.multi_brand)
    kept = cleaned.events
    product_sums.add(kept)
    described = encoded_columns(kept[VARIANT].to_numpy())
    cut = sessionize(cleaned, described["product_id"], timeout_seconds)
    frames = {
        "user_days": users.user_days(cut.visits),
        # Few users have two sessions in a shard, so nothing is summed up yet.
        "user_sessions": users.session_terms(cut.sessions.with_columns(user_id="user"), "user_id"),
        "touches": categories.touches(kept, suspects.many_categories, shard),
        "purchases": categories.purchases(kept),
        "session_funnel": funnel.session_funnel(cut.sessions),
        "event_days": periods.event_days(cut.visits),
        "counts": counted(
            {
                "events_kept": kept.height,
                "duplicate": cleaned.duplicate,
                "multi_brand_product": cleaned.multi_brand_product,
                "missing_session": cleaned.missing_session,
            }
        ),
    }
    return [event_table(cut, described), session_table(cut)], frames


@beam.typehints.with_output_types(
    TableBatch, users=NamedFrame, touches=NamedFrame, products=NamedFrame, partials=NamedFrame
)
class ProcessSessionShards(beam.DoFn):
    """Events of a session shard → its tables; on tags, what goes on to users, products, metrics."""

    USERS: Final = "users"
    TOUCHES: Final = "touches"
    PRODUCTS: Final = "products"
    PARTIALS: Final = "partials"

    def __init__(self, rules: Rules, store: FrameStore, progress: Progress) -> None:
        self._rules = rules
        self._store = store
        self._progress = progress
        self._rows = {
            "fct_events": Metrics.counter(type(self), "events_kept"),
            "fct_sessions": Metrics.counter(type(self), "sessions"),
        }

    def start_bundle(self) -> None:
        """Begin without sums; the suspect products are read once a bundle."""
        self._product_sums = products.ProductSums()
        self._suspects: SuspectProducts | None = None

    def process(
        self,
        element: Group,
        ambiguous: Iterable[Payload],
        brands: Iterable[Payload],
        few_rejected: Iterable[bool],
    ) -> Iterator[TableBatch | TaggedOutput[str, Any]]:
        """Process one shard.

        Raises:
            RunError: The engine has lost a side input.
        """
        if not any(few_rejected):
            # The run has failed, for a better reason than what else may be missing here. (Were it
            # only lost, the audit would miss the rows of this shard.)
            return
        shard, payloads = element
        if self._suspects is None:
            self._suspects = read_suspects(self._store, ambiguous, brands)
        received = take_frames(self._store, payloads)
        events = received.pop("events")
        tables, frames = session_shard_frames(
            events,
            received.get("session_names", SESSION_NAMES.to_frame()),
            self._suspects,
            self._product_sums,
            timeout_seconds=self._rules.session_timeout_seconds,
            shard=shard,
        )
        for table, rows, _ in tables:
            self._rows[table].inc(rows.height)
        for count, rows in frames["counts"].iter_rows():
            if count != "events_kept":
                Metrics.counter(type(self), f"rows_dropped_{count}").inc(rows)
        read = events.height
        del events, received
        while tables:
            yield tables.pop(0)
        for tag, names in (
            (self.USERS, BY_USER),
            (self.TOUCHES, TOUCHES_BY_USER),
            (self.PARTIALS, PARTIALS_OF_SESSIONS),
        ):
            for name in names:
                yield TaggedOutput(tag, (name, frames.pop(name)))
        self._progress.add("sessionize", read)

    def finish_bundle(self) -> Iterator[Any]:
        """Send the sums: most shards know most products."""
        sums = (PRODUCT_SUMS, self._product_sums.frame())
        yield TaggedOutput(self.PRODUCTS, in_global_window(sums))


# Products -----------------------------------------------------------------------------------------


@beam.typehints.with_output_types(Payload)
class CombineProducts(beam.DoFn):
    """Product sums of a product shard → payloads "products" and "category_codes"."""

    def __init__(self, store: FrameStore) -> None:
        self._store = store

    def process(self, element: Group) -> Iterator[Payload]:
        """Combine one shard."""
        sums = collect_frames(self._store, element[1])[PRODUCT_SUMS]
        yield from store_frames(
            self._store,
            {
                "products": products.combine_products(sums),
                "category_codes": products.category_codes(sums),
            },
        )


def read_catalogue(
    store: FrameStore, payloads: Iterable[Payload], *columns: str
) -> products.Catalogue:
    """The catalogue, from what `CombineProducts` sent.

    Args:
        store: Where it is.
        payloads: What was sent.
        columns: Those of the products that are needed, `category_id` among them; none for all.
    """
    frames = collect_frames(store, payloads)
    no_sums = empty_session_frames()[PRODUCT_SUMS]
    found = frames.pop("products", products.combine_products(no_sums))
    return products.catalogue(
        found.select(columns or found.columns),
        frames.get("category_codes", products.category_codes(no_sums)),
    )


@beam.typehints.with_output_types(TableBatch)
class DescribeCatalogue(beam.DoFn):
    """Impulse → dim_products and dim_categories."""

    def __init__(self, store: FrameStore) -> None:
        self._store = store

    def process(self, _: object, payloads: Iterable[Payload]) -> Iterator[TableBatch]:
        """Describe all products and categories."""
        found = read_catalogue(self._store, payloads)
        yield "dim_products", products.product_table(found), {}
        yield "dim_categories", products.category_table(found), {}


# Users --------------------------------------------------------------------------------------------


def user_totals(combined: pl.DataFrame) -> pl.DataFrame:
    """The dates that end the data of a user shard: `last_event_date`, `first_purchase_date`."""
    return combined.select(
        pl.col("last_event_time").max().dt.date().alias("last_event_date"),
        pl.col("first_purchase_date").max(),
    )


@beam.typehints.with_output_types(tuple[int, Payload], samples=Payload, partials=NamedFrame)
class CombineUsers(beam.DoFn):
    """Partial aggregates of a user shard → (shard, payload "users").

    On the tag `samples`, payloads of `rank_samples` and "totals"; on the tag `partials`,
    "period_users" and "checks".
    """

    SAMPLES: Final = "samples"
    PARTIALS: Final = "partials"

    def __init__(self, store: FrameStore) -> None:
        self._store = store
        self._users = Metrics.counter(type(self), "users")

    def process(self, element: Group) -> Iterator[tuple[int, Payload] | TaggedOutput[str, Any]]:
        """Combine one shard."""
        shard, payloads = element
        frames = take_frames(self._store, payloads)
        empty = empty_session_frames()
        days = frames.get("user_days", empty["user_days"])
        sessions = frames.get("user_sessions", empty["user_sessions"])
        combined = users.combine_users(days, sessions)
        self._users.inc(combined.height)
        for payload in store_frames(
            self._store, rfm.rank_samples(combined) | {"totals": user_totals(combined)}
        ):
            yield TaggedOutput(self.SAMPLES, payload)
        lost = users.users_without_events(combined, sessions)
        yield TaggedOutput(
            self.PARTIALS, ("checks", checked(FCT_SESSIONS, "user_in_dim_users", lost))
        )
        yield TaggedOutput(self.PARTIALS, ("period_users", periods.period_users(days)))
        for payload in store_frames(self._store, {"users": combined}):
            yield shard, payload


@beam.typehints.with_output_types(Payload)
class FindRankCandidates(beam.DoFn):
    """Some users of a shard → payloads of `rank_candidates`."""

    def __init__(self, store: FrameStore) -> None:
        self._store = store

    def start_bundle(self) -> None:
        """The brackets are read once a bundle."""
        self._brackets: rfm.RankBrackets | None = None

    def process(
        self, element: tuple[int, Payload], samples: Iterable[Payload]
    ) -> Iterator[Payload]:
        """Look at one payload of users."""
        if self._brackets is None:
            self._brackets = rfm.rank_brackets(collect_frames(self._store, samples))
        _, (_, payload) = element
        found = rfm.rank_candidates(self._store.read([payload]), self._brackets)
        yield from store_frames(self._store, found)


TABLES_OF_USERS: Final = ("dim_users", "dim_user_rfm")
PARTIALS_OF_USERS: Final = (
    "user_funnel",
    "user_sums",
    "score_sums",
    "cohort_sums",
    "touch_counts",
    "category_purchases",
)


@dataclass(frozen=True)
class UserContext:
    """What is known of all users when each shard of them is described.

    Attributes:
        rules: The options, `as_of` resolved.
        dataset_end: The largest first_purchase_date; None where nobody has bought.
        scoring: How buyers are scored; None where nobody has bought.
        catalogue: Products and categories.
    """

    rules: Rules
    dataset_end: dt.date | None
    scoring: rfm.Scoring | None
    catalogue: products.Catalogue


def user_context(
    rules: Rules, samples: Frames, candidates: Frames, found: products.Catalogue
) -> UserContext:
    """Resolve what depends on all users.

    Args:
        rules: The options.
        samples: What `CombineUsers` sent on its tag `samples`, of all shards.
        candidates: What `FindRankCandidates` sent, of all shards.
        found: The catalogue.
    """
    totals = samples.get("totals")
    latest, dataset_end = (None, None) if totals is None else totals.max().row(0)
    return UserContext(
        rules if rules.as_of else replace(rules, as_of=latest),
        dataset_end,
        rfm.scoring(samples, rfm.rank_brackets(samples), candidates),
        found,
    )


def user_shard_frames(frames: Frames, context: UserContext) -> Frames:
    """All that is made of the users of a shard.

    Args:
        frames: "users", "touches" and "purchases" of the shard.
        context: What is known of all users.

    Returns:
        Frames by the names in `TABLES_OF_USERS` and `PARTIALS_OF_USERS`.
    """
    rules = context.rules
    described = users.describe_users(frames["users"], rules.as_of or dt.date.min, rules.thresholds)
    scored = rfm.score(described, context.scoring)
    segmented = funnel.with_segment(described, scored)
    return {
        "dim_users": users.user_table(described),
        "dim_user_rfm": rfm.rfm_table(scored),
        "user_funnel": funnel.user_funnel(segmented),
        "user_sums": segments.user_sums(segmented),
        "score_sums": segments.score_sums(scored),
        "cohort_sums": churn.cohort_sums(
            described, context.dataset_end, rules.cohort_observation_window_days
        ),
        "touch_counts": categories.touch_counts(frames["touches"], context.catalogue),
        "category_purchases": categories.category_purchases(
            frames["purchases"], scored, context.catalogue
        ),
    }


@beam.typehints.with_output_types(TableBatch, partials=NamedFrame)
class DescribeUsers(beam.DoFn):
    """Users and touches of a shard → dim_users, dim_user_rfm; on the tag `partials`: metrics."""

    PARTIALS: Final = "partials"

    def __init__(self, rules: Rules, store: FrameStore, progress: Progress) -> None:
        self._rules = rules
        self._store = store
        self._progress = progress

    def start_bundle(self) -> None:
        """The context is read once a bundle."""
        self._context: UserContext | None = None

    def process(
        self,
        element: Group,
        samples: Iterable[Payload],
        candidates: Iterable[Payload],
        catalogue: Iterable[Payload],
    ) -> Iterator[TableBatch | TaggedOutput[str, Any]]:
        """Describe one shard."""
        if self._context is None:
            self._context = user_context(
                self._rules,
                collect_frames(self._store, samples),
                collect_frames(self._store, candidates),
                read_catalogue(self._store, catalogue, "product_id", "category_id"),
            )
        empty = empty_session_frames()
        shard = {"touches": empty["touches"], "purchases": empty["purchases"]}
        shard |= collect_frames(self._store, element[1])
        frames = user_shard_frames(shard, self._context)
        self._progress.add("users", frames["dim_users"].height)
        for name in TABLES_OF_USERS:
            yield name, frames[name], {}
        for name in PARTIALS_OF_USERS:
            yield TaggedOutput(self.PARTIALS, (name, frames[name]))


# Metrics ------------------------------------------------------------------------------------------


@functools.cache
def empty_session_frames() -> Frames:
    """The frames of a session shard without events; made once, not to be changed."""
    none = ProductFlags(pl.Series("product_id", [], pl.Int64))
    _, frames = session_shard_frames(
        EVENT_BATCH.to_frame(),
        SESSION_NAMES.to_frame(),
        SuspectProducts(none, none),
        products.ProductSums(),
        timeout_seconds=0,
        shard=0,
    )
    return frames | {PRODUCT_SUMS: products.ProductSums().frame()}


@functools.cache
def empty_partials() -> Frames:
    """The partial aggregates of an input without events; made once, not to be changed."""
    of_sessions = empty_session_frames()
    combined = users.combine_users(of_sessions["user_days"], of_sessions["user_sessions"])
    no_sums = of_sessions[PRODUCT_SUMS]
    context = UserContext(
        Rules(as_of=dt.date.min),
        None,
        None,
        products.catalogue(products.combine_products(no_sums), products.category_codes(no_sums)),
    )
    of_users = user_shard_frames(of_sessions | {"users": combined}, context)
    return of_sessions | of_users | {"period_users": periods.period_users(of_sessions["user_days"])}


def metric_tables(partials: Frames, found: products.Catalogue) -> Frames:
    """The metrics_* tables.

    Args:
        partials: Partial aggregates of all shards, by name.
        found: The catalogue.
    """
    of = empty_partials() | partials
    return {
        "metrics_churn": churn.metrics_churn(of["cohort_sums"]),
        "metrics_funnel": funnel.metrics_funnel(of["session_funnel"], of["user_funnel"]),
        "metrics_periods": periods.metrics_periods(
            of["event_days"], of["session_funnel"], of["period_users"]
        ),
        "metrics_rfm_grid": segments.metrics_rfm_grid(of["score_sums"]),
        "metrics_rfm_segments": segments.metrics_rfm_segments(of["user_sums"]),
        "metrics_user_segments": segments.metrics_user_segments(of["user_sums"]),
        "metrics_categories": categories.metrics_categories(found, of["touch_counts"]),
        "metrics_category_rfm": categories.metrics_category_rfm(of["category_purchases"]),
    }


@beam.typehints.with_output_types(TableBatch)
class ComputeMetrics(beam.DoFn):
    """Impulse → the metrics_* tables."""

    def __init__(self, store: FrameStore) -> None:
        self._store = store

    def process(
        self, _: object, partials: Iterable[Payload], catalogue: Iterable[Payload]
    ) -> Iterator[TableBatch]:
        """Compute all metrics."""
        found = read_catalogue(self._store, catalogue, "category_id", *EVENT_SUMS)
        tables = metric_tables(collect_frames(self._store, partials), found)
        for name, frame in tables.items():
            yield name, frame, {}
