"""The metrics of a run: each name and value on a small input, in the docs, and added up."""

import re
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import apache_beam as beam
import pytest
from apache_beam.metrics.cells import DistributionData, DistributionResult
from apache_beam.metrics.execution import MetricKey, MetricResult
from apache_beam.metrics.metric import MetricName, MetricResults, Metrics
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from pipelines.customer_analytics import build_pipeline
from pipelines.metrics import ROWS, Totals, read_totals
from transforms.audit.balance import DROP_REASONS
from transforms.ingest.files import match_inputs, split_files
from transforms.rules import Rules
from transforms.schema import REJECT_REASONS
from transforms.steps import counters
from transforms.steps.plan import Plan
from transforms.warehouse.local import LocalWarehouse
from transforms.warehouse.publishing import Run

DOCUMENT = Path(__file__).parents[2] / "docs/metrics.md"

AS_OF = date(2019, 10, 2)
HEADER = (
    "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session\n"
)
CSV = """\
2019-10-01 10:00:00 UTC,view,1,1,a.b,acme,10.00,1,s1
2019-10-01 10:01:00 UTC,cart,1,1,a.b,acme,10.00,1,s1
2019-10-01 10:02:00 UTC,purchase,1,1,a.b,acme,10.00,1,s1
2019-10-01 10:02:00 UTC,purchase,1,1,a.b,acme,10.00,1,s1
2019-10-01 11:00:00 UTC,view,2,1,a.b,acme,20.00,2,s2
2019-10-01 11:01:00 UTC,view,2,1,a.b,other,20.00,2,s2
2019-10-01 12:00:00 UTC,view,3,2,a.c,acme,30.00,3,
2019-10-01 13:00:00 UTC,view,4,2,a.c,acme,40.00,4,s4
2019-10-03 00:00:00 UTC,view,4,2,a.c,acme,40.00,4,s4
too,few,fields
yesterday,view,4,2,a.c,acme,40.00,4,s4
2019-10-01 13:00:00 UTC,look,4,2,a.c,acme,40.00,4,s4
2019-10-01 13:00:00 UTC,view,x,2,a.c,acme,40.00,4,s4
2019-10-01 13:00:00 UTC,view,4,x,a.c,acme,40.00,4,s4
2019-10-01 13:00:00 UTC,view,4,2,a.c,acme,free,4,s4
2019-10-01 13:00:00 UTC,view,4,2,a.c,acme,40.00,x,s4
2019-10-01 13:00:00 UTC,view,4,2,a.c,acme,40.00,4,s4_timeout_1
"""

COUNTERS = {
    ("ParseRanges", "rows_read"): 17,
    ("ParseRanges", "csv_bytes_read"): len(CSV),
    ("ParseRanges", "rows_rejected"): 8,
    **{("ParseRanges", f"rows_rejected_{reason}"): 1 for reason in REJECT_REASONS},
    ("ProcessSessionShards", "events_kept"): 4,
    ("ParseRanges", "rows_dropped_after_as_of"): 1,
    ("ProcessSessionShards", "rows_dropped_duplicate"): 1,
    ("ProcessSessionShards", "rows_dropped_multi_brand_product"): 2,
    ("ProcessSessionShards", "rows_dropped_missing_session"): 1,
    ("ProcessSessionShards", "sessions"): 2,
    ("CombineUsers", "users"): 2,
}

UPDATES = {
    # One block is parsed.
    ("ParseRanges", "parse_msec"): 1,
    # Payloads: product codes; events and session names; product sums; user days, sessions
    # and orders; exposures and purchases, baskets and the sessions of carts, levels of funnels.
    ("PartitionFrames", "payload_bytes"): 12,
    # Each of the six steps that cut frames does so once; nothing is bought together.
    ("PartitionFrames", "shuffle_msec"): 6,
}
"""How often each distribution is updated; its values depend on the machine."""


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """The result of a run over the rows."""
    folder = tmp_path_factory.mktemp("metrics")
    (folder / "events.csv").write_text(HEADER + CSV)
    ranges = split_files(match_inputs([str(folder / "events.csv")]), 1)
    with LocalWarehouse(str(folder / "warehouse")).workspace("run", spill=True) as work:
        run = Run(
            run_id="run",
            started_at=beam.utils.timestamp.Timestamp(0).to_utc_datetime(has_tz=True),
            output=str(folder / "warehouse"),
            staging=work.staging,
            options={"input": ["events.csv"]},
            rules=Rules(as_of=AS_OF),
            max_rejected_ratio=1,
        )
        pipeline = beam.Pipeline(FnApiRunner(), options=PipelineOptions([]))
        build_pipeline(pipeline, Plan(run, ranges, 1, work.spill))
        result = pipeline.run()
        result.wait_until_finish()
        return result


