"""The documents that are written from the code: docs/tables.md, and the README's list of tables.

`python -m pipelines.docs` writes them; with `--check` it compares them with the schema. What is
prose in docs/tables.md stands in docs/tables.md.j2.
"""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import jinja2

from transforms.audit.balance import DROP_REASONS
from transforms.rules import Rules
from transforms.schema import GROUPS, REJECT_REASONS, TABLES, Column, Severity, Table

ROOT: Final = Path(__file__).parent.parent
TEMPLATE: Final = "docs/tables.md.j2"
README: Final = "README.md"
_LIST: Final = re.compile(r"(?<=<!-- tables -->\n).*(?=<!-- end of tables -->)", re.DOTALL)


def tables_document(root: Path = ROOT) -> str:
    """The text of docs/tables.md.

    Args:
        root: The checkout, whose template is used.
    """
    environment = jinja2.Environment(  # noqa: S701 - Markdown of our own texts
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"cell": _cell, "code": _code, "sentence": _sentence}
    template = environment.from_string((root / TEMPLATE).read_text(encoding="utf-8"))
    return template.render(
        tables=TABLES,
        groups=GROUPS,
        rules=Rules(),
        drop_reasons=DROP_REASONS,
        reject_reasons=REJECT_REASONS,
        layout=_layout,
        kind=_kind,
        meaning=_meaning,
        audited=_audited,
    )


def readme_document(root: Path = ROOT) -> str:
    """The text of the README with the list of tables that the schema has.

    Args:
        root: The checkout, whose README is taken for the rest.

    Raises:
        ValueError: It does not say where the list stands.
    """
    rows = (
        f"| [`{table.name}`](docs/tables.md#{table.name}) | {_cell(table.grain)} |"
        for table in TABLES
    )
    listed = "\n".join(["", "| table | grain |", "|---|---|", *rows, "", ""])
    text, found = _LIST.subn(lambda _: listed, (root / README).read_text(encoding="utf-8"))
    if found != 1:
        raise ValueError(f"{README} has no <!-- tables --> … <!-- end of tables -->")
    return text


DOCUMENTS: Final = {"docs/tables.md": tables_document, README: readme_document}


def problems(root: Path) -> Iterator[str]:
    """The documents of a checkout that differ from the code, a block each."""
    for name, document in DOCUMENTS.items():
        path = root / name
        written = path.read_text(encoding="utf-8") if path.exists() else ""
        generated = document(root)
        if written != generated:
            difference = difflib.unified_diff(
                written.splitlines(), generated.splitlines(), name, "the code", lineterm="", n=1
            )
            yield "\n".join([*difference, f"{name} is out of date: make docs"])


def _layout(table: Table) -> Iterator[str]:
    """What is to be said of a table as a whole."""
    if table.key:
        yield f"Key {', '.join(map(_code, table.key))}"
    if table.partition_by:
        yield f"partition {_code(table.partition_by)}"
    if table.cluster_by:
        yield f"cluster {', '.join(map(_code, table.cluster_by))}"
    if table.large:
        yield "large"
    if table.appended:
        yield "appended"
    if table.group:
        yield f"group {_code(table.group)}"


def _kind(column: Column) -> str:
    """The type of a column, and whether it is bounded and may be NULL."""
    parts = [column.type.value]
    if column.minimum is not None:
        parts.append(f"≥ {column.minimum}")
    if column.required:
        parts.append("required")
    return ", ".join(parts)


def _meaning(column: Column) -> str:
    """The description of a column, and the values it may have where they can be listed."""
    if not column.accepted:
        return column.description
    return f"{column.description} One of {', '.join(map(_code, column.accepted))}."


def _audited(table: Table) -> Iterator[str]:
    """What the audit looks at in a table, beyond its columns and its key; a line each."""
    checks = [
        _code(check.name) + (" (a warning)" if check.severity is Severity.WARN else "")
        for check in table.row_checks
    ]
    if checks:
        yield f"Checks: {', '.join(checks)}."
    if table.measures:
        yield f"Sums that agree across tables: {', '.join(map(_code, table.measures))}."


def _code(value: object) -> str:
    return f"`{value}`"


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the documents, or check them; the exit code is 1 where one is out of date."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.docs", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--check", action="store_true", help="write nothing; say what differs")
    if not parser.parse_args(arguments).check:
        for name, document in DOCUMENTS.items():
            (ROOT / name).write_text(document(ROOT), encoding="utf-8")
        return 0
    found = list(problems(ROOT))
    print("\n".join(found) or "The documents agree with the code.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
