"""The near side of the uplink bench: a spool and its uplink as the house wires them, no engine.

Two lives on one folder. `fill` makes the first: a backlog with made-up times, committed and closed.
`open` begins the second, in which live results come 30 a second from each of two streams, also
while nothing is connected: `idle`, `drain`, `end` say what happens beside them.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
import msgspec
import numpy as np
from anyio.abc import TaskGroup

from edge_agent.cli.daemon import run_loop
from edge_agent.config.structs import UplinkConfig
from edge_agent.core.errors import LinkDown
from edge_agent.core.frames import Result
from edge_agent.core.ranges import count
from edge_agent.core.twin import Value
from edge_agent.core.witness import Finding
from edge_agent.host import SystemClock
from edge_agent.links.mqtt import MqttLink
from edge_agent.ports import LinkSession
from edge_agent.services.uplink import Uplink, Words
from edge_agent.stores.spool import DiskSpool, SpoolLimits, open_spool
from tools.bench.rig.actor import cpu_s, orders, say, until
from tools.bench.rig.far import LIVE_BOOT
from tools.record_series import Scene, Series

STREAMS: Final = ("probe-a", "scope-b")
KINDS: Final = {  # of both streams
    "detections": ("detections", "detections"),
    "contours": ("contours", "contours"),
    "mixed": ("contours", "detections"),
}
FPS: Final = 30
PAST_BOOT: Final = "00000000"
CYCLE_S: Final = 100  # so long a series is made, then it goes on as it began
MAX_WAITING: Final = 4000  # records in front of the disk while filling
RECONNECT_S: Final = 0.5
LOOK_S: Final = 0.1
END_S: Final = 60.0  # for what is left when all is over
LIMITS: Final = SpoolLimits(limit_bytes=64 << 30)
Road = tuple[str, bytes]


class Made:
    """Results of one stream, moved on in time as often as they are needed."""

    def __init__(self, stream: str, node: str, kind: str, seed: int) -> None:
        scene = Scene(node=node, stream=stream, contours=kind == "contours")
        self._some = Series(scene, seed=seed).take(CYCLE_S * FPS)
        self._first = self._some[0]

    def past(self, number: int) -> Result:
        """The one that was made number / 30 s after the start of an earlier boot."""
        one = self._some[number % len(self._some)]
        shift_us = number // len(self._some) * CYCLE_S * 1_000_000 - self._first.captured_us
        return _moved(one, one.captured_us + shift_us + 1_000_000, number, PAST_BOOT)

    def now(self, number: int, now_us: int) -> Result:
        one = self._some[number % len(self._some)]
        return _moved(one, now_us - one.latency_us, number, LIVE_BOOT)


def _moved(one: Result, captured_us: int, number: int, boot: str) -> Result:
    return msgspec.structs.replace(
        one, epoch=0, seq=0, boot=boot, frame=number, captured_us=captured_us,
        at_us=captured_us + one.latency_us,
    )  # fmt: skip


class Weighed:
    """A link that notes the largest message that came down."""

    def __init__(self, link: MqttLink) -> None:
        self._link = link
        self.most_bytes = 0

    def connect(self) -> AbstractAsyncContextManager[LinkSession]:
        return self._connected()

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[LinkSession]:
        async with self._link.connect() as session:
            yield _Session(session, self)


class _Session:
    def __init__(self, session: LinkSession, scales: Weighed) -> None:
        self.publish = session.publish
        self._session, self._scales = session, scales

    async def messages(self) -> AsyncIterator[Road]:
        async for topic, payload in self._session.messages():
            if topic.endswith("/down/ack"):
                self._scales.most_bytes = max(self._scales.most_bytes, len(payload))
            yield topic, payload


class Agent:
    """One life."""

    def __init__(self, spool: DiskSpool, node: str, port: int, made: list[Made]) -> None:
        self.spool, self._made, self.clock = spool, made, SystemClock()
        config = UplinkConfig(port=port, answer_s=5.0)
        self.link = Weighed(MqttLink(config, node=node))
        self.findings: list[str] = []
        words = Words(
            document=lambda: {"node": node, "state": "ok"},
            twin=self._twin,
            state=lambda: "online",
            on_event=lambda _: None,
            on_finding=self._find,
        )
        self.uplink = Uplink(
            node=node, config=config, link=self.link, shelf=spool, clock=self.clock, words=words
        )
        spool.voices.on_change(lambda _: self.uplink.on_change())
        self.took_us: list[float] = []  # of each append
        self.appended = 0

    def _twin(self) -> Mapping[str, Value | None]:
        return {"state": "ok", "spool_records": self.spool.stats().records}

    def _find(self, finding: Finding) -> None:
        self.findings.append(finding.code)

    async def live(self) -> None:
        """For ever."""
        due_us = self.clock.boot_us()
        while True:
            for number, stream in enumerate(self._made):
                due_us += 1_000_000 // FPS // len(self._made)
                await asyncio.sleep(max(0.0, (due_us - self.clock.boot_us()) / 1e6))
                began_us = self.clock.boot_us()
                record = self.spool.append(stream.now(self.appended, began_us))
                self.took_us.append(self.clock.boot_us() - began_us)
                self.uplink.on_record(record)
                self.appended += number + 1 == len(self._made)

    async def connected(self) -> None:
        """For ever, as the supervisor does."""
        while True:
            with suppress(LinkDown):
                await self.uplink.run(lambda: None)
            await asyncio.sleep(RECONNECT_S * (1 + random.random()))

    def p99_append_ms(self) -> float:
        """Of those since it was asked last."""
        took, self.took_us = self.took_us, []
        return float(np.quantile(took, 0.99)) / 1000 if took else float("nan")


def _open(folder: Path, node: str, limits: SpoolLimits = LIMITS) -> DiskSpool:
    return open_spool(
        folder / "spool.db", node=node, clock=SystemClock(),
        random32=lambda: random.getrandbits(32), limits=limits,
    )  # fmt: skip


async def _fill(folder: Path, node: str, made: list[Made], seconds: float) -> None:
    """The first life."""
    spool = await anyio.to_thread.run_sync(_open, folder, node)
    for number in range(round(seconds * FPS)):
        for stream in made:
            spool.append(stream.past(number))
        if spool.health().waiting > MAX_WAITING:
            await until(lambda: spool.health().waiting < MAX_WAITING // 2)
    await until(lambda: not spool.health().waiting)
    stats = spool.stats()
    await spool.aclose()
    size = (folder / "spool.db").stat().st_size
    say(records=stats.records, bodies=stats.bytes, file=size, evicted=stats.evicted)


async def _idle(agent: Agent, seconds: float) -> None:
    agent.p99_append_ms()
    await asyncio.sleep(seconds)
    say(p99_append_ms=agent.p99_append_ms())


async def _drain(agent: Agent, group: TaskGroup, limit_s: float, tail_s: float) -> None:
    """Until nothing of an earlier life is left, or for so long; and `tail_s` more."""
    group.start_soon(agent.connected)
    cpu, begun_us = cpu_s(), agent.clock.boot_us()
    before = agent.spool.stats()
    agent.p99_append_ms()
    course = [(begun_us, _left(agent))]  # what was left, and when
    with anyio.move_on_after(limit_s):
        while course[-1][1]:
            await asyncio.sleep(LOOK_S)
            course.append((agent.clock.boot_us(), _left(agent)))
    ended_us, p99_ms, spent_s = agent.clock.boot_us(), agent.p99_append_ms(), cpu_s() - cpu
    after, left = agent.spool.stats(), _left(agent)
    await asyncio.sleep(tail_s)
    say(
        begun_us=begun_us, ended_us=ended_us, left=left, course=course, cpu_s=spent_s,
        p99_append_ms=p99_ms,
        went=after.acked - before.acked, appended=after.appended - before.appended,
    )  # fmt: skip


def _left(agent: Agent) -> int:
    """Records of an earlier life."""
    epoch = agent.spool.epoch
    return sum(count(log.pending()) for log in agent.spool.logs() if log.key.epoch != epoch)


async def _end(agent: Agent, stop: Callable[[], object]) -> None:
    """No more live results; until the spool is empty."""
    stop()
    with anyio.move_on_after(END_S):
        await until(lambda: not agent.spool.stats().records)
    books, uplink = agent.spool.stats(), agent.uplink.stats()
    say(
        appended=books.appended, acked=books.acked, evicted=books.evicted, corrupt=books.corrupt,
        left=books.records, ack_bytes=agent.link.most_bytes, findings=agent.findings,
        uplink=uplink,
    )  # fmt: skip


async def _live(options: argparse.Namespace) -> None:
    kinds = KINDS[options.kind]
    made = [
        Made(stream, options.node, kind, seed)
        for seed, (stream, kind) in enumerate(zip(STREAMS, kinds, strict=True))
    ]
    gc.freeze()
    folder: Path = options.folder
    await _fill(folder, options.node, made, options.seconds)
    spool = await anyio.to_thread.run_sync(_open, folder, options.node)
    try:
        async with anyio.create_task_group() as group:
            agent = Agent(spool, options.node, options.port, made)
            coming = asyncio.ensure_future(agent.live())
            async for order in orders():
                if order[0] == "idle":
                    await _idle(agent, float(order[1]))
                elif order[0] == "drain":
                    await _drain(agent, group, float(order[1]), float(order[2]))
                elif order[0] == "end":
                    await _end(agent, coming.cancel)
            coming.cancel()
            group.cancel_scope.cancel()
    finally:
        await spool.aclose()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--node", required=True)
    parser.add_argument("--kind", choices=tuple(KINDS), required=True)
    parser.add_argument("--seconds", type=float, required=True, help="of backlog")
    options = parser.parse_args()
    run_loop(lambda: _live(options))


if __name__ == "__main__":
    main()
