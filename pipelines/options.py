"""Every option of the pipeline, once: the command line, the flex template and the docs use it.

Nothing that is slow to import is imported here: help and mistakes are answered at once.
"""

from __future__ import annotations

import argparse
import datetime as dt
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from transforms.funnels import DEFAULT_FUNNELS
from transforms.rules import (
    FREQUENCY_UNITS,
    HISTORIES,
    MOST_DAYS,
    MOST_EVENTS_PER_SESSION,
    MOST_PAIR_BASKETS,
    MOST_SECONDS,
    TABLE_GROUPS,
    ClvOptions,
    FrequencyUnit,
    History,
    Rules,
    UserThresholds,
)
from transforms.version import code_version

if TYPE_CHECKING:
    from pipelines.configuration import Configuration


class UsageError(Exception):
    """The command is wrong; the message says what and how to put it right."""


def _whole(unit: str, most: int, least: int = 1) -> dict[str, Any]:
    """What an option of a whole number is like: from 0 or 1 to a most, of a unit."""

    def parse(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise ValueError
        return value

    return {
        "parse": parse,
        "expected": f"a whole number{unit}, from {least} to {most:,}",
        "pattern": f"^({'' if least else '0|'}{pattern_up_to(most)})$",
    }


def pattern_up_to(most: int) -> str:
    """A regular expression of the whole numbers from 1 to a most, written without zeros before."""
    digits = str(most)
    patterns = [f"[1-9][0-9]{{0,{len(digits) - 2}}}"] if len(digits) > 1 else []
    for place, digit in enumerate(digits):
        lowest = 0 if place else 1
        if lowest < int(digit):
            rest = len(digits) - place - 1
            lower = f"[{lowest}-{int(digit) - 1}]"
            patterns.append(digits[:place] + lower + (f"[0-9]{{{rest}}}" if rest else ""))
    return "|".join([*patterns, digits])


def _ratio(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1 or math.isnan(value):
        raise ValueError
    return value


def _one_of(*values: str) -> dict[str, Any]:
    """What an option of a few values is like."""

    def parse(text: str) -> str:
        if text not in values:
            raise ValueError
        return text

    return {
        "parse": parse,
        "expected": f"one of {', '.join(values)}",
        "pattern": f"^({'|'.join(values)})$",
    }


def _some_of(*values: str) -> dict[str, Any]:
    """What an option of several of a few values is like, parted by commas."""

    def parse(text: str) -> frozenset[str]:
        found = frozenset(part.strip() for part in text.split(","))
        if not found <= set(values):
            raise ValueError
        return found

    return {
        "parse": parse,
        "expected": f"one or more of {', '.join(values)}, parted by commas",
        "pattern": f"^({'|'.join(values)})(,({'|'.join(values)}))*$",
    }


LOG_LEVELS: Final = ("debug", "info", "warning", "error", "critical")


def _log_level(text: str) -> str:
    if text.lower() not in LOG_LEVELS:
        raise ValueError
    return text.lower()


def _text(text: str) -> str:
    if not text.strip():
        raise ValueError
    return text


def _flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError
    return text == "true"


def _folder(text: str) -> str:
    folder = text.rstrip("/") or text[:1]
    if re.match("[A-Za-z][A-Za-z0-9+.-]*:/", folder):
        if not re.fullmatch(_FOLDER, folder):
            raise ValueError
        return folder
    folder = str(Path(folder).expanduser()) if folder.startswith("~") else folder
    if not folder.strip() or re.search(_PATTERN_CHARACTERS, folder):
        raise ValueError
    return folder


def _rejected_file(text: str) -> str:
    if not re.fullmatch(_REJECTED_FILE, text, re.IGNORECASE | re.DOTALL) or "://" in text:
        raise ValueError
    return str(Path(text).expanduser()) if text.startswith("~") else text


def _matching(pattern: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError
        return text

    return parse


@dataclass(frozen=True)
class Option:
    """One option.

    Attributes:
        name: Its name, without dashes.
        group: The heading it stands under in the help.
        label: A short title, for the flex template's form.
        help: What it does, with its unit.
        example: A value that shows its form.
        parse: Reads its text; a ValueError means the text is wrong.
        expected: What the text must be, for the message when it is not.
        pattern: Regular expression of the texts that a form should let through.
        default: Its value when it is not given; None where there is none.
        required: True where it must be given.
        several: True where it may be given several values.
        flag: True where it takes no value; a form gives it `true` or `false`.
        parameter_type: The kind of field a form shows, as the flex template names it.
        command_line_only: True where a flex template has no use for it.
    """

    name: str
    group: str
    label: str
    help: str
    example: str
    parse: Callable[[str], Any] = _text
    expected: str = "text"
    pattern: str = ".+"
    default: Any = None
    required: bool = False
    several: bool = False
    flag: bool = False
    parameter_type: str = "TEXT"
    command_line_only: bool = False


_FLAG: Final[dict[str, Any]] = {
    "example": "true",
    "parse": _flag,
    "expected": "true or false",
    "pattern": "^(true|false)$",
    "default": False,
    "flag": True,
    "parameter_type": "BOOLEAN",
}
# A bucket, and names without what a glob or a URL would take for something else.
_FOLDER: Final = "^gs://[a-z0-9][a-z0-9._-]+[a-z0-9](/[A-Za-z0-9._=+-]+)*/?$"
# What readers of Parquet files take for a pattern or a list, whatever it is escaped with.
_PATTERN_CHARACTERS: Final = r"[*?\[\],\\\\]"
_DATASET: Final = "^([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]\\.[A-Za-z0-9_]{1,1024}$"
_LOCATION: Final = "^([A-Za-z]{2}|[a-z]+-[a-z]+[0-9]+)$"
_REJECTED_FILE: Final = "^.+\\.(csv|parquet)$"
_RUN_ID: Final = "^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$"
_PUBLISHING: Final = "BigQuery and resuming"
_SCHEDULE: Final = "Schedule"
_DECIDING_NOTHING: Final = {_PUBLISHING, _SCHEDULE}
"""Groups of options that change no table."""

_SHARE: Final[dict[str, Any]] = {
    "parse": _ratio,
    "expected": "a number from 0 to 1",
    "pattern": "^(0(\\.[0-9]+)?|1(\\.0+)?)$",
}
_DAYS: Final = _whole(" of days", MOST_DAYS)
_RULES: Final = Rules()

OPTIONS: tuple[Option, ...] = (
    Option(
        "input",
        "Input and output",
        "Input files",
        "CSV files, plain, .gz, .zst, .bz2 or .zip, local or gs://: one or more names, folders or "
        "globs, separated by spaces or commas.",
        "gs://bucket/2019-*.csv.gz",
        required=True,
        several=True,
        expected="one or more globs",
        pattern="^gs://[^,\\s]+(,gs://[^,\\s]+)*$",
    ),
    Option(
        "output",
        "Input and output",
        "Warehouse folder",
        "Folder of the warehouse, local or gs://; it is made if need be.",
        "gs://bucket/warehouse",
        parse=_folder,
        required=True,
        expected="a local folder, its name without * ? [ ] , \\ and ://, or gs://BUCKET/FOLDER",
        pattern=_FOLDER,
        parameter_type="GCS_WRITE_FOLDER",
    ),
    Option(
        "config",
        "Input and output",
        "Configuration file",
        "TOML file, local or gs://, of what options cannot say: funnels of one's own. To check "
        "it: customer-analytics check-config FILE.",
        "gs://bucket/shop.toml",
        expected="a file",
        pattern="^gs://[^,\\s]+$",
        parameter_type="GCS_READ_FILE",
    ),
    Option(
        "estimate",
        "Input and output",
        "Estimate",
        "Print what the run would need on Dataflow, by the size of the input: vCPU-hours, shuffled "
        "GB and US dollars; read and write nothing else.",
        command_line_only=True,
        **_FLAG,
    ),
    Option(
        "log_level",
        "Input and output",
        "Log level",
        "What is shown of what Beam and other libraries log: messages of this level and above, of "
        f"{', '.join(LOG_LEVELS)}. What fails a run is said in any case.",
        "warning",
        parse=_log_level,
        expected=f"one of {', '.join(LOG_LEVELS)}",
        pattern=f"^({'|'.join(LOG_LEVELS)})$",
        default="critical",
    ),
    Option(
        "max_rejected_ratio",
        "Input and output",
        "Share of rows that may be rejected",
        "Share of the rows read, 0 to 1, beyond which rejected rows fail the run.",
        "0.01",
        default=0.01,
        **_SHARE,
    ),
    Option(
        "rejected_to",
        "Input and output",
        "File of rejected rows",
        "Local file, .csv or .parquet, for all rejected rows, also where the run fails because "
        "they are too many; without it they are in the table rejected_rows of what is published.",
        "rejected.csv",
        parse=_rejected_file,
        expected="a local file named .csv or .parquet",
        pattern=_REJECTED_FILE,
        command_line_only=True,
    ),
    Option(
        "max_dropped_ratio",
        "Input and output",
        "Share of rows dropped without a warning",
        "Share of the rows read, 0 to 1, beyond which dropped rows (duplicates, products of "
        "several brands, no session) are warned of.",
        "0.2",
        parse=_ratio,
        expected="a number from 0 to 1",
        pattern="^(0(\\.[0-9]+)?|1(\\.0+)?)$",
        default=0.5,
    ),
    Option(
        "max_age_days",
        "Input and output",
        "Days that the last event may be old",
        "Days from the last event to the run beyond which it is warned of; by default any.",
        "2",
        **_DAYS,
    ),
    Option(
        "fail_on_warnings",
        "Input and output",
        "Publish nothing where there is a warning",
        "Fail the run, and publish nothing, where data_quality has a warning.",
        **_FLAG,
    ),
    Option(
        "allow_empty",
        "Input and output",
        "Publish without events",
        "Publish also where no event is left, which otherwise fails the run.",
        **_FLAG,
    ),
    Option(
        "bigquery_dataset",
        _PUBLISHING,
        "BigQuery dataset",
        "Dataset, as project.dataset, whose tables are replaced all together; needs a gs:// "
        "--output, from which BigQuery loads.",
        "my-project.analytics",
        parse=_matching(_DATASET),
        expected="project.dataset",
        pattern=_DATASET,
    ),
    Option(
        "create_dataset",
        _PUBLISHING,
        "Create the dataset",
        "Make the dataset if it does not exist.",
        **_FLAG,
    ),
    Option(
        "location",
        _PUBLISHING,
        "Location of the dataset",
        "Where the dataset is, or is made (US if not given); the bucket must be there too.",
        "EU",
        parse=_matching(_LOCATION),
        expected="a multi-region or region",
        pattern=_LOCATION,
    ),
    Option(
        "run_id",
        _PUBLISHING,
        "Run id",
        "Id of the run; of one that passed its audit and was not published, to go on with that: "
        "nothing is computed again. By default a new one.",
        "20200501T060000Z-a1b2c3",
        parse=_matching(_RUN_ID),
        expected="letters, digits, _ and -, at most 63",
        pattern=_RUN_ID,
    ),
    Option(
        "keep_staging",
        _PUBLISHING,
        "Keep staging tables and files",
        "Keep the run's staging tables in BigQuery, for seven days, and the files of its failed "
        "attempts in the bucket, until the next run.",
        **_FLAG,
    ),
    Option(
        "if_changed",
        _SCHEDULE,
        "Only if something has changed",
        "Compute nothing where input files, options and program are those of what is published: "
        "the run may then be started as often as one likes.",
        **_FLAG,
    ),
    Option(
        "as_of",
        "Rules",
        "As-of date",
        "Date (YYYY-MM-DD, UTC) up to which events count, and from which days since an activity "
        "are counted; by default the latest event_date kept.",
        "2020-04-30",
        parse=dt.date.fromisoformat,
        expected="a date like 2020-04-30",
        pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
    ),
    Option(
        "session_timeout_seconds",
        "Rules",
        "Session timeout",
        "Seconds between neighbouring events beyond which the next session starts.",
        "1800",
        default=_RULES.session_timeout_seconds,
        **_whole(" of seconds", MOST_SECONDS),
    ),
    Option(
        "order_gap_seconds",
        "Rules",
        "Gap within an order",
        "Seconds between neighbouring purchases of a session beyond which the next order starts.",
        "5",
        default=_RULES.order_gap_seconds,
        **_whole(" of seconds", MOST_SECONDS, least=0),
    ),
    Option(
        "min_pair_baskets",
        "Rules",
        "Fewest baskets of a pair",
        "Baskets that two products must be in together, for a row of metrics_product_pairs.",
        "20",
        default=_RULES.min_pair_baskets,
        **_whole(" of baskets", MOST_PAIR_BASKETS),
    ),
    Option(
        "frequency_unit",
        "Rules",
        "Unit of frequency",
        "What frequency_score, customer_lifecycle_stage and the single purchase of metrics_churn "
        "count: purchased items or orders.",
        "orders",
        default=_RULES.frequency_unit,
        **_one_of(*FREQUENCY_UNITS),
    ),
    Option(
        "history",
        "Tables",
        "History",
        "How often the state of every customer is kept, for the tables of history: at the end of "
        "every day, week or month, or not at all.",
        "month",
        default=_RULES.history,
        **_one_of(*HISTORIES),
    ),
    Option(
        "without",
        "Tables",
        "Tables to leave out",
        "Groups of tables that are not computed, parted by commas: time (orders, user days, "
        "lifecycle, cohorts, history), clv (predicted lifetime value), selling (products, brands, "
        "carts, pairs of products, funnels, anomalies).",
        "time",
        **_some_of(*TABLE_GROUPS),
    ),
    Option(
        "churn_threshold_days",
        "Rules",
        "Churn threshold",
        "Days without purchase and activity beyond which a buyer counts as churned.",
        "60",
        default=_RULES.thresholds.churn_days,
        **_DAYS,
    ),
    Option(
        "at_risk_threshold_days",
        "Rules",
        "At-risk threshold",
        "Days without purchase beyond which a buyer counts as at risk.",
        "45",
        default=_RULES.thresholds.at_risk_days,
        **_DAYS,
    ),
    Option(
        "declining_threshold_days",
        "Rules",
        "Declining threshold",
        "Days without purchase beyond which a buyer counts as declining.",
        "30",
        default=_RULES.thresholds.declining_days,
        **_DAYS,
    ),
    Option(
        "session_outlier_ratio",
        "Rules",
        "Session outlier ratio",
        "Events per session beyond which a user's sessions count as anomalous.",
        "200",
        default=_RULES.thresholds.session_outlier_ratio,
        **_whole("", MOST_EVENTS_PER_SESSION),
    ),
    Option(
        "cohort_observation_window_days",
        "Rules",
        "Cohort observation window",
        "Days for which a customer of a churn cohort must have been observed.",
        "90",
        default=_RULES.cohort_observation_window_days,
        **_DAYS,
    ),
    Option(
        "clv_holdout_days",
        "Rules",
        "Days of the test of lifetime value",
        "Last days that models of lifetime value are tested on, having been fitted on those "
        "before; by default a third of the days since the first purchase, 28 to 182.",
        "90",
        **_DAYS,
    ),
    Option(
        "clv_max_bias",
        "Rules",
        "Bias of lifetime value",
        "Share, 0 to 1, by which the purchases that a model predicts for the days of the test may "
        "be off; beyond it predictions are not published.",
        "0.1",
        default=_RULES.clv.max_bias,
        **_SHARE,
    ),
    Option(
        "clv_annual_discount_rate",
        "Rules",
        "Discount rate of lifetime value",
        "Rate, 0 to 1 a year, at which revenue to come is discounted.",
        "0.1",
        default=_RULES.clv.annual_discount_rate,
        **_SHARE,
    ),
)


@dataclass(frozen=True)
class RunOptions:
    """The options of a run, by name; see `OPTIONS` for what each means."""

    input: tuple[str, ...]
    output: str
    config: Configuration | None
    estimate: bool
    log_level: str
    max_rejected_ratio: float
    rejected_to: str | None
    max_dropped_ratio: float
    max_age_days: int | None
    fail_on_warnings: bool
    allow_empty: bool
    bigquery_dataset: str | None
    create_dataset: bool
    location: str | None
    run_id: str | None
    keep_staging: bool
    if_changed: bool
    as_of: dt.date | None
    session_timeout_seconds: int
    order_gap_seconds: int
    min_pair_baskets: int
    frequency_unit: FrequencyUnit
    history: History
    without: frozenset[str] | None
    churn_threshold_days: int
    at_risk_threshold_days: int
    declining_threshold_days: int
    session_outlier_ratio: int
    cohort_observation_window_days: int
    clv_holdout_days: int | None
    clv_max_bias: float
    clv_annual_discount_rate: float

    @property
    def rules(self) -> Rules:
        """The options that decide values."""
        return Rules(
            as_of=self.as_of,
            session_timeout_seconds=self.session_timeout_seconds,
            order_gap_seconds=self.order_gap_seconds,
            min_pair_baskets=self.min_pair_baskets,
            frequency_unit=self.frequency_unit,
            history=self.history,
            without=self.without or frozenset(),
            cohort_observation_window_days=self.cohort_observation_window_days,
            thresholds=UserThresholds(
                churn_days=self.churn_threshold_days,
                at_risk_days=self.at_risk_threshold_days,
                declining_days=self.declining_threshold_days,
                session_outlier_ratio=self.session_outlier_ratio,
            ),
            clv=ClvOptions(
                holdout_days=self.clv_holdout_days,
                max_bias=self.clv_max_bias,
                annual_discount_rate=self.clv_annual_discount_rate,
            ),
            funnels=DEFAULT_FUNNELS if self.config is None else self.config.funnels,
        )

    def as_json(self) -> dict[str, Any]:
        """The options as JSON values, without those that are about the command alone."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("estimate", "log_level", "rejected_to", "if_changed"):
            del values[name]
        return values | {
            # A name on a disk may be of any bytes; JSON is of text.
            "input": [os.fsencode(glob).decode(errors="replace") for glob in self.input],
            "as_of": self.as_of and self.as_of.isoformat(),
            "without": sorted(self.without or ()),
            # What it says decides, wherever it lies: pipeline_runs has the text.
            "config": self.config and self.config.sha256,
        }

    def deciding(self) -> dict[str, Any]:
        """The options that decide what the tables hold, JSON values."""
        values = self.as_json()
        return {
            option.name: values[option.name]
            for option in OPTIONS
            if option.name in values and option.group not in _DECIDING_NOTHING
        }

    def differing(self, earlier: Mapping[str, Any]) -> list[str]:
        """The options that decide what the tables hold, and are not those of an earlier run.

        Args:
            earlier: Its options, as `as_json` gives them.
        """
        defaults = {option.name: option.default for option in OPTIONS}
        return [
            name
            for name, value in self.deciding().items()
            # An earlier version did not have every option.
            if value != earlier.get(name, defaults[name])
        ]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


class _ShowVersion(argparse.Action):
    """Looks the version up only where it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        print(f"{parser.prog} {code_version()}")
        parser.exit()


def _reader(option: Option) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            return option.parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not {option.expected}; for example --{option.name}={option.example}"
            ) from error

    return read


def argument_parser(*, is_complete: bool = True) -> argparse.ArgumentParser:
    """The parser of the pipeline's own options.

    Args:
        is_complete: Whether required options must be there.
    """
    parser = _Parser(
        prog="customer-analytics",
        description="Read REES46 clickstream CSVs; publish events, sessions, users, RFM segments, "
        "funnel and churn tables.",
        epilog="customer-analytics check-config FILE checks a configuration file, without data. "
        "Beam's own options, such as --runner, --project or --temp_location, pass through. "
        "Without --runner the pipeline runs here, on all cores. "
        "Exit codes: 0 published, 1 the run failed, 2 the command was wrong; stopped by a signal: "
        "130 Ctrl-C, 143 SIGTERM, 129 SIGHUP.",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version",
        action=_ShowVersion,
        nargs=0,
        default=argparse.SUPPRESS,
        help="show the version and exit",
    )
    groups: dict[str, Any] = {}
    for option in OPTIONS:
        if option.group not in groups:
            groups[option.group] = parser.add_argument_group(option.group)
        shown = "" if option.default is None else f" Default: {option.default}."
        if option.flag:
            groups[option.group].add_argument(
                f"--{option.name}",
                type=_reader(option),
                nargs="?",
                const=True,
                default=option.default,
                metavar="true|false",
                help=option.help,
            )
            continue
        groups[option.group].add_argument(
            f"--{option.name}",
            type=_reader(option),
            required=option.required and is_complete,
            default=option.default,
            nargs="+" if option.several else None,
            action="extend" if option.several else "store",
            metavar=option.name.upper() if not option.several else "GLOB",
            help=(option.help + shown).replace("%", "%%"),
        )
    return parser


def parse_arguments(arguments: Sequence[str]) -> tuple[RunOptions, list[str]]:
    """Read a command line.

    Returns:
        The pipeline's own options, and Beam's, unread.

    Raises:
        UsageError: An option is missing, wrong, or nobody's.
    """
    try:
        parsed, beam_arguments = argument_parser().parse_known_args(list(arguments))
    except UsageError:
        # A misspelt option is what is wrong, not that the required one is missing for it.
        _require_known(argument_parser(is_complete=False).parse_known_args(list(arguments))[1])
        raise
    values = vars(parsed)
    config = None if parsed.config is None else _read_configuration(parsed.config)
    options = RunOptions(**values | {"input": tuple(parsed.input), "config": config})
    _require_together(options)
    _require_known(beam_arguments)
    return options, beam_arguments


def _read_configuration(path: str) -> Configuration:
    from pipelines import configuration  # noqa: PLC0415 - most runs have none

    try:
        return configuration.read_configuration(path)
    except configuration.ConfigurationError as error:
        raise UsageError(f"--config: {error}") from error


def _require_together(options: RunOptions) -> None:
    """Check options that are of use only with others.

    Raises:
        UsageError: Names the option that is missing.
    """
    if not options.output.startswith("gs://"):
        for name in ("bigquery_dataset", "keep_staging"):
            if getattr(options, name):
                raise UsageError(
                    f"--{name} needs a gs:// --output; add --output=gs://BUCKET/FOLDER"
                )
    if options.bigquery_dataset is None:
        for name in ("create_dataset", "location"):
            if getattr(options, name):
                raise UsageError(
                    f"--{name} needs --bigquery_dataset; add --bigquery_dataset=PROJECT.DATASET"
                )


def _require_known(beam_arguments: Sequence[str]) -> None:
    """Check that Beam knows the options which are not ours; by itself it would ignore them.

    Raises:
        UsageError: Names the first that it does not know, and the nearest that exists.
    """
    if beam_arguments:
        from pipelines.beam_options import require_known  # noqa: PLC0415 - slow to import

        require_known(beam_arguments, [f"--{option.name}" for option in OPTIONS])
