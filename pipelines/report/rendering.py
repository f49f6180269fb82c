"""The pages as one HTML file that needs nothing else."""

import base64
import hashlib
from collections.abc import Callable, Mapping
from importlib.resources import files

import polars as pl
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipelines.report.categories import categories_page
from pipelines.report.funnel import funnel_page
from pipelines.report.models import Page, Table
from pipelines.report.overview import overview_page
from pipelines.report.reading import checked_tables
from pipelines.report.segments import segments_page

PAGES: dict[str, Callable[[Mapping[str, pl.DataFrame]], Page]] = {
    "overview": overview_page,
    "funnel": funnel_page,
    "segments": segments_page,
    "categories": categories_page,
}
"""The pages in order; an address of the report ends in `#` and such a name to open one."""


def render_report(tables: Mapping[str, pl.DataFrame]) -> str:
    """Return the report as self-contained HTML.

    Args:
        tables: The frames of `reading.TABLES` by name, with the columns of the contract. They may
            be empty; `pipeline_runs` and `data_quality` may hold many runs, the newest is shown.

    Raises:
        RunError: A table or a column is missing.
    """
    checked = checked_tables(tables)
    pages = [build(checked) for build in PAGES.values()]
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
            page.choice.choice_id: {"page": page.page_id, "patches": page.choice.patches}
            for page in pages
            if page.choice is not None
        },
        "csv": {table.table_id: table.csv for table in tables},
    }


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
