"""The report as its readers meet it, in a real Chromium."""

import csv
import io
from decimal import Decimal

import polars as pl
import pytest

from pipelines.report import render_report
from tests.pipelines.report.builder import build_tables, empty_tables
from tests.pipelines.report.conftest import settle

pytestmark = pytest.mark.browser

PAGES = [
    *("overview", "customers", "funnel", "funnels", "segments", "history", "prediction"),
    "categories",
]


def money(value):
    return f"{value:,.2f}"


def percent(value):
    return f"{value:.1%}"


def overall(frame):
    return frame.row(by_predicate=pl.col("dimension") == "overall", named=True)


def card(page, page_name, name):
    return page.inner_text(f"#page-{page_name} [data-card={page_name}-{name}] .value")


def shown_table(page, page_name, caption):
    """Return the texts of the rows that a table shows, by column header."""
    return page.evaluate(
        """([pageName, caption]) => {
            const table = [...document.querySelectorAll(`#page-${pageName} table`)]
                .find((table) => table.caption.textContent === caption);
            const headers = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
            return [...table.tBodies[0].rows].filter((row) => !row.hidden).map((row) =>
                Object.fromEntries(
                    [...row.cells].map((cell, i) => [headers[i], cell.textContent])));
        }""",
        [page_name, caption],
    )


def chart_texts(page, chart):
    return page.locator(f"[data-chart={chart}] svg text").all_text_contents()


def bar_labels(page, chart):
    """Return the texts beside the bars, in order."""
    return page.locator(f"[data-chart={chart}] .role-mark text").all_text_contents()


def test_cards_of_the_overview_equal_the_tables(html, tables, open_report):
    funnel, users = overall(tables["metrics_funnel"]), overall(tables["metrics_user_segments"])
    with open_report(html) as page:
        assert card(page, "overview", "revenue") == money(funnel["revenue"])
        assert card(page, "overview", "purchases") == f"{funnel['purchases']:,}"
        assert card(page, "overview", "users") == f"{users['customers']:,}"
        assert card(page, "overview", "sessions") == f"{funnel['sessions']:,}"
        assert card(page, "overview", "conversion_rate") == percent(funnel["conversion_rate"])
        days = tables["metrics_periods"].filter(pl.col("period") == "day")
        orders = days["orders"].sum()
        assert card(page, "overview", "orders") == f"{orders:,}"
        assert card(page, "overview", "avg_basket_value") == money(funnel["revenue"] / orders)
        assert card(page, "overview", "items_per_order") == money(funnel["purchases"] / orders)


def test_change_is_that_of_the_last_two_complete_weeks(html, tables, open_report):
    weeks = tables["metrics_periods"].filter(pl.col("period") == "week").sort("period_start")
    # 1 Oct to 30 Nov 2019 ends on a Saturday: the last week is incomplete.
    previous, latest = weeks["revenue"].to_list()[-3:-1]
    expected = f"{float(latest / previous - 1):+.1%}".replace("-", "−")
    with open_report(html) as page:
        change = page.inner_text("[data-card=overview-revenue] .change")
        assert change == f"{expected} vs week before"
        assert "week from 18 Nov 2019 with the week from 11 Nov 2019" in page.inner_text(".lead")


def test_hovering_a_line_names_the_nearest_period_and_its_value(html, tables, open_report):
    days = tables["metrics_periods"].filter(pl.col("period") == "day").sort("period_start")
    with open_report(html) as page:
        page.click("#page-overview .segmented button:text-is('Days')")
        settle(page)
        page.hover("[data-chart=trend-revenue] svg", position={"x": 400, "y": 100})
        shown = page.locator("#vg-tooltip-element td").all_inner_texts()
        values = {
            f"{day:%-d %b %Y}": money(revenue)
            for day, revenue in days.select("period_start", "revenue").iter_rows()
        }
        assert shown[2:] == ["Revenue", values[shown[1]]]


