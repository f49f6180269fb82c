"""History, against the state of every user at every snapshot, told by plain Python."""

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.analytics import history as history_module
from transforms.analytics.history import (
    HistoryRules,
    broken_validity,
    outdated_versions,
    user_history,
)
from transforms.analytics.metrics.segment_history import (
    metrics_segment_history,
    miscounted_snapshots,
)
from transforms.analytics.metrics.segment_migration import broken_flows, metrics_segment_migration
from transforms.analytics.rfm import (
    purchase_states,
    rank_brackets,
    rank_candidates,
    rank_samples,
    rfm_table,
    score,
    scoring,
)
from transforms.analytics.snapshots import snapshots
from transforms.columnar import ntile
from transforms.columnar.money import MONEY
from transforms.rules import UserThresholds
from transforms.schema import LIFECYCLE_STAGE_UP_TO, SEGMENT_RULES

DAYS = {
    "user_id": pl.Int64(),
    "event_date": pl.Date(),
    "purchases": pl.Int64(),
    "orders": pl.Int64(),
    "revenue": MONEY,
}
START = date(2020, 1, 20)  # a Monday; a leap year
DEFAULT = UserThresholds()


@dataclass(frozen=True)
class Day:
    """What a user did on a day."""

    user: int
    date: date
    purchases: int = 0
    orders: int = 0
    revenue: Decimal = Decimal(0)


def visit(user: int, day: date) -> Day:
    return Day(user, day)


def buy(user: int, day: date, revenue: str = "1", purchases: int = 1, orders: int = 1) -> Day:
    return Day(user, day, purchases, orders, Decimal(revenue))


def frame(days: list[Day]) -> pl.DataFrame:
    rows = [(day.user, day.date, day.purchases, day.orders, day.revenue) for day in days]
    return pl.DataFrame(rows, DAYS, orient="row").sort("user_id", "event_date")


# The product ----------------------------------------------------------------------------------


def merged(parts):
    return {name: pl.concat([part[name] for part in parts]) for name in parts[0]}


@dataclass(frozen=True)
class Options:
    history: str = "week"
    as_of: date | None = None
    unit: str = "items"
    shards: int = 1
    thresholds: UserThresholds = DEFAULT


@dataclass(frozen=True)
class Made:
    """The tables, and what the checks want beside them."""

    rfm: pl.DataFrame
    status: pl.DataFrame
    segments: pl.DataFrame
    migration: pl.DataFrame
    scored: pl.DataFrame
    known: pl.DataFrame
    dates: pl.Series


def make(days: list[Day], options: Options) -> Made:
    first = min(day.date for day in days)
    last = options.as_of or max(day.date for day in days)
    seen = snapshots(first, last, options.history)
    shards = [
        frame([day for day in days if day.user % options.shards == shard])
        for shard in range(options.shards)
    ]
    states = [purchase_states(shard, seen.dates, options.unit) for shard in shards]
    samples = merged([rank_samples(state) for state in states])
    brackets = rank_brackets(samples)
    candidates = merged([rank_candidates(state, brackets) for state in states])
    found = scoring(samples, brackets, candidates)
    rules = HistoryRules(seen, found, options.thresholds, options.unit)
    out = merged([user_history(shard, rules) for shard in shards])
    scored = rfm_table(score(combined(days, options.unit), found))
    return Made(
        out["snap_user_rfm"],
        out["snap_user_status"],
        metrics_segment_history(out["segment_history"]),
        metrics_segment_migration(out["segment_migration"]),
        scored,
        out["known_users"],
        seen.kept,
    )


def combined(days: list[Day], unit: str) -> pl.DataFrame:
    """The users as `score` wants them."""
    bought = pl.col("purchases") > 0
    return (
        frame(days)
        .group_by("user_id")
        .agg(
            pl.col("event_date").filter(bought).max().alias("last_purchase_date"),
            pl.col("purchases").sum().alias("purchase_count"),
            pl.col("purchases" if unit == "items" else "orders").sum().alias("frequency"),
            pl.col("revenue").sum().alias("total_revenue"),
        )
        .with_columns(user=pl.col("user_id").cast(pl.String))
    )


# The same by plain Python ---------------------------------------------------------------------


