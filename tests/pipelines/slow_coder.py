"""A program: elements whose coder takes its time cross a stage of the local runner."""

import sys
import time

import apache_beam as beam
from apache_beam.coders import Coder, registry
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions
from apache_beam.transforms.util import Reshuffle

from pipelines.runners import local_runner

SECONDS = 1.2  # longer than it takes Beam's local runner to lose its patience


class Large:
    """Bytes that are slow to encode."""

    def __init__(self, data: bytes) -> None:
        self.data = data


class SlowCoder(Coder):
    """Lets go of the interpreter's lock while it encodes, as those of frames do."""

    def encode(self, value: Large) -> bytes:
        time.sleep(SECONDS)
        return value.data

    def decode(self, encoded: bytes) -> Large:
        return Large(encoded)

    def is_deterministic(self) -> bool:
        return True


registry.register_coder(Large, SlowCoder)


def total(found: list[int]) -> None:
    """Fail unless all bytes have arrived."""
    assert sum(found) == 2 * len(DATA), found


DATA = b"x" * 100_000


def main() -> None:
    """Send two elements through a stage."""
    options = PipelineOptions()
    options.view_as(DirectOptions).direct_num_workers = 2
    with beam.Pipeline(local_runner(2), options) as pipeline:
        arrived = (
            pipeline
            | beam.Create([1, 2])
            | "Spread" >> Reshuffle()
            | beam.Map(lambda _: Large(DATA)).with_output_types(Large)
            | Reshuffle()
            | beam.Map(lambda large: (0, len(large.data)))
            | beam.GroupByKey()
        )
        _ = arrived | beam.MapTuple(lambda _, sizes: total(list(sizes)))


if __name__ == "__main__":
    sys.exit(main())
