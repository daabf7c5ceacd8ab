from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiomqtt
import anyio
import pytest

from edge_agent.config.structs import UplinkConfig
from edge_agent.core.errors import ConfigError, LinkDenied, LinkDown
from edge_agent.links import mqtt
from edge_agent.links.mqtt import MqttLink, MqttSession
from tests.broker import KINDS, MOSQUITTO, Broker
from tests.links.authority import Authority
from tests.proxy import proxy
from tools.broker import free_port

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quiet_loop")]
Make = Callable[..., Broker]


def road(port: int, **config: Any) -> MqttLink:
    settings = {"answer_s": 2.0, "keepalive_s": 5, **config}
    return MqttLink(UplinkConfig(port=port, **settings), node="cart-3")


@asynccontextmanager
async def listener(port: int, topic: str = "#") -> AsyncIterator[aiomqtt.Client]:
    async with aiomqtt.Client("127.0.0.1", port) as client:
        await client.subscribe(topic, 1)
        yield client


async def following(client: aiomqtt.Client) -> aiomqtt.Message:
    with anyio.fail_after(5):
        return await anext(client.messages)


async def first(session: MqttSession) -> tuple[str, bytes]:
    with anyio.fail_after(5):
        return await anext(session.messages())


# ── a connection ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_published_arrives_and_what_comes_down_is_heard(
    kind: str, make_broker: Make
) -> None:
    broker = make_broker(kind)
    link = road(broker.port)
    async with listener(broker.port, link.topics.up) as other, link.connect() as session:
        body = bytes(range(256)) * 200
        await session.publish(link.topics.up, body)
        message = await following(other)
        assert (str(message.topic), message.payload) == (link.topics.up, body)
        for topic in (
            link.topics.down("ack"),
            link.topics.of_device("twin/update/result"),
            "$hw/events/device//twin/update/result",
        ):
            await other.publish(topic, b"{}", 1)
            assert await first(session) == (topic, b"{}")


async def test_without_a_twin_nothing_of_edgecore_s_is_subscribed_to(broker: Broker) -> None:
    link = road(broker.port, twin=False)
    async with listener(broker.port, link.topics.up) as other, link.connect() as session:
        for topic in (link.topics.of_device("twin/update/result"), link.topics.down("ack")):
            await other.publish(topic, b"{}", 1)
        assert await first(session) == (link.topics.down("ack"), b"{}")


@pytest.mark.parametrize("kind", KINDS)
async def test_presence_is_online_offline_and_retained(kind: str, make_broker: Make) -> None:
    broker = make_broker(kind)
    link = road(broker.port)
    async with link.connect() as session:
        await session.settle()
        async with listener(broker.port, link.topics.presence) as late:
            message = await following(late)
            assert message.retain
            assert json.loads(str(message.payload, "utf-8"))["state"] == "online"
    async with listener(broker.port, link.topics.presence) as later:
        message = await following(later)
        assert message.retain
        assert json.loads(str(message.payload, "utf-8"))["state"] == "offline"


@pytest.mark.parametrize("kind", KINDS)
async def test_who_is_cut_off_leaves_a_last_will(kind: str, make_broker: Make) -> None:
    broker = make_broker(kind)
    async with listener(broker.port, "edge-agent/+/status") as other, proxy(broker.port) as road_:
        link = road(road_.port)
        with pytest.raises(LinkDown):
            async with link.connect() as session:
                await session.settle()
                road_.cut()
                with anyio.fail_after(5):
                    async for _ in session.messages():
                        pass
        states = [json.loads(str((await following(other)).payload, "utf-8"))["state"] for _ in "12"]
    assert states == ["online", "offline"]


async def test_each_connection_is_a_new_client_and_nothing_outlives_the_last(
    broker: Broker,
) -> None:
    link = road(broker.port)
    async with listener(broker.port, link.topics.up) as other:
        for n in range(5):
            async with link.connect() as session:
                await session.publish(link.topics.up, b"%d" % n)
                assert (await following(other)).payload == b"%d" % n
        await other.publish(link.topics.down("ack"), b"while away", 1)
        async with link.connect() as session:
            await other.publish(link.topics.down("ack"), b"now", 1)
            assert await first(session) == (link.topics.down("ack"), b"now"), "clean session"


async def test_many_publishes_wait_for_room_and_keep_their_order(broker: Broker) -> None:
    link = road(broker.port)
    async with listener(broker.port, link.topics.up) as other, link.connect() as session:
        began = time.perf_counter()
        for n in range(300):
            await session.publish(link.topics.up, b"%03d" % n + bytes(2000))
        took_s = time.perf_counter() - began
        got = [bytes((await following(other)).payload)[:3] for _ in range(300)]
    assert got == [b"%03d" % n for n in range(300)]
    assert took_s < 10


