"""Runs that are named again, and runs that keep little, into a local folder."""

from pathlib import Path

import pytest

from pipelines.customer_analytics import main
from tests.pipelines.running import arguments, published

HEADER = (
    "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session\n"
)
VIEW = "2019-10-01 00:00:{:02} UTC,view,1,1,,,5,1,abc\n"


@pytest.fixture
def events(tmp_path) -> Path:
    """Three events, and three copies of the last."""
    path = tmp_path / "events.csv"
    path.write_text(HEADER + "".join(map(VIEW.format, (1, 2, 3, 3, 3, 3))))
    return path


def test_a_published_run_says_so_and_refuses_another_input_or_options(events, tmp_path, capsys):
    output = tmp_path / "w"

    def again(**options) -> tuple[int, str]:
        code = main(arguments([events], output, run_id="first", **options))
        shown = capsys.readouterr()
        return code, shown.out + shown.err

    assert again()[0] == 0
    before = published(output)
    code, message = again()
    assert code == 0
    assert f"run first is already published in {output}; nothing was done" in message

    code, message = again(as_of="2020-01-01")
    assert code == 2
    assert "run first is already published, and was made with another --as_of" in message

    with events.open("a") as file:
        file.write(VIEW.format(4))
    code, message = again()
    assert code == 2
    assert "already published, and the files of --input, or this program, have changed" in message
    assert published(output) == before

    assert main(arguments([events], output, run_id="second")) == 0
    capsys.readouterr()
    code, message = again()
    assert code == 2
    assert "run first is already published, and was replaced by run second" in message


def test_a_run_that_keeps_nothing_leaves_the_good_state(events, tmp_path, capsys):
    output = tmp_path / "w"
    assert main(arguments([events], output)) == 0
    before = published(output)
    (empty := tmp_path / "empty.csv").write_text(HEADER)
    assert main(arguments([empty], output, allow_empty="false")) == 1
    assert "no event is left of 0 rows" in capsys.readouterr().err
    assert published(output) == before
    assert main(arguments([empty], output, allow_empty="true")) == 0
    assert published(output)["fct_events"].num_rows == 0


def test_failed_warnings_stand_in_the_summary(events, tmp_path, capsys):
    assert main(arguments([events], tmp_path / "w")) == 0
    assert "few_rows_dropped" not in capsys.readouterr().out
    assert main(arguments([events], tmp_path / "w", max_dropped_ratio=0.4)) == 0
    (line,) = (
        line
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("  warning") and "few_rows_dropped" in line
    )
    assert line.split()[:5] == ["warning", "3", "rows", "fct_events:", "few_rows_dropped"]
    checks = published(tmp_path / "w")["data_quality"].to_pylist()
    found = sorted(
        (row["failing_rows"], row["severity"], row["passed"])
        for row in checks
        if row["check_name"] == "few_rows_dropped"
    )
    assert found == [(0, "warn", True), (3, "warn", False)]
