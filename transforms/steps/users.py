"""The third stage: users, of what sessions say of them, ranked among all."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.pvalue import AsIter, TaggedOutput

from transforms.analytics.funnels import KEPT_VALUES
from transforms.analytics.rfm import (
    PurchaseStates,
    RankBrackets,
    Scoring,
    rank_brackets,
    rank_candidates,
    rank_samples,
    scoring,
)
from transforms.analytics.session_shard import BY_USER, EXPOSURES_BY_USER
from transforms.analytics.shard_keys import user_shard_key
from transforms.analytics.user_shard import (
    Failures,
    RankedFacts,
    UserFacts,
    combine_shard,
    describe_shard,
    user_totals,
)
from transforms.audit.checks import checked
from transforms.errors import RunError
from transforms.rules import Rules
from transforms.schema import TABLES_BY_NAME, TableBatch
from transforms.shuffle.coder import Group, NamedFrame, Payload
from transforms.shuffle.partition import GroupFrames, SendFrames
from transforms.shuffle.stores import (
    FrameStore,
    collect_frames,
    store_all,
    store_frames,
    take_frames,
)
from transforms.steps import counters
from transforms.steps.catalogue import read_catalogue
from transforms.steps.funnels import KEPT_VALUES_FRAME, KeepValues
from transforms.steps.plan import Plan
from transforms.steps.progress import Progress
from transforms.steps.sessions import read_calendar
from transforms.steps.side_inputs import LOST, read_frame


def failed_rows(failures: Failures) -> Iterator[NamedFrame]:
    """Counts of failing rows, as the audit takes them."""
    for (table, check), rows in failures.items():
        yield "checks", checked(TABLES_BY_NAME[table], check, rows)


def read_facts(store: FrameStore, dates: Iterable[Payload], rules: Rules) -> UserFacts:
    """What is known of the whole input where there are users.

    Raises:
        RunError: The engine has lost it.
    """
    calendar = read_calendar(store, dates, rules.as_of)
    if calendar is None:
        raise RunError(LOST)
    return UserFacts.of(rules, calendar)


@beam.typehints.with_output_types(
    tuple[int, Payload],
    tables=TableBatch,
    states=Payload,
    samples=Payload,
    partials=NamedFrame,
)
class CombineUsers(beam.DoFn):
    """What session shards say of the users of a shard → (shard, payload "users" or "days").

    On the tag `tables`, rows of fct_orders and fct_user_days; on `states`, payloads of what its
    buyers had bought at every snapshot; on `samples`, payloads of `rank_samples` and "totals"; on
    `partials`, partial aggregates and "checks".
    """

    TABLES: Final = "tables"
    STATES: Final = "states"
    SAMPLES: Final = "samples"
    PARTIALS: Final = "partials"

    def __init__(self, rules: Rules, store: FrameStore) -> None:
        self._rules = rules
        self._store = store
        self._users = Metrics.counter(counters.USERS, "users")

    def start_bundle(self) -> None:
        """The facts are read once a bundle."""
        self._facts: UserFacts | None = None

    def process(
        self, element: Group, dates: Iterable[Payload]
    ) -> Iterator[tuple[int, Payload] | TaggedOutput[str, Any]]:
        """Combine one shard."""
        if self._facts is None:
            self._facts = read_facts(self._store, dates, self._rules)
        shard, payloads = element
        combined = combine_shard(take_frames(self._store, payloads), self._facts)
        self._users.inc(combined.users.height)
        for name, rows in combined.tables.items():
            yield TaggedOutput(self.TABLES, (name, rows, {}))
        for partial in (*combined.partials.items(), *failed_rows(combined.failures)):
            yield TaggedOutput(self.PARTIALS, partial)
        samples = rank_samples(combined.states) | {"totals": user_totals(combined.users)}
        for payload in store_frames(self._store, samples):
            yield TaggedOutput(self.SAMPLES, payload)
        for payload in store_frames(self._store, {"states": combined.states.rows}):
            yield TaggedOutput(self.STATES, payload)
        kept = {"users": combined.users, "days": combined.days} | combined.funnels
        for payload in store_frames(self._store, kept):
            yield shard, payload


@beam.typehints.with_output_types(Payload)
class BracketRanks(beam.DoFn):
    """Impulse → payloads of `RankBrackets`: once, of the samples of all shards."""

    def __init__(self, store: FrameStore) -> None:
        self._store = store

    def process(self, _: object, samples: Iterable[Payload]) -> Iterator[Payload]:
        """Bracket the tiles."""
        brackets = rank_brackets(collect_frames(self._store, samples))
        yield from store_all(self._store, brackets.frames())


@beam.typehints.with_output_types(Payload)
class FindRankCandidates(beam.DoFn):
    """A payload of the states of some buyers → payloads of `rank_candidates`."""

    def __init__(self, rules: Rules, store: FrameStore) -> None:
        self._rules = rules
        self._store = store

    def start_bundle(self) -> None:
        """The brackets are read once a bundle."""
        self._known: tuple[RankBrackets, int] | None = None

    def process(
        self, element: Payload, brackets: Iterable[Payload], dates: Iterable[Payload]
    ) -> Iterator[Payload]:
        """Look at one payload.

        Raises:
            RunError: The engine has lost a side input.
        """
        if self._known is None:
            found = collect_frames(self._store, brackets)
            if not found:
                raise RunError(LOST)
            facts = read_facts(self._store, dates, self._rules)
            self._known = RankBrackets.of(found), len(facts.snapshots.dates)
        within, snapshots = self._known
        states = PurchaseStates(self._store.read([element[1]]), snapshots)
        yield from store_frames(self._store, rank_candidates(states, within))


@beam.typehints.with_output_types(Payload)
class ResolveRanks(beam.DoFn):
    """Impulse → payloads of `Scoring`, a few keys for each snapshot, and of "totals"."""

    def __init__(self, store: FrameStore) -> None:
        self._store = store

    def process(
        self,
        _: object,
        samples: Iterable[Payload],
        brackets: Iterable[Payload],
        candidates: Iterable[Payload],
    ) -> Iterator[Payload]:
        """Resolve the ranks once."""
        of_all = collect_frames(self._store, samples)
        resolved = scoring(
            of_all,
            RankBrackets.of(collect_frames(self._store, brackets)),
            collect_frames(self._store, candidates),
        ).frames()
        if "totals" in of_all:
            resolved["totals"] = of_all["totals"].max()
        yield from store_all(self._store, resolved)


@beam.typehints.with_output_types(TableBatch, purchases=Payload, partials=NamedFrame)
class DescribeUsers(beam.DoFn):
    """Users and exposures of a shard → rows of their tables.

    On the tag `purchases`, payloads of `PURCHASE_HISTORIES`; on `partials`, partial aggregates and
    "checks".
    """

    PURCHASES: Final = "purchases"
    PARTIALS: Final = "partials"

    def __init__(self, rules: Rules, store: FrameStore, progress: Progress) -> None:
        self._rules = rules
        self._store = store
        self._progress = progress

    def start_bundle(self) -> None:
        """The facts are read once a bundle."""
        self._facts: RankedFacts | None = None

    def process(
        self,
        element: Group,
        ranks: Iterable[Payload],
        dates: Iterable[Payload],
        catalogue: Iterable[Payload],
        kept_values: Iterable[Payload],
    ) -> Iterator[TableBatch | TaggedOutput[str, Any]]:
        """Describe one shard.

        Raises:
            RunError: The engine has lost a side input.
        """
        if self._facts is None:
            found = collect_frames(self._store, ranks)
            if "totals" not in found:
                raise RunError(LOST)
            of_users = read_facts(self._store, dates, self._rules)
            dataset_end: dt.date | None = found["totals"]["first_purchase_date"].item()
            self._facts = RankedFacts(
                of_users,
                dataset_end,
                Scoring.of(found, last=len(of_users.snapshots.dates) - 1),
                read_catalogue(self._store, catalogue, "product_id", "category_id", "brand"),
                read_frame(self._store, kept_values, KEPT_VALUES_FRAME)
                if self._rules.has_selling
                else KEPT_VALUES.to_frame(),
            )
        described = describe_shard(collect_frames(self._store, element[1]), self._facts)
        self._progress.add("users", described.tables["dim_users"].height)
        for name, rows in described.tables.items():
            yield name, rows, {}
        for payload in store_frames(self._store, {"purchases": described.purchases}):
            yield TaggedOutput(self.PURCHASES, payload)
        for partial in (*described.partials.items(), *failed_rows(described.failures)):
            yield TaggedOutput(self.PARTIALS, partial)


class DescribedUserShards(NamedTuple):
    """What is made of the users.

    Attributes:
        day_tables: Rows of fct_orders and fct_user_days.
        tables: Rows of the other tables of users. (Joined with those, they would not be staged
            where they are made, but be kept by the engine until all are.)
        partials: Partial aggregates, and "checks".
        purchases: Payloads of `PURCHASE_HISTORIES`; none where lifetime value is left out.
    """

    day_tables: beam.PCollection[TableBatch]
    tables: beam.PCollection[TableBatch]
    partials: beam.PCollection[NamedFrame]
    purchases: beam.PCollection[Payload]


class BuildUsers(beam.PTransform[Any, Any]):
    """PCollection[NamedFrame] of what sessions say of their users → `DescribedUserShards`.

    Args:
        plan: The rules.
        dates: Payloads of the first and last date.
        exposures: The frames of `EXPOSURES_BY_USER`; they meet the users only when these are
            described, and so are sent once.
        catalogue: Payloads of the catalogue.
        partials: Partial aggregates of all session shards.
    """

    def __init__(
        self,
        plan: Plan,
        dates: beam.PCollection[Payload],
        exposures: beam.PCollection[NamedFrame],
        catalogue: beam.PCollection[Payload],
        partials: beam.PCollection[NamedFrame],
    ) -> None:
        super().__init__()
        self._partials = partials
        self._plan = plan
        self._dates = dates
        self._exposures = exposures
        self._catalogue = catalogue

    def expand(self, pcoll: beam.PCollection[NamedFrame]) -> DescribedUserShards:
        """Combine by user, rank all users, describe them."""
        plan, store, rules = self._plan, self._plan.store, self._plan.run.rules
        by_user = dict.fromkeys((*BY_USER, *EXPOSURES_BY_USER), user_shard_key)
        dates = AsIter(self._dates)
        combined = (
            pcoll
            | "ShuffleUsers" >> GroupFrames(plan.user_levels, by_user, store)
            | "CombineUsers"
            >> beam.ParDo(CombineUsers(rules, store), dates).with_outputs(
                CombineUsers.TABLES,
                CombineUsers.STATES,
                CombineUsers.SAMPLES,
                CombineUsers.PARTIALS,
                main="users",
            )
        )
        ranks = self._rank(combined[CombineUsers.STATES], combined[CombineUsers.SAMPLES])
        exposures = self._exposures | "SendExposures" >> SendFrames(
            plan.user_levels, by_user, store
        )
        kept_values = (
            (self._partials, combined[CombineUsers.PARTIALS])
            | "FunnelPartials" >> beam.Flatten()
            | "KeepValues" >> KeepValues(plan)
        )
        described = (
            (combined.users, exposures)
            | "UsersAndExposures" >> beam.Flatten()
            | "GroupUsers" >> beam.GroupByKey()
            | "DescribeUsers"
            >> beam.ParDo(
                DescribeUsers(rules, store, plan.progress),
                AsIter(ranks),
                dates,
                AsIter(self._catalogue),
                AsIter(kept_values),
            ).with_outputs(DescribeUsers.PURCHASES, DescribeUsers.PARTIALS, main="tables")
        )
        return DescribedUserShards(
            combined[CombineUsers.TABLES],
            described.tables,
            (combined[CombineUsers.PARTIALS], described[DescribeUsers.PARTIALS])
            | "Partials" >> beam.Flatten(),
            described[DescribeUsers.PURCHASES],
        )

    def _rank(
        self, states: beam.PCollection[Payload], samples: beam.PCollection[Payload]
    ) -> beam.PCollection[Payload]:
        """Payloads of the exact ranks of all users, at every snapshot."""
        store = self._plan.store
        brackets = (
            states.pipeline
            | "StartBrackets" >> beam.Impulse()
            | "BracketRanks" >> beam.ParDo(BracketRanks(store), AsIter(samples))
        )
        candidates = states | "FindRankCandidates" >> beam.ParDo(
            FindRankCandidates(self._plan.run.rules, store), AsIter(brackets), AsIter(self._dates)
        )
        ranks: beam.PCollection[Payload] = (
            states.pipeline
            | "StartRanks" >> beam.Impulse()
            | "ResolveRanks"
            >> beam.ParDo(
                ResolveRanks(store), AsIter(samples), AsIter(brackets), AsIter(candidates)
            )
        )
        return ranks
