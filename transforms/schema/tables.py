"""All tables."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from transforms.schema.dimensions import DIM_CATEGORIES, DIM_PRODUCTS, DIM_USER_RFM, DIM_USERS
from transforms.schema.facts import FCT_EVENTS, FCT_SESSIONS
from transforms.schema.metrics import (
    METRICS_CATEGORIES,
    METRICS_CATEGORY_RFM,
    METRICS_CHURN,
    METRICS_FUNNEL,
    METRICS_PERIODS,
    METRICS_RFM_GRID,
    METRICS_RFM_SEGMENTS,
    METRICS_USER_SEGMENTS,
)
from transforms.schema.operations import DATA_QUALITY, PIPELINE_RUNS, REJECTED_ROWS
from transforms.schema.types import Table

TABLES: tuple[Table, ...] = (
    FCT_EVENTS,
    FCT_SESSIONS,
    DIM_USERS,
    DIM_USER_RFM,
    DIM_PRODUCTS,
    DIM_CATEGORIES,
    METRICS_CHURN,
    METRICS_FUNNEL,
    METRICS_PERIODS,
    METRICS_RFM_GRID,
    METRICS_RFM_SEGMENTS,
    METRICS_USER_SEGMENTS,
    METRICS_CATEGORIES,
    METRICS_CATEGORY_RFM,
    REJECTED_ROWS,
    DATA_QUALITY,
    PIPELINE_RUNS,
)


TABLES_BY_NAME: Mapping[str, Table] = MappingProxyType({table.name: table for table in TABLES})
