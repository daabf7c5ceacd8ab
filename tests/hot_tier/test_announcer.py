"""Nodes are told what is wanted of them until they say that they know."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import anyio
import pytest

from edge_agent.config.structs import UplinkConfig
from edge_agent.core import edgecore
from edge_agent.core.edgecore import Desired, Topics, Tuf
from edge_agent.core.wire import documents
from edge_agent.links.fetch import FolderSource
from edge_agent.links.mqtt import MqttLink
from edge_agent.stores.handover import HandOver
from tests.broker import Broker
from tests.broker import broker as broker  # noqa: PLC0414 - a fixture
from tests.broker import make_broker as make_broker  # noqa: PLC0414 - a fixture
from tests.hot_tier.wire import CODECS, ask, bundle, offer
from tests.trust.site import Site
from tools.hot_tier import HotTier, MqttRoad
from tools.hot_tier.announcer import LAST_US, MAX_LETTERS, Announcer, announce
from tools.hot_tier.answers import Letter
from tools.hot_tier.wanted import Change, move

S = 1_000_000


@pytest.fixture
def announcer(tmp_path: Path) -> tuple[Site, Announcer]:
    site = Site(tmp_path)
    move(site.house, Change(), cohort="ward")
    move(site.house, Change(), node="cart-1")
    found = Announcer(site.folder)
    assert found.load()
    assert not found.load()
    return site, found


def document(serial: int, state: str, target: str = "") -> bytes:
    return json.dumps({"desired": {"serial": serial, "state": state, "target": target}}).encode()


def desired(letters: list[Letter], node: str) -> list[int]:
    topics = Topics.of("default", node)
    found = [
        edgecore.read(topics, f"edge-agent/{node}/down/{letter.what}", letter.payload)
        for letter in letters
        if letter.node == node
    ]
    return [event.state.serial for event in found if isinstance(event, Desired)]


def test_a_node_is_told_again_ever_more_rarely_until_it_knows(
    announcer: tuple[Site, Announcer],
) -> None:
    _, tier = announcer
    tier.heard("cart-1", b"")
    times = [s for s in range(400) if desired(tier.due(s * S), "cart-1") == [2]]
    assert times[:7] == [0, 1, 3, 7, 15, 31, 63]
    assert {b - a for a, b in pairwise(times[7:])} == {LAST_US // S}
    tier.heard("cart-1", document(1, "applied"))
    assert tier.due(1000 * S)
    for state in ("applied", "refused", "pending", "halted"):  # whatever word it has for it
        tier.heard("cart-1", document(2, state))
        assert tier.due(2000 * S) == []


def test_a_new_serial_is_told_at_once(announcer: tuple[Site, Announcer]) -> None:
    site, tier = announcer
    tier.heard("cart-1", document(2, "applied"))
    assert tier.due(0) == []
    move(site.house, Change(), node="cart-1")
    assert tier.load()
    assert desired(tier.due(1 * S), "cart-1") == [3]
    assert tier.due(1 * S) == []


def test_the_newer_of_its_own_state_and_its_cohorts_is_told(
    announcer: tuple[Site, Announcer],
) -> None:
    site, tier = announcer
    tier.heard("cart-1", document(0, "none", "desired/ward.json"))
    tier.heard("cart-2", document(0, "none", "desired/ward.json"))
    tier.heard("cart-3", b"no json")
    letters = tier.due(0)
    assert [desired(letters, f"cart-{n}") for n in (1, 2, 3)] == [[2], [1], []]
    move(site.house, Change(), cohort="ward")
    tier.load()
    letters = tier.due(1 * S)
    assert [desired(letters, f"cart-{n}") for n in (1, 2, 3)] == [[3], [3], []]


def test_a_node_is_told_of_its_cohorts_first_document(announcer: tuple[Site, Announcer]) -> None:
    site, tier = announcer
    said = {"desired": {"serial": 0, "state": "none", "target": "", "cohort": "ward-b"}}
    tier.heard("cart-7", json.dumps(said).encode())
    assert tier.due(0) == []
    move(site.house, Change(), cohort="ward-b")
    tier.load()
    assert desired(tier.due(1 * S), "cart-7") == [3]


def test_the_metadata_that_vouches_for_it_comes_first(announcer: tuple[Site, Announcer]) -> None:
    _, tier = announcer
    tier.heard("cart-1", b"")
    kinds = [letter.what for letter in tier.due(0)]
    assert kinds == ["tuf", "tuf", "tuf", "tuf", "desired"]  # timestamp, snapshot, targets, nodes


def test_a_large_fleet_is_told_in_turns(announcer: tuple[Site, Announcer]) -> None:
    _, tier = announcer
    for number in range(300):
        tier.heard(f"n{number}", document(0, "none", "desired/ward.json"))
    told: set[str] = set()
    for tick in range(8):
        letters = tier.due(tick)
        assert len(letters) < MAX_LETTERS + 8
        told |= {letter.node for letter in letters}
    assert len(told) == 300


@pytest.mark.anyio
async def test_over_a_broker_a_node_learns_what_is_wanted_and_can_believe_it(
    broker: Broker, tmp_path: Path
) -> None:
    site = Site(tmp_path)
    move(site.house, Change(), node="a")
    hand, topics = HandOver(site.state / "handover"), Topics.of("default", "a")
    sender = documents.Sender("a", "status", 1)
    node = MqttLink(UplinkConfig(port=broker.port), node="a")
    came: Desired | None = None
    async with (
        HotTier(tmp_path / "db", MqttRoad("127.0.0.1", broker.port)) as tier,
        node.connect() as there,
        anyio.create_task_group() as group,
    ):
        group.start_soon(lambda: announce(tier, Announcer(site.folder), every_s=0.05))
        await there.publish(topics.up, bundle(ask("n1", offer(1, 1))))
        messages = there.messages()
        with anyio.fail_after(10):
            while came is None:
                event = edgecore.read(topics, *await anext(messages))
                if isinstance(event, Tuf):
                    hand.put(event.metadata)
                came = event if isinstance(event, Desired) else None
        said = documents.canonical(json.loads(document(1, "pending", "desired/a.json")))
        await there.publish(topics.up, bundle(sender.encode(said, CODECS)))
        with anyio.fail_after(10):
            while not await tier.document("a", "status"):
                await anyio.sleep(0.02)
        await anyio.sleep(0.2)  # what was on its way
        with anyio.move_on_after(1.3):  # it would be said again after one second
            while not isinstance(edgecore.read(topics, *await anext(messages)), Desired):
                pass
            pytest.fail("it was told again what it knows")
        group.cancel_scope.cancel()
        await messages.aclose()  # type: ignore[attr-defined]
    assert came is not None
    with site.device(FolderSource(hand.folder)) as trust:
        trust.refresh()
        assert trust.desired("desired/a.json", content=came.raw) == came.raw
