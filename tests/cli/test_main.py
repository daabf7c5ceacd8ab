"""The command line as a whole: help, exit codes, completion, and what a start costs."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent import __version__
from edge_agent.cli import exits
from edge_agent.cli.main import GROUPS, build_parser, main
from tests.cli.daemon import Server

STARTS = 5  # bare interpreter starts that a quick verb may take
TRIES = 4


def verbs(
    parser: argparse.ArgumentParser, before: tuple[str, ...] = ()
) -> Iterator[tuple[str, ...]]:
    """Every verb, `streams list` as two words."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                yield (*before, name)
                yield from verbs(child, (*before, name))


def test_each_group_adds_the_verbs_that_it_is_listed_with() -> None:
    for module, listed in GROUPS.items():
        if importlib.util.find_spec(f"edge_agent.cli.{module}"):
            alone = {verb[0] for verb in verbs(build_parser(listed[0]))}
            assert alone == set(listed)


ALL_VERBS = list(verbs(build_parser()))


@pytest.mark.parametrize("verb", ALL_VERBS, ids=" ".join)
def test_every_verb_has_help(verb: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*verb, "--help"]) == exits.OK
    assert f"edge-agent {' '.join(verb)}" in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["nonsense"], ["status", "--nonsense"], ["streams"]])
def test_wrong_usage_is_exit_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == exits.USAGE
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_every_verb(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == exits.OK
    script = capsys.readouterr().out
    assert [verb for verb in ALL_VERBS if verb[-1] not in script] == []


def test_version_is_versioned_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version", "--json"]) == exits.OK
    said = json.loads(capsys.readouterr().out)
    assert (said["schema"], said["version"]) == (1, __version__)


def test_metrics_come_as_they_are(
    daemon: Server, control: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.answer("/metrics", b"# TYPE a counter\na 1\n")
    assert main(["metrics", "--socket", str(control)]) == exits.OK
    assert capsys.readouterr().out == "# TYPE a counter\na 1\n"


def test_a_reader_that_leaves_early_is_no_error(daemon: Server, control: Path) -> None:
    daemon.answer("/metrics", b"a 1\n" * 1_000_000)
    reading, writing = os.pipe()
    verb = [sys.executable, "-m", "edge_agent", "metrics", "--socket", str(control)]
    with subprocess.Popen(verb, stdout=writing, stderr=subprocess.PIPE) as process:
        os.close(writing)
        os.read(reading, 10)
        os.close(reading)
        _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (exits.OK, b"")


@pytest.mark.usefixtures("daemon")
def test_quick_verbs_import_the_standard_library_alone(control: Path) -> None:
    for verb in (["version"], ["status", "--socket", str(control)], ["--help"]):
        code = (
            "import sys; before = set(sys.modules); from edge_agent.cli.main import main; "
            f"main({verb!r}); import json; "
            "print(json.dumps(sorted(set(sys.modules) - before)), file=sys.stderr)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, check=True, timeout=20
        )
        loaded = {name.split(".")[0] for name in json.loads(done.stderr)}
        assert loaded - sys.stdlib_module_names == {"edge_agent"}


def spent_s(words: list[str]) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, *words], capture_output=True, check=True, timeout=20)
    return time.perf_counter() - begun


@pytest.mark.usefixtures("daemon")
def test_status_answers_within_a_few_interpreter_starts(control: Path) -> None:
    """Side by side, so that a busy machine slows both."""
    status = ["-m", "edge_agent", "status", "--socket", str(control)]
    ratios = []
    for _ in range(TRIES):
        pairs = [(spent_s(status), spent_s(["-c", "pass"])) for _ in range(7)]
        ratios.append(
            statistics.median(a for a, _ in pairs) / statistics.median(b for _, b in pairs)
        )
        if ratios[-1] <= STARTS:
            return
    pytest.fail(f"expected at most {STARTS} bare starts, got {ratios}")
