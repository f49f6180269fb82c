"""The report as text: what it embeds, and that the same tables give the same file."""

import json
import re
from datetime import date

import polars as pl
import pytest

from pipelines.report import TABLES, render_report, vega
from pipelines.report.models import Column, Table
from pipelines.report.reading import OPTIONAL_TABLES
from pipelines.report.runs import newest_run
from tests.pipelines.report.builder import build_tables
from transforms.errors import RunError
from transforms.schema import TABLES_BY_NAME


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


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("\N{FULLWIDTH EQUALS SIGN}1+1", "'\N{FULLWIDTH EQUALS SIGN}1+1"),
        ("\N{FULLWIDTH PLUS SIGN}1", "'\N{FULLWIDTH PLUS SIGN}1"),
        ("\N{FULLWIDTH HYPHEN-MINUS}1", "'\N{FULLWIDTH HYPHEN-MINUS}1"),
        ("\N{FULLWIDTH COMMERCIAL AT}A1", "'\N{FULLWIDTH COMMERCIAL AT}A1"),
        ("+1", "'+1"),
        ("a;=1+1", "a;'=1+1"),
        ("a;=1;@b;c", "a;'=1;'@b;c"),
        ("a; \N{FULLWIDTH EQUALS SIGN}1", "a;' \N{FULLWIDTH EQUALS SIGN}1"),
        ("a\t=1", "a\t'=1"),
        ("a\n=1", "a\n'=1"),
        (" =1", "' =1"),
        ("\tx", "'\tx"),
        ("a=b", "a=b"),
        ("semi;colon", "semi;colon"),
        ("shoes-men", "shoes-men"),
    ],
)
def test_no_part_of_a_cell_is_a_formula(text, written):
    frame = pl.DataFrame({"name": [text]})
    table = Table("t", "T", [Column("name", "Name", "text")], frame)
    assert pl.read_csv(table.csv.encode())["name"].item() == written


def test_the_shown_run_is_the_one_published_last(tables):
    stopped = tables["pipeline_runs"][:1].with_columns(
        pl.lit("20990101T000000-ahead").alias("run_id"),
        pl.lit("publishing").alias("status"),
        pl.col("started_at").dt.offset_by("75y"),
    )
    runs = pl.concat([stopped, tables["pipeline_runs"]])
    assert newest_run({"pipeline_runs": runs})["run_id"] == "20240305T063011-newest"
    assert newest_run({"pipeline_runs": stopped})["run_id"] == "20990101T000000-ahead"
    assert newest_run({"pipeline_runs": stopped.clear()}) is None


def shown_pages(html):
    return re.findall(r'<section class="page" id="page-(\w+)"', html)


def test_a_page_whose_tables_were_left_out_is_not_there(tables, html):
    assert shown_pages(html) == [
        "overview",
        "customers",
        "funnel",
        "funnels",
        "segments",
        "history",
        "prediction",
        "categories",
    ]
    without = {name: frame for name, frame in tables.items() if name not in OPTIONAL_TABLES}
    empty = {name: tables[name].clear() for name in OPTIONAL_TABLES}
    for left_out in (without, tables | empty):
        assert shown_pages(render_report(left_out)) == [
            "overview",
            "funnel",
            "segments",
            "categories",
        ]


def test_only_tables_that_can_be_left_out_are_optional():
    assert all(TABLES_BY_NAME[name].group is None for name in TABLES)
    assert all(TABLES_BY_NAME[name].group is not None for name in OPTIONAL_TABLES)


def test_history_has_its_page_without_whole_months(tables):
    no_moves = {"metrics_segment_migration": tables["metrics_segment_migration"].clear()}
    assert "Needs two whole months of data." in render_report(tables | no_moves)


def test_two_years_fit_into_the_file():
    html = render_report(build_tables(users=4000, days=731))
    assert len(html.encode()) < 5_500_000
    assert "The page shows the latest 366 days of 731." in html
    assert "The charts show the latest 104 of 105 days and the table has the latest 52." in html
    assert "The latest 24 cohorts and months at most" in html


def test_one_far_date_does_not_stretch_the_charts(tables, html):
    far = date(2099, 1, 1)
    row = tables["metrics_periods"].filter(pl.col("period") == "day")[:1]
    stray = [
        row.with_columns(
            pl.lit(period).alias("period"),
            pl.lit(start).alias("period_start"),
            pl.lit(1, pl.Int64).alias("events"),
        )
        for period, start in (("day", far), ("week", date(2098, 12, 29)), ("month", far))
    ]
    days = pl.date_range(date(2019, 12, 1), far, eager=True)
    quiet = tables["metrics_active_users"].filter(pl.col("event_date") == date(2019, 10, 1))
    quiet = quiet.with_columns(pl.selectors.integer() * 0).drop("event_date")
    months = tables["metrics_lifecycle"].filter(
        pl.col("period") == "month", pl.col("period_start") == date(2019, 11, 1)
    )
    months = months.with_columns(pl.selectors.integer() * 0).drop("period_start")
    stretched = {
        "metrics_periods": stray,
        "metrics_active_users": [quiet.join(days.to_frame("event_date"), how="cross")],
        "metrics_lifecycle": [
            months.join(days.dt.truncate("1mo").unique().to_frame("period_start"), how="cross")
        ],
    }
    longer = {
        name: pl.concat([tables[name], *(rows.select(tables[name].columns) for rows in more)])
        for name, more in stretched.items()
    }
    after = embedded(render_report(tables | longer))["charts"]
    before = embedded(html)["charts"]
    for chart in ("trend-revenue", "trend-orders", "growth", "active-users", "history-customers"):
        assert after[chart] == before[chart]


@pytest.mark.parametrize("name", TABLES)
def test_a_missing_table_is_named(name, tables):
    with pytest.raises(RunError, match=f"The table {name} is missing"):
        render_report({key: frame for key, frame in tables.items() if key != name})


def test_a_missing_column_is_named(tables):
    old = tables | {"metrics_churn": tables["metrics_churn"].drop("churn_rate")}
    with pytest.raises(RunError, match="metrics_churn lacks churn_rate"):
        render_report(old)
