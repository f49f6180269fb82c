"""Merging small frames on the way, so that no worker ever reads one for each shard."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

import apache_beam as beam
import polars as pl
from apache_beam.coders import Coder, StrUtf8Coder, TupleCoder

from transforms.shuffle.coder import FrameCoder, NamedFrame

Merge = Callable[[pl.DataFrame], pl.DataFrame]
"""From frames one behind the other to one of the same columns with a row for each key."""

_FANOUT: Final = 16  # workers that share in merging the frames of one name
_CHUNKS: Final = 32  # frames that are put one behind the other before they are merged


@beam.typehints.with_input_types(NamedFrame)
@beam.typehints.with_output_types(NamedFrame)
class MergeFrames(beam.CombineFn):
    """NamedFrame of one name → the merged NamedFrame.

    The accumulator is a named frame, of few rows for each key; its name is empty before the first.
    """

    def __init__(self, merges: Mapping[str, Merge]) -> None:
        self._merges = dict(merges)

    def create_accumulator(self) -> NamedFrame:
        """Begin with nothing."""
        return "", pl.DataFrame()

    def add_input(self, mutable_accumulator: NamedFrame, element: NamedFrame) -> NamedFrame:
        """Put a frame behind the others."""
        return self.merge_accumulators([mutable_accumulator, element])

    def merge_accumulators(self, accumulators: Iterable[NamedFrame]) -> NamedFrame:
        """Put frames one behind the other, and merge them when there are many."""
        found = [(name, frame) for name, frame in accumulators if name]
        if not found:
            return self.create_accumulator()
        name, _ = found[0]
        frame = pl.concat((frame for _, frame in found), rechunk=False)
        return (name, self._merges[name](frame)) if frame.n_chunks() > _CHUNKS else (name, frame)

    def compact(self, accumulator: NamedFrame) -> NamedFrame:
        """Merge what is not merged yet, before it is sent."""
        name, frame = accumulator
        return (name, self._merges[name](frame)) if name else accumulator

    def extract_output(self, accumulator: NamedFrame) -> NamedFrame:
        """The merged frame."""
        return self.compact(accumulator)

    def get_accumulator_coder(self) -> Coder:
        """Accumulators cross the shuffle as other frames do."""
        return TupleCoder((StrUtf8Coder(), FrameCoder()))


@beam.typehints.with_input_types(NamedFrame)
@beam.typehints.with_output_types(NamedFrame)
class CombineFrames(beam.PTransform[beam.PCollection[NamedFrame], beam.PCollection[NamedFrame]]):
    """PCollection[NamedFrame] → PCollection[NamedFrame]: of each name one frame, merged.

    Args:
        merges: How the frames of each name merge.
        is_distributed: Whether several workers should share in merging the frames of one name.
    """

    def __init__(self, merges: Mapping[str, Merge], *, is_distributed: bool) -> None:
        super().__init__()
        self._merges = dict(merges)
        self._is_distributed = is_distributed

    def expand(self, pcoll: beam.PCollection[NamedFrame]) -> beam.PCollection[NamedFrame]:
        """Combine by name, in two rounds where many workers have something to add."""
        frames = pcoll
        if self._is_distributed:
            frames = (
                frames
                | "Spread" >> beam.ParDo(_Spread())
                | "MergeParts" >> beam.CombinePerKey(MergeFrames(self._merges))
                | "Parts" >> beam.Values().with_output_types(NamedFrame)
            )
        merged: beam.PCollection[NamedFrame] = (
            frames
            | "ByName" >> beam.Map(_by_name).with_output_types(tuple[str, NamedFrame])
            | "Merge" >> beam.CombinePerKey(MergeFrames(self._merges))
            | "Merged" >> beam.Values().with_output_types(NamedFrame)
        )
        return merged


def _by_name(element: NamedFrame) -> tuple[str, NamedFrame]:
    return element[0], element


@beam.typehints.with_input_types(NamedFrame)
@beam.typehints.with_output_types(tuple[tuple[str, int], NamedFrame])
class _Spread(beam.DoFn):
    """Keys frames by name and, in turn, by one of the workers that share in merging them."""

    def __init__(self) -> None:
        self._turn = 0

    def process(self, element: NamedFrame) -> Iterator[tuple[tuple[str, int], NamedFrame]]:
        """Key a frame; which part it goes to changes nothing."""
        self._turn = (self._turn + 1) % _FANOUT
        yield (element[0], self._turn), element
