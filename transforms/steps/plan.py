"""What the graph is built from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transforms.ingest.files import InputRanges
from transforms.shuffle import sizing
from transforms.shuffle.sizing import Levels
from transforms.shuffle.stores import FrameStore, frame_store
from transforms.steps.progress import Progress
from transforms.warehouse.publishing import Run


@dataclass(frozen=True)
class Plan:
    """What the graph is built from.

    Attributes:
        run: The run.
        ranges: What to read.
        session_shards: Number of shards of sessions.
        spill_directory: Folder that all workers share, or None for a distributed shuffle.
        is_replayed: Whether the runner runs bundles again that have been done.
    """

    run: Run
    ranges: Sequence[InputRanges]
    session_shards: int
    spill_directory: str | None
    is_replayed: bool = False

    @property
    def store(self) -> FrameStore:
        """How frames cross a shuffle."""
        return frame_store(self.spill_directory, is_replayed=self.is_replayed)

    @property
    def is_distributed(self) -> bool:
        """Whether workers share no folder."""
        return self.spill_directory is None

    @property
    def progress(self) -> Progress:
        """Where progress is noted."""
        return Progress(self.spill_directory)

    @property
    def session_levels(self) -> Levels:
        """How events reach the shards of sessions."""
        return self._levels(sizing.session_levels(self.session_shards))

    @property
    def user_levels(self) -> Levels:
        """How what is said of users reaches their shards."""
        return self._levels(sizing.user_levels(self.session_shards))

    @property
    def product_levels(self) -> Levels:
        """How what is said of products reaches their shards."""
        return self._levels(sizing.product_levels(self.session_shards))

    def _levels(self, distributed: Levels) -> Levels:
        """One level where pieces are appended to a shard's file, whatever their size."""
        return distributed if self.is_distributed else Levels(distributed.shards)
