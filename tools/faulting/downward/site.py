"""The far side: broker, a road that can be cut, EdgeCore's double with its faults, a hot tier that
announces, and the signed repository that it announces from.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import anyio.to_thread
import msgspec

from edge_agent.core.edgecore import Topics
from edge_agent.core.frames import AnyRecord, Event
from tools.edgecore_double import EdgeCoreDouble, Faults, Rule
from tools.faulting.broker import MOSQUITTO, Broker
from tools.faulting.content import NODE
from tools.faulting.downward.packages import NAME, Kind, write
from tools.faulting.downward.words import Made, Wish, Words
from tools.faulting.proxy import Proxy, proxy
from tools.hot_tier import HotTier, HttpRoad, wanted
from tools.hot_tier.announcer import Announcer, announce
from tools.hot_tier.keys import Keys
from tools.hot_tier.publishing import publish
from tools.hot_tier.repository import Repository
from tools.hot_tier.roads import UP
from tools.hot_tier.serve import serving

EVERY_S: Final = 0.25  # between two looks whether there is something to announce
WAITING_S: Final = 20.0


def _quiet(_words: str) -> None:
    """What a person would be told."""


class Site:
    """reports: of rollouts, as the hot tier heard them. Its verbs keep `words` as they change."""

    def __init__(self, folder: Path, seed: int, words: Words) -> None:
        self.folder, self.words = folder, words
        self.reports: list[dict[str, Any]] = []
        self.url = self.root = ""
        self.broker = Broker(folder, "mosquitto" if MOSQUITTO else "amqtt")
        self.road: Proxy
        self.edgecore: EdgeCoreDouble
        self._seed = seed
        self._house = Repository(folder / "repository", Keys(folder / "keys"))
        self._tier: HotTier
        self._numbers = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Site]:
        await anyio.to_thread.run_sync(self._house.create)
        self.root = str(self._house.metadata / "1.root.json")
        async with AsyncExitStack() as stack:
            stack.callback(self.broker.stop)
            await asyncio.to_thread(self.broker.start)
            enter = stack.enter_async_context
            self.url = stack.enter_context(serving(self._house.folder)).url
            self.road = await enter(proxy(self.broker.port))
            road, folder = HttpRoad(0), self.folder
            self._tier = await enter(
                HotTier(
                    folder / "db", road, live=folder / "live", ordered=folder / "ordered",
                    heard=self._hear,
                )
            )  # fmt: skip
            up = Rule(topic=Topics.of("default", NODE).up, url=f"http://127.0.0.1:{road.port}{UP}")
            self.edgecore = await enter(
                EdgeCoreDouble(
                    port=self.broker.port, node=NODE, rules=(up,), rest=True,
                    faults=Faults(seed=self._seed), devices=(f"default/{NODE}",),
                )
            )  # fmt: skip
            road.router = f"http://127.0.0.1:{self.edgecore.rest_port}"
            group = await enter(anyio.create_task_group())
            group.start_soon(_announcing, self._tier, Announcer(self._house.folder))
            yield self
            group.cancel_scope.cancel()

    def _hear(self, records: Any) -> None:
        some: list[AnyRecord] = list(records)
        for record in some:
            if isinstance(record, Event) and record.name == "rollout":
                with suppress(msgspec.DecodeError):
                    self.reports.append(msgspec.json.decode(record.what))

    async def settled(self) -> None:
        """Nobody is waited for, the files are whole; at most so long."""
        with anyio.move_on_after(WAITING_S):
            while self._tier.sheet()["total"]["waiting"]:  # noqa: ASYNC110 - nothing tells us
                await asyncio.sleep(0.05)
            await self._tier.settle()

    # ── what the hot tier wants ───────────────────────────────────────────────────────────────

    async def publish(self, kind: Kind) -> Made:
        self._numbers += 1
        version = f"1.{self._numbers}.0"

        def made() -> Made:
            package = write(self.folder / "made", version, kind)
            return Made(version, publish(self._house, package, deltas=1, say=_quiet).sha256, kind)

        found = await anyio.to_thread.run_sync(made)
        self.words.made[version] = found
        return found

    async def want(self, version: str, mode: Any = "swap") -> None:
        wish = wanted.Wish(name=NAME, wanted=version, mode=mode)
        await self._move(wanted.Change(models=(wish,)), version, mode)

    async def want_nothing(self) -> None:
        await self._move(wanted.Change(without=(NAME,)), "", "swap")

    async def _move(self, change: wanted.Change, version: str, mode: str) -> None:
        before = self.words.wish
        state = await anyio.to_thread.run_sync(lambda: wanted.move(self._house, change, node=NODE))
        wish = Wish(version=version, mode=mode, halted=before.halted - {version})
        self.words.wishes[state.serial] = wish

    async def halt(self, version: str) -> None:
        """Nobody may run it, and nobody may install it again."""
        before, house = self.words.wish, self._house
        await anyio.to_thread.run_sync(lambda: wanted.withdraw(house, NAME, version, "a drill"))
        wish = before.version if before.version != version else ""
        self.words.wishes[self.words.serial + 1] = Wish(
            version=wish, mode=before.mode, halted=before.halted | {version}
        )


async def _announcing(tier: HotTier, announcer: Announcer) -> None:
    await announce(tier, announcer, every_s=EVERY_S)
