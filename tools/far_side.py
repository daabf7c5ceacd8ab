"""All that stands behind the edge in a demo: `python -m tools.far_side --node demo --folder DIR`.

    agent ──▶ embedded broker ──▶ EdgeCore double, with its measured faults ──Rule──▶ hot tier
      ▲───────── signed repository (HTTP) ◀── publishes, moves what is wanted ──────────┘

Speaks lines of JSON. Out: {"ready", "port", "url", "root"}, then the news four times a second, and
at the end what came of it all. In: {"do": "cut"}, "restore" for the link between EdgeCore and the
cloud, "push" with "model" and "version", "stop". Ends by itself when nobody listens any more.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import signal
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import anyio
import anyio.to_thread

from edge_agent import logs
from edge_agent.config.structs import LogConfig
from edge_agent.core.edgecore import Topics
from edge_agent.core.frames import AnyRecord, Result
from edge_agent.host import SystemClock
from edge_agent.stores.models import shipped_folder
from tools.broker import HOST, broker
from tools.edgecore_double import EdgeCoreDouble, Rule
from tools.hot_tier import HotTier, HttpRoad
from tools.hot_tier.announcer import Announcer, announce
from tools.hot_tier.keys import Keys
from tools.hot_tier.publishing import publish
from tools.hot_tier.repository import Repository
from tools.hot_tier.roads import UP
from tools.hot_tier.serve import serving
from tools.hot_tier.wanted import Change, Wish, move

PUSHED: Final = "us-chamber"
NEWS_S: Final = 0.25
LIVE_US: Final = 2_000_000  # what is older when it arrives waited in the spool
MAX_KEPT: Final = 200_000  # latencies; ids of records are kept for the run of a demo


class Ears:
    """What the hot tier has made durable, counted without asking it."""

    def __init__(self) -> None:
        self._clock = SystemClock()
        self._ids: set[tuple[str, str, int, int]] = set()
        self._live_ms: deque[float] = deque(maxlen=MAX_KEPT)
        self.heard = self.late = 0

    def hear(self, records: Sequence[AnyRecord]) -> None:
        now_us = self._clock.boot_us()
        for record in records:
            self.heard += 1
            self._ids.add((record.stream, record.klass.value, record.epoch, record.seq))
            if isinstance(record, Result):
                took_us = now_us - record.captured_us - record.latency_us
                self.late += took_us > LIVE_US
                if took_us <= LIVE_US:
                    self._live_ms.append(took_us / 1000)

    def news(self) -> dict[str, Any]:
        """live_latency_ms: from result created to durable, of those that came live."""
        ordered = sorted(self._live_ms)
        return {
            "received": len(self._ids),
            "duplicates": self.heard - len(self._ids),
            "late": self.late,
            "live_latency_ms": {
                "p50": _quantile(ordered, 0.5), "p99": _quantile(ordered, 0.99), "n": len(ordered)
            },
        }  # fmt: skip


def _quantile(ordered: list[float], share: float) -> float | None:
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3) if ordered else None


class Shop:
    """The publisher: the demo models of this checkout, signed with keys of this run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "repository"
        self._house = Repository(self.folder, Keys(folder / "keys"))

    def open(self) -> None:
        """Blocks: keys are made, packages signed."""
        self._house.create()
        for package in sorted((shipped_folder() / PUSHED).iterdir()):
            if package.is_dir():
                publish(self._house, package, say=lambda _: None)

    def push(self, node: str, model: str, version: str) -> None:
        """The wanted state moves. Blocks."""
        change = Change(models=(Wish(name=model, wanted=version),))
        move(self._house, change, node=node)


class FarSide:
    """Does what the demo says."""

    def __init__(self, node: str, edgecore: EdgeCoreDouble, tier: HotTier, shop: Shop) -> None:
        self._node, self._edgecore, self._tier, self._shop = node, edgecore, tier, shop
        self._link = "up"
        self.stop = asyncio.Event()

    async def do(self, said: dict[str, Any]) -> None:
        word = said.get("do")
        if word == "cut" and self._link == "up":
            self._edgecore.cut()
            self._link = "cut"
        elif word == "restore" and self._link == "cut":
            self._edgecore.restore()
            self._link = "up"
        elif word == "push":
            model, version = str(said["model"]), str(said["version"])
            await anyio.to_thread.run_sync(self._shop.push, self._node, model, version)
        elif word == "stop":
            self.stop.set()

    def news(self) -> dict[str, Any]:
        sheet = self._tier.sheet()
        return {"link": self._link, "waiting": sheet["total"]["waiting"],
                "problems": sheet["problems"]}  # fmt: skip

    async def listen(self) -> None:
        """To the words of the demo, until it is gone."""
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
        )
        while line := await reader.readline():
            await self.do(json.loads(line))
        self.stop.set()

    async def talk(self, ears: Ears) -> None:
        while True:
            say({**self.news(), **ears.news()})
            await anyio.sleep(NEWS_S)


def say(words: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


async def serve(node: str, folder: Path) -> None:
    road, ears, shop = HttpRoad(0), Ears(), Shop(folder)
    await anyio.to_thread.run_sync(shop.open)
    with serving(shop.folder) as server:
        async with broker() as port, HotTier(folder / "hot-tier.db", road, heard=ears.hear) as tier:
            await play(Stage(node, road, ears, shop, server.url, port), tier)


class Stage(NamedTuple):
    """What stands."""

    node: str
    road: HttpRoad
    ears: Ears
    shop: Shop
    url: str
    port: int


async def play(stage: Stage, tier: HotTier) -> None:
    """Until it is told to stop."""
    node, road, port = stage.node, stage.road, stage.port
    rule = Rule(topic=Topics.of("default", node).up, url=f"http://{HOST}:{road.port}{UP}")
    async with EdgeCoreDouble(port=port, node=node, rules=(rule,), rest=True) as edgecore:
        road.router = f"http://{HOST}:{edgecore.rest_port}"
        side = FarSide(node, edgecore, tier, stage.shop)
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, lambda: None)
        root = stage.shop.folder / "metadata" / "1.root.json"
        say({"ready": True, "port": port, "url": stage.url, "root": str(root)})
        async with anyio.create_task_group() as group:
            group.start_soon(side.listen)
            group.start_soon(side.talk, stage.ears)
            told = functools.partial(announce, every_s=NEWS_S)
            group.start_soon(told, tier, Announcer(stage.shop.folder))
            await side.stop.wait()
            group.cancel_scope.cancel()
        await tier.settle()
        say({**side.news(), **stage.ears.news(), "over": True})


def main() -> int:
    """Exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--node", required=True)
    parser.add_argument("--folder", type=Path, required=True, help="for the hot tier's database")
    options = parser.parse_args()
    logs.setup(LogConfig(level="error"), sys.stderr)
    try:
        asyncio.run(serve(options.node, options.folder))
    except BrokenPipeError:
        return 1  # nobody listens any more
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
