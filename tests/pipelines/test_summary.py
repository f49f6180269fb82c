"""What a person reads when a run is done."""

import re
import subprocess
from dataclasses import replace
from functools import wraps

import pytest

from pipelines import customer_analytics
from pipelines.metrics import Totals
from pipelines.options import parse_arguments
from pipelines.summary import summarize
from tests.oracle.grammar import COLUMNS
from tests.oracle.strategies import GOOD_ROW
from tests.pipelines.running import arguments, last_run, published
from transforms.schema import REJECT_REASONS
from transforms.shuffle.stores import InlineStore
from transforms.steps import plan
from transforms.steps.parse import ParseRanges
from transforms.steps.users import CombineUsers

HEADER = ",".join(COLUMNS)
GOOD_LINE = ",".join(GOOD_ROW)


EXPECTED = {
    "rows read": "13",
    "kept": "9",
    "dropped, after as of": "0",
    "dropped, duplicate": "2",
    "dropped, multi brand product": "0",
    "dropped, missing session": "1",
    "rejected": "1 malformed_row 1",
    "sessions": "7",
    "users": "2 as of 2019-10-01",
    "conversion": "14.29% 2 purchases",
    "revenue": "261.52",
    "churn": "unknown 0 of 0 customers whose cohort is complete",
}
COUNTED = {
    "rows_read": 13,
    "events_kept": 9,
    "rows_dropped_after_as_of": 0,
    "rows_dropped_duplicate": 2,
    "rows_dropped_multi_brand_product": 0,
    "rows_dropped_missing_session": 1,
    "rows_rejected": 1,
    **{f"rows_rejected_{reason}": int(reason == "malformed_row") for reason in REJECT_REASONS},
    "sessions": 7,
    "users": 2,
}
"""The same by the names of the metrics."""

TOTALS = Totals(COUNTED, 1_234_000, 1500, 2_345_600_000, 61_200)


def figures(text):
    """The values of a summary, by title."""
    lines = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]
    return {title: " ".join(parts) for title, *parts in lines}


def difference(text):
    """What a summary says of an engine that counted otherwise."""
    return [line.strip() for line in text.splitlines() if "the engine counted" in line]


def assert_summary_of(text, tables, *, may_lose_counts=False):
    """The engine's metrics are all there, and its counts are those of the tables of a first run.

    Where an engine may lose counts, those shown are the published ones, and the summary says so.
    """
    values, row = figures(text), last_run(tables)
    counts = {
        "rows read": row["rows_read"],
        "kept": tables["fct_events"].num_rows,
        "dropped, after as of": row["after_as_of_rows"],
        "dropped, duplicate": row["duplicate_rows"],
        "dropped, multi brand product": row["multi_brand_product_rows"],
        "dropped, missing session": row["missing_session_rows"],
        "rejected": tables["rejected_rows"].num_rows,
        "sessions": tables["fct_sessions"].num_rows,
        "users": tables["dim_users"].num_rows,
    }
    assert {title: int(values[title].split()[0].replace(",", "")) for title in counts} == counts
    lost = "because some of its counts were lost"
    assert [line for line in difference(text) if not (may_lose_counts and lost in line)] == []
    assert float(values["MB of CSV parsed"].split()[0]) > 0
    assert float(values["MB shuffled"].split()[0]) > 0


def run(files, output, **options):
    """Run the pipeline from its command line; return what it printed."""
    with pytest.MonkeyPatch.context() as patch:
        printed: list[str] = []
        patch.setattr("builtins.print", lambda text, **_: printed.append(text))
        assert customer_analytics.main(arguments(files, output, **options)) == 0
    return "\n".join(printed)


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    """Few rows."""
    rows = [GOOD_LINE] * 3
    rows += [
        GOOD_LINE.replace("view", "purchase").replace("00:00:00", f"00:0{n}:00") for n in (1, 2)
    ]
    rows += [GOOD_LINE.replace("541312140", "7").replace(GOOD_ROW[-1], f"s{n}") for n in range(6)]
    rows += [GOOD_LINE.replace("541312140", "8").replace(GOOD_ROW[-1], ""), "bad"]
    path = tmp_path_factory.mktemp("summary") / "a.csv"
    path.write_text("\n".join([HEADER, *rows]))
    return path


@pytest.fixture(scope="module")
def finished(events):
    """A run of them: its output, and what it printed."""
    output = events.parent / "w"
    return output, run([events], output)


@pytest.fixture
def summary(events, finished):
    """The summary of that run for metrics that a test makes up."""
    output, _ = finished
    options, _ = parse_arguments(arguments([events], output))
    run_id = last_run(published(output))["run_id"]
    return lambda totals: summarize(options, run_id, 1.5, totals)


