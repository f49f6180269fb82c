"""The queries of documents, read out of them and run."""

import re
from collections.abc import Iterator

import duckdb
import pytest

from pipelines import customer_analytics, docs, generate_events
from tests.pipelines.running import arguments


def blocks(name):
    """The blocks of SQL in a document."""
    text = (docs.ROOT / name).read_text(encoding="utf-8")
    return re.findall(r"^```sql\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


OVER_TIME = blocks("docs/customers-over-time.md")
QUERIES = [block for block in OVER_TIME if block.startswith("SELECT")]
(VALID_ON_A_DAY,) = set(OVER_TIME) - set(QUERIES)
OF_FUNNELS = blocks("docs/funnels.md")
SELLING = blocks("docs/selling.md")
OF_RUNBOOK = [block for block in blocks("docs/runbook.md") if block.startswith("SELECT")]
README = (docs.ROOT / docs.README).read_text(encoding="utf-8")
(FIRST_QUERY,) = re.findall(r"\.sql\('''(.*?)'''\)", README, re.DOTALL)


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory) -> Iterator[duckdb.DuckDBPyConnection]:
    """A warehouse of seven months in small."""
    folder = tmp_path_factory.mktemp("warehouse")
    events, output = folder / "events.csv", folder / "warehouse"
    generate_events.main(["--rows", "20000", "--seed", "1", "--output", str(events)])
    assert customer_analytics.main(arguments([events], output)) == 0
    with duckdb.connect(str(output / "warehouse.duckdb"), read_only=True) as connection:
        connection.execute("SET file_search_path = ?", [str(output)])
        yield connection


def test_there_are_five():
    assert len(QUERIES) == len(SELLING) == 5


@pytest.mark.parametrize(
    "query",
    [FIRST_QUERY, *QUERIES, *SELLING],
    ids=lambda query: re.findall(r"FROM (\w+)", query)[-1],
)
def test_a_query_answers(warehouse, query):
    answer = warehouse.sql(query).pl()
    assert answer.height > 0
    assert [name for name in answer.columns if answer[name].null_count() == answer.height] == []


@pytest.mark.parametrize("query", OF_FUNNELS, ids=("steps", "times", "breakdown"))
def test_a_query_of_funnels_is_understood(warehouse, query):
    answer = warehouse.sql(query).pl()
    assert answer.height or "breakdown <>" in query  # the usual funnels have none


@pytest.mark.parametrize("query", OF_RUNBOOK, ids=("rejected", "failed"))
def test_a_query_of_the_runbook_is_understood(warehouse, query):
    assert warehouse.sql(query).columns  # of a sound run it has no rows


def test_a_user_has_one_version_on_a_day(warehouse):
    versions, users = warehouse.sql(
        f"SELECT count(*), count(DISTINCT user_id) FROM snap_user_rfm WHERE {VALID_ON_A_DAY}"
    ).fetchall()[0]
    buyers = warehouse.sql(
        "SELECT count(*) FROM dim_users WHERE first_purchase_date <= DATE '2020-01-26'"
    ).fetchall()[0][0]  # a Sunday, the last snapshot by then
    assert versions == users == buyers > 0
