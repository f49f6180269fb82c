"""The documents: what is written from the code agrees with it, and what they name is there."""

import importlib.util
import re
import shutil
from pathlib import Path

import pytest

from pipelines import docs
from pipelines.options import OPTIONS
from transforms.ingest.files import RANGE_BYTES
from transforms.schema import TABLES, TABLES_BY_NAME
from transforms.shuffle.sizing import SHARD_BYTES

MOST_CHARACTERS = 1024  # of a description in BigQuery
DEFAULTS = {option.name: option.default for option in OPTIONS}
OF_BEAM = {
    *("dry_run", "machine_type", "max_num_workers", "project", "region", "runner"),
    *("direct_num_workers", "direct_running_mode", "direct_runner_bundle_repeat"),
    *("environment_type", "environment_config", "job_endpoint", "parallelism", "prism_location"),
    *("sdk_container_image", "sdk_worker_parallelism", "service_account_email", "setup_file"),
    *("staging_location", "temp_location"),
}
OF_OTHER_COMMANDS = {
    *("check", "help", "version"),
    *("warehouse", "export"),  # pipelines.report
    "force",  # bq
    *("rows", "contenders"),  # benchmarks.run
}
WRITTEN = [
    *(docs.ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted((docs.ROOT / "docs").rglob("*.md")),
]


def named(path):
    return str(path.relative_to(docs.ROOT))


def anchors(path):
    """The anchors that a page shows its headings under."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A copy of what the check looks at."""
    (tmp_path / "docs").mkdir()
    for name in (docs.TEMPLATE, *docs.DOCUMENTS):
        shutil.copy(docs.ROOT / name, tmp_path / name)
    return tmp_path


def test_the_documents_agree_with_the_code(capsys):
    assert docs.main(["--check"]) == 0, capsys.readouterr().out


def test_a_document_that_differs_is_found(checkout):
    assert list(docs.problems(checkout)) == []
    readme = checkout / "README.md"
    row = "| [`dim_users`](docs/tables.md#dim_users) | one row per user with a kept event |\n"
    text = readme.read_text(encoding="utf-8")
    assert row in text
    readme.write_text(text.replace(row, ""), encoding="utf-8")
    (checkout / "docs/tables.md").unlink()
    tables, listed = docs.problems(checkout)
    assert "docs/tables.md is out of date" in tables
    assert f"+{row}" in listed


def test_a_readme_without_the_list_is_found(checkout):
    readme = checkout / "README.md"
    readme.write_text("# Something else\n", encoding="utf-8")
    with pytest.raises(ValueError, match="<!-- tables -->"):
        list(docs.problems(checkout))


def test_every_table_and_column_is_in_the_contract():
    sections = re.split(r"^### ", docs.tables_document(), flags=re.MULTILINE)
    by_name = {section.partition("\n")[0]: section for section in sections}
    assert set(TABLES_BY_NAME) <= set(by_name)
    for table in TABLES:
        rows = re.findall(r"^\| `(\w+)` \|", by_name[table.name], re.MULTILINE)
        assert rows == list(table.column_names)


def test_a_column_in_full():
    assert (
        "\n| `session_length` | INT64, ≥ 0, required | Seconds from start to end. |\n"
        in docs.tables_document()
    )
    assert "| `recency_score` | INT64, required | Recency score. One of `1`, `2`," in (
        docs.tables_document()
    )


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_descriptions_fit_into_bigquery_and_name_the_defaults_of_options(table):
    for column in table.columns:
        assert len(column.description) <= MOST_CHARACTERS
        for option, default in re.findall(r"--(\w+) \((\w+)\)", column.description):
            assert str(DEFAULTS[option]) == default, column.name


def test_sizes_are_those_of_the_code():
    for name in ("architecture", "dataflow", "decisions/0004-shards-as-keys"):
        text = " ".join((docs.ROOT / f"docs/{name}.md").read_text(encoding="utf-8").split())
        assert f"{SHARD_BYTES >> 20} MB of CSV" in text, name
    assert f"ranges of {RANGE_BYTES >> 20} MB" in " ".join(
        (docs.ROOT / "docs/dataflow.md").read_text(encoding="utf-8").split()
    )


def test_every_room_is_described():
    text = (docs.ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    rooms = {path.parent.name for path in (docs.ROOT / "transforms").glob("*/__init__.py")}
    assert rooms
    assert set(re.findall(r"^\| `(\w+)/` \|", text, re.MULTILINE)) == rooms


@pytest.mark.parametrize("path", WRITTEN, ids=named)
def test_links_lead_somewhere(path):
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match("https?:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("path", WRITTEN, ids=named)
def test_commands_options_and_files_exist(path):
    text = path.read_text(encoding="utf-8")
    makefile = (docs.ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    assert set(re.findall(r"(?<![\w/])make ([a-z][a-z-]+)(?=[` \n])", code(text))) <= targets
    for module in re.findall(r"python -m ((?:pipelines|benchmarks)[\w.]*)", text):
        assert importlib.util.find_spec(module), module
    if path.name not in (
        "bigquery.md",
        "dataflow.md",
        "deployment.md",
        "performance.md",
    ):  # full of other programs' options
        options = set(re.findall(r"(?<![\w-])--([a-z][a-z0-9_]*)(?![\w-])", text))
        assert options <= {*DEFAULTS, *OF_BEAM, *OF_OTHER_COMMANDS}
    for name in re.findall(r"`((?:pipelines|transforms|tests|benchmarks|docs)/[\w./-]*)`", text):
        assert (docs.ROOT / name).exists(), name


def code(text):
    """What is between backticks, on a line or in a block."""
    return "\n".join(re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL))
