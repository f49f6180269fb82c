"""What the engine of a run counted: its metrics, added up over the steps, by stable name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from apache_beam.metrics.metric import MetricResults, MetricsFilter
from apache_beam.runners.runner import PipelineResult

from transforms.audit.balance import DROP_REASONS
from transforms.schema import REJECT_REASONS
from transforms.steps.counters import NAMESPACES

ROWS: Final = (
    "rows_read",
    "events_kept",
    *(f"rows_dropped_{reason}" for reason in DROP_REASONS),
    "rows_rejected",
    *(f"rows_rejected_{reason}" for reason in REJECT_REASONS),
    "sessions",
    "users",
)
"""The counters that say what became of the rows; a run publishes the same figures."""


@dataclass(frozen=True)
class Totals:
    """What an engine counted; the names are those of docs/metrics.md.

    Attributes:
        rows: The counters in `ROWS`, by name; 0 for what was never counted.
        csv_bytes_read: Bytes of CSV parsed.
        parse_msec: Milliseconds that took, of all workers together.
        payload_bytes: Bytes that crossed the shuffles.
        shuffle_msec: Milliseconds that cutting and sending them took, of all workers together.
    """

    rows: Mapping[str, int]
    csv_bytes_read: int
    parse_msec: int
    payload_bytes: int
    shuffle_msec: int


def read_totals(result: PipelineResult) -> Totals | None:
    """Ask the engine of a pipeline that is done.

    Returns:
        None where it does not answer: the run is published, and must not fail for that.
    """
    try:
        found = result.metrics().query(MetricsFilter().with_namespaces(NAMESPACES))
    except Exception:  # noqa: BLE001 - every engine has errors of its own
        return None
    sums: Counter[str] = Counter()
    for counter in found[MetricResults.COUNTERS]:
        sums[counter.key.metric.name] += _value(counter)
    for distribution in found[MetricResults.DISTRIBUTIONS]:
        sums[distribution.key.metric.name] += _value(distribution).sum
    return Totals(
        {name: sums[name] for name in ROWS},
        sums["csv_bytes_read"],
        sums["parse_msec"],
        sums["payload_bytes"],
        sums["shuffle_msec"],
    )


def _value(metric: Any) -> Any:
    """The committed value where the engine has one, of work done once; else the attempted one.

    Beam's own `metric.result` takes a committed 0 for none.
    """
    return metric.attempted if metric.committed is None else metric.committed
