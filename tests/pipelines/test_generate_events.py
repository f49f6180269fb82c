"""The demo generator: its shape against REES46's figures, its determinism, its command line."""

import gzip
import hashlib
import os
import pty
import signal
import subprocess
import sys
import time
import uuid
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from pipelines import generate_events
from pipelines.generate_events import Plan

ROWS = 300_000
# Of the file of 300,000 rows and seed 2. It changes only with a constant of the shape; where it
# differs between machines or versions, the promise of equal bytes is broken.
DIGEST = "57a4d44cd7db59ba3ae0c9aea469036761669f7624b5121020bc4bd298ef7bff"
COLUMNS = [
    "event_time",
    "event_type",
    "product_id",
    "category_id",
    "category_code",
    "brand",
    "price",
    "user_id",
    "user_session",
]
EVENT_KEY = ["event_time", "event_type", "product_id", "user_id", "user_session"]
SESSIONS_BY_HOUR = [
    *(161, 318, 620, 899, 1141, 1268, 1333, 1360, 1406, 1373, 1336, 1298),
    *(1283, 1369, 1464, 1474, 1392, 1233, 927, 597, 342, 198, 122, 100),
]


def read_events(path: Path) -> pl.DataFrame:
    return pl.read_csv(path, schema_overrides={"price": pl.Decimal(18, 2)}).with_columns(
        time=pl.col("event_time").str.to_datetime("%Y-%m-%d %H:%M:%S UTC", time_zone="UTC")
    )


def generated(rows: int, seed: int) -> pl.DataFrame:
    frames = generate_events.events_in_order(Plan(rows, seed))
    return pl.concat([generate_events.csv_columns(frame) for frame in frames])


