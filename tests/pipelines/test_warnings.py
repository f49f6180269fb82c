"""Runs that succeed and yet have something to say: in data_quality, and in the summary."""

import pytest

from pipelines import customer_analytics
from tests.oracle.grammar import COLUMNS
from tests.oracle.strategies import GOOD_ROW
from tests.pipelines.running import arguments, published

GOOD = dict(zip(COLUMNS, GOOD_ROW, strict=True))


def line(**values: str) -> str:
    return ",".join((GOOD | values).values())


@pytest.fixture
def events(tmp_path):
    """1,500 sound rows, and odd ones."""
    rows = [line(user_session=f"s{n}") for n in range(1500)]
    rows += [line(event_time="2099-01-01 00:00:00 UTC", user_session="s")]
    rows += [line(user_session="NULL", user_id=str(n)) for n in range(2)]
    rows += [
        line(product_id="8", brand=brand, user_session=brand + "8")
        for brand in ("NaN", "null", "acme")
    ]
    rows += [
        line(product_id="9", brand=brand, user_session=brand + "9")
        for brand in ("acme", "bolt", "none")
    ]
    rows += [line(category_code=r"\N", user_id="2")]  # one in 1,500 is few
    path = tmp_path / "events.csv"
    path.write_text("\n".join([",".join(COLUMNS), *rows]))
    return path


def test_odd_dates_and_words_for_null_are_warned_of(events, tmp_path, capsys):
    output = tmp_path / "w"
    assert customer_analytics.main(arguments([events], output)) == 0
    failed = {
        (row["table_name"], row["check_name"]): (row["severity"], row["failing_rows"])
        for row in published(output)["data_quality"].to_pylist()
        if not row["passed"] and row["check_name"] != "missing_sessions"  # users of dropped rows
    }
    assert failed == {
        ("fct_events", "future_event"): ("warn", 1),
        ("fct_events", "isolated_date"): ("warn", 1),
        ("fct_events", "missing_days"): ("warn", 28_946),
        ("fct_events", "null_word_brand"): ("warn", 3),
        ("fct_events", "null_word_user_session"): ("warn", 2),
        ("dim_products", "null_word_second_brand"): ("warn", 1),
        ("model_clv", "status_ok"): ("warn", 4),  # too few customers for predictions
    }
    told = capsys.readouterr()
    assert "DeprecationWarning" not in told.err
    shown = [line.split() for line in told.out.splitlines() if "warning" in line]
    printed = {(words[3].rstrip(":"), words[4]): int(words[1].replace(",", "")) for words in shown}
    assert {check: printed[check] for check in failed} == {
        check: rows for check, (_, rows) in failed.items()
    }


def test_a_run_that_is_told_to_publishes_nothing_where_there_is_a_warning(tmp_path, capsys):
    path, output = tmp_path / "events.csv", tmp_path / "w"
    path.write_text("\n".join([",".join(COLUMNS), line()]))
    strict = {"without": "time,clv,selling", "max_age_days": 1, "fail_on_warnings": "true"}
    assert customer_analytics.main(arguments([path], output, **strict)) == 1
    shown = capsys.readouterr().err
    assert "nothing was published; the last good tables stay: fct_events: fresh (" in shown
    assert not list(output.glob("fct_events/*.parquet"))
    assert (
        customer_analytics.main(arguments([path], output, **strict | {"max_age_days": 36500})) == 0
    )
