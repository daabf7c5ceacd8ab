"""The uplink through EdgeCore's double: twin, trust, and what nobody can read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import msgspec
import pytest

from edge_agent.config.structs import UplinkConfig
from edge_agent.core.edgecore import Desired, DesiredHint, Topics, Tuf
from edge_agent.core.frames import AnyRecord, Result
from edge_agent.core.wire import armour
from tests.broker import Broker
from tests.broker import broker as broker  # noqa: PLC0414 - a fixture
from tests.broker import make_broker as make_broker  # noqa: PLC0414 - a fixture
from tests.services.uplinks import NODE, QUIET, Agent, running, spooling
from tools.edgecore_double import EdgeCoreDouble, Rule
from tools.hot_tier import HotTier, HttpRoad, MqttRoad
from tools.hot_tier.places import Places
from tools.hot_tier.roads import UP

pytestmark = pytest.mark.anyio
TOPICS = Topics.of("default", NODE)
TWIN: UplinkConfig = msgspec.structs.replace(QUIET, twin=True)
DEVICE = f"device/default/{NODE}"


@asynccontextmanager
async def behind_edgecore(
    broker: Broker, folder: Path, heard: list[AnyRecord], machine: str = NODE
) -> AsyncIterator[tuple[EdgeCoreDouble, HotTier]]:
    """The double with all its faults, a Rule to a hot tier, and its word back. machine: what
    KubeEdge calls it.
    """
    places = Places()
    road = HttpRoad(0, places=places)
    async with HotTier(folder / "db", road, heard=heard.extend, places=places) as tier:
        with anyio.fail_after(10):
            while not road.port:
                await anyio.sleep(0.01)
        rule = Rule(topic=TOPICS.up, url=f"http://127.0.0.1:{road.port}{UP}")
        devices = (f"default/{NODE}",)
        async with EdgeCoreDouble(
            port=broker.port, node=machine, rules=(rule,), devices=devices, rest=True
        ) as edgecore:
            road.router = f"http://127.0.0.1:{edgecore.rest_port}"
            yield edgecore, tier


async def test_a_node_that_kubeedge_calls_otherwise_is_answered(
    broker: Broker, tmp_path: Path
) -> None:
    """EdgeCore's node is `ward.3`, which the agent's cannot be: acks went to a node that is not."""
    heard: list[AnyRecord] = []
    config = msgspec.structs.replace(QUIET, kubeedge_node="ward.3")
    async with (
        spooling(tmp_path) as spool,
        behind_edgecore(broker, tmp_path, heard, "ward.3"),
    ):
        agent = Agent(spool, broker.port, config)
        for _ in range(20):
            agent.say()
        async with running(agent):
            await agent.drained()
    assert len(heard) == 20


async def test_a_cut_and_a_restart_of_edgecore_cost_time_and_no_record(
    broker: Broker, tmp_path: Path
) -> None:
    heard: list[AnyRecord] = []
    async with (
        spooling(tmp_path) as spool,
        behind_edgecore(broker, tmp_path, heard) as (edgecore, tier),
    ):
        agent = Agent(spool, broker.port)
        for _ in range(300):
            agent.say()
        async with running(agent):
            for turn in range(60):
                agent.say("endo")
                if turn == 20:
                    edgecore.cut()
                if turn == 30:
                    edgecore.restore()
                if turn == 45:
                    await edgecore.restart()
                await anyio.sleep(1 / 30)
            await agent.drained()
        total = tier.sheet()["total"]
    assert len({(r.stream, r.seq) for r in heard}) == len(heard) == 360
    assert total["waiting"] == 0
    assert edgecore.counts["lost_after_cut"] + edgecore.counts["lost_at_restart"] >= 3


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_the_twin_is_told_and_told_again_when_the_cloud_was_away(
    broker: Broker, tmp_path: Path
) -> None:
    heard: list[AnyRecord] = []
    async with (
        spooling(tmp_path) as spool,
        behind_edgecore(broker, tmp_path, heard) as (edgecore, _),
    ):
        agent = Agent(spool, broker.port, TWIN)
        update, state = f"{DEVICE}/twin/edge_updated", f"{DEVICE}/state/update"
        async with running(agent):
            agent.say()
            await agent.until(lambda: {update, state} <= edgecore.cloud_twin.keys())
            first = msgspec.json.decode(edgecore.cloud_twin[update])
            edgecore.cut()
            edgecore.cloud_twin.clear()
            for _ in range(400):
                agent.say()
                if agent.uplink.stats()["cloud"] == "down":
                    break
                await anyio.sleep(0.05)
            edgecore.restore()
            await agent.until(lambda: update in edgecore.cloud_twin, 30)
            again = msgspec.json.decode(edgecore.cloud_twin[update])
            await agent.drained()
    assert first["twin"]["model_version"]["actual"]["value"] == "1.2.0"
    assert again["twin"]["model_version"]["actual"]["value"] == "1.2.0"
    assert again["event_id"] != first["event_id"]
    assert agent.uplink.stats()["twin_refused"] == ""


async def test_metadata_and_desired_state_come_down_through_edgecore(
    broker: Broker, tmp_path: Path
) -> None:
    metadata = bytes(range(256)) * 3
    async with spooling(tmp_path) as spool, behind_edgecore(broker, tmp_path, []) as (edgecore, _):
        agent = Agent(spool, broker.port)
        async with running(agent):
            assert edgecore.send_down(TOPICS.down("tuf"), armour.arm(metadata))
            wanted = msgspec.json.encode(DesiredHint(serial=4))
            assert edgecore.send_down(TOPICS.down("desired"), wanted)
            assert edgecore.send_down(TOPICS.down("tuf"), metadata)  # destroyed on the way
            await agent.until(lambda: len(agent.events) == 2)
            await agent.until(lambda: agent.uplink.stats()["refused"] == 1)
    tuf, desired = agent.events
    assert isinstance(tuf, Tuf)
    assert tuf.metadata == metadata
    assert isinstance(desired, Desired)
    assert desired.state.serial == 4


def plain() -> Result:
    return Result(node=NODE, stream="us")


def beyond(number: int) -> Result:
    """No envelope can say when it was captured."""
    return Result(node=NODE, stream="us", at_us=number, captured_us=(1 << 64) - 1 - number)


async def test_records_that_no_envelope_can_hold_are_left_told_and_counted(
    broker: Broker, tmp_path: Path
) -> None:
    heard: list[AnyRecord] = []
    road = MqttRoad("127.0.0.1", broker.port)
    async with (
        spooling(tmp_path) as spool,
        HotTier(tmp_path / "db", road, heard=heard.extend),
    ):
        agent = Agent(spool, broker.port)
        for turn in range(200):  # of an earlier time, and then live
            spool.append(beyond(turn) if turn in (0, 70, 71) else plain())
        async with running(agent):
            for turn in range(60):
                agent.say("us", lambda **_: beyond(9) if turn == 30 else plain())  # noqa: B023
                await anyio.sleep(0.02)
            await agent.until(lambda: spool.stats().records == 4)
            await agent.until(lambda: agent.uplink.stats()["unfit"] == 4)
            publishes = agent.uplink.stats()["publishes"]
            await anyio.sleep(1.5)
            stats = agent.uplink.stats()
    assert sorted(r.seq for r in heard) == [
        seq for seq in range(1, 261) if seq not in (1, 71, 72, 231)
    ]
    assert {finding.code for finding in agent.findings} == {"record-unfit"}
    assert sum(finding.records for finding in agent.findings) == 4
    assert stats["connected"]
    assert stats["unfit"] == 4
    assert stats["publishes"] - publishes < 8


async def test_a_receiver_that_is_too_old_to_say_for_what_is_told_once(
    broker: Broker, tmp_path: Path
) -> None:
    async with spooling(tmp_path) as spool, behind_edgecore(broker, tmp_path, []) as (edgecore, _):
        agent = Agent(spool, broker.port)
        async with running(agent):
            need = {"schema": 1, "node": NODE, "kind": "", "name": "", "epoch": 0, "a": 0, "b": 0,
                    "why": "version", "have": []}  # fmt: skip
            for _ in range(3):
                assert edgecore.send_down(TOPICS.down("need"), msgspec.json.encode(need))
            agent.say()
            await agent.until(lambda: bool(agent.findings))
            await agent.drained()
    assert [finding.code for finding in agent.findings] == ["receiver-too-old"]
    assert agent.uplink.stats()["refused"] == 0
