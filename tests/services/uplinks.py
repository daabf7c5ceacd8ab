"""An agent that is nothing but its spool and its uplink, wired as the house wires them."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import msgspec

from edge_agent.config.structs import UplinkConfig
from edge_agent.core.edgecore import Desired, Tuf
from edge_agent.core.errors import LinkDown
from edge_agent.core.frames import AnyRecord, Event
from edge_agent.core.twin import DeviceState, Value
from edge_agent.core.wire.sealing import RoadKeys
from edge_agent.core.witness import Finding
from edge_agent.host import SystemClock
from edge_agent.links.mqtt import MqttLink
from edge_agent.services.uplink import Uplink, Words
from edge_agent.stores.spool import DiskSpool, SpoolLimits, open_spool

NODE = "cart-3"
LIMITS = SpoolLimits(limit_bytes=32 << 20, ballast_bytes=0)
QUIET = UplinkConfig(answer_s=2.0, keepalive_s=5, twin=False)


class Agent:
    """A spool and its uplink, as the house wires them."""

    def __init__(
        self,
        spool: DiskSpool,
        port: int,
        config: UplinkConfig = QUIET,
        keys: Callable[[], RoadKeys] | None = None,
    ) -> None:
        self.spool = spool
        self.clock = SystemClock()
        self.events: list[Desired | Tuf] = []
        self.findings: list[Finding] = []
        self.status: dict[str, Any] = {"node": NODE, "state": "ok"}
        config = msgspec.structs.replace(config, port=port)
        words = Words(
            document=lambda: self.status,
            twin=self.twin,
            state=self.state,
            on_event=self.events.append,
            on_finding=self.findings.append,
        )
        self.uplink = Uplink(
            node=NODE,
            config=config,
            link=MqttLink(config, node=NODE),
            shelf=spool,
            clock=self.clock,
            words=words,
            keys=keys,
        )
        spool.voices.on_change(lambda _: self.uplink.on_change())

    def twin(self) -> Mapping[str, Value | None]:
        return {"model_version": "1.2.0"}

    def state(self) -> DeviceState:
        return "online"

    def say(self, stream: str = "us", kind: Callable[..., AnyRecord] = Event) -> AnyRecord:
        made = kind(node=NODE, stream=stream, at_us=self.clock.boot_us(), what="x" * 40)
        record = self.spool.append(made)
        self.uplink.on_record(record)
        return record  # type: ignore[return-value]

    async def run_for_ever(self) -> None:
        """As the supervisor does, without patience."""
        while True:
            with suppress(LinkDown):
                await self.uplink.run(lambda: None)
            await anyio.sleep(0.05)

    async def until(self, condition: Callable[[], bool], within_s: float = 20) -> None:
        with anyio.fail_after(within_s):
            while not condition():
                await anyio.sleep(0.01)

    async def drained(self, within_s: float = 20) -> None:
        await self.until(lambda: self.spool.stats().records == 0, within_s)


@asynccontextmanager
async def spooling(folder: Path) -> AsyncIterator[DiskSpool]:
    def opened() -> DiskSpool:
        return open_spool(
            folder / "spool.db", node=NODE, clock=SystemClock(),
            random32=lambda: random.getrandbits(32), limits=LIMITS,
        )  # fmt: skip

    spool = await anyio.to_thread.run_sync(opened)
    try:
        yield spool
    finally:
        await spool.aclose()


@asynccontextmanager
async def running(agent: Agent) -> AsyncIterator[Agent]:
    async with anyio.create_task_group() as group:
        group.start_soon(agent.run_for_ever)
        await agent.until(lambda: agent.uplink.stats()["connected"])
        yield agent
        group.cancel_scope.cancel()