@dataclass(frozen=True)
class State:
    status: str
    stage: str
    purchases: int
    orders: int
    ltv: Decimal | None
    scores: tuple[int, int, int] | None = None

    @property
    def segment(self) -> str:
        return "No RFM Score" if self.scores is None else segment_of(*self.scores)

    def value(self, dimension: str) -> str:
        return {
            "overall": "all",
            "rfm_segment": self.segment,
            "activity_status": self.status,
            "customer_lifecycle_stage": self.stage,
        }[dimension]


def segment_of(r: int, f: int, m: int) -> str:
    for rule in SEGMENT_RULES:
        ranges = (rule.recency, rule.frequency, rule.monetary)
        if all(low <= s <= high for s, (low, high) in zip((r, f, m), ranges, strict=True)):
            return rule.segment
    raise AssertionError


def tiles(ordered: list[int]) -> dict[int, int]:
    size, larger = divmod(len(ordered), 5)
    numbers = [tile for tile in range(1, 6) for _ in range(size + (tile <= larger))]
    return dict(zip(ordered, numbers, strict=True))


def states_at(days: list[Day], day: date, options: Options) -> dict[int, State]:
    """The state of each user at the end of a day."""
    of_user = defaultdict(list)
    for one in days:
        if one.date <= day:
            of_user[one.user].append(one)
    bought = {user: [d for d in own if d.purchases] for user, own in of_user.items()}
    buyers = [user for user, own in bought.items() if own]
    number = "purchases" if options.unit == "items" else "orders"
    count = {user: sum(getattr(d, number) for d in own) for user, own in bought.items()}
    total = {user: sum((d.revenue for d in own), Decimal(0)) for user, own in bought.items()}
    last = {user: max(d.date for d in bought[user]) for user in buyers}
    recency = tiles(sorted(buyers, key=lambda user: (last[user], str(user))))
    monetary = tiles(sorted(buyers, key=lambda user: (total[user], str(user))))
    found = {}
    for user, own in of_user.items():
        stage = next(
            name
            for name, bound in LIFECYCLE_STAGE_UP_TO.items()
            if bound is None or count[user] <= bound
        )
        if user not in last:
            found[user] = State("prospect", stage, 0, 0, None)
            continue
        fewer = sum(count[other] < count[user] for other in buyers)
        frequency = 1 + sum(5 * fewer >= t * max(1, len(buyers) - 1) for t in range(1, 5))
        since_purchase = (day - last[user]).days
        since_activity = (day - max(d.date for d in own)).days
        rules = options.thresholds
        if since_purchase > rules.churn_days and since_activity > rules.churn_days:
            status = "churned"
        elif since_purchase > rules.at_risk_days:
            status = "at_risk"
        elif since_purchase > rules.declining_days:
            status = "declining"
        else:
            status = "active"
        found[user] = State(
            status,
            stage,
            sum(d.purchases for d in own),
            sum(d.orders for d in own),
            total[user],
            (recency[user], frequency, monetary[user]),
        )
    return found


def is_month_end(day: date) -> bool:
    return (day + timedelta(days=1)).day == 1


def is_sunday(day: date) -> bool:
    return day.isoweekday() == 7


def expected_dates(first: date, last: date, history: str) -> list[date]:
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    keep = {
        "none": lambda _: False,
        "day": lambda _: True,
        "week": is_sunday,
        "month": is_month_end,
    }[history]
    return [day for day in days if keep(day) or day == last]


def expected_versions(dates, states, versioned, others):
    """Rows (user, valid_from, valid_to, is_current, versioned, others, others before)."""
    rows = []
    for user in {user for known in states.values() for user in known}:
        runs = []
        for day in dates:
            state = states[day].get(user)
            if state is None or versioned(state) is None:
                continue
            if not runs or versioned(runs[-1][1]) != versioned(state):
                runs.append((day, state))
        ends = [*(day for day, _ in runs[1:]), None][: len(runs)]
        before = None
        for (day, state), end in zip(runs, ends, strict=True):
            rows.append((str(user), day, end, end is None, *others(state), before))
            before = others(state)[-1] if versioned == rfm_columns else state.status
    return sorted(rows)


def rfm_columns(state):
    return state.scores


def rfm_row(state):
    return (*state.scores, sum(state.scores), state.segment)


def status_columns(state):
    return (state.status, state.purchases, state.orders, state.ltv)


def status_row(state):
    churned = int(state.status == "churned")
    return (state.status, churned, state.purchases, state.orders, state.ltv, state.stage)


