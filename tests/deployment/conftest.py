"""The schema of Terraform's Google provider, as a package on PyPI has it."""

from __future__ import annotations

import ast
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.wheels import wheel_of

LOCK = Path(__file__).with_name("requirements-provider.lock")
PACKAGE = "cdktf_cdktf_provider_google"


def provider_wheel() -> Path:
    """The wheel that holds the schema."""
    return wheel_of(LOCK, "terraform-provider", "NO SCHEMA: Terraform's provider")


@dataclass(frozen=True)
class Argument:
    """An argument of a resource or of a block in it.

    Attributes:
        required: Whether it must be given.
        block: The class that describes what is in it; None where it is a value.
    """

    required: bool
    block: str | None


def _arguments(definition: ast.ClassDef, classes: set[str]) -> dict[str, Argument]:
    """The arguments of a class of the package: the keyword-only ones of its constructor."""
    (constructor,) = (
        node
        for node in definition.body
        if isinstance(node, ast.FunctionDef) and node.name == "__init__"
    )
    arguments = {}
    names = constructor.args.kwonlyargs
    for argument, default in zip(names, constructor.args.kw_defaults, strict=True):
        inside = {
            getattr(node, "id", getattr(node, "value", None))
            for node in ast.walk(argument.annotation)
            if isinstance(node, ast.Name | ast.Constant)
        }
        block = next(iter(classes & inside), None)
        arguments[argument.arg] = Argument(default is None, block)
    return arguments


class Provider:
    """What the provider takes: for each resource its arguments, blocks within blocks included."""

    def __init__(self, wheel: zipfile.ZipFile) -> None:
        self._wheel = wheel
        self._read: dict[str, dict[str, dict[str, Argument]]] = {}

    def source(self, module: str) -> str:
        """The text of a module."""
        return self._wheel.read(f"{PACKAGE}/{module}/__init__.py").decode()

    def classes(self, module: str) -> dict[str, dict[str, Argument]]:
        """The classes of a module that describe arguments: name to arguments."""
        if module not in self._read:
            source = self.source(module)
            definitions = [
                node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)
            ]
            described = {node.name for node in definitions if _is_described(node)}
            self._read[module] = {
                node.name: _arguments(node, described)
                for node in definitions
                if node.name in described
            }
        return self._read[module]

    def modules(self) -> set[str]:
        """Names of resources without `google_`; of data sources with `data_google_`."""
        return {
            parts[1]
            for parts in (name.split("/") for name in self._wheel.namelist())
            if len(parts) == 3 and parts[2] == "__init__.py"
        }


def _is_described(definition: ast.ClassDef) -> bool:
    """True where jsii declares the class a structure."""
    return any("jsii_struct_bases" in ast.dump(node) for node in definition.decorator_list)


@pytest.fixture(scope="session")
def provider():
    with zipfile.ZipFile(provider_wheel()) as wheel:
        yield Provider(wheel)
