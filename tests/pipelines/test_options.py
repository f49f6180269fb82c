"""The command line: what it accepts, what it says when it does not, and how a run ends."""

import gzip
import json
import os
import pty
import re
import resource
import signal
import subprocess
import sys
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from pipelines import customer_analytics, generate_events
from pipelines.options import OPTIONS, UsageError, parse_arguments, pattern_up_to
from tests.oracle.grammar import COLUMNS
from tests.oracle.strategies import GOOD_ROW
from tests.pipelines.running import ROOT, arguments, published, run, start, wait_until
from transforms.audit.checks import checked
from transforms.schema import DATA_QUALITY, Severity
from transforms.shuffle import sizing
from transforms.steps import publish

HEADER = ",".join(COLUMNS)
GOOD_LINE = ",".join(GOOD_ROW)
PROGRESS = re.compile(r"(reading|sessions|users and metrics)  [\d,]+ (rows|users)")
REQUIRED = ["--input", "a.csv", "--output", "warehouse"]


@pytest.fixture
def small_csv(tmp_path) -> Path:
    path = tmp_path / "small.csv"
    path.write_text(f"{HEADER}\n{GOOD_LINE}\n")
    return path


@pytest.fixture(scope="module")
def large_csv(tmp_path_factory) -> Path:
    """A file that two workers share."""
    path = tmp_path_factory.mktemp("large") / "large.csv"
    arguments = ["--rows", "400000", "--seed", "1", "--output", str(path)]
    assert generate_events.main(arguments) == 0
    assert path.stat().st_size > 2 * sizing.SMALL_BYTES
    return path


def one_line(text: str) -> str:
    """The one line that a text is."""
    assert text.endswith("\n")
    assert text.count("\n") == 1
    return text.removesuffix("\n").removeprefix("customer-analytics: ")


# Options ------------------------------------------------------------------------------------------


def test_options_have_the_values_of_the_contract_by_default():
    options, beam_arguments = parse_arguments(REQUIRED)
    assert beam_arguments == []
    assert options.input == ("a.csv",)
    assert options.output == "warehouse"
    assert options.max_rejected_ratio == 0.01
    assert options.as_of is None
    assert options.rules.session_timeout_seconds == 3600
    assert options.rules.cohort_observation_window_days == 90
    assert options.rules.thresholds.churn_days == 60
    assert options.rules.thresholds.at_risk_days == 45
    assert options.rules.thresholds.declining_days == 30
    assert options.rules.thresholds.session_outlier_ratio == 200


def test_options_reach_the_rules_they_name():
    options, _ = parse_arguments(
        [
            *REQUIRED,
            "--as_of=2020-02-29",
            "--session_timeout_seconds=1",
            "--churn_threshold_days=2",
            "--at_risk_threshold_days=3",
            "--declining_threshold_days=4",
            "--session_outlier_ratio=5",
            "--cohort_observation_window_days=6",
            "--max_rejected_ratio=0.5",
        ]
    )
    rules = options.rules
    assert rules.as_of == date(2020, 2, 29)
    assert rules.session_timeout_seconds == 1
    assert rules.thresholds.churn_days == 2
    assert rules.thresholds.at_risk_days == 3
    assert rules.thresholds.declining_days == 4
    assert rules.thresholds.session_outlier_ratio == 5
    assert rules.cohort_observation_window_days == 6
    assert options.max_rejected_ratio == 0.5
    assert json.loads(json.dumps(options.as_json()))["as_of"] == "2020-02-29"


def test_several_globs_are_parted_by_spaces_or_repetition():
    """Commas part them only where no file has such a name: `match_inputs` looks."""
    for given, found in (
        (["--input", "a*.csv", "b.csv", "c.csv"], ("a*.csv", "b.csv", "c.csv")),
        (["--input=a*.csv,b.csv,c.csv"], ("a*.csv,b.csv,c.csv",)),
        (["--input", "a*.csv", "b.csv", "--input=c.csv"], ("a*.csv", "b.csv", "c.csv")),
    ):
        options, _ = parse_arguments([*given, "--output=w"])
        assert options.input == found


