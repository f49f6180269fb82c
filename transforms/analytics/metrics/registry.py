"""All metrics: the modules of this package that export `METRIC`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import polars as pl

from transforms.analytics.metrics.metric import Facts, Metric, Partial, Source
from transforms.rules import Rules
from transforms.schema import Table


def _find_metrics() -> Iterator[Metric]:
    folder = Path(__file__).parent
    for module in pkgutil.iter_modules([str(folder)], f"{__package__}."):
        metric = getattr(importlib.import_module(module.name), "METRIC", None)
        if metric is not None:
            yield metric


METRICS: Final = tuple(_find_metrics())

PARTIALS: Final[Mapping[str, Partial]] = MappingProxyType(
    {partial.name: partial for metric in METRICS for partial in metric.partials}
)
"""The partial aggregates of all metrics, by name."""


def metrics_of(rules: Rules) -> list[Metric]:
    """The metrics that a run computes."""
    return [metric for metric in METRICS if metric.table.group not in rules.left_out]


def partials_of(source: Source, shard: Any, rules: Rules) -> Iterator[tuple[str, pl.DataFrame]]:
    """The partial aggregates that are made of a source, named, of one shard.

    Args:
        source: The source.
        shard: What it gives.
        rules: The options.
    """
    needed = {partial.name: partial for each in metrics_of(rules) for partial in each.partials}
    for partial in needed.values():
        if partial.source is source:
            yield partial.name, partial.compute(shard)


class FinishedMetric(NamedTuple):
    """A metrics table that is done.

    Attributes:
        table: Its entry in the schema.
        rows: Its rows.
        failures: How many rows break each rule between rows, by the rule's name.
    """

    table: Table
    rows: pl.DataFrame
    failures: Mapping[str, int]


def finish_metrics(partials: Mapping[str, pl.DataFrame], facts: Facts) -> Iterator[FinishedMetric]:
    """The metrics tables.

    Args:
        partials: Partial aggregates of all shards, merged or not; of a name that is missing there
            are none.
        facts: What is known of the whole input.
    """
    merged = {
        partial.name: partial.merge(partials.get(partial.name, partial.schema.to_frame()))
        for partial in PARTIALS.values()
    }
    for metric in metrics_of(facts.rules):
        rows = metric.finish(merged, facts)
        failures = metric.checks(rows, merged, facts) if metric.checks else {}
        yield FinishedMetric(metric.table, rows, failures)
