"""What is predicted of groups of customers: of all, of each RFM segment, of each decile."""

from __future__ import annotations

from typing import Final

import polars as pl

from transforms.schema import CLV_HORIZONS, CLV_INTERVAL_DAYS, METRICS_CLV_PREDICTIONS

_MICRO: Final = 10**6
_KEY: Final = ("dimension", "value")
_LIKELY: Final = {
    "expected_alive": "p_alive",
    **{name: name for name in (f"expected_purchases_{days}d" for days in CLV_HORIZONS)},
}
_REVENUE: Final = tuple(f"predicted_revenue_{days}d" for days in CLV_HORIZONS)
_INTERVAL: Final = f"expected_purchases_{CLV_INTERVAL_DAYS}d"


def prediction_sums(customers: pl.DataFrame) -> pl.DataFrame:
    """Partial aggregates of some customers, which merge by adding.

    Args:
        customers: Rows of dim_user_clv, and the `rfm_segment` of each.

    Returns:
        Columns `dimension`, `value`, `customers`; of them those with predictions, `predicted`, and
        with predicted revenue, `valued`; what is predicted (counts in millionths), and
        `historic_revenue`.
    """
    counted = customers.select(
        "rfm_segment",
        pl.col("clv_decile").cast(pl.String),
        pl.lit("all").alias("overall"),
        pl.lit(1, pl.Int64).alias("customers"),
        pl.col("p_alive").is_not_null().cast(pl.Int64).alias("predicted"),
        pl.col(_REVENUE[0]).is_not_null().cast(pl.Int64).alias("valued"),
        # Six decimals each, so that millionths are exact in whatever order they add up.
        *(
            (pl.col(column) * _MICRO).round().cast(pl.Int64).alias(name)
            for name, column in _LIKELY.items()
        ),
        *_REVENUE,
        "historic_revenue",
    )
    dimensions = ("overall", "rfm_segment", "clv_decile")
    return merge_predictions(
        pl.concat(
            counted.drop_nulls(dimension).select(
                pl.lit(dimension).alias("dimension"),
                pl.col(dimension).cast(pl.String).alias("value"),
                pl.exclude(dimensions),
            )
            for dimension in dimensions
        )
    )


def merge_predictions(sums: pl.DataFrame) -> pl.DataFrame:
    """The partial aggregates of shards, one behind the other, as one."""
    return sums.group_by(_KEY).agg(pl.all().sum())


def prediction_table(
    sums: pl.DataFrame | None, interval: tuple[float, float] | None
) -> pl.DataFrame:
    """The rows of metrics_clv_predictions.

    Args:
        sums: `prediction_sums`, merged; None where nobody has bought.
        interval: That of the purchases of all customers in `CLV_INTERVAL_DAYS` days; None where
            there is none.
    """
    if sums is None:
        return METRICS_CLV_PREDICTIONS.empty_frame()
    low, high = interval or (None, None)
    is_predicted, is_overall = pl.col("predicted") > 0, pl.col("dimension") == "overall"
    return METRICS_CLV_PREDICTIONS.conform(
        sums.with_columns(
            # NumPy divides; Polars multiplies by the reciprocal, which is another number.
            pl.Series(name, sums[name].to_numpy() / _MICRO)
            for name in _LIKELY
        )
        .with_columns(
            pl.when(is_predicted).then(pl.col(list(_LIKELY))),
            pl.when(pl.col("valued") > 0).then(pl.col(_REVENUE)),
        )
        .with_columns(
            pl.when(is_predicted & is_overall).then(low).alias(f"{_INTERVAL}_low"),
            pl.when(is_predicted & is_overall).then(high).alias(f"{_INTERVAL}_high"),
        )
        .sort(_KEY)
    )
