"""A real console on a real spool, in a thread of its own, for commands that are called as such."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import msgspec

from edge_agent.config.structs import ConsoleConfig
from edge_agent.core.errors import Rejected
from edge_agent.host import SystemHost
from edge_agent.services.console import Console, Shot, Views
from edge_agent.services.rollouts import Handled
from edge_agent.stores.spool import Courier, DiskSpool
from tests.stores.spooling import NODE

BOOT = SystemHost().boot_id()


class House(Handled):
    """What the console asks, as the agent answers it. courier None: the spool is volatile."""

    def __init__(self, spool: DiskSpool, secret: bytes, *, volatile: bool = False) -> None:
        self.kept = spool
        self.courier = None if volatile else Courier(spool, node=NODE, secret=secret)
        self.road: dict[str, Any] = {"configured": False, "connected": False}

    def status(self) -> dict[str, Any]:
        return {"schema": 1, "state": "ok"}

    def streams(self) -> dict[str, Any]:
        return {}

    def models(self) -> dict[str, Any]:
        return {}

    def peers(self) -> dict[str, Any]:
        return {}

    def device(self) -> dict[str, Any]:
        return {}

    def events(self) -> list[Any]:
        return []

    def ready(self) -> bool:
        return True

    def subscribe(self, stream: str) -> AbstractContextManager[AsyncIterator[bytes]]:
        raise KeyError(stream)

    def frame(self, _stream: str) -> Shot | None:
        return None

    async def metrics(self) -> bytes:
        return b""

    async def reload(self) -> dict[str, Any]:
        return {}

    def spool(self) -> dict[str, Any]:
        stats: dict[str, Any] = msgspec.to_builtins(self.kept.stats())
        return {**stats, "volatile": self.courier is None}

    def uplink(self) -> dict[str, Any]:
        return self.road

    def spool_records(self, limit: int) -> list[Any]:
        found = self.kept.newest(limit)
        return [{**msgspec.to_builtins(record), "class": record.klass.value} for record in found]

    async def spool_verify(self) -> dict[str, Any]:
        return {**await self._on_disk().verify()}

    def spool_export(self, *, plain: bool = False) -> AsyncGenerator[bytes, None]:
        return self._on_disk().export(plain=plain)

    async def spool_import(self, content: bytes) -> dict[str, Any]:
        return {**await self._on_disk().apply(content)}

    def audited(self, who: str, verb: str, fields: Mapping[str, object]) -> None:
        """Nobody reads it here."""

    def desired_hint(self, body: bytes) -> dict[str, Any]:
        return {"heard": len(body)}

    def _on_disk(self) -> Courier:
        if self.courier is None:
            raise Rejected("expected a spool on disk, got a volatile one", hint="edge-agent status")
        return self.courier


@contextlib.contextmanager
def living(house: House, folder: Path) -> Iterator[Path]:
    """The control socket, with the console behind it."""
    views: Views = house
    console = Console(config=ConsoleConfig(http=False), views=views, runtime_dir=folder)
    up, over = threading.Event(), anyio.Event()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(console.run, up.set)
            await over.wait()
            group.cancel_scope.cancel()

    with anyio.from_thread.start_blocking_portal() as portal:
        future = portal.start_task_soon(main)
        assert up.wait(10)
        try:
            yield folder / "control.sock"
        finally:
            portal.call(over.set)
            future.result(10)
