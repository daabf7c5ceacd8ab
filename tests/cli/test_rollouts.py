"""`edge-agent models install|rollback|pin|history` against a socket that answers."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from edge_agent.cli import client, exits, rollouts
from edge_agent.cli.exits import CommandError


class Daemon:
    """What the client would be: answers from a table, states of a rollout one after another."""

    def __init__(self) -> None:
        self.posted: list[tuple[str, dict[str, Any]]] = []
        self.answers: dict[str, dict[str, Any]] = {}
        self.states: list[dict[str, Any]] = []
        self.history: list[dict[str, Any]] = []

    def json(self, target: str) -> dict[str, Any]:
        if target.startswith("/v1/models/history"):
            return {"schema": 1, "history": self.history}
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return {"schema": 1, "models": {"us-chamber": {"rollout": state}}}

    def post(self, target: str, content: bytes) -> dict[str, Any]:
        verb = target.rpartition("/")[2]
        self.posted.append((verb, json.loads(content)))
        return self.answers[verb]


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Daemon:
    daemon = Daemon()
    monkeypatch.setattr(client, "connect", lambda _args, **_: daemon)
    monkeypatch.setattr(rollouts, "POLL_S", 0.0)
    return daemon


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    rollouts.add_verbs(parser.add_subparsers())
    args = parser.parse_args(words)
    code: int = args.run(args)
    return code


def state(name: str, **more: Any) -> dict[str, Any]:
    settled = name in ("committed", "rejected", "rolled_back")
    return {"state": name, "version": "1.1.0", "sha": "aa", "settled": settled, **more}


def test_install_waits_until_it_is_committed(
    daemon: Daemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.answers["install"] = {"models": {"us-chamber": {"version": "1.1.0", "sha": "aa"}}}
    daemon.states = [{**state("committed"), "sha": "old"}, state("fetching"), state("committed")]
    file = tmp_path / "us-chamber.eam"
    assert run("install", str(file)) == exits.OK
    assert daemon.posted == [("install", {"file": str(file)})]
    assert capsys.readouterr().out == "us-chamber 1.1.0: committed\n"


def test_a_refusal_is_exit_6_with_its_reason(
    daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.answers["install"] = {"models": {"us-chamber": {"sha": "aa"}}}
    daemon.states = [state("shadow"), state("rejected", reason="agreement 0.12")]
    assert run("install", "us-chamber@1.1.0", "--json") == exits.REFUSED
    out, err = capsys.readouterr()
    assert "rejected: agreement 0.12" in err
    assert json.loads(out)["models"]["us-chamber"]["state"] == "rejected"


def test_what_is_live_already_is_nothing_to_do(daemon: Daemon) -> None:
    daemon.answers["install"] = {"models": {}}
    assert run("install", "us-chamber@1.1.0") == exits.NOTHING_TO_DO
    assert run("install", "--usb", "/media/stick") == exits.NOTHING_TO_DO
    assert daemon.posted[-1] == ("install", {"usb": "/media/stick"})


@pytest.mark.parametrize("words", [(), ("us-chamber",), ("@1.0.0",), ("us-chamber@",)])
def test_what_is_no_package_is_wrong_usage(daemon: Daemon, words: tuple[str, ...]) -> None:
    with pytest.raises(CommandError) as caught:
        run("install", *words)
    assert caught.value.code == exits.USAGE
    assert daemon.posted == []


def test_a_roll_back_ends_rolled_back(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.answers["rollback"] = {"sha": "aa"}
    daemon.states = [state("rolled_back", reason="rolled back by hand")]
    assert run("rollback", "us-chamber") == exits.OK
    assert "rolled back by hand" in capsys.readouterr().out


def test_no_wait_returns_at_once(daemon: Daemon) -> None:
    daemon.answers["rollback"] = {"sha": "aa"}
    assert run("rollback", "us-chamber", "--no-wait") == exits.OK


def test_a_pin_is_set_and_taken_off(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.answers["pin"] = {"pinned": "1.0.0", "live": "1.0.0", "written": True}
    assert run("pin", "us-chamber") == exits.OK
    assert daemon.posted[-1][1] == {"model": "us-chamber", "version": "", "off": False}
    daemon.answers["pin"] = {"pinned": None}
    assert run("pin", "us-chamber", "--off") == exits.OK
    assert capsys.readouterr().out == "us-chamber: held to 1.0.0\nus-chamber: free again\n"
    with pytest.raises(CommandError):
        run("pin", "us-chamber", "1.0.0", "--off")


@pytest.mark.parametrize(
    ("said", "code", "words"),
    [
        ({"pinned": "1.0.0", "live": "1.1.0"}, exits.CHECK_FAILED, "1.1.0 is live -> edge-agent"),
        ({"pinned": "1.0.0", "live": None}, exits.CHECK_FAILED, "no version is live"),
        ({"pinned": "1.0.0", "live": "1.0.0", "written": False}, exits.WARNINGS, "not yet on the"),
    ],
)
def test_a_pin_says_what_is_so_and_exits_with_it(
    daemon: Daemon, capsys: pytest.CaptureFixture[str], said: dict[str, Any], code: int, words: str
) -> None:
    daemon.answers["pin"] = said
    assert run("pin", "us-chamber", "1.0.0") == code
    assert words in capsys.readouterr().err


def test_the_history_is_a_table(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.history = [
        {"model": "us-chamber", "version": "1.2.0", "outcome": "rejected", "by": "operator",
         "reason": "agreement\x1b[31m 0.12", "shadow_frames": 300, "agreement": 0.12,
         "took_s": 61.2, "unsigned": True},
        {"model": "us-chamber"},
    ]  # fmt: skip
    assert run("history", "us-chamber") == exits.OK
    out = capsys.readouterr().out
    assert "operator (unsigned)" in out
    assert "\x1b[31m" not in out


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"progress": {"done": 512, "of": 1024}}, "1.1.0 fetching 50.0% of 1.0 KiB"),
        ({"waits_for": "us-1: an exam"}, "1.1.0 fetching, waits for us-1: an exam"),
        ({}, "1.1.0 fetching"),
    ],
)
def test_where_it_stands_is_one_line(fields: dict[str, Any], words: str) -> None:
    assert rollouts.progress(state("fetching", **fields)) == words
