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
import msgspec
import pytest
from aiohttp import web

from edge_agent.config.structs import UplinkConfig
from edge_agent.core import edgecore, twin
from edge_agent.core.edgecore import TwinAnswer
from edge_agent.core.errors import LinkDown
from edge_agent.links.mqtt import MqttLink, MqttSession
from tests import house
from tests.broker import KINDS, Broker
from tools.edgecore_double import (
    NO_FAULTS,
    SWITCHES,
    EdgeCoreDouble,
    Faults,
    Rule,
    faults_of,
    parsed,
    rule,
)

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


@asynccontextmanager
async def endpoint(*, closes: bool = False) -> AsyncIterator[tuple[str, set[object]]]:
    """A server that keeps idle connections; its URL, and the connections that it has."""
    open_: set[object] = set()

    async def take(request: web.Request) -> web.Response:
        open_.add(request.transport)
        response = web.Response(status=202)
        if closes:
            response.force_close()
        return response

    app = web.Application()
    app.router.add_post("/up", take)
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=3630)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/up", open_
    finally:
        await runner.cleanup()


async def posted(double: EdgeCoreDouble, session: MqttSession, count: int) -> None:
    for n in range(count):
        await session.publish(UP, b"%d" % n)
    with anyio.fail_after(10):
        while double.counts["delivered"] < count:
            await anyio.sleep(0.01)


async def test_each_post_has_a_connection_of_its_own_that_nobody_closes(broker: Broker) -> None:
    faults = Faults(rate_per_s=0, keep_connections=30)
    async with endpoint() as (url, open_):
        rules = (Rule(topic=UP, url=url),)
        async with both(broker, faults, rules=rules) as (double, session, _):
            await posted(double, session, 40)
            assert len(open_) == 40, "none was used twice"
            assert double.connections == 30, "the bound of this process, told"
            assert double.counts["closed_by_bound"] == 10
        assert double.connections == 0


async def test_a_server_that_closes_what_it_has_answered_is_left_with_none(broker: Broker) -> None:
    async with endpoint(closes=True) as (url, open_):
        rules = (Rule(topic="user/edge-agent/cart-3/up", ns="default", url=url),)
        async with both(broker, Faults(rate_per_s=0), rules=rules) as (double, session, _):
            await posted(double, session, 40)
            with anyio.fail_after(5):
                while double.connections:
                    await anyio.sleep(0.01)
            assert len(open_) == 40
            assert double.counts["closed_by_bound"] == 0


async def test_a_server_that_hangs_up_without_an_answer_was_not_reached(broker: Broker) -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/up"
    async with server, both(broker, rules=(Rule(topic=UP, url=url),)) as (double, session, _):
        await session.publish(UP, b"x")
        with anyio.fail_after(5):
            while not double.counts["deliver_failed"]:
                await anyio.sleep(0.01)
        assert double.connections == 0


async def test_a_silent_road_swallows_both_ways_and_ends_with_a_reset(broker: Broker) -> None:
    faults = Faults(
        reorder_within=0, lose_after_cut=1, reconnect_least_s=0.2, reconnect_most_s=0.3
    )  # fmt: skip
    devices = ("default/cart-3",)
    async with both(broker, faults, devices=devices) as (double, session, cloud):
        double.silence()
        assert double.send_down(ACK, b"{}"), "CloudCore has a session, as far as it knows"
        for n in range(5):
            await session.publish(UP, b"%d" % n)
        topic = MqttLink(UplinkConfig(), node="cart-3").topics.of_device("twin/update")
        await session.publish(topic, twin.update({"a": 1}, event_id="e", timestamp_ms=1))
        with anyio.fail_after(5):
            while double.counts["lost_in_silence"] < 6:
                await anyio.sleep(0.01)
        assert (cloud.got, double.cloud_twin) == ([], {})
        async with anyio.create_task_group() as group:
            group.start_soon(double.reconnect)
            await anyio.sleep(0.1)
            assert not double.send_down(ACK, b"{}"), "reset, and not noticed yet"
            for n in range(5, 10):
                await session.publish(UP, b"%d" % n)
        assert await cloud.has(4) == [b"%d" % n for n in range(6, 10)]
        counts = double.counts
        assert (counts["down_lost_in_silence"], counts["lost_after_cut"]) == (1, 1)


