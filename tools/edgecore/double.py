"""EdgeCore's stand-in on a real broker: takes what clients publish, and does to it what it does.

    agent ──publish──▶ broker ──▶ EventBus ▶ EdgeHub (faults) ▶ Router ──Rule──▶ the cloud
    agent ◀─────────── broker ◀── EventBus ◀ FIFO of 100 ◀──────── REST, `send_down`, cloud/down/#

Its clients have their confirmation from the broker before any of this begins.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

import aiomqtt

from edge_agent.links.mqtt_client import Client
from tools.edgecore.cloud import RestDoor, Router, Rule
from tools.edgecore.devices import Devices
from tools.edgecore.road import Downstream, Faults, Upload, Upstream

if TYPE_CHECKING:
    from typing_extensions import Self

QOS: Final = 1
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


class EdgeCoreDouble:
    """`async with EdgeCoreDouble(port=…, node=…, rules=…) as edgecore:` on a broker of loopback.

    devices: `ns/device` of those that exist. rest: open the REST door, whose port is `rest_port`.
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
    ) -> None:
        self._port, self._node = port, node
        self._faults = faults or Faults()
        self._upstream, self._downstream = Upstream(self._faults), Downstream(self._faults)
        self._devices = Devices(node, devices)
        self._counts: Counter[str] = Counter()
        self._router = Router(rules, publish=self._publish, counts=self._counts)
        self._door = RestDoor(node, self.send_down, self._faults.max_upload_bytes)
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

    def cut(self) -> None:
        """The link to the cloud goes; nobody at the edge is told."""
        self._upstream.cut()

    def restore(self) -> None:
        """It comes back, and swallows the first messages."""
        self._upstream.restore()
        self._up.set()

    async def restart(self, down_s: float = 0.0) -> None:
        """The process ends and starts again; what is published meanwhile never existed."""
        assert self._bus is not None
        await _ended(self._bus)
        self._upstream.restart()
        self._downstream.restart()
        await asyncio.sleep(down_s)
        self._bus = asyncio.ensure_future(self._run_bus())
        await self._ready.wait()
        self._up.set()

    def send_down(self, topic: str, payload: bytes) -> bool:
        """From the cloud; True says only: there is a link. `topic` is that at the edge."""
        if not self._upstream.connected or not self._ready.is_set():
            self._counts["down_refused"] += 1
            return False
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
                await client.publish(topic, payload, QOS)
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
