"""The configuration file: what it says, and what is said of one that is wrong."""

import hashlib
import re
import subprocess
import sys
from decimal import Decimal

import pytest

from pipelines import customer_analytics, docs
from pipelines.configuration import ConfigurationError, read_configuration
from pipelines.options import UsageError, parse_arguments
from tests.oracle.examples import csv_text, purchase, row
from tests.oracle.product import product_tables
from transforms import funnels
from transforms.funnels import DEFAULT_FUNNELS, EventFilter, Exclusion, Funnel, Step

WHOLE = """\
[[funnel]]
name = "headphones"
scope = "session"
hold = ["brand"]
order = "strict"
window = "90m"
breakdown = ["week", "brand"]
[[funnel.step]]
name = "looks"
event = ["view", "cart"]
category_lvl_2 = ["Audio"]
price_min = 10
price_max = 99.99
[[funnel.step]]
name = "buys"
event = ["purchase"]
product_id = [1004856, "1004857"]
[[funnel.exclude]]
event = ["remove_from_cart"]
after = 1
before = 2
"""
STEP = '[[funnel.step]]\nname = "a"\n'
FUNNEL = f'[[funnel]]\nname = "f"\n{STEP}'


def read(tmp_path, text):
    path = tmp_path / "shop.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_configuration(str(path))


def test_a_file_says_all_of_a_funnel(tmp_path):
    found = read(tmp_path, WHOLE)
    looks = EventFilter(
        ("view", "cart"), (("category_lvl_2", ("audio",)),), Decimal(10), Decimal("99.99")
    )
    buys = EventFilter(("purchase",), (("product_id", ("1004856", "1004857")),))
    assert found.funnels == (
        Funnel(
            "headphones",
            (Step("looks", looks), Step("buys", buys)),
            hold=("brand",),
            order="strict",
            window=5400,
            breakdowns=("week", "brand"),
            exclusions=(Exclusion(EventFilter(("remove_from_cart",)), 1, 2),),
        ),
    )
    assert found.text == WHOLE
    assert found.sha256 == hashlib.sha256(WHOLE.encode()).hexdigest()


@pytest.mark.parametrize("text", ["", "# nothing\n"])
def test_without_funnels_there_are_those_that_are_always_there(tmp_path, text):
    assert read(tmp_path, text).funnels == DEFAULT_FUNNELS


def test_an_empty_list_is_no_funnel(tmp_path):
    assert read(tmp_path, "funnel = []").funnels == ()


