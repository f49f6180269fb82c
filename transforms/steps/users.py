"""Shards of users."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput

from transforms.analytics.metrics.periods import period_users
from transforms.analytics.rfm import RankBrackets, rank_brackets, rank_candidates, rank_samples
from transforms.analytics.session_shard import empty_session_frames
from transforms.analytics.user_shard import (
    PARTIALS_OF_USERS,
    TABLES_OF_USERS,
    UserContext,
    user_context,
    user_shard_frames,
    user_totals,
)
from transforms.analytics.users import combine_users, users_without_events
from transforms.audit.checks import checked
from transforms.rules import Rules
from transforms.schema import FCT_SESSIONS, TableBatch
from transforms.shuffle.coder import Group, NamedFrame, Payload
from transforms.shuffle.stores import FrameStore, collect_frames, store_frames, take_frames
from transforms.steps.catalogue import read_catalogue
from transforms.steps.progress import Progress


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
        combined = combine_users(days, sessions)
        self._users.inc(combined.height)
        for payload in store_frames(
            self._store, rank_samples(combined) | {"totals": user_totals(combined)}
        ):
            yield TaggedOutput(self.SAMPLES, payload)
        lost = users_without_events(combined, sessions)
        yield TaggedOutput(
            self.PARTIALS, ("checks", checked(FCT_SESSIONS, "user_in_dim_users", lost))
        )
        yield TaggedOutput(self.PARTIALS, ("period_users", period_users(days)))
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
        found = rank_candidates(self._store.read([payload]), self._brackets)
        yield from store_frames(self._store, found)


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
