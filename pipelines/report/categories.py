"""Product categories, for all or for one top-level category."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from pipelines.report import charts, formatting, parts
from pipelines.report.models import (
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

SHOWN_CATEGORIES = 300
"""Top-level categories on the page, by revenue; more would make the file too large."""

_BARS = 12
_NAMED = 3
_SUBCATEGORY_WIDTH = 180
_NO_SUBCATEGORY = "(no subcategory)"
_CARDS = (
    Measure("revenue", "Revenue", "money"),
    Measure("purchases", "Purchases", "count"),
    Measure("views", "Views", "count"),
    Measure("cart_add_rate", "Cart-add rate", "rate", "cart adds / events"),
    Measure("purchase_rate", "Purchase rate", "rate", "purchases / events"),
    Measure("avg_views_per_session", "Views per session", "average"),
)
_RATES = _CARDS[3:]
_REVENUE_BY_CATEGORY = Measure("revenue", "Revenue by category", "money")
_REVENUE_BY_SUBCATEGORY = Measure("revenue", "Revenue by subcategory", "money")


@dataclass(frozen=True)
class _Categories:
    """The categories shown, by revenue: all together, the top-level ones, and those below each.

    `segments` holds purchases by category and RFM segment; `number` counts top-level categories,
    also those not shown.
    """

    everything: Row
    tops: list[Row]
    subcategories: Mapping[str, list[Row]]
    segments: Mapping[str, Mapping[str, Row]]
    table: Table
    segment_table: Table
    number: int


def categories_page(tables: Mapping[str, pl.DataFrame]) -> Page:
    """Return the page with a choice of the top-level category."""
    categories = _categories(tables)
    names = [row["category_lvl_1"] for row in categories.tops]
    keys = ["", *_keys(names)]
    return with_choice(
        {
            key: _page(categories, selected)
            for key, selected in zip(keys, [None, *categories.tops], strict=True)
        },
        choice_id="category",
        control=Control(
            "Category",
            list(zip(keys, ["All categories", *names], strict=True)),
            as_buttons=False,
        ),
    )


def _keys(names: Sequence[str]) -> list[str]:
    """Return what names the categories in the page's markup."""
    return [f"c{number}" for number in range(len(names))]


def _categories(tables: Mapping[str, pl.DataFrame]) -> _Categories:
    by_size = (
        tables["metrics_categories"]
        .with_columns(pl.col("revenue").fill_null(0))
        .sort(
            "revenue",
            "events",
            "category_lvl_1",
            "category_lvl_2",
            descending=[True, True, False, False],
            nulls_last=True,
        )
    )
    is_top = pl.col("level") == 1
    top = by_size.filter(is_top)
    tops = [
        row | {"label": row["category_lvl_1"], "rank": rank}
        for rank, row in enumerate(top.head(SHOWN_CATEGORIES).to_dicts(), start=1)
    ]
    names = [row["label"] for row in tops]
    shown = by_size.filter(pl.col("category_lvl_1").is_in(names))
    subcategories: dict[str, list[Row]] = defaultdict(list)
    for row in shown.filter(~is_top).to_dicts():
        subcategories[row["category_lvl_1"]].append(row)
    purchases = tables["metrics_category_rfm"].filter(pl.col("category_lvl_1").is_in(names))
    segments: dict[str, dict[str, Row]] = defaultdict(dict)
    for row in purchases.to_dicts():
        segments[row["category_lvl_1"]][row["rfm_segment"]] = row
    return _Categories(
        everything=_total(top, tables),
        tops=tops,
        subcategories=subcategories,
        segments=segments,
        table=_table(shown, names, top.height),
        segment_table=_segment_table(purchases, names),
        number=top.height,
    )


def _total(top: pl.DataFrame, tables: Mapping[str, pl.DataFrame]) -> Row:
    sums = top.select(
        pl.col("events", "views", "cart_adds", "purchases").sum(), pl.col("revenue").sum()
    ).row(0, named=True)
    sessions = parts.overall(tables["metrics_funnel"])["sessions"]
    quotients: dict[str, Any] = {
        "cart_add_rate": parts.divided(sums["cart_adds"], sums["events"]),
        "purchase_rate": parts.divided(sums["purchases"], sums["events"]),
        "avg_views_per_session": parts.divided(sums["views"], sessions),
    }
    return sums | quotients


