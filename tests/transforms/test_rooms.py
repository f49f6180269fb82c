"""Who may import whom: each folder of the package says what kind of code it is."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "transforms"
EVERYBODY = {"errors", "owned_files", "version"}
MAY_IMPORT = {
    "errors": set(),
    "owned_files": set(),
    "version": set(),
    "funnels": set(),
    "rules": {"schema", "funnels"},
    "schema": set(),
    "columnar": {"schema"},
    "ingest": {"schema", "columnar"},
    "analytics": {"schema", "rules", "funnels", "columnar", "ingest.batch", "ingest.session_keys"},
    "shuffle": {"columnar", "ingest.batch"},
    "audit": {"schema", "columnar"},
    "warehouse": {"schema", "rules", "audit", "columnar"},
    "steps": {
        *("schema", "rules", "funnels", "columnar", "ingest", "analytics", "shuffle", "audit"),
        "warehouse",
    },
}
LIBRARIES = {
    "numba": {"columnar", "ingest"},
    "llvmlite": {"columnar"},
    "apache_beam": {"shuffle", "steps", "warehouse", "ingest.files"},
    "google": {"warehouse"},
    "duckdb": {"warehouse"},
}


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        yield ".".join(path.relative_to(PACKAGE).with_suffix("").parts), path


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "transforms":
            yield from (f"transforms.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module.count(".") == 1:
            # A name may be a module of the folder.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def is_within(name, rooms):
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


def test_every_module_is_in_a_room():
    assert {name.partition(".")[0] for name, _ in modules()} - {"__init__"} == set(MAY_IMPORT)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_what_it_may(room):
    allowed = {room, *MAY_IMPORT[room], *EVERYBODY}
    reached = {
        (name, other)
        for name, path in modules()
        if is_within(name, {room})
        for other in imported(path)
        if other.startswith("transforms.")
        and not is_within(other.removeprefix("transforms."), allowed)
    }
    assert reached == set()


@pytest.mark.parametrize("library", LIBRARIES)
def test_libraries_stay_in_their_rooms(library):
    users = {
        name
        for name, path in modules()
        if any(is_within(other, {library}) for other in imported(path))
    }
    assert {name for name in users if not is_within(name, LIBRARIES[library])} == set()


def test_no_module_takes_a_private_name_of_another():
    taken = {
        (name, f"{node.module}.{alias.name}")
        for name, path in modules()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if (node.module or "").startswith("transforms") and alias.name.startswith("_")
    }
    assert taken == set()