DIMENSIONS = ("overall", "rfm_segment", "activity_status", "customer_lifecycle_stage")


def share(part, whole):
    if not whole:
        return None
    millionths = (2 * Decimal(part) * 10**6 + whole) // (2 * Decimal(whole))
    return float(millionths / 10**6)


def expected_history(dates, states):
    rows = []
    for before, day in pairwise([None, *dates]):
        known = states[day]
        earlier = states.get(before, {})
        everything = sum((state.ltv or Decimal(0) for state in known.values()), Decimal(0))
        for dimension in DIMENSIONS:
            values = defaultdict(list)
            for user, state in known.items():
                values[state.value(dimension)].append((user, state))
            for value, customers in values.items():
                old = [earlier.get(user) for user, _ in customers]
                revenue = sum((state.ltv or Decimal(0) for _, state in customers), Decimal(0))
                old_revenue = sum(
                    ((state and state.ltv) or Decimal(0) for state in old), Decimal(0)
                )
                purchases = sum(state.purchases for _, state in customers)
                rows.append(
                    (
                        day,
                        dimension,
                        value,
                        len(customers),
                        sum(state.status == "churned" for _, state in customers),
                        purchases,
                        sum(state.orders for _, state in customers),
                        revenue,
                        purchases - sum(state.purchases for state in old if state),
                        revenue - old_revenue,
                        sum(state is None or state.value(dimension) != value for state in old),
                        share(len(customers), len(known)),
                        share(revenue, everything),
                    )
                )
    return sorted(rows)


def expected_migration(days, first, last, options):
    periods = {}
    if options.history in {"week", "day"}:
        periods["week"] = is_sunday
    if options.history != "none":
        periods["month"] = is_month_end
    rows = []
    for period, is_end in periods.items():
        every = [first + timedelta(days=n) for n in range((last - first).days + 1)]
        for before, day in pairwise(filter(is_end, every)):
            earlier, known = (states_at(days, one, options) for one in (before, day))
            for dimension in ("rfm_segment", "activity_status"):
                moves, purchases, revenue = Counter(), Counter(), defaultdict(Decimal)
                for user, state in known.items():
                    old = earlier.get(user)
                    move = (old.value(dimension) if old else "New", state.value(dimension))
                    moves[move] += 1
                    inside = [d for d in days if d.user == user and before < d.date <= day]
                    purchases[move] += sum(d.purchases for d in inside)
                    revenue[move] += sum((d.revenue for d in inside), Decimal(0))
                for (old, new), count in moves.items():
                    of_old = sum(n for (one, _), n in moves.items() if one == old)
                    of_new = sum(n for (_, one), n in moves.items() if one == new)
                    rows.append(
                        (
                            period,
                            day,
                            dimension,
                            old,
                            new,
                            count,
                            purchases[old, new],
                            revenue[old, new],
                            share(count, of_old),
                            share(count, of_new),
                        )
                    )
    return sorted(rows)


def check(days: list[Day], options: Options) -> Made:
    """Compare all four tables with what plain Python says."""
    made = make(days, options)
    first = min(day.date for day in days)
    last = options.as_of or max(day.date for day in days)
    dates = expected_dates(first, last, options.history)
    assert made.dates.to_list() == dates
    states = {day: states_at(days, day, options) for day in dates}
    assert sorted(made.rfm.rows()) == expected_versions(dates, states, rfm_columns, rfm_row)
    assert sorted(made.status.rows()) == expected_versions(
        dates, states, status_columns, status_row
    )
    assert sorted(made.segments.rows()) == expected_history(dates, states)
    assert sorted(made.migration.rows()) == expected_migration(days, first, last, options)
    assert broken_validity(made.rfm) == 0
    assert broken_validity(made.status) == 0
    assert outdated_versions(made.rfm, made.scored) == 0
    assert miscounted_snapshots(made.segments, made.known, made.dates) == 0
    assert broken_flows(made.migration) == 0
    return made


# Properties -----------------------------------------------------------------------------------


