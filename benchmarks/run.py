"""Compare with DuckDB, Polars and row-wise Beam.

All contenders read the same CSV and write every table as Parquet, one after the other in one run,
each in processes of its own. Their tables are compared before any time is shown.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import shutil
import statistics
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from benchmarks import with_rows
from benchmarks.comparing import COMPARED, DifferentTablesError, require_equal, tables_named
from benchmarks.inputs import SKEWS, Input, prepare
from benchmarks.measuring import CommandFailedError, Cost, measure
from transforms.rules import Rules
from transforms.schema import Table, tables_without

OURS: Final = "ours"
_READ_BYTES: Final = 16 << 20
_VERSIONS: Final = ("apache-beam", "polars", "pyarrow", "duckdb")


@dataclass(frozen=True)
class Contender:
    """A program that makes the tables.

    Attributes:
        title: What it is called in the table.
        command: Its command, in which INPUT and OUTPUT are replaced.
        on_sample: True where it is measured on the sample only.
        over_time: True where it makes the tables over time as well, unless `--without=time` is
            given to it; another one takes part where they are left out.
        leaves_out: Groups of tables that it could make, and nobody else does.
        tables: The tables it makes.
    """

    title: str
    command: tuple[str, ...]
    on_sample: bool = False
    over_time: bool = False
    leaves_out: tuple[str, ...] = ()
    tables: tuple[str, ...] = tuple(table.name for table in COMPARED)

    def command_on(self, files: str, output: Path, without: Collection[str] = ()) -> list[str]:
        """The command for an input and an output folder.

        Args:
            files: Glob of the input.
            output: The folder.
            without: Groups of tables that are left out.
        """
        places = {"INPUT": files, "OUTPUT": str(output)}
        command = [sys.executable, "-m", *(places.get(part, part) for part in self.command)]
        left_out = (*self.leaves_out, *(without if self.over_time else ()))
        return [*command, f"--without={','.join(left_out)}"] if left_out else command

    def compared(self, without: Collection[str]) -> tuple[Table, ...]:
        """The tables that are compared, where groups of them are left out."""
        left_out = frozenset((*without, *CONTENDERS[OURS].leaves_out))
        kept = tables_without(Rules(without=left_out).left_out)
        return tuple(table for table in tables_named(self.tables) if table in kept)


CONTENDERS: Final[Mapping[str, Contender]] = {
    OURS: Contender(
        "this program",
        ("pipelines.customer_analytics", "--input", "INPUT", "--output", "OUTPUT"),
        over_time=True,
        leaves_out=("clv", "selling"),
    ),
    "duckdb": Contender(
        "DuckDB, SQL", ("benchmarks.with_duckdb", "INPUT", "OUTPUT"), over_time=True
    ),
    "polars": Contender("Polars, hand-written", ("benchmarks.with_polars", "INPUT", "OUTPUT")),
    "rows": Contender(
        "Beam, a dict per event",
        ("benchmarks.with_rows", "INPUT", "OUTPUT"),
        on_sample=True,
        tables=with_rows.TABLES,
    ),
}


@dataclass(frozen=True)
class Result:
    """A contender's costs, one for each round, and the number of events it read."""

    contender: Contender
    rows: int
    costs: Sequence[Cost]

    @property
    def seconds(self) -> float:
        """Median seconds."""
        return statistics.median(cost.seconds for cost in self.costs)

    @property
    def cpu_seconds(self) -> float:
        """Median CPU seconds."""
        return statistics.median(cost.cpu_seconds for cost in self.costs)

    @property
    def peak_bytes(self) -> int:
        """Largest peak."""
        return max(cost.peak_bytes for cost in self.costs)


def run_rounds(
    source: Input,
    contenders: Mapping[str, Contender],
    rounds: int,
    folder: Path,
    without: Collection[str] = (),
) -> list[Result]:
    """Run every contender once a round and compare its tables with ours.

    Args:
        source: What they read.
        contenders: Who takes part.
        rounds: How often.
        folder: Where they write; it is removed.
        without: Groups of tables that are left out.

    Raises:
        CommandFailedError: A contender failed.
        DifferentTablesError: A contender's tables are not ours.
    """
    costs: dict[str, list[Cost]] = {name: [] for name in contenders}
    expected_of_sample = folder / "ours-on-sample"
    for number in range(rounds):
        for name, contender in contenders.items():
            output = folder / name
            shutil.rmtree(output, ignore_errors=True)
            files = str(source.sample) if contender.on_sample else source.files
            _read_once(files)
            os.sync()  # nobody waits for what the one before has left to be written
            print(f"round {number + 1} of {rounds}: {contender.title}", file=sys.stderr)
            costs[name].append(
                measure(contender.command_on(files, output, without), _environment())
            )
            expected = folder / OURS
            if contender.on_sample:
                expected = expected_of_sample
                if not expected.exists():
                    measure(CONTENDERS[OURS].command_on(files, expected, without), _environment())
            if output != expected:
                require_equal(output, expected, contender.compared(without))
                shutil.rmtree(output)
    shutil.rmtree(folder)
    return [
        Result(contender, source.sample_rows if contender.on_sample else source.rows, costs[name])
        for name, contender in contenders.items()
    ]


