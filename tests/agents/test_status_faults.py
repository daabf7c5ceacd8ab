"""A state machine of injected faults: the status names each, with a fix, and is OK once mended."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import cv2
import numpy as np
import pytest

from edge_agent.agent import Agent
from edge_agent.app import running
from edge_agent.config.structs import UplinkConfig
from tests.agents import afflictions
from tests.agents.afflictions import Fault, JumpingClock
from tests.agents.living import config_of, stream, until
from tests.broker import MOSQUITTO, Broker
from tests.broker import make_broker as make_broker  # noqa: PLC0414 - a fixture
from tests.disks import small_disk
from tests.links.authority import Authority
from tests.tiny import SIZE
from tools.hot_tier import HotTier, MqttRoad

pytestmark = pytest.mark.anyio
MAX_AGE_MS = 500.0
SLACK_MS = 2000.0
ROUNDS = int(os.environ.get("EDGE_AGENT_FAULT_ROUNDS", "1"))
SEED = int(os.environ.get("EDGE_AGENT_FAULT_SEED", "10"))


class World:
    """An agent, and what may be done to it."""

    def __init__(self, agent: Agent, faults: list[Fault]) -> None:
        self.agent, self.faults = agent, faults
        self.worst: list[str] = []

    def status(self) -> dict[str, Any]:
        """One look; whatever it shows as ok has to be fresh."""
        status = self.agent.views.status()
        for name, shown in status["streams"].items():
            age_ms = shown["age_ms"]
            if shown["state"] == "ok" and (age_ms is None or age_ms > MAX_AGE_MS + SLACK_MS):
                self.worst.append(f"{name} is ok with a result of {age_ms} ms")
        return status

    def is_well(self) -> bool:
        status = self.status()
        faults = [one for one in status["problems"] if one["severity"] != "notice"]
        return status["state"] == "ok" and not faults

    def named(self, fault: Fault) -> dict[str, Any] | None:
        status = self.status()
        found = [one for one in status["problems"] if one["code"] in fault.codes]
        return found[0] if found and status["state"] != "ok" else None

    async def suffer(self, fault: Fault) -> None:
        """Injected, named, mended, over."""
        problem = None
        await anyio.to_thread.run_sync(fault.inject)
        try:
            with anyio.move_on_after(fault.within_s):
                while (problem := self.named(fault)) is None:
                    await anyio.sleep(0.02)
            problems = self.status()["problems"]
            assert problem is not None, f"{fault.name} is not named: {problems}"
            assert problem["what"], fault.name
            assert fault.fix in problem["fix"], (fault.name, problem)
            await anyio.sleep(0.5)
        finally:
            await anyio.to_thread.run_sync(fault.mend)
        try:
            await until(self.is_well, f"all is well after {fault.name}")
        except AssertionError as never:
            raise AssertionError(f"{never}: {self.status()['problems']}") from None


def pictures(folder: Path) -> Path:
    folder.mkdir()
    draw = np.random.default_rng(1)
    for index in range(5):
        picture = draw.integers(0, 255, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{index}.png"), picture)
    return folder


def a_broker(make_broker: Any, tmp_path: Path) -> tuple[Broker, Path]:
    """One that asks for a password, and the file that holds it."""
    passwords, secret = tmp_path / "passwords", tmp_path / "secret"
    secret.write_text("right")
    command = ["mosquitto_passwd", "-c", "-b", str(passwords), "cart", "right"]
    subprocess.run(command, check=True, capture_output=True)
    subprocess.run(["mosquitto_passwd", "-b", str(passwords), "tier", "right"], check=True,
                   capture_output=True)  # fmt: skip
    passwords.chmod(0o600)
    return make_broker("mosquitto", more=f"password_file {passwords}"), secret


@asynccontextmanager
async def afflicted(tmp_path: Path, broker: Broker, secret: Path) -> AsyncIterator[World]:
    shots, watched = pictures(tmp_path / "shots"), tmp_path / "watched"
    watched.mkdir()
    clock, disk = JumpingClock(), tmp_path / "disk"
    with small_disk(disk, 64 << 20) as is_small:
        source = {"kind": "images", "path": str(shots), "loop": True, "fps": 10.0}
        pics = {**stream(), "source": {**source, "reopen_max_s": 0.5}}
        watch = {**stream(), "source": {"kind": "dicom", "path": str(watched), "fps": 10.0}}
        config = config_of(
            tmp_path, {"cam": stream({"fps": 10.0}), "pics": pics, "watch": watch},
            state_dir=str(disk / "state"),
            spool={"limit_bytes": 8 << 30, "ballast_bytes": 1 << 20},
            uplink={
                "enabled": True, "port": broker.port, "answer_s": 3.0, "reconnect_max_s": 0.3,
                "username": "cart", "password_file": str(secret),
            },
        )  # fmt: skip
        faults = afflictions.of_side() + afflictions.of_source(shots)
        faults += afflictions.of_road(broker, secret) + afflictions.of_clock(clock)
        faults += afflictions.of_model(tmp_path / "models" / "tiny" / "1.0.0")
        faults += afflictions.of_disk(disk) if is_small else []
        told = UplinkConfig(username="tier", password_file=str(tmp_path / "tier-secret"))
        (tmp_path / "tier-secret").write_text("right")
        road = MqttRoad("127.0.0.1", broker.port, config=told)
        async with HotTier(tmp_path / "db", road), running(config, clock=clock) as agent:
            yield World(agent, faults)


@pytest.mark.timeout(300)
@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
async def test_each_fault_is_named_with_its_fix_and_over_once_it_is_mended(
    make_broker: Any, tmp_path: Path
) -> None:
    broker, secret = a_broker(make_broker, tmp_path)
    dice = random.Random(SEED)
    async with afflicted(tmp_path, broker, secret) as world:
        await until(world.is_well, "a good start")
        await until(lambda: world.status()["streams"]["watch"]["state"] == "idle", "an idle folder")
        for _ in range(ROUNDS):
            for fault in dice.sample(world.faults, len(world.faults)):
                await world.suffer(fault)
    assert not world.worst


@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
async def test_an_expired_certificate_is_a_problem_until_it_is_renewed(
    make_broker: Any, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "ca")
    broker = make_broker("mosquitto", listener=authority.listener())
    cert, key = authority.sign("cart-3", days=-1)
    config = config_of(
        tmp_path, {"cam": stream({"fps": 10.0})},
        uplink={
            "enabled": True, "port": broker.port, "tls": True, "reconnect_max_s": 0.3,
            "ca_file": str(authority.certificate), "cert_file": str(cert), "key_file": str(key),
        },
    )  # fmt: skip
    async with running(config) as agent:
        world = World(agent, [])

        def denied() -> bool:
            return any(one["code"] == "link-denied" for one in world.status()["problems"])

        await until(denied, "an expired certificate is told")
        (problem,) = [one for one in world.status()["problems"] if one["code"] == "link-denied"]
        assert "expired on" in problem["what"]
        assert "renew it" in problem["fix"]
        assert world.status()["state"] == "degraded"
        authority.sign("cart-3")
        await until(lambda: world.status()["uplink"]["connected"], "a renewed one")
        await until(lambda: not denied(), "and no problem is left of it")