@st.composite
def some_days(draw):
    users = draw(st.lists(st.sampled_from([0, 1, 9, 10, 11, 100, 101, 2, 30, 300, 5, 77])))
    length = draw(st.sampled_from([1, 12, 45, 110]))
    days = {}
    for user in [7, *users, *users]:
        day = START + timedelta(days=draw(st.integers(0, length - 1)))
        purchases = draw(st.integers(0, 3))
        orders = draw(st.integers(0, purchases))
        if not any(one.user == user and one.orders for one in days.values()):
            orders = max(orders, min(1, purchases))
        revenue = draw(st.sampled_from(["0", "1.50", "3", "123456789012345678901.25"]))
        days[user, day] = Day(user, day, purchases, orders, Decimal(revenue) * bool(purchases))
    # The first purchase of a user is the beginning of an order.
    for user in {user for user, _ in days}:
        bought = sorted(day for one, day in days if one == user and days[one, day].purchases)
        if bought:
            first = days[user, bought[0]]
            days[user, bought[0]] = replace(first, orders=max(1, first.orders))
    return list(days.values())


@st.composite
def some_options(draw, days):
    last = max(day.date for day in days)
    later = draw(st.sampled_from([0, 0, 1, 30, 100]))
    churn, at_risk, declining = draw(st.sampled_from([(60, 45, 30), (9, 5, 2), (3, 8, 0)]))
    return Options(
        draw(st.sampled_from(["none", "day", "week", "month"])),
        last + timedelta(days=later),
        draw(st.sampled_from(["items", "orders"])),
        draw(st.integers(1, 4)),
        UserThresholds(churn, at_risk, declining),
    )


@settings(max_examples=60, deadline=None)
@given(data=st.data(), samples=st.sampled_from([1, 2, 5, 64]))
def test_history_is_what_each_snapshot_would_say(data, samples):
    days = data.draw(some_days())
    options = data.draw(some_options(days))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ntile, "_SAMPLES", samples)
        patch.setattr(history_module, "_VERSION_ROOM", data.draw(st.sampled_from([1, 200, 9999])))
        check(days, options)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_more_data_leaves_ended_versions_as_they_were(data):
    days = data.draw(some_days())
    options = data.draw(some_options(days))
    whole = make(days, options)
    cut = START + timedelta(days=data.draw(st.integers(0, 120)))
    before = [day for day in days if day.date <= cut]
    if not before or cut > options.as_of:
        return
    part = make(before, replace(options, as_of=cut))
    kept = part.dates.filter(part.dates.is_in(whole.dates.implode()))
    for later, earlier in ((whole.rfm, part.rfm), (whole.status, part.status)):
        ended = earlier.filter(pl.col("valid_to").is_in(kept.implode()))
        assert sorted(ended.rows()) == sorted(
            later.filter(
                pl.col("valid_to").is_in(ended["valid_to"].implode()) & (pl.col("valid_to") <= cut)
            )
            .join(ended.select("user_id", "valid_from"), on=["user_id", "valid_from"], how="semi")
            .rows()
        )
        # Nor is there another version that ended by then.
        ended_later = later.filter(pl.col("valid_to") <= (kept.max() or date.min))
        assert ended_later.height == ended.height


# Worked by hand -------------------------------------------------------------------------------


def dates(*texts: str | None) -> list[date | None]:
    return [text and date.fromisoformat(text) for text in texts]


def rows_of(frame: pl.DataFrame, user: int, *columns: str) -> list[tuple[object, ...]]:
    return frame.filter(pl.col("user_id") == str(user)).select(columns).rows()


def day(text: str) -> date:
    return date.fromisoformat(text)


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ("none", ["2020-03-03"]),
        ("month", ["2020-01-31", "2020-02-29", "2020-03-03"]),
        (
            "week",
            ["2020-02-02", "2020-02-09", "2020-02-16", "2020-02-23", "2020-03-01", "2020-03-03"],
        ),
    ],
)
def test_snapshots_are_the_ends_of_periods_and_the_last_day(history, expected):
    seen = snapshots(day("2020-01-31"), day("2020-03-03"), history)
    assert seen.kept.to_list() == dates(*expected)


def test_each_day_is_a_snapshot_of_daily_history():
    seen = snapshots(day("2020-02-27"), day("2020-03-02"), "day")
    assert seen.kept.to_list() == dates(
        "2020-02-27", "2020-02-28", "2020-02-29", "2020-03-01", "2020-03-02"
    )
    assert seen.dates.filter(pl.Series(seen.ends_week)).to_list() == dates("2020-03-01")
    assert seen.dates.filter(pl.Series(seen.ends_month)).to_list() == dates("2020-02-29")


