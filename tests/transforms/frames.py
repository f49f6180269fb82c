"""Event batches for unit tests."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import polars as pl

from transforms.events import EVENT_BATCH

START = datetime(2019, 10, 1, tzinfo=UTC)
DEFAULTS = {
    "event_time": START,
    "event_type": "view",
    "product_id": 1,
    "category_id": None,
    "category_code": None,
    "brand": None,
    "price": Decimal("1.00"),
    "user_id": 7,
    "user_session": "s",
}
NO_PRODUCTS = pl.Series("product_id", [], pl.Int64)


def at(seconds: int = 0, days: int = 0) -> datetime:
    """A time after the beginning."""
    return START + timedelta(days=days, seconds=seconds)


def events(*rows: dict[str, object]) -> pl.DataFrame:
    """An event batch of default rows with some values of their own."""
    return pl.DataFrame([{**DEFAULTS, **row} for row in rows], schema=EVENT_BATCH)
