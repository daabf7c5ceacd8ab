from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import aiomqtt
import anyio
import pytest
from aiohttp import web

from edge_agent.config.structs import UplinkConfig
from edge_agent.core import edgecore, twin
from edge_agent.core.edgecore import TwinAnswer
from edge_agent.links.mqtt import MqttLink, MqttSession
from tests import house
from tests.broker import KINDS, Broker
from tools.edgecore_double import NO_FAULTS, EdgeCoreDouble, Faults, Rule, faults_of, parsed, rule

pytestmark = pytest.mark.anyio
UP = "default/user/edge-agent/cart-3/up"
ACK = "edge-agent/cart-3/down/ack"


class Cloud:
    """What a Rule delivered."""

    def __init__(self) -> None:
        self.got: list[bytes] = []

    async def take(self, content: bytes) -> None:
        self.got.append(content)

    async def has(self, count: int, within_s: float = 10) -> list[bytes]:
        with anyio.fail_after(within_s):
            while len(self.got) < count:
                await anyio.sleep(0.01)
        return self.got


def road(broker: Broker) -> MqttLink:
    return MqttLink(UplinkConfig(port=broker.port), node="cart-3")


@asynccontextmanager
async def both(
    broker: Broker, faults: Faults = NO_FAULTS, **more: Any
) -> AsyncIterator[tuple[EdgeCoreDouble, MqttSession, Cloud]]:
    cloud = Cloud()
    rules = more.pop("rules", (Rule(topic=UP, call=cloud.take),))
    async with (
        EdgeCoreDouble(
            port=broker.port, node="cart-3", rules=rules, faults=faults, **more
        ) as double,
        road(broker).connect() as session,
    ):
        yield double, session, cloud


async def first(session: MqttSession) -> tuple[str, bytes]:
    with anyio.fail_after(5):
        return await anext(session.messages())


@pytest.mark.parametrize("kind", KINDS)
async def test_up_goes_to_the_cloud_and_down_to_the_edge(
    kind: str, make_broker: Callable[..., Broker]
) -> None:
    async with both(make_broker(kind)) as (double, session, cloud):
        for n in range(50):
            await session.publish(UP, b"%d" % n)
        assert await cloud.has(50) == [b"%d" % n for n in range(50)]
        await session.publish("default/user/else", b"x")
        assert double.send_down(ACK, b"{}")
        assert await first(session) == (ACK, b"{}")
    assert double.counts["delivered"] == 50


@pytest.mark.parametrize("kind", KINDS)
async def test_the_twin_answers_on_both_shapes(
    kind: str, make_broker: Callable[..., Broker]
) -> None:
    devices = ("default/cart-3",)
    async with both(make_broker(kind), devices=devices) as (double, session, _):
        topic = MqttLink(UplinkConfig(), node="cart-3").topics
        good = twin.update({"level": 2}, event_id="r-1", timestamp_ms=1)
        for payload, code, event_id in ((good, 0, "r-1"), (b"garbage", 400, "")):
            await session.publish(topic.of_device("twin/update"), payload)
            answer = edgecore.read(topic, *await first(session))
            assert isinstance(answer, TwinAnswer)
            assert (answer.code, answer.event_id) == (code, event_id)
        with anyio.fail_after(5):
            while not double.cloud_twin:
                await anyio.sleep(0.01)
        double.cut()
        await session.publish(topic.of_device("twin/update"), good)
        answer = edgecore.read(topic, *await first(session))
        assert isinstance(answer, TwinAnswer)
        assert answer.code == 0, "fine at the edge, and never at the cloud"
        assert double.counts["twin_dropped"] == 1


async def test_a_cut_swallows_the_first_and_keeps_the_others_waiting(broker: Broker) -> None:
    faults = Faults(lose_after_cut=3, rate_per_s=0, reorder_within=0)
    async with both(broker, faults) as (double, session, cloud):
        double.cut()
        assert not double.send_down(ACK, b"{}")
        for n in range(300):
            await session.publish(UP, b"%d" % n)
        await session.settle()  # the broker has confirmed all 300
        with anyio.fail_after(5):
            while double.waiting < 300:
                await anyio.sleep(0.01)
        double.restore()
        assert await cloud.has(297) == [b"%d" % n for n in range(3, 300)]


async def test_a_restart_loses_what_was_confirmed(broker: Broker) -> None:
    async with both(broker, Faults()) as (double, session, cloud):
        double.cut()
        for n in range(50):
            await session.publish(UP, b"%d" % n)
        await session.settle()
        with anyio.fail_after(5):
            while double.waiting < 50:
                await anyio.sleep(0.01)
        async with anyio.create_task_group() as group:
            group.start_soon(double.restart, 0.3)
            await anyio.sleep(0.1)
            await session.publish(UP, b"while it was away")
            await session.settle()
        double.restore()
        for n in range(10):
            await session.publish(UP, b"after %d" % n)
        assert len(await cloud.has(7)) == 7
        assert all(content.startswith(b"after") for content in cloud.got)
        assert double.counts["lost_at_restart"] == 50


