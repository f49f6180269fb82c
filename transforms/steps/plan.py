"""What the graph is built from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transforms.ingest.files import InputRanges
from transforms.shuffle import sizing
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
    def user_shards(self) -> int:
        """Number of shards of users."""
        return sizing.user_shards(self.session_shards)

    @property
    def product_shards(self) -> int:
        """Number of shards of products."""
        return sizing.product_shards(self.session_shards)
