"""What a person reads when a run is done."""

import re
import subprocess

import pytest

from pipelines import customer_analytics
from tests.oracle.grammar import COLUMNS
from tests.oracle.strategies import GOOD_ROW
from tests.pipelines.running import arguments, published

HEADER = ",".join(COLUMNS)
GOOD_LINE = ",".join(GOOD_ROW)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of few rows: its output, and what it printed."""
    folder = tmp_path_factory.mktemp("summary")
    rows = [GOOD_LINE] * 3
    rows += [
        GOOD_LINE.replace("view", "purchase").replace("00:00:00", f"00:0{n}:00") for n in (1, 2)
    ]
    rows += [GOOD_LINE.replace("541312140", "7").replace(GOOD_ROW[-1], f"s{n}") for n in range(6)]
    rows += [GOOD_LINE.replace("541312140", "8").replace(GOOD_ROW[-1], ""), "bad"]
    (folder / "a.csv").write_text("\n".join([HEADER, *rows]))
    with pytest.MonkeyPatch.context() as patch:
        printed: list[str] = []
        patch.setattr("builtins.print", lambda text, **_: printed.append(text))
        assert customer_analytics.main(arguments([folder / "a.csv"], folder / "w")) == 0
    return folder / "w", "\n".join(printed)


def test_the_summary_says_what_was_read_kept_and_found(finished):
    _, text = finished
    lines = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]
    values = {title: " ".join(parts) for title, *parts in lines}
    expected = {
        "rows read": "13",
        "kept": "9",
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
    assert {title: values[title] for title in expected} == expected
    assert float(values["seconds"]) > 0
    assert int(values["events per second"].replace(",", "")) > 0


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
