"""A whole agent whose road is sealed and signed, with keys made and enrolled by the verbs."""

from __future__ import annotations

import argparse
from contextlib import aclosing
from pathlib import Path
from typing import Any, get_args, get_type_hints

import anyio
import pytest

from edge_agent.app import running
from edge_agent.core.bundles import Bundles
from edge_agent.core.edgecore import Topics
from edge_agent.core.frames import AnyRecord
from edge_agent.core.public_keys import line
from edge_agent.core.wire import armour
from edge_agent.core.wire.envelope import Envelope
from edge_agent.core.wire.outcome import Need
from edge_agent.core.witness import Finding
from edge_agent.upward import keys_of
from tests.agents.living import config_of, stream, sums, until
from tests.broker import Broker
from tests.broker import broker as broker  # noqa: PLC0414 - a fixture
from tests.broker import make_broker as make_broker  # noqa: PLC0414 - a fixture
from tools.edgecore_double import EdgeCoreDouble, Rule
from tools.hot_tier import HotTier, HttpRoad, uplink_keys
from tools.hot_tier import __main__ as command
from tools.hot_tier.roads import UP

pytestmark = pytest.mark.anyio
TOPICS = Topics.of("default", "box")
OF_ROAD = {"link-denied", *get_args(get_type_hints(Finding)["code"])}


def hot(*words: str | Path) -> None:
    assert command.main([str(word) for word in words]) == 0


def sealed(folder: Path, port: int) -> Any:
    """The configuration of a device that was enrolled."""
    hot("uplink-keys", folder / "keys")
    uplink = {
        "enabled": True, "port": port, "answer_s": 2.0, "drain_s": 25.0, "twin": False,
        "hot_tier_keys": str(folder / "keys" / "hot-tier.pub"), "seal": True, "sign": True,
    }  # fmt: skip
    config = config_of(folder, {"a": stream({"fps": 10.0})}, uplink=uplink)
    (folder / "state").mkdir(mode=0o700)
    read = keys_of(config)
    assert read is not None
    signer = read().protection.signer
    assert signer is not None
    hot("trust-node", "--nodes", folder / "nodes", "box", line("sign", signer.public))  # type: ignore[attr-defined]
    return config


async def test_an_agent_and_its_hot_tier_behind_edgecore_with_every_key_on(
    broker: Broker, tmp_path: Path
) -> None:
    config = sealed(tmp_path, broker.port)
    keys = uplink_keys.load(
        argparse.Namespace(
            uplink_keys=tmp_path / "keys", nodes=tmp_path / "nodes", require_signed=True
        )
    )
    heard: list[AnyRecord] = []
    road = HttpRoad(0)
    async with HotTier(tmp_path / "db", road, heard=heard.extend, keys=keys) as tier:
        await until(lambda: road.port, "the hot tier")
        rule = Rule(topic=TOPICS.up, url=f"http://127.0.0.1:{road.port}{UP}")
        async with EdgeCoreDouble(
            port=broker.port, node="box", rules=(rule,), rest=True
        ) as edgecore:
            road.router = f"http://127.0.0.1:{edgecore.rest_port}"
            async with running(config) as agent:
                await until(lambda: agent.views.spool()["acked"] > 20, "acknowledgements")
                async with aclosing(agent.views.durable.export()) as export:  # type: ignore[union-attr]
                    exported = (await anext(export)).rstrip(b"\n")
                assert edgecore.send_down(TOPICS.down("ack"), b'{"schema":1,"node":"box"}')
                await until(
                    lambda: "answers-untrusted" in codes(agent.views.status()), "the problem"
                )
                during = agent.views.status()
            final = agent.views.spool()
        await tier.settle()
        sheet = tier.sheet()
    assert sums(agent, "a")["inferred"] > 0
    assert codes(during) & OF_ROAD == {"answers-untrusted"}
    assert (final["records"], final["evicted"], final["corrupt"]) == (0, 0, 0)
    assert final["appended"] == final["acked"] == len(heard)
    assert len({(one.stream, one.klass, one.epoch, one.seq) for one in heard}) == len(heard)
    assert (sheet["total"]["waiting"], sheet["problems"]) == (0, [])
    assert (sheet["wire"]["unsigned"], sheet["wire"]["forged"], sheet["wire"]["needs"]) == (0, 0, 0)
    contents = armour.unpack(exported).contents
    assert all(isinstance(one, Envelope) and one.is_sealed for one in contents)
    parts = Bundles([]).open(exported).parts  # a reader without a key
    assert {type(part.content) for part in parts} == {Need}


def codes(status: dict[str, Any]) -> set[str]:
    return {one["code"] for one in status["problems"] if one["severity"] != "notice"}


async def test_a_damaged_key_keeps_the_road_closed_is_told_and_results_stay(
    broker: Broker, tmp_path: Path
) -> None:
    config = sealed(tmp_path, broker.port)
    (tmp_path / "state" / "uplink.key").write_bytes(b"rot")
    async with running(config) as agent:
        await until(lambda: "link-denied" in codes(agent.views.status()), "the problem")
        await until(lambda: agent.views.spool()["records"] > 5, "results")
        (problem,) = [p for p in agent.views.status()["problems"] if p["code"] == "link-denied"]
        await anyio.sleep(0.1)
    assert "uplink.key" in problem["what"]
    assert "restore it" in problem["fix"]
    assert (tmp_path / "state" / "uplink.key").read_bytes() == b"rot"