@pytest.fixture(scope="module")
def metrics(result):
    """Its metrics."""
    return result.metrics().query()


def key(metric):
    return metric.key.metric.namespace, metric.key.metric.name


def test_counters(metrics):
    assert {key(counter): counter.committed for counter in metrics["counters"]} == COUNTERS


def test_distributions(metrics):
    updates = dict.fromkeys(UPDATES, 0)
    for distribution in metrics["distributions"]:
        updates[key(distribution)] += distribution.committed.count
        assert distribution.committed.min >= 0
    assert updates == UPDATES


def test_the_document_names_the_metrics():
    rows = re.findall(
        r"^\| `(\w+)` \| `([\w<>]+)` \| (counter|distribution)",
        DOCUMENT.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    documented = {"counter": set(), "distribution": set()}
    for step, name, kind in rows:
        reasons = REJECT_REASONS if "rejected" in name else DROP_REASONS[1:]  # after as_of, earlier
        documented[kind] |= {(step, name.replace("<reason>", reason)) for reason in reasons}
    assert documented == {"counter": set(COUNTERS), "distribution": set(UPDATES)}


# Totals -------------------------------------------------------------------------------------------


def test_totals_of_a_run(result, metrics):
    sums = dict.fromkeys((name for _, name in UPDATES), 0)
    for distribution in metrics["distributions"]:
        sums[key(distribution)[1]] += distribution.committed.sum
    rows = {name: value for (_, name), value in COUNTERS.items() if name != "csv_bytes_read"}

    assert sums["payload_bytes"] > 0
    assert read_totals(result) == Totals(rows=rows, csv_bytes_read=len(CSV), **sums)


class Engine(MetricResults):
    """An engine that answers with these metrics: (namespace, name, step, committed, attempted)."""

    def __init__(self, *metrics):
        self._metrics = [
            MetricResult(
                MetricKey(step, MetricName(Metrics.get_namespace(owner), name)),
                committed,
                attempted,
            )
            for owner, name, step, committed, attempted in metrics
        ]

    def query(self, filter=None):  # noqa: A002 - Beam's name
        found = {self.COUNTERS: [], self.DISTRIBUTIONS: []}
        for metric in self._metrics:
            value = metric.attempted or metric.committed
            kind = self.DISTRIBUTIONS if isinstance(value, DistributionResult) else self.COUNTERS
            if self.matches(filter, metric.key):
                found[kind].append(metric)
        return found


def spread(total):
    return DistributionResult(DistributionData(total, 1, total, total))


def totals(*metrics):
    return read_totals(SimpleNamespace(metrics=lambda: Engine(*metrics)))


NOTHING = Totals(dict.fromkeys(ROWS, 0), 0, 0, 0, 0)


def test_what_was_never_counted_is_0():
    assert totals() == NOTHING


@pytest.mark.parametrize(
    ("committed", "attempted", "value"),
    [(3, 6, 3), (3, None, 3), (0, 6, 0), (0, None, 0), (None, 6, 6)],
)
def test_committed_values_come_first(committed, attempted, value):
    found = totals((counters.USERS, "users", "CombineUsers", committed, attempted))
    assert found.rows["users"] == value


def test_committed_distributions_come_first():
    found = totals((counters.PARSE, "parse_msec", "Parse", spread(3), spread(6)))
    assert found.parse_msec == 3


def test_attempted_distributions_do_where_there_are_no_others():
    found = totals((counters.PARSE, "parse_msec", "Parse", None, spread(6)))
    assert found.parse_msec == 6


def test_steps_add_up():
    found = totals(
        (counters.SHUFFLE, "payload_bytes", "ShuffleEvents/Partition", spread(3), None),
        (counters.SHUFFLE, "payload_bytes", "PartitionExposures", spread(4), None),
        (counters.SESSIONS, "sessions", "ProcessSessions", 5, None),
    )
    assert (found.payload_bytes, found.rows["sessions"]) == (7, 5)


def test_metrics_of_others_are_left_out():
    assert totals((beam.Create, "users", "Create", 3, 3)) == NOTHING


def test_an_engine_that_does_not_answer_gives_no_totals():
    def refuse():
        message = "403 dataflow.metrics.get"
        raise PermissionError(message)

    assert read_totals(SimpleNamespace(metrics=refuse)) is None
