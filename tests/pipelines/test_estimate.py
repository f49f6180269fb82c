"""What a run would need on Dataflow: the figures, and that nothing runs."""

import gzip

import pytest

from pipelines import customer_analytics, estimate
from pipelines.estimate import CSV_BYTES_PER_EVENT, Estimate
from pipelines.template import ROOT
from transforms.ingest.files import match_inputs

HEADER = (
    b"event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session"
)
SEVEN_MONTHS = Estimate(7, 411_700_000 * CSV_BYTES_PER_EVENT)


def test_figures():
    assert SEVEN_MONTHS.shards == 1080
    assert SEVEN_MONTHS.passes == 1
    assert SEVEN_MONTHS.pieces == 308 * 1080
    assert round(SEVEN_MONTHS.vcpu_hours, 2) == 1.27
    assert round(SEVEN_MONTHS.shuffled_gb, 1) == 24.7
    assert round(SEVEN_MONTHS.worker_usd + SEVEN_MONTHS.shuffle_usd, 2) == 0.36


def test_ten_times_the_input_crosses_twice():
    needed = Estimate(70, 10 * SEVEN_MONTHS.csv_bytes)
    assert needed.passes == 2
    assert needed.events / needed.pieces > 1000
    assert f"events in {needed.pieces:,} pieces, in two passes" in estimate.describe(needed)
    assert needed.shuffled_gb > 15 * SEVEN_MONTHS.shuffled_gb
    assert needed.vcpu_hours < 12 * SEVEN_MONTHS.vcpu_hours


def test_the_document_shows_what_is_printed():
    printed = estimate.describe(SEVEN_MONTHS).strip("\n").partition("\n\n")[0]
    assert printed in (ROOT / "docs/dataflow.md").read_text(encoding="utf-8")


def test_it_grows_with_the_csv_inside_compressed_files(tmp_path):
    text = HEADER + b"\n" + b"x" * 1000
    (tmp_path / "a.csv").write_bytes(text)
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(text))
    files = match_inputs([str(tmp_path / "*")])

    needed = estimate.estimate(files)

    assert needed.files == 2
    assert needed.csv_bytes == sum(file.csv_bytes for file in files) > len(text)


def test_nothing_runs(tmp_path, capsys):
    (tmp_path / "events.csv").write_bytes(HEADER + b"\n")
    output = tmp_path / "warehouse"

    code = customer_analytics.main(
        [f"--input={tmp_path / 'events.csv'}", f"--output={output}", "--estimate"]
    )

    assert code == 0
    assert "vCPU-hours" in capsys.readouterr().out
    assert not output.exists()


@pytest.mark.parametrize("value", ["maybe", "1"])
def test_the_flag_takes_true_or_false(value, capsys):
    assert customer_analytics.main(["--input=a", "--output=b", f"--estimate={value}"]) == 2
    assert "is not true or false" in capsys.readouterr().err


def test_an_input_that_cannot_be_listed_is_a_wrong_command(capsys):
    assert customer_analytics.main(["--input=s3://a/b", "--output=b", "--estimate"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("customer-analytics: --input: s3://a/b: s3:// is not read;")
