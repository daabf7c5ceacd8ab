"""A model's whole way: signed, announced through a faulty EdgeCore, tried, kept or refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from edge_agent.agent import Agent
from edge_agent.app import running
from edge_agent.core.edgecore import Topics
from edge_agent.core.frames import Event, Record
from tests.agents.living import config_of, is_balanced, stream, sums, until
from tests.broker import Broker
from tests.broker import broker as broker  # noqa: PLC0414 - a fixture
from tests.broker import make_broker as make_broker  # noqa: PLC0414 - a fixture
from tests.installer import rascals
from tests.installer.hot_side import HotSide
from tools.edgecore_double import EdgeCoreDouble, Faults, Rule
from tools.hot_tier import HotTier, HttpRoad
from tools.hot_tier.announcer import Announcer, announce
from tools.hot_tier.roads import UP

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(120)]
NODE = "box"
DOWN = {
    "enabled": True, "shadow_frames": 10, "probation_frames": 10, "probation_s": 0.5,
    "shadow_s": 30.0,
}  # fmt: skip
BUSY: dict[str, Any] = {"deadline_ms": 5000.0, "max_age_ms": 5000.0, "swap": "now"}


@pytest.fixture
def hot(tmp_path: Path) -> Iterator[HotSide]:
    side = HotSide(tmp_path / "hot")
    with side.serving():
        yield side


class Site:
    """An agent, EdgeCore in between, a hot tier that announces."""

    def __init__(self, agent: Agent, edgecore: EdgeCoreDouble, tier: HotTier) -> None:
        self.agent, self.edgecore, self.tier = agent, edgecore, tier
        self.reports: list[dict[str, Any]] = []

    def hear(self, record: Record) -> None:
        if isinstance(record, Event) and record.name == "rollout":
            self.reports.append(msgspec.json.decode(record.what))

    def rollout(self) -> dict[str, Any]:
        found: dict[str, Any] = self.agent.views.models()["tiny"]["rollout"] or {}
        return found

    def ends(self) -> list[str]:
        return [report["outcome"] for report in self.reports]

    async def told(self) -> dict[str, Any]:
        """What the hot tier knows of the wanted state, from the node's own document."""
        document = await self.tier.document(NODE, "status")
        found: dict[str, Any] = msgspec.json.decode(document)["desired"] if document else {}
        return found


@asynccontextmanager
async def site(hot: HotSide, broker: Broker, folder: Path) -> AsyncIterator[Site]:
    rollouts = {**DOWN, "repositories": [hot.url],
                "root_file": str(hot.house.metadata / "1.root.json")}  # fmt: skip
    rascals.write(folder / "models" / "tiny" / "1.0.0")  # of the same kind as what comes
    config = config_of(
        folder, {"a": stream(model={"name": "tiny"}, **BUSY)}, rollouts=rollouts,
        uplink={"enabled": True, "port": broker.port, "drain_s": 5.0},
    )  # fmt: skip
    road = HttpRoad(0)
    async with HotTier(folder / "tier.db", road) as tier:
        rule = Rule(topic=Topics.of("default", NODE).up, url=f"http://127.0.0.1:{road.port}{UP}")
        double = EdgeCoreDouble(
            port=broker.port, node=NODE, rules=(rule,), faults=Faults(seed=7), rest=True
        )
        async with double as edgecore, running(config) as agent, anyio.create_task_group() as group:
            road.router = f"http://127.0.0.1:{edgecore.rest_port}"
            found = Site(agent, edgecore, tier)
            agent.pipeline.scribe.listen(found.hear)
            group.start_soon(announce, tier, Announcer(hot.house.folder))
            await until(lambda: sums(agent, "a")["inferred"] > 5, "results")
            yield found
            group.cancel_scope.cancel()


def state_of(serial: int, version: str, sha256: str) -> bytes:
    """A wanted state that nobody signed."""
    wanted = {"version": version, "sha256": sha256, "mode": "swap"}
    return msgspec.json.encode({"schema": 1, "serial": serial, "models": {"tiny": wanted}})


async def test_a_version_comes_down_and_stays_a_bad_one_is_refused_and_an_old_serial_is_nothing(
    hot: HotSide, broker: Broker, tmp_path: Path
) -> None:
    good = hot.publish("1.1.0").sha256
    async with site(hot, broker, tmp_path) as here:
        here.edgecore.cut()  # what is announced now is refused, and the first words after it lost
        old = hot.want("1.1.0", node=NODE)
        await anyio.sleep(1.0)
        here.edgecore.restore()
        await until(lambda: "committed" in here.ends(), "the end of the first rollout")
        assert here.agent.views.models()["tiny"]["active"] == "1.1.0"
        hot.publish("1.2.0", fault="drifted")
        serial = hot.want("1.2.0", node=NODE)
        await until(lambda: "rejected" in here.ends(), "the end of the second one")
        assert here.reports[-1]["reason"]
        assert here.agent.views.models()["tiny"]["active"] == "1.1.0"
        history = here.agent.views.models_history("tiny")
        assert [one["outcome"] for one in reversed(history)] == here.ends()
        assert set(here.ends()) <= {"committed", "rejected", "deferred"}  # later, on a busy machine
        with anyio.fail_after(40):
            while (await here.told()).get("state") != "refused":
                await anyio.sleep(0.1)
        told = await here.told()
        assert (told["serial"], told["models"]) == (serial, {"tiny": "refused"})
        for words in (state_of(old, "1.1.0", good), state_of(serial + 1000, "9.9.9", "ab" * 32)):
            here.edgecore.send_down(f"edge-agent/{NODE}/down/desired", words)
        await anyio.sleep(2.0)
        assert here.agent.views.status()["desired"]["serial"] == serial
        assert here.ends()[-1] == "rejected"
        shown = sums(here.agent, "a")
        assert (shown["dropped"]["error"], shown["dropped"]["crash"]) == (0, 0)
        agent = here.agent
    assert is_balanced(sums(agent, "a"))