def _page(categories: _Categories, selected: Row | None) -> Page:
    figures = selected or categories.everything
    detail = _detail(categories, selected)
    compared = categories.tops if selected is None else detail
    return Page(
        page_id="categories",
        title="Product categories",
        lead=_lead(categories, selected),
        cards=[parts.card(measure, figures[measure.field]) for measure in _CARDS],
        figures=[
            Figure(
                "category-revenue",
                "Where the revenue comes from",
                "",
                [_revenue_chart(categories, selected), _subcategory_chart(detail, figures)],
                layout=2,
            ),
            Figure(
                "category-rates",
                "How well they sell",
                "",
                [
                    parts.bar_chart(f"category-{rate.field}", rate, compared[:_BARS])
                    for rate in _RATES
                ],
                layout=3,
            ),
            Figure(
                "category-segments",
                "Revenue by category and RFM segment",
                "",
                [
                    _segment_chart(
                        categories.segments, categories.tops if selected is None else [selected]
                    )
                ],
                table=categories.segment_table,
            ),
            Figure(
                "category-table",
                "All categories and subcategories",
                "",
                [],
                table=categories.table,
                is_table_open=True,
            ),
        ],
    )


def _lead(categories: _Categories, selected: Row | None) -> str:
    if selected is None:
        number = formatting.plural(categories.number, "top-level category", "top-level categories")
        shown = len(categories.tops)
        if shown < categories.number:
            return f"{number}, of which the {shown} with most revenue are shown."
        return f"{number}."
    number = formatting.plural(categories.number, "category", "categories")
    share = parts.divided(selected["revenue"], categories.everything["revenue"])
    lead = f"{selected['label']}: number {selected['rank']} of {number} by revenue"
    return f"{lead}." if share is None else f"{lead}, {formatting.rate(share)} of all."


def _detail(categories: _Categories, selected: Row | None) -> list[Row]:
    """Return the subcategories of the selected category, or of all, by revenue."""
    if selected is not None:
        return [
            row | {"label": row["category_lvl_2"] or _NO_SUBCATEGORY}
            for row in categories.subcategories.get(selected["label"], ())
        ]
    every = [
        row | {"label": f"{name} / {row['category_lvl_2'] or _NO_SUBCATEGORY}"}
        for name, rows in categories.subcategories.items()
        for row in rows
    ]
    return sorted(every, key=lambda row: (-row["revenue"], -row["events"], row["label"]))


def _of_revenue(row: Row, total: Row) -> str:
    share = formatting.rate(parts.divided(row["revenue"], total["revenue"]))
    return f"{formatting.decimal(row['revenue'])} ({share})"


def _shown(rows: Sequence[Row]) -> str:
    return f" Shown: {_BARS} of {formatting.count(len(rows))}." if len(rows) > _BARS else ""


def _revenue_chart(categories: _Categories, selected: Row | None) -> Chart:
    tops, everything = categories.tops, categories.everything
    drawn = tops[:_BARS]
    if selected is not None and selected not in drawn:
        drawn = [*drawn[:-1], selected]
    if not everything["revenue"]:
        sentence = "There is no revenue."
    elif selected is None:
        sentence = f"{tops[0]['label']} leads with {_of_revenue(tops[0], everything)}"
        if len(tops) > _NAMED:
            first = sum(row["revenue"] for row in tops[:_NAMED])
            share = formatting.rate(parts.divided(first, everything["revenue"]))
            sentence += f"; the first {_NAMED} bring {share}"
        sentence += "."
    else:
        sentence = f"{selected['label']} brought {_of_revenue(selected, everything)}."
    return parts.bar_chart(
        "category-revenue",
        _REVENUE_BY_CATEGORY,
        drawn,
        sentence=sentence + _shown(tops),
        marked=None if selected is None else selected["label"],
    )