def test_options_of_beam_pass_through():
    for given in (
        ["--runner=DirectRunner"],
        ["--runner", "PrismRunner", "--temp_location", "gs://bucket/tmp"],
        ["--direct_num_workers=3"],
        ["--project=p", "--region=europe-west1", "--max_num_workers=4"],
    ):
        assert parse_arguments([*REQUIRED, *given])[1] == given


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--outptu=x"], "unknown option --outptu=x; did you mean --output?"),
        (["--session_timeout=60"], "did you mean --session_timeout_seconds?"),
        (["--tempp_location=gs://b"], "did you mean --temp_location?"),
        (["--quux"], "unknown option --quux; see --help"),
        (["stray"], "unknown option stray"),
        (["--as_of=2020-02-30"], "'2020-02-30' is not a date like 2020-04-30"),
        (["--as_of", "yesterday"], "'yesterday' is not a date like 2020-04-30"),
        (
            ["--session_timeout_seconds=0"],
            "'0' is not a whole number of seconds, from 1 to 2,678,400",
        ),
        (["--session_timeout_seconds=1.5"], "'1.5' is not a whole number of seconds"),
        (["--churn_threshold_days=-1"], "'-1' is not a whole number of days, from 1 to 36,500"),
        (["--session_outlier_ratio=many"], "'many' is not a whole number, from 1 to 1,000,000"),
        (["--max_rejected_ratio=2"], "'2' is not a number from 0 to 1"),
        (["--max_rejected_ratio=nan"], "'nan' is not a number from 0 to 1"),
        (["--max_rejected_ratio=-0.1"], "'-0.1' is not a number from 0 to 1"),
        (["--output="], "'' is not a local folder, its name without"),
        (["--as_of"], "expected one argument"),
    ],
)
def test_a_wrong_command_says_what_is_wrong_in_one_line(given, message, capsys):
    assert customer_analytics.main([*REQUIRED, *given]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in one_line(captured.err)


def test_a_misspelt_option_is_named_before_the_one_that_is_missing_for_it():
    with pytest.raises(UsageError, match="unknown option --outptu; did you mean --output"):
        parse_arguments(["--input", "a", "--outptu", "b"])


@pytest.mark.parametrize("missing", ["--input", "--output"])
def test_a_missing_option_is_named(missing):
    given = [text for text in ("--input=a", "--output=b") if missing not in text]
    with pytest.raises(UsageError, match=f"required: {missing}"):
        parse_arguments(given)


def test_the_help_groups_the_options_with_their_units_and_defaults(capsys):
    with pytest.raises(SystemExit) as ended:
        customer_analytics.main(["--help"])
    assert ended.value.code == 0
    text = re.sub(r"\s+", " ", capsys.readouterr().out)
    for option in OPTIONS:
        assert f"--{option.name}" in text
        assert f"{option.group}:" in text
        assert option.help.split(";")[0] in text
        if option.default and not option.flag:
            assert f"Default: {option.default}." in text
    assert "Exit codes: 0 published, 1 the run failed, 2 the command was wrong; stopped" in text
    assert len({option.name for option in OPTIONS}) == len(OPTIONS)


def test_the_example_of_every_option_is_one_it_takes():
    for option in OPTIONS:
        for part in option.example.split(",") if option.several else [option.example]:
            assert option.parse(part) is not None
        assert re.fullmatch(option.pattern, option.example), option.name


@pytest.mark.parametrize("most", [1, 9, 10, 11, 99, 100, 101, 120, 989, 1000, 2013])
def test_a_pattern_lets_the_whole_numbers_up_to_a_most_through(most):
    pattern = re.compile(f"^({pattern_up_to(most)})$")
    numbers = range(11 * most + 2)
    assert [n for n in numbers if pattern.search(str(n))] == list(range(1, most + 1))
    assert not pattern.search("01")


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("session_timeout_seconds", 31 * 86_400),
        ("churn_threshold_days", 36_500),
        ("at_risk_threshold_days", 36_500),
        ("declining_threshold_days", 36_500),
        ("cohort_observation_window_days", 36_500),
        ("session_outlier_ratio", 1_000_000),
    ],
)
def test_numbers_have_an_upper_bound_here_and_in_the_form(name, most):
    (option,) = (option for option in OPTIONS if option.name == name)
    options, _ = parse_arguments([*REQUIRED, f"--{name}={most}"])
    assert getattr(options, name) == most
    assert re.search(option.pattern, str(most))
    with pytest.raises(UsageError, match=f"from 1 to {most:,}; for example"):
        parse_arguments([*REQUIRED, f"--{name}={most + 1}"])
    assert not re.search(option.pattern, str(most + 1))


@pytest.mark.parametrize("name", ["[v2]", "a,b", "q?x", "v*", "back\\slash", "gs:/x", "file:///x"])
def test_an_output_that_cannot_be_a_folder_is_refused(name):
    with pytest.raises(UsageError, match="is not a local folder, its name without"):
        parse_arguments(["--input=a", f"--output={name}"])


