"""EdgeCore's stand-in on a real broker: takes what clients publish, and does to it what it does.

    agent ──publish──▶ broker ──▶ EventBus ▶ EdgeHub (faults) ▶ Router ──Rule──▶ the cloud
    agent ◀─────────── broker ◀── EventBus ◀ FIFO of 100 ◀──────── REST, `send_down`, cloud/down/#

Its clients have their confirmation from the broker before any of this begins. With mode 0 the
broker is EdgeCore's own: it dies with the process, and with it every session and all that it held.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING, Final, Protocol

import aiomqtt

from edge_agent.links.mqtt_client import Client
from tools.edgecore.cloud import RestDoor, Router, Rule
from tools.edgecore.devices import Devices
from tools.edgecore.posts import Posts
from tools.edgecore.road import Downstream, Faults, Upload, Upstream

if TYPE_CHECKING:
    from typing_extensions import Self

QOS: Final = 1
OWN_QOS: Final = 0  # of what EdgeCore publishes on its own broker
CLOUD_DOWN: Final = "cloud/down/"  # what stands behind it is the topic at the edge
SUBSCRIBED: Final = (
    "$hw/events/upload/#",
    "$hw/events/device/+/+/state/update",
    "$hw/events/device/+/+/twin/+",
    "$hw/events/node/+/membership/get",
    "SYS/dis/upload_records",
    "+/user/#",
    f"{CLOUD_DOWN}#",
)
MAX_INCOMING: Final = 100_000
RECONNECT_S: Final = 0.1
CANCELLED_S: Final = 1.0
IDLE_S: Final = 3600.0


class OwnBroker(Protocol):
    """A broker that is a process; both wait until it is so."""

    def start(self) -> None: ...
    def stop(self, *, kill: bool = False) -> None: ...


class EdgeCoreDouble:
    """`async with EdgeCoreDouble(port=…, node=…, rules=…) as edgecore:` on a broker of loopback.

    devices: `ns/device` of those that exist. rest: open the REST door, whose port is `rest_port`.
    broker: mode 0, that which dies with EdgeCore; it must run already, and outlives the double.
    """

    def __init__(
        self,
        *,
        port: int,
        node: str,
        rules: tuple[Rule, ...] = (),
        faults: Faults | None = None,
        devices: tuple[str, ...] = (),
        rest: bool = False,
        broker: OwnBroker | None = None,
    ) -> None:
        self._port, self._node = port, node
        self._faults = faults or Faults()
        self._upstream, self._downstream = Upstream(self._faults), Downstream(self._faults)
        self._devices = Devices(node, devices)
        self._counts: Counter[str] = Counter()
        self._posts = Posts(self._faults.keep_connections, self._counts)
        self._router = Router(rules, publish=self._publish, posts=self._posts, counts=self._counts)
        self._door = RestDoor(node, self.send_down, self._faults.max_rest_bytes)
        self._broker, self._qos = broker, QOS if broker is None else OWN_QOS
        self._has_rest = rest
        self._client: aiomqtt.Client | None = None
        self._ready, self._up, self._down = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._bus: asyncio.Task[None] | None = None
        self.rest_port = 0
        self.cloud_twin: dict[str, bytes] = {}  # the last that reached the cloud, by resource

    async def __aenter__(self) -> Self:
        if self._has_rest:
            self.rest_port = await self._door.open(0)
        self._bus = asyncio.ensure_future(self._run_bus())
        self._tasks = [
            asyncio.ensure_future(self._run_up()),
            asyncio.ensure_future(self._run_down()),
        ]
        await self._ready.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        await _ended(*self._tasks, *([self._bus] if self._bus else []))
        await self._router.close()
        await self._door.close()

    # ── what a test does to it ────────────────────────────────────────────────────────────────

    @property
    def counts(self) -> Counter[str]:
        """What became of the messages, by name."""
        return self._upstream.counts + self._downstream.counts + self._counts

    @property
    def waiting(self) -> int:
        """In its memory, on their way up."""
        return len(self._upstream)

    @property
    def connections(self) -> int:
        """Those of posts that were answered and are still open."""
        return self._posts.open

    def cut(self) -> None:
        """The link to the cloud goes; nobody at the edge is told."""
        self._upstream.cut()

    def silence(self) -> None:
        """Nothing passes from now on, either way; nobody is told, not EdgeHub, not CloudCore."""
        self._upstream.silence()
        self._up.set()

    def restore(self) -> None:
        """EdgeHub has a link again, now; it swallows the first messages."""
        self._upstream.restore()
        self._up.set()

    async def reconnect(self) -> None:
        """The road is back, a silent one is reset; returns when EdgeHub has noticed: 20 to 55 s."""
        self._upstream.cut()
        await asyncio.sleep(self._upstream.notices_after_s())
        self.restore()

    async def outage(self, lasts_s: float, *, silent: bool = False) -> None:
        """The road is gone for so long; returns when EdgeHub has a link again."""
        (self.silence if silent else self.cut)()
        await asyncio.sleep(lasts_s)
        await self.reconnect()

    async def restart(self, down_s: float = 0.0) -> None:
        """The process ends and starts again; what is published meanwhile never existed. Its own
        broker, where it has one, ends with it: its clients are thrown out.
        """
        assert self._bus is not None
        await _ended(self._bus)
        if self._broker is not None:
            await asyncio.to_thread(self._broker.stop, kill=True)
        self._upstream.restart()
        self._downstream.restart()
        await asyncio.sleep(down_s)
        if self._broker is not None:
            await asyncio.to_thread(self._broker.start)
        self._bus = asyncio.ensure_future(self._run_bus())
        await self._ready.wait()
        self._up.set()

    def send_down(self, topic: str, payload: bytes) -> bool:
        """From the cloud; True says only: there is a link. `topic` is that at the edge."""
        if not self._upstream.connected or not self._ready.is_set():
            self._counts["down_refused"] += 1
            return False
        if self._upstream.is_silent:
            self._counts["down_lost_in_silence"] += 1
            return True
        self._downstream.push(topic, payload)
        self._down.set()
        return True

    # ── what it does ──────────────────────────────────────────────────────────────────────────

    async def _run_bus(self) -> None:
        """EventBus: a clean session on the broker, for as long as this process lives."""
        while True:
            try:
                async with _connection(self._port, self._node) as client:
                    await client.subscribe([(topic, QOS) for topic in SUBSCRIBED])
                    self._client = client
                    self._ready.set()
                    async for message in client.messages:
                        await self._take(str(message.topic), message.payload)
            except aiomqtt.MqttError:
                pass
            finally:
                self._client = None
                self._ready.clear()
            await asyncio.sleep(RECONNECT_S)

    async def _take(self, topic: str, payload: bytes) -> None:
        if topic.startswith(CLOUD_DOWN):
            self.send_down(topic.removeprefix(CLOUD_DOWN), payload)
        elif topic.startswith("$hw/events/") and not topic.startswith("$hw/events/upload/"):
            answers, told = self._devices.handle(topic, payload, int(time.time() * 1000))
            for resource, content in told:
                self._tell(resource, content)
            for where, content in answers:
                await self._publish(where, content)
        else:
            self._upstream.push(Upload(topic, payload))
            self._up.set()

    def _tell(self, resource: str, content: bytes) -> None:
        """A twin on its way to the cloud: without a link it is dropped, and nobody makes up."""
        if not self._upstream.connected:
            self._counts["twin_dropped"] += 1
            return
        self._upstream.push(Upload(resource, content))
        self._up.set()

    async def _run_up(self) -> None:
        while True:
            now_s = time.monotonic()
            upload = self._upstream.take(now_s)
            if upload is not None and upload.topic.startswith("device/"):
                self.cloud_twin[upload.topic] = upload.payload
                continue
            if upload is not None:
                await self._router.route(upload)
                continue
            wait_s = self._upstream.wait_s(now_s)
            await _either(self._up, IDLE_S if wait_s is None else wait_s)

    async def _run_down(self) -> None:
        while True:
            message = self._downstream.take()
            if message is None:
                await _either(self._down, IDLE_S)
            else:
                await self._publish(message.topic, message.payload)

    async def _publish(self, topic: str, payload: bytes) -> None:
        client = self._client
        try:
            if client is not None:
                await client.publish(topic, payload, self._qos)
                return
        except aiomqtt.MqttError:
            pass
        self._counts["publish_failed"] += 1


def _connection(port: int, node: str) -> Client:
    return Client(
        "127.0.0.1",
        port,
        identifier=f"edgecore-{node}",
        clean_session=True,
        max_queued_incoming_messages=MAX_INCOMING,
        timeout=5,
    )


async def _ended(*tasks: asyncio.Task[None]) -> None:
    """aiomqtt answers a cancellation by an error of its own when its broker goes at that moment; it
    is said again until it is heard."""
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=CANCELLED_S)


async def _either(event: asyncio.Event, wait_s: float) -> None:
    """Until the event, or so long."""
    try:
        await asyncio.wait_for(event.wait(), wait_s)
    except asyncio.TimeoutError:
        return
    event.clear()