def _subcategory_chart(detail: Sequence[Row], figures: Row) -> Chart:
    if not detail:
        sentence = "There are no subcategories."
    elif not figures["revenue"]:
        sentence = "There is no revenue."
    else:
        sentence = f"{detail[0]['label']} brings most: {_of_revenue(detail[0], figures)}."
    return parts.bar_chart(
        "subcategory-revenue",
        _REVENUE_BY_SUBCATEGORY,
        detail[:_BARS],
        sentence=sentence + _shown(detail),
        label_width=_SUBCATEGORY_WIDTH,
    )


def _segment_chart(segments: Mapping[str, Mapping[str, Row]], shown: Sequence[Row]) -> Chart:
    names = [row["label"] for row in shown if row["label"] in segments][:_BARS]
    occurring = {segment for by_segment in segments.values() for segment in by_segment}
    columns = sorted(occurring, key=parts.place(parts.ORDERS["rfm_segment"]))
    bought = [
        (segments[name][segment], name, segment)
        for name in names
        for segment in columns
        if segment in segments[name]
    ]
    sentence = "There are no purchases."
    if bought:
        top, name, segment = max(bought, key=lambda cell: cell[0]["revenue"])
        total = sum(row["revenue"] for row, _, _ in bought)
        sentence = (
            f"The largest cell is {segment} buying {name}: "
            f"{_of_revenue(top, {'revenue': total})} of the revenue shown."
        )
    return Chart(
        chart_id="category-segments",
        title="Revenue by category and RFM segment",
        sentence=sentence,
        spec=charts.heatmap("Revenue", "", "", 32),
        rows=charts.heatmap_rows(
            [
                _cell(segment, name, segments[name].get(segment))
                for name in names
                for segment in columns
            ]
        ),
        minimum_width=760,
    )


def _cell(segment: str, name: str, row: Row | None) -> charts.Cell:
    if row is None:
        return charts.Cell(segment, name, None, "", "no purchase")
    purchases = formatting.plural(row["purchases"], "purchase")
    return charts.Cell(
        segment,
        name,
        row["revenue"],
        formatting.compact(row["revenue"], 0),
        f"{formatting.decimal(row['revenue'])} ({purchases})",
    )


def _table(shown: pl.DataFrame, names: Sequence[str], total: int) -> Table:
    caption = "Figures by category"
    keys = dict(zip(names, _keys(names), strict=True))
    if total > len(keys):
        caption += f", the {len(keys)} largest of {formatting.count(total)} by revenue"
    ranks = pl.Series("rank", range(len(names)))
    frame = shown.sort(
        pl.col("category_lvl_1").replace_strict(names, ranks, default=None),
        "level",
        maintain_order=True,
    ).with_columns(
        pl.when(pl.col("level") == 1)
        .then(pl.lit("(all)"))
        .otherwise(pl.col("category_lvl_2").fill_null(_NO_SUBCATEGORY))
        .alias("subcategory")
    )
    return Table(
        "metrics_categories",
        caption,
        [
            Column("category_lvl_1", "Category", "text"),
            Column("subcategory", "Subcategory", "text"),
            Column("events", "Events", "count"),
            Column("views", "Views", "count"),
            Column("cart_adds", "Cart adds", "count"),
            Column("purchases", "Purchases", "count"),
            Column("users", "Users", "count"),
            Column("revenue", "Revenue", "money"),
            Column("cart_add_rate", "Cart-add rate", "rate"),
            Column("purchase_rate", "Purchase rate", "rate"),
            Column("avg_views_per_session", "Views per session", "average"),
        ],
        frame,
        groups=[keys[name] for name in frame["category_lvl_1"]],
        totals=[level == 1 for level in frame["level"]],
    )


def _segment_table(purchases: pl.DataFrame, names: Sequence[str]) -> Table:
    keys = dict(zip(names, _keys(names), strict=True))
    frame = purchases.sort(
        "revenue", "category_lvl_1", "rfm_segment", descending=[True, False, False]
    )
    return Table(
        "metrics_category_rfm",
        "Purchases by category and RFM segment",
        [
            Column("category_lvl_1", "Category", "text"),
            Column("rfm_segment", "RFM segment", "text"),
            Column("purchases", "Purchases", "count"),
            Column("revenue", "Revenue", "money"),
        ],
        frame,
        groups=[keys[name] for name in frame["category_lvl_1"]],
    )
