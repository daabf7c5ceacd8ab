from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.config.lines import MAX_DEPTH, MAX_KEYS, key_lines
from edge_agent.config.merge import parse_toml
from edge_agent.config.problems import Key, quoted

EVERY_FORM = '''\
# fps = 1
node = "a # b"
"quoted \\u0041".x.'y z' = 1   # [no.table]

[streams.us]
text = """
fps = 2
[not.a.table]
\\""" still "" inside """""
raw = \'\'\'
also = "no" key\'\'\'
list = [ # = ]
  1, [2, 3],
  { a = 1, b.c = [ { d = "}" } ] }, # ]
]
date = 1979-05-27 07:32:00

[[streams.us.models]]
name = 'one'
[[streams.us.models]]
name = "two"
[streams.us.models.deep]
every = 2
'''
EXPECTED: dict[Key, int] = {
    ("node",): 2,
    ("quoted A", "x", "y z"): 3,
    ("streams",): 5,
    ("streams", "us"): 5,
    ("streams", "us", "text"): 6,
    ("streams", "us", "raw"): 10,
    ("streams", "us", "list"): 12,
    ("streams", "us", "list", 0): 13,
    ("streams", "us", "list", 1, 1): 13,
    ("streams", "us", "list", 2, "b", "c", 0, "d"): 14,
    ("streams", "us", "date"): 16,
    ("streams", "us", "models"): 18,
    ("streams", "us", "models", 0): 18,
    ("streams", "us", "models", 0, "name"): 19,
    ("streams", "us", "models", 1): 20,
    ("streams", "us", "models", 1, "name"): 21,
    ("streams", "us", "models", 1, "deep"): 22,
    ("streams", "us", "models", 1, "deep", "every"): 23,
}


def test_every_form_of_a_key_has_its_line() -> None:
    parse_toml(EVERY_FORM)
    lines = key_lines(EVERY_FORM).lines
    assert {key: lines.get(key) for key in EXPECTED} == EXPECTED
    assert ("not",) not in lines
    assert ("fps",) not in lines


_WORDS = st.text("abz-_09", min_size=1, max_size=5)
_KEYS = st.one_of(_WORDS, st.text(max_size=6).map(quoted))
_SCALARS = st.one_of(
    st.integers(-9, 9).map(str),
    st.booleans().map(lambda value: str(value).lower()),
    st.text(max_size=12).map(quoted),
    st.sampled_from(["''", "'a \"#[{'", '"""\nx = 1\n[y]\n"""', "'''\n[[z]]\n'''", "1e3", "inf"]),
    st.just("2024-01-02T03:04:05Z"),
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: "[ # ]\n" + ",\n".join(items) + "\n]"),
        st.lists(inner.filter(lambda text: "\n" not in text), max_size=3).map(
            lambda items: "{" + ", ".join(f"k{n} = {item}" for n, item in enumerate(items)) + "}"
        ),
    ),
    max_leaves=6,
)


@st.composite
def _documents(draw: st.DrawFn) -> tuple[str, dict[Key, int]]:
    """A valid text and the line of each key that was written into it."""
    parts: list[str] = []
    wanted: dict[Key, int] = {}
    base: Key = ()
    counts: dict[str, int] = {}

    def write(text: str, key: Key) -> None:
        wanted[key] = sum(part.count("\n") for part in parts) + 1
        parts.append(text + draw(st.sampled_from(["\n", "\n\n", "  # c = [1\n"])))

    for number in range(draw(st.integers(0, 8))):
        kind = draw(st.sampled_from(["key", "key", "dotted", "table", "array"]))
        name = draw(_KEYS)
        plain = next(iter(parse_toml(f"{name} = 0")))
        if kind == "key":
            write(f"{name}.k{number} = {draw(_VALUES)}", (*base, plain, f"k{number}"))
        elif kind == "dotted":
            write(f"d{number} . {name} = {draw(_VALUES)}", (*base, f"d{number}", plain))
        elif kind == "table":
            base = (f"t{number}", plain)
            write(f"[ t{number} . {name} ]", base)
        else:
            array = draw(st.sampled_from(["first", "second"]))
            base = (array, counts.get(array, 0))
            counts[array] = counts.get(array, 0) + 1
            write(f"[[{array}]]", base)
    return "".join(parts), wanted


@given(_documents())
@settings(max_examples=300, deadline=None)
def test_the_keys_of_any_valid_text_are_found_on_their_lines(
    document: tuple[str, dict[Key, int]],
) -> None:
    text, wanted = document
    tables = parse_toml(text)
    lines = key_lines(text).lines
    assert {key: lines.get(key) for key in wanted} == wanted
    assert _paths(tables) == set(lines)


def _paths(value: object, above: Key = ()) -> set[Key]:
    items: list[tuple[str | int, object]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    found: set[Key] = set()
    for part, item in items:
        found |= {(*above, part)} | _paths(item, (*above, part))
    return found


@given(st.one_of(st.text(), st.text("[]{}\"'=.,#\n ab\\u0", max_size=60)))
@settings(max_examples=500, deadline=None)
def test_no_text_at_all_crashes_the_scan(text: str) -> None:
    lines = key_lines(text).lines
    assert all(1 <= line <= text.count("\n") + 1 for line in lines.values())


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 300_000,
        "a = " + "{b = " * 100_000,
        "a." * 300_000 + "b = 1",
        "[" + "a." * 300_000 + "b]",
    ],
)
def test_deep_nesting_is_told_and_not_followed(text: str) -> None:
    assert key_lines(text).too_deep_line == 1


@pytest.mark.parametrize(
    "text",
    [
        "a = [" + "1," * 400_000 + "]",
        "a = 1\n" * 150_000,
        '"""' + "\\" * 500_000,
        'a = """' + '""x' * 300_000,
        "a = '''" + "''x" * 300_000,
        "#" * 900_000 + "\n" * 100_000,
        "= = =" * 100_000,
    ],
)
def test_a_large_text_is_scanned_in_seconds_and_in_bounds(text: str) -> None:
    began = time.monotonic()
    assert len(key_lines(text).lines) <= MAX_KEYS
    assert time.monotonic() - began < 10


def test_the_allowed_depth_is_scanned() -> None:
    text = ".".join("a" * MAX_DEPTH) + " = 1"
    scan = key_lines(text)
    assert scan.too_deep_line == 0
    assert len(scan.lines) == MAX_DEPTH
