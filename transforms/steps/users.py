"""The third stage: users, of what sessions say of them, ranked among all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.pvalue import AsIter, TaggedOutput

from transforms.analytics.metrics.metric import Source
from transforms.analytics.metrics.registry import partials_of
from transforms.analytics.orders import ORDERS, number_orders
from transforms.analytics.rfm import RankBrackets, rank_brackets, rank_candidates, rank_samples
from transforms.analytics.session_shard import BY_USER, EXPOSURES_BY_USER
from transforms.analytics.shard_keys import user_shard_key
from transforms.analytics.user_days import USER_DAYS, combine_user_days
from transforms.analytics.user_shard import (
    UserContext,
    user_context,
    user_shard_frames,
    user_totals,
)
from transforms.analytics.users import USER_SESSIONS, combine_users, users_without_events
from transforms.audit.checks import checked
from transforms.rules import Rules
from transforms.schema import FCT_SESSIONS, TableBatch
from transforms.shuffle.coder import Group, NamedFrame, Payload
from transforms.shuffle.partition import GroupFrames, PartitionFrames
from transforms.shuffle.stores import FrameStore, collect_frames, store_frames, take_frames
from transforms.steps import counters
from transforms.steps.catalogue import read_catalogue
from transforms.steps.plan import Plan
from transforms.steps.progress import Progress


@beam.typehints.with_output_types(tuple[int, Payload], samples=Payload, partials=NamedFrame)
class CombineUsers(beam.DoFn):
    """Partial aggregates of a user shard → (shard, payload "users").

    On the tag `samples`, payloads of `rank_samples` and "totals"; on the tag `partials`,
    "period_users" and "checks".
    """

    SAMPLES: Final = "samples"
    PARTIALS: Final = "partials"

    def __init__(self, rules: Rules, store: FrameStore) -> None:
        self._rules = rules
        self._store = store
        self._users = Metrics.counter(counters.USERS, "users")

    def process(self, element: Group) -> Iterator[tuple[int, Payload] | TaggedOutput[str, Any]]:
        """Combine one shard."""
        shard, payloads = element
        frames = take_frames(self._store, payloads)
        days = combine_user_days(frames.get("user_days", USER_DAYS.to_frame()))
        orders = number_orders(frames.get("orders", ORDERS.to_frame()))
        sessions = frames.get("user_sessions", USER_SESSIONS.to_frame())
        combined = combine_users(days, orders, sessions, self._rules.frequency_unit)
        self._users.inc(combined.height)
        samples = rank_samples(current_states(combined, "items"))
        for payload in store_frames(self._store, samples | {"totals": user_totals(combined)}):
            yield TaggedOutput(self.SAMPLES, payload)
        lost = users_without_events(combined, sessions)
        yield TaggedOutput(
            self.PARTIALS, ("checks", checked(FCT_SESSIONS, "user_in_dim_users", lost))
        )
        for partial in partials_of(Source.USER_DAYS, days):
            yield TaggedOutput(self.PARTIALS, partial)
        for payload in store_frames(self._store, {"users": combined}):
            yield shard, payload


@beam.typehints.with_output_types(Payload)
class FindRankCandidates(beam.DoFn):
    """Some users of a shard → payloads of `rank_candidates`."""

    def __init__(self, store: FrameStore) -> None:
        self._store = store

    def start_bundle(self) -> None:
        """The brackets are read once a bundle."""
        self._brackets: RankBrackets | None = None

    def process(
        self, element: tuple[int, Payload], samples: Iterable[Payload]
    ) -> Iterator[Payload]:
        """Look at one payload of users."""
        if self._brackets is None:
            self._brackets = rank_brackets(collect_frames(self._store, samples))
        _, (_, payload) = element
        states = current_states(self._store.read([payload]), "items")
        found = rank_candidates(states, self._brackets)
        yield from store_frames(self._store, found)


@beam.typehints.with_output_types(TableBatch, partials=NamedFrame)
class DescribeUsers(beam.DoFn):
    """Users and exposures of a shard → dim_users, dim_user_rfm; on the tag `partials`: metrics."""

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
        tables, partials = user_shard_frames(collect_frames(self._store, element[1]), self._context)
        self._progress.add("users", tables["dim_users"].height)
        for name, rows in tables.items():
            yield name, rows, {}
        for partial in partials.items():
            yield TaggedOutput(self.PARTIALS, partial)


class DescribedUserShards(NamedTuple):
    """What is made of the users.

    Attributes:
        tables: Rows of dim_users and dim_user_rfm.
        samples: Payloads of what is known of all users.
        partials: Partial aggregates, and "checks".
    """

    tables: beam.PCollection[TableBatch]
    samples: beam.PCollection[Payload]
    partials: beam.PCollection[NamedFrame]


class BuildUsers(beam.PTransform[Any, Any]):
    """PCollection[NamedFrame] of what sessions say of their users → `DescribedUserShards`.

    Args:
        plan: The rules.
        exposures: The frames of `EXPOSURES_BY_USER`; they meet the users only when these are
            described, and so are sent once.
        catalogue: Payloads of the catalogue.
    """

    def __init__(
        self,
        plan: Plan,
        exposures: beam.PCollection[NamedFrame],
        catalogue: beam.PCollection[Payload],
    ) -> None:
        super().__init__()
        self._plan = plan
        self._exposures = exposures
        self._catalogue = catalogue

    def expand(self, pcoll: beam.PCollection[NamedFrame]) -> DescribedUserShards:
        """Combine by user, rank all users, describe them."""
        plan, store = self._plan, self._plan.store
        by_user = dict.fromkeys((*BY_USER, *EXPOSURES_BY_USER), user_shard_key)
        combined = (
            pcoll
            | "ShuffleUsers" >> GroupFrames(plan.user_shards, by_user, store)
            | "CombineUsers"
            >> beam.ParDo(CombineUsers(plan.run.rules, store)).with_outputs(
                CombineUsers.SAMPLES, CombineUsers.PARTIALS, main="users"
            )
        )
        samples = combined[CombineUsers.SAMPLES]
        candidates = combined.users | "FindRankCandidates" >> beam.ParDo(
            FindRankCandidates(store), AsIter(samples)
        )
        exposures = self._exposures | "PartitionExposures" >> beam.ParDo(
            PartitionFrames(plan.user_shards, by_user, store)
        )
        described = (
            (combined.users, exposures)
            | "UsersAndExposures" >> beam.Flatten()
            | "GroupUsers" >> beam.GroupByKey()
            | "DescribeUsers"
            >> beam.ParDo(
                DescribeUsers(plan.run.rules, store, plan.progress),
                AsIter(samples),
                AsIter(candidates),
                AsIter(self._catalogue),
            ).with_outputs(DescribeUsers.PARTIALS, main="tables")
        )
        partials = (
            combined[CombineUsers.PARTIALS],
            described[DescribeUsers.PARTIALS],
        ) | "Partials" >> beam.Flatten()
        return DescribedUserShards(described.tables, samples, partials)
