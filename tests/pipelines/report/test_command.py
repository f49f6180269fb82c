"""The command line: sources, output, exit codes."""

import json
import shutil
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from google.cloud.storage import Client

from pipelines.report import read_warehouse, render_report, runs
from pipelines.report.__main__ import main
from pipelines.report.reading import OPTIONAL_TABLES, parse_dataset
from tests.conftest import skip_or_fail
from transforms.warehouse.gcs import ABSENT, Folder
from transforms.warehouse.local import MANIFEST


@pytest.fixture
def warehouse(tables, tmp_path):
    folder = tmp_path / "warehouse [1]"
    for name, frame in tables.items():
        (folder / name).mkdir(parents=True)
        frame[: frame.height // 2].write_parquet(folder / name / "part-0.parquet")
        frame[frame.height // 2 :].write_parquet(folder / name / "part-1.parquet")
    return folder


def test_report_of_a_warehouse_is_that_of_its_tables(warehouse, html, tmp_path, capsys):
    output = tmp_path / "out.html"
    assert main(["--warehouse", str(warehouse), "--output", str(output)]) == 0
    assert output.read_text("utf-8") == html
    assert capsys.readouterr().out == f"Wrote {output}\n"


def test_the_report_shows_the_run_of_the_current_state(warehouse, tables, tmp_path):
    older = "20240304T063011-older"
    assert runs.newest_run(read_warehouse(str(warehouse)))["run_id"] != older
    output = tmp_path / "output"
    (output / "_runs").mkdir(parents=True)
    warehouse.rename(output / "_runs" / older)
    (output / "_current").symlink_to(f"_runs/{older}")
    read = read_warehouse(str(output))
    assert runs.newest_run(read)["run_id"] == older
    assert read["data_quality"].equals(tables["data_quality"].filter(pl.col("run_id") == older))


def test_rows_of_an_earlier_version_have_fewer_columns(warehouse, tables):
    earlier = tables["pipeline_runs"][:1].drop("input_fingerprint")
    earlier.write_parquet(warehouse / "pipeline_runs" / "part-0.parquet")
    assert read_warehouse(str(warehouse))["pipeline_runs"].height == 2


def test_tables_that_a_run_left_out_are_not_missed(warehouse, tables, tmp_path):
    for name in OPTIONAL_TABLES:
        shutil.rmtree(warehouse / name)
    output = tmp_path / "out.html"
    assert main(["--warehouse", str(warehouse), "--output", str(output)]) == 0
    assert output.read_text("utf-8") == render_report(
        {name: frame for name, frame in tables.items() if name not in OPTIONAL_TABLES}
    )


def test_a_missing_table_fails_with_one_line(warehouse, capsys):
    (warehouse / "metrics_churn" / "part-0.parquet").unlink()
    (warehouse / "metrics_churn" / "part-1.parquet").unlink()
    assert main(["--warehouse", str(warehouse)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("error: ")
    assert "metrics_churn" in error


def test_a_broken_file_fails_with_one_line(warehouse, capsys):
    (warehouse / "metrics_churn" / "part-0.parquet").write_bytes(b"no parquet")
    assert main(["--warehouse", str(warehouse)]) == 1
    assert capsys.readouterr().err.startswith("error: Cannot read ")


def test_an_output_that_cannot_be_written_fails_with_one_line(warehouse, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    output = tmp_path / "file" / "report.html"
    assert main(["--warehouse", str(warehouse), "--output", str(output)]) == 1
    assert capsys.readouterr().err.startswith(f"error: Cannot write {output}: ")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--warehouse", "no/such/folder"],
        ["--bigquery_dataset", "dataset"],
        ["--bigquery_dataset", "project-1.data`set"],
        ["--bigquery_dataset", "project-1.d.t"],
        ["--warehouse", ".", "--bigquery_dataset", "project-1.dataset"],
        ["--warehouse", ".", "--export", "gif"],
    ],
)
def test_usage_mistakes_exit_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["my-project.shop", "example.com:my-project.shop_2"])
def test_dataset_names(name):
    assert str(parse_dataset(name).dataset_id) == name.rpartition(".")[2]


def test_export_without_a_browser_says_what_to_install(warehouse, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(warehouse))
    assert main(["--warehouse", str(warehouse), "--export", "png"]) == 1
    assert "apt-get install chromium" in capsys.readouterr().err


@pytest.mark.browser
def test_export_writes_each_page_whole(warehouse, chromium, tmp_path):
    output = tmp_path / "report.html"
    assert main(["--warehouse", str(warehouse), "--output", str(output), "--export", "png"]) == 0
    images = sorted(tmp_path.glob("*.png"))
    assert [image.name for image in images] == [
        "report-categories.png",
        "report-customers.png",
        "report-funnel.png",
        "report-funnels.png",
        "report-history.png",
        "report-overview.png",
        "report-prediction.png",
        "report-segments.png",
    ]
    for image in images:
        width, height = struct.unpack(">II", image.read_bytes()[16:24])
        assert width == 2880
        # More than a window shows; one funnel at a time is not long.
        assert height > 2 * (700 if image.name == "report-funnels.png" else 1500)


@pytest.mark.cloud
def test_warehouse_and_output_on_gcs(warehouse, html, tmp_path, monkeypatch):
    program = Path(sys.executable).with_name("gcp-storage-emulator")
    if not program.is_file():
        skip_or_fail("needs gcp-storage-emulator")
    storage = tmp_path / "storage" / "gcs"
    storage.mkdir(parents=True)
    credentials = tmp_path / "adc.json"
    credentials.write_text(
        json.dumps(
            {
                "type": "authorized_user",
                "client_id": "x",
                "client_secret": "x",
                "refresh_token": "x",
                "token": "fake",
                "expiry": "2099-01-01T00:00:00Z",
            }
        )
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for variable, value in {
        "GOOGLE_APPLICATION_CREDENTIALS": str(credentials),
        "GOOGLE_CLOUD_PROJECT": "test-project",
        "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}",
        "STORAGE_BASE": str(tmp_path / "storage"),
        "STORAGE_DIR": "gcs",
    }.items():
        monkeypatch.setenv(variable, value)
    server = subprocess.Popen([program, "start", "--host", "127.0.0.1", "--port", str(port), "-q"])
    try:
        for _ in range(100):
            with socket.socket() as attempt:
                if attempt.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        with Client(project="test-project") as client:
            bucket = client.create_bucket("bucket")
            files = sorted(warehouse.rglob("*.parquet"))
            tables: dict[str, list[str]] = {}
            for number, file in enumerate(files):
                name = f"_runs/r1/{file.parent.name}/{number:032x}.parquet"
                bucket.blob(f"warehouse/{name}").upload_from_filename(file)
                tables.setdefault(file.parent.name, []).append(name)
        manifest = {
            "run_id": "20240305T063011-newest",
            "finished_at": "2024-03-05T06:33:53+00:00",
            "tables": tables,
            "table_rows": dict.fromkeys(tables, 0),
        }
        assert Folder("gs://bucket/warehouse").write(MANIFEST, manifest, ABSENT)
        command = [sys.executable, "-m", "pipelines.report"]
        sources = ["gs://bucket/warehouse/", "gs://bucket/nothing"]
        done = [
            subprocess.run(
                [*command, "--warehouse", source, "--output", "gs://bucket/report/index.html"],
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
            for source in sources
        ]
    finally:
        server.terminate()
        server.wait()
    assert [run.returncode for run in done] == [0, 1], done[0].stderr
    assert done[1].stderr.startswith("error: gs://bucket/nothing has no manifest.json")
    assert (storage / "bucket" / "report" / "index.html").read_text("utf-8") == html


def test_empty_parquet_files_are_empty_tables(tmp_path, tables):
    for name, frame in tables.items():
        (tmp_path / name).mkdir()
        frame.clear().write_parquet(tmp_path / name / "part-0.parquet")
    assert {frame.height for frame in read_warehouse(str(tmp_path)).values()} == {0}