def test_hovering_a_cell_names_its_row_and_column(html, tables, open_report):
    bought = tables["metrics_category_rfm"].rows_by_key(["category_lvl_1", "rfm_segment"])
    with open_report(html, "categories") as page:
        page.hover("[data-chart=category-segments] .mark-rect path >> nth=0", force=True)
        shown = page.locator("#vg-tooltip-element td.value").all_inner_texts()
        assert (shown[0], shown[1]) in bought
        assert shown[2].endswith(" purchases)")


def test_table_of_days_and_weeks_follows_the_choice(html, tables, open_report):
    periods = tables["metrics_periods"].sort("period_start")
    with open_report(html) as page:
        for button, grain in (("Days", "day"), ("Weeks", "week")):
            page.click(f"#page-overview .segmented button:text-is('{button}')")
            settle(page)
            rows = shown_table(page, "overview", "Figures by day and week")
            expected = periods.filter(pl.col("period") == grain)
            assert [row["Revenue"] for row in rows] == [money(v) for v in expected["revenue"]]
            assert [row["Sessions"] for row in rows] == [f"{v:,}" for v in expected["sessions"]]
            assert f" a {grain}," in page.inner_text("#sentence-trend-revenue")
        pressed = page.locator("#page-overview .segmented [aria-pressed=true]").all_inner_texts()
        assert pressed == ["Weeks"]


def test_data_quality_is_that_of_the_newest_run(html, tables, open_report):
    run = tables["pipeline_runs"].sort("started_at").row(-1, named=True)
    with open_report(html) as page:
        details = page.inner_text("#page-overview .details")
        assert run["run_id"] == "20240305T063011-newest"
        assert run["run_id"] in details
        assert "churn_threshold_days = 60" in details
        assert page.inner_text("#sentence-rows-read").startswith(
            f"Of {run['rows_read']:,} rows read, {run['events_kept']:,} "
        )
        checks = shown_table(page, "overview", "Checks of this run, failed ones first")
        assert len(checks) == 12
        assert {row["Passed"] for row in checks} == {"yes"}


def test_failed_checks_come_first_and_are_named(tables, open_report):
    newest = pl.col("run_id") == "20240305T063011-newest"
    failing = (
        newest & (pl.col("table_name") == "fct_sessions") & (pl.col("check_name") == "not_null")
    )
    checks = tables["data_quality"].with_columns(
        pl.when(failing).then(3).otherwise("failing_rows").alias("failing_rows"),
        pl.when(failing).then(pl.lit(value=False)).otherwise("passed").alias("passed"),
    )
    with open_report(render_report(tables | {"data_quality": checks})) as page:
        text = page.inner_text("[aria-labelledby=heading-checks] header")
        assert "11 of 12 checks passed" in text
        assert "not_null on fct_sessions (3 rows)" in text
        first = shown_table(page, "overview", "Checks of this run, failed ones first")[0]
        assert (first["Check"], first["Failing rows"], first["Passed"]) == ("not_null", "3", "no")


def test_funnel_page_equals_the_table(html, tables, open_report):
    funnel = tables["metrics_funnel"]
    segments = funnel.filter(pl.col("dimension") == "rfm_segment")
    with open_report(html, "funnel") as page:
        everyone = overall(funnel)
        assert card(page, "funnel", "view_to_cart_rate") == percent(everyone["view_to_cart_rate"])
        rows = {
            row["Group"]: row
            for row in shown_table(page, "funnel", "Figures by group")
            if row["Grouping"] == "RFM segment"
        }
        assert set(rows) == set(segments["value"])
        for row in segments.to_dicts():
            shown = rows[row["value"]]
            assert shown["Sessions"] == f"{row['sessions']:,}"
            assert shown["Conversion"] == percent(row["conversion_rate"])
            assert shown["Cart to purchase"] == percent(row["cart_to_purchase_rate"])
            assert shown["Revenue"] == money(row["revenue"])
        labels = bar_labels(page, "rfm_segment-conversion_rate")
        assert labels == [shown["Conversion"] for shown in rows.values()]


