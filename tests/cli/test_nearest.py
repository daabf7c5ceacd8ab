"""What was probably meant, for verbs, verbs of verbs, choices and options."""

from __future__ import annotations

import pytest

from edge_agent import __version__
from edge_agent.cli import exits
from edge_agent.cli.main import main


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("statsu", "status"),
        ("stat", "status"),
        ("streams lst", "list"),
        ("config chek", "check"),
        ("status --jsno", "--json"),
        ("models list --jsn", "--json"),
        ("completion bsh", "bash"),
        ("xyzzy", ""),
        ("status --qqqq", ""),
    ],
)
def test_a_word_that_is_none_gets_the_one_that_was_meant(
    words: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == exits.USAGE
    said = capsys.readouterr().err
    assert (f"did you mean {meant}?" in said) if meant else ("did you mean" not in said), said


def test_the_version_is_said_as_an_option_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == exits.OK
    assert capsys.readouterr().out == f"edge-agent {__version__}\n"
