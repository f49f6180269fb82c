"""What an event costs, so that a change that makes it much dearer does not go unseen.

Not seconds: the CPU time of the steps that cost most is compared with that of SHA-512 over the same
bytes, in the same process and in turns, so a slow or busy machine changes both. The bounds are
two to three times what was measured.
"""

import hashlib
import time
from collections.abc import Callable
from itertools import islice

import polars as pl
import pytest

from pipelines.generate_events import main as generate
from tests.transforms.frames import NO_SUSPECTS
from transforms.analytics.catalogue import ProductSums
from transforms.analytics.session_shard import session_shard
from transforms.analytics.shard_keys import session_shard_key
from transforms.ingest.files import match_inputs, read_blocks, split_files
from transforms.ingest.parsing import parse_block
from transforms.rules import Rules
from transforms.schema import FCT_EVENTS
from transforms.shuffle.stores import SpillStore
from transforms.warehouse.staging import stage

ROWS = 120_000
TURNS = 5
BOUNDS = {"parse": 5.5, "shuffle": 1.6, "session shard": 8.0, "write": 4.0}
"""CPU time of a step in units of SHA-512's over the CSV."""


def cpu_time(function: Callable[[], object]) -> float:
    started = time.process_time()
    function()
    return time.process_time() - started


@pytest.fixture(scope="module")
def steps(tmp_path_factory) -> dict[str, Callable[[], object]]:
    folder = tmp_path_factory.mktemp("cost")
    path = folder / "events.csv"
    assert not generate(["--rows", str(ROWS), "--seed", "1", "--output", str(path)])
    (part, *_) = split_files(match_inputs([str(path)]), 1)
    (block,) = islice(read_blocks(part), 1)
    header = part[0].file.header
    parsed = parse_block(block, header)
    store = SpillStore(str(folder))

    def shuffle() -> None:
        parts = (session_shard_key(parsed.events) % 2).cast(pl.UInt32).to_numpy()
        for _, payload in store.put_parts([parsed.events], parts, 2):
            store.read([payload])

    def sessions():
        return session_shard(
            parsed.events,
            parsed.session_names,
            NO_SUSPECTS,
            ProductSums(),
            rules=Rules(),
            shard=0,
        )

    _, frame, encoded = sessions().tables[0]
    return {
        "hash": lambda: hashlib.sha512(block.padded).digest(),
        "parse": lambda: parse_block(block, header),
        "shuffle": shuffle,
        "session shard": sessions,
        "write": lambda: stage(frame, FCT_EVENTS, str(folder), encoded),
    }


@pytest.mark.parametrize("step", BOUNDS)
def test_a_step_costs_what_it_did(steps, step):
    steps[step]()
    turns = [(cpu_time(steps[step]), cpu_time(steps["hash"])) for _ in range(TURNS)]
    cost = min(of_step for of_step, _ in turns) / min(of_hash for _, of_hash in turns)
    assert cost < BOUNDS[step]
