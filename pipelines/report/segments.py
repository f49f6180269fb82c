"""Who the customers are, what they bring and how many stay."""

from collections.abc import Mapping, Sequence
from datetime import date
from itertools import product

import polars as pl

from pipelines.report import charts, formatting, parts
from pipelines.report.models import FORMATS, Card, Chart, Column, Figure, Measure, Page, Row, Table
from pipelines.report.runs import newest_run

_SCORES = ("5", "4", "3", "2", "1")

_RFM_MEASURES = (
    Measure("customers", "Customers", "count"),
    Measure("revenue", "Revenue", "money"),
    Measure("avg_order_value", "Average order value", "average"),
    Measure("avg_purchase_count", "Purchases per customer", "average"),
    Measure("avg_session_count", "Sessions per customer", "average"),
    Measure("churn_rate", "Churn rate", "rate"),
)
_STAGE_MEASURES = (
    Measure("customers", "Customers", "count"),
    Measure("churn_rate", "Churn rate", "rate"),
    Measure("avg_ltv", "Average lifetime value", "average"),
)
_STATUS_MEASURES = (
    Measure("customers", "Customers", "count"),
    Measure("revenue", "Revenue", "money"),
    Measure("avg_ltv", "Average lifetime value", "average"),
)
_COHORT_MEASURES = (
    Measure("churn_rate", "Churn rate by month of first purchase", "rate"),
    Measure("total_customers", "Customers by month of first purchase", "count"),
)


def segments_page(tables: Mapping[str, pl.DataFrame]) -> Page:
    """Return the page."""
    users = tables["metrics_user_segments"]
    everyone = parts.overall(users)
    churn = tables["metrics_churn"]
    return Page(
        page_id="segments",
        title="Customer segmentation",
        lead=f"{formatting.plural(everyone['customers'], 'customer')}, "
        f"{formatting.count(everyone['purchasers'])} of them with a purchase.",
        cards=[
            *(parts.card(measure, everyone[measure.field]) for measure in _cards(everyone)),
            _cohort_card(churn),
        ],
        figures=[
            _map(tables["metrics_rfm_grid"]),
            _rfm(tables["metrics_rfm_segments"]),
            _group(users, "customer_lifecycle_stage", _STAGE_MEASURES),
            _group(users, "activity_status", _STATUS_MEASURES),
            _cohorts(churn, newest_run(tables)),
        ],
    )


def _cards(everyone: Row) -> list[Measure]:
    bought = f"{formatting.count(everyone['purchasers'])} bought"
    churned = f"{formatting.count(everyone['churned_customers'])} churned"
    return [
        Measure("customers", "Customers", "count"),
        Measure("purchaser_rate", "Purchaser rate", "rate", bought),
        Measure("churn_rate", "Churn rate", "rate", churned),
        Measure("avg_ltv", "Average lifetime value", "average", "of customers who bought"),
    ]


def _cohort_card(churn: pl.DataFrame) -> Card:
    rows = churn.filter(pl.col("metric_level") == "cohort_overall").to_dicts()
    row: Row = rows[0] if rows else {"churn_rate": None, "total_customers": 0}
    eligible = f"of {formatting.plural(row['total_customers'], 'eligible customer')}"
    return parts.card(Measure("cohort_churn", "Cohort churn", "rate", eligible), row["churn_rate"])


def _map(grid: pl.DataFrame) -> Figure:
    cells = {
        (str(row["recency_score"]), str(row["frequency_score"])): row for row in grid.to_dicts()
    }
    return Figure(
        "segment-map",
        "Segment map",
        "Recency 5 bought last, frequency 5 bought most often.",
        [
            _grid_chart(Measure("customers", "Customers", "count"), cells),
            _grid_chart(Measure("revenue", "Revenue", "money"), cells),
        ],
        layout=2,
        table=Table(
            "metrics_rfm_grid",
            "Customers by recency and frequency score",
            [
                Column("recency_score", "Recency", "count"),
                Column("frequency_score", "Frequency", "count"),
                Column("customers", "Customers", "count"),
                Column("purchases", "Purchases", "count"),
                Column("revenue", "Revenue", "money"),
                Column("avg_order_value", "Average order value", "money"),
            ],
            grid.sort("recency_score", "frequency_score", descending=True),
        ),
    )


