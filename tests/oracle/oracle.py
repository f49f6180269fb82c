"""What some input files must give: rows by ``grammar.py``, tables by the SQL in ``tables``."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import duckdb
import pyarrow as pa

from .contract import OVER_TIME, TABLES
from .grammar import REASONS, Event, read_file
from .sql import FIRST_OVER_TIME, NEEDED_BY_FUNNELS, SELLING, SQL_FILES

TABLE_KEYS = {name: table.key for name, table in TABLES.items()}
"""The key of every table."""

EVENTS_SCHEMA = pa.schema(
    [
        ("event_time", pa.timestamp("us")),
        ("event_type", pa.string()),
        ("product_id", pa.int64()),
        ("category_id", pa.int64()),
        ("category_code", pa.string()),
        ("brand", pa.string()),
        ("price", pa.decimal128(38, 9)),
        ("user_id", pa.int64()),
        ("user_session", pa.string()),
    ]
)
REJECTED_SCHEMA = pa.schema(
    [
        ("source_file", pa.string()),
        ("byte_offset", pa.int64()),
        ("reason", pa.string()),
        ("raw", pa.string()),
    ]
)
DAYS = "BIGINT[]"

LIFETIME_VALUE = tuple(name for name in TABLES if "clv" in name.split("_"))
"""The tables that are here only where too few customers buy again for a model to be fitted."""


def _sql_files(without_time: bool, without_selling: bool, only_funnels: bool) -> list[Path]:
    files = SQL_FILES[: SQL_FILES.index(FIRST_OVER_TIME)] if without_time else SQL_FILES
    if only_funnels:
        return [path for path in files if path.stem in NEEDED_BY_FUNNELS]
    return [path for path in files if not (without_selling and path.stem in SELLING)]


def oracle_tables(
    files: Sequence[Path],
    *,
    as_of: date | None = None,
    churn_threshold_days: int = 60,
    at_risk_threshold_days: int = 45,
    declining_threshold_days: int = 30,
    session_outlier_ratio: int = 200,
    session_timeout_seconds: int = 3600,
    cohort_observation_window_days: int = 90,
    order_gap_seconds: int = 1,
    frequency_unit: str = "items",
    history: str = "week",
    without_time: bool = False,
    without_selling: bool = False,
    min_pair_baskets: int = 5,
    clv_holdout_days: int | None = None,
    config: str = "",
    most_values: int = 1000,
    only_funnels: bool = False,
) -> dict[str, pa.Table]:
    """Every table of the contract by name, sorted by its key, columns in the contract's order.

    The extra entry ``counts`` has one row: ``rows_read``, ``events_kept``, ``after_as_of``,
    ``duplicate``, ``multi_brand_product``, ``missing_session``, ``rejected``, a column for every
    reason of rejection, and ``as_of``.

    Args:
        files: The files.
        config: The text of the configuration file.
        most_values: Values of a breakdown that have rows of their own.
        only_funnels: Make metrics_funnels alone, in a fraction of the time.
        without_time: Leave out the tables over time, of which data of years apart makes millions
            of rows.
        without_selling: Leave out the tables of what sells, which take half of the time.

    Raises:
        HeaderError: A file has no header that names each of the nine columns exactly once.
    """
    events: list[Event] = []
    rejected: list[tuple[str, int, str, str]] = []
    for path in files:
        accepted_here, rejected_here = read_file(Path(path))
        events.extend(accepted_here)
        rejected.extend((str(path), *row) for row in rejected_here)

    with duckdb.connect(config={"threads": 1}) as connection:
        connection.register("accepted", columns_of(events, EVENTS_SCHEMA))
        connection.execute("CREATE TABLE events_raw AS SELECT * FROM accepted")
        connection.register("rejected", columns_of(rejected, REJECTED_SCHEMA))
        connection.execute("CREATE TABLE rejected_rows AS SELECT * FROM rejected")
        for option, value in {
            "churn_threshold_days": churn_threshold_days,
            "at_risk_threshold_days": at_risk_threshold_days,
            "declining_threshold_days": declining_threshold_days,
            "session_outlier_ratio": session_outlier_ratio,
            "session_timeout_seconds": session_timeout_seconds,
            "cohort_observation_window_days": cohort_observation_window_days,
            "order_gap_seconds": order_gap_seconds,
            "min_pair_baskets": min_pair_baskets,
            "frequency_unit": frequency_unit,
            "history": history,
            "most_values": most_values,
        }.items():
            connection.execute(f"SET VARIABLE {option} = {value!r}")
        if clv_holdout_days is not None:
            connection.execute(f"SET VARIABLE clv_holdout_days = {clv_holdout_days}")
        if as_of is not None:
            connection.execute(f"SET VARIABLE as_of = DATE '{as_of.isoformat()}'")
        connection.create_function(
            "km_median_days", km_median_days, [DAYS, DAYS], "BIGINT", null_handling="special"
        )
        funnels, filters = funnel_tables(config)
        connection.register("configured_funnels", funnels)
        connection.execute("CREATE TABLE funnels AS FROM configured_funnels")
        connection.register("configured_filters", filters)
        connection.execute("CREATE TABLE funnel_filters AS FROM configured_filters")
        for path in _sql_files(without_time, without_selling, only_funnels):
            connection.execute(path.read_text(encoding="utf-8"))
        if only_funnels:
            name, table = "metrics_funnels", TABLES["metrics_funnels"]
            return {name: sorted_table(connection, name, table.columns, table.key)}
        tables = {
            name: sorted_table(connection, name, table.columns, table.key)
            for name, table in TABLES.items()
            if not ((without_time and name in OVER_TIME) or (without_selling and name in SELLING))
        }
        repeat = "SELECT max(repeat_customers) >= 100 FROM model_clv"
        if connection.sql(repeat).fetchall() == [(True,)]:
            for name in LIFETIME_VALUE:
                del tables[name]
        counts = connection.sql("SELECT * FROM event_counts").to_arrow_table().to_pylist()[0]

    reasons = Counter(reason for _, _, reason, _ in rejected)
    figures = {
        "rows_read": len(events) + len(rejected),
        "events_kept": counts["events_kept"],
        "after_as_of": counts["after_as_of"],
        "duplicate": counts["duplicate"],
        "multi_brand_product": counts["multi_brand_product"],
        "missing_session": counts["missing_session"],
        "rejected": len(rejected),
        **{reason: reasons[reason] for reason in REASONS},
    }
    tables["counts"] = pa.table(
        {
            **{name: pa.array([value], pa.int64()) for name, value in figures.items()},
            "as_of": pa.array([counts["as_of"]], pa.date32()),
        }
    )
    return tables


TEXTS = pa.list_(pa.string())
PROPERTIES = (
    "product_id",
    "brand",
    "category_id",
    "category_lvl_1",
    "category_lvl_2",
    "category_lvl_3",
    "category_lvl_4",
)
FUNNELS_SCHEMA = pa.schema(
    [
        ("funnel", pa.string()),
        ("scope", pa.string()),
        ("hold", TEXTS),
        ("step_order", pa.string()),
        ("window_seconds", pa.int64()),
        ("breakdowns", TEXTS),
        ("step_count", pa.int64()),
    ]
)
FILTERS_SCHEMA = pa.schema(
    [
        ("funnel", pa.string()),
        ("kind", pa.string()),
        ("number", pa.int64()),
        ("step_name", pa.string()),
        ("after_step", pa.int64()),
        ("before_step", pa.int64()),
        ("event", TEXTS),
        *((name, TEXTS) for name in PROPERTIES),
        ("price_min", pa.decimal128(38, 9)),
        ("price_max", pa.decimal128(38, 9)),
    ]
)
DEFAULT_CONFIG = """
[[funnel]]
name = "shop"
step = [
    {name = "view", event = ["view"]},
    {name = "cart", event = ["cart"]},
    {name = "purchase", event = ["purchase"]},
]
[[funnel]]
name = "product"
hold = ["product_id"]
step = [
    {name = "view", event = ["view"]},
    {name = "cart", event = ["cart"]},
    {name = "purchase", event = ["purchase"]},
]
"""
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def funnel_tables(config: str) -> tuple[pa.Table, pa.Table]:
    """The funnels that a configuration names, and what their steps and exclusions match."""
    funnels, filters = [], []
    named = tomllib.loads(config, parse_float=Decimal)
    for each in named.get("funnel", tomllib.loads(DEFAULT_CONFIG)["funnel"]):
        scope = each.get("scope", "session")
        window = each.get("window", {"session": None, "user": "7d"}[scope])
        seconds = None if window is None else int(window[:-1]) * UNITS[window[-1]]
        of_funnel = (each.get("hold", []), each.get("order", "ordered"), seconds)
        breakdowns = each.get("breakdown", [])
        funnels.append((each["name"], scope, *of_funnel, breakdowns, len(each["step"])))
        for kind in ("step", "exclude"):
            for number, wanted in enumerate(each.get(kind, []), 1):
                texts = [
                    [str(text).lower() for text in wanted[name]] if name in wanted else None
                    for name in ("event", *PROPERTIES)
                ]
                prices = [wanted.get(name) for name in ("price_min", "price_max")]
                between = [wanted.get(name) for name in ("name", "after", "before")]
                filters.append((each["name"], kind, number, *between, *texts, *prices))
    return columns_of(funnels, FUNNELS_SCHEMA), columns_of(filters, FILTERS_SCHEMA)


def columns_of(rows: Iterable[tuple[object, ...]], schema: pa.Schema) -> pa.Table:
    """The rows as an Arrow table."""
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    return pa.table(
        [pa.array(column, kind) for column, kind in zip(columns, schema.types, strict=True)],
        schema=schema,
    )


def km_median_days(reached: list[int] | None, censored: list[int] | None) -> int | None:
    """The median of the Kaplan-Meier estimate: the days after which half or fewer still wait.

    Args:
        reached: For everybody who came again, after how many days; None where nobody did.
        censored: For everybody else, for how many days this is known; None where there is nobody.
    """
    returns = Counter(reached or ())
    times = [*(reached or ()), *(censored or ())]
    waiting = Fraction(1)
    for days in sorted(returns):
        at_risk = sum(1 for time in times if time >= days)
        waiting *= 1 - Fraction(returns[days], at_risk)
        if waiting <= Fraction(1, 2):
            return days
    return None


def sorted_table(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    columns: tuple[str, ...],
    key: tuple[str, ...],
) -> pa.Table:
    """A table sorted by its key, NULL last, its times marked as UTC."""
    order = ", ".join(f"{column} NULLS LAST" for column in key)
    table = connection.sql(f"FROM {name} ORDER BY {order}").to_arrow_table()
    if tuple(table.column_names) != columns:
        raise ValueError(f"{name} has {table.column_names}, not {columns}")
    utc = pa.timestamp("us", tz="UTC")
    return table.cast(
        pa.schema(
            [
                field.with_type(utc) if pa.types.is_timestamp(field.type) else field
                for field in table.schema
            ]
        )
    )
