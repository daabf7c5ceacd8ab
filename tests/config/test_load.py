from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.config.load import load_text
from edge_agent.config.naming import altered, node_name
from edge_agent.config.structs import Config

STREAM = """\
[streams.us]
source = { kind = "dicom", path = "sample:ultrasound", loop = true }
models = [{ name = "us-chamber" }]
"""

NAME = "a name: 1 to 63 of a-z, 0-9 and -, the first no -"
KINDS = '"dicom", "video", "images", "phantom"'

BAD = {
    "unknown key": ("[console]\nprt = 1\n", '2: console.prt — unknown key, did you mean "port"?'),
    "unknown key near no other": (
        "[log]\nxyzzy = 1\n",
        "2: log.xyzzy — unknown key -> known here: format, level",
    ),
    "key of another section": ("port = 1\n", '1: port — unknown key, did you mean "console.port"?'),
    "key of the source": (
        STREAM + "path = 1\n",
        '4: streams.us.path — unknown key, did you mean "source.path"?',
    ),
    "wrong type": (
        '[console]\nport = "9810"\n',
        (
            "2: console.port — wrong type (expected a whole number at least 0 and at most 65535, "
            'got "9810")'
        ),
    ),
    "fraction": (
        "[engine]\nlanes = 1.5\n",
        "2: engine.lanes — wrong type (expected a whole number at least 0 and at most 64, got 1.5)",
    ),
    "number for a switch": (
        "[engine]\nrealtime = 1\n",
        "2: engine.realtime — wrong type (expected true or false, got 1)",
    ),
    "switch for a number": (
        "[engine]\nlanes = true\n",
        (
            "2: engine.lanes — wrong type (expected a whole number at least 0 and at most 64, "
            "got true)"
        ),
    ),
    "range": (
        "[engine]\nhang_s = 0\n",
        "2: engine.hang_s — wrong value (expected a number above 0, got 0)",
    ),
    "far out of range": (
        "[engine]\nhang_s = 1e7\n",
        (
            "2: engine.hang_s — wrong value (expected a number above 0 and at most 1000000.0, "
            "got 10000000.0)"
        ),
    ),
    "infinite": (
        "[engine]\nhang_s = inf\n",
        "2: engine.hang_s — wrong value (expected a number above 0 and at most 1000000.0, got inf)",
    ),
    "no number": (
        "[engine]\nhang_s = nan\n",
        "2: engine.hang_s — wrong value (expected a number above 0, got nan)",
    ),
    "date": (
        "node = 2024-01-02\n",
        f'1: node — wrong type (expected {NAME}, or "", got a date or time)',
    ),
    "choice": (
        '[log]\nlevel = "warn"\n',
        (
            '2: log.level — wrong value (expected one of "debug", "error", "info", "warning", '
            'got "warn"), did you mean "warning"?'
        ),
    ),
    "bad node": (
        'node = "Bad Node"\n',
        f'1: node — wrong value (expected {NAME}, or "", got "Bad Node")',
    ),
    "bad stream name": (
        STREAM.replace("streams.us", 'streams."US 1"'),
        (
            f'1: streams."US 1" — bad name (expected {NAME}, got "US 1") -> the name for people '
            "goes into `title`, in any script"
        ),
    ),
    "missing path": (
        STREAM.replace(', path = "sample:ultrasound"', ""),
        "2: streams.us.source.path — missing (expected text of at most 4096 characters)",
    ),
    "missing models": (
        STREAM.replace("models", "#"),
        "1: streams.us.models — missing (expected an array of 1 to 4, each a table)",
    ),
    "empty models": (
        STREAM.replace('[{ name = "us-chamber" }]', "[]"),
        (
            "3: streams.us.models — wrong value (expected an array of 1 to 4, each a table, "
            "got an array of 0)"
        ),
    ),
    "missing name in a list": (
        STREAM.replace("name", "every").replace('"us-chamber"', "1"),
        f"3: streams.us.models.0.name — missing (expected {NAME})",
    ),
    "unknown kind": (
        STREAM.replace('"dicom"', '"dicm"'),
        (
            f"2: streams.us.source.kind — unknown kind (expected one of {KINDS}, "
            'got "dicm"), did you mean "dicom"?'
        ),
    ),
    "kind of a wrong type": (
        STREAM.replace('"dicom"', "[1]"),
        f"2: streams.us.source.kind — unknown kind (expected one of {KINDS}, got an array of 1)",
    ),
    "missing kind": (
        STREAM.replace('kind = "dicom", ', ""),
        f"2: streams.us.source.kind — missing (expected one of {KINDS})",
    ),
    "text for a table": (
        "engine = 5\n",
        "1: engine — wrong type (expected a table, got 5)",
    ),
    "text for the source": (
        '[streams.us]\nsource = "/dev/video0"\nmodels = [{name = "a"}]\n',
        '2: streams.us.source — wrong type (expected a table with its kind, got "/dev/video0")',
    ),
    "table for the streams": (
        "streams = 5\n",
        "1: streams — wrong type (expected a table, got 5)",
    ),
    "pair of three": (
        STREAM.replace("loop = true", "spacing_mm = [1, 2, 3]"),
        (
            "2: streams.us.source.spacing_mm — wrong value (expected an array of 2, each a number "
            "above 0, got an array of 3)"
        ),
    ),
    "pair with a wrong one": (
        STREAM.replace("loop = true", "spacing_mm = [1, 0]"),
        "2: streams.us.source.spacing_mm.1 — wrong value (expected a number above 0, got 0)",
    ),
    "version that climbs": (
        STREAM.replace('"us-chamber"', '"us-chamber", version = "../../x"'),
        (
            '3: streams.us.models.0.version — wrong value (expected a version as "1.0.0", or "", '
            'got "../../x")'
        ),
    ),
    "syntax": (
        "[engine]\nlanes = two\n",
        '2: no TOML: invalid value at column 9 -> text needs quotes: key = "value"',
    ),
    "unclosed": ('a = 1\nb = """\n\n', "2: no TOML: unterminated string"),
    "twice": ("node = 'a'\nnode = 'b'\n", "2: no TOML: cannot overwrite a value at column 11"),
    "too deep": ("a = " + "[" * 40, "1: nested too deeply (expected at most 16 levels)"),
}


