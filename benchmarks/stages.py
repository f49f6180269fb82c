"""CPU time by stage: python -m benchmarks.stages [--rows N] [--data DIR].

The functions of the graph's hot path run one after the other in this process, on the generated
clickstream and with as many shards as a run has; the CPU time of each stage is divided by the
events that went through it. What Beam adds is not in it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import polars as pl

from benchmarks.inputs import prepare
from transforms.analytics.catalogue import ProductSums
from transforms.analytics.category_exposures import category_exposures, product_purchases
from transforms.analytics.cleaning import clean
from transforms.analytics.funnels import session_funnels
from transforms.analytics.metrics.metric import Source
from transforms.analytics.metrics.registry import partials_of
from transforms.analytics.orders import find_orders, ordered_purchases
from transforms.analytics.sessions import event_table, session_table, sessionize
from transforms.analytics.shard_keys import product_shard_key, session_shard_key, user_shard_key
from transforms.analytics.user_days import user_days
from transforms.analytics.users import session_measures
from transforms.audit.checks import check_batch
from transforms.audit.measures import measure_batch
from transforms.columnar.checksum import event_checksum
from transforms.columnar.event_ids import event_ids
from transforms.columnar.product_codes import PRODUCT_CODE, ProductFlags, encoded_columns
from transforms.funnels import DEFAULT_FUNNELS
from transforms.ingest.files import match_inputs, read_blocks, split_files
from transforms.ingest.parsing import parse_block
from transforms.ingest.session_keys import SESSION_NAMES
from transforms.rules import Rules
from transforms.schema import FCT_EVENTS, FCT_SESSIONS, Table, TableBatch
from transforms.shuffle import sizing
from transforms.shuffle.coder import Payload
from transforms.shuffle.partition import PartitionFrames
from transforms.shuffle.sizing import Levels
from transforms.shuffle.stores import SpillStore, take_frames
from transforms.warehouse.staging import stage

_SHARDS: Final = 8  # of sessions, enough for an average
_TIMEOUT_SECONDS: Final = 3600
_ORDER_GAP_SECONDS: Final = 1
_NO_PRODUCTS: Final = ProductFlags(pl.Series("product_id", [], pl.Int64))


class Clock:
    """Adds up the CPU seconds of stages, by name."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a block."""
        started = time.process_time()
        yield
        self.seconds[name] += time.process_time() - started

    def per_event(self, events: int) -> list[tuple[str, float]]:
        """Nanoseconds an event of each stage."""
        return [(name, seconds / events * 1e9) for name, seconds in self.seconds.items()]


def measure_front(
    path: Path, store: SpillStore, shards: int
) -> tuple[list[tuple[str, float]], dict[int, list[Payload]]]:
    """Read, parse and shuffle a file.

    Returns:
        The stages' costs, and the payloads of each session shard.
    """
    clock, events = Clock(), 0
    partition = PartitionFrames(Levels(shards), {"events": session_shard_key}, store)
    partition.start_bundle()
    sent: dict[int, list[Payload]] = defaultdict(list)
    for part in split_files(match_inputs([str(path)]), 1):
        blocks = read_blocks(part)
        while True:
            with clock.stage("read blocks of whole lines"):
                block = next(blocks, None)
            if block is None:
                break
            with clock.stage("parse"):
                parsed = parse_block(block, part[0].file.header)
            events += parsed.events.height
            with clock.stage("checksum of what is parsed"):
                event_checksum(parsed.events)
            with clock.stage("shuffle 1, write: cut by shard, encode, spill"):
                for shard, payload in partition.process(("events", parsed.events)):
                    sent[shard].append(payload)
    with clock.stage("shuffle 1, write: cut by shard, encode, spill"):
        for windowed in partition.finish_bundle():
            shard, payload = windowed.value
            sent[shard].append(payload)
    return clock.per_event(events), sent


