"""The pages as one HTML file that needs nothing else."""

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping
from importlib.resources import files

import polars as pl
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipelines.report.categories import categories_page
from pipelines.report.customers import customers_page
from pipelines.report.funnel import funnel_page
from pipelines.report.funnels import funnels_page
from pipelines.report.history import history_page
from pipelines.report.models import Choice, Page, Table
from pipelines.report.overview import overview_page
from pipelines.report.prediction import prediction_page
from pipelines.report.reading import checked_tables
from pipelines.report.segments import segments_page

_PAGES: tuple[Callable[[Mapping[str, pl.DataFrame]], Page | None], ...] = (
    overview_page,
    customers_page,
    funnel_page,
    funnels_page,
    segments_page,
    history_page,
    prediction_page,
    categories_page,
)
"""What makes the pages, in order; None where the run left out what a page is about."""


def render_report(tables: Mapping[str, pl.DataFrame]) -> str:
    """Return the report as self-contained HTML.

    Args:
        tables: The frames of `reading.TABLES` by name, with the columns of the contract, and of
            those of `reading.OPTIONAL_TABLES` that there are. They may be empty; `pipeline_runs`
            and `data_quality` may hold many runs, the newest is shown.

    Raises:
        RunError: A table or a column is missing.
    """
    checked = checked_tables(tables)
    pages = [page for build in _PAGES if (page := build(checked)) is not None]
    styles = _asset("report.css")
    scripts = [_asset("vega.js"), _asset("report.js")]
    environment = Environment(
        loader=PackageLoader("pipelines.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    return environment.get_template("report.html.j2").render(
        pages=pages,
        data=_data(pages),
        policy=_policy(styles, scripts),
        # Our own files, not data: safe as they stand, and the policy holds their hashes.
        styles=Markup(styles),  # noqa: S704
        scripts=[Markup(script) for script in scripts],  # noqa: S704
    )


def _data(pages: list[Page]) -> dict[str, object]:
    """Return what the page's script reads: charts, choices, and the tables as CSV."""
    tables: list[Table] = [
        figure.table for page in pages for figure in page.figures if figure.table is not None
    ]
    return {
        "charts": {
            chart.chart_id: {"spec": chart.spec, "rows": list(chart.rows)}
            for page in pages
            for chart in page.charts
        },
        "choices": {
            choice.choice_id: scope
            | {"first": choice.first, "grouping": choice.grouping, "patches": choice.patches}
            for scope, choice in _choices(pages)
        },
        "csv": {table.table_id: table.csv for table in tables},
    }


def _choices(pages: list[Page]) -> Iterator[tuple[dict[str, object], Choice]]:
    """Yield the choices, each with the page or the figure that it changes."""
    for page in pages:
        if page.choice is not None:
            yield {"page": page.page_id}, page.choice
        for figure in page.figures:
            if figure.choice is not None:
                yield {"figure": figure.figure_id}, figure.choice


def _asset(name: str) -> str:
    return (files("pipelines.report") / "templates" / name).read_text("utf-8")


def _policy(styles: str, scripts: list[str]) -> str:
    """Return a content security policy: nothing but these scripts and styles, no network."""
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {' '.join(map(_hash, scripts))}",
            f"style-src {_hash(styles)}",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
