"""Tables to staged files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from transforms.audit.checks import check_batch
from transforms.audit.measures import measure_batch
from transforms.schema import TABLES_BY_NAME, TableBatch
from transforms.shuffle.coder import NamedFrame
from transforms.warehouse.staging import StagedFile, stage_batch


@beam.typehints.with_input_types(TableBatch)
@beam.typehints.with_output_types(StagedFile, audit=NamedFrame)
class StageTables(beam.DoFn):
    """TableBatch → StagedFile, and on the tag `audit` what the audit needs of it.

    The audit gets `checks` (CHECKED) and `measures` (MEASURED) frames.
    """

    AUDIT: Final = "audit"

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def process(self, element: TableBatch) -> Iterator[StagedFile | TaggedOutput[str, Any]]:
        """Check and write one batch."""
        name, frame, encoded = element
        table = TABLES_BY_NAME[name]
        yield TaggedOutput(self.AUDIT, ("checks", check_batch(table, frame, encoded)))
        measures = measure_batch(table, frame)
        if measures.height:
            yield TaggedOutput(self.AUDIT, ("measures", measures))
        if frame.height:
            yield from stage_batch(frame, table, self._directory, encoded)