async def test_more_than_a_mebibyte_is_our_own_mistake(broker: Broker) -> None:
    async with road(broker.port).connect() as session:
        with pytest.raises(ValueError, match="1048577 bytes"):
            await session.publish("x", bytes((1 << 20) + 1))


# ── the road fails ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kill", [False, True], ids=["stop", "kill"])
async def test_a_broker_that_stops_is_a_link_that_is_down(
    kind: str, *, kill: bool, make_broker: Make
) -> None:
    broker = make_broker(kind)
    link = road(broker.port)
    for _ in range(2):
        with pytest.raises(LinkDown, match="receive from mqtt:"):
            async with link.connect() as session:
                broker.stop(kill=kill)
                with anyio.fail_after(5):
                    async for _ in session.messages():
                        pass
        with pytest.raises(LinkDown, match="Connection refused"):
            async with link.connect():
                pass
        broker.start()
    async with link.connect() as session:
        await session.publish(link.topics.up, b"again")


async def test_publishing_on_a_dead_road_is_told(broker: Broker) -> None:
    link = road(broker.port)
    with pytest.raises(LinkDown, match="publish to mqtt:"):
        async with link.connect() as session:
            broker.stop(kill=True)
            with anyio.fail_after(5):
                while True:
                    await session.publish(link.topics.up, b"x")
                    await anyio.sleep(0.01)


@asynccontextmanager
async def silent_server(*, greets: bool) -> AsyncIterator[int]:
    """Takes connections and says nothing, but for CONNACK and SUBACK when it greets."""

    async def handle(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            try:
                if greets:
                    await stream.receive()
                    await stream.send(b"\x20\x02\x00\x00")
                    subscribe = await stream.receive()
                    at = 2 + (subscribe[1] >> 7)  # behind a length of one or two bytes
                    await stream.send(b"\x90\x07" + subscribe[at : at + 2] + b"\x01" * 5)
                while True:
                    await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return

    port = free_port()
    server = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=port)
    async with server, anyio.create_task_group() as group:
        group.start_soon(server.serve, handle)
        yield port
        group.cancel_scope.cancel()


async def test_a_server_that_says_nothing_is_no_broker() -> None:
    async with silent_server(greets=False) as port:
        began = time.monotonic()
        with pytest.raises(LinkDown, match="timed out"):
            async with road(port, answer_s=0.5).connect():
                pass
        assert time.monotonic() - began < 3


async def test_a_broker_that_confirms_nothing_is_given_up() -> None:
    async with silent_server(greets=True) as port:
        link = road(port, answer_s=0.5)
        began = time.monotonic()
        with pytest.raises(LinkDown, match="did not confirm"):
            async with link.connect() as session:
                async for _ in session.messages():
                    pass
        with pytest.raises(LinkDown, match="did not confirm"):
            async with link.connect() as session:
                for _ in range(mqtt.MAX_UNCONFIRMED + 1):
                    await session.publish(link.topics.up, b"x")
        assert time.monotonic() - began < 8


async def test_an_attempt_to_connect_can_be_cancelled() -> None:
    async with silent_server(greets=False) as port:
        began = time.monotonic()
        with anyio.move_on_after(0.3):
            async with road(port, answer_s=1).connect():
                pass
        assert time.monotonic() - began < 2


async def test_a_live_connection_can_be_cancelled(broker: Broker) -> None:
    link = road(broker.port)
    async with listener(broker.port, link.topics.presence) as other:
        with anyio.move_on_after(0.5):
            async with link.connect() as session:
                async for _ in session.messages():
                    pass
        states = [json.loads(str((await following(other)).payload, "utf-8"))["state"] for _ in "12"]
    assert states == ["online", "offline"], "it said farewell"


@pytest.mark.parametrize(
    ("host", "words"),
    [("no-such-host.invalid", "connect to mqtts"), ("127.0.0.1", "Connection refused")],
)
async def test_a_host_that_is_not_there_is_named(host: str, words: str) -> None:
    with pytest.raises(LinkDown, match=words):
        async with road(free_port(), host=host, tls=True).connect():
            pass


# ── who may ───────────────────────────────────────────────────────────────────────────────────


def test_plain_tcp_to_another_machine_is_refused_unless_insisted() -> None:
    with pytest.raises(ConfigError, match="plain TCP to 10"):
        MqttLink(UplinkConfig(host="10.0.0.7"), node="cart-3")
    assert MqttLink(UplinkConfig(host="10.0.0.7", insecure=True), node="a").road == (
        "mqtt://10.0.0.7:1883"
    )
    assert MqttLink(UplinkConfig(host="10.0.0.7", tls=True), node="a").road == (
        "mqtts://10.0.0.7:8883"
    )