def _grid_chart(measure: Measure, cells: Mapping[tuple[str, str], Row]) -> Chart:
    field, text = measure.field, FORMATS[measure.kind]
    sentence = "There are no customers with a purchase."
    if cells:
        total = sum(row[field] for row in cells.values())
        (recency, frequency), top = max(cells.items(), key=lambda item: (item[1][field], item[0]))
        best = sum(
            row[field]
            for scores, row in cells.items()
            if all(score in _SCORES[:2] for score in scores)
        )
        sentence = (
            f"The largest cell, recency {recency} and frequency {frequency}, holds "
            f"{text(top[field])} ({formatting.rate(parts.divided(top[field], total))}); the four "
            f"best cells (scores 4 and 5) hold {formatting.rate(parts.divided(best, total))}."
        )
    drawn = []
    for recency, frequency in product(_SCORES, reversed(_SCORES)):
        value = cells[recency, frequency][field] if (recency, frequency) in cells else None
        drawn.append(
            charts.Cell(frequency, recency, value, formatting.compact(value, 0), text(value))
        )
    return Chart(
        chart_id=f"map-{field}",
        title=measure.title,
        sentence=sentence,
        spec=charts.heatmap(measure.title, "Frequency score", "Recency score", 48),
        rows=charts.heatmap_rows(drawn) if cells else [],
    )


def _rfm(segments: pl.DataFrame) -> Figure:
    rows = [
        row | {"label": row["rfm_segment"]}
        for row in parts.in_order(segments, "rfm_segment", parts.ORDERS["rfm_segment"]).to_dicts()
    ]
    return Figure(
        "rfm",
        "RFM segments",
        _rfm_lead(rows),
        [parts.bar_chart(f"rfm-{measure.field}", measure, rows) for measure in _RFM_MEASURES],
        layout=3,
        table=Table(
            "metrics_rfm_segments",
            "RFM segments",
            [
                Column("rfm_segment", "Segment", "text"),
                Column("customers", "Customers", "count"),
                Column("customer_share", "Share of customers", "rate"),
                Column("revenue", "Revenue", "money"),
                Column("revenue_share", "Share of revenue", "rate"),
                Column("purchases", "Purchases", "count"),
                Column("sessions", "Sessions", "count"),
                Column("avg_order_value", "Average order value", "average"),
                Column("avg_purchase_count", "Purchases per customer", "average"),
                Column("avg_session_count", "Sessions per customer", "average"),
                Column("avg_ltv", "Average lifetime value", "average"),
                Column("churn_rate", "Churn rate", "rate"),
            ],
            parts.in_order(segments, "rfm_segment", parts.ORDERS["rfm_segment"]),
        ),
    )


def _rfm_lead(rows: list[Row]) -> str:
    known = [row for row in rows if row["revenue_share"] is not None and row["revenue_share"] > 0]
    if not known:
        return "No customer has a purchase."
    top = max(known, key=lambda row: row["revenue_share"])
    return (
        f"{top['label']} are {formatting.rate(top['customer_share'])} of the customers and bring "
        f"{formatting.rate(top['revenue_share'])} of the revenue."
    )


def _group(users: pl.DataFrame, dimension: str, measures: Sequence[Measure]) -> Figure:
    rows = parts.rows_of(users, dimension)
    return Figure(
        dimension.replace("_", "-"),
        parts.TITLES[dimension],
        "",
        [parts.bar_chart(f"{dimension}-{measure.field}", measure, rows) for measure in measures],
        layout=3,
        table=Table(
            f"metrics_user_segments-{dimension}",
            f"Customers by {parts.TITLES[dimension].lower()}",
            [
                Column("label", parts.TITLES[dimension], "text"),
                Column("customers", "Customers", "count"),
                Column("customer_share", "Share of customers", "rate"),
                Column("purchasers", "Purchasers", "count"),
                Column("purchaser_rate", "Purchaser rate", "rate"),
                Column("churned_customers", "Churned", "count"),
                Column("churn_rate", "Churn rate", "rate"),
                Column("revenue", "Revenue", "money"),
                Column("revenue_share", "Share of revenue", "rate"),
                Column("avg_ltv", "Average lifetime value", "average"),
            ],
            pl.DataFrame(rows, schema={**users.schema, "label": pl.String}),
        ),
    )


def _cohorts(churn: pl.DataFrame, run: Row | None) -> Figure:
    months = churn.filter(pl.col("metric_level") == "by_cohort_month").sort("time_period")
    rows = [
        row | {"label": formatting.month(date.fromisoformat(row["time_period"]))}
        for row in months.to_dicts()
    ]
    days = None if run is None else run["options"].get("cohort_observation_window_days")
    window = "the observation window" if days is None else formatting.plural(days, "day")
    missing = None if rows else "No customer's first purchase is long enough ago."
    return Figure(
        "cohorts",
        "Cohort churn",
        "Customers by the month of their first purchase. Churned: no purchase later than "
        f"{window} after the first.",
        [
            parts.bar_chart(f"cohort-{measure.field}", measure, rows, sentence=missing)
            for measure in _COHORT_MEASURES
        ],
        layout=2,
        table=Table(
            "metrics_churn",
            "Churn by cohort",
            [
                Column("time_period", "Cohort", "text"),
                Column("total_customers", "Customers", "count"),
                Column("churned_customers", "Churned", "count"),
                Column("churn_rate", "Churn rate", "rate"),
                Column("cohort_start", "First", "date"),
                Column("cohort_end", "Last", "date"),
            ],
            churn.sort("metric_level", "time_period"),
        ),
    )
