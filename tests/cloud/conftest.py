"""A cloud on loopback: real servers, behind proxies that a test can make fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from google.cloud import bigquery, storage

from pipelines import generate_events
from pipelines.customer_analytics import main
from tests.cloud.proxy import Proxy, error
from tests.cloud.servers import bigquery_server, storage_server
from tests.oracle.compare import assert_tables_equal
from tests.pipelines.running import contents, published
from transforms.schema import TABLES, Table
from transforms.warehouse import gcs, open_warehouse
from transforms.warehouse.base import Document

EARLIER = Path(__file__).parents[1] / "warehouse_0_1_0" / "bucket"
PROJECT = "test-project"
CREDENTIALS = {
    "type": "authorized_user",
    "client_id": "x",
    "client_secret": "x",
    "refresh_token": "x",
    "token": "fake",
    "expiry": "2099-01-01T00:00:00Z",  # nothing is refreshed, so nothing leaves the machine
}
RUN_SECONDS = 120


def cli(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the pipeline as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "pipelines.customer_analytics", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=RUN_SECONDS,
    )


@dataclass
class Cloud:
    """Cloud Storage, and a bucket of one test."""

    storage: Proxy
    bucket: str

    @property
    def output(self) -> str:
        return f"gs://{self.bucket}/warehouse"

    def run(self, events: Path | str, *options: str, **environment: str):
        """Run the pipeline into the bucket."""
        return cli(f"--input={events}", f"--output={self.output}", *options, **environment)

    def files(self) -> set[str]:
        """The names of the objects in the warehouse."""
        return set(gcs.Folder(self.output).list(""))


@dataclass
class BigQueryCloud(Cloud):
    """Cloud Storage and BigQuery; a bucket and the name of a dataset, of one test."""

    queries: Proxy
    dataset: str

    def arguments(self, events: Path | str, *options: str) -> list[str]:
        """The command line of a run into the bucket and the dataset."""
        return [
            f"--input={events}",
            f"--output={self.output}",
            f"--bigquery_dataset={self.dataset}",
            *options,
        ]

    def publish(self, events: Path | str, *options: str):
        """Run the pipeline as a user does, into the bucket and the dataset."""
        return cli(*self.arguments(events, "--create_dataset", *options))

    def client(self) -> bigquery.Client:
        return bigquery.Client(project=PROJECT)

    def query(self, sql: str) -> list[dict]:
        """The rows of a query, in which {d} is the dataset."""
        return [dict(row) for row in self.client().query_and_wait(sql.format(d=self.dataset))]

    def tables(self, tables: Sequence[Table] = TABLES) -> dict[str, pa.Table]:
        """The live tables, as BigQuery gives them."""
        client = self.client()
        return {
            table.name: client.list_rows(client.get_table(f"{self.dataset}.{table.name}")).to_arrow(
                create_bqstorage_client=False
            )
            for table in tables
        }

    def table_names(self) -> set[str]:
        return {item.table_id for item in self.client().list_tables(self.dataset)}


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """Where the servers keep what they hold."""
    return tmp_path_factory.mktemp("cloud")


@pytest.fixture(scope="session")
def environment() -> Iterator[pytest.MonkeyPatch]:
    """The session's environment variables, put back at its end."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="session")
def objects(folder, environment) -> Iterator[Proxy]:
    """A proxy to Cloud Storage, which every client of this process then uses."""
    credentials = folder / "credentials.json"
    credentials.write_text(json.dumps(CREDENTIALS))
    with storage_server(folder) as port:
        proxy = Proxy(port, preconditions=True)
        environment.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(credentials))
        environment.setenv("GOOGLE_CLOUD_PROJECT", PROJECT)
        environment.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        yield proxy
        proxy.close()


@pytest.fixture(scope="session")
def queries(folder, environment, objects) -> Iterator[Proxy]:
    """A proxy to BigQuery, which every client of this process then uses."""
    with bigquery_server(folder) as port:
        proxy = Proxy(port)
        environment.setenv("BIGQUERY_EMULATOR_HOST", proxy.url)
        yield proxy
        proxy.close()


