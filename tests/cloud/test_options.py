"""The options of buckets and BigQuery: what is wrong with them is said before anything is done."""

from __future__ import annotations

import pytest

from pipelines.options import UsageError, parse_arguments


def parse(*options: str):
    return parse_arguments(["--input=a.csv", *options])[0]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("output", "gs://my-bucket"),
        ("output", "gs://my-bucket/a/b=1/c_d.e-f"),
        ("bigquery_dataset", "my-project.analytics"),
        ("bigquery_dataset", "example.com:my-project.Analytics_1"),
        ("location", "EU"),
        ("location", "us-central1"),
        ("run_id", "20200501T060000Z-a1b2c3"),
    ],
)
def test_names_that_google_accepts(option, value):
    options = {"output": "gs://my-bucket/w", "bigquery_dataset": "my-project.analytics"}
    options[option] = value
    assert getattr(parse(*(f"--{name}={text}" for name, text in options.items())), option) == value


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("output", "gs://"),
        ("output", "gs://UPPER/w"),
        ("output", "gs://my-bucket/a*"),
        ("output", "gs://my-bucket/a b"),
        ("output", "s3://my-bucket/w"),
        ("bigquery_dataset", "analytics"),
        ("bigquery_dataset", "my-project:analytics"),
        ("bigquery_dataset", "my-project.analytics`; DROP TABLE x"),
        ("bigquery_dataset", "my-project.analytics\n"),
        ("location", "over there"),
        ("run_id", "a/b"),
        ("run_id", "x" * 64),
        ("create_dataset", "perhaps"),
    ],
)
def test_names_that_must_not_reach_sql_or_a_path(option, value):
    options = {"output": "gs://my-bucket/w", "bigquery_dataset": "my-project.analytics"}
    options[option] = value
    with pytest.raises(UsageError, match=f"--{option}"):
        parse(*(f"--{name}={text}" for name, text in options.items()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--output=w", "--bigquery_dataset=my-project.d"], "--output=gs://BUCKET/FOLDER"),
        (["--output=w", "--keep_staging"], "--output=gs://BUCKET/FOLDER"),
        (["--output=gs://my-bucket/w", "--create_dataset"], "--bigquery_dataset=PROJECT.DATASET"),
        (["--output=gs://my-bucket/w", "--location=EU"], "--bigquery_dataset=PROJECT.DATASET"),
    ],
)
def test_an_option_names_the_other_that_it_needs(options, message):
    with pytest.raises(UsageError, match=message):
        parse(*options)


def test_a_trailing_slash_does_not_matter():
    assert parse("--output=gs://my-bucket/w/").output == "gs://my-bucket/w"
    assert parse("--output=w/").output == "w"
    assert parse("--output=/").output == "/"


def test_only_what_decides_the_tables_must_be_the_same_to_resume():
    first = parse("--output=gs://my-bucket/w", "--session_timeout_seconds=60").as_json()
    again = parse(
        "--output=gs://my-bucket/w",
        "--session_timeout_seconds=61",
        "--run_id=run",
        "--bigquery_dataset=my-project.d",
        "--keep_staging",
    )
    assert again.differing(first) == ["session_timeout_seconds"]
