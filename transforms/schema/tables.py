"""All tables: those that the modules of this package define, in their order."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from transforms.schema import dimensions, facts, metrics, operations, over_time
from transforms.schema.types import Table

TABLES: tuple[Table, ...] = tuple(
    value
    for module in (facts, dimensions, metrics, over_time, operations)
    for value in vars(module).values()
    if isinstance(value, Table)
)

TABLES_BY_NAME: Mapping[str, Table] = MappingProxyType({table.name: table for table in TABLES})