NUMBERS = count(1)


def new_bucket() -> str:
    """The name of a new bucket."""
    name = f"test-{next(NUMBERS)}"
    storage.Client().create_bucket(name)
    return name


def new_warehouse(objects: Proxy, queries: Proxy) -> BigQueryCloud:
    """A new bucket, and the name of a dataset that does not exist yet."""
    objects.reset()
    queries.reset()
    name = new_bucket()
    return BigQueryCloud(objects, name, queries, f"{PROJECT}.{name.replace('-', '_')}")


def upload_earlier(warehouse: Cloud) -> None:
    """Fill a warehouse with what version 0.1.0 published there."""
    bucket = storage.Client().bucket(warehouse.bucket)
    for path in EARLIER.rglob("*"):
        if path.is_file():
            bucket.blob(f"warehouse/{path.relative_to(EARLIER)}").upload_from_filename(str(path))


@pytest.fixture
def cloud(objects) -> Cloud:
    """A bucket of the test's own."""
    objects.reset()
    return Cloud(objects, new_bucket())


@pytest.fixture(scope="session")
def events(tmp_path_factory) -> Path:
    """A small clickstream, some rows of which are rejected."""
    path = tmp_path_factory.mktemp("events") / "events.csv"
    assert generate_events.main(["--rows", "2000", "--seed", "7", "--output", str(path)]) == 0
    with path.open("a") as file:
        file.write("2019-10-01 00:00:00 UTC,view,1,1,,,-5,1,abc\nbroken\n")
    return path


@pytest.fixture(scope="session")
def local(tmp_path_factory, events) -> dict[str, pa.Table]:
    """The tables of a local run of `events`."""
    output = tmp_path_factory.mktemp("local") / "warehouse"
    arguments = [f"--input={events}", f"--output={output}", "--max_rejected_ratio=0.5"]
    assert main(arguments) == 0
    return published(output)


def audited(warehouse: BigQueryCloud, events: Path, run_id: str, *options: str) -> Document:
    """Compute a run into the bucket, up to the first load; return its manifest."""
    warehouse.queries.fault = lambda request: (
        error(400, "invalid", "not yet") if "_load_" in request.job_id else None
    )
    options = ("--create_dataset", f"--run_id={run_id}", "--max_rejected_ratio=0.5", *options)
    assert main(warehouse.arguments(events, *options)) == 1
    warehouse.queries.reset()
    manifest = open_warehouse(warehouse.output).audited(run_id)
    assert manifest is not None
    return manifest


def publish(warehouse: BigQueryCloud, manifest: Document, *, keep_staging=False) -> list[str]:
    """Publish an audited run; the warnings."""
    target = open_warehouse(warehouse.output, warehouse.dataset, keep_staging=keep_staging)
    return target.publish(manifest)


def assert_published(
    warehouse: BigQueryCloud,
    local: dict[str, pa.Table],
    run_id: str,
    tables: Sequence[Table] = TABLES,
) -> None:
    """Fail unless the live tables are those of a local run, and nothing is there twice."""
    actual = warehouse.tables(tables)
    assert set(actual["pipeline_runs"]["status"].to_pylist()) == {"published"}
    for table in tables:
        if table.appended:
            rows = actual[table.name]
            keys = rows.select(table.key).to_pylist()
            assert len({tuple(key.values()) for key in keys}) == len(keys), table.name
            own = rows.filter(pc.equal(rows["run_id"], run_id))
            assert own.num_rows == local[table.name].num_rows, table.name
            actual[table.name] = own
    assert_tables_equal(contents(actual), contents(local))
    assert warehouse.table_names() == {table.name for table in tables}
    state = gcs.Folder(warehouse.output).read("manifest.json")
    assert state is not None
    assert state.document["run_id"] == run_id
    assert "_lock" not in warehouse.files()
