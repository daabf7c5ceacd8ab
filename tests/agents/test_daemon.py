"""The daemon as a service manager sees it: ready, fed, reloaded, degraded, stopped, refused."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.agents.daemon import Daemon, ask, config_text, started
from tests.agents.listening import ORDERS
from tests.tiny import write_package


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With the tiny model and a configuration of two streams."""
    write_package(tmp_path / "models")
    (tmp_path / "config.toml").write_text(config_text(tmp_path, "a", "b"))
    return tmp_path


def status(folder: Path) -> dict[str, Any]:
    done = ask(folder / "config.toml", "status", "--json")
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def until_inferred(daemon: Daemon, folder: Path, name: str, more_than: int) -> dict[str, Any]:
    daemon.until(
        lambda: status(folder)["streams"].get(name, {}).get("inferred", 0) > more_than,
        f"more than {more_than} results of {name}",
    )
    return status(folder)


def test_it_says_when_it_is_ready_when_it_stops_and_that_it_lives(folder: Path) -> None:
    with started(folder, watchdog_s=1.5) as daemon:
        daemon.until_told("READY=1")
        daemon.until(lambda: daemon.hear().count("WATCHDOG=1") >= 3, "three feedings")
        until_inferred(daemon, folder, "a", 5)
        assert daemon.stop() == 0
        words = [word for word in daemon.hear() if word != "WATCHDOG=1"]
        assert words == ["READY=1", "STOPPING=1"]
        assert "Traceback" not in daemon.log()


def test_the_watchdog_is_not_fed_while_a_lane_hangs(folder: Path) -> None:
    listeners = 'listeners = ["tests.agents.listening:obeys"]'
    (folder / "config.toml").write_text(config_text(folder, "a", engine=listeners))
    orders = folder / "orders"
    with started(folder, watchdog_s=1.5, **{ORDERS: str(orders)}) as daemon:
        daemon.until_told("READY=1")
        daemon.until_told("WATCHDOG=1")
        orders.write_text("hang")
        daemon.until(lambda: not orders.exists(), "the lane hangs")
        time.sleep(1.0)  # the feeding under way, and one that saw the last turns
        daemon.hear()
        fed = len(daemon.told)
        time.sleep(2.0)
        daemon.hear()
        assert daemon.told[fed:] == []
        assert "watchdog not fed" in daemon.log()


def test_a_second_daemon_on_the_same_state_is_refused_and_the_first_lives(folder: Path) -> None:
    with started(folder) as daemon:
        daemon.until_told("READY=1")
        second = ask(folder / "config.toml", "run")
        assert second.returncode == 6
        assert f"pid {daemon.process.pid}" in second.stderr
        assert "state_dir" in second.stderr
        until_inferred(daemon, folder, "a", 5)
        assert daemon.stop() == 0


def test_what_a_killed_daemon_left_does_not_hinder_the_next(folder: Path) -> None:
    with started(folder) as daemon:
        daemon.until_told("READY=1")
        daemon.signal(signal.SIGKILL)
        daemon.process.wait(10)
    assert (folder / "state" / "run" / "control.sock").exists()
    with started(folder) as daemon:
        daemon.until_told("READY=1")
        until_inferred(daemon, folder, "a", 5)
        assert daemon.stop() == 0


def test_hup_reloads_and_a_broken_file_changes_nothing(folder: Path) -> None:
    config = folder / "config.toml"
    with started(folder) as daemon:
        daemon.until_told("READY=1")
        until_inferred(daemon, folder, "b", 5)
        before = until_inferred(daemon, folder, "a", 5)["streams"]["a"]
        config.write_text(config_text(folder, "a", "c"))
        daemon.signal(signal.SIGHUP)
        after = until_inferred(daemon, folder, "c", 5)
        assert set(after["streams"]) == {"a", "c"}
        assert after["engine"]["starts"] == 1
        assert after["streams"]["a"]["captured"] > before["captured"]
        config.write_text(config_text(folder, "a").replace("fps = 30", "fsp = 30"))
        daemon.signal(signal.SIGHUP)
        daemon.until(lambda: "fsp" in json.dumps(status(folder)["problems"]), "it says where")
        told = status(folder)
        assert set(told["streams"]) == {"a", "c"}
        until_inferred(daemon, folder, "c", after["streams"]["c"]["inferred"])
        words = next(p["what"] for p in told["problems"] if "fsp" in p["what"])
        assert "config.toml:" in words
        assert "fps" in words
        assert daemon.stop() == 0


def test_a_reload_that_would_stop_a_stream_that_stays_is_refused(folder: Path) -> None:
    config, good = folder / "config.toml", folder / "state" / "config.last-good.json"
    with started(folder) as daemon:
        daemon.until_told("READY=1")
        until_inferred(daemon, folder, "b", 5)
        kept = good.read_bytes()
        sound = config.read_text()
        config.write_text(sound.replace('name = "tiny"', 'name = "tyni"', 1))
        daemon.signal(signal.SIGHUP)
        daemon.until(lambda: "tyni" in json.dumps(status(folder)["problems"]), "it says why")
        told = status(folder)
        (problem,) = [one for one in told["problems"] if one["code"] == "config"]
        assert problem["what"].startswith("reload refused: streams.a.models.0")
        assert {name: one["state"] for name, one in told["streams"].items()} == {
            "a": "ok", "b": "ok",
        }  # fmt: skip
        assert good.read_bytes() == kept, "what was refused is no last good configuration"
        config.write_text(config_text(folder, "b"))
        daemon.signal(signal.SIGHUP)
        daemon.until(lambda: set(status(folder)["streams"]) == {"b"}, "a removal is obeyed")
        daemon.until(lambda: status(folder)["state"] == "ok", "and all is well")
        assert daemon.stop() == 0


def test_a_broken_file_at_boot_runs_the_last_good_one_degraded(folder: Path) -> None:
    config = folder / "config.toml"
    with started(folder) as daemon:
        daemon.until_told("READY=1")
        daemon.until((folder / "state" / "config.last-good.json").exists, "the last good one")
        assert daemon.stop() == 0
    sound = config.read_text()
    config.write_text(sound.replace("fps = 30", "fps = -1", 1))
    with started(folder) as daemon:
        daemon.until_told("READY=1")
        told = until_inferred(daemon, folder, "b", 5)
        assert told["state"] == "degraded"
        assert any("config.toml:" in p["what"] and "fps" in p["what"] for p in told["problems"])
        config.write_text(sound)
        daemon.signal(signal.SIGHUP)
        daemon.until(lambda: status(folder)["state"] == "ok", "mended, it is well again")
        assert daemon.stop() == 0


def test_status_without_a_daemon_says_so(folder: Path) -> None:
    done = ask(folder / "config.toml", "status")
    assert done.returncode == 5
    assert "edge-agent run" in done.stderr or "systemctl" in done.stderr