def _environment() -> dict[str, str]:
    """Our environment, without what `transforms` tells Polars, which is for this program alone."""
    return {name: value for name, value in os.environ.items() if name != "_RJEM_MALLOC_CONF"}


def _read_once(files: str) -> None:
    """Read the input, so that everybody finds it in the page cache, as far as it fits."""
    pattern = Path(files)
    for path in pattern.parent.glob(pattern.name):
        with path.open("rb", buffering=0) as file:
            while file.read(_READ_BYTES):
                pass


# --- The table ------------------------------------------------------------------------------------


def describe_results(results: Sequence[Result], rows: int) -> str:
    """The table, in Markdown; ratios to the first result, which is ours."""
    ours = results[0]
    header = ("", "seconds", "× ours", "CPU s", "× ours", "peak memory", "× ours", "events/s")
    body = [_row(result, ours, rows, is_repeated=len(result.costs) > 1) for result in results]
    notes = [
        f"\\* On the first {result.rows:,} events, and only {', '.join(result.contender.tables)}; "
        f"seconds are those of {rows:,} events at the same rate, memory is that of the sample."
        for result in results
        if result.contender.on_sample
    ]
    return "\n".join([_line(header), _line(["---", *["---:"] * 7]), *body, "", *notes])


def _row(result: Result, ours: Result, rows: int, *, is_repeated: bool) -> str:
    scale = rows / result.rows
    mark = " \\*" if result.contender.on_sample else ""
    seconds = f"{result.seconds * scale:,.1f}"
    if is_repeated:
        times = [cost.seconds * scale for cost in result.costs]
        seconds += f" ({min(times):,.1f}-{max(times):,.1f})"
    return _line(
        (
            result.contender.title + mark,
            seconds,
            f"{result.seconds * scale / ours.seconds:.2f}",
            f"{result.cpu_seconds * scale:,.1f}",
            f"{result.cpu_seconds * scale / ours.cpu_seconds:.2f}",
            f"{result.peak_bytes / 1e9:.2f} GB",
            f"{result.peak_bytes / ours.peak_bytes:.2f}",
            f"{result.rows / result.seconds:,.0f}",
        )
    )


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def describe_machine() -> str:
    """Cores, memory, system and versions, in one line."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    versions = ", ".join(f"{name} {version(name)}" for name in _VERSIONS)
    return (
        f"{len(os.sched_getaffinity(0))} cores of {model}, {memory:.0f} GB, "
        f"{platform.system()} {platform.release()}; "
        f"Python {platform.python_version()}, {versions}"
    )


# --- The command ----------------------------------------------------------------------------------


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; exit with 2 where it is wrong."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.run", description=(__doc__ or "").partition("\n\n")[2], allow_abbrev=False
    )
    parser.add_argument(
        "--rows", type=_positive, default=10_000_000, help="events (default: %(default)s)"
    )
    parser.add_argument(
        "--contenders",
        nargs="+",
        choices=[name for name in CONTENDERS if name != OURS],
        help="whom to compare with (default: all; those without tables over time only where these "
        "are left out)",
    )
    parser.add_argument(
        "--without",
        action="append",
        choices=("time",),
        default=[],
        help="tables that nobody makes: time for those over time",
    )
    parser.add_argument(
        "--repeat",
        type=_positive,
        default=1,
        help="rounds, in each of which everybody runs once; shown are the median of the seconds "
        "and the largest memory (default: %(default)s)",
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("data"),
        help="folder of generated inputs, which are kept, and of outputs (default: %(default)s)",
    )
    parser.add_argument(
        "--skew",
        choices=list(SKEWS),
        help="one session with an eighth of the events, one user with half of them, "
        "or one product with a third",
    )
    packaging = parser.add_mutually_exclusive_group()
    packaging.add_argument("--files", type=_positive, help="cut the CSV into so many files")
    packaging.add_argument("--gz", action="store_true", help="one gzip file")
    options = parser.parse_args(arguments)
    able = [
        name
        for name, contender in CONTENDERS.items()
        if name != OURS and (contender.over_time or "time" in options.without)
    ]
    for name in options.contenders or ():
        if name not in able:
            parser.error(
                f"argument --contenders: {name} makes no tables over time: add --without=time"
            )
    options.contenders = options.contenders or able
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command: 0 compared, 1 failed or different tables, 2 (as SystemExit) wrong usage."""
    options = parse_arguments(arguments)
    if not sys.platform.startswith("linux"):
        print("benchmarks: needs Linux, whose /proc tells the memory in use", file=sys.stderr)
        return 1
    source = prepare(
        options.data, options.rows, skew=options.skew, files=options.files, gz=options.gz
    )
    contenders = {
        name: contender
        for name, contender in CONTENDERS.items()
        if name == OURS or name in options.contenders
    }
    folder = options.data / "bench-outputs"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        results = run_rounds(source, contenders, options.repeat, folder, options.without)
    except (CommandFailedError, DifferentTablesError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nbenchmarks: interrupted", file=sys.stderr)
        return 1
    given = sys.argv[1:] if arguments is None else arguments
    print(f"python -m benchmarks.run {shlex.join(given)}".rstrip())
    print(f"{source.rows:,} events, {source.csv_bytes / 1e9:.2f} GB of CSV; all tables are equal")
    print(describe_machine())
    print()
    print(describe_results(results, source.rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
