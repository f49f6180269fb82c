"""The conversion funnel, for everyone and by group of sessions and customers."""

from collections.abc import Mapping
from datetime import date
from typing import Any

import polars as pl

from pipelines.report import formatting, parts, periods
from pipelines.report.models import (
    Card,
    Chart,
    Column,
    Control,
    Figure,
    Measure,
    Page,
    Row,
    Table,
    with_choice,
)

_STEPS_NOTE = (
    "A step counts on its own: a purchase without a cart event is a purchase only, "
    "so there can be more purchases than carts."
)
_BY_RATE = {
    "rfm_segment": "RFM segment",
    "customer_lifecycle_stage": "lifecycle stage",
    "session_quality_tier": "session quality",
}
_RATES = (
    Measure("conversion_rate", "Conversion", "rate"),
    Measure("view_to_cart_rate", "View to cart", "rate"),
    Measure("cart_to_purchase_rate", "Cart to purchase", "rate"),
)
_SESSIONS = Measure("sessions", "Sessions", "count")
_SHARE = Measure("share", "Share of sessions", "rate")
_REVENUE = Measure("revenue_per_session", "Revenue per session", "average")
_STEPS = (
    ("sessions", "All sessions"),
    ("sessions_reached_view", "Viewed a product"),
    ("sessions_reached_cart", "Added to the cart"),
    ("sessions_reached_purchase", "Purchased"),
)
_CARDS = (
    _SESSIONS,
    Measure("conversion_rate", "Conversion", "rate", "purchases / sessions"),
    Measure("view_to_cart_rate", "View to cart", "rate", "carts / views"),
    Measure("cart_to_purchase_rate", "Cart to purchase", "rate", "purchases / carts"),
    Measure("bounce_rate", "Bounce rate", "rate", "sessions of one event", more_is_better=False),
    _REVENUE,
)
_QUOTIENTS = {
    "conversion_rate": ("sessions_reached_purchase", "sessions"),
    "view_to_cart_rate": ("sessions_reached_cart", "sessions_reached_view"),
    "cart_to_purchase_rate": ("sessions_reached_purchase", "sessions_reached_cart"),
    "bounce_rate": ("bounced_sessions", "sessions"),
    "revenue_per_session": ("revenue", "sessions"),
}


def funnel_page(tables: Mapping[str, pl.DataFrame]) -> Page:
    """Return the page with a choice of the group whose funnel is drawn."""
    funnel = tables["metrics_funnel"]
    comparison = periods.comparison(tables["metrics_periods"])
    groups = [("", "All sessions", parts.overall(funnel))] + [
        (f"{dimension}={row['value']}", f"{parts.TITLES[dimension]}: {row['label']}", row)
        for dimension in parts.ORDERS
        if dimension != "overall"
        for row in parts.rows_of(funnel, dimension)
    ]
    fixed = [*_rate_figures(funnel), *_value_figures(funnel), _table_figure(funnel)]
    return with_choice(
        {
            key: _page(name, row, fixed, funnel, None if key else comparison)
            for key, name, row in groups
        },
        choice_id="funnel-group",
        control=Control("Funnel of", [(key, name) for key, name, _ in groups], as_buttons=False),
    )


def _page(
    name: str,
    row: Row,
    fixed: list[Figure],
    funnel: pl.DataFrame,
    comparison: periods.Comparison | None,
) -> Page:
    return Page(
        page_id="funnel",
        title="Conversion funnel",
        lead=f"{name}: {formatting.plural(row['sessions'], 'session')}."
        + ("" if comparison is None else f" {comparison.sentence}"),
        cards=_cards(row, funnel, comparison),
        figures=[
            Figure("funnel-steps", "From view to purchase", _STEPS_NOTE, [_steps(row)]),
            *fixed,
        ],
    )


def _cards(row: Row, funnel: pl.DataFrame, comparison: periods.Comparison | None) -> list[Card]:
    compared: tuple[Row, Row] | None = None
    basis = ""
    if comparison is not None:
        basis = comparison.basis
        compared = (
            _between(funnel, *comparison.days(comparison.latest)),
            _between(funnel, *comparison.days(comparison.previous)),
        )
    return [
        parts.card(
            measure,
            row[measure.field],
            compared=None
            if compared is None
            else (compared[0][measure.field], compared[1][measure.field]),
            basis=basis,
        )
        for measure in _CARDS
    ]


