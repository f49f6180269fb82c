"""Small inputs for examples worked out by hand, and their tables in a form to compare with them.

An example is a function of the fixture ``run``: rows and options in, lists of rows out. It speaks
of the contents of tables and of ``counts`` alone, so that it holds for whatever makes the tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa

from .contract import TABLES
from .grammar import COLUMNS
from .strategies import Row, csv_line

DEFAULTS = {
    "event_time": "2019-10-01 00:00:00 UTC",
    "event_type": "view",
    "product_id": "1",
    "category_id": "",
    "category_code": "",
    "brand": "",
    "price": "1.00",
    "user_id": "7",
    "user_session": "s",
}


def row(**fields: str) -> Row:
    """A row of the CSV with some fields of its own."""
    return {**DEFAULTS, **fields}


def purchase(**fields: str) -> Row:
    """A purchase with some fields of its own."""
    return row(event_type="purchase", **fields)


def at(seconds: int = 0, days: int = 0) -> str:
    """The text of a time after the beginning, 1 October 2019, a Tuesday."""
    time = datetime(2019, 10, 1, tzinfo=UTC) + timedelta(days=days, seconds=seconds)
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"


def on(text: str, user_id: str = "7", **fields: str) -> Row:
    """A view at noon of a day, in the user's session of that day."""
    day = date.fromisoformat(text)
    fields = {"event_time": f"{day} 12:00:00 UTC", "user_session": f"{user_id}/{day}", **fields}
    return row(user_id=user_id, **fields)


def bought(text: str, user_id: str = "7", price: str = "1.00", **fields: str) -> Row:
    """A purchase at noon of a day, in the user's session of that day."""
    return on(text, user_id, event_type="purchase", price=price, **fields)


def csv_text(rows: Iterable[Row]) -> str:
    """A file with these rows."""
    lines = [",".join(COLUMNS), *(csv_line([each[c] for c in COLUMNS], 0) for each in rows)]
    return "\n".join(lines) + "\n"


def rows_of_tables(tables: Mapping[str, pa.Table]) -> dict[str, list[dict[str, Any]]]:
    """Every table as a list of rows, sorted by its key, NULL last."""
    listed = {name: table.to_pylist() for name, table in tables.items()}
    for name, table in TABLES.items():
        if name in listed:
            listed[name].sort(key=lambda each: [(each[c] is None, each[c]) for c in table.key])
    return listed


def column(rows: Iterable[Mapping[str, Any]], *names: str) -> list[Any]:
    """One column of a list of rows, or several as tuples."""
    if len(names) == 1:
        return [each[names[0]] for each in rows]
    return [tuple(each[name] for name in names) for each in rows]


def where(rows: Iterable[Mapping[str, Any]], **values: Any) -> list[Mapping[str, Any]]:
    """The rows that have these values."""
    return [each for each in rows if all(each[name] == v for name, v in values.items())]
