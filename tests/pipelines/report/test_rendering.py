"""The report as text: what it embeds, and that the same tables give the same file."""

import json
import re

import polars as pl
import pytest

from pipelines.report import TABLES, render_report, vega
from pipelines.report.models import Column, Table
from tests.pipelines.report.builder import build_tables
from transforms.errors import RunError


def embedded(html):
    text = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    return json.loads(text[1])


def test_the_same_tables_give_the_same_report_in_any_order_of_rows(tables, html):
    shuffled = {
        name: frame.sample(fraction=1, shuffle=True, seed=3) for name, frame in tables.items()
    }
    assert render_report(shuffled) == html


def test_dictionary_encoded_text_is_text(tables, html):
    encoded = tables | {
        "metrics_funnel": tables["metrics_funnel"].with_columns(
            pl.selectors.string().cast(pl.Categorical)
        )
    }
    assert render_report(encoded) == html


def test_nothing_is_loaded_from_elsewhere(html):
    markup = re.sub(r"<script>.*?</script>", "", html, flags=re.DOTALL)
    addresses = re.findall(r"""(?:src|href|action)=["']?([^"'\s>]+)""", markup)
    assert [address for address in addresses if not address.startswith("#")] == []
    assert "url(" not in re.search(r"<style>(.*?)</style>", html, re.DOTALL)[1]


def test_the_stored_script_is_that_of_the_installed_vega():
    assert vega.SCRIPT.read_text("utf-8") == vega.script(), "run: python -m pipelines.report.vega"


def test_data_cannot_end_the_script_that_holds_it():
    tables = build_tables(users=30, categories={"</script><script>alert(1)</script>": ["<!--"]})
    html = render_report(tables)
    assert html.count("<script") == 3
    assert html.count("</script") == 3
    names = embedded(html)["csv"]["metrics_categories"]
    assert "</script><script>alert(1)</script>" in names


def test_csv_has_exact_money_and_no_formulas():
    frame = pl.DataFrame(
        {"name": ["=1+1", "@x", "-a", "plain", None], "price": [1, 2, 3, 4, 5]},
        schema_overrides={"price": pl.Decimal(38, 9)},
    )
    table = Table("t", "T", [Column("name", "Name", "text")], frame)
    assert table.csv.splitlines() == [
        "name,price",
        "'=1+1,1.000000000",
        "'@x,2.000000000",
        "'-a,3.000000000",
        "plain,4.000000000",
        ",5.000000000",
    ]


@pytest.mark.parametrize("name", TABLES)
def test_a_missing_table_is_named(name, tables):
    with pytest.raises(RunError, match=f"The table {name} is missing"):
        render_report({key: frame for key, frame in tables.items() if key != name})


def test_a_missing_column_is_named(tables):
    old = tables | {"metrics_churn": tables["metrics_churn"].drop("churn_rate")}
    with pytest.raises(RunError, match="metrics_churn lacks churn_rate"):
        render_report(old)