def test_funnel_can_be_that_of_one_group(html, tables, open_report):
    champions = tables["metrics_funnel"].row(
        by_predicate=pl.col("value") == "Champions", named=True
    )
    with open_report(html, "funnel") as page:
        assert page.locator("#page-funnel .change:visible").count() == 6
        page.select_option("#page-funnel select", label="RFM segment: Champions")
        settle(page)
        assert card(page, "funnel", "sessions") == f"{champions['sessions']:,}"
        labels = bar_labels(page, "funnel-steps")
        assert labels[3].startswith(f"{champions['sessions_reached_purchase']:,} · ")
        assert page.locator("#page-funnel .change:visible").count() == 0


def test_segments_page_equals_the_tables(html, tables, open_report):
    users = overall(tables["metrics_user_segments"])
    grid = tables["metrics_rfm_grid"]
    with open_report(html, "segments") as page:
        assert card(page, "segments", "customers") == f"{users['customers']:,}"
        assert card(page, "segments", "purchaser_rate") == percent(users["purchaser_rate"])
        assert card(page, "segments", "avg_ltv") == money(users["avg_ltv"])
        rows = {row["Segment"]: row for row in shown_table(page, "segments", "RFM segments")}
        for row in tables["metrics_rfm_segments"].to_dicts():
            shown = rows[row["rfm_segment"]]
            assert shown["Customers"] == f"{row['customers']:,}"
            assert shown["Churn rate"] == percent(row["churn_rate"])
            value = row["avg_order_value"]
            assert shown["Average order value"] == ("–" if value is None else money(value))
        cells = bar_labels(page, "map-customers")
        best = grid.row(
            by_predicate=(pl.col("recency_score") == 5) & (pl.col("frequency_score") == 5),
            named=True,
        )
        assert len(cells) == 25
        assert cells[4] == f"{best['customers']:,}"


def test_category_filter_changes_the_whole_page(html, tables, open_report):
    categories = tables["metrics_categories"]
    chosen = categories.row(
        by_predicate=(pl.col("level") == 1) & (pl.col("category_lvl_1") == "computers"), named=True
    )
    below = categories.filter(pl.col("level") == 2, pl.col("category_lvl_1") == "computers").sort(
        "revenue", descending=True
    )
    charts = [
        "category-revenue",
        "subcategory-revenue",
        "category-cart_add_rate",
        "category-purchase_rate",
        "category-avg_views_per_session",
        "category-segments",
    ]
    with open_report(html, "categories") as page:
        before = {chart: page.inner_html(f"[data-chart={chart}]") for chart in charts}
        sentences = {chart: page.inner_text(f"#sentence-{chart}") for chart in charts}
        page.select_option("#page-categories select", label="computers")
        settle(page)
        for chart in charts:
            assert page.inner_html(f"[data-chart={chart}]") != before[chart]
            assert page.inner_text(f"#sentence-{chart}") != sentences[chart]
        assert card(page, "categories", "revenue") == money(chosen["revenue"])
        assert card(page, "categories", "purchases") == f"{chosen['purchases']:,}"
        assert card(page, "categories", "purchase_rate") == percent(chosen["purchase_rate"])
        assert page.inner_text("#page-categories .lead").startswith("computers: number 3 of 14")
        rows = shown_table(page, "categories", "Figures by category")
        assert {row["Category"] for row in rows} == {"computers"}
        assert [row["Revenue"] for row in rows] == [
            money(value) for value in [chosen["revenue"], *below["revenue"]]
        ]
        axis = chart_texts(page, "subcategory-revenue")[: below.height]
        assert axis == below["category_lvl_2"].to_list()
        names = chart_texts(page, "category-segments")
        assert "computers" in names
        assert "electronics" not in names

        page.select_option("#page-categories select", label="All categories")
        settle(page)
        assert {c: page.inner_text(f"#sentence-{c}") for c in charts} == sentences
        assert len(shown_table(page, "categories", "Figures by category")) == categories.height


