"""All metrics: the modules of this package that export `METRIC`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import polars as pl

from transforms.analytics.metrics.metric import Facts, Metric, Partial, Source


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


def partials_of(source: Source, shard: Any) -> Iterator[tuple[str, pl.DataFrame]]:
    """The partial aggregates that are made of a source, named, of one shard.

    Args:
        source: The source.
        shard: What it gives.
    """
    for partial in PARTIALS.values():
        if partial.source is source:
            yield partial.name, partial.compute(shard)


def metric_tables(
    partials: Mapping[str, pl.DataFrame], facts: Facts
) -> Iterator[tuple[str, pl.DataFrame]]:
    """The rows of all metrics tables, by the tables' names.

    Args:
        partials: Partial aggregates of all shards, merged or not; of a name that is missing there
            are none.
        facts: What is known of the whole input.
    """
    merged = {
        partial.name: partial.merge(partials.get(partial.name, partial.schema.to_frame()))
        for partial in PARTIALS.values()
    }
    for metric in METRICS:
        yield metric.table.name, metric.finish(merged, facts)
