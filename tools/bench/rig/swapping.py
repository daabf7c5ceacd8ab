"""A house whose model is swapped again and again while a camera of 60 fps looks on.

A round is: nothing for a while (the control), then load, swap, commit (the deed), and nothing for a
while. Every frame of either span is asked for by its number: it came as a result, once, or it was
dropped; what happened in the deed is told beside what happened in the control.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import anyio
import anyio.to_thread
import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.agent import Agent
from edge_agent.app import running
from edge_agent.config.structs import Config
from edge_agent.core.frames import Record, Result
from edge_agent.core.trial import ShadowCounts
from edge_agent.stores.models import Models
from tools.bench.rig import models
from tools.bench.rig.child import LaunchChild
from tools.bench.rig.meter import Meter, create

FPS = 60.0
SETTLE = 6  # frames after a deed that still belong to it
WARM_FRAMES = 30
PATIENCE_S = 60.0
PAGE_MB = os.sysconf("SC_PAGE_SIZE") / (1 << 20)


class Package(NamedTuple):
    folder: str
    sha: str


class Memory(NamedTuple):
    """PSS of the child, MB."""

    before_mb: float
    peak_mb: float
    after_mb: float
    swaps: int


class Span(NamedTuple):
    """Frames first <= n < last."""

    first: int
    last: int

    @property
    def frames(self) -> range:
        return range(self.first, self.last)


class Seen(msgspec.Struct):
    """What came of a run of rounds. rss_mb: of the child, after each commit."""

    results: list[Result] = []
    deeds: list[Span] = []
    controls: list[Span] = []
    rss_mb: list[float] = []
    captured: int = 0
    dropped: int = 0

    def missing(self, spans: list[Span]) -> int:
        came = {result.frame for result in self.results}
        return sum(number not in came for span in spans for number in span.frames)

    def doubled(self) -> int:
        counts = Counter(result.frame for result in self.results)
        return sum(n - 1 for n in counts.values())

    def waits_us(self, spans: list[Span]) -> NDArray[np.float64]:
        """Of each result of these spans, from capture to the start of its run."""
        wanted = {number for span in spans for number in span.frames}
        return np.array([r.wait_us for r in self.results if r.frame in wanted], np.float64)


class House:
    """A running agent, one stream `s0`, and two versions that take turns."""

    def __init__(self, agent: Agent, seen: Seen, pids: list[int], packages: list[Package]) -> None:
        self.agent = agent
        self.engine = agent.engine
        self.seen = seen
        self.pids = pids
        self.packages = packages
        self.model = agent.views.config.streams["s0"].models[0].name
        self._turn = 1

    @property
    def frame(self) -> int:
        """Of the newest result."""
        return self.seen.results[-1].frame if self.seen.results else 0

    async def frames(self, count: int) -> int:
        """Until so many frames have gone by; the number of the newest."""
        until = self.frame + count
        with anyio.fail_after(PATIENCE_S):
            while self.frame < until:  # noqa: ASYNC110 - what comes is counted, not announced
                await anyio.sleep(0.004)
        return self.frame

    async def swap(self) -> Span:
        """One version for the other, committed; the span is all of it."""
        package = self.packages[self._turn]
        first = self.frame + 1
        await self.engine.load(self.model, *package)
        await self.engine.swap(self.model, package.sha)
        await self.frames(SETTLE)
        await self.engine.commit(self.model)
        last = await self.frames(SETTLE)
        self._turn = 1 - self._turn
        return Span(first, last + 1)

    async def rounds(self, count: int) -> None:
        for _ in range(count):
            deed = await self.swap()
            self.seen.deeds.append(deed)
            self.seen.rss_mb.append(rss_mb(self.pids[-1]))
            first = self.frame + 1
            last = await self.frames(deed.last - deed.first)
            self.seen.controls.append(Span(first, min(last + 1, first + len(deed.frames))))

    async def memory(self, swaps: int) -> Memory:
        """PSS of the child over some swaps; not while times are taken, the look itself costs."""
        pid, held = self.pids[-1], [0.0]
        before = pss_mb(pid)

        async def sample() -> None:
            while True:
                held[0] = max(held[0], await anyio.to_thread.run_sync(pss_mb, pid))
                await anyio.sleep(0.02)

        async with anyio.create_task_group() as group:
            group.start_soon(sample)
            for _ in range(swaps):
                await self.swap()
            group.cancel_scope.cancel()
        return Memory(before, held[0], pss_mb(pid), swaps)

    async def beside(self, frames: int) -> tuple[Seen, dict[str, ShadowCounts]]:
        """As many frames without as with the other version as a shadow on each; and its counts."""
        package = self.packages[self._turn]
        await self.engine.load(self.model, *package)
        await self.frames(SETTLE)
        first = self.frame + 1
        control = Span(first, await self.frames(frames) + 1)
        await self.engine.shadow(self.model, package.sha)
        await self.frames(SETTLE)
        first = self.frame + 1
        deed = Span(first, await self.frames(frames) + 1)
        counts = await self.engine.shadow(self.model, "")
        await self.engine.unload(self.model, package.sha)
        return Seen(results=list(self.seen.results), deeds=[deed], controls=[control]), counts


@asynccontextmanager
async def house(packages: list[Package], model: str, version: str) -> AsyncIterator[House]:
    """The first package runs when it opens; frames flow already."""
    fd = create()
    launch = LaunchChild(fd)
    seen = Seen()

    def heard(record: Record) -> None:
        if isinstance(record, Result):
            seen.results.append(record)

    source = {"kind": "phantom", "scene": "ultrasound", "fps": FPS, "size": (640, 480)}
    with tempfile.TemporaryDirectory(prefix="ea-swap-") as folder:
        dirs = [str(beside(Path(folder) / "dirs", packages[0], model, version))]
        config = msgspec.convert(
            {
                "node": "bench",
                "state_dir": folder,
                "streams": {
                    "s0": {"source": source, "models": [{"name": model}]}  # held to none
                },
                "engine": {"isolation": "thread", "lanes": 1},  # our launcher starts a child
                "models": {"dirs": dirs, "shipped": False},
                "console": {"http": False},
            },
            Config,
        )
        async with running(config, in_process=launch, on_record=heard) as agent:
            Meter(fd).gate(is_open=True)
            one = House(agent, seen, launch.pids, packages)
            await one.frames(WARM_FRAMES)
            yield one
        shown = agent.views.status()["streams"]["s0"]
        seen.captured = int(shown["captured"])
        seen.dropped = sum(shown["dropped"].values())
    os.close(fd)


def beside(root: Path, package: Package, model: str, version: str) -> Path:
    """A folder of models in which this version is current."""
    (root / model).mkdir(parents=True)
    (root / model / version).symlink_to(package.folder, target_is_directory=True)
    (root / model / "current").write_text(f"{version}\n", encoding="ascii")
    return root


def demo() -> list[Package]:
    """us-chamber 1.0.0 and 1.1.0, as they are shipped."""
    store = Models([], shipped=True)
    folders = [store.resolve("us-chamber", version) for version in ("1.0.0", "1.1.0")]
    return [Package(str(one), store.identity(one)) for one in folders]


def big(root: Path) -> list[Package]:
    store = Models([root], shipped=False)
    folders = [models.write_big(root, f"1.{i}.0", seed=i) for i in range(2)]
    return [Package(str(one), store.identity(one)) for one in folders]


def rss_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_MB


def pss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return float("nan")
