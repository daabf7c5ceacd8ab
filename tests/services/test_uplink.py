"""The uplink over a real broker, with a real spool, to the real hot tier."""

from __future__ import annotations

import time
from pathlib import Path

import anyio
import msgspec
import pytest

from edge_agent.config.structs import UplinkConfig
from edge_agent.core import edgecore
from edge_agent.core.edgecore import Desired, DesiredHint, Topics
from edge_agent.core.errors import LinkDown
from edge_agent.core.frames import Alarm, AnyRecord
from edge_agent.links.mqtt import MqttLink
from tests.broker import Broker
from tests.broker import broker as broker  # noqa: PLC0414 - a fixture
from tests.broker import make_broker as make_broker  # noqa: PLC0414 - a fixture
from tests.proxy import proxy
from tests.services.uplinks import NODE, Agent, running, spooling
from tools.hot_tier import HotTier, MqttRoad

pytestmark = pytest.mark.anyio


async def test_live_records_and_the_backlog_arrive_once_and_leave_the_spool(
    broker: Broker, tmp_path: Path
) -> None:
    heard: list[AnyRecord] = []
    road = MqttRoad("127.0.0.1", broker.port)
    async with (
        spooling(tmp_path) as spool,
        HotTier(tmp_path / "db", road, heard=heard.extend) as tier,
    ):
        agent = Agent(spool, broker.port)
        for _ in range(2000):
            agent.say()
        began_s = time.monotonic()
        async with running(agent):
            for turn in range(90):
                agent.say("endo")
                agent.say("endo", Alarm) if turn % 30 == 0 else None
                await anyio.sleep(1 / 30)
            await agent.drained()
            stats = agent.uplink.stats()
        took_ms = (time.monotonic() - began_s) * 1000
        total, books = tier.sheet()["total"], spool.stats()
    assert len(heard) == 2093
    assert len({(r.stream, r.klass, r.epoch, r.seq) for r in heard}) == 2093
    assert (total["waiting"], books.acked, books.evicted) == (0, 2093, 0)
    assert stats["cloud"] == "up"
    assert stats["sent_bytes"] < stats["raw_bytes"] / 4
    streams = [record.stream for record in heard]
    assert "endo" in streams[:2000], "what is new does not wait behind the backlog"
    assert stats["latency_ms"]["p50"] < took_ms / 3  # to the ack; behind it, it would be most of it
    assert agent.findings == []


async def test_a_road_that_is_cut_again_and_again_loses_and_doubles_nothing(
    broker: Broker, tmp_path: Path
) -> None:
    heard: list[AnyRecord] = []
    road = MqttRoad("127.0.0.1", broker.port)
    async with (
        spooling(tmp_path) as spool,
        proxy(broker.port) as cutting,
        HotTier(tmp_path / "db", road, heard=heard.extend) as tier,
    ):
        agent = Agent(spool, cutting.port)
        async with running(agent):
            for turn in range(120):
                agent.say()
                if turn % 25 == 20:
                    cutting.cut()
                await anyio.sleep(1 / 60)
            await agent.drained()
        total = tier.sheet()["total"]
    assert sorted(record.seq for record in heard) == list(range(1, 121))
    assert total["waiting"] == 0


async def test_a_restart_goes_on_where_the_last_life_ended(broker: Broker, tmp_path: Path) -> None:
    heard: list[AnyRecord] = []
    road = MqttRoad("127.0.0.1", broker.port)
    async with spooling(tmp_path) as spool:
        agent = Agent(spool, broker.port)
        for _ in range(500):
            agent.say()
        first = spool.epoch
    async with (
        HotTier(tmp_path / "db", road, heard=heard.extend) as tier,
        spooling(tmp_path) as spool,
    ):
        agent = Agent(spool, broker.port)
        async with running(agent):
            agent.say()
            await agent.drained()
            await agent.until(lambda: all(log.key.epoch != first for log in spool.logs()))
        waiting = tier.sheet()["total"]["waiting"]
    assert len(heard) == 501
    assert waiting == 0


async def test_the_status_document_goes_up_and_what_is_desired_comes_down(
    broker: Broker, tmp_path: Path
) -> None:
    road = MqttRoad("127.0.0.1", broker.port)
    topics = Topics.of("default", NODE)
    async with spooling(tmp_path) as spool, HotTier(tmp_path / "db", road) as tier:
        agent = Agent(spool, broker.port)
        async with running(agent):
            agent.say()
            with anyio.fail_after(20):
                while not (document := await tier.document(NODE, "status")):
                    await anyio.sleep(0.05)
            wanted = edgecore.encode(DesiredHint(serial=7))
            other = MqttLink(UplinkConfig(port=broker.port), node="other")
            async with other.connect() as session:
                await session.publish(topics.down("desired"), wanted)
                await session.publish(topics.down("desired"), b"{")
                await agent.until(lambda: bool(agent.events))
                await agent.until(lambda: agent.uplink.stats()["refused"] == 1)
    assert msgspec.json.decode(document) == agent.status
    (event,) = agent.events
    assert isinstance(event, Desired)
    assert event.state.serial == 7


async def test_without_a_receiver_probes_alone_go_out_and_nothing_leaves(
    broker: Broker, tmp_path: Path
) -> None:
    async with spooling(tmp_path) as spool:
        agent = Agent(spool, broker.port)
        async with running(agent):
            for _ in range(100):
                agent.say()
                await anyio.sleep(0.03)
            await anyio.sleep(3)
            stats = agent.uplink.stats()
            await agent.until(lambda: spool.stats().records == 100)
    assert stats["cloud"] == "down"
    assert stats["last_ack_s"] is None
    assert stats["publishes"] < 80


async def test_no_broker_is_weather(tmp_path: Path) -> None:
    async with spooling(tmp_path) as spool:
        agent = Agent(spool, 1)
        with pytest.raises(LinkDown):
            await agent.uplink.run(lambda: None)
        assert agent.uplink.stats()["connected"] is False
        assert agent.uplink.stats()["cloud"] == "unknown"


@pytest.mark.usefixtures("quiet_loop")
async def test_the_loop_is_never_blocked(broker: Broker, tmp_path: Path) -> None:
    road = MqttRoad("127.0.0.1", broker.port)
    async with spooling(tmp_path) as spool, HotTier(tmp_path / "db", road):
        agent = Agent(spool, broker.port)
        for _ in range(3000):
            agent.say()
        async with running(agent):
            await agent.drained()
