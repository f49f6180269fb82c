"""The analyst's report: one self-contained HTML file made from the small tables of a run."""

from pipelines.report.reading import TABLES, read_bigquery, read_warehouse
from pipelines.report.rendering import render_report

__all__ = ["TABLES", "read_bigquery", "read_warehouse", "render_report"]
