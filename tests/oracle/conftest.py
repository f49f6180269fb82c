"""What the examples run on."""

import pytest

from .examples import csv_text, rows_of_tables
from .oracle import oracle_tables
from .product import product_tables


@pytest.fixture(scope="session")
def tables_of_the_oracle():
    """What the oracle has made already, by rows and options: each example runs on it first."""
    return {}


@pytest.fixture(params=["oracle", "product"])
def run(request, tmp_path, tables_of_the_oracle):
    """Tables, as lists of rows, for rows of the input and the options of a run.

    The oracle gives the counts; what the product counts is compared in the tests of whole runs.
    """

    def run_example(rows, **options):
        path = tmp_path / "events.csv"
        path.write_text(csv_text(rows), encoding="utf-8")
        example = (path.read_bytes(), tuple(sorted(options.items())))
        if request.param == "oracle" or example not in tables_of_the_oracle:
            tables_of_the_oracle[example] = oracle_tables([path], **options)
        tables = tables_of_the_oracle[example]
        if request.param == "product":
            tables = tables | product_tables([path], **options)
        return rows_of_tables(tables)

    return run_example
