"""The tables in DuckDB SQL: python -m benchmarks.with_duckdb INPUT_GLOB OUTPUT [--without=time].

The SQL is that of the tests' oracle, except where `duckdb_tables.sql` has a faster form. DuckDB has
its defaults (all cores, 80 % of the memory), but for what makes it faster here: no order of rows is
promised, and the Parquet files are compressed like ours.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Final

import duckdb
from duckdb.func import SPECIAL

from tests.oracle.sql import SELLING, SQL_FILES

FASTER_SQL: Final = Path(__file__).with_name("duckdb_tables.sql")
_OVER_TIME: Final = {
    "fct_orders",
    "fct_user_days",
    "metrics_active_users",
    "metrics_cohort_retention",
    "metrics_lifecycle",
    "metrics_repeat_purchase",
    "metrics_segment_history",
    "metrics_segment_migration",
    "metrics_stickiness",
    "snap_user_rfm",
    "snap_user_status",
}
# A table that is only on the way to those over time.
_ON_THE_WAY: Final = {
    "activity_days",
    "calendar",
    "cohort_members",
    "cohort_windows",
    "days",
    "snapshots",
    "state_dates",
    "user_states",
}
_USED_BY_ALL: Final = {"fct_orders"}
# What no contender makes.
_OF_US_ALONE: Final = SELLING | {path.stem for path in SQL_FILES if "clv" in path.stem.split("_")}

_DAYS: Final = "BIGINT[]"
_OPTIONS: Final = {
    "churn_threshold_days": 60,
    "at_risk_threshold_days": 45,
    "declining_threshold_days": 30,
    "session_outlier_ratio": 200,
    "session_timeout_seconds": 3600,
    "cohort_observation_window_days": 90,
    "order_gap_seconds": 1,
    "frequency_unit": "items",
    "history": "week",
}
# A table that is only on the way to others.
_INTERMEDIATE: Final = {
    *_ON_THE_WAY,
    "events_raw",
    "events_deduplicated",
    "event_counts",
    "later_sessions",
    "multi_brand_products",
    "product_sums",
    "surplus_duplicates",
    "touches",
}
_READ_CSV: Final = """
CREATE TABLE events_raw AS
SELECT
    event_time,
    event_type,
    product_id,
    category_id,
    lower(category_code) AS category_code,
    lower(brand) AS brand,
    price,
    user_id,
    user_session,
    0 AS session_number
FROM read_csv(
    ?,
    header = true,
    columns = {
        'event_time': 'TIMESTAMP',
        'event_type': 'ENUM(''view'', ''cart'', ''remove_from_cart'', ''purchase'')',
        'product_id': 'BIGINT',
        'category_id': 'BIGINT',
        'category_code': 'VARCHAR',
        'brand': 'VARCHAR',
        'price': 'DECIMAL(18,9)',
        'user_id': 'BIGINT',
        'user_session': 'VARCHAR'
    },
    timestampformat = '%Y-%m-%d %H:%M:%S UTC'
)
"""
# As the tables are written; exact arithmetic is faster in narrower decimals.
_WRITTEN_AS: Final = {
    "DECIMAL": "{0}::DECIMAL(38, 9) AS {0}",
    "TIMESTAMP": "{0} AT TIME ZONE 'UTC' AS {0}",
}


def statements(*files: Path) -> list[tuple[str, str]]:
    """The statements of SQL files, each with the name of what it creates, or an empty one."""
    text = "".join(re.sub(r"--.*", "", path.read_text(encoding="utf-8")) for path in files)
    found = []
    for statement in filter(None, map(str.strip, text.split(";"))):
        created = re.match(r"CREATE (?:TABLE|VIEW|MACRO) (\w+)", statement)
        found.append((created[1] if created else "", statement))
    return found


def merged(textbook: list[tuple[str, str]], faster: list[tuple[str, str]]) -> list[str]:
    """The textbook's statements, with the faster ones in place of those of the same name.

    A faster statement of another name goes before the next one that has its place.

    >>> merged([("a", "A"), ("b", "B")], [("c", "C"), ("b", "faster B")])
    ['A', 'C', 'faster B']
    """
    names = {name for name, _ in textbook}
    places: dict[str, list[str]] = {}
    waiting: list[str] = []
    for name, statement in faster:
        waiting.append(statement)
        if name in names:
            places[name], waiting = waiting, []
    return [each for name, statement in textbook for each in places.get(name, [statement])]


def textbook_sql(*, over_time: bool) -> list[Path]:
    """The SQL of the tests' oracle, with the tables over time or without them."""
    left_out = _OF_US_ALONE
    if not over_time:
        left_out = left_out | (_OVER_TIME | _ON_THE_WAY) - _USED_BY_ALL
    return [path for path in SQL_FILES if path.stem not in left_out]


def km_median_days(reached: list[int] | None, censored: list[int] | None) -> int | None:
    """The median by Kaplan and Meier, exact: after how many days half or fewer still wait.

    >>> km_median_days([1, 2, 2], [1])
    2
    """
    returns = Counter(reached or ())
    leaving = returns + Counter(censored or ())
    at_risk, waiting = leaving.total(), Fraction(1)
    for days in sorted(leaving):
        waiting *= 1 - Fraction(returns[days], at_risk)
        if returns[days] and 2 * waiting <= 1:
            return days
        at_risk -= leaving[days]
    return None


def write_tables(files: str, output: Path, *, over_time: bool = True) -> None:
    """Read the CSVs that match a glob; write every table as OUTPUT/TABLE/TABLE.parquet."""
    output.mkdir(parents=True)
    not_written = _INTERMEDIATE if over_time else _INTERMEDIATE | _OVER_TIME
    with duckdb.connect(config={"temp_directory": str(output / "_spilled")}) as connection:
        connection.execute("SET preserve_insertion_order = false")
        connection.execute("SET TimeZone = 'UTC'")
        for option, value in _OPTIONS.items():
            connection.execute(f"SET VARIABLE {option} = {value!r}")
        connection.create_function(
            "km_median_days", km_median_days, [_DAYS, _DAYS], "BIGINT", null_handling=SPECIAL
        )
        connection.execute(_READ_CSV, [files])
        textbook = statements(*textbook_sql(over_time=over_time))
        for statement in merged(textbook, statements(FASTER_SQL)):
            connection.execute(statement)
        for (table,) in connection.execute("SHOW TABLES").fetchall():
            if table not in not_written:
                _write(connection, table, output)


def _write(connection: duckdb.DuckDBPyConnection, table: str, output: Path) -> None:
    columns = [
        _WRITTEN_AS.get(kind.partition("(")[0], "{0}").format(name)
        for name, kind, *_ in connection.execute(f"DESCRIBE {table}").fetchall()
    ]
    (output / table).mkdir()
    connection.execute(
        f"COPY (SELECT {', '.join(columns)} FROM {table}) TO '{output}/{table}/{table}.parquet' "
        "(FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)"
    )


if __name__ == "__main__":
    write_tables(sys.argv[1], Path(sys.argv[2]), over_time="--without=time" not in sys.argv[3:])
