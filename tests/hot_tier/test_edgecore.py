"""Behind the double of EdgeCore, with all its faults: what is repeated arrives once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from edge_agent.config.structs import UplinkConfig
from edge_agent.core.edgecore import Ack, Topics, read
from edge_agent.links.mqtt import MqttLink
from tests.broker import Broker
from tests.broker import broker as broker  # noqa: PLC0414 - a fixture
from tests.broker import make_broker as make_broker  # noqa: PLC0414 - a fixture
from tests.hot_tier.wire import ask, balances, batch, bundle, lines, offer
from tools.edgecore_double import EdgeCoreDouble, Rule
from tools.hot_tier import HotTier, HttpRoad
from tools.hot_tier.roads import UP

pytestmark = pytest.mark.anyio
TOPICS = Topics.of("default", "a")
LAST = 30


async def test_a_rule_posts_the_router_answers_and_each_record_is_here_once(
    broker: Broker, tmp_path: Path
) -> None:
    road = HttpRoad(0)
    node = MqttLink(UplinkConfig(port=broker.port), node="a")
    ordered = tmp_path / "ordered"
    async with HotTier(tmp_path / "db", road, ordered=ordered) as tier:
        rule = Rule(topic=TOPICS.up, url=f"http://127.0.0.1:{road.port}{UP}")
        double = EdgeCoreDouble(port=broker.port, node="a", rules=(rule,), rest=True)
        async with double as edgecore, node.connect() as there:
            road.router = f"http://127.0.0.1:{edgecore.rest_port}"
            with anyio.fail_after(50):
                ack = await _send_until_held(there)
        assert ack.rx == tier.sheet()["rx"]
        await tier.settle()
        assert balances(tier.sheet())
        assert tier.sheet()["total"]["waiting"] == 0
    assert [one["seq"] for one in lines(ordered.read_bytes())] == list(range(1, LAST + 1))


async def _send_until_held(there: Any) -> Ack:
    messages = there.messages()
    for turn in range(100):
        for first in range(1, LAST + 1, 3):
            await there.publish(TOPICS.up, bundle(batch(first, first + 2)))
        await there.publish(TOPICS.up, bundle(ask(f"n{turn}", offer(1, LAST + 1))))
        with anyio.move_on_after(2):
            async for topic, payload in messages:
                said = read(TOPICS, topic, payload)
                if isinstance(said, Ack) and any(one.upto == LAST for one in said.acks):
                    await messages.aclose()
                    return said
        messages = there.messages()
    raise AssertionError("it was never acknowledged")
