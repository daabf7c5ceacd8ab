"""The status screen, its JSON, and what happens where no daemon answers."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from edge_agent.cli import client, exits
from edge_agent.cli.client import socket_paths
from edge_agent.cli.main import main
from edge_agent.cli.status import lines
from edge_agent.cli.tables import Paint
from edge_agent.cli.top import screen, sparkline
from tests.cli.daemon import STATUS, Server

SCREEN = """\
edge-agent 0.1.0  cart-3  up 3d04h  DEGRADED
stream      source                       fps in/out  p50/p99 ms  drop  model             state
ultrasound  dicom sample:ultrasound       30.0/29.9    7.8/12.9  0.2%  us-chamber@1.1.0  ok
endoscope   rtsp://tower:***@10.0.0.7/1     0.0/0.0         -/-     -  endo-polyp@1.0.0  no_signal \
(no frame for 2.0 s)
spool     1,204 records  1.2 MiB of 32.0 MiB (3.7%)  oldest 02:11:08  volatile: nothing survives \
a restart
# Health: stream endoscope: no frame for 2.0 s  -> check the cable of the tower
"""


@pytest.mark.usefixtures("daemon")
def test_status_is_one_screen(control: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--socket", str(control)]) == exits.OK
    assert capsys.readouterr().out == SCREEN


@pytest.mark.usefixtures("daemon")
def test_status_as_json_is_what_the_daemon_said(
    control: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "--json", "--socket", str(control)]) == exits.OK
    assert json.loads(capsys.readouterr().out) == STATUS


@pytest.mark.parametrize("status", [{}, {"streams": {"a": {}}, "spool": {}, "problems": [{}]}])
def test_missing_fields_leave_dashes(
    daemon: Server,
    control: Path,
    capsys: pytest.CaptureFixture[str],
    status: dict[str, object],
) -> None:
    daemon.answer("/v1/status", status)
    assert main(["status", "--socket", str(control)]) == exits.OK
    assert main(["top", "--socket", str(control)]) == exits.OK
    assert "edge-agent -" in capsys.readouterr().out


def test_text_from_outside_cannot_steer_the_terminal() -> None:
    hostile = {"streams": {"a": {"source": "cam\x1b[2J\nera", "state": "ok"}}}
    assert not any("\x1b" in line or "\n" in line for line in lines(hostile, Paint(on=False)))


def test_colours_only_where_they_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.openpty()
    with open(ours, "rb"), open(theirs, "w") as terminal:
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.delenv("NO_COLOR", raising=False)
        assert Paint.fitting(terminal).on
        monkeypatch.setenv("NO_COLOR", "1")
        assert not Paint.fitting(terminal).on
    assert "\x1b[" in "\n".join(lines(STATUS, Paint(on=True)))


def test_no_daemon_is_exit_5_with_a_hint(control: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--socket", str(control)]) == exits.NOT_RUNNING
    said = capsys.readouterr().err
    assert "not running" in said
    assert "sudo systemctl start edge-agent" in said
    assert str(control) in said


def test_a_socket_that_a_dead_daemon_left_is_exit_5(control: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(control))
    assert control.exists()
    assert main(["status", "--socket", str(control)]) == exits.NOT_RUNNING


def test_a_path_too_long_for_a_socket_is_exit_5(tmp_path: Path) -> None:
    assert main(["status", "--socket", str(tmp_path / ("x" * 120))]) == exits.NOT_RUNNING


def test_an_error_of_the_daemon_keeps_its_hint(
    daemon: Server, control: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.answers["/v1/status"] = 503, b'{"error": "still starting", "hint": "wait a second"}'
    assert main(["status", "--socket", str(control)]) == exits.ERROR
    assert capsys.readouterr().err == "edge-agent: still starting\n  hint: wait a second\n"


@pytest.mark.parametrize(
    ("status", "fault", "expected"),
    [
        (403, "rejected", (exits.REFUSED, "rejected")),
        (403, "bad-package", (exits.REFUSED, "bad-package")),
        (403, "", (exits.REFUSED, "rejected")),  # a daemon that does not say it yet
        (503, "overloaded", (exits.ERROR, "overloaded")),
        (502, "link-down", (exits.ERROR, "link-down")),
        (500, "damaged", (exits.ERROR, "damaged")),
        (409, "rejected", (exits.ERROR, "rejected")),
        (404, "unheard-of", (exits.ERROR, "failed")),
    ],
)
def test_the_command_raises_again_whose_fault_it_was(
    daemon: Server, control: Path, status: int, fault: str, expected: tuple[int, str]
) -> None:
    """Exit 6 means that it is no use to try again."""
    said = {"error": "no", "hint": "", **({"fault": fault} if fault else {})}
    daemon.answers["/v1/status"] = status, json.dumps(said).encode()
    with pytest.raises(exits.CommandError, match="no") as caught:
        client.Client([str(control)]).json("/v1/status")
    assert (caught.value.code, caught.value.fault) == expected
    assert main(["status", "--socket", str(control)]) == expected[0]


@pytest.mark.parametrize("body", [b"[1]", b"\xff\x00nonsense", b""])
def test_an_answer_that_is_no_object_is_an_error(
    daemon: Server, control: Path, capsys: pytest.CaptureFixture[str], body: bytes
) -> None:
    daemon.answers["/v1/status"] = 200, body
    assert main(["status", "--socket", str(control)]) == exits.ERROR
    assert "expected a JSON object" in capsys.readouterr().err


def test_the_socket_is_looked_for_where_the_agent_puts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.toml"
    config.write_text('node = "a"\nstate_dir = "/srv/ea"\n[engine]\nruntime_dir = "/no"\n')
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/one")
    assert client.socket_paths("/x") == ["/x"]
    assert client.socket_paths(None, str(config)) == [
        "/run/one/control.sock",
        "/srv/ea/run/control.sock",
    ]
    monkeypatch.delenv("RUNTIME_DIRECTORY")
    assert client.socket_paths(None)[-2:] == [
        "/run/edge-agent/control.sock",
        "/var/lib/edge-agent/run/control.sock",
    ]


@pytest.mark.usefixtures("daemon")
def test_top_prints_once_where_there_is_no_terminal(
    control: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["top", "--socket", str(control)]) == exits.OK
    said = capsys.readouterr().out
    assert said.startswith(SCREEN)
    assert "2 overwritten" in said
    assert "\x1b" not in said


def test_the_history_is_drawn_from_zero_to_the_highest() -> None:
    assert sparkline([0, 30, 60]) == "▁▅█"
    assert sparkline([0, 0]) == "▁▁"
    assert sparkline([]) == ""
    assert screen({}, {}, Paint(on=False))[-1] == "no streams configured"


# ── the verdict of --check ────────────────────────────────────────────────────────────────────


def severe(severity: str) -> dict[str, object]:
    return {"severity": severity, "code": "x", "what": "x", "fix": "y", "since_s": 61.0}


OK = {"state": "ok", "streams": {"a": {"state": "ok"}}, "problems": []}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, exits.OK),
        ({"problems": [severe("notice")]}, exits.OK),
        ({"streams": {"a": {"state": "idle"}}}, exits.OK),
        ({"streams": {"a": {"state": "no_signal", "ended": True}}}, exits.OK),
        ({"state": "degraded", "problems": [severe("warning")]}, exits.WARNINGS),
        ({"state": "degraded"}, exits.WARNINGS),
        ({}.fromkeys(("state",)), exits.WARNINGS),
        ({"state": "degraded", "problems": [severe("critical")]}, exits.CHECK_FAILED),
        ({"streams": {"a": {"state": "stale"}}}, exits.CHECK_FAILED),
        ({"streams": {"a": {"state": "failed"}}}, exits.CHECK_FAILED),
        ({"state": "starting"}, exits.CHECK_FAILED),
    ],
)
def test_check_ends_with_what_monitoring_asks_for(
    daemon: Server, control: Path, change: dict[str, object], code: int
) -> None:
    daemon.answer("/v1/status", {**OK, **change})
    assert main(["status", "--check", "--socket", str(control)]) == code
    assert main(["status", "--socket", str(control)]) == exits.OK


def test_check_without_a_daemon_is_5(control: Path) -> None:
    assert main(["status", "--check", "--socket", str(control)]) == exits.NOT_RUNNING


def test_a_problem_says_since_when_and_a_notice_is_a_note() -> None:
    said = lines({"problems": [severe("critical"), severe("notice")]}, Paint(on=False))
    assert said[-2:] == ["# Health: x (for 00:01:01)  -> y", "# Note: x (for 00:01:01)  -> y"]


def test_on_80_columns_the_state_of_a_stream_is_not_cut() -> None:
    """`no_signal` was `no~` there: the one word that matters."""
    shown = screen(STATUS, {}, Paint(on=False), 80)
    row = next(line for line in shown if line.startswith("endoscope"))
    assert "no_signal" in row[:79]
    wide = screen(STATUS, {}, Paint(on=False), 200)
    assert "us-chamber@1.1.0" in "".join(wide), "where there is room nothing is left out"


def test_a_pinned_model_has_no_empty_reason() -> None:
    pinned = {"models": {"tiny": {"rollout": {"pinned": "1.0.0", "settled": True}}}}
    assert "model     tiny  pinned to 1.0.0" in screen(pinned, {}, Paint(on=False))


def test_a_config_that_is_not_there_is_no_daemon_that_is_not_running(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "confg.toml"
    assert main(["status", "--config", str(missing)]) == exits.ERROR
    assert f"read {missing}: no such file" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["", 'state_dir = "/var/lib/edge-agent"\n'])
def test_the_daemon_of_the_usual_folder_is_found_by_its_config_too(
    tmp_path: Path, line: str
) -> None:
    """`--config /etc/edge-agent/config.toml` said "not running" beside the unit's agent."""
    config = tmp_path / "config.toml"
    config.write_text(line)
    assert "/run/edge-agent/control.sock" in socket_paths(None, str(config))
    config.write_text('state_dir = "/srv/other"\n')
    assert "/run/edge-agent/control.sock" not in socket_paths(None, str(config))