@pytest.mark.parametrize("history", ["none", "day", "week", "month"])
def test_a_single_day_is_the_only_snapshot(history):
    only = day("2020-02-12")  # a Wednesday
    assert snapshots(only, only, history).dates.to_list() == [only]
    made = check([buy(7, only, "3"), visit(8, only)], Options(history))
    assert rows_of(made.rfm, 7, "valid_from", "valid_to", "is_current", "rfm_segment") == [
        (only, None, True, "Lost")
    ]
    assert rows_of(made.status, 8, "valid_from", "valid_to", "activity_status") == [
        (only, None, "prospect")
    ]
    assert made.migration.is_empty()


def test_ends_of_months_that_are_no_snapshots_cut_no_versions():
    """A purchase between the end of a month and the next Sunday, seen in both."""
    seen = snapshots(day("2020-01-27"), day("2020-03-08"), "week")
    assert [seen.dates[n] for n in range(len(seen.dates)) if not seen.is_kept[n]] == dates(
        "2020-01-31", "2020-02-29"
    )
    made = check(
        [visit(7, day("2020-01-27")), buy(7, day("2020-01-30"), "2"), visit(8, day("2020-03-08"))],
        Options("week", thresholds=UserThresholds(60, 45, 28)),
    )
    assert rows_of(made.status, 7, "valid_from", "valid_to", "activity_status") == [
        (day("2020-02-02"), day("2020-03-01"), "active"),
        (day("2020-03-01"), None, "declining"),
    ]
    moves = made.migration.filter(
        (pl.col("period") == "month") & (pl.col("dimension") == "activity_status")
    )
    assert moves.select(
        "snapshot_date", "from_value", "to_value", "customers", "purchases"
    ).rows() == [(day("2020-02-29"), "active", "declining", 1, 0)]


def test_versions_follow_what_time_does_to_a_customer():
    """60, 45 and 30 days after a purchase on New Year's Day, by day; a visit keeps from churn."""
    made = check(
        [buy(7, day("2020-01-01"), "2.50", 2, 1), visit(7, day("2020-01-20"))],
        Options("day", day("2020-03-31")),
    )
    columns = ("valid_from", "valid_to", "activity_status", "is_churned", "previous_status")
    assert rows_of(made.status, 7, *columns) == [
        (*dates("2020-01-01", "2020-02-01"), "active", 0, None),
        (*dates("2020-02-01", "2020-02-16"), "declining", 0, "active"),
        (*dates("2020-02-16", "2020-03-21"), "at_risk", 0, "declining"),  # a leap year
        (*dates("2020-03-21", None), "churned", 1, "at_risk"),
    ]
    assert rows_of(made.rfm, 7, "valid_from", "valid_to", "rfm_score", "previous_segment") == [
        (*dates("2020-01-01", None), 3, None)
    ]


def test_ranks_of_a_snapshot_are_among_the_buyers_by_then():
    """Equal in all, 10 is before 9 as text is; 9 is first when 10 has bought again."""
    made = check(
        [
            *(buy(user, day("2020-02-03")) for user in (9, 10)),
            buy(10, day("2020-02-12"), "4"),
        ],
        Options("week", day("2020-02-16")),
    )
    columns = ("valid_from", "recency_score", "frequency_score", "monetary_score", "rfm_segment")
    assert rows_of(made.rfm, 10, *columns) == [
        (day("2020-02-09"), 1, 1, 1, "Lost"),
        (day("2020-02-16"), 2, 5, 2, "About To Sleep"),
    ]
    assert rows_of(made.rfm, 9, *columns) == [
        (day("2020-02-09"), 2, 1, 2, "Lost"),
        (day("2020-02-16"), 1, 1, 1, "Lost"),
    ]
    assert rows_of(made.rfm, 10, "valid_to", "is_current", "previous_segment") == [
        (day("2020-02-16"), False, None),
        (None, True, "Lost"),
    ]


def test_orders_can_be_what_is_counted():
    days = [buy(7, day("2020-02-03"), "9", purchases=9, orders=1), buy(8, day("2020-02-03"))]
    for unit, scores, stage in (("items", [5, 1], "Loyal Customer"), ("orders", [1, 1], None)):
        made = check(days, Options("week", unit=unit))
        assert made.rfm.sort("user_id")["frequency_score"].to_list() == scores
        assert rows_of(made.status, 7, "customer_lifecycle_stage", "order_count") == [
            (stage or "First-Time Buyer", 1)
        ]