def choose(page, figure, *names):
    for name in names:
        page.click(f"#figure-{figure} .segmented button:text-is('{name}')")
    settle(page)


def test_growth_of_customers_equals_the_table(html, tables, open_report):
    months = tables["metrics_lifecycle"].filter(pl.col("period") == "month").sort("period_start")
    with open_report(html, "customers") as page:
        for name, activity, noun in (
            ("Purchases", "purchase", "customers"),
            ("Visits", "visit", "visitors"),
        ):
            choose(page, "growth", name)
            expected = months.filter(pl.col("activity") == activity)
            rows = shown_table(page, "customers", "Growth by month")
            for column, field in (("New", "new_users"), ("Dormant", "dormant_users")):
                assert [row[column] for row in rows] == [f"{v:,}" for v in expected[field]]
            users = f"{expected['active_users'][-1]:,} {noun}"
            assert f"Nov 2019: {users}, " in page.inner_text("#sentence-growth")
        latest = months.filter(pl.col("activity") == "purchase").row(-1, named=True)
        assert card(page, "customers", "active_users") == f"{latest['active_users']:,}"
        assert card(page, "customers", "retention_rate") == percent(latest["retention_rate"])


def test_hovering_a_day_names_all_windows(html, tables, open_report):
    active = tables["metrics_active_users"].filter(pl.col("activity") == "purchase")
    days = {f"{row['event_date']:%-d %b %Y}": row for row in active.to_dicts()}
    with open_report(html, "customers") as page:
        page.hover("[data-chart=active-users] svg", position={"x": 900, "y": 100})
        shown = page.locator("#vg-tooltip-element td").all_inner_texts()
        row = days[shown[1]]
        assert shown[2:] == [
            "That day",
            f"{row['daily_users']:,}",
            "Within 7 days",
            f"{row['weekly_users']:,}",
            "Within 28 days",
            f"{row['monthly_users']:,}",
        ]


@pytest.mark.parametrize(
    ("names", "keys"),
    [
        (("Purchases", "Months", "Users"), ("purchase", "month", "retention_rate")),
        (("Purchases", "Weeks", "Revenue"), ("purchase", "week", "revenue_retention_rate")),
        (("Visits", "Weeks", "Users"), ("visit", "week", "retention_rate")),
        (("Visits", "Months", "Revenue"), ("visit", "month", "revenue_retention_rate")),
    ],
)
def test_the_triangle_has_the_rates_that_are_known(names, keys, open_report):
    activity, period, rate = keys
    tables = build_tables(users=400, days=75)  # the last month and week are incomplete
    known = tables["metrics_cohort_retention"].filter(
        pl.col("cohort_by") == f"first_{activity}",
        pl.col("activity") == activity,
        pl.col("method") == "calendar",
        pl.col("period") == period,
    )
    known = known.sort("cohort_start", "period_number", nulls_last=False)
    with open_report(render_report(tables), "customers") as page:
        choose(page, "retention", *names)
        rows = shown_table(page, "customers", "Retention by cohort")
        assert len(rows) == known.height
        assert known[rate].null_count() > 0
        cells = bar_labels(page, "retention")
        assert cells == [f"{round(100 * value)}%" for value in known[rate].drop_nulls()]
        title = f"{names[1]} since the first {activity}"
        assert title in chart_texts(page, "retention")


def test_the_second_purchase_equals_the_table(open_report):
    tables = build_tables(users=900, days=120)
    repeat = tables["metrics_repeat_purchase"].filter(pl.col("purchase_number") == 2)
    over_all = repeat.row(by_predicate=pl.col("cohort_start").is_null(), named=True)
    with open_report(render_report(tables), "customers") as page:
        rows = shown_table(page, "customers", "The second purchase by month of the first")
        assert len(rows) == repeat.height
        assert rows[0]["Customers"] == f"{over_all['at_risk']:,}"
        known = [days for days in (30, 60, 90, 180) if over_all[f"eligible_{days}"]]
        labels = bar_labels(page, "repurchase-windows")
        assert labels == [percent(over_all[f"repurchase_rate_{days}"]) for days in known]
        assert 180 not in known
        details = page.inner_text("#figure-second-purchase .details")
        assert f"{over_all['median_days']} days" in details