@pytest.mark.parametrize(("text", "wanted"), BAD.values(), ids=BAD)
def test_a_bad_config_says_what_where_and_what_instead(text: str, wanted: str) -> None:
    loaded = load_text(text, file="c.toml")
    assert loaded.config is None
    assert loaded.text() == f"c.toml:{wanted}"


def test_three_errors_are_told_at_once() -> None:
    text = STREAM + "queue = 'never'\n[engine]\nlanes = -1\n[console]\nprot = 1\n"
    assert load_text(text, file="c.toml").text().splitlines() == [
        'c.toml:4: streams.us.queue — wrong value (expected one of "latest", "wait", got "never")',
        (
            "c.toml:6: engine.lanes — wrong value (expected a whole number at least 0 and at most "
            "64, got -1)"
        ),
        'c.toml:8: console.prot — unknown key, did you mean "port"?',
    ]


def test_rules_across_keys_are_told_together_with_wrong_fields() -> None:
    text = STREAM + '[engine]\nlanes = -1\n[streams.v]\nqueue = "wait"\nmodels = [{name = "a"}]\n'
    text += 'source = {kind = "video", where = "/dev/video0"}\n'
    keys = [problem.key for problem in load_text(text).problems]
    assert keys == ["engine.lanes", "streams.v.queue"]


def test_a_number_beyond_64_bits_is_refused() -> None:
    text = STREAM.replace("loop = true", f"max_file_bytes = {10**30}")
    assert "at most 1099511627776" in load_text(text).text()
    seed = STREAM.replace(
        '{ kind = "dicom", path = "sample:ultrasound", loop = true }',
        f'{{ kind = "phantom", seed = {1 << 63} }}',
    )
    assert "source.seed — wrong value" in load_text(seed).text()


def test_a_number_of_too_many_digits_is_a_problem_and_no_crash() -> None:
    assert load_text("[engine]\nlanes = " + "9" * 5000).config is None


def test_everything_has_a_default() -> None:
    loaded = load_text("")
    assert loaded.config == Config()
    assert [problem.key for problem in loaded.warnings] == ["streams"]


# ── any text ──────────────────────────────────────────────────────────────────────────────────


_PIECES = st.lists(
    st.sampled_from(
        [*(text for text, _ in BAD.values()), STREAM, "\n", "[", "]", "=", '"', "'", ".", "{", "}"]
    ),
    max_size=6,
).map("".join)


@given(st.one_of(st.text(max_size=200), _PIECES), st.lists(st.text(max_size=20), max_size=2))
@settings(max_examples=300, deadline=None)
def test_no_text_crashes_the_loader(text: str, overrides: list[str]) -> None:
    loaded = load_text(text, overrides=overrides)
    assert (loaded.config is None) == bool(loaded.errors)


@pytest.mark.parametrize(
    ("host", "node"),
    [
        ("edge7", "edge7"),
        ("Cart_3.Ward.example", "cart-3-ward-example"),
        ("--", "edge"),
        ("", "edge"),
        ("Ünit", "nit"),
        ("a" * 80, "a" * 63),
    ],
)
def test_the_node_is_the_host_name_made_plain(host: str, node: str) -> None:
    assert node_name(host) == node
    assert bool(altered(host)) == (host.lower() != node)
    assert load_text(STREAM, overrides=[f"node={node}"]).text() == ""
