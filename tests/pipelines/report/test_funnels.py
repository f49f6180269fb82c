"""The page of funnels of one's own."""

import polars as pl

from pipelines.report.funnels import funnels_page
from tests.pipelines.report.builder import build_tables

TABLES = build_tables(users=200)


def test_a_funnel_has_a_figure_whose_values_can_be_chosen():
    page = funnels_page(TABLES)
    (figure,) = page.figures
    assert figure.title == "shop"
    (control,) = figure.choice.controls
    assert next(text for _, text in control.options) == "All"
    assert "session_quality_tier: High" in [text for _, text in control.options]
    assert set(figure.choice.patches) == {key for key, _ in control.options}


def test_bars_have_their_intervals_and_times():
    (figure,) = funnels_page(TABLES).figures
    steps, times = figure.charts
    rows = TABLES["metrics_funnels"].filter(breakdown="overall").sort("step_number").to_dicts()
    assert [bar["label"] for bar in steps.rows] == ["1. view", "2. cart", "3. purchase"]
    assert [bar["value"] for bar in steps.rows] == [row["entities"] for row in rows]
    assert all("% to " in bar["text"] for bar in steps.rows[1:])
    assert "got to purchase; most are lost before cart" in steps.sentence
    assert [bar["text"] for bar in times.rows] == [
        "2 min 0 s (1 min 0 s to 5 min 0 s)",
        "4 min 0 s (2 min 0 s to 10 min 0 s)",
    ]
    assert "one in ten more than 3 h 0 min" in times.sentence


def test_the_table_holds_what_can_be_chosen():
    rows = TABLES["metrics_funnels"]
    many = pl.concat(
        [rows.filter(breakdown="overall")]
        + [
            rows.filter(breakdown="overall").with_columns(
                breakdown=pl.lit("brand"), value=pl.lit(f"b{n}"), entities=pl.lit(n, pl.Int64)
            )
            for n in range(30)
        ]
    )
    (figure,) = funnels_page({"metrics_funnels": many}).figures
    assert len(figure.choice.patches) == 26
    assert figure.table.frame["value"].unique().len() == 26
    assert "brand=b4" not in figure.choice.patches  # one of those with fewest


def test_a_funnel_that_nobody_entered_says_so():
    empty = (
        TABLES["metrics_funnels"]
        .filter(breakdown="overall")
        .with_columns(
            *(pl.lit(0, pl.Int64).alias(name) for name in ("entities", "users")),
            *(
                pl.lit(None, TABLES["metrics_funnels"].schema[name]).alias(name)
                for name in TABLES["metrics_funnels"].columns
                if name.startswith("conversion") or name.endswith("seconds")
            ),
        )
    )
    (figure,) = funnels_page({"metrics_funnels": empty}).figures
    assert [chart.sentence for chart in figure.charts] == [
        "Nobody took the first step.",
        "Nobody took a second step.",
    ]
    assert not any(chart.rows for chart in figure.charts)


def test_without_funnels_there_is_no_page():
    assert funnels_page({}) is None
    assert funnels_page({"metrics_funnels": TABLES["metrics_funnels"].clear()}) is None
