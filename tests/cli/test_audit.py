from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from edge_agent.cli import exits
from edge_agent.cli.main import main
from edge_agent.core import audit
from edge_agent.core.audit import Head, Stamp
from tests.core.test_audit import a_draft
from tests.stores.test_audit import SMALL, a_log, filled


def asked(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    code = main(["audit", *words, "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def head(state: Path) -> Head:
    return filled(state, 20, file_bytes=SMALL)


def test_a_whole_log_is_said_to_be(
    state: Path, head: Head, capsys: pytest.CaptureFixture[str]
) -> None:
    config = state / "config.toml"
    config.write_text(f'state_dir = "{state}"\n')
    assert main(["audit", "verify", "--config", str(config)]) == exits.OK
    assert f"entry 20 has hash {head.hash}" in capsys.readouterr().out
    told = ["--count", "20", "--head", head.hash]
    code, document = asked(capsys, "verify", "--dir", str(state), *told)
    assert (code, document["ok"], document["head"]) == (exits.OK, True, head.words())
    assert (document["entries"], document["starts_after"], document["faults"]) == (20, 0, [])


def test_a_break_is_named_by_file_and_line(
    state: Path, head: Head, capsys: pytest.CaptureFixture[str]
) -> None:
    path = state / "audit.000000001.log"
    path.write_bytes(path.read_bytes().replace(b"uid 3", b"uid 9"))
    assert main(["audit", "verify", "--dir", str(state)]) == exits.CHECK_FAILED
    shown = capsys.readouterr().out
    assert "audit.000000001.log:5: expected hash" in shown
    assert "keep a copy" in shown
    code, document = asked(capsys, "verify", "--dir", str(state))
    assert (code, document["ok"]) == (exits.CHECK_FAILED, False)
    assert document["faults"][0] == {
        "file": "audit.000000001.log", "line": 5, "why": document["faults"][0]["why"]
    }  # fmt: skip
    assert document["head"] == head.words()


def test_what_the_hot_tier_heard_tells_of_a_missing_end(
    state: Path, head: Head, capsys: pytest.CaptureFixture[str]
) -> None:
    told = ["--count", str(head.entries + 5), "--head", "ab" * 32]
    code, document = asked(capsys, "verify", "--dir", str(state), *told)
    assert code == exits.CHECK_FAILED
    assert "expected 25 entries, got 20" in document["faults"][-1]["why"]


def test_archived_files_are_a_warning(
    state: Path, head: Head, capsys: pytest.CaptureFixture[str]
) -> None:
    assert head.entries
    (state / "audit.000000001.log").unlink()
    assert main(["audit", "verify", "--dir", str(state)]) == exits.WARNINGS
    assert "older files were moved away" in capsys.readouterr().out


def test_it_verifies_while_it_is_written(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, stop = a_log(state, file_bytes=10 * SMALL), threading.Event()
    log.open()

    def write() -> None:
        number = 0
        while not stop.is_set():
            log.append([a_draft(number)])
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        codes = {main(["audit", "verify", "--dir", str(state)]) for _ in range(20)}
    finally:
        stop.set()
        writer.join()
        log.close()
    assert codes == {exits.OK}, capsys.readouterr().out


def test_the_newest_entries_are_shown(
    state: Path, head: Head, capsys: pytest.CaptureFixture[str]
) -> None:
    log = a_log(state, file_bytes=SMALL)
    unset = Stamp(boot_us=65_000_000, utc_us=None, boot="feedbeef")
    log.append([audit.draft(unset, "uid 0", "model-pinned", "us-chamber", {"version": "1.0.0"})])
    log.close()
    assert main(["audit", "show", "--dir", str(state), "--limit", "2"]) == exits.OK
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 3
    assert "2026-09-21T14:13:20.123Z" in shown[1]
    for words in ("21", "00:01:05 after start feedbeef", "model-pinned", "version 1.0.0"):
        assert words in shown[2]
    code, document = asked(capsys, "show", "--dir", str(state))
    assert (code, document["schema"], len(document["entries"])) == (exits.OK, 1, 21)
    assert document["entries"][-1]["seq"] == head.entries + 1


def test_wrong_words_and_missing_logs_are_said_as_such(
    tmp_path: Path, head: Head, capsys: pytest.CaptureFixture[str]
) -> None:
    assert head.entries
    for words, code in (
        (["verify", "--dir", str(tmp_path / "gone")], exits.NOTHING_TO_DO),
        (["show", "--dir", str(tmp_path.parent)], exits.NOTHING_TO_DO),
        (["show", "--dir", str(tmp_path), "--limit", "0"], exits.USAGE),
        (["verify", "--dir", str(tmp_path), "--count", "5"], exits.USAGE),
        (["verify", "--dir", str(tmp_path), "--count", "5", "--head", "xyz"], exits.USAGE),
    ):
        assert main(["audit", *words]) == code
        assert "edge-agent: " in capsys.readouterr().err