def test_areas_change_with_their_grouping(html, tables, open_report):
    segments = tables["metrics_segment_history"]
    with open_report(html, "history") as page:
        for name, dimension in (("Activity status", "activity_status"), ("RFM segment", None)):
            choose(page, "segment-history", name)
            own = segments.filter(pl.col("dimension") == (dimension or "rfm_segment"))
            rows = shown_table(page, "history", "Customers and revenue by snapshot")
            assert len(rows) == own.height
            assert {row["Group"] for row in rows} == set(own["value"])
            bought = set(own["value"]) - {"prospect", "No RFM Score"}
            legend = page.locator("#figure-segment-history .legend").first.locator("span")
            assert legend.count() == len(bought)
            areas = page.locator("[data-chart=history-customers] .mark-area path")
            assert areas.count() == len(bought)


def test_the_matrix_is_that_of_the_chosen_month(open_report):
    tables = build_tables(users=900, days=120)
    moves = tables["metrics_segment_migration"].filter(pl.col("period") == "month")
    with open_report(render_report(tables), "history") as page:
        for month, day in (("Dec 2019", "2019-12-31"), ("Nov 2019", "2019-11-30")):
            for name, dimension in (
                ("Activity status", "activity_status"),
                ("RFM segment", "rfm_segment"),
            ):
                page.select_option("#figure-migration select", label=month)
                choose(page, "migration", name)
                own = moves.filter(
                    pl.col("dimension") == dimension,
                    pl.col("snapshot_date").cast(pl.String) == day,
                )
                rows = shown_table(page, "history", "Moves by month, most customers first")
                shown = {(row["From"], row["To"]): row["Customers"] for row in rows}
                assert shown == {
                    (source, target): f"{customers:,}"
                    for source, target, customers in own.select(
                        "from_value", "to_value", "customers"
                    ).iter_rows()
                }
                cells = sorted(bar_labels(page, "migration"))
                assert cells == sorted(f"{customers:,}" for customers in own["customers"])
                assert f"{int(day[-2:])} {month}" in page.inner_text("#sentence-migration")


def test_columns_side_by_side_are_those_of_the_chosen_model(html, tables, open_report):
    validation = tables["metrics_clv_validation"].row(by_predicate=pl.col("selected"), named=True)
    deciles = tables["metrics_clv_deciles"].sort("decile")
    with open_report(html, "prediction") as page:
        expected = f"{validation['predicted_purchases']:,.0f}"
        assert card(page, "prediction", "predicted_purchases") == expected
        for name, model in (("Past rate", "past_rate"), ("MBG/NBD", "mbg_nbd")):
            choose(page, "prediction-deciles", name)
            own = deciles.filter(pl.col("model") == model)
            rows = shown_table(page, "prediction", "The test by decile")
            assert [row["Purchases predicted"] for row in rows] == [
                money(value) for value in own["predicted_purchases"]
            ]
            heights = page.locator("[data-chart=deciles-purchases] .mark-rect path").evaluate_all(
                "paths => paths.map(path => path.getBBox().height)"
            )[: 2 * own.height]
            amounts = [
                value
                for pair in own.select("predicted_purchases", "actual_purchases").iter_rows()
                for value in pair
            ]
            scale = max(heights) / max(amounts)
            assert heights == pytest.approx([value * scale for value in amounts], abs=0.5)


