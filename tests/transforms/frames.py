"""Event batches for unit tests."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import polars as pl

from transforms.analytics.session_shard import SuspectProducts
from transforms.columnar.product_codes import (
    PRODUCT_CODE,
    ProductFlags,
    columns_of,
    with_product_codes,
)
from transforms.ingest.batch import EVENT_BATCH
from transforms.ingest.session_keys import SESSION_NAMES, session_key

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
COLUMNS = {
    **{name: dtype for name, dtype in EVENT_BATCH.items() if name != PRODUCT_CODE},
    "product_id": pl.Int64,
    "category_id": pl.Int64,
    "category_code": pl.Categorical,
    "brand": pl.Categorical,
}


def flags_of(*products: int) -> ProductFlags:
    """Products to treat in a way of their own."""
    return ProductFlags(pl.Series("product_id", products, pl.Int64))


NO_SUSPECTS = SuspectProducts(flags_of(), flags_of())


def at(seconds: int = 0, days: int = 0) -> datetime:
    """A time after the beginning."""
    return START + timedelta(days=days, seconds=seconds)


def events(*rows: dict[str, object]) -> pl.DataFrame:
    """An event batch of default rows with some values of their own."""
    frame = pl.DataFrame([with_key({**DEFAULTS, **row}) for row in rows], schema=COLUMNS)
    return with_product_codes(frame)


def with_key(row: dict[str, object]) -> dict[str, object]:
    """A row with its session's key for the name."""
    name = row.pop("user_session")
    high, low, _ = (None, None, None) if name is None else session_key(str(name))
    return {**row, "session_high": high, "session_low": low}


def session_names(*rows: dict[str, object]) -> pl.DataFrame:
    """The names of the rows' sessions that their keys do not tell."""
    names = {str(row["user_session"]) for row in ({**DEFAULTS, **row} for row in rows)}
    keys = [(*session_key(name), name) for name in sorted(names - {"None"})]
    found = [(high, low, name) for high, low, is_uuid, name in keys if not is_uuid]
    return pl.DataFrame(found, schema=SESSION_NAMES, orient="row")


def product_codes_of(frame: pl.DataFrame) -> pl.DataFrame:
    """The product codes of an event batch."""
    return columns_of(frame[PRODUCT_CODE].unique().to_numpy())