async def test_a_password_is_read_again_for_each_connection(
    make_broker: Make, tmp_path: Path
) -> None:
    passwords, secret = tmp_path / "passwords", tmp_path / "secret"
    command = ["mosquitto_passwd", "-c", "-b", str(passwords), "cart", "right"]
    if MOSQUITTO:
        await anyio.run_process(command)
        passwords.chmod(0o600)
    broker = make_broker("mosquitto", more=f"password_file {passwords}")
    link = road(broker.port, username="cart", password_file=str(secret))
    with pytest.raises(LinkDenied, match="password_file: No such file"):
        async with link.connect():
            pass
    secret.write_text("wrong\n")
    with pytest.raises(LinkDenied, match="the broker says") as caught:
        async with link.connect():
            pass
    assert "password_file" in caught.value.hint
    assert "wrong" not in str(caught.value)
    secret.write_text("right\n")
    async with link.connect() as session:
        await session.publish(link.topics.up, b"x")


# paho leaves the socket of a refused handshake to the collector, which closes it
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_tls_with_client_certificates(make_broker: Make, tmp_path: Path) -> None:
    ca, other_ca = Authority(tmp_path / "ca"), Authority(tmp_path / "other")
    node_cert, node_key = ca.sign("cart-3", "DNS:cart-3")
    stranger_cert, stranger_key = other_ca.sign("cart-3", "DNS:cart-3")
    broker = make_broker("mosquitto", listener=ca.listener())
    files = {"cert_file": str(node_cert), "key_file": str(node_key)}
    good: dict[str, Any] = {"tls": True, "ca_file": str(ca.certificate), **files}
    link = road(broker.port, **good)
    for host in ("127.0.0.1", "localhost"):
        async with road(broker.port, host=host, **good).connect() as session:
            await session.publish(link.topics.up, b"x")
            await session.settle()
    unknown, missing = "unknown ca|unsupported certificate|bad certificate", "certificate required"
    refused: list[tuple[dict[str, str | None], str]] = [
        ({"ca_file": str(other_ca.certificate)}, "certificate verify failed"),
        ({"ca_file": None}, "certificate verify failed"),
        ({"ca_file": str(tmp_path / "none")}, "No such file"),
        ({"ca_file": str(node_key)}, "read .*node|read .*cart-3.key"),
        ({"cert_file": str(stranger_cert), "key_file": str(stranger_key)}, unknown),
        ({"cert_file": None, "key_file": None}, missing),
        ({"cert_file": str(node_cert), "key_file": str(stranger_key)}, "read .*cart-3.pem"),
        ({"host": "127.0.0.2"}, "Connection refused|certificate verify failed"),
    ]
    for wrong, words in refused:
        with pytest.raises(LinkDown if "host" in wrong else LinkDenied, match=words):
            async with road(broker.port, **{**good, **wrong}).connect() as session:
                await anext(session.messages())
    with pytest.raises(LinkDown):
        async with road(broker.port).connect():
            pass


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_an_expired_certificate_is_named_with_its_date(
    make_broker: Make, tmp_path: Path
) -> None:
    ca = Authority(tmp_path / "ca")
    broker = make_broker("mosquitto", listener=ca.listener())
    cert, key = ca.sign("cart-3", days=-1)
    good = {"tls": True, "ca_file": str(ca.certificate)}
    with pytest.raises(LinkDenied, match="expired on 20") as caught:
        async with road(broker.port, **good, cert_file=str(cert), key_file=str(key)).connect():
            pass
    assert "renew it" in caught.value.hint
    stale = make_broker("mosquitto", listener=ca.listener("late", days=-1))
    fine = ca.sign("fine")
    files = {"cert_file": str(fine[0]), "key_file": str(fine[1])}
    with pytest.raises(LinkDenied, match="certificate has expired") as caught:
        async with road(stale.port, **good, **files).connect():
            pass
    assert "renew" in caught.value.hint


async def test_a_renewed_certificate_takes_effect_at_the_next_connection(
    make_broker: Make, tmp_path: Path
) -> None:
    ca = Authority(tmp_path / "ca")
    broker = make_broker("mosquitto", listener=ca.listener())
    node_cert, node_key = Authority(tmp_path / "old").sign("cart-3")
    files = {"cert_file": str(node_cert), "key_file": str(node_key)}
    link = road(broker.port, tls=True, ca_file=str(ca.certificate), **files)
    with pytest.raises(LinkDown):
        async with link.connect() as session:
            await anext(session.messages())
    for new, old in zip(ca.sign("cart-3"), (node_cert, node_key), strict=True):
        new.replace(old)
    async with link.connect() as session:
        await session.publish(link.topics.up, b"x")
        await session.settle()