def measure_shards(
    sent: dict[int, list[Payload]], store: SpillStore, folder: str
) -> list[tuple[str, float]]:
    """Process some session shards, and return the stages' costs."""
    clock, events = Clock(), 0
    product_sums = ProductSums()
    for shard, payloads in list(sent.items())[:_SHARDS]:
        with clock.stage("shuffle 1, read: decode, concatenate"):
            batch = take_frames(store, payloads)["events"]
        events += batch.height
        with clock.stage("checksum of what arrives"):
            event_checksum(batch)
        with clock.stage("number, sort and deduplicate sessions"):
            cleaned = clean(batch, SESSION_NAMES.to_frame(), _NO_PRODUCTS)
        kept = cleaned.events
        with clock.stage("sums over products"):
            product_sums.add(kept)
        with clock.stage("products' columns, encoded"):
            described = encoded_columns(kept[PRODUCT_CODE].to_numpy())
        with clock.stage("cut sessions, sum over visits, fct_sessions"):
            cut = sessionize(cleaned, described["product_id"], _TIMEOUT_SECONDS)
            of_sessions = session_table(cut)
        with clock.stage("event ids and fct_events"):
            ids = event_ids(cut.events, cut.user_sessions)
            of_events = event_table(cut, described, ids)
        with clock.stage("partial aggregates of users, funnel, categories, days"):
            bought = ordered_purchases(cut, described["product_id"], _ORDER_GAP_SECONDS)
            orders = find_orders(cut, bought)
            by_user = {
                "user_days": user_days(cut.session_days, cut.sessions, orders),
                "orders": orders,
                "user_sessions": session_measures(
                    cut.sessions.with_columns(user_id="user"), "user_id"
                ),
                "exposures": category_exposures(kept, _NO_PRODUCTS, shard),
                "purchases": product_purchases(kept),
            }
            list(partials_of(Source.SESSIONS, cut, Rules()))
        with clock.stage("funnels"):
            session_funnels(cut, described, ids, DEFAULT_FUNNELS, _TIMEOUT_SECONDS)
        with clock.stage("shuffle 2, write: users"):
            _send(by_user, user_shard_key, store)
        for table, rows in ((FCT_EVENTS, of_events), (FCT_SESSIONS, of_sessions)):
            with clock.stage(f"checks of {table.name}"):
                _check(table, rows)
            with clock.stage(f"Parquet of {table.name}"):
                stage(rows[1], table, folder, rows[2])
    with clock.stage("shuffle 2, write: products"):
        _send({"product_sums": product_sums.frame()}, product_shard_key, store)
    return clock.per_event(events)


def _send(
    frames: dict[str, pl.DataFrame], key: Callable[[pl.DataFrame], pl.Series], store: SpillStore
) -> None:
    partition = PartitionFrames(Levels(_SHARDS), dict.fromkeys(frames, key), store)
    partition.start_bundle()
    for named in frames.items():
        list(partition.process(named))
    list(partition.finish_bundle())


def _check(table: Table, rows: TableBatch) -> None:
    check_batch(table, rows[1], rows[2])
    measure_batch(table, rows[1])


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, in Markdown."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.stages", description=(__doc__ or "").partition("\n\n")[2]
    )
    parser.add_argument("--rows", type=int, default=10_000_000, help="(default: %(default)s)")
    parser.add_argument("--data", type=Path, default=Path("data"), help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    source = prepare(options.data, options.rows, skew=None, files=None, gz=False)
    path = Path(source.files)
    (file,) = match_inputs([str(path)])
    shards = sizing.session_shards(file.csv_bytes, 1)
    with tempfile.TemporaryDirectory(dir=options.data) as folder:
        for table in (FCT_EVENTS, FCT_SESSIONS):
            (Path(folder) / table.name).mkdir()
        store = SpillStore(folder)
        front, sent = measure_front(path, store, shards)
        costs = front + measure_shards(sent, store, folder)
    print("| stage | ns per event |\n|---|---:|")
    for name, cost in costs:
        print(f"| {name} | {cost:.0f} |")
    print(f"| all of these | {sum(cost for _, cost in costs):.0f} |")


if __name__ == "__main__":
    main()