def _between(funnel: pl.DataFrame, first: date, last: date) -> Row:
    """Add up the days of a period and divide anew."""
    sums = (
        funnel.filter(
            (pl.col("dimension") == "session_start_date")
            & pl.col("value").is_between(pl.lit(first.isoformat()), pl.lit(last.isoformat()))
        )
        .select(pl.selectors.integer().sum(), pl.col("revenue").sum())
        .row(0, named=True)
    )
    quotients: dict[str, Any] = {
        name: parts.divided(sums[numerator], sums[denominator])
        for name, (numerator, denominator) in _QUOTIENTS.items()
    }
    return sums | quotients


def _steps(row: Row) -> Chart:
    sessions = row["sessions"]
    rows = [{"label": title, "sessions": row[field]} for field, title in _STEPS]
    sentence = "There are no sessions."
    if sessions:
        sentence = (
            f"{formatting.plural(row['sessions_reached_view'], 'session')} had a view, "
            f"{formatting.count(row['sessions_reached_cart'])} a cart addition "
            f"({formatting.rate(row['view_to_cart_rate'])} of the number with a view) and "
            f"{formatting.count(row['sessions_reached_purchase'])} a purchase "
            f"({formatting.rate(row['cart_to_purchase_rate'])} of the number with a cart): "
            f"{formatting.rate(row['conversion_rate'])} of all sessions converted."
        )
    return parts.bar_chart(
        "funnel-steps",
        _SESSIONS,
        rows if sessions else [],
        sentence=sentence,
        total=sessions,
    )


def _rate_figures(funnel: pl.DataFrame) -> list[Figure]:
    return [
        Figure(
            f"rates-{dimension}",
            f"Conversion by {title}",
            "",
            [
                parts.bar_chart(
                    f"{dimension}-{measure.field}", measure, parts.rows_of(funnel, dimension)
                )
                for measure in _RATES
            ],
            layout=3,
        )
        for dimension, title in _BY_RATE.items()
    ]


def _value_figures(funnel: pl.DataFrame) -> list[Figure]:
    total = parts.overall(funnel)["sessions"]
    tiers = [
        row | {"share": parts.divided(row["sessions"], total)}
        for row in parts.rows_of(funnel, "session_quality_tier")
    ]
    segments = parts.rows_of(funnel, "rfm_segment")
    return [
        Figure(
            "tier-value",
            "Session quality",
            "",
            [
                parts.bar_chart("tier-share", _SHARE, tiers),
                parts.bar_chart("tier-revenue", _REVENUE, tiers),
            ],
            layout=2,
        ),
        Figure(
            "segment-value",
            "Revenue per session by RFM segment",
            "",
            [parts.bar_chart("segment-revenue", _REVENUE, segments)],
        ),
    ]


def _table_figure(funnel: pl.DataFrame) -> Figure:
    shown = pl.concat(
        parts.in_order(funnel.filter(pl.col("dimension") == dimension), "value", order)
        for dimension, order in parts.ORDERS.items()
    )
    labels = shown.with_columns(
        pl.col("dimension").replace_strict(parts.TITLES, default=None).alias("group"),
        pl.struct("dimension", "value")
        .map_elements(lambda row: parts.label(**row), return_dtype=pl.String)
        .alias("name"),
    )
    return Figure(
        "funnel-table",
        "All groups",
        "",
        [],
        table=Table(
            "metrics_funnel",
            "Figures by group",
            [
                Column("group", "Grouping", "text"),
                Column("name", "Group", "text"),
                Column("sessions", "Sessions", "count"),
                Column("sessions_reached_view", "With view", "count"),
                Column("sessions_reached_cart", "With cart", "count"),
                Column("sessions_reached_purchase", "With purchase", "count"),
                Column("view_to_cart_rate", "View to cart", "rate"),
                Column("cart_to_purchase_rate", "Cart to purchase", "rate"),
                Column("conversion_rate", "Conversion", "rate"),
                Column("bounce_rate", "Bounce rate", "rate"),
                Column("revenue", "Revenue", "money"),
                Column("revenue_per_session", "Revenue per session", "average"),
            ],
            labels,
        ),
        is_table_open=True,
    )
