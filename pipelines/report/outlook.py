"""What is predicted of the days to come: in total, by segment, and who brings most of it."""

from collections.abc import Sequence

import polars as pl

from pipelines.report import formatting, parts
from pipelines.report.models import Card, Chart, Column, Figure, Measure, Row, Table
from transforms import schema

_DAYS = schema.CLV_INTERVAL_DAYS
_PURCHASES = f"expected_purchases_{_DAYS}d"
_REVENUE = f"predicted_revenue_{_DAYS}d"
_MOST = 0.5  # of the expected revenue
_DIMENSIONS = {
    "overall": "All",
    "rfm_segment": parts.TITLES["rfm_segment"],
    "clv_decile": "Decile",
}


def outlook_cards(groups: pl.DataFrame) -> list[Card]:
    """Return the expected revenue with its interval, and how many customers still buy.

    Args:
        groups: metrics_clv_predictions of a run with predictions.
    """
    row = parts.overall(groups)
    alive = formatting.rate(parts.divided(row["expected_alive"], row["customers"]))
    cards = [
        parts.card(
            Measure(
                "expected_alive",
                "Customers who still buy",
                "count",
                f"{alive} of {formatting.count(row['customers'])}, as expected",
            ),
            round(row["expected_alive"]),
        )
    ]
    if row[_REVENUE] is not None:
        interval = _interval(row)
        note = f"{interval[0]} to {interval[1]} (95%)" if interval else ""
        title = f"Expected revenue, next {_DAYS} days"
        cards.insert(0, parts.card(Measure(_REVENUE, title, "money", note), row[_REVENUE]))
    return cards


def _interval(row: Row) -> tuple[str, str] | None:
    """Return the ends of the expected revenue: those of the purchases, at their mean value."""
    low, high = (
        parts.divided(row[f"{_PURCHASES}_{end}"], row[_PURCHASES]) for end in ("low", "high")
    )
    if low is None or high is None:
        return None
    value = float(row[_REVENUE])
    return formatting.compact(value * low), formatting.compact(value * high)


def outlook(groups: pl.DataFrame, model: str) -> Figure:
    """Return the figure of what is expected.

    Args:
        groups: metrics_clv_predictions of a run with predictions.
        model: The model that predicts.
    """
    overall = parts.overall(groups)
    segments = parts.rows_of(groups, "rfm_segment")
    return Figure(
        "prediction-outlook",
        f"What the next {_DAYS} days are expected to bring",
        "Expectations are sums over many customers. The interval holds what the parameters of the "
        "purchases leave open, not the chance in what customers do.",
        [_by_segment(segments, overall), _alive(segments, overall, model)],
        layout=2,
        table=_table(groups),
        details=_details(groups, overall),
    )


def _by_segment(segments: Sequence[Row], overall: Row) -> Chart:
    total = overall[_REVENUE]
    if total is None:
        measure = Measure(_PURCHASES, "Expected purchases by segment", "average")
    else:
        measure = Measure(_REVENUE, "Expected revenue by segment", "money")
    ranked = sorted(segments, key=lambda row: -row[measure.field])
    first = ranked[0]
    share = formatting.rate(parts.divided(first[measure.field], overall[measure.field]))
    so_far = formatting.rate(parts.divided(first["historic_revenue"], overall["historic_revenue"]))
    return parts.bar_chart(
        "prediction-segments",
        measure,
        ranked,
        sentence=f"Most is expected of {first['label']}: {share}, after {so_far} of the revenue so "
        "far.",
    )


def _alive(segments: Sequence[Row], overall: Row, model: str) -> Chart:
    measure = Measure("alive_rate", "Customers who still buy, by segment", "rate")
    rows = [
        row | {"alive_rate": parts.divided(row["expected_alive"], row["customers"])}
        for row in segments
    ]
    lost = overall["customers"] - round(overall["expected_alive"])
    caveat = ""
    if model == "bg_nbd":
        caveat = " BG/NBD takes everybody with a single purchase for one who still buys."
    return parts.bar_chart(
        "prediction-alive",
        measure,
        rows,
        sentence=f"Of {formatting.plural(overall['customers'], 'customer')}, "
        f"{formatting.count(round(overall['expected_alive']))} are expected to still buy here and "
        f"{formatting.count(lost)} to be lost. {parts.extremes(rows, measure)}{caveat}",
    )


def _details(groups: pl.DataFrame, overall: Row) -> list[tuple[str, str]]:
    """Say in words what is expected, and which customers bring most of it."""
    purchases = f"{formatting.decimal(overall[_PURCHASES], 0)} expected"
    low, high = (overall[f"{_PURCHASES}_{end}"] for end in ("low", "high"))
    if low is not None and high is not None:
        purchases += f", {formatting.decimal(low, 0)} to {formatting.decimal(high, 0)} (95%)"
    details = [(f"Purchases of the next {_DAYS} days", purchases)]
    deciles = sorted(
        groups.filter(pl.col("dimension") == "clv_decile").to_dicts(),
        key=lambda row: int(row["value"]),
    )
    if not overall[_REVENUE]:
        return details
    customers, revenue = 0, 0
    for row in deciles:
        customers += row["customers"]
        revenue += row[_REVENUE]
        if revenue >= _MOST * float(overall[_REVENUE]):
            break
    share = formatting.rate(parts.divided(revenue, overall[_REVENUE]))
    of_all = formatting.rate(parts.divided(customers, overall["customers"]))
    last = row["value"]
    which = "decile 1" if last == "1" else f"deciles 1 to {last}"
    most = (
        f"{formatting.plural(customers, 'customer')} ({of_all} of all, {which}) are expected to "
        f"bring {share} of it"
    )
    return [*details, ("Who brings most of the revenue", most)]


def _table(groups: pl.DataFrame) -> Table:
    columns = [
        Column("dimension_title", "By", "text"),
        Column("label", "Value", "text"),
        Column("customers", "Customers", "count"),
        Column("expected_alive", "Still buying", "average"),
        *(
            Column(f"expected_purchases_{days}d", f"Purchases, {days} days", "average")
            for days in schema.CLV_HORIZONS
        ),
        *(
            Column(f"predicted_revenue_{days}d", f"Revenue, {days} days", "money")
            for days in schema.CLV_HORIZONS
        ),
        Column("historic_revenue", "Revenue so far", "money"),
    ]
    order = [*parts.ORDERS["rfm_segment"], *map(str, range(1, schema.CLV_DECILES + 1))]
    rows = parts.in_order(parts.in_order(groups, "value", order), "dimension", list(_DIMENSIONS))
    shown = rows.with_columns(
        pl.col("dimension").replace_strict(_DIMENSIONS).alias("dimension_title"),
        pl.when(pl.col("dimension") == "overall")
        .then(pl.lit("All"))
        .otherwise("value")
        .alias("label"),
    )
    return Table(
        "metrics_clv_predictions",
        "What is expected, by group",
        columns,
        shown.select(column.name for column in columns),
        totals=(rows["dimension"] == "overall").to_list(),
    )
