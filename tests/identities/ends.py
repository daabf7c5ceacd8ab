"""The two ends, real: an agent's spool and uplink, a receiver with its database; their sheets."""

from __future__ import annotations

import functools
import random
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio

from edge_agent.config.structs import UplinkConfig
from edge_agent.core.errors import LinkDown
from edge_agent.core.frames import Alarm, AnyRecord, Event, RecordClass, Result, Tally
from edge_agent.core.logbook import Log
from edge_agent.services.uplink import Uplink, Words
from edge_agent.stores.spool import DiskSpool, SpoolLimits, open_spool, schema
from tests.hot_tier.wire import balances
from tests.identities.air import AgentRoad, Air, TierRoad
from tests.identities.hurry import HurryClock
from tools.hot_tier import HotTier

NODE = "cart-1"
LIMITS = SpoolLimits(limit_bytes=8 << 20, ballast_bytes=0, commit_ms=1)
CONFIG = UplinkConfig(twin=False)
PATIENCE_S = 100.0  # of the hurried clock
KINDS: dict[RecordClass, tuple[type[AnyRecord], str]] = {
    RecordClass.ALARM: (Alarm, "what"),
    RecordClass.EVENT: (Event, "what"),
    RecordClass.RESULT: (Result, "model"),
    RecordClass.TELEMETRY: (Tally, "state"),
}


class Cart:
    """One life of an agent. findings: codes of what its uplink told."""

    def __init__(self, spool: DiskSpool, air: Air, node: str) -> None:
        self.spool, self.node = spool, node
        self.clock = HurryClock()
        self.findings: list[str] = []
        words = Words(
            document=lambda: {"node": node},
            twin=dict,
            state=lambda: "online",
            on_event=lambda _: None,
            on_finding=lambda finding: self.findings.append(finding.code),
        )
        self.uplink = Uplink(
            node=node, config=CONFIG, link=AgentRoad(air, node), shelf=spool, clock=self.clock,
            words=words, chance=lambda: 0.0,
        )  # fmt: skip
        spool.voices.on_change(lambda _: self.uplink.on_change())

    def say(self, number: int, klass: RecordClass = RecordClass.EVENT, stream: str = "us") -> None:
        kind, field = KINDS[klass]
        for _ in range(number):
            words = f"{random.getrandbits(64):x}"
            fields: dict[str, Any] = {"node": self.node, "stream": stream, field: words}
            record = self.spool.append(kind(at_us=self.clock.boot_us(), **fields))
            self.uplink.on_record(record)

    async def run(self) -> None:
        """As the supervisor does, without patience."""
        while True:
            with suppress(LinkDown):
                await self.uplink.run(lambda: None)
            await anyio.sleep(0.1)

    async def committed(self) -> None:
        await until(lambda: self.spool.health().waiting == 0, "a commit")

    async def drained(self) -> None:
        """Nothing is held, and nothing of an earlier life is left to be told."""
        await until(lambda: not self.spool.stats().records, f"no record here: {self.spool.stats()}")
        await until(lambda: not self.old_logs(), "old logs are forgotten")

    def old_logs(self) -> list[Log]:
        return [log for log in self.spool.logs() if log.key.epoch != self.spool.epoch]

    def is_balanced(self) -> bool:
        s = self.spool.stats()
        return s.appended == s.acked + s.evicted + s.corrupt + s.records


async def until(condition: Callable[[], Any], what: str) -> None:
    with anyio.move_on_after(PATIENCE_S):
        while not condition():
            await anyio.sleep(0.02)
        return
    raise AssertionError(f"not within {PATIENCE_S} s: {what}")


@asynccontextmanager
async def cart(
    folder: Path,
    air: Air,
    *,
    node: str = NODE,
    connect: schema.Connect = schema.connect,
    limits: SpoolLimits = LIMITS,
    random32: Callable[[], int] = lambda: random.getrandbits(32),
    online: bool = True,
) -> AsyncIterator[Cart]:
    """An agent whose state is in `folder`; offline ones have no uplink running."""
    folder.mkdir(exist_ok=True)  # noqa: ASYNC240
    opened = functools.partial(
        open_spool, folder / "spool.db", node=node, clock=HurryClock(), limits=limits,
        random32=random32, connect=connect,
    )  # fmt: skip
    spool = await anyio.to_thread.run_sync(opened)
    try:
        made = Cart(spool, air, node)
        async with anyio.create_task_group() as group:
            if online:
                group.start_soon(made.run)
                await until(lambda: made.uplink.stats()["connected"], "a connection")
            yield made
            group.cancel_scope.cancel()
    finally:
        await spool.aclose()


class Tier:
    """A receiver, by its sheet."""

    def __init__(self, tier: HotTier) -> None:
        self._tier = tier

    def sheet(self) -> dict[str, Any]:
        return self._tier.sheet()

    def total(self) -> dict[str, Any]:
        total: dict[str, Any] = self.sheet()["total"]
        return total

    def void(self) -> dict[str, int]:
        """By reason, those that there are."""
        return {why: number for why, number in self.total()["void"].items() if number}

    def problems(self) -> list[str]:
        return [problem["code"] for problem in self.sheet()["problems"]]

    async def at_rest(self) -> None:
        """Nobody is waited for, and it all adds up."""
        await until(lambda: self.total()["waiting"] == 0, f"nothing is waited for: {self.sheet()}")
        await self._tier.settle()
        assert balances(self.sheet()), self.sheet()


@asynccontextmanager
async def tier(folder: Path, air: Air) -> AsyncIterator[Tier]:
    """A receiver whose database is in `folder`."""
    folder.mkdir(exist_ok=True)  # noqa: ASYNC240
    async with AsyncExitStack() as stack:
        inner = HotTier(folder / "db", TierRoad(air))
        inner._clock = HurryClock()  # type: ignore[assignment]
        await stack.enter_async_context(inner)
        yield Tier(inner)


def copied(folder: Path, to: Path) -> Path:
    """As it is on the disk now: a backup, a clone, or what a crash leaves."""
    shutil.copytree(folder, to, ignore=shutil.ignore_patterns("*.lock"))
    return to


def put_back(backup: Path, folder: Path) -> None:
    shutil.rmtree(folder)
    copied(backup, folder)
