"""A name server that hangs holds nobody up; what it said is what is connected to."""

from __future__ import annotations

import errno
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from edge_agent.config.structs import UplinkConfig
from edge_agent.core.errors import LinkDown
from edge_agent.links import resolve
from edge_agent.links.mqtt import MqttLink
from edge_agent.links.mqtt_client import Client

pytestmark = pytest.mark.anyio

HANGS = """
import asyncio, socket, threading
from edge_agent.config.structs import UplinkConfig
from edge_agent.core.errors import LinkDown
from edge_agent.links import resolve
from edge_agent.links.mqtt import MqttLink
socket.getaddrinfo = lambda *_, **__: threading.Event().wait()
async def main():
    try:
        await asyncio.wait_for(resolve.addresses("broker.example", 1883), 0.1)
    except asyncio.TimeoutError:
        print("given up", flush=True)
asyncio.run(main())
"""


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    release = threading.Event()

    def getaddrinfo(*_: object, **__: object) -> list[object]:
        release.wait(30)
        return [(0, 0, 0, "", ("192.0.2.1", 1883))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield release
    release.set()
    for thread in threading.enumerate():
        if thread.name == "resolver":
            thread.join(5)


async def test_numbers_are_nobody_s_to_resolve(hanging: threading.Event) -> None:
    assert not hanging.is_set()
    assert await resolve.addresses("127.0.0.1", 1) == ["127.0.0.1"]
    assert await resolve.addresses("::1", 1) == ["::1"]


async def test_questions_without_an_answer_are_few_and_the_next_is_refused(
    hanging: threading.Event,
) -> None:
    for _ in range(resolve.MAX_UNANSWERED):
        with anyio.move_on_after(0.01) as late:
            await resolve.addresses("broker.example", 1)
        assert late.cancelled_caught
    with pytest.raises(OSError, match="has not answered") as refused:
        await resolve.addresses("broker.example", 1)
    assert refused.value.errno == errno.EBUSY
    hanging.set()
    with anyio.fail_after(5):
        while True:
            try:
                assert await resolve.addresses("broker.example", 1) == ["192.0.2.1"]
                break
            except OSError:
                await anyio.sleep(0.01)


async def test_what_is_no_name_is_said_as_such() -> None:
    with pytest.raises(OSError, match="no name of a host"):
        await resolve.addresses("a" * 80 + ".example", 1)


def test_a_process_ends_though_its_question_does_not() -> None:
    begun_s = time.monotonic()
    ran = subprocess.run(
        [sys.executable, "-c", HANGS], text=True, capture_output=True, timeout=30, check=False
    )
    assert (ran.returncode, ran.stdout) == (0, "given up\n"), ran.stderr
    assert time.monotonic() - begun_s < 20


async def test_the_mqtt_client_connects_to_the_address_and_asks_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[object] = []
    real = socket.getaddrinfo

    def getaddrinfo(host: object, *rest: Any, **named: Any) -> Any:
        asked.append(host)
        return real(host, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        client = Client("broker.example", port, address="127.0.0.1", timeout=5.0)
        sock = client._client._create_socket_connection()
        assert sock.getpeername() == ("127.0.0.1", port)
        sock.close()
    assert asked == ["127.0.0.1"]


async def test_a_name_server_that_hangs_is_named_and_not_the_host(
    hanging: threading.Event,
) -> None:
    """Seen: "no answer; is the host on, and the port open?" of a host that nobody had asked."""
    config = UplinkConfig(host="broker.example", insecure=True, answer_s=0.5)
    with pytest.raises(LinkDown, match="no answer from the name server") as down:
        async with MqttLink(config, node="cart-3").connect():
            pass
    assert "name server" in down.value.hint
    assert not hanging.is_set()


async def test_a_host_that_has_no_name_is_told_to_look_at_the_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nobody(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    config = UplinkConfig(host="broker.example", insecure=True)
    with pytest.raises(LinkDown, match="Name or service not known") as down:
        async with MqttLink(config, node="cart-3").connect():
            pass
    assert "uplink.host" in down.value.hint
