"""A small agent behind a real console, and clients by each door."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import anyio
import msgspec

from edge_agent.config.structs import ConsoleConfig
from edge_agent.core.errors import Rejected
from edge_agent.core.frames import Result, to_json
from edge_agent.services.console import SOCKET_NAME, Console, Picture, Shot, Views

NOBODY = 65534


class Followers:
    """The newest line of a stream for whoever follows it, from a slot of one."""

    def __init__(self) -> None:
        self.slots: dict[str, list[list[bytes]]] = {}
        self._filled = anyio.Event()

    def result(self, result: Result) -> None:
        self._put(result.stream, to_json(result))

    def blank(self, stream: str, reason: str) -> None:
        self._put(stream, msgspec.json.encode({"blank": reason}))

    @contextmanager
    def subscribe(self, stream: str) -> Iterator[AsyncIterator[bytes]]:
        slot: list[bytes] = []
        self.slots.setdefault(stream, []).append(slot)
        try:
            yield self._lines(slot)
        finally:
            self.slots[stream].remove(slot)

    def count(self) -> int:
        return sum(map(len, self.slots.values()))

    def _put(self, stream: str, line: bytes) -> None:
        for slot in self.slots.get(stream, []):
            slot[:] = [line]
        self._filled.set()
        self._filled = anyio.Event()

    async def _lines(self, slot: list[bytes]) -> AsyncIterator[bytes]:
        while True:
            while not slot:
                await self._filled.wait()
            yield slot.pop()


class Agent:
    """A small agent behind the console: two streams, one of which has a frame."""

    def __init__(self) -> None:
        self.followers = Followers()
        self.is_up = True
        self.reloads = 0
        self.reload_error: Exception | None = None
        self.reload_takes_s = 0.0
        self.install_error: Exception = Rejected(
            "install us-chamber 9.9.9: nobody has it", hint="name another"
        )
        self.export_lines = 3
        self.noted: list[tuple[str, str, dict[str, object]]] = []
        self.export_error: Exception | None = None

    def status(self) -> dict[str, Any]:
        return {"schema": 1, "node": "cart", "state": "ok", "age": float("nan")}

    def streams(self) -> dict[str, Any]:
        return {"us0": {"state": "ok"}, "endo": {"state": "no_signal"}}

    def models(self) -> dict[str, Any]:
        return {"us-chamber": {"active": "1.1.0"}}

    def spool(self) -> dict[str, Any]:
        return {"records": 3}

    def uplink(self) -> dict[str, Any]:
        return {"connected": False}

    def peers(self) -> dict[str, Any]:
        return {}

    def device(self) -> dict[str, Any]:
        return {"module": "laptop"}

    def events(self) -> list[Any]:
        return [{"name": "started"}]

    def subscribe(self, stream: str) -> AbstractContextManager[AsyncIterator[bytes]]:
        return self.followers.subscribe(stream)

    def frame(self, stream: str) -> Shot | None:
        if stream != "us0":
            return None
        picture = Picture(w=2, h=1, channels=3, pixels=b"abcdef", number=7, age_ms=1.5)
        return Shot(frame=picture, result=result(7))

    def models_history(self, model: str) -> list[Any]:
        return [{"model": model or "us-chamber", "outcome": "committed"}]

    async def models_install(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked.get("version") == "9.9.9":
            raise self.install_error
        return {"models": {"us-chamber": asked}}

    async def models_roll_back(self, model: str) -> dict[str, Any]:
        return {"model": model}

    async def models_pin(self, model: str, version: str | None, by: str) -> dict[str, Any]:
        return {"model": model, "pinned": version, "by": by}

    def spool_records(self, limit: int) -> list[Any]:
        return [{"class": "event", "seq": seq} for seq in range(300, 0, -1)][:limit]

    async def spool_verify(self) -> dict[str, Any]:
        return {"records": 3, "corrupt": 0}

    async def spool_export(self, *, plain: bool = False) -> AsyncGenerator[bytes, None]:
        for number in range(self.export_lines):
            yield b"%d\n" % number * (2000 if plain else 1000)
        if self.export_error is not None:
            raise self.export_error
        yield b"end\n"

    async def spool_import(self, content: bytes) -> dict[str, Any]:
        return {"bytes": len(content)}

    async def metrics(self) -> bytes:
        return b"edge_agent_ready 1.0\n"

    def desired_hint(self, body: bytes) -> dict[str, Any]:
        if body == b"garbage":
            raise Rejected("read down/desired: not JSON")
        return {"serial": 3, "state": "pending"}

    def audited(self, who: str, verb: str, fields: Mapping[str, object]) -> None:
        self.noted.append((who, verb, dict(fields)))

    def ready(self) -> bool:
        return self.is_up

    async def reload(self) -> dict[str, Any]:
        await anyio.sleep(self.reload_takes_s)
        if self.reload_error is not None:
            raise self.reload_error
        self.reloads += 1
        return {"changed": []}


def result(frame: int, stream: str = "us0") -> Result:
    return Result(node="cart", stream=stream, frame=frame)


class Clients(NamedTuple):
    """One client by each door."""

    console: Console
    unix: aiohttp.ClientSession
    tcp: aiohttp.ClientSession


@asynccontextmanager
async def running(agent: Agent, folder: Path, **config: Any) -> AsyncIterator[Clients]:
    views: Views = agent
    console = Console(
        config=ConsoleConfig(**{"port": 0, **config}), views=views, runtime_dir=folder / "run"
    )
    path = str(folder / "run" / SOCKET_NAME)
    async with anyio.create_task_group() as group:
        up = anyio.Event()
        group.start_soon(console.run, up.set)
        with anyio.fail_after(5):
            await up.wait()
        timeout = aiohttp.ClientTimeout(total=10)
        async with (
            aiohttp.ClientSession(
                "http://box", connector=aiohttp.UnixConnector(path), timeout=timeout
            ) as unix,
            aiohttp.ClientSession(f"http://127.0.0.1:{console.port or 1}", timeout=timeout) as tcp,
        ):
            yield Clients(console, unix, tcp)
        group.cancel_scope.cancel()


async def get(session: aiohttp.ClientSession, path: str, **options: Any) -> tuple[int, Any]:
    async with session.get(path, **options) as answer:
        return answer.status, msgspec.json.decode(await answer.read())


async def post(session: aiohttp.ClientSession, path: str) -> tuple[int, Any]:
    async with session.post(path) as answer:
        return answer.status, msgspec.json.decode(await answer.read())


async def wait_for(condition: Callable[[], object], *, present: bool) -> None:
    with anyio.fail_after(5):
        while bool(condition()) is not present:
            await anyio.sleep(0.005)


@contextmanager
def as_nobody() -> Iterator[None]:
    """The kernel remembers who connects, and with which groups."""
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)