@pytest.fixture(scope="module")
def csv_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("events") / "events.csv"
    assert generate_events.main(["--rows", str(ROWS), "--seed", "2", "--output", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def events(csv_file) -> pl.DataFrame:
    return read_events(csv_file)


@pytest.fixture(scope="module")
def sessions(events) -> pl.DataFrame:
    kind = pl.col("event_type")
    return events.group_by("user_session").agg(
        pl.len().alias("events"),
        pl.col("time").min().alias("start"),
        pl.col("user_id").first(),
        (kind == "purchase").any().alias("buys"),
        (kind == "cart").any().alias("has_cart"),
        pl.col("time").sort().diff().dt.total_seconds().alias("gaps"),
    )


def shares(values: pl.Series) -> dict[str, float]:
    return dict(values.value_counts(normalize=True).iter_rows())


# --- The file -------------------------------------------------------------------------------------


def test_equal_bytes_on_every_machine(csv_file):
    assert hashlib.sha256(csv_file.read_bytes()).hexdigest() == DIGEST


def test_equal_bytes_whatever_the_process_and_its_threads(tmp_path):
    texts = []
    for threads in ("1", "3"):
        path = tmp_path / f"{threads}.csv"
        arguments = ["--rows", "5000", "--seed", "9", "--output", str(path)]
        subprocess.run(
            [sys.executable, "-m", "pipelines.generate_events", *arguments],
            env=os.environ | {"POLARS_MAX_THREADS": threads, "PYTHONHASHSEED": threads},
            check=True,
            capture_output=True,
        )
        texts.append(path.read_bytes())
    assert texts[0] == texts[1]


def test_compressed_files_hold_the_same_text(tmp_path):
    paths = [tmp_path / f"events.csv{suffix}" for suffix in ("", ".gz", ".zst")]
    for path in paths:
        assert generate_events.main(["--rows", "5000", "--output", str(path)]) == 0
    plain, gz, zst = (path.read_bytes() for path in paths)
    assert gzip.decompress(gz) == plain
    assert zstandard.ZstdDecompressor().decompressobj().decompress(zst) == plain


def test_format_of_the_rows(csv_file, events):
    lines = csv_file.read_text("ascii").splitlines()
    assert lines[0] == ",".join(COLUMNS)
    row = (
        r"^20(19|20)-\d\d-\d\d \d\d:\d\d:\d\d UTC,(view|cart|remove_from_cart|purchase),"
        r"\d{7,8},\d{19},([a-z_]+(\.[a-z_]+)+)?,[a-z]*,\d+\.\d\d,\d{9},"
        r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"
    )
    wrong = pl.Series(lines[1:]).filter(~pl.Series(lines[1:]).str.contains(row))
    assert wrong.to_list() == []
    assert events.height == ROWS


def test_rows_are_in_order_of_time_over_seven_months(events):
    assert events["time"].is_sorted()
    assert events["time"][0].date() == date(2019, 10, 1)
    assert events["time"][-1].date() == date(2020, 4, 30)


@settings(deadline=None, max_examples=30)
@given(rows=st.integers(1, 3000), seed=st.integers(0, 2**70))
def test_any_number_of_rows_is_met_exactly(rows, seed):
    events = generated(rows, seed)
    assert events.height == rows
    assert events.columns == COLUMNS
    assert events["event_time"].is_sorted()
    assert events["event_time"].min() >= "2019-10-01 00:00:00 UTC"
    assert events["event_time"].max() <= "2020-04-30 23:59:59 UTC"
    assert_frame_equal(events, generated(rows, seed))


def test_memory_holds_a_slice_whatever_the_number_of_rows():
    rows = 2_000_000
    frames = list(generate_events.events_in_order(Plan(rows, 5)))
    assert len(frames) == 8
    assert sum(frame.height for frame in frames) == rows
    assert max(frame.height for frame in frames) < 1.1 * generate_events.SLICE_EVENTS
    assert pl.concat([frame["seconds"] for frame in frames]).is_sorted()


# --- The shape of REES46 --------------------------------------------------------------------------


def test_event_types_of_october(events):
    october = shares(
        events.filter(pl.col("time") < datetime(2019, 11, 1, tzinfo=UTC))["event_type"]
    )
    assert october == {
        "view": pytest.approx(0.96, abs=0.004),
        "cart": pytest.approx(0.022, abs=0.002),
        "purchase": pytest.approx(0.0175, abs=0.0025),
    }


def test_later_months_have_more_carts_and_some_removals(events):
    november = events.filter(
        pl.col("time").is_between(
            datetime(2019, 11, 2, tzinfo=UTC), datetime(2019, 12, 1, tzinfo=UTC)
        )
    )
    assert set(november["event_type"].unique()) == {"view", "cart", "purchase"}
    assert shares(november["event_type"])["cart"] > 0.035
    later = shares(events.filter(pl.col("time") >= datetime(2019, 12, 2, tzinfo=UTC))["event_type"])
    assert later["cart"] > 0.035
    assert later["purchase"] == pytest.approx(0.0175, abs=0.003)
    assert later["remove_from_cart"] == pytest.approx(0.0013, abs=0.0005)


def test_events_per_session(sessions):
    events = sessions["events"]
    assert events.mean() == pytest.approx(4.6, abs=0.15)
    assert events.median() == 2
    assert (events == 1).mean() == pytest.approx(0.41, abs=0.01)
    assert events.max() > 500  # above 1,000 among the millions of sessions of a large file
    assert generate_events.quantile_table(generate_events.VISIT_EVENTS).max() > 1000


def test_gaps_within_a_session(sessions):
    gaps = sessions["gaps"].explode(empty_as_null=False, keep_nulls=False).drop_nulls()
    gaps = gaps.filter(gaps <= 3600)
    quantiles = [gaps.quantile(share) for share in (0.05, 0.25, 0.5, 0.75, 0.9, 0.99)]
    assert quantiles == pytest.approx([8, 19, 34, 65, 119, 433], rel=0.1)


def test_sessions_are_reused_after_hours_to_months(sessions):
    longest = sessions["gaps"].list.max()
    reused = longest.filter(longest > 3600)
    assert len(reused) / sessions.height == pytest.approx(0.022, abs=0.002)
    assert reused.median() > 6 * 3600
    assert reused.max() > 90 * 86_400


def test_a_session_belongs_to_one_user(events):
    users = events.group_by("user_session").agg(pl.col("user_id").n_unique())
    assert users["user_id"].max() == 1


def test_sessions_per_user(sessions):
    start_of_december = datetime(2019, 12, 1, tzinfo=UTC)
    first_months = sessions.filter(pl.col("start") < start_of_december)
    assert first_months.height / first_months["user_id"].n_unique() == pytest.approx(4.4, abs=0.2)
    per_user = sessions["user_id"].value_counts()["count"]
    assert per_user.mean() == pytest.approx(89 / 15, abs=0.2)
    assert per_user.median() <= 3
    assert per_user.max() > 200


def test_buyers(events, sessions):
    assert sessions.filter("buys")["user_id"].n_unique() / sessions[
        "user_id"
    ].n_unique() == pytest.approx(0.13, abs=0.01)
    assert 1 - sessions.filter("buys")["has_cart"].mean() == pytest.approx(0.68, abs=0.02)


def test_purchases_spike_on_17_november(events):
    november = events.filter(pl.col("time").dt.month() == 11, event_type="purchase")
    per_day = november.group_by(pl.col("time").dt.day().alias("day")).len()
    other_days = per_day.filter(pl.col("day") != 17)["len"].mean()
    assert per_day.filter(day=17)["len"].item() / other_days == pytest.approx(7, abs=1)


def test_sessions_by_hour(sessions):
    hours = sessions.group_by(pl.col("start").dt.hour().alias("hour")).len().sort("hour")
    measured = (hours["len"] / sessions.height).to_list()
    expected = [weight / sum(SESSIONS_BY_HOUR) for weight in SESSIONS_BY_HOUR]
    assert measured == pytest.approx(expected, abs=0.003)


def test_duplicates(events):
    duplicates = ROWS - events.select(EVENT_KEY).unique().height
    assert duplicates / ROWS == pytest.approx(0.001, abs=0.0002)
    assert ROWS - events.unique().height == duplicates  # exact copies


def test_nulls(events):
    assert events["brand"].null_count() / ROWS == pytest.approx(0.14, abs=0.01)
    assert events["category_code"].null_count() / ROWS == pytest.approx(0.32, abs=0.01)
    assert events["user_session"].null_count() == 0  # one in ten million


def test_some_sessions_are_lost(monkeypatch):
    monkeypatch.setattr(generate_events, "NULL_SESSIONS", 0.01)
    events = generated(100_000, 1)
    assert events["user_session"].null_count() / events.height == pytest.approx(0.01, abs=0.002)


def test_prices(events):
    prices = events["price"].cast(pl.Float64)
    quantiles = [prices.quantile(share) for share in (0.25, 0.5, 0.75, 0.95)]
    assert quantiles == pytest.approx([68, 164, 361, 1007], rel=0.07)
    assert 0 < (prices == 0).mean() < 0.002


def test_top_products(events):
    per_product = events["product_id"].value_counts(sort=True)["count"]
    assert per_product[0] / ROWS == pytest.approx(0.011, abs=0.001)
    catalogue = generate_events.catalogue()
    assert len(catalogue.product_ids) == 386_000
    places = np.sort(np.bincount(catalogue.shelf))[::-1]
    best = events.filter(
        pl.col("product_id").is_in(
            pl.Series(
                catalogue.product_ids[np.bincount(catalogue.shelf) >= places[3_859]]
            ).implode()
        )
    )
    assert places[:3_860].sum() / places.sum() == pytest.approx(0.17, abs=0.001)
    assert best.height / ROWS == pytest.approx(0.17, abs=0.02)


# --- One shop -------------------------------------------------------------------------------------


def test_files_of_different_seeds_make_one_shop(events):
    other = generated(ROWS, 3)
    product = ["product_id", "category_id", "category_code"]
    products = pl.concat([events.select(product), other.select(product)]).unique()
    assert products["product_id"].is_unique().all()
    codes = products.select("category_id", "category_code").unique()
    assert codes["category_id"].is_unique().all()

    def prices(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.group_by("product_id").agg(pl.col("price").cast(pl.Float64).mean())

    both = prices(events).join(prices(other), on="product_id")
    assert ((both["price"] - both["price_right"]).abs() <= 0.05 * both["price"]).all()

    users, other_users = (set(frame["user_id"].unique()) for frame in (events, other))
    assert len(users & other_users) / len(users) > 0.5
    assert not set(events["user_session"].unique()) & set(other["user_session"].unique())


def test_files_of_different_length_share_no_session():
    short, long = (set(generated(rows, 1)["user_session"]) for rows in (1000, 1001))
    assert not short & long


def test_a_handful_of_products_changes_the_brand_once(events):
    brands = (
        events.drop_nulls("brand")
        .group_by("product_id", "brand")
        .agg(pl.col("time").min().alias("first"), pl.col("time").max().alias("last"))
        .filter(pl.len().over("product_id") > 1)
        .sort("product_id", "first")
    )
    assert brands["product_id"].n_unique() == 5
    before, after = brands.gather_every(2), brands.gather_every(2, 1)
    assert (before["last"] < datetime(2020, 1, 15, tzinfo=UTC)).all()
    assert (after["first"] >= datetime(2020, 1, 15, tzinfo=UTC)).all()


# --- Parts ----------------------------------------------------------------------------------------


def test_interpolate_takes_the_value_after_a_jump():
    xs, ys = np.array([0.0, 1.0, 1.0, 3.0]), np.array([0.0, 10.0, 20.0, 30.0])
    at = np.array([0.0, 0.5, 1.0, 2.0, 3.0])
    assert generate_events.interpolate(at, xs, ys).tolist() == [0, 5, 20, 25, 30]


def test_calendar_goes_there_and_back():
    seconds = np.arange(0, generate_events.PERIOD, 977)
    calendar = generate_events.calendar()
    there_and_back = calendar.seconds_at(calendar.shares_at(seconds))
    assert np.abs(there_and_back - seconds).max() <= 1


def test_sessions_have_random_uuids():
    texts = generate_events.session_ids(Plan(10, 1), np.arange(10_000))
    assert texts.is_unique().all()
    assert {uuid.UUID(text).version for text in texts} == {4}
    assert {uuid.UUID(text).variant for text in texts} == {uuid.RFC_4122}


@settings(deadline=None, max_examples=50)
@given(events=st.integers(1, 20_000), seed=st.integers(0, 1000))
def test_visit_sizes_add_up(events, seed):
    sizes = generate_events.visit_sizes(np.random.PCG64(seed), events)
    assert sizes.sum() == events
    assert sizes.min() >= 1


def test_brand_names_differ():
    names = generate_events.brand_names()
    assert len(set(names)) == len(names) == 4300


# --- The command ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--rows": "0"}, "--rows: '0' is not a whole number of at least 1"),
        ({"--rows": "1.5"}, "--rows: '1.5' is not a whole number"),
        ({"--seed": "-1"}, "--seed: '-1' is not a whole number"),
        ({"--output": "events.txt"}, "'events.txt' does not end in .csv, .csv.gz, .csv.zst"),
        ({"--output": "nowhere/events.csv"}, "there is no directory 'nowhere'"),
        ({"--output": "folder.csv"}, "'folder.csv' is a directory"),
        ({"--output": "x" * 300 + ".csv"}, "ame too long"),
        ({"--row": "5"}, "unrecognized arguments: --row=5"),
    ],
)
def test_a_wrong_command_says_why_in_one_line(changes, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("folder.csv").mkdir()
    options = {"--rows": "10", "--seed": "1", "--output": "events.csv"} | changes
    with pytest.raises(SystemExit, match="2"):
        generate_events.main([f"{name}={value}" for name, value in options.items()])
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["folder.csv"]


def test_a_summary_line_closes_the_run(tmp_path, capsys):
    path = tmp_path / "events.csv.gz"
    assert generate_events.main(["--rows", "1000", "--seed", "3", "--output", str(path)]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""  # not a terminal: no progress
    assert printed.out.count("\n") == 1
    assert printed.out.startswith(f"{path}: 1,000 rows, ")


def test_a_file_that_cannot_be_written_fails_the_run(tmp_path, capsys):
    path = tmp_path / ("x" * 245 + ".csv")  # fits, but the temporary name beside it does not
    assert generate_events.main(["--rows", "10", "--output", str(path)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert "cannot write" in printed.err
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "events.csv"
    path.write_text("old")

    def fail_halfway() -> None:
        with generate_events.new_file(path) as file:
            file.write(b"new")
            raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        fail_halfway()
    assert [path.read_text()] == ["old"]
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_run_leaves_nothing(tmp_path):
    command = [sys.executable, "-m", "pipelines.generate_events", "--rows", "2000000000"]
    process = subprocess.Popen(
        [*command, "--output", str(tmp_path / "events.csv")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not list(tmp_path.iterdir()):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (1, "")
    assert errors == "generate_events: interrupted, nothing written\n"
    assert list(tmp_path.iterdir()) == []


def test_a_terminal_sees_progress(tmp_path):
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        subprocess.run(
            [
                *(sys.executable, "-m", "pipelines.generate_events", "--rows", "5000"),
                *("--output", str(tmp_path / "events.csv")),
            ],
            stderr=theirs,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        os.close(theirs)
        assert b"5,000 of 5,000 rows" in terminal.read(10_000)