def test_tables_sort_by_number_and_back(html, open_report):
    with open_report(html, "funnel") as page:
        header = page.locator("#page-funnel th", has_text="Bounce rate")

        def column():
            return [
                float(row["Bounce rate"].rstrip("%"))
                for row in shown_table(page, "funnel", "Figures by group")
            ]

        unsorted = column()
        header.get_by_role("button").click()
        assert header.get_attribute("aria-sort") == "descending"
        assert column() == sorted(unsorted, reverse=True)
        header.get_by_role("button").press("Enter")
        assert header.get_attribute("aria-sort") == "ascending"
        assert column() == sorted(unsorted)
        page.locator("#page-funnel th", has_text="Grouping").get_by_role("button").click()
        assert header.get_attribute("aria-sort") is None
        names = [row["Grouping"] for row in shown_table(page, "funnel", "Figures by group")]
        assert names == sorted(names)


def test_missing_values_sort_last_in_both_orders(html, open_report):
    with open_report(html, "segments") as page:
        page.locator("#page-segments summary", has_text="RFM segments").click()
        header = page.locator("#page-segments th", has_text="Average order value").nth(1)
        for _ in range(2):
            header.get_by_role("button").click()
            rows = shown_table(page, "segments", "RFM segments")
            assert rows[-1]["Average order value"] == "–"
            assert rows[-2]["Average order value"] != "–"


def test_tabs_by_keyboard(html, open_report):
    with open_report(html) as page:

        def state():
            return (
                page.locator("[role=tab][aria-selected=true]").all_inner_texts(),
                page.evaluate("document.activeElement.textContent"),
                [name for name in PAGES if page.locator(f"#page-{name}").is_visible()],
                page.evaluate("location.hash"),
            )

        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Tab")
        for key, title, name in [
            ("ArrowRight", "Customers over time", "customers"),
            ("ArrowRight", "Conversion funnel", "funnel"),
            ("End", "Product categories", "categories"),
            ("ArrowRight", "Overview", "overview"),
            ("ArrowLeft", "Product categories", "categories"),
            ("Home", "Overview", "overview"),
        ]:
            page.keyboard.press(key)
            assert state() == ([title], title, [name], f"#{name}")
        assert page.locator("[role=tab][tabindex='0']").count() == 1
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"


@pytest.mark.parametrize("name", PAGES)
def test_address_opens_a_page_at_its_top(name, html, open_report):
    with open_report(html, name) as page:
        assert [p for p in PAGES if page.locator(f"#page-{p}").is_visible()] == [name]
        assert page.evaluate("scrollY") == 0


def test_downloads_are_the_tables(html, tables, open_report):
    with open_report(html, "categories") as page:
        with page.expect_download() as download:
            page.click("[data-csv=metrics_categories]")
        assert download.value.suggested_filename == "metrics_categories.csv"
        text = download.value.path().read_text("utf-8")
        rows = list(csv.DictReader(io.StringIO(text)))
        expected = tables["metrics_categories"]
        assert len(rows) == expected.height
        assert sum(Decimal(row["revenue"]) for row in rows) == expected["revenue"].sum()
        names = page.evaluate(
            "[...document.querySelectorAll('[data-csv]')].map(b => b.dataset.csv)"
        )
        assert sorted(names) == sorted(
            [
                "metrics_periods",
                "rows_read",
                "data_quality",
                "pipeline_runs",
                "metrics_funnel",
                "metrics_funnels-shop",
                "metrics_rfm_grid",
                "metrics_rfm_segments",
                "metrics_user_segments-customer_lifecycle_stage",
                "metrics_user_segments-activity_status",
                "metrics_churn",
                "metrics_categories",
                "metrics_category_rfm",
                "metrics_lifecycle",
                "metrics_active_users",
                "metrics_stickiness",
                "metrics_cohort_retention",
                "metrics_repeat_purchase",
                "metrics_segment_history",
                "metrics_segment_migration",
                "metrics_clv_validation",
                "metrics_clv_predictions",
                "metrics_clv_deciles",
                "metrics_clv_frequency",
            ]
        )