def test_a_home_in_an_output_is_found(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    options, _ = parse_arguments(["--input=a", "--output=~/w/"])
    assert options.output == "/home/someone/w"


# Inputs -------------------------------------------------------------------------------------------


def test_a_glob_without_a_match_is_a_wrong_command(tmp_path, capsys):
    assert customer_analytics.main(arguments([tmp_path / "2019-*.csv"], tmp_path / "w")) == 2
    assert "no file matches" in one_line(capsys.readouterr().err)


def test_a_wrong_header_is_found_before_anything_is_read(tmp_path, small_csv, capsys):
    headless = tmp_path / "headless.csv"
    headless.write_text(GOOD_LINE)
    assert customer_analytics.main(arguments([small_csv, headless], tmp_path / "w")) == 2
    assert one_line(capsys.readouterr().err).startswith(f"{headless}: there is no header")
    assert not (tmp_path / "w" / "fct_events").exists()


def test_an_empty_file_is_a_wrong_command(tmp_path, capsys):
    (tmp_path / "empty.csv").touch()
    assert customer_analytics.main(arguments([tmp_path / "empty.csv"], tmp_path / "w")) == 2
    assert "the file is empty" in one_line(capsys.readouterr().err)


def test_a_cut_off_file_fails_the_run_and_is_named(tmp_path, small_csv, capsys):
    run([small_csv], tmp_path / "w")
    before = published(tmp_path / "w")
    cut = tmp_path / "cut.csv.gz"
    rows = "\n".join(GOOD_LINE.replace("541312140", str(user)) for user in range(50_000))
    cut.write_bytes(gzip.compress(f"{HEADER}\n{rows}".encode())[:-1000])
    capsys.readouterr()
    assert customer_analytics.main(arguments([small_csv, cut], tmp_path / "w")) != 0
    assert one_line(capsys.readouterr().err).startswith(f"{cut}: damaged or cut off after ")
    assert published(tmp_path / "w") == before


def test_too_many_rejected_rows_fail_the_run(tmp_path, small_csv, capsys):
    run([small_csv], tmp_path / "w")
    before = published(tmp_path / "w")
    bad = tmp_path / "bad.csv"
    lines = [GOOD_LINE] * 95 + [GOOD_LINE.replace("view", "look")] * 2 + ["short"] * 3
    bad.write_text("\n".join([HEADER, *lines]))
    capsys.readouterr()
    command = arguments([bad], tmp_path / "w", max_rejected_ratio=0.04)
    assert customer_analytics.main(command) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == (
        "customer-analytics: 5 of 100 rows were rejected (5.00%), more than "
        "--max_rejected_ratio=0.04 allows; nothing was published."
    )
    assert lines[1] == "Reasons: malformed_row 3, bad_event_type 2"
    assert lines[2] == "The first of each (keep all by --rejected_to=FILE.csv):"
    content = bad.read_bytes()
    assert lines[3] == f"  malformed_row: {bad}, line 99, byte {content.index(b'short')}: 'short'"
    offset = content.index(b",look,") - len("2019-10-01 00:00:00 UTC")
    assert lines[5].startswith(f"  bad_event_type: {bad}, line 97, byte {offset}: '2019-10-01 00:")
    assert lines[6] == "    accepted: exactly view, cart, remove_from_cart or purchase"
    assert len(lines) == 7
    assert published(tmp_path / "w") == before
    command = arguments([bad], tmp_path / "w", max_rejected_ratio=0.05)
    assert customer_analytics.main(command) == 0


def test_a_failed_audit_publishes_nothing(tmp_path, small_csv, capsys, monkeypatch):
    run([small_csv], tmp_path / "w")
    before = published(tmp_path / "w")
    capsys.readouterr()
    broken = checked
    monkeypatch.setattr(
        publish,
        "check_balance",
        lambda _: pl.DataFrame(
            [("fct_events", "every_row_accounted_for", Severity.ERROR.value, 7)],
            schema=broken(DATA_QUALITY, "any", 0).schema,
            orient="row",
        ),
    )
    assert customer_analytics.main(arguments([small_csv], tmp_path / "w")) == 1
    text = capsys.readouterr().err
    assert text.startswith("customer-analytics: the audit failed, so nothing was published")
    assert "  fct_events: every_row_accounted_for (7 rows)\n" in text
    assert "Traceback" not in text
    assert published(tmp_path / "w") == before
    assert not (tmp_path / "w" / "_staging").exists()


def test_direct_runner_means_the_local_runner(tmp_path, small_csv):
    tables = run([small_csv], tmp_path / "w", runner="DirectRunner")
    assert tables["fct_events"].num_rows == 1


def test_an_output_that_cannot_be_made_is_a_wrong_command(tmp_path, small_csv, capsys):
    assert customer_analytics.main(arguments([small_csv], small_csv / "w")) == 2
    message = one_line(capsys.readouterr().err)
    assert message.startswith(f"--output: {small_csv}/w cannot be written (Not a directory)")


# Processes ----------------------------------------------------------------------------------------


def spilled(output: Path):
    return lambda: any((output / "_staging").glob("_shuffle_*/*.frames"))


def without_progress(text: str) -> list[str]:
    """The lines that a slow machine does not add to."""
    return [line for line in text.splitlines() if line and not PROGRESS.match(line)]


def members_of(group: int) -> list[str]:
    """The commands of a process group's members that are not dead."""
    commands = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and os.getpgid(int(folder.name)) == group:
                commands.append((folder / "cmdline").read_text())
        except (ProcessLookupError, FileNotFoundError):
            continue
    return [command for command in commands if command]


def test_an_interrupted_run_says_so_once_and_leaves_the_last_good_state(
    tmp_path, small_csv, large_csv
):
    output = tmp_path / "w"
    run([small_csv], output)
    before = published(output)
    process = start([large_csv], output)
    wait_until(spilled(output), process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert out == ""
    assert without_progress(err) == ["customer-analytics: interrupted; nothing was published"]
    assert published(output) == before
    assert not (output / "_staging").exists()


def test_a_killed_run_leaves_the_last_good_state_and_the_next_clears_up(
    tmp_path, small_csv, large_csv
):
    output = tmp_path / "w"
    run([small_csv], output)
    before = published(output)
    process = start([large_csv], output)
    wait_until(spilled(output), process)
    process.kill()
    process.communicate(timeout=120)  # its workers have let go of the pipes, too
    assert members_of(process.pid) == []
    assert (output / "_staging").exists()
    assert published(output) == before
    run([small_csv], output)
    assert not (output / "_staging").exists()
    assert published(output)["fct_events"] == before["fct_events"]


def test_a_second_run_into_one_output_says_so(tmp_path, small_csv, large_csv, capsys):
    output = tmp_path / "w"
    process = start([large_csv], output)
    wait_until(spilled(output), process)
    assert customer_analytics.main(arguments([small_csv], output)) == 1
    assert one_line(capsys.readouterr().err) == (
        f"another run (process {process.pid}) is writing to {output}; "
        "wait for it, or choose another --output"
    )
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert published(output)["pipeline_runs"]["rows_read"].to_pylist() == [400_000]


LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
del sys.argv[1]
runpy.run_module("pipelines.customer_analytics", run_name="__main__")
"""


@pytest.mark.parametrize(
    ("limit", "size"), [(20_000, 4 << 20), (200_000, 4 << 20), (2_000_000, 4 << 20), (200_000, -1)]
)
def test_a_disk_that_is_full_is_named_in_one_line(tmp_path, large_csv, limit, size):
    """Files that may not grow stand for a disk that is full: the same error, for any user."""
    part = tmp_path / "part.csv"
    with large_csv.open("rb") as file:
        part.write_bytes(file.read(size) + b"\n")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    assert limit < part.stat().st_size
    assert soft == hard == resource.RLIM_INFINITY
    output = tmp_path / "w"
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(limit), *arguments([part], output)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1
    said = "\n".join(without_progress(done.stderr))
    assert one_line(f"{said}\n").startswith(f"{output} cannot be written (File too large)")
    assert not (output / "_staging").exists()
    assert not (output / "fct_events").exists()


def test_a_terminal_shows_progress_on_a_line_that_goes_away(tmp_path, large_csv):
    terminal, slave = pty.openpty()
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "pipelines.customer_analytics",
            *arguments([large_csv], tmp_path / "w"),
        ],
        cwd=ROOT,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    shown = b""
    try:
        while piece := os.read(terminal, 4096):
            shown += piece
    except OSError:  # on Linux the last reader hears so of the end
        pass
    finally:
        os.close(terminal)
    text = shown.decode()
    assert process.wait(timeout=60) == 0, text
    line = re.search(r"\r\x1b\[K(reading|sessions)  [\d,]+ rows  [\d,]+ events/s", text)
    assert line
    assert re.search(r"\d+%  about [\d,]+ s left", text)
    progress, _, summary = text.rpartition("\r\x1b[K")
    assert progress.count("\n") == 0
    assert "400,000" in summary
    assert "\x1b" not in summary


def test_a_plain_run_prints_the_summary_alone(tmp_path, small_csv):
    process = start([small_csv], tmp_path / "w")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0
    assert err == ""
    assert "rows read" in out
    assert "\x1b" not in out
