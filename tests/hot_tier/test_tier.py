"""The hot tier whole: over a broker, over HTTP, and killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
from aiohttp import web

from edge_agent.config.structs import UplinkConfig
from edge_agent.core import edgecore
from edge_agent.core.edgecore import Ack, Topics
from edge_agent.links.mqtt import MqttLink
from tests import house
from tests.broker import Broker
from tests.broker import broker as broker  # noqa: PLC0414 - a fixture
from tests.broker import make_broker as make_broker  # noqa: PLC0414 - a fixture
from tests.hot_tier.wire import ask, balances, batch, bundle, lines, offer
from tools.hot_tier import HotTier, HttpRoad, MqttRoad, Pair

pytestmark = pytest.mark.anyio
TOPICS = Topics.of("default", "a")
CYCLES = 6


class Router:
    """CloudCore's REST: takes what goes down to nodes."""

    def __init__(self) -> None:
        self.url = ""
        self.acks: asyncio.Queue[Ack] = asyncio.Queue()
        self.paths: set[str] = set()

    async def take(self, request: web.Request) -> web.Response:
        self.paths.add(request.path)
        what = request.path.rpartition("/")[2]
        said = edgecore.read(TOPICS, f"edge-agent/a/down/{what}", await request.read())
        if isinstance(said, Ack):
            self.acks.put_nowait(said)
        return web.Response(text="message delivered")


