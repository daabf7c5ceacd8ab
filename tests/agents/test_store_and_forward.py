"""Whole agents with a spool on disk and a road: up, without a broker, without a disk, killed."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import pytest

from edge_agent.agent import Agent
from edge_agent.app import running
from edge_agent.core.frames import AnyRecord, Event, Result, Tally
from edge_agent.stores.audit import check
from tests.agents.daemon import ask, config_text, started
from tests.agents.living import config_of, stream, sums, until, words_of
from tests.broker import Broker
from tests.broker import broker as broker  # noqa: PLC0414 - a fixture
from tests.broker import make_broker as make_broker  # noqa: PLC0414 - a fixture
from tests.tiny import write_package
from tools.hot_tier import HotTier, MqttRoad

pytestmark = pytest.mark.anyio
ENOUGH = 30  # results: one second of a stream


def uplink(port: int, **more: Any) -> dict[str, Any]:
    return {"enabled": True, "port": port, "answer_s": 2.0, "drain_s": 10.0, **more}


def results(agent: Agent) -> int:
    return int(sums(agent, "a")["inferred"])


def identities(heard: list[AnyRecord]) -> Counter[tuple[Any, ...]]:
    return Counter((one.stream, one.klass, one.epoch, one.seq) for one in heard)


async def test_what_an_agent_finds_is_at_the_hot_tier_once_when_it_has_ended(
    broker: Broker, tmp_path: Path
) -> None:
    heard: list[AnyRecord] = []
    config = config_of(tmp_path, {"a": stream()}, uplink=uplink(broker.port))
    async with HotTier(
        tmp_path / "db", MqttRoad("127.0.0.1", broker.port), heard=heard.extend
    ) as tier:
        async with running(config) as agent:
            await until(lambda: results(agent) >= ENOUGH, "results")
            await until(lambda: agent.views.uplink()["cloud"] == "up", "the cloud")
            await until(lambda: agent.views.spool()["acked"] > 0, "acknowledgements")
            during = agent.views.status()
        final = agent.views.spool()
        await tier.settle()
        total = tier.sheet()["total"]
    assert during["state"] == "ok"
    assert during["uplink"]["reason"] == ""
    assert (final["records"], final["evicted"], final["corrupt"]) == (0, 0, 0)
    assert final["appended"] == final["acked"] == len(heard)
    assert max(identities(heard).values()) == 1
    assert total["waiting"] == 0
    assert {type(one) for one in heard} >= {Result, Tally, Event}


async def test_no_broker_at_start_loses_nothing_and_is_said(tmp_path: Path) -> None:
    config = config_of(tmp_path, {"a": stream()}, uplink=uplink(1))
    async with running(config) as agent:
        await until(lambda: results(agent) >= ENOUGH, "results")
        status = agent.views.status()
    shown, kept = status["uplink"], status["spool"]
    (problem,) = [one for one in status["problems"] if one["severity"] != "notice"]
    assert (status["state"], problem["code"]) == ("degraded", "uplink-down")
    assert "refused" in problem["what"]
    assert (shown["connected"], shown["cloud"]) == (False, "unknown")
    assert "refused" in shown["reason"]
    assert shown["since_s"] > 0
    assert kept["records"] >= ENOUGH
    assert "volatile" not in kept or kept["volatile"] is False
    async with running(config) as agent:
        assert agent.views.spool()["appended"] > kept["records"]  # still there, and more


async def test_a_folder_in_the_place_of_the_spool_is_put_aside(tmp_path: Path) -> None:
    state = tmp_path / "state"
    (state / "spool.db" / "whose").mkdir(parents=True)
    async with running(config_of(tmp_path, {"a": stream()}, uplink=uplink(1))) as agent:
        await until(lambda: results(agent) >= 5, "results")
        assert agent.views.spool()["volatile"] is False
    assert [one for one in state.iterdir() if (one / "whose").is_dir()]


async def test_a_spool_that_cannot_be_opened_does_not_keep_the_agent_from_starting(
    tmp_path: Path,
) -> None:
    config = config_of(tmp_path, {"a": stream()}, uplink=uplink(1))
    (tmp_path / "state").write_text("in the place of the folder")
    async with running(config) as agent:
        await until(lambda: results(agent) >= 5, "results")
        status = agent.views.status()
    assert status["spool"]["volatile"] is True
    assert status["state"] == "degraded"
    assert "nothing is kept on disk" in words_of(agent)
    assert status["uplink"]["configured"] is False


async def test_a_killed_daemon_goes_on_where_it_was_and_nothing_is_missing(
    broker: Broker, tmp_path: Path
) -> None:
    write_package(tmp_path / "models")
    road = f"\n[uplink]\nenabled = true\nport = {broker.port}\ntwin = false\n"
    (tmp_path / "config.toml").write_text(config_text(tmp_path, "a") + road)
    heard: list[AnyRecord] = []
    async with HotTier(
        tmp_path / "db", MqttRoad("127.0.0.1", broker.port), heard=heard.extend
    ) as tier:
        for acked in (20, 60):
            await anyio.to_thread.run_sync(_live_and_die, tmp_path, acked)
        await anyio.to_thread.run_sync(_drain, tmp_path)
        await tier.settle()
        total, counts = tier.sheet()["total"], identities(heard)
    assert max(counts.values()) == 1
    assert total["waiting"] == 0
    epochs = {one.epoch for one in heard}
    assert len(epochs) == 3
    for log in {key[:3] for key in counts}:
        seqs = sorted(key[3] for key in counts if key[:3] == log)
        assert seqs == list(range(1, len(seqs) + 1))


def _live_and_die(folder: Path, acked: int) -> None:
    with started(folder) as daemon:
        daemon.until_told("READY=1")
        daemon.until(lambda: _acked(folder) > acked, "acknowledgements")
        os.kill(daemon.process.pid, signal.SIGKILL)
        daemon.process.wait()


def _drain(folder: Path) -> None:
    with started(folder) as daemon:
        daemon.until_told("READY=1")
        done = ask(folder / "config.toml", "uplink", "drain", "--timeout", "20")
        assert done.returncode == 0, done.stdout + done.stderr
        assert daemon.stop() == 0


def _acked(folder: Path) -> int:
    found = ask(folder / "config.toml", "spool", "status", "--json")
    return int(json.loads(found.stdout)["spool"]["acked"]) if found.returncode == 0 else 0


async def test_what_an_agent_does_stands_in_a_chain_that_verifies(tmp_path: Path) -> None:
    async with running(config_of(tmp_path, {"a": stream()})) as agent:
        await until(lambda: results(agent) >= 3, "results")
        await until(lambda: agent.views.status()["audit"]["count"] > 0, "entries")
    found = check(tmp_path / "state")
    assert found.faults == []
    lines = (tmp_path / "state" / "audit.log").read_bytes().splitlines()[1:]
    whats = [json.loads(line)["entry"]["what"] for line in lines]
    assert (whats[0], whats[-1]) == ("started", "stopped")
    assert found.head.entries == len(whats)
