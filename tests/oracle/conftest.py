"""What the examples run on."""

import pytest

from .examples import csv_text, rows_of_tables
from .oracle import oracle_tables


@pytest.fixture
def run(tmp_path):
    """Tables, as lists of rows, for rows of the input and the options of a run."""

    def run_oracle(rows, **options):
        path = tmp_path / "events.csv"
        path.write_text(csv_text(rows), encoding="utf-8")
        return rows_of_tables(oracle_tables([path], **options))

    return run_oracle
