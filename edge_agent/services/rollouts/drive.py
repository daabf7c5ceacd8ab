"""Drives the table of one model: hears, writes down, does. One order is under way at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import anyio
import anyio.abc
import anyio.to_thread
import msgspec

from edge_agent import logs
from edge_agent.core.errors import Damaged
from edge_agent.core.rollout import (
    Do,
    Event,
    Limits,
    Report,
    Resumed,
    Rollout,
    Stopping,
    Tell,
    Tick,
    step,
)
from edge_agent.ports import Clock
from edge_agent.services.rollouts.bench import Bench
from edge_agent.services.rollouts.hands import Hands
from edge_agent.services.rollouts.keep import Keep

TICK_S: Final = 1.0
WRITE_EVERY_S: Final = 60.0  # so much of its time a rollout may forget in a power cut
AGAIN_S: Final = 1.0
MAX_WAITING: Final = 64
SAFE: Final = frozenset({"roll_back", "restart"})  # not even a full disk keeps us from these

log = logs.get("rollouts")
OnEnd = Callable[[Report], None]


class Drive:
    """Of one model. `hear` from the loop; `run` until cancelled."""

    def __init__(
        self, document: Rollout, bench: Bench, keep: Keep, *, limits: Limits, on_end: OnEnd
    ) -> None:
        self.document = document
        self.trouble = ""  # why nothing can be written down
        self._keep = keep
        self._limits = limits
        self._on_end = on_end
        self._clock: Clock = bench.clock
        self._hands = Hands(document.model, bench, self.hear)
        self._events: asyncio.Queue[Event] = asyncio.Queue(MAX_WAITING)
        self._written_s = 0.0
        self._changed = anyio.Event()
        self.hear(Resumed())

    def hear(self, event: Event) -> None:
        """What does not fit any more is lost; every order is asked again by its deadline."""
        try:
            self._events.put_nowait(event)
        except asyncio.QueueFull:
            log.warning("too much at once", model=self.document.model, event=type(event).__name__)

    async def changed(self) -> None:
        """Until the document is another one."""
        await self._changed.wait()

    async def run(self) -> None:
        async with anyio.create_task_group() as group:
            under_way: anyio.CancelScope | None = None
            await self._hands.clear(self.document)
            try:
                while True:
                    order = await self._heard(await self._next())
                    if order is None and self.document.order not in ("", "pause"):
                        continue
                    if under_way is not None:
                        under_way.cancel()
                        under_way = None
                    if order is not None:
                        under_way = anyio.CancelScope()
                        group.start_soon(self._do, order, self.document, under_way)
            except anyio.get_cancelled_exc_class():  # a bug of ours is no orderly end
                with anyio.CancelScope(shield=True):
                    await self._heard(Stopping())
                raise

    async def _do(self, order: Do, document: Rollout, scope: anyio.CancelScope) -> None:
        with scope:
            await self._hands.do(order, document)

    async def _next(self) -> Event:
        with anyio.move_on_after(TICK_S):
            return await self._events.get()
        return Tick()

    async def _heard(self, event: Event) -> Do | None:
        """The order that follows, once it is written down."""
        now_s = self._clock.boot_us() / 1e6
        before = self.document
        after, acts = step(before, event, now_s, self._limits)
        is_new = _essence(after) != _essence(before)
        if is_new or now_s - self._written_s >= WRITE_EVERY_S:
            await self._write(after, now_s, waits=not isinstance(event, Stopping))
        self.document = after
        if is_new:
            self._tell_change(before, after)
        order = None
        for act in acts:
            if isinstance(act, Tell):
                self._on_end(act.report)
            else:
                order = act
        return order

    def _tell_change(self, before: Rollout, after: Rollout) -> None:
        if after.state is not before.state:
            wanted = after.wanted
            log.info("rollout", model=after.model, state=after.state.value,
                     version=wanted.version if wanted else "", why=after.report.reason)  # fmt: skip
        self._changed.set()
        self._changed = anyio.Event()

    async def _write(self, document: Rollout, now_s: float, *, waits: bool) -> None:
        """Nothing is done before it is written down, but what makes the live stream safe."""
        while True:
            try:
                await anyio.to_thread.run_sync(self._keep.write, document)
            except Damaged as full:
                self.trouble = full.what
                if document.order in SAFE or not waits:
                    return
                await anyio.sleep(AGAIN_S)
            else:
                self.trouble, self._written_s = "", now_s
                return


def _essence(document: Rollout) -> Rollout:
    """What has to survive: all but the passing of time, and figures that come again."""
    return msgspec.structs.replace(
        document, at_s=0.0, spent_s=0.0, total_s=0.0, waits_for="",
        report=document.report if document.is_settled else Report(),
    )  # fmt: skip
