"""The desk between capture and lanes: one slot per model and stream, earliest deadline first.

A slot's manners are `latest`: a newer frame takes the place of the one that waits, and the loss is
counted. A recorded source may `wait` instead (`wait_free`). Nothing else here blocks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

from edge_agent.core import schedule
from edge_agent.core.frames import Drop, Frame
from edge_agent.inference.seats import Offered, Run

IDLE_S = 0.25  # an idle lane turns four times a second, for the watchdog


class Job(NamedTuple):
    """A frame that a lane has taken."""

    run: Run
    frame: Frame
    deadline_us: int
    poor: bool
    level: int
    every: int


Lost = Callable[[Run, Drop], None]


class Desk:
    """`lost(run, why)` is called under the desk's lock for every frame that gets no result."""

    def __init__(self, now_us: Callable[[], int], lost: Lost) -> None:
        self._now_us = now_us
        self._lost = lost
        self._runs: list[Run] = []
        self._turn = threading.Lock()
        # Apart: a frame's one wake-up must reach a lane, never a source that waits for its result.
        self._work = threading.Condition(self._turn)
        self._free = threading.Condition(self._turn)
        self._closed = False

    def seat(self, runs: Sequence[Run]) -> None:
        with self._turn:
            self._runs.extend(runs)

    def leave(self, runs: Sequence[Run], why: Drop, timeout_s: float) -> None:
        """These runs are gone; a frame that still waits is lost for that reason.

        Returns when no lane works on them any more, or after `timeout_s` when one hangs.
        """
        with self._turn:
            for run in runs:
                if run in self._runs:
                    self._runs.remove(run)
                self._forget(run, why)
            self._free.notify_all()
            self._free.wait_for(lambda: not any(run.busy for run in runs), timeout_s)

    def put(self, run: Run, offered: Offered) -> None:
        with self._turn:
            self._forget(run, Drop.OVERWRITTEN)
            if self._closed:
                self._lost(run, Drop.SHUTDOWN)
                return
            run.waiting = offered
            self._work.notify()

    def wait_free(self, run: Run, timeout_s: float) -> bool:
        """For recorded sources: True once nothing waits or runs for this run."""
        with self._turn:
            return self._free.wait_for(
                lambda: self._closed or (run.waiting is None and not run.busy), timeout_s
            )

    def take(self) -> Job | None:
        """The most urgent job; None after an idle quarter of a second or at the close."""
        with self._turn:
            job = self._pick()
            if job is None and not self._closed:
                self._work.wait(IDLE_S)
                job = self._pick()
            return job

    def done(self, run: Run) -> None:
        with self._turn:
            run.busy = False
            self._free.notify_all()
            self._work.notify()  # the frame that came meanwhile may be another lane's

    def close(self) -> None:
        """No more frames; those that wait are booked as lost at shutdown."""
        with self._turn:
            self._closed = True
            for run in self._runs:
                self._forget(run, Drop.SHUTDOWN)
            self._free.notify_all()
            self._work.notify_all()

    @property
    def is_idle(self) -> bool:
        """No frame waits for a lane. Looked at without the lock: a frame may come just then."""
        return all(run.waiting is None for run in tuple(self._runs))

    @property
    def is_closed(self) -> bool:
        return self._closed

    def _forget(self, run: Run, why: Drop) -> None:
        if run.waiting is not None:
            run.waiting = None
            self._lost(run, why)

    def _pick(self) -> Job | None:
        while True:
            ready = (run.ready(key) for key, run in enumerate(self._runs))
            best = schedule.pick(item for item in ready if item is not None)
            if best is None:
                return None
            run = self._runs[best.key]
            offered = run.waiting
            assert offered is not None
            if schedule.judge(best, self._now_us(), run.estimate_us) == "late":
                self._forget(run, Drop.LATE)
                run.estimate_us = schedule.doubt(run.estimate_us)
                continue
            run.waiting, run.busy = None, True
            return Job(run, *offered)
