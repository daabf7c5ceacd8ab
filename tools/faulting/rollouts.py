"""Rollouts while everything falls over: whole agents, random wishes, orders and faults, judged.

A cycle is an episode of some seconds. Then faults end, and within `REST_S` the agent has to come to
what the words that hold then mean. Ten cycles share a world, a device with its past; at the end of
each its records are counted. What befalls a cycle follows from seed and number alone; how it falls
in time does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import msgspec

from tools.broker import free_port
from tools.faulting.children import Children, Fell, nursery
from tools.faulting.downward import disks, judge, plan
from tools.faulting.downward.aboard import STRACE, Aboard
from tools.faulting.downward.deeds import GONE, Deeds
from tools.faulting.downward.judge import Flaw
from tools.faulting.downward.packages import FIRST
from tools.faulting.downward.rest import DEFERRED, waits_for
from tools.faulting.downward.seen import Rest, course
from tools.faulting.downward.site import Site
from tools.faulting.downward.watch import Watch
from tools.faulting.downward.words import Made, Words, now_s
from tools.faulting.promises import differing, read_receiver, read_told, verdict

WORLD_CYCLES: Final = 10
BACKLOG_S: Final = 2.0
REST_S: Final = 120.0  # what was put off is tried again after 20 s and more
CALM_S: Final = 0.6  # so long all has to be well
DRAIN_S: Final = 120.0
LOOK_S: Final = 0.1
MAX_LINE: Final = 320  # characters


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """first: number of the first cycle; a seed and a number are what it takes to repeat one."""

    cycles: int
    seed: int
    first: int = 1
    trace: bool = False


class Found(msgspec.Struct, kw_only=True):
    """broken: by cycle, the last world's records under the number of its last."""

    counts: Counter[str] = msgspec.field(default_factory=Counter)
    broken: list[dict[str, Any]] = []
    promised: int = 0
    lost: int = 0
    doubled: int = 0

    def add(self, cycle: int, flaws: list[Flaw]) -> None:
        self.broken += [{"cycle": cycle, "name": one.name, "what": one.what} for one in flaws]


def unable() -> frozenset[str]:
    """Kinds of deeds that this machine does not let us do. Also takes the mounts for itself."""
    found = frozenset() if disks.own_mounts() else plan.NEEDS_ROOT
    return found if STRACE else found | plan.NEEDS_STRACE


async def rollouts(folder: Path, order: Plan) -> dict[str, Any]:
    """The sheet."""
    start_s, found, skipped = time.monotonic(), Found(), unable()
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):  # nobody of ours outlives us
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    last = order.first + order.cycles
    for first in range(order.first, last, WORLD_CYCLES):
        place = folder / f"world-{first}"
        place.mkdir()
        numbers = range(first, min(first + WORLD_CYCLES, last))
        await _world(place, order, numbers, skipped, found)
    return {
        "cycles": order.cycles,
        "seed": order.seed,
        "deeds": {kind: found.counts[kind] for kind in plan.KINDS if kind not in skipped},
        "skipped": sorted(skipped),
        "promised": found.promised,
        "lost": found.lost,
        "doubled": found.doubled,
        "broken": found.broken,
        "seconds": round(time.monotonic() - start_s, 1),
        "ok": not found.broken,
    }


async def _world(
    folder: Path, order: Plan, numbers: range, skipped: frozenset[str], found: Found
) -> None:
    async with _opened(folder, order.seed + numbers[0], skipped) as world:
        for number in numbers:
            cycle = plan.cycle_of(order.seed, number, skipped)
            flaws = await _told(world, number, cycle)
            found.add(number, flaws)
            if flaws or order.trace:
                world.tell()
        found.counts += world.deeds.counts
        flaws = await world.over()
    flaws += _records(folder, world, found)
    found.add(numbers[-1], flaws)
    _tell(flaws)


def _records(folder: Path, world: World, found: Found) -> list[Flaw]:
    """What was promised against what came; nobody may have the database open any more."""
    aboard, told = world.aboard, read_told(folder / "told")
    told.next = {key: max(told.next.get(key, 1), end) for key, end in aboard.next.items()}
    told.closed = {**aboard.next, **told.closed}
    wrong = differing(folder, aboard.bodies)
    result = verdict(told, read_receiver(folder), wrong=wrong)
    found.promised += result["promised"]
    found.lost += result["lost"]
    found.doubled += result["doubled"]
    return [] if result["ok"] else [Flaw("records", str(result))]


@asynccontextmanager
async def _opened(folder: Path, seed: int, skipped: frozenset[str]) -> AsyncIterator[World]:
    words = Words()
    async with AsyncExitStack() as stack:
        if not skipped & plan.NEEDS_ROOT:
            state = folder / "state"
            for place, size in ((state, disks.STATE_BYTES), (state / "models", disks.STORE_BYTES)):
                assert disks.mounted(place, size), f"mount {place}"
                stack.callback(disks.unmounted, place)
        site = await stack.enter_async_context(Site(folder, seed, words).open())
        children = await stack.enter_async_context(nursery(folder / "children.log"))
        aboard = Aboard(folder, site.road.port, url=site.url, root=site.root)
        await _backlog(children, folder)
        aboard.look()
        words.made[FIRST] = Made(FIRST, aboard.first_sha, "good")
        world = World(site, aboard, children, words)
        try:
            await aboard.up()
            group = await stack.enter_async_context(anyio.create_task_group())
            group.start_soon(world.watch.run)
            yield world
            group.cancel_scope.cancel()
        finally:
            if aboard.process is not None and aboard.process.returncode is None:
                aboard.process.kill()
                await aboard.process.wait()


