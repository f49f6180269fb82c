"""Funnels of one's own: how many get how far, and how long it takes."""

import itertools
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

import polars as pl

from pipelines.report import charts, formatting
from pipelines.report.models import (
    Chart,
    Column,
    Control,
    Figure,
    Measure,
    Page,
    Row,
    Table,
    figure_with_choice,
)
from transforms.funnels import ALL, OVERALL

_ENTITIES: Final = Measure("entities", "Entities", "count")
_TIME: Final = "Median time to the step"
_MOST_SHOWN: Final = 25
"""Values of a breakdown that can be chosen: those with most entities."""

_LEAD: Final = (
    "A step counts those who took all steps before it, in their order. In brackets: what chance "
    "alone leaves open, 95 %."
)


def funnels_page(tables: Mapping[str, pl.DataFrame]) -> Page | None:
    """Return the page with a figure for each funnel; None where there are none."""
    rows = tables.get("metrics_funnels")
    if rows is None or not rows.height:
        return None
    names = rows["funnel"].unique().sort()
    return Page(
        page_id="funnels",
        title="Funnels",
        lead=f"{formatting.plural(len(names), 'funnel')}, as the configuration of the run says; "
        "entities are sessions, or sessions and what a funnel holds, such as a product.",
        cards=[],
        figures=[_figure(name, rows.filter(funnel=name)) for name in names],
    )


def _figure(name: str, rows: pl.DataFrame) -> Figure:
    """Return the figure of a funnel, with a choice of what its steps are shown of."""
    shown = _choices(rows)
    table = _table(name, rows, shown)
    variants = {
        f"{breakdown}={value}": Figure(
            f"funnels-{name}",
            name,
            _LEAD,
            [
                _steps(name, rows.filter(breakdown=breakdown, value=value).sort("step_number")),
                _times(name, rows.filter(breakdown=breakdown, value=value).sort("step_number")),
            ],
            layout=2,
            table=table,
        )
        for breakdown, value in shown
    }
    if len(variants) == 1:
        return variants[f"{OVERALL}={ALL}"]
    options = [
        (f"{breakdown}={value}", "All" if breakdown == OVERALL else f"{breakdown}: {value}")
        for breakdown, value in shown
    ]
    return figure_with_choice(variants, Control("Of", options, as_buttons=False), grouping=0)


def _choices(rows: pl.DataFrame) -> list[tuple[str, str]]:
    """Return the breakdowns and values to choose from, all of them first."""
    entered = rows.filter(pl.col("step_number") == 1, pl.col("breakdown") != OVERALL)
    most = (
        entered.sort("breakdown", "entities", "value", descending=[False, True, False])
        .group_by("breakdown", maintain_order=True)
        .head(_MOST_SHOWN)
    )
    return [(OVERALL, ALL), *most.select("breakdown", "value").iter_rows()]


def _steps(name: str, rows: pl.DataFrame) -> Chart:
    steps = rows.to_dicts()
    first, last = steps[0], steps[-1]
    sentence = "Nobody took the first step."
    if first["entities"]:
        sentence = (
            f"{formatting.rate(last['conversion_from_start'])} of "
            f"{formatting.count(first['entities'])} got to {last['step_name']}"
            f"{_lost(steps)}."
        )
    return Chart(
        chart_id=f"funnels-{name}-steps",
        title=_ENTITIES.title,
        sentence=sentence,
        spec=charts.bars(_ENTITIES.title, charts.LABEL_WIDTH),
        rows=[
            charts.bar_row(
                _label(step),
                step["entities"],
                f"{formatting.compact(step['entities'])} · {_with_interval(step)}",
                is_marked=step is last,
            )
            for step in steps
        ]
        if first["entities"]
        else [],
    )


def _label(step: Row) -> str:
    return f"{step['step_number']}. {step['step_name']}"


def _with_interval(step: Row) -> str:
    share = formatting.rate(step["conversion_from_start"])
    if step["step_number"] == 1:
        return share
    ends = (formatting.rate(step[f"conversion_{end}"]) for end in ("low", "high"))
    return f"{share} ({' to '.join(ends)})"


def _lost(steps: list[Row]) -> str:
    """Return where most are lost, if anywhere."""
    lost: list[tuple[int, Row]] = [
        (before["entities"] - step["entities"], step) for before, step in itertools.pairwise(steps)
    ]
    if not lost:
        return ""
    most, step = max(lost, key=lambda each: each[0])
    return f"; most are lost before {step['step_name']}, {formatting.count(most)}" if most else ""


def _times(name: str, rows: pl.DataFrame) -> Chart:
    steps = [step for step in rows.to_dicts() if step["step_number"] > 1]
    taken = [step for step in steps if step["median_seconds"] is not None]
    sentence = "Nobody took a second step."
    if taken:
        last = taken[-1]
        sentence = (
            f"Half of those who got to {last['step_name']} took "
            f"{_duration(last['median_seconds'])} or less from where they began, a quarter "
            f"{_duration(last['p25_seconds'])} or less, one in ten more than "
            f"{_duration(last['p90_seconds'])}."
        )
    return Chart(
        chart_id=f"funnels-{name}-times",
        title=_TIME,
        sentence=sentence,
        spec=charts.bars(_TIME, charts.LABEL_WIDTH),
        rows=[
            charts.bar_row(
                _label(step),
                step["median_seconds"],
                f"{_duration(step['median_seconds'])} ({_duration(step['p25_seconds'])} to "
                f"{_duration(step['p75_seconds'])})",
                is_marked=step is taken[-1],
            )
            for step in taken
        ],
    )


def _duration(seconds: Any) -> str:
    return formatting.duration(timedelta(seconds=seconds))


def _table(name: str, rows: pl.DataFrame, shown: list[tuple[str, str]]) -> Table:
    chosen = pl.DataFrame(shown, schema=["breakdown", "value"], orient="row")
    told = chosen.join(
        rows.sort("step_number"), on=["breakdown", "value"], maintain_order="left_right"
    )
    return Table(
        f"metrics_funnels-{name}",
        f"Steps of {name}",
        [
            Column("breakdown", "By", "text"),
            Column("value", "Value", "text"),
            Column("step_name", "Step", "text"),
            Column("entities", "Entities", "count"),
            Column("users", "Users", "count"),
            Column("open_entities", "Open", "count"),
            Column("conversion_from_previous", "From the step before", "rate"),
            Column("conversion_from_start", "From the start", "rate"),
            Column("conversion_low", "At least", "rate"),
            Column("conversion_high", "At most", "rate"),
            Column("closed_conversion_from_start", "Without open ones", "rate"),
            Column("median_seconds", "Median seconds", "count"),
            Column("p90_seconds", "90 % within", "count"),
        ],
        told,
    )
