"""It starts, always: whatever is wrong with the state directory, the streams or the locale."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from tests.agents.daemon import Daemon, ask, command, config_text, started
from tests.disks import fill_up, make_read_only, small_disk
from tests.tiny import write_package

POOR = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_package(tmp_path / "models")
    (tmp_path / "config.toml").write_text(config_text(tmp_path, "a", title="Süd"))
    return tmp_path


def status(folder: Path) -> dict[str, Any]:
    done = ask(folder / "config.toml", "status", "--json")
    found: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
    return found


def inferring(daemon: Daemon, folder: Path) -> dict[str, Any]:
    """The status, as a command finds it by the configuration alone, once there are results."""
    daemon.until_told("READY=1")
    daemon.until(lambda: status(folder)["streams"]["a"]["inferred"] > 2, "results")
    return status(folder)


def critical(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in found["problems"] if one["severity"] == "critical"]


def a_file(state: Path) -> Generator[None, None, None]:
    state.write_text("somebody's")
    yield


def read_only(state: Path) -> Generator[None, None, None]:
    with small_disk(state, 40 << 20) as can:
        if not can:
            pytest.skip("needs root, and the right to mount")
        (state / "exam.key").write_bytes(bytes(32))
        (state / "exam.key").chmod(0o600)
        make_read_only(state)
        yield


def full(state: Path) -> Generator[None, None, None]:
    for _ in read_only(state):
        make_read_only(state, read_only=False)
        fill_up(state / "FILL")
        yield


@pytest.mark.parametrize(
    ("spoil", "what", "fix"),
    [
        (a_file, "a file is in the place of", "sudo mv "),
        (read_only, "its file system is read-only", "mount -o remount,rw "),
        (full, "its disk is full", "make room on "),
    ],
    ids=["file", "read-only", "full"],
)
def test_a_state_directory_that_cannot_be_used_is_one_problem_and_inference_runs(
    place: Path, spoil: Callable[[Path], Generator[None, None, None]], what: str, fix: str
) -> None:
    """A disk that ext4 had remounted read-only ended every start, with the wrong hint."""
    spoiling = spoil(place / "state")
    next(spoiling)
    try:
        with started(place) as daemon:
            found = inferring(daemon, place)
            time.sleep(1.2)  # whoever else writes there has found out by now
            found = status(place)
            (problem,) = critical(found)
            assert (what in problem["what"], fix in problem["fix"]) == (True, True), str(problem)
            assert problem["fix"].endswith("then restart edge-agent")
            assert found["spool"]["volatile"] is True
            assert found["streams"]["a"]["state"] == "ok"
            with started(place) as second:
                assert second.process.wait(30) == 6
                assert "in use by another edge-agent" in second.log()
            assert daemon.stop() == 0
    finally:
        spoiling.close()


def test_closed_standard_streams_take_no_file_s_place(place: Path) -> None:
    """The lock, or the spool, became standard output; and the start ended without a word."""
    words = command(place / "config.toml", "run")
    closed = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *words]
    with subprocess.Popen(closed) as process:
        try:
            until_s = time.monotonic() + 30
            while not status(place).get("streams", {}).get("a", {}).get("inferred"):
                assert time.monotonic() < until_s
                time.sleep(0.1)
            held = [Path(f"/proc/{process.pid}/fd/{number}").readlink() for number in range(3)]
            assert str(held[0]) == "/dev/null"
            assert str(held[1]).startswith("pipe:"), "what libraries write goes through the log"
            assert held[1] == held[2]
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_signal_during_the_imports_is_heard(place: Path, number: signal.Signals) -> None:
    """SIGHUP killed the agent in its first second, SIGTERM ended it with -15."""
    with started(place) as daemon:
        status_of = Path(f"/proc/{daemon.process.pid}/status")
        bit = 1 << (number - 1)
        daemon.until(
            lambda: int(status_of.read_text().split("SigCgt:")[1].split()[0], 16) & bit, "a handler"
        )
        daemon.signal(number)
        if number == signal.SIGTERM:
            assert daemon.process.wait(20) == 0
        else:
            daemon.until_told("READY=1")
            daemon.until(lambda: "reloaded" in daemon.log(), "the reload that was asked for")
            assert daemon.stop() == 0


def test_paths_of_any_bytes_and_a_poor_locale_hold_nothing_up(place: Path) -> None:
    odd = place / os.fsdecode(b"st\xff")
    odd.mkdir()
    shutil.move(place / "models", odd / "models")
    sets = ("--set", f"state_dir={odd}/state", "--set", f'models.dirs=["{odd}/models"]')
    env = {**os.environ, **POOR}
    words = [*command(place / "config.toml", "run"), *sets]
    with subprocess.Popen(words, env=env, stderr=subprocess.PIPE) as process:
        try:
            socket = f"{odd}/state/run/control.sock"
            asked = [sys.executable, "-m", "edge_agent", "status", "--json", "--socket", socket]
            found: dict[str, Any] = {}
            until_s = time.monotonic() + 40
            while not (found and found["streams"]["a"]["inferred"]):
                assert time.monotonic() < until_s
                done = subprocess.run(asked, env=env, capture_output=True, check=False)
                found = json.loads(done.stdout.decode("ascii")) if not done.returncode else {}
            assert found["streams"]["a"]["title"] == "Süd"
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
            assert process.stderr is not None
            for line in process.stderr.read().decode("ascii").splitlines():
                assert json.loads(line)["level"] != "error", line
        finally:
            process.kill()