def test_the_end_of_lines_changes_nothing(tmp_path):
    windows = b"\xef\xbb\xbf" + WHOLE.replace("\n", "\r\n").encode()
    assert read(tmp_path, windows) == read(tmp_path, WHOLE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = ", "not TOML: Invalid value"),
        (b"a = '\xff'", "is not a text in UTF-8"),
        ("[input]\nformat = 'csv'", "line 1: input: unknown key; known here are funnel"),
        (f"{FUNNEL}\nevents = ['view']", "line 6: funnel.step.events: unknown key"),
        ("[funnel]\nname = 'f'", "line 1: funnel: must be tables; write [[funnel]] before each"),
        ("\n[[funnel]]\nname = 'F'", "line 3: funnel.name: 'F' is not 1 to 60 of a-z, 0-9 and _"),
        ("\n[[funnel]]", "line 2: funnel: has no name; it must be 1 to 60 of a-z, 0-9 and _"),
        (FUNNEL + FUNNEL, "line 6: funnel.name: there is another funnel 'f'"),
        ("[[funnel]]\nname = 'f'", "line 1: funnel: has no steps; write [[funnel.step]]"),
        (FUNNEL + STEP, "line 6: funnel.step.name: there is another step 'a'"),
        (FUNNEL + "".join(STEP.replace("a", str(n)) for n in range(10)), "11, and may be 10"),
        (f"{FUNNEL}event = 'view'", "line 5: funnel.step.event: must be a list of some of view"),
        (f"{FUNNEL}event = []", "line 5: funnel.step.event: must be a list of some of view"),
        (f"{FUNNEL}event = ['buy']", "'buy' is not one of view, cart, remove_from_cart, purchase"),
        (f"{FUNNEL}brand = ['a', 1]", "line 5: funnel.step.brand: 1 is not a text"),
        (f"{FUNNEL}product_id = ['x']", "'x' is not an id, a whole number"),
        (f"{FUNNEL}product_id = [true]", "True is not an id, a whole number"),
        (f"{FUNNEL}price_min = 'x'", "'x' is not a price, a number from 0 on"),
        (f"{FUNNEL}price_min = -1", "'-1' is not a price"),
        (f"{FUNNEL}price_min = nan", "is not a price"),
        (f"{FUNNEL}price_min = 2\nprice_max = 1.5", "line 6: funnel.step.price_max: must not be"),
        ("[[funnel]]\nname = 'f'\nscope = 'shop'", "'shop' is not one of"),
        ("[[funnel]]\nname = 'f'\norder = 1", "1 is not one of ordered, strict, unordered"),
        (f"[[funnel]]\nname = 'f'\nwindow = '7w'\n{STEP}", "line 3: funnel.window: '7w' is not a"),
        (f"[[funnel]]\nname = 'f'\nwindow = '36501d'\n{STEP}", "'36501d' is not a whole number"),
        (f"[[funnel]]\nname = 'f'\nhold = ['price']\n{STEP}", "'price' is not one of product_id"),
        (f"[[funnel]]\nname = 'f'\nhold = ['brand', 'brand']\n{STEP}", "'brand' is there twice"),
        (f"[[funnel]]\nname = 'f'\nbreakdown = ['year']\n{STEP}", "'year' is not one of"),
        (f"{FUNNEL}[[funnel.exclude]]\nafter = 1", "before must be a whole number, from 1 to 1"),
        (f"{FUNNEL}[[funnel.exclude]]\nafter = 1\nbefore = 1", "line 7: funnel.exclude.before"),
        (
            WHOLE.replace('["remove_from_cart"]', '["purchase"]'),
            "line 18: funnel.exclude: an event may be excluded and take step 2, 'buys',",
        ),
        (
            WHOLE.replace('"strict"', '"unordered"'),
            "line 18: funnel.exclude: steps without an order have nothing between them",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_key_and_line(tmp_path, text, message):
    with pytest.raises(ConfigurationError) as raised:
        read(tmp_path, text)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert str(tmp_path / "shop.toml") in str(raised.value)


def test_what_is_excluded_may_be_of_the_kind_of_a_step_but_of_other_products(tmp_path):
    text = WHOLE.replace('["remove_from_cart"]', '["purchase"]\nproduct_id = ["1"]')
    assert read(tmp_path, text).funnels[0].exclusions[0].filter.events == ("purchase",)


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(ConfigurationError, match=r"cannot be read \(No such file"):
        read_configuration(str(tmp_path / "shop.toml"))


def test_a_file_beyond_all_measure_is_not_read(tmp_path):
    with pytest.raises(ConfigurationError, match="larger than a configuration may be"):
        read(tmp_path, "#" * 1_000_001)


# The command --------------------------------------------------------------------------------------

REQUIRED = ["--input=a.csv", "--output=warehouse"]


def test_the_option_reaches_the_rules(tmp_path):
    path = tmp_path / "shop.toml"
    path.write_text(WHOLE)
    options, _ = parse_arguments([*REQUIRED, f"--config={path}"])
    assert [funnel.name for funnel in options.rules.funnels] == ["headphones"]
    assert options.as_json()["config"] == hashlib.sha256(WHOLE.encode()).hexdigest()


def test_without_the_option_there_are_the_usual_funnels():
    options, _ = parse_arguments(REQUIRED)
    assert options.rules.funnels == DEFAULT_FUNNELS
    assert options.as_json()["config"] is None


def test_a_wrong_file_ends_the_command_before_any_work(tmp_path, capsys):
    path = tmp_path / "shop.toml"
    path.write_text("[[funnel]]\nnam = 'f'")
    assert customer_analytics.main([*REQUIRED, f"--config={path}"]) == 2
    message = capsys.readouterr().err
    assert f"--config: {path}, line 2: funnel.nam: unknown key" in message
    assert message.count("\n") == 1
    with pytest.raises(UsageError, match="unknown key"):
        parse_arguments([*REQUIRED, f"--config={path}"])


def test_a_file_is_checked_without_data(tmp_path, capsys):
    path = tmp_path / "shop.toml"
    path.write_text(WHOLE)
    assert customer_analytics.main(["check-config", str(path)]) == 0
    assert capsys.readouterr().out == f"{path} is right; funnels: headphones\n"
    path.write_text("x = 1")
    assert customer_analytics.main(["check-config", str(path)]) == 2
    assert f"{path}, line 1: x: unknown key" in capsys.readouterr().err
    assert customer_analytics.main(["check-config"]) == 2
    assert "check-config needs one file" in capsys.readouterr().err


def test_checking_a_file_imports_no_beam(tmp_path):
    path = tmp_path / "shop.toml"
    path.write_text(WHOLE)
    program = (
        "import sys; from pipelines import console;"
        f"code = console.main(['check-config', {str(path)!r}]);"
        "sys.exit(code or any(name in sys.modules for name in ('apache_beam', 'numba')))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# The document -------------------------------------------------------------------------------------

DOCUMENT = (docs.ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```toml\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)


def test_the_first_example_is_what_a_run_does_without_a_file(tmp_path):
    assert read(tmp_path, EXAMPLES[0]).funnels == DEFAULT_FUNNELS


@pytest.mark.parametrize("text", EXAMPLES)
def test_an_example_is_right_and_makes_a_table(tmp_path, text):
    path = tmp_path / "events.csv"
    path.write_text(csv_text([row(brand="samsung"), purchase()]), encoding="utf-8")
    tables = product_tables([path], config=text, without=frozenset({"time", "clv"}))
    assert tables["metrics_funnels"].num_rows > 0


def test_the_document_names_every_key():
    for name in (*funnels.PRODUCT_PROPERTIES, *funnels.BREAKDOWNS, *funnels.ORDERS):
        if not re.search("_lvl_[23]", name):
            assert f"`{name}`" in DOCUMENT
