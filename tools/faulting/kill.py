"""Kill -9 at any moment, while broker, EdgeCore, road and receiver fall over too.

Each cycle is one life of an agent, from its start to its death, at a random moment between opening,
committing, sending, acknowledging. One more life drains what is left. Then promises are compared
with what the receiver has.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path
from typing import Any, Final

from tools.faulting.children import Fell
from tools.faulting.promises import Told, differing, read_receiver, read_told, verdict
from tools.faulting.ward import Plan, Ward
from tools.faulting.whole import Whole

DRAIN_S: Final = 120.0
BEGIN_S: Final = 10.0
LOOK_S: Final = 0.01


async def ordeal(folder: Path, plan: Plan) -> dict[str, Any]:
    """Of spool and uplink. Raises: Fell when a child ended by itself, or never drains."""
    start_s = time.monotonic()
    async with Ward(folder, plan) as ward:
        for cycle in range(plan.cycles):
            agent, before = await _agent(ward, folder), _promised(ward.told)
            if cycle % 3:  # the others may die before they have begun
                await _begun(ward.told, before)
            await _live(ward, ward.dice.random() * plan.life_s)
            await ward.children.kill(agent)
        drain_s = await drain_left(ward, folder)
    told = read_told(ward.told)
    found = verdict(told, read_receiver(folder))
    return {**figures(ward, told, start_s, drain_s), **found}


async def whole_ordeal(folder: Path, plan: Plan) -> dict[str, Any]:
    """Of the whole agent; at the end one that is stopped, and its spool drained. Raises: Fell."""
    start_s = time.monotonic()
    async with Ward(folder, plan) as ward:
        whole = Whole(folder, ward.port)
        for cycle in range(plan.cycles):
            agent = await whole.start()
            if cycle % 3:  # the others may die before they have begun
                await whole.begun()
            await _live(ward, ward.dice.random() * plan.life_s)
            await whole.kill(agent)
        agent = await whole.start()
        await whole.begun()
        await whole.stop(agent)
        drain_s = await drain_left(ward, whole.state)
    told = read_told(ward.told)
    told.next = whole.next
    told.closed = {**whole.next, **told.closed}
    found = verdict(told, read_receiver(folder), wrong=differing(folder, whole.bodies))
    return {**figures(ward, told, start_s, drain_s), **found}


def figures(ward: Ward, told: Told, start_s: float, drain_s: float) -> dict[str, Any]:
    return {
        "cycles": ward.plan.cycles,
        "seed": ward.plan.seed,
        "opened": len(told.reopen_ms),
        "reopen_ms": {
            "p50": round(statistics.median(told.reopen_ms), 1),
            "max": max(told.reopen_ms),
        },
        "deeds": dict(sorted(ward.deeds.items())),
        "drain_s": round(drain_s, 1),
        "seconds": round(time.monotonic() - start_s, 1),
    }


async def _agent(ward: Ward, state: Path, *, drain: bool = False) -> int:
    return await ward.children.start(
        "agent", folder=str(state), told=str(ward.told), port=ward.port, drain=drain
    )


async def begin(ward: Ward, state: Path) -> int:
    """The pid of a new agent that has promised something."""
    before = _promised(ward.told)
    agent = await _agent(ward, state)
    await _begun(ward.told, before)
    return agent


async def _begun(told: Path, before: int) -> None:
    """Until an agent has promised something; at most so long."""
    until_s = time.monotonic() + BEGIN_S
    while _promised(told) == before and time.monotonic() < until_s:  # noqa: ASYNC110
        await asyncio.sleep(LOOK_S)


def _promised(told: Path) -> int:
    return told.read_bytes().count(b"\nnext ") if told.exists() else 0


async def _live(ward: Ward, life_s: float) -> None:
    """Somewhere in it some of the others fall over."""
    before_s = ward.dice.random() * life_s
    await asyncio.sleep(before_s)
    await ward.upset()
    await asyncio.sleep(life_s - before_s)


async def drain_left(ward: Ward, state: Path) -> float:
    """Until nothing is held here and nobody is waited for there; how long the first took."""
    start_s = time.monotonic()
    last = await _agent(ward, state, drain=True)
    while not ward.told.read_bytes().count(b"\ndrained\n"):
        if time.monotonic() - start_s > DRAIN_S:
            raise Fell(f"not drained within {DRAIN_S:.0f} s\n{ward.children.said()}")
        await asyncio.sleep(LOOK_S)
    took_s = time.monotonic() - start_s
    await ward.waiting_ended()
    await ward.children.stop(last)
    await ward.rest()
    return took_s
