"""Tables of predicted lifetime value for the report's tests, written by hand: 200 customers."""

from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from typing import Any

import polars as pl

from transforms.schema import TABLES_BY_NAME

TEST = {
    "calibration_start": date(2019, 10, 1),
    "calibration_end": date(2019, 12, 31),
    "holdout_end": date(2020, 1, 30),
    "holdout_days": 30,
    "customers": 200,
    "actual_purchases": 100,
    "actual_revenue": Decimal(5000),
}
BG_NBD = TEST | {
    "model": "bg_nbd",
    "predicted_purchases": 130.25,
    "bias": 0.3025,
    "mae": 0.61,
    "rmse": 1.5,
    "gini": 0.55,
    "predicted_revenue": Decimal(6600),
    "revenue_bias": 0.32,
    "total_low": 115.0,
    "total_high": 145.5,
    "selected": False,
    "passed": False,
    "reasons": "bias",
}
MBG_NBD = TEST | {
    "model": "mbg_nbd",
    "predicted_purchases": 94.6,
    "bias": -0.054,
    "mae": 0.5,
    "rmse": 1.2,
    "gini": 0.6,
    "predicted_revenue": Decimal(5100),
    "revenue_bias": 0.02,
    "total_low": 84.2,
    "total_high": 105.4,
    "selected": True,
    "passed": True,
    "reasons": None,
}
PAST_RATE = TEST | {
    "model": "past_rate",
    "predicted_purchases": 180.0,
    "bias": 0.8,
    "mae": 0.9,
    "rmse": 2.4,
    "gini": 0.5,
    "predicted_revenue": Decimal(9000),
    "revenue_bias": 0.8,
    "selected": False,
    "passed": None,
    "reasons": None,
}

# Predicted by MBG/NBD, predicted by the past rate, actual.
_BY_DECILE = (
    (40, 80, 46),
    (18, 40, 20),
    (10, 25, 11),
    (7.5, 15, 8),
    (6, 10, 2),
    (4.5, 5, 5),
    (3.6, 3, 4),
    (2.5, 2, 3),
    (1.5, 0, 1),
    (1, 0, 0),
)
# Repeat purchases: customers, then as above.
_BY_FREQUENCY = {
    0: (120, 20, 0, 24),
    1: (40, 19.6, 40, 20),
    2: (20, 15, 35, 13),
    4: (12, 18, 45, 17),
    7: (8, 22, 60, 26),
}
_VALUE = Decimal(50)  # of a purchase


def frame(name: str, rows: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    """Return a table of the contract; what the rows do not say is NULL."""
    return pl.DataFrame(list(rows), schema=TABLES_BY_NAME[name].polars_schema())


def fit(name: str, model: str, **values: Any) -> dict[str, Any]:
    """Return a row of model_clv."""
    return {
        "fit": name,
        "model": model,
        "status": "ok",
        "selected": model != "bg_nbd",
        "customers": 200,
        "repeat_customers": 80,
        "distinct_patterns": 150,
        "evaluations": 30,
    } | values


def fits(**statuses: str) -> pl.DataFrame:
    """Return model_clv; `final_mbg_nbd="boundary"` makes that the status of that fit."""
    return frame(
        "model_clv",
        (
            fit(name, model, status=statuses.get(f"{name}_{model}", "ok"))
            for name in ("calibration", "final")
            for model in ("bg_nbd", "mbg_nbd", "gamma_gamma")
        ),
    )


def validation(*rows: Mapping[str, Any]) -> pl.DataFrame:
    """Return metrics_clv_validation."""
    return frame("metrics_clv_validation", rows or (BG_NBD, MBG_NBD, PAST_RATE))


def _group(model: str, customers: int, predicted: float, actual: int) -> dict[str, Any]:
    return {
        "model": model,
        "customers": customers,
        "predicted_purchases": float(predicted),
        "actual_purchases": actual,
        "predicted_revenue": Decimal(str(predicted)) * _VALUE,
        "actual_revenue": actual * _VALUE,
        "lift": (actual / 100) / (customers / 200),
    }


def predictions(*rows: Mapping[str, Any]) -> pl.DataFrame:
    """Return metrics_clv_predictions, of which `rows` are (dimension, value, …)."""
    return frame("metrics_clv_predictions", rows)


def _expected(
    group: tuple[str, str], customers: int, alive: float, revenue: int, so_far: int
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "dimension": group[0],
        "value": group[1],
        "customers": customers,
        "expected_alive": alive,
        "historic_revenue": Decimal(so_far),
    }
    for days in (30, 90, 365):
        row[f"predicted_revenue_{days}d"] = Decimal(revenue * days) / 90
        row[f"expected_purchases_{days}d"] = revenue / 50 * days / 90
    return row


EXPECTED = _expected(("overall", "all"), 200, 90.6, 12_000, 50_000) | {
    "expected_purchases_90d_low": 210.0,
    "expected_purchases_90d_high": 270.0,
}


def expected_groups() -> list[dict[str, Any]]:
    """Return the rows of metrics_clv_predictions: all, two segments, ten deciles."""
    return [
        EXPECTED,
        _expected(("rfm_segment", "Champions"), 40, 36.6, 9_000, 30_000),
        _expected(("rfm_segment", "At Risk"), 160, 54, 3_000, 20_000),
        *(
            _expected(("clv_decile", str(decile)), 20, 9, revenue, 5_000)
            for decile, revenue in enumerate(
                (4_000, 3_000, 1_000, 900, 800, 700, 600, 500, 300, 200), 1
            )
        ),
    ]


def prediction_tables() -> dict[str, pl.DataFrame]:
    """Return the tables of a run whose MBG/NBD passed its test."""
    deciles = [
        {"decile": number} | _group(model, 20, predicted, actual)
        for number, (by_model, by_past_rate, actual) in enumerate(_BY_DECILE, 1)
        for model, predicted in (
            ("bg_nbd", by_model * 1.5),
            ("mbg_nbd", by_model),
            ("past_rate", by_past_rate),
        )
    ]
    frequency = [
        {"frequency": number} | _group(model, customers, predicted, actual)
        for number, (customers, by_model, by_past_rate, actual) in _BY_FREQUENCY.items()
        for model, predicted in (
            ("bg_nbd", by_model * 1.5),
            ("mbg_nbd", by_model),
            ("past_rate", by_past_rate),
        )
    ]
    return {
        "model_clv": fits(),
        "metrics_clv_validation": validation(),
        "metrics_clv_deciles": frame("metrics_clv_deciles", deciles),
        "metrics_clv_frequency": frame("metrics_clv_frequency", frequency),
        "metrics_clv_predictions": predictions(*expected_groups()),
    }
