"""The shadows of this side, one a model: who starts, stops and is found to hang."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edge_agent.core.errors import Overloaded
from edge_agent.core.trial import ShadowCounts
from edge_agent.inference.seats import Loaded, Run, Seat
from edge_agent.inference.shadow import Shadow, ShadowThread
from edge_agent.inference.stream import Stream
from edge_agent.ports import Clock

MAX_LOST = 1  # threads that never came back
STOP_JOIN_S = 1.0

Runs = Sequence[tuple[Run, Stream]]


class Shadows:
    """`watch` is called from the pulse, the rest from the control thread."""

    def __init__(
        self, clock: Clock, is_idle: Callable[[], bool], *, realtime_wanted: bool = False
    ) -> None:
        self._clock = clock
        self._realtime_wanted = realtime_wanted
        self._is_idle = is_idle
        self._running: dict[str, ShadowThread] = {}  # by model; one that hung stays, for its counts
        self._gone: list[ShadowThread] = []  # stopped; one that hangs still holds its memory

    def sha_of(self, model: str) -> str:
        """Of the version that is the shadow of a model; "" without one."""
        return self._running[model].sha if model in self._running else ""

    def shas(self) -> set[str]:
        return {one.sha for one in tuple(self._running.values()) if not one.is_stopped}

    def start(self, model: str, loaded: Loaded, runs: Runs, every: int) -> None:
        """Instead of the one that may run.

        Raises: Overloaded while one that never came back holds on to its core and its memory.
        """
        self.stop(model, runs)
        self._gone = [thread for thread in self._gone if thread.is_alive]
        now_us = self._clock.boot_us()
        if sum(thread.is_hung(now_us) for thread in self._gone) >= MAX_LOST:
            raise Overloaded(
                f"shadow {model}: a run of an earlier candidate never came back, its thread and "
                "memory are still taken",
                hint="restart the agent when the rooms are idle",
            )
        thread = ShadowThread(
            model, loaded.sha, clock=self._clock, is_idle=self._is_idle,
            realtime_wanted=self._realtime_wanted,
        )  # fmt: skip
        self._running[model] = thread
        thread.start({s.name: Seat(loaded, run.ref.options, s.options) for run, s in runs}, every)
        for run, stream in runs:
            run.shadow = thread.shadows[stream.name]

    def stop(self, model: str, runs: Runs) -> None:
        """Again is harmless."""
        for run, _ in runs:
            run.shadow = None
        thread = self._running.pop(model, None)
        if thread is not None:
            thread.stop()
            self._gone.append(thread)

    def counts(self, model: str) -> dict[str, ShadowCounts]:
        """By stream; empty without a shadow."""
        if model not in self._running:
            return {}
        shadows = self._running[model].shadows
        return {name: one.count.counts(one.waiting) for name, one in shadows.items()}

    def watch(self, now_us: int, runs_of: Callable[[str], Runs]) -> list[tuple[Shadow, str]]:
        """Shadows that have just been found to hang, with their model; they are let go of."""
        found = []
        for thread in tuple(self._running.values()):
            shadow = thread.watch(now_us)
            if shadow is None:
                continue
            for run, _ in runs_of(thread.model):
                run.shadow = None
            found.append((shadow, thread.model))
        return found

    def end(self) -> None:
        """At the end of this side; its runs are gone already, or go with it."""
        for model in tuple(self._running):
            self.stop(model, ())
        for thread in self._gone:
            thread.join(STOP_JOIN_S)
