"""Days that are unlike those before: metrics_anomalies."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from typing import Final

import numpy as np
import polars as pl

from transforms.analytics.anomalies import FEWEST_BASELINE_DAYS, ONE, Objects, judge
from transforms.analytics.carts import with_categories
from transforms.analytics.metrics.funnel import SESSION_FUNNEL
from transforms.analytics.metrics.metric import COUNT, Facts, Metric, Partial, Source
from transforms.analytics.metrics.periods import EVENT_DAYS, PERIOD_USERS, metrics_periods
from transforms.analytics.sessions import Sessions
from transforms.analytics.users import DescribedUsers
from transforms.columnar.money import MONEY, RATE_DECIMALS, exact_units, rate
from transforms.columnar.product_codes import PRODUCT_CODE, columns_of
from transforms.ingest.batch import is_type
from transforms.schema import ANOMALY_METRICS, METRICS_ANOMALIES, MONEY_SCALE

_SERIES: Final = ("metric", "dimension", "value")
_COUNTS: Final = ("orders", "purchases", "sessions", "users", "events")
_OF_CATEGORIES: Final = ANOMALY_METRICS[:3]
_LAST_DAY_IS_WHOLE_FROM: Final = dt.time(23)


def last_times(shard: Sessions) -> pl.DataFrame:
    """The last event of a session shard by `event_date`."""
    return shard.session_days.group_by("event_date").agg(pl.col("last_event_time").max())


LAST_TIMES: Final = Partial(
    name="last_times",
    source=Source.SESSIONS,
    schema=pl.Schema({"event_date": pl.Date(), "last_event_time": pl.Datetime("us", "UTC")}),
    keys=("event_date",),
    compute=last_times,
    maxima=("last_event_time",),
)


def category_days(shard: DescribedUsers) -> pl.DataFrame:
    """What the users of a shard buy of each `category_lvl_1`, by day.

    An order counts on the day on which it begins, for each category that it holds.
    """
    bought = shard.basket_events.filter(is_type("purchase"))
    products = columns_of(bought[PRODUCT_CODE].to_numpy(), ("product_id",))
    day = pl.col("event_time").dt.date().alias("event_date")
    rows = with_categories(bought.hstack(products), shard.catalogue)
    keys = ("category_lvl_1", "event_date")
    sold = rows.group_by("category_lvl_1", day).agg(
        pl.len().cast(COUNT).alias("purchases"), pl.col("price").sum().alias("revenue")
    )
    orders = (
        rows.with_columns(pl.col("event_time").min().over("session", "order"))
        .select("category_lvl_1", day, "session", "order")
        .unique()
        .group_by(keys)
        .agg(pl.len().cast(COUNT).alias("orders"))
    )
    return (
        pl.concat([sold, orders], how="diagonal").group_by(keys).agg(pl.col(_OF_CATEGORIES).sum())
    )


CATEGORY_DAYS: Final = Partial(
    name="category_days",
    source=Source.USERS,
    schema=pl.Schema(
        {
            "category_lvl_1": pl.String(),
            "event_date": pl.Date(),
            "revenue": MONEY,
            "orders": COUNT,
            "purchases": COUNT,
        }
    ),
    keys=("category_lvl_1", "event_date"),
    compute=category_days,
)


def metrics_anomalies(partials: Mapping[str, pl.DataFrame], facts: Facts) -> pl.DataFrame:
    """The rows of metrics_anomalies."""
    last = partials[LAST_TIMES.name].sort("event_date")
    if last.is_empty():
        return METRICS_ANOMALIES.empty_frame()
    dates = last["event_date"]
    figures = pl.concat(
        [
            _overall(metrics_periods(partials, facts), partials[SESSION_FUNNEL.name]),
            _by_category(partials[CATEGORY_DAYS.name], dates),
        ]
    )
    # A row for each series, a column for each day; NULL where a rate has no value.
    series = figures.select(_SERIES).unique().sort(_SERIES)
    cells = (
        series.with_row_index("series")
        .join(dates.to_frame(), how="cross")
        .join(figures, on=[*_SERIES, "event_date"], how="left", maintain_order="left")
    )
    values = _millionths(cells["actual"]).reshape(series.height, len(dates))
    found = judge(
        values,
        dates.dt.weekday().to_numpy().astype(np.int64) - 1,
        series["metric"].is_in(_COUNTS).to_numpy(),
        last_is_complete=last["last_event_time"].dt.time()[-1] >= _LAST_DAY_IS_WHOLE_FROM,
    )
    judged = cells.with_columns(
        _numbers("actual", values),
        pl.Series("baseline_days", found.baseline_days.ravel()),
        *(_numbers(name, getattr(found, name)) for name in ("expected", "scale", "lower", "upper")),
        pl.Series(
            "score", [None if s is None else s / ONE for s in found.score.ravel()], pl.Float64
        ),
        pl.Series("is_anomaly", found.is_anomaly.ravel()),
    ).drop_nulls("actual")
    return METRICS_ANOMALIES.conform(_described(judged, whole=last["last_event_time"][-1]))


def _described(rows: pl.DataFrame, whole: dt.datetime) -> pl.DataFrame:
    """Rows with `direction` and `status`; `whole` is the time of the last event of all."""
    is_incomplete = (pl.col("event_date") == whole.date()) & (
        pl.lit(whole.time()) < _LAST_DAY_IS_WHOLE_FROM
    )
    is_high = pl.col("actual") > pl.col("expected")
    return rows.with_columns(
        direction=pl.when("is_anomaly").then(
            pl.when(is_high).then(pl.lit("high")).otherwise(pl.lit("low"))
        ),
        status=pl.when(is_incomplete)
        .then(pl.lit("incomplete_day"))
        .when(pl.col("baseline_days") < FEWEST_BASELINE_DAYS)
        .then(pl.lit("too_little_history"))
        .when("is_anomaly")
        .then(pl.lit("anomaly"))
        .otherwise(pl.lit("ok")),
    )


def _overall(periods: pl.DataFrame, funnel: pl.DataFrame) -> pl.DataFrame:
    """The figures of all, by day: `_SERIES`, `event_date`, `actual`."""
    reached = funnel.group_by(pl.col("session_start_date").alias("period_start")).agg(
        pl.col("sessions_reached_view", "sessions_reached_cart").sum()
    )
    reached = reached.select(
        "period_start",
        rate(reached["sessions_reached_cart"], reached["sessions_reached_view"]).alias(
            "view_to_cart_rate"
        ),
    )
    days = (
        periods.filter(period="day")
        .join(reached, on="period_start", how="left")
        .rename({"period_start": "event_date"})
    )
    return _long(days, ANOMALY_METRICS, pl.lit("overall"), pl.lit("all"))


def _by_category(sold: pl.DataFrame, dates: pl.Series) -> pl.DataFrame:
    """The figures of each category that sells, 0 on a day on which it does not."""
    keys = ("category_lvl_1", "event_date")
    cells = (
        sold.select("category_lvl_1")
        .unique()
        .join(dates.to_frame(), how="cross")
        .join(sold, on=keys, how="left")
        .with_columns(pl.col(_OF_CATEGORIES).fill_null(0))
    )
    return _long(cells, _OF_CATEGORIES, pl.lit("category_lvl_1"), pl.col("category_lvl_1"))


def _long(
    rows: pl.DataFrame, metrics: tuple[str, ...], dimension: pl.Expr, value: pl.Expr
) -> pl.DataFrame:
    return pl.concat(
        rows.select(
            pl.lit(metric).alias("metric"),
            dimension.alias("dimension"),
            value.alias("value"),
            "event_date",
            _exact(pl.col(metric), rows.schema[metric]).alias("actual"),
        )
        for metric in metrics
    )


def _exact(figure: pl.Expr, kind: pl.DataType) -> pl.Expr:
    """A count, money, or a rate of `RATE_DECIMALS`, as money is."""
    if not kind.is_float():
        return figure.cast(MONEY)
    return _of_millionths((figure * 10**RATE_DECIMALS).round().cast(pl.Int64))


def _of_millionths(units: pl.Expr) -> pl.Expr:
    millionth = pl.lit(Decimal(1).scaleb(-RATE_DECIMALS))
    return (units.cast(pl.Decimal(38, 0)) * millionth).cast(MONEY)


def _millionths(figures: pl.Series) -> Objects:
    """Figures in whole millionths, a half rounded up, None where there is none."""
    found = np.full(len(figures), None, np.object_)
    known = figures.is_not_null().to_numpy()
    thousand = 10 ** (MONEY_SCALE - RATE_DECIMALS)
    found[known] = (exact_units(figures.drop_nulls()) + thousand // 2) // thousand
    return found


def _numbers(name: str, millionths: Objects) -> pl.Series:
    """A column of numbers from their millionths."""
    units = pl.Series(name, millionths.ravel().tolist(), pl.Int128)
    return units.to_frame().select(_of_millionths(pl.col(name))).to_series()


METRIC: Final = Metric(
    METRICS_ANOMALIES,
    (EVENT_DAYS, SESSION_FUNNEL, PERIOD_USERS, LAST_TIMES, CATEGORY_DAYS),
    metrics_anomalies,
)