def assert_figures(text):
    values = figures(text)
    assert {title: values[title] for title in EXPECTED} == EXPECTED


def test_the_summary_says_what_was_read_kept_and_found(finished):
    _, text = finished
    assert_figures(text)
    values = figures(text)
    assert float(values["seconds"]) > 0
    assert int(values["events per second"].replace(",", "")) > 0


def test_the_summary_says_what_work_was_done(finished):
    _, text = finished
    values = figures(text)
    assert re.fullmatch(r"0\.0 \d\.\d seconds of parsing, all workers", values["MB of CSV parsed"])
    assert re.fullmatch(
        r"0\.0 \d\.\d seconds of cutting and sending, all workers", values["MB shuffled"]
    )
    assert difference(text) == []


# Metrics ------------------------------------------------------------------------------------------


def test_the_work_is_that_of_the_metrics(summary):
    values = figures(summary(TOTALS))
    assert values["MB of CSV parsed"] == "1.2 1.5 seconds of parsing, all workers"
    assert values["MB shuffled"] == "2,345.6 61.2 seconds of cutting and sending, all workers"


def test_metrics_that_agree_with_the_tables_are_shown(summary):
    text = summary(TOTALS)
    assert_figures(text)
    assert difference(text) == []


def test_without_metrics_the_published_figures_are_shown(summary):
    text = summary(None)
    assert_figures(text)
    assert figures(text)["MB of CSV parsed"] == "unknown no metrics of the engine are at hand"
    assert "MB shuffled" not in text
    assert difference(text) == []


@pytest.mark.parametrize(
    ("otherwise", "said"),
    [
        (
            {"rows_read": 26, "users": 4},
            "26 rows read for 13 in the tables, because it repeated work",
        ),
        ({"sessions": 14}, "14 sessions for 7 in the tables, because it repeated work"),
        (
            {"rows_rejected_bad_price": 1000},
            "1,000 rows rejected bad price for 0 in the tables, because it repeated work",
        ),
        ({"users": 1}, "1 users for 2 in the tables, because some of its counts were lost"),
    ],
)
def test_where_metrics_differ_the_published_figures_are_shown(summary, otherwise, said):
    text = summary(replace(TOTALS, rows=COUNTED | otherwise))
    assert_figures(text)
    assert figures(text)["events per second"] == "9"
    assert difference(text) == [f"the engine counted {said}"]


def test_bundles_that_the_local_runner_repeats_are_counted_once(events, tmp_path):
    text = run([events], tmp_path, direct_runner_bundle_repeat=2)
    assert_figures(text)
    assert difference(text) == []


@pytest.mark.parametrize(
    ("step", "said"), [(ParseRanges, "26 rows read for 13"), (CombineUsers, "4 users for 2")]
)
def test_work_that_an_engine_counted_twice_is_said(events, tmp_path, monkeypatch, step, said):
    process = step.process

    @wraps(process)  # Beam reads from the signature which side inputs it takes
    def process_in_second_attempt(*arguments):
        for _ in process(*arguments):  # of an attempt whose outputs nobody gets
            pass
        yield from process(*arguments)

    monkeypatch.setattr(step, "process", process_in_second_attempt)
    # Frames travel inline on engines that repeat work; the local runner's are gone when read.
    monkeypatch.setattr(plan, "frame_store", lambda *_, **__: InlineStore())
    text = run([events], tmp_path)

    assert_figures(text)
    assert difference(text) == [
        f"the engine counted {said} in the tables, because it repeated work"
    ]


# The rest -----------------------------------------------------------------------------------------


def test_the_figures_of_the_summary_stand_below_each_other(finished):
    _, text = finished
    figures = [line for line in text.splitlines() if re.search(r"[a-z]  +[\d,.]+(%|   |$)", line)]
    ends = {re.search(r"  [\d,.]+%?(?=   |$)", line).end() for line in figures}
    assert len(figures) >= 10
    assert len(ends) == 1


def test_the_summary_names_where_everything_is(finished):
    output, text = finished
    assert f"{output}/TABLE/*.parquet, {output}/warehouse.duckdb" in text


def test_the_query_to_try_works(finished):
    output, text = finished
    command = next(line for line in text.splitlines() if line.startswith("  try")).split(None, 1)[1]
    shown = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)  # noqa: S602
    assert published(output)["metrics_rfm_segments"].num_rows == 2
    assert shown.stdout.count("Champions") + shown.stdout.count("No RFM Score") >= 1
    assert "rfm_segment" in shown.stdout
