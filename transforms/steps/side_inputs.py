"""Side inputs of which a fault of the engine would otherwise make wrong tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeVar

import polars as pl

from transforms.errors import RunError
from transforms.shuffle.coder import Payload
from transforms.shuffle.stores import FrameStore, collect_frames

LOST: Final = (
    "the engine lost a side input, so the tables would be wrong; nothing was published. Run again; "
    "if it happens again, choose another --runner."
)

_Found = TypeVar("_Found")


def read_element(found: Iterable[_Found]) -> _Found:
    """The one element of a side input.

    Raises:
        RunError: The engine has lost it.
    """
    for element in found:
        return element
    raise RunError(LOST)


def read_frame(store: FrameStore, payloads: Iterable[Payload], name: str) -> pl.DataFrame:
    """The frame of a name in a side input that always has one.

    Raises:
        RunError: The engine has lost it.
    """
    found = collect_frames(store, payloads).get(name)
    if found is None:
        raise RunError(LOST)
    return found
