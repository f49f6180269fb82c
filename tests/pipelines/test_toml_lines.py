"""Where the keys of a TOML document stand."""

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from pipelines.toml_lines import line_of, lines_of_keys

DOCUMENT = '''\
# [comment] = 1
title = "a # b = [c]" # [d]

[table]
"quoted.key" = 'x'
a.b = 1.5
text = """
not = 1
[neither]
""\\"\\"\\" """
literal = \'\'\'
[[nor]]
\'\'\'

[[list]]
values = [
  "x", # ] = 2
  [1, 2],
]
[[list.inner]]
deep = 1
[[list.inner]]
deep = 2
[[list]]
[[list.inner]]
deep = {c = 3,
  d = 4} # a table
[list.of]
last = 2020-01-01T00:00:00Z
'''.replace(",\n  d", ", d")


def test_each_key_has_its_line():
    tomllib.loads(DOCUMENT)
    numbered = dict(enumerate(DOCUMENT.split("\n"), 1))
    found = {path: numbered[line] for path, line in lines_of_keys(DOCUMENT).items()}
    assert {path: line.split("=")[0].split("#")[0].strip() for path, line in found.items()} == {
        ("title",): "title",
        ("table",): "[table]",
        ("table", "quoted.key"): '"quoted.key"',
        ("table", "a"): "a.b",
        ("table", "a", "b"): "a.b",
        ("table", "text"): "text",
        ("table", "literal"): "literal",
        ("list",): "[[list]]",
        ("list", 0): "[[list]]",
        ("list", 0, "values"): "values",
        ("list", 0, "inner"): "[[list.inner]]",
        ("list", 0, "inner", 0): "[[list.inner]]",
        ("list", 0, "inner", 0, "deep"): "deep",
        ("list", 0, "inner", 1): "[[list.inner]]",
        ("list", 0, "inner", 1, "deep"): "deep",
        ("list", 1): "[[list]]",
        ("list", 1, "inner"): "[[list.inner]]",
        ("list", 1, "inner", 0): "[[list.inner]]",
        ("list", 1, "inner", 0, "deep"): "deep",
        ("list", 1, "of"): "[list.of]",
        ("list", 1, "of", "last"): "last",
    }


def test_a_key_of_an_inline_table_has_the_line_of_what_holds_it():
    lines = lines_of_keys(DOCUMENT)
    assert (
        line_of(lines, ("list", 1, "inner", 0, "deep", "d"))
        == lines[("list", 1, "inner", 0, "deep")]
    )
    assert line_of(lines, ("nowhere",)) == 1


VALUES = st.sampled_from(
    ["1", '"#"', "'='", '""', "''", '"""\n[a]\nb=1"""', "'''\n'''", "[\n1, # ]\n2]", "{}", '["]"]']
)


@given(st.lists(st.tuples(st.sampled_from(["", "# x = [\n", "\n"]), VALUES), max_size=8))
def test_no_value_hides_the_keys_behind_it(statements):
    text, expected = "", {}
    for number, (before, value) in enumerate(statements):
        text += before
        expected[f"k{number}",] = text.count("\n") + 1
        text += f"k{number} = {value}\n"
    tomllib.loads(text)
    assert lines_of_keys(text) == expected