async def _backlog(children: Children, folder: Path) -> None:
    """Of a life before, which nobody has taken."""
    state = folder / "state"
    state.mkdir(mode=0o700, exist_ok=True)
    order = {"folder": str(state), "told": str(folder / "told"), "port": free_port()}
    agent = await children.start("agent", **order, drain=False)
    await asyncio.sleep(BACKLOG_S)
    await children.kill(agent)


async def _told(world: World, number: int, cycle: plan.Cycle) -> list[Flaw]:
    """One cycle, as a line."""
    start_s = time.monotonic()
    flaws = await world.cycle(cycle)
    took_s = time.monotonic() - start_s
    look = world.watch.newest
    end = f"{look.live} live, {look.state or 'nothing'} {look.version}".strip()
    print(
        f"{number:4} {'broken' if flaws else 'ok':6} {took_s:6.1f} s  "
        f"{' '.join(world.deeds.done) or 'nothing'} | {end}",
        flush=True,
    )
    _tell(flaws)
    return flaws


def _tell(flaws: list[Flaw]) -> None:
    for flaw in flaws:
        print(f"       {flaw.name}: {flaw.what}", flush=True)


class World:
    """One device with its past, and all that is around it."""

    def __init__(self, site: Site, aboard: Aboard, children: Children, words: Words) -> None:
        self.watch = Watch(aboard, words)
        self.deeds = Deeds(site, aboard, self.watch, words)
        self.aboard = aboard
        self._site, self._children = site, children
        self._words = words
        self._log_bytes = 0

    async def cycle(self, cycle: plan.Cycle) -> list[Flaw]:
        self.watch.begin()
        self._log_bytes = self.aboard.log_bytes()
        self.deeds.done = []
        if cycle.eased:
            await self.deeds.ease(all_of_it=True)
        await self.deeds.do(cycle.deeds)
        await self.deeds.ease(all_of_it=False)
        self.watch.seen.rest = await self._rest()
        with contextlib.suppress(*GONE):
            await self.watch.history()
        return judge.flaws(self._words, self.watch.seen)

    async def _rest(self) -> Rest:
        until_s, well_s, why = now_s() + REST_S, 0.0, "it does not answer"
        while now_s() < until_s:
            if self.aboard.has_ended():
                await self.deeds.revive()
            with contextlib.suppress(*GONE):
                look = await self.watch.look()
                why = waits_for(self._words, look) or self._left()
                well_s = well_s or look.at_s
            well_s = 0.0 if why else well_s
            if well_s and now_s() - well_s > CALM_S:
                break
            await asyncio.sleep(LOOK_S)
        strays, self.watch.strays = self.watch.strays, []
        return Rest(
            at_s=now_s(), waits_for=why, left_over=self._left_over(),
            orphans=strays + await self.aboard.orphans(), broken=self.aboard.broken(),
        )  # fmt: skip

    def _left(self) -> str:
        """Room is made by an installer, some time after the end."""
        left = self._left_over()
        return f"left over: {', '.join(left[:3])}" if left else ""

    def _left_over(self) -> list[str]:
        """A download that was put off stays, and is gone on with."""
        look = self.watch.newest
        put_off = self._words.sha_of(look.version) if look.state == DEFERRED else "-"
        return [one for one in self.aboard.left_over() if one != f"models/.incoming/{put_off}"]

    def tell(self) -> None:
        """How the cycle went, for whoever has to find out why."""
        for line in [*course(self.watch.seen), *self.aboard.log_since(self._log_bytes)]:
            print(f"       {line[:MAX_LINE]}", flush=True)

    async def over(self) -> list[Flaw]:
        """Stopped, and what is left of its records drained."""
        aboard, flaws = self.aboard, []
        assert aboard.process is not None
        async with aboard.lock:
            try:
                await aboard.stop(aboard.process)
                aboard.look()
            except (Fell, asyncio.TimeoutError) as fell:
                flaws.append(Flaw("ended", str(fell)[:1500]))
        if not await self._drained():
            flaws.append(Flaw("records", f"not drained within {DRAIN_S:.0f} s"))
        return flaws

    async def _drained(self) -> bool:
        told, children = self._site.folder / "told", self._children
        last = await children.start(
            "agent", folder=str(self.aboard.state), told=str(told), port=self._site.road.port,
            drain=True,
        )  # fmt: skip
        until_s = now_s() + DRAIN_S
        while not told.exists() or b"\ndrained\n" not in told.read_bytes():
            if now_s() > until_s:
                return False
            await asyncio.sleep(LOOK_S)
        await self._site.settled()
        await children.stop(last)
        return True
