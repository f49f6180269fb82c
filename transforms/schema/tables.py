"""All tables: those that the modules of this package define, in their order."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType

from transforms.schema import (
    anomalies,
    clv,
    dimensions,
    facts,
    funnels,
    history,
    metrics,
    operations,
    over_time,
    selling,
)
from transforms.schema.types import Table

TABLES: tuple[Table, ...] = tuple(
    value
    for module in (
        facts,
        dimensions,
        history,
        metrics,
        over_time,
        selling,
        funnels,
        anomalies,
        clv,
        operations,
    )
    for value in vars(module).values()
    if isinstance(value, Table)
)

TABLES_BY_NAME: Mapping[str, Table] = MappingProxyType({table.name: table for table in TABLES})

GROUPS: tuple[str, ...] = tuple(dict.fromkeys(table.group for table in TABLES if table.group))
"""The groups of tables that a run can leave out."""


def tables_without(groups: Collection[str]) -> tuple[Table, ...]:
    """The tables of a run that leaves some groups out."""
    return tuple(table for table in TABLES if table.group not in groups)
