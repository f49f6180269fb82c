"""What a run would need on Dataflow, from the size of its input and measured costs; no run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pipelines.runners import FEWEST_WORKERS
from transforms.ingest.files import RANGE_BYTES, InputFile
from transforms.shuffle import sizing

# Measured on generated data of REES46's shape, 3 million events, frames inline (docs/dataflow.md).
CSV_BYTES_PER_EVENT: Final = 132
CPU_SECONDS_PER_EVENT: Final = 5.0e-6
EVENT_BYTES: Final = 19  # of an event as it crosses the shuffle, and
OTHER_BYTES: Final = 11  # of what is said of users and products, an event

# By benchmarks.shards (docs/performance.md): to send an event once more, and to send a piece.
CPU_SECONDS_PER_PASS: Final = 0.5e-6
CPU_SECONDS_PER_PIECE: Final = 150e-6

BUSY_SHARE: Final = 0.5
"""Share of their paid time that vCPUs work; the rest is starting and waiting."""

MEMORY_GB_PER_VCPU: Final = 4.0  # the n1-, n2- and e2-standard machines
DISK_GB_PER_VCPU: Final = 25.0  # the default boot disk, on a machine with one vCPU
START_VCPU_HOURS: Final = 0.1  # the launcher and the first worker

# Batch workers in us-central1, US dollars: the list prices of cloud.google.com/dataflow/pricing as
# known in 2025. Other regions cost more; FlexRS and volume discounts, left out here, make it less.
USD_PER_VCPU_HOUR: Final = 0.056
USD_PER_MEMORY_GB_HOUR: Final = 0.003557
USD_PER_DISK_GB_HOUR: Final = 0.000054
USD_PER_SHUFFLED_GB: Final = 0.011
WRITTEN_AND_READ: Final = 2  # both are charged


@dataclass(frozen=True)
class Estimate:
    """What a run would need on Dataflow.

    Attributes:
        files: Input files.
        csv_bytes: Bytes of CSV in them, after decompression.
    """

    files: int
    csv_bytes: int

    @property
    def events(self) -> float:
        """Rows of the input."""
        return self.csv_bytes / CSV_BYTES_PER_EVENT

    @property
    def shards(self) -> int:
        """Session shards."""
        return sizing.session_shards(self.csv_bytes, FEWEST_WORKERS)

    @property
    def passes(self) -> int:
        """How often an event crosses the shuffle."""
        return sizing.session_levels(self.shards).passes

    @property
    def pieces(self) -> int:
        """Pieces in which events cross the shuffle, over all passes."""
        range_bytes = max(RANGE_BYTES, sizing.least_range(self.shards))
        return sizing.event_pieces(self.csv_bytes, self.shards, range_bytes)

    @property
    def vcpu_hours(self) -> float:
        """Paid hours of a vCPU."""
        seconds = self.events * CPU_SECONDS_PER_EVENT + self.pieces * CPU_SECONDS_PER_PIECE
        seconds += self.events * CPU_SECONDS_PER_PASS * (self.passes - 1)
        return START_VCPU_HOURS + seconds / BUSY_SHARE / 3600

    @property
    def shuffled_gb(self) -> float:
        """GB that the shuffle service writes and reads."""
        of_users = sizing.user_levels(self.shards).passes
        size = EVENT_BYTES * self.passes + OTHER_BYTES * of_users
        return self.events * size * WRITTEN_AND_READ / 1e9

    @property
    def worker_usd(self) -> float:
        """US dollars for workers: vCPU, memory, disk."""
        return self.vcpu_hours * (
            USD_PER_VCPU_HOUR
            + MEMORY_GB_PER_VCPU * USD_PER_MEMORY_GB_HOUR
            + DISK_GB_PER_VCPU * USD_PER_DISK_GB_HOUR
        )

    @property
    def shuffle_usd(self) -> float:
        """US dollars for the shuffle service."""
        return self.shuffled_gb * USD_PER_SHUFFLED_GB


def estimate(files: Sequence[InputFile]) -> Estimate:
    """Estimate a run over these files."""
    return Estimate(len(files), sum(file.csv_bytes for file in files))


def describe(needed: Estimate) -> str:
    """The estimate as lines for a person."""
    gigabytes = needed.csv_bytes / 1e9
    return (
        "\n"
        f"  files            {needed.files:>12,}   {gigabytes:,.2f} GB of CSV, "
        f"about {needed.events:,.0f} events\n"
        f"  vCPU-hours       {needed.vcpu_hours:>12,.1f}\n"
        f"  shuffled GB      {needed.shuffled_gb:>12,.1f}   events in {needed.pieces:,} pieces, "
        f"{'in one pass' if needed.passes == 1 else 'in two passes'}\n"
        f"  US dollars       {needed.worker_usd + needed.shuffle_usd:>12,.2f}   "
        f"workers {needed.worker_usd:,.2f}, shuffle {needed.shuffle_usd:,.2f}\n"
        "\n"
        "  Rough figures for Dataflow in us-central1 at list prices, storage and BigQuery apart.\n"
    )
