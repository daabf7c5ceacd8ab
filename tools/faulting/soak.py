"""One agent that lives on while everything around it falls over again and again.

Mode 0: EdgeCore has a broker of its own, which dies with it. EdgeCore is restarted, its road is
silent for seconds and then reset, its link is cut, the road to the broker too, the receiver is
killed: in turn, by chance, until the time is over. Then the agent ends, what is left drains, and
its promises are compared with what the receiver has, and the books of both ends with each other.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from tools.faulting.kill import begin, drain_left, figures
from tools.faulting.promises import differing, read_receiver, read_told, verdict
from tools.faulting.ward import Plan, Ward
from tools.faulting.whole import Whole

PAUSE_S: Final = 0.6  # the longest without anything falling over
ROUGH: Final = Plan(
    cycles=1, seed=1, mode=0, noticed_s=0.5,
    cut=0.25, broker=0.0, edgecore=0.3, cloud=0.2, receiver=0.2, silent=0.35,
)  # fmt: skip


async def soak(folder: Path, seconds: float, seed: int, *, whole: bool = False) -> dict[str, Any]:
    """whole: the agent as it is run, with an engine. Raises: Fell."""
    start_s = time.monotonic()
    async with Ward(folder, msgspec.structs.replace(ROUGH, seed=seed)) as ward:
        agent = await _whole_life(ward, folder, seconds) if whole else None
        if agent is None:
            await _life(ward, folder, seconds)
        drain_s = await drain_left(ward, agent.state if agent else folder)
        counts = ward.counts
    told = read_told(ward.told)
    wrong = None if agent is None else differing(folder, agent.bodies)
    if agent is not None:
        told.next, told.closed = agent.next, {**agent.next, **told.closed}
    found = verdict(told, read_receiver(folder), wrong=wrong)
    return {**figures(ward, told, start_s, drain_s), "edgecore": counts, **found}


async def _life(ward: Ward, folder: Path, seconds: float) -> None:
    agent = await begin(ward, folder)
    await _suffer(ward, seconds)
    await ward.children.kill(agent)


async def _whole_life(ward: Ward, folder: Path, seconds: float) -> Whole:
    whole = Whole(folder, ward.port)
    agent = await whole.start()
    await whole.begun()
    await _suffer(ward, seconds)
    await whole.stop(agent)
    await asyncio.to_thread(whole.look)
    return whole


async def _suffer(ward: Ward, seconds: float) -> None:
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        await ward.upset()
        await asyncio.sleep(ward.dice.random() * PAUSE_S)