def test_a_snapshot_counts_who_entered_and_what_was_bought_since():
    made = check(
        [
            buy(7, day("2020-02-03"), "2"),
            visit(8, day("2020-02-04")),
            buy(8, day("2020-02-12"), "6", 3, 2),
        ],
        Options("week", day("2020-02-16")),
    )
    columns = (
        *("snapshot_date", "value", "customers", "purchases", "orders", "revenue"),
        *("purchases_since", "revenue_since", "entered", "customer_share", "revenue_share"),
    )
    of_status = made.segments.filter(pl.col("dimension") == "activity_status")
    first, second = dates("2020-02-09", "2020-02-16")
    assert of_status.select(columns).rows() == [
        (first, "active", 1, 1, 1, 2, 1, 2, 1, 0.5, 1.0),
        (first, "prospect", 1, 0, 0, 0, 0, 0, 1, 0.5, 0.0),
        (second, "active", 2, 4, 3, 8, 3, 6, 1, 1.0, 1.0),
    ]
    assert made.segments.filter(value="all").select("customers", "entered").rows() == [
        (2, 2),
        (2, 0),
    ]


def test_customers_move_between_the_ends_of_months():
    made = check(
        [
            visit(7, day("2020-01-31")),
            buy(7, day("2020-02-29"), "2.50", 2, 1),
            visit(8, day("2020-02-01")),
            visit(9, day("2020-01-01")),
        ],
        Options("month", day("2020-03-30")),
    )
    columns = ("from_value", "to_value", "customers", "purchases", "revenue")
    moves = made.migration.filter(dimension="activity_status")
    assert moves["snapshot_date"].unique().to_list() == [day("2020-02-29")]  # March is not over
    assert moves.select(*columns, "from_share", "to_share").rows() == [
        ("New", "prospect", 1, 0, 0, 1.0, 0.5),
        ("prospect", "active", 1, 2, Decimal("2.5"), 0.5, 1.0),
        ("prospect", "prospect", 1, 0, 0, 0.5, 0.5),
    ]


# The checks can fail --------------------------------------------------------------------------


SAMPLE = [
    visit(7, day("2020-01-31")),
    buy(7, day("2020-02-12"), "2.50"),
    buy(8, day("2020-02-14"), "4"),
    visit(9, day("2020-03-01")),
]


@pytest.fixture(name="sample", scope="module")
def _sample() -> Made:
    return check(SAMPLE, Options("week", day("2020-04-30")))


def test_a_version_that_ends_elsewhere_is_found(sample):
    assert broken_validity(sample.status.with_columns(valid_to=pl.lit(None, pl.Date))) > 0
    assert broken_validity(sample.status.filter(~pl.col("is_current"))) > 0
    assert broken_validity(sample.status[::-1]) == 0


def test_a_current_version_that_differs_is_found(sample):
    other = sample.scored.with_columns(
        monetary_score=pl.when(user_id="7").then(5).otherwise("monetary_score")
    )
    assert outdated_versions(sample.rfm, other) == 1
    assert outdated_versions(sample.rfm, sample.scored.filter(user_id="7")) == 1
    assert outdated_versions(sample.rfm.filter(user_id="7"), sample.scored) == 1
    assert outdated_versions(sample.rfm, sample.scored.with_columns(rfm_segment=pl.lit("x"))) == 2


def test_a_snapshot_that_lacks_customers_is_found(sample):
    def count(history):
        return miscounted_snapshots(history, sample.known, sample.dates)

    assert count(sample.segments.filter(pl.col("value") != "prospect")) > 0
    assert count(sample.segments.filter(pl.col("snapshot_date") < sample.dates[-1])) == 4
    assert count(sample.segments.with_columns(pl.col("customers") + 1)) > 0


def test_a_customer_that_gets_lost_between_periods_is_found(sample):
    assert broken_flows(sample.migration.filter(pl.col("to_value") != "active")) > 0
    assert broken_flows(sample.migration.filter(pl.col("from_value") != "active")) > 0
    last = sample.migration["snapshot_date"].max()
    assert broken_flows(sample.migration.filter(pl.col("snapshot_date") < last)) == 0
