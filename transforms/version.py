"""The version of this program."""

from __future__ import annotations

from importlib import metadata


def code_version() -> str:
    """The version of this program, as installed."""
    try:
        return metadata.version("estore-analytics")
    except metadata.PackageNotFoundError:
        return "not installed"