@pytest.fixture
async def router() -> AsyncIterator[Router]:
    found = Router()
    app = web.Application()
    app.router.add_post("/{tail:.*}", found.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield found
    await runner.cleanup()


async def until(acks: Callable[[], Any], wanted: Callable[[Ack], bool]) -> Ack:
    with anyio.fail_after(10):
        while True:
            said: Ack = await acks()
            if wanted(said):
                return said


async def test_over_mqtt_a_node_gets_its_acks_on_its_topic(broker: Broker, tmp_path: Path) -> None:
    road = MqttRoad("127.0.0.1", broker.port)
    node = MqttLink(UplinkConfig(port=broker.port), node="a")
    heard: list[Any] = []
    async with HotTier(tmp_path / "db", road, heard=heard.extend) as tier, node.connect() as there:
        messages = there.messages()

        async def acks() -> Any:
            topic, payload = await anext(messages)
            return edgecore.read(TOPICS, topic, payload)

        await there.publish(TOPICS.up, bundle(batch(1, 5), ask("n1", offer(1, 8))))
        ack = await until(acks, lambda ack: ack.echo == "n1")
        assert [(one.upto, one.have) for one in ack.acks] == [(5, ())]
        await there.publish(TOPICS.up, bundle(batch(7, 7)))
        ack = await until(acks, lambda ack: any(one.have for one in ack.acks))
        assert (ack.acks[0].upto, ack.acks[0].have, ack.rx) == (5, ((7, 7),), tier.sheet()["rx"])
        await tier.settle()
        assert [one.seq for one in heard] == [1, 2, 3, 4, 5, 7]
        found = tier.sheet()
        assert balances(found)
        assert found["total"]["waiting"] == 1
        assert found["nodes"]["a"]["last_probe_s"] < 10
        await messages.aclose()  # type: ignore[attr-defined]


async def test_a_broker_that_goes_and_comes_is_weather(broker: Broker, tmp_path: Path) -> None:
    async with HotTier(tmp_path / "db", MqttRoad("127.0.0.1", broker.port)) as tier:
        broker.stop(kill=True)
        await anyio.sleep(0.2)
        broker.start()
        node = MqttLink(UplinkConfig(port=broker.port), node="a")
        with anyio.fail_after(30):
            while tier.sheet()["total"]["held"] < 3:
                async with node.connect() as there:
                    await there.publish(TOPICS.up, bundle(batch(1, 3)))
                    await there.settle()
                await anyio.sleep(0.1)


async def test_over_http_a_rule_posts_and_the_router_answers(
    router: Router, tmp_path: Path
) -> None:
    road = HttpRoad(0, router=router.url)
    async with (
        HotTier(
            tmp_path / "db", road, live=tmp_path / "live", ordered=tmp_path / "ordered"
        ) as tier,
        aiohttp.ClientSession() as session,
    ):
        url = f"http://127.0.0.1:{road.port}"
        for path, payload, status in (
            ("/", bundle(batch(3, 4)), 202),
            ("/up", bundle(batch(1, 2), ask("n1", offer(1, 5))), 202),
            ("/up", b"garbage", 202),
            ("/up", b"x" * 300_000, 413),
        ):
            async with session.post(url + path, data=payload) as answer:
                assert answer.status == status
        ack = await until(router.acks.get, lambda ack: ack.echo == "n1")
        assert ack.acks[0].upto == 4
        assert router.paths == {"/a/default/edge-agent/a/down/ack"}
        await tier.settle()
        assert [one["seq"] for one in lines((tmp_path / "ordered").read_bytes())] == [1, 2, 3, 4]
        assert tier.sheet()["wire"]["corrupt"] == 1


async def test_up_by_http_and_down_by_mqtt(broker: Broker, tmp_path: Path) -> None:
    up = HttpRoad(0)
    node = MqttLink(UplinkConfig(port=broker.port), node="a")
    async with (
        node.connect() as there,
        HotTier(tmp_path / "db", Pair(up, MqttRoad("127.0.0.1", broker.port))),
        aiohttp.ClientSession() as session,
    ):
        messages = there.messages()
        await session.post(f"http://127.0.0.1:{up.port}/", data=bundle(batch(1, 2)))
        with anyio.fail_after(10):
            topic, payload = await anext(messages)
        ack = edgecore.read(TOPICS, topic, payload)
        assert isinstance(ack, Ack)
        assert ack.acks[0].upto == 2
        await messages.aclose()  # type: ignore[attr-defined]


async def test_a_second_start_goes_on_where_the_first_ended(router: Router, tmp_path: Path) -> None:
    numbers = []
    for first in (1, 4):
        road = HttpRoad(0, router=router.url)
        async with HotTier(tmp_path / "db", road) as tier:
            tier.deliver(bundle(batch(first, first + 2), batch(1, 3)))
            ack = await until(router.acks.get, lambda ack: bool(ack.acks))
            numbers.append((ack.rx, ack.n, ack.acks[0].upto))
    assert numbers[0][0] == numbers[1][0]
    assert numbers[0][1] < numbers[1][1]
    assert [upto for _, _, upto in numbers] == [3, 6]


async def test_two_agents_under_one_name_are_told(tmp_path: Path) -> None:
    async with HotTier(tmp_path / "db", HttpRoad(0)) as tier:
        for turn in range(6):
            tier.deliver(bundle(ask(f"n{turn}", offer(1, 1, epoch=100 + turn % 2))))
            await tier.settle()
        assert "duplicate-node" in [one["code"] for one in tier.sheet()["problems"]]


# ── killed ────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def receiving(folder: Path, router: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A receiver as a process of its own, and where it listens; killed at the end."""
    command = [sys.executable, "-m", "tools.hot_tier", "receive", "--http", "0"]
    command += ["--router", router, "--db", str(folder / "db"), "--sheet", str(folder / "sheet")]
    command += ["--live", str(folder / "live"), "--ordered", str(folder / "ordered")]
    process = subprocess.Popen(command, cwd=house.ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield process, json.loads(process.stdout.readline())["road"]
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


@pytest.mark.timeout(120)
async def test_killed_at_any_point_nothing_acknowledged_is_lost_and_nothing_is_doubled(
    router: Router, tmp_path: Path
) -> None:
    """Between receive, commit, ack and file: wherever the kill happens to fall."""
    chance = random.Random(11)
    promised = sent = 0
    for _ in range(CYCLES):
        with receiving(tmp_path, router.url) as (process, url):
            async with aiohttp.ClientSession() as session, anyio.create_task_group() as group:
                group.start_soon(_kill_later, process, chance.uniform(0.0, 0.4))
                sent = await _stream(session, url, promised + 1)
        while not router.acks.empty():
            for one in router.acks.get_nowait().acks:
                promised = max(promised, one.upto)
        with contextlib.closing(sqlite3.connect(tmp_path / "db")) as db:
            held = {row[0] & 0xFFFFFFFFFF for row in db.execute("SELECT id FROM r")}
        assert set(range(1, promised + 1)) <= held
    assert promised > 0
    with receiving(tmp_path, router.url) as (process, url):
        async with aiohttp.ClientSession() as session:
            sent = max(sent, promised + 1)  # all of it may have been promised just now
            await session.post(url, data=bundle(batch(promised + 1, sent)))
            await until(router.acks.get, lambda ack: any(o.upto >= sent for o in ack.acks))
        process.terminate()
        assert process.wait(10) == 0
    for name in ("live", "ordered"):
        seqs = [one["seq"] for one in lines((tmp_path / name).read_bytes())]
        assert sorted(seqs) == list(range(1, sent + 1))
    assert seqs == sorted(seqs)
    found = json.loads((tmp_path / "sheet").read_bytes())
    assert balances(found)
    assert (found["total"]["held"], found["total"]["waiting"]) == (sent, 0)


async def _kill_later(process: subprocess.Popen[bytes], wait_s: float) -> None:
    await anyio.sleep(wait_s)
    process.kill()


async def _stream(session: aiohttp.ClientSession, url: str, first: int) -> int:
    """Batches of three, each overlapping the one before, until the other side is gone."""
    while True:
        try:
            async with session.post(url, data=bundle(batch(first, first + 2))) as answer:
                await answer.read()
        except aiohttp.ClientError:
            return first + 2
        first += 2
