"""A payload's node is its path's node; what one node sends costs no other."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import aiohttp
import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.config.structs import UplinkConfig
from edge_agent.core.edgecore import Topics
from edge_agent.links.mqtt import MqttLink
from tests.broker import Broker
from tests.broker import broker as broker  # noqa: PLC0414 - a fixture
from tests.broker import make_broker as make_broker  # noqa: PLC0414 - a fixture
from tests.hot_tier.wire import ask, batch, bundle, offer
from tools.hot_tier import HotTier, HttpRoad, MqttRoad
from tools.hot_tier.carriers import Came, may_carry, node_of
from tools.hot_tier.inbox import Inbox
from tools.hot_tier.notices import Notices

OWN = bundle(batch(1, 2), carrier="a")
OTHERS_ENVELOPE = bundle(batch(5, 6), batch(1, 2, node="b"), carrier="a")
PRETENDED = bundle(batch(7, 9, node="b"), carrier="b")


def test_who_may_bring_whose_records() -> None:
    assert may_carry("a", "a", "a")
    assert may_carry("", "a", "a")
    assert not may_carry("a", "b", "b")  # another's path
    assert not may_carry("a", "a", "b")  # another's records
    assert not may_carry("", "a", "b")
    assert may_carry("a", "a", "b", relays={"a"})
    assert not may_carry("a", "b", "b", relays={"a", "b"})


def test_the_path_of_a_topic() -> None:
    assert node_of(Topics.of("default", "cart-3").up) == "cart-3"
    for topic in ("", "default/user/edge-agent/Cart/up", "a/b/user/edge-agent/c/up", "x\n"):
        assert node_of(topic) == ""


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not condition():
            await anyio.sleep(0.02)


def logs(tier: HotTier) -> dict[str, int]:
    return {log["node"]: log["held"] for log in tier.sheet()["logs"]}


@pytest.mark.anyio
async def test_over_http_a_rule_of_one_node_brings_that_nodes_records_alone(tmp_path: Path) -> None:
    notices = Notices()
    road = HttpRoad(0, notices=notices)
    async with (
        HotTier(tmp_path / "db", road, notices=notices) as tier,
        aiohttp.ClientSession() as session,
    ):
        url = f"http://127.0.0.1:{road.port}"
        for path, payload, status in (
            ("/up/a", OWN, 202),
            ("/up/a", OTHERS_ENVELOPE, 202),
            ("/up/a", PRETENDED, 202),
            ("/", bundle(batch(1, 3, node="c"), carrier="c"), 202),  # untold
            ("/up/Ward_3", OWN, 404),
            ("/down", OWN, 404),
        ):
            async with session.post(url + path, data=payload) as answer:
                assert answer.status == status
        await tier.settle()
        assert logs(tier) == {"a": 4, "c": 3}
        sheet = tier.sheet()
        assert (sheet["wire"]["foreign"], sheet["wire"]["unknown_path"]) == (2, 2)
        problems = {one["code"]: one["what"] for one in sheet["problems"]}
        assert problems.keys() - {"no-way-back"} == {"foreign", "unknown-path"}  # it has no router
        assert "by the path of a" in problems["foreign"] or "a brings" in problems["foreign"]
        assert "Ward" not in str(sheet["problems"])


@pytest.mark.anyio
async def test_over_mqtt_the_topic_tells_whose_it_is(broker: Broker, tmp_path: Path) -> None:
    node = MqttLink(UplinkConfig(port=broker.port), node="a")
    road = MqttRoad("127.0.0.1", broker.port)
    async with HotTier(tmp_path / "db", road) as tier, node.connect() as there:
        for payload in (PRETENDED, OTHERS_ENVELOPE, OWN):
            await there.publish(Topics.of("default", "a").up, payload)
        await until(lambda: logs(tier) == {"a": 4})
        assert tier.sheet()["wire"]["foreign"] == 2


@pytest.mark.anyio
async def test_a_node_that_had_another_name_is_declared(tmp_path: Path) -> None:
    async with HotTier(tmp_path / "db", HttpRoad(0), relays=["a"]) as tier:
        tier.deliver(OTHERS_ENVELOPE, node="a")
        tier.deliver(PRETENDED, node="a")
        await tier.settle()
        assert logs(tier) == {"a": 2, "b": 2}


# ── the inbox ─────────────────────────────────────────────────────────────────────────────────


def test_a_flood_of_one_node_takes_neither_room_nor_turn_of_another() -> None:
    inbox = Inbox(8)
    given_up = [inbox.put(Came("flood", b"%d" % n)) for n in range(20)]
    assert given_up == [None] * 8 + ["flood"] * 12
    assert inbox.put(Came("a", b"live")) == "flood"
    assert inbox.put(Came("b", b"live")) == "flood"
    taken = inbox.take(4)
    assert [one.node for one in taken] == ["flood", "a", "b", "flood"]
    assert [one.payload for one in taken if one.node == "flood"] == [b"0", b"1"]  # in their order


def test_few_large_payloads_of_one_node_give_way_to_small_ones_of_another() -> None:
    inbox = Inbox(100, max_bytes=1000)
    assert [inbox.put(Came("large", bytes(299))) for _ in range(4)] == [None] * 3 + ["large"]
    assert [inbox.put(Came("small", bytes(49))) for _ in range(6)] == [None] * 2 + ["large"] + [
        None
    ] * 3
    assert inbox.put(Came("huge", bytes(2000))) == "huge"
    assert [one.node for one in inbox.take(9)] == ["large", "small", "large", *["small"] * 5]


@given(
    st.lists(st.one_of(st.integers(1, 4), st.sampled_from("abcd")), max_size=200),
    st.integers(1, 12),
    st.integers(1, 60),
    st.randoms(use_true_random=False),
)
def test_what_goes_in_comes_out_once_or_is_given_up(
    steps: list[int | str], most: int, max_bytes: int, chance: random.Random
) -> None:
    inbox, inside, number = Inbox(most, max_bytes), 0, 0
    seen: dict[str, int] = {}
    for step in [*steps, 1000]:
        if isinstance(step, int):
            taken = inbox.take(step)
            inside -= len(taken)
            for node, payload in taken:
                last, seen[node] = seen.get(node, -1), int(payload.split()[0])
                assert seen[node] > last  # in its order, once
        else:
            payload = b"%d %s" % (number, bytes(chance.randrange(20)))
            before = inbox.given_up
            given_up = inbox.put(Came(step, payload))
            assert (given_up is None) == (inbox.given_up == before)
            inside += 1 - (inbox.given_up - before)
            number += 1
        assert len(inbox) == inside <= most
    assert len(inbox) == 0


@pytest.mark.anyio
async def test_a_flood_of_garbage_by_one_path_costs_no_record_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.hot_tier.tier.MAX_INBOX", 256)
    async with HotTier(tmp_path / "db", HttpRoad(0)) as tier:
        for turn in range(40):
            for _ in range(40):
                tier.deliver(b"garbage", node="flood")
            tier.deliver(bundle(batch(turn + 1, turn + 1)), node="a")
            await anyio.lowlevel.checkpoint()
        await tier.settle()
        sheet = tier.sheet()
        assert logs(tier) == {"a": 40}
        assert sheet["wire"]["overrun"] > 0
        assert any("flood" in one["what"] for one in sheet["problems"] if one["code"] == "overrun")


@pytest.mark.anyio
async def test_two_agents_live_under_one_name_are_told_within_a_minute(tmp_path: Path) -> None:
    """One by MQTT's topic and one by a Rule's path: they are one node here."""
    async with HotTier(tmp_path / "db", HttpRoad(0)) as tier:
        for turn in range(8):
            given = {"node": "a" if turn % 2 else ""}
            tier.deliver(bundle(ask(f"n{turn}", offer(1, 1, epoch=100 + turn % 2))), **given)
            await tier.settle()
        assert "duplicate-node" in [one["code"] for one in tier.sheet()["problems"]]


@pytest.mark.anyio
async def test_a_node_that_opens_logs_without_end_costs_no_other_its_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.hot_tier.store.MAX_NODE_LOGS", 40)
    for turn in range(2):  # also after a restart
        async with HotTier(tmp_path / "db", HttpRoad(0)) as tier:
            for n in range(6):
                offers = [offer(1, 5, epoch=64 * n + i + 1) for i in range(16)]
                tier.deliver(bundle(ask(f"n{turn}{n}", *offers)), node="a")
                await tier.settle()
            own = batch(1, 3, node="b", epoch=7 + turn)
            tier.deliver(bundle(own, carrier="b"), node="b")
            await tier.settle()
            nodes = [log["node"] for log in tier.sheet()["logs"]]
            assert (nodes.count("a"), nodes.count("b")) == (40, 1 + turn)
            assert tier.sheet()["wire"]["refused"] > 0


@pytest.mark.anyio
async def test_what_names_nobody_is_kept_under_the_node_of_its_path(tmp_path: Path) -> None:
    async with HotTier(tmp_path / "db", HttpRoad(0)) as tier:
        tier.deliver(b"garbage", node="or-7")
        await tier.settle()
        assert tier.sheet()["wire"]["corrupt"] == 1
    with closing(sqlite3.connect(tmp_path / "db")) as db:
        assert db.execute("SELECT carrier FROM bad").fetchall() == [("or-7",)]
