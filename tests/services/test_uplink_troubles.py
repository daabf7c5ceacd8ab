"""What the status says of a road that answers and is not right: two of one name, acks that stop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from edge_agent.core.keeping_up import Behind
from edge_agent.standing import of_uplink
from edge_agent.supervise import RoomHealth, RoomState
from tests.broker import Broker
from tests.broker import make_broker as make_broker  # noqa: PLC0414 - a fixture
from tests.proxy import proxy
from tests.services.uplinks import NODE, QUIET, Agent, running, spooling
from tools.hot_tier import HotTier, MqttRoad

pytestmark = pytest.mark.anyio
ROOM = RoomHealth(name="uplink", vital=False, state=RoomState.RUNNING, since_us=0)

SECOND = msgspec.structs.replace(QUIET, client_id="second")


def codes(stats: dict[str, Any]) -> list[str]:
    return [problem.code for problem in of_uplink(stats, ROOM)]


async def test_two_agents_of_one_name_are_told_to_both(
    make_broker: Callable[..., Broker], tmp_path: Path
) -> None:
    """Each behind its own broker, as behind its own EdgeCore; one hot tier takes from both."""
    broker = make_broker()
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    second.mkdir()
    async with (
        spooling(first) as spool,
        spooling(second) as other,
        proxy(broker.port) as road,
        HotTier(tmp_path / "db", MqttRoad("127.0.0.1", broker.port)),
    ):
        agents = [Agent(spool, broker.port), Agent(other, road.port, SECOND)]
        async with running(agents[0]), running(agents[1]):
            with anyio.fail_after(30):
                while not all("duplicate-node" in codes(one.uplink.stats()) for one in agents):
                    for one in agents:
                        one.say()
                    await anyio.sleep(0.05)
            (problem,) = of_uplink(agents[0].uplink.stats(), ROOM)
    assert NODE in problem.what
    assert "another node" in problem.fix


async def test_acks_that_stop_are_in_the_status_and_not_of_an_outage() -> None:
    stats = {
        "configured": True, "connected": True, "cloud": "up", "payload": None, "too_large": 0,
        "duplicate": "", "behind": Behind(1_800, 240, 3_456)._asdict(),
    }  # fmt: skip
    (problem,) = of_uplink(stats, ROOM)
    assert problem.code == "acks-behind"
    assert "of 1,800 results of the last minute 240" in problem.what
    assert codes({**stats, "cloud": "down"}) == ["cloud-down"]
    narrow = {"takes": 1_900, "refuses": 2_100, "closes": False}
    assert codes({**stats, "payload": narrow}) == ["road-narrow"], "the cause, once"