def test_names_from_the_input_stay_text(open_report):
    script = "<script>alert(1)</script>"
    names = {
        script: ["</script><img src=x onerror=alert(2)>", "=1+1"],
        "a'\"&b": [None],
        "__proto__": ["constructor"],
        "${alert(3)}": ["{{7*7}}"],
    }
    tables = build_tables(users=200, categories=names)
    funnel = tables["metrics_funnel"].with_columns(pl.col("value").replace({"Lost": script}))
    runs = tables["pipeline_runs"].with_columns(pl.lit(script).alias("code_version"))
    html = render_report(tables | {"metrics_funnel": funnel, "pipeline_runs": runs})
    with open_report(html, "categories") as page:
        shown = {row["Category"] for row in shown_table(page, "categories", "Figures by category")}
        assert shown == set(names)
        page.hover("[data-chart=category-revenue] .role-mark path >> nth=0")
        assert script in page.inner_text("#vg-tooltip-element")
        for name in names:
            page.select_option("#page-categories select", label=name)
            settle(page)
            assert page.inner_text("#page-categories .lead").startswith(f"{name}: number ")
        assert page.locator("main script, main img").count() == 0
        assert script in page.text_content("#page-overview .details")
        with page.expect_download() as download:
            page.click("[data-csv=metrics_categories]")
        assert ",'=1+1," in download.value.path().read_text("utf-8")


@pytest.mark.parametrize(
    "tables",
    [
        pytest.param(empty_tables(), id="no events"),
        pytest.param(build_tables(users=60, purchases=False), id="no purchases"),
        pytest.param(build_tables(users=60, days=1), id="one day"),
        pytest.param(build_tables(users=1, days=3), id="one user"),
        pytest.param(build_tables(users=60, price_factor=10**16), id="huge prices"),
        pytest.param(
            build_tables(
                users=1500,
                categories={f"category {n}": [f"s{m}" for m in range(4)] for n in range(500)},
            ),
            id="hundreds of categories",
        ),
    ],
)
def test_unusual_data_opens_on_desktop_and_phone(tables, open_report):
    html = render_report(tables)
    assert len(html.encode()) < 6_000_000
    for width in (1440, 390):
        with open_report(html, width=width) as page:
            names = page.evaluate(
                "[...document.querySelectorAll('.page')].map((page) => page.dataset.page)"
            )
            assert set(names) >= {"overview", "funnel", "segments", "categories"}
            for name in names:
                page.evaluate("name => { location.hash = name }", name)
                page.wait_for_selector(f"#page-{name}.shown")
                assert page.evaluate("document.documentElement.scrollWidth") == width
            assert "NaN" not in page.inner_text("main")
            assert "None" not in page.inner_text("main")


@pytest.mark.parametrize("width", [1440, 1000, 720, 390, 320])
def test_no_page_scrolls_sideways(width, html, open_report):
    with open_report(html, width=width) as page:
        for name in PAGES:
            page.evaluate("name => { location.hash = name }", name)
            page.wait_for_selector(f"#page-{name}.shown")
            assert page.evaluate("document.documentElement.scrollWidth") == width


def test_charts_follow_the_width_of_the_window(html, open_report):
    with open_report(html) as page:
        page.set_viewport_size({"width": 700, "height": 900})
        page.wait_for_function(
            """[...document.querySelectorAll('#page-overview .chart svg')].every((svg) =>
                Math.abs(svg.getBoundingClientRect().width
                    - svg.parentElement.getBoundingClientRect().width) < 2)"""
        )


