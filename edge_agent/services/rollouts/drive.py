"""Drives the table of one model: hears, writes down, does. One order is under way at a time.

What `step` says is first a plan (`_Plan`): it counts, and its order begins, when it is on the disk.
While a disk takes nothing, the plan waits and everybody is heard on: who is judged is judged on, a
newer word changes the plan, and what takes a candidate away from the live streams is done at once
and written down after.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

import anyio
import anyio.abc
import anyio.to_thread
import msgspec

from edge_agent import logs
from edge_agent.core.errors import EdgeAgentError
from edge_agent.core.rollout import (
    Do,
    Event,
    Judged,
    Limits,
    Moment,
    Report,
    Resumed,
    RollBackWanted,
    Rollout,
    Stopping,
    Tell,
    Tick,
    Withdrawn,
    kind_of,
    step,
)
from edge_agent.core.rollout.events import Answer
from edge_agent.ports import Clock
from edge_agent.services.rollouts.actions import Actions
from edge_agent.services.rollouts.bench import Bench
from edge_agent.services.rollouts.keep import Keep

TICK_S: Final = 1.0
WRITE_EVERY_S: Final = 60.0  # so much of its time a rollout may forget in a power cut
HEARD_S: Final = 0.01
AGAIN_S: Final = 0.5  # between two tries to write
MAX_WAITING: Final = 64

log = logs.get("rollouts")
OnEnd = Callable[[Report], None]
Objects = Callable[[Rollout], str]  # why what is under way is not what is wanted; "" when it is


class _Plan:
    """What follows once it is written down. heard: of whoever waits for that."""

    def __init__(self, after: Rollout) -> None:
        self.after = after
        self.tells: list[Report] = []
        self.order: Do | None = None
        self.heard: list[anyio.Event] = []


class Drive:
    """Of one model. `hear` and `obey` from the loop; `run` until cancelled."""

    def __init__(
        self,
        document: Rollout,
        bench: Bench,
        keep: Keep,
        *,
        limits: Limits,
        on_end: OnEnd,
        objects: Objects,
        boot: str,
    ) -> None:
        self.document = document
        self.is_over = False  # the service fell, or stopped: nobody hears here any more
        self.trouble = self.fix = ""  # why nothing can be written down, and what to do
        self._keep = keep
        self._limits = limits
        self._on_end = on_end
        self._objects = objects
        self._clock: Clock = bench.clock
        self._actions = Actions(document.model, bench, self.hear)
        self._events: deque[tuple[Event, anyio.Event | None]] = deque()
        self._woken = anyio.Event()
        self._plan: _Plan | None = None
        self._to_write = anyio.Event()
        self._written_s = 0.0
        self._group: anyio.abc.TaskGroup | None = None
        self._under_way: anyio.CancelScope | None = None
        self._acting = anyio.Lock()
        self.hear(Resumed(boot=boot))

    @property
    def newest(self) -> Rollout:
        """With what waits for the disk."""
        return self._plan.after if self._plan else self.document

    # ── what is heard ─────────────────────────────────────────────────────────────────────────

    def hear(self, event: Event) -> None:
        """Of judgements and moments only the newest waits. Others are lost when too many wait, but
        never the word of a person; every order is asked again by its deadline.
        """
        if isinstance(event, Judged | Moment):
            same = [one for one in self._events if type(one[0]) is type(event)]
            for one in same:
                self._events.remove(one)
        elif len(self._events) >= MAX_WAITING and not isinstance(event, RollBackWanted):
            log.warning("too much at once", model=self.document.model, event=type(event).__name__)
            return
        self._events.append((event, None))
        self._woken.set()

    def look_again(self) -> None:
        """What is wanted may be another thing now."""
        self.hear(Tick())

    async def obey(self, event: Event, timeout_s: float) -> bool:
        """The word of a person: heard at once, before all that waits. True when what follows from
        it is written down; False when the disk does not take it within that time: it holds all the
        same, and is tried on.
        """
        written = anyio.Event()
        self._events.appendleft((event, written))
        self._woken.set()
        with anyio.move_on_after(timeout_s):
            while not (written.is_set() or self.is_over):  # noqa: ASYNC110 - of two, the first
                await anyio.sleep(HEARD_S)
        return written.is_set()

    async def run(self) -> None:
        async with anyio.create_task_group() as self._group:
            await self._actions.clear()
            self._group.start_soon(self._write_on)
            try:
                while True:
                    event, heard = await self._next()
                    self._take(event, heard)
            except anyio.get_cancelled_exc_class():  # a bug of ours is no orderly end
                with anyio.CancelScope(shield=True):
                    await self._last_word()
                raise
            finally:
                self.is_over = True
                self._group.cancel_scope.cancel()

    async def _next(self) -> tuple[Event, anyio.Event | None]:
        if not self._events:
            self._woken = anyio.Event()
            with anyio.move_on_after(TICK_S):
                await self._woken.wait()
        return self._events.popleft() if self._events else (Tick(), None)

    # ── what follows ──────────────────────────────────────────────────────────────────────────

    def _take(self, event: Event, heard: anyio.Event | None) -> None:
        """First the one rule: what is under way has to be what is wanted, before anything else."""
        if not isinstance(event, Resumed) and (why := self._objects(self.newest)):
            self._step(Withdrawn(reason=why), None)
        self._step(event, heard)

    def _step(self, event: Event, heard: anyio.Event | None) -> None:
        now_s = self._clock.boot_us() / 1e6
        plan = self._plan
        late = plan is not None and isinstance(event, Answer) and event.turn != plan.after.turn
        before = self.document if plan is None or late else plan.after
        after, acts = step(before, event, now_s, self._limits)
        order = next((act for act in acts if isinstance(act, Do)), None)
        is_safe = order is not None and kind_of(order.order).safe
        if late and not is_safe:
            return  # an answer to an order that the plan has given up
        if _essence(after) == _essence(before):
            self._passed(after, now_s, heard)
            return
        self._planned(plan, after, acts, heard, keeps=not late)
        if is_safe:
            self._settle()
        self._to_write.set()

    def _passed(self, after: Rollout, now_s: float, heard: anyio.Event | None) -> None:
        """Only time went by, or figures came. Nobody waits for the disk because of that."""
        if self._plan is not None:
            self._plan.after = after
        else:
            self.document = after
        if heard is not None and self._plan is None:
            heard.set()
        elif heard is not None and self._plan is not None:
            self._plan.heard.append(heard)
        if now_s - self._written_s >= WRITE_EVERY_S:
            self._written_s = now_s
            self._to_write.set()

    def _planned(
        self,
        plan: _Plan | None,
        after: Rollout,
        acts: tuple[Do | Tell, ...],
        heard: anyio.Event | None,
        *,
        keeps: bool,
    ) -> None:
        new = _Plan(after)
        if plan is not None:
            new.heard = plan.heard
            if keeps:
                new.tells, new.order = plan.tells, plan.order
        for act in acts:
            if isinstance(act, Tell):
                new.tells.append(act.report)
            else:
                new.order = act
        if new.order is not None and new.order.turn != after.turn:
            new.order = None  # of a state that was given up before it began
        if heard is not None:
            new.heard.append(heard)
        self._plan = new

    def _settle(self) -> None:
        """The plan counts from now on. Of what is done before it is written, the report waits."""
        plan = self._plan
        assert plan is not None
        before, self.document = self.document, plan.after
        if plan.after.state is not before.state:
            wanted = plan.after.wanted
            log.info(
                "rollout", model=plan.after.model, state=plan.after.state.value,
                version=wanted.version if wanted else "", why=plan.after.report.reason,
            )  # fmt: skip
        if plan.order is not None or plan.after.turn != before.turn:
            self._give_up()
        if plan.order is not None:
            self._begin(plan.order)
            plan.order = None

    def _give_up(self) -> None:
        if self._under_way is not None:
            self._under_way.cancel()
            self._under_way = None

    def _begin(self, order: Do) -> None:
        assert self._group is not None
        self._under_way = anyio.CancelScope()
        self._group.start_soon(self._do, order, self.document, self._under_way)

    async def _do(self, order: Do, document: Rollout, scope: anyio.CancelScope) -> None:
        """One at a time, also when a disk holds up the one before; what is safe is done first."""
        with scope:
            if kind_of(order.order).safe:
                await self._actions.take_away(order)
            if order.wait_s:
                await anyio.sleep(order.wait_s)
            async with self._acting:
                await self._actions.do(order, document)

    # ── the disk ──────────────────────────────────────────────────────────────────────────────

    async def _write_on(self) -> None:
        """Writes whatever is newest, again and again until it is there."""
        while True:
            await self._to_write.wait()
            self._to_write = anyio.Event()
            plan, document = self._plan, self.newest
            if not await self._written(document):
                await anyio.sleep(AGAIN_S)
                self._to_write.set()
            elif (
                plan is not None
                and plan is self._plan
                and _essence(plan.after) == _essence(document)
            ):
                self._settle()
                self._plan = None
                for report in plan.tells:
                    self._on_end(report)
                for heard in plan.heard:
                    heard.set()
            elif self._plan is not None:  # a newer word came meanwhile
                self._to_write.set()

    async def _written(self, document: Rollout) -> bool:
        try:
            await anyio.to_thread.run_sync(self._keep.write, document)
        except EdgeAgentError as disk:
            self.trouble, self.fix = disk.what, disk.hint
            return False
        self.trouble, self._written_s = "", self._clock.boot_us() / 1e6
        return True

    async def _last_word(self) -> None:
        after, _ = step(self.newest, Stopping(), self._clock.boot_us() / 1e6, self._limits)
        await self._written(after)


def _essence(document: Rollout) -> Rollout:
    """What has to survive: all but the passing of time, and figures that come again."""
    return msgspec.structs.replace(
        document, at_s=0.0, spent_s=0.0, total_s=0.0, waits_for="",
        report=document.report if document.is_settled else Report(),
    )  # fmt: skip
