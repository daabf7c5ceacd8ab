"""A broker that takes small payloads only: told with the size, and everything that fits arrives."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from edge_agent.core.frames import AnyRecord, Event
from edge_agent.standing import of_uplink
from edge_agent.supervise import RoomHealth, RoomState
from tests.broker import Broker
from tests.broker import make_broker as make_broker  # noqa: PLC0414 - a fixture
from tests.services.test_uplink_keys import Site
from tests.services.uplinks import NODE, Agent, running, spooling
from tools.hot_tier import HotTier, MqttRoad
from tools.hot_tier.gate import OPEN

pytestmark = pytest.mark.anyio
ROOM = RoomHealth(name="uplink", vital=False, state=RoomState.RUNNING, since_us=0)


def incompressible(dice: random.Random, chars: int) -> Callable[..., AnyRecord]:
    def make(*, what: str, **fields: object) -> AnyRecord:
        del what
        return Event(what=f"{dice.getrandbits(4 * chars):x}", **fields)  # type: ignore[arg-type]

    return make


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("line", "has_keys"),
    [
        ("max_packet_size 2000", False),
        ("message_size_limit 2000", False),
        pytest.param("message_size_limit 2000", True, marks=pytest.mark.long),
    ],
)
async def test_a_broker_that_takes_two_kilobytes_gets_smaller_bundles_and_is_told_of(
    line: str, has_keys: bool, make_broker: Callable[..., Broker], tmp_path: Path
) -> None:
    """It threw the agent out 16 times a minute as "Unspecified error", or dropped everything
    without a word while the status said that all is well.
    """
    broker = make_broker("mosquitto", more=line)
    heard: list[AnyRecord] = []
    dice = random.Random(7)
    said, wide = incompressible(dice, 90), incompressible(dice, 4_000)
    connects = 0
    site = Site(tmp_path)
    gate = site.tier() if has_keys else OPEN
    road = MqttRoad("127.0.0.1", broker.port)

    async with (
        spooling(tmp_path) as spool,
        HotTier(tmp_path / "db", road, heard=heard.extend, keys=gate),
    ):
        agent = Agent(spool, broker.port, keys=site.edge if has_keys else None)
        for turn in range(600):
            agent.say(kind=wide if turn == 300 else said)
        was_up = False
        with anyio.fail_after(60):
            async with running(agent):
                while True:
                    stats = agent.uplink.stats()
                    connects += stats["connected"] and not was_up
                    was_up = stats["connected"]
                    if spool.stats().records <= 1 and stats["payload"] and stats["too_large"]:
                        break
                    agent.say("endo", said) if len(heard) % 10 == 0 and connects < 20 else None
                    await anyio.sleep(0.02)
                problems = of_uplink(agent.uplink.stats(), ROOM)
    (problem,) = problems
    assert problem.code == "road-narrow"
    assert "1 records that are larger alone" in problem.what
    size = stats["payload"]
    assert size["takes"] <= 2000 < size["refuses"] + 120  # topic and header count for one of them
    assert size["closes"] == line.startswith("max_packet")
    assert connects <= 8
    places = [(record.stream, record.seq) for record in heard]
    assert len(places) == len(set(places))
    assert ("us", 301) not in places
    assert spool.stats().evicted == 0
    assert heard[0].node == NODE