async def test_all_faults_at_once_leave_text_whole_and_lose_what_they_count(broker: Broker) -> None:
    # So slow that something waits, and may be overtaken, however busy this machine is.
    async with both(broker, Faults(rate_per_s=120, seed=3)) as (double, session, cloud):
        for n in range(400):
            await session.publish(UP, b"%03d \xff" % n)
        await cloud.has(400)
        assert sorted(cloud.got) == [b"%03d \xef\xbf\xbd" % n for n in range(400)]
        assert double.counts["mangled"] == 400
        assert double.counts["reordered"] > 0


async def test_a_rule_posts_the_bare_content_and_ignores_the_answer(broker: Broker) -> None:
    got: list[tuple[str, bytes, dict[str, str]]] = []

    async def take(request: web.Request) -> web.Response:
        got.append((request.path, await request.read(), dict(request.headers)))
        return web.Response(status=500)

    app = web.Application()
    app.router.add_post("/up", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/up"
    async with both(broker, rules=(Rule(topic=UP, url=url),)) as (double, session, _):
        await session.publish(UP, b"")
        await session.publish(UP, b"body")
        with anyio.fail_after(5):
            while double.counts["delivered"] < 1:
                await anyio.sleep(0.01)
        assert [(path, body) for path, body, _ in got] == [("/up", b"body")]
        assert "cart-3" not in json.dumps(got[0][2])
        assert double.counts["empty_refused"] == 1
    await runner.cleanup()


async def test_the_cloud_may_be_on_the_same_broker(broker: Broker) -> None:
    rules = (Rule(topic=UP, publish="cloud/up"),)
    async with (
        both(broker, rules=rules) as (_, session, _cloud),
        aiomqtt.Client("127.0.0.1", broker.port) as hot_tier,
    ):
        await hot_tier.subscribe("cloud/up", 1)
        await session.publish(UP, b"bundle")
        with anyio.fail_after(5):
            message = await anext(hot_tier.messages)
        assert message.payload == b"bundle"
        await hot_tier.publish(f"cloud/down/{ACK}", b"{}", 1)
        assert await first(session) == (ACK, b"{}")


async def test_the_rest_door_says_delivered_when_it_is_only_queued(broker: Broker) -> None:
    async with (
        both(broker, rest=True) as (double, session, _),
        aiohttp.ClientSession(f"http://127.0.0.1:{double.rest_port}") as client,
    ):
        async with client.post(f"/cart-3/default/{ACK}", data=b"{}") as answer:
            assert (answer.status, await answer.text()) == (200, "message delivered")
        assert await first(session) == (ACK, b"{}")
        async with client.post(f"/cart-4/default/{ACK}", data=b"{}") as answer:
            assert answer.status == 500
        double._door.pause_s = 0.01
        double.cut()
        async with client.post(f"/cart-3/default/{ACK}", data=b"{}") as answer:
            assert answer.status == 500
        assert double.counts["down_refused"] == 3


async def test_it_finds_its_broker_again(broker: Broker) -> None:
    cloud = Cloud()
    rules = (Rule(topic=UP, call=cloud.take),)
    async with EdgeCoreDouble(port=broker.port, node="cart-3", rules=rules):
        await anyio.to_thread.run_sync(broker.stop)
        await anyio.to_thread.run_sync(broker.start)
        await anyio.sleep(0.5)
        async with road(broker).connect() as session:
            await session.publish(UP, b"again")
            assert await cloud.has(1) == [b"again"]


async def test_a_restart_in_the_moment_in_which_the_broker_goes_ends(broker: Broker) -> None:
    """A thousand cycles of `tools/faults kill` hung there: the cancellation was swallowed."""
    async with EdgeCoreDouble(port=broker.port, node="cart-3") as double:
        for _ in range(5):
            broker.stop(kill=True)  # nobody has noticed yet
            again = asyncio.ensure_future(asyncio.to_thread(broker.start))
            await asyncio.wait_for(double.restart(), 20)
            await again


async def test_the_command_forwards_and_counts(broker: Broker) -> None:
    command = ["-m", "tools.edgecore_double", "--port", str(broker.port), "--node", "cart-3"]
    command += ["--rule", f"{UP}=cloud/up", "--no-faults"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdout=asyncio.subprocess.PIPE, cwd=house.ROOT
    )
    assert process.stdout is not None
    try:
        ready = json.loads(await asyncio.wait_for(process.stdout.readline(), 20))
        assert ready["ready"]
        async with aiomqtt.Client("127.0.0.1", broker.port) as hot_tier:
            await hot_tier.subscribe("cloud/up", 1)
            async with road(broker).connect() as session:
                await session.publish(UP, b"bundle")
                with anyio.fail_after(5):
                    assert (await anext(hot_tier.messages)).payload == b"bundle"
    finally:
        process.send_signal(signal.SIGTERM)
        rest = await process.stdout.read()
        await process.wait()
    assert json.loads(rest)["delivered"] == 1


def test_each_fault_has_a_switch() -> None:
    options = parsed(["--node", "a", "--no-mangle", "--seed", "4", "--rate-per-s", "5"])
    assert faults_of(options) == Faults(mangle=False, seed=4, rate_per_s=5)
    options = parsed(["--node", "a", "--no-faults", "--down-queue", "100"])
    assert faults_of(options).down_queue == 100
    assert not faults_of(options).mangle
    assert rule("a/b=http://x/y=z").url == "http://x/y=z"
    assert rule("a/b=cloud/up").publish == "cloud/up"