CONTRAST = """() => {
    const channels = (colour) => {
        const context = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
        context.fillStyle = colour;
        context.fillRect(0, 0, 1, 1);
        return [...context.getImageData(0, 0, 1, 1).data];
    };
    const luminance = (colour) => {
        const [r, g, b] = channels(colour).slice(0, 3).map((c) => c / 255)
            .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (element) => {
        for (let e = element; e; e = e.parentElement) {
            const colour = getComputedStyle(e).backgroundColor;
            if (channels(colour)[3] === 255) return colour;
        }
        return "white";
    };
    const contrast = (a, b) => {
        const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
        return (high + 0.05) / (low + 0.05);
    };
    const found = [];
    const note = (element, colour, background) => {
        const ratio = contrast(colour, background);
        found.push([ratio, `${element.textContent.trim()}: ${colour} on ${background}`]);
    };
    for (const element of document.querySelectorAll(".shown *, .masthead *, footer *")) {
        if (element.closest("svg") || element.closest("[hidden]")) continue;
        const hasText = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
        if (hasText) note(element, getComputedStyle(element).color, behind(element));
    }
    for (const svg of document.querySelectorAll(".shown .chart svg")) {
        const cells = [...svg.querySelectorAll("path")].filter((p) => p.closest(".mark-rect"));
        for (const text of svg.querySelectorAll("text")) {
            if (!text.textContent) continue;
            const box = text.getBoundingClientRect();
            const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
            const cell = cells.find((c) => {
                const r = c.getBoundingClientRect();
                return r.left <= x && x <= r.right && r.top <= y && y <= r.bottom;
            });
            const background = cell ? getComputedStyle(cell).fill : behind(svg);
            note(text, getComputedStyle(text).fill, background);
        }
    }
    return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_all_text_has_enough_contrast(name, scheme, html, open_report):
    with open_report(html, name, scheme=scheme) as page:
        page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true })")
        measured = page.evaluate(CONTRAST)
    assert len(measured) > 100
    assert [text for ratio, text in measured if ratio < 4.5] == []


def test_dark_and_light_differ_in_charts_too(html, open_report):
    colours = {}
    for scheme in ("light", "dark"):
        with open_report(html, "segments", scheme=scheme) as page:
            colours[scheme] = page.evaluate(
                """[...document.querySelectorAll('[data-chart=map-customers] .mark-rect path')]
                    .map((path) => getComputedStyle(path).fill)"""
            )
    assert len(colours["light"]) == len(colours["dark"]) == 25
    assert not set(colours["light"]) & set(colours["dark"])


@pytest.mark.parametrize("name", PAGES)
def test_every_chart_has_a_name_and_a_sentence(name, html, open_report):
    with open_report(html, name) as page:
        charts = page.evaluate(
            """name => [...document.querySelectorAll(`#page-${name} [data-chart]`)].map((chart) => [
                chart.getAttribute("role"),
                chart.getAttribute("aria-label"),
                document.getElementById(chart.getAttribute("aria-describedby")).textContent,
                chart.hidden,
                chart.querySelectorAll("svg").length,
                [...chart.children].every((child) => child.ariaHidden === "true"),
            ])""",
            name,
        )
        assert charts
        assert not all(empty for _, _, _, empty, _, _ in charts)
        for role, label, sentence, empty, drawings, hidden in charts:
            assert role == "img"
            assert label
            assert sentence.endswith(".")
            assert drawings == (0 if empty else 1)
            assert hidden


def test_without_script_all_text_and_tables_show(html, tables, open_report):
    with open_report(html, script=False) as page:
        for name in PAGES:
            assert page.locator(f"#page-{name}").is_visible()
        assert page.locator("noscript").count() == 1
        assert page.locator(".choice:visible").count() == 0
        page.locator("summary", has_text="Figures by day and week").click()
        assert page.locator("td:visible", has_text=money(tables["metrics_periods"]["revenue"][0]))


def test_print_has_all_pages_in_light_colours(html, open_report):
    with open_report(html, scheme="dark") as page:
        page.emulate_media(media="print", color_scheme="dark")
        for name in PAGES:
            assert page.locator(f"#page-{name}").is_visible()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == (
            "rgb(255, 255, 255)"
        )
        assert not page.locator("[role=tablist]").is_visible()
        document = page.pdf(format="A4")
        assert document.count(b"/Type /Page\n") >= len(PAGES)


def test_strict_policy_and_size(html, open_report):
    assert len(html.encode()) < 6_000_000
    with open_report(html) as page:
        policy = page.get_attribute("meta[http-equiv=Content-Security-Policy]", "content")
        assert policy.startswith("default-src 'none'; script-src 'sha256-")
        assert "unsafe" not in policy