@pytest.mark.parametrize("silent", [False, True])
async def test_an_outage_ends_when_edgehub_has_noticed(broker: Broker, silent: bool) -> None:
    faults = Faults(reorder_within=0, requeue=True, reconnect_least_s=0.3, reconnect_most_s=0.4)
    async with both(broker, faults) as (double, session, cloud):
        began_s = asyncio.get_running_loop().time()
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: double.outage(0.3, silent=silent))
            await anyio.sleep(0.4)
            await session.publish(UP, b"the road is back, and nobody knows")
        assert asyncio.get_running_loop().time() - began_s >= 0.6
        assert await cloud.has(1) == [b"the road is back, and nobody knows"]


@pytest.mark.parametrize("kind", KINDS)
async def test_its_own_broker_dies_with_it_and_forgets_its_sessions(
    kind: str, make_broker: Callable[..., Broker]
) -> None:
    broker = make_broker(kind)
    cloud = Cloud()
    rules = (Rule(topic=UP, call=cloud.take),)
    async with EdgeCoreDouble(
        port=broker.port, node="cart-3", rules=rules, broker=broker
    ) as double:
        async with road(broker).connect() as session:
            double.cut()
            await session.publish(UP, b"confirmed, and gone")
            await session.settle()
            async with anyio.create_task_group() as group:
                group.start_soon(double.restart, 0.2)
                with pytest.raises(LinkDown):
                    async for _ in session.messages():
                        pass
        double.restore()
        async with road(broker).connect() as session:
            for n in range(5):
                await session.publish(UP, b"%d" % n)
            await cloud.has(2)
        assert b"confirmed, and gone" not in cloud.got


async def test_the_bound_of_twelve_mebibytes_is_that_of_the_rest_door(broker: Broker) -> None:
    faults = msgspec.structs.replace(NO_FAULTS, max_rest_bytes=1000)
    async with (
        both(broker, faults, rest=True) as (double, session, cloud),
        aiohttp.ClientSession(f"http://127.0.0.1:{double.rest_port}") as client,
    ):
        async with client.post(f"/cart-3/default/{ACK}", data=b"x" * 1001) as answer:
            assert answer.status == 413
        await session.publish(UP, b"x" * 5000)
        assert await cloud.has(1) == [b"x" * 5000]


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
    command += ["--rule", f"{UP}=cloud/up", "--no-faults", "--outage", "0", "0.2", "--silent"]
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
                await anyio.sleep(0.5)  # the outage is over
                await session.publish(UP, b"bundle")
                with anyio.fail_after(5):
                    assert (await anext(hot_tier.messages)).payload == b"bundle"
    finally:
        process.send_signal(signal.SIGTERM)
        rest = await process.stdout.read()
        await process.wait()
    assert json.loads(rest)["delivered"] == 1


def test_each_fault_has_a_switch() -> None:
    assert SWITCHES.keys() == set(Faults.__struct_fields__)
    options = parsed(["--node", "a", "--no-mangle", "--seed", "4", "--rate-per-s", "5"])
    assert faults_of(options) == Faults(mangle=False, seed=4, rate_per_s=5)
    options = parsed(["--node", "a", "--no-faults", "--down-queue", "100"])
    assert faults_of(options).down_queue == 100
    assert faults_of(parsed(["--node", "a", "--requeue"])).requeue
    options = parsed(["--node", "a", "--reconnect-most-s", "60", "--keep-connections", "0"])
    assert faults_of(options) == Faults(reconnect_most_s=60, keep_connections=0)
    assert not faults_of(parsed(["--node", "a", "--no-faults"])).mangle
    assert rule("a/b=http://x/y=z").url == "http://x/y=z"
    assert rule("a/b=cloud/up").publish == "cloud/up"
