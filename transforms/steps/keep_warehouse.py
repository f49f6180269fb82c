"""While a job works, nobody else gets its warehouse."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any, Final

import apache_beam as beam

from transforms.warehouse.publishing import Run

_BEAT_SECONDS: Final = 600.0


@beam.typehints.with_output_types(bool)
class KeepWarehouse(beam.DoFn):
    """Anything that shows the job is alive → nothing: renews the run's hold of its warehouse.

    The process that took it may be gone while the job goes on.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._renewed_at = -math.inf

    def process(self, _: Any) -> Iterator[bool]:
        """Renew it, but not at every element.

        Raises:
            RunError: Another run has taken the warehouse.
        """
        if time.monotonic() - self._renewed_at > _BEAT_SECONDS:
            self._run.warehouse.renew(self._run.run_id)
            self._renewed_at = time.monotonic()
        yield from ()
