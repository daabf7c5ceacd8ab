"""A candidate that runs beside the live model, on the same frames, without ever delaying them.

It has buffers of its own, a slot of one frame and one low-priority thread for all streams of its
model. A lane only drops a frame into the slot: no lock, no wait. When the machine is short of time
the shadow goes first: frames that it does not get to are counted as `late`. What it says becomes a
count, never a record.

A run that hangs can't be killed inside a process, only asked to end (`Bound.cancel`, heeded between
two operators). So the watch declares it hung, lets go of it and asks; a thread that does not even
then come back stays until this side is restarted. One such is borne, then shadows are refused.
Only time that was its own counts: a machine that is loaded by others starves the shadow first.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import NamedTuple

from edge_agent.core import blame
from edge_agent.core.errors import BadFrame, NotFinite
from edge_agent.core.frames import Frame
from edge_agent.inference import realtime
from edge_agent.inference.counts import ShadowCount
from edge_agent.inference.interpret import Findings
from edge_agent.inference.seats import Seat
from edge_agent.ports import Clock

IDLE_S = 0.25
GIVE_WAY_S = 0.002  # between two looks whether live frames still wait
GIVE_WAY_TIMES = 25
HANG_LEAST_US = 2_000_000
HANG_BUDGETS = 20  # of the model's own latency budget
ON_THE_CORE = ("onnx",)  # backends whose run is on the calling thread: its time there is told


class Looked(NamedTuple):
    """A frame that the live model has answered. every: frames from one to the next of these."""

    frame: Frame
    at_us: int
    every: int
    findings: Findings
    took_us: float


class Glimpse(NamedTuple):
    """A run as the watch saw it first. since_us: which one it is."""

    since_us: int
    at_us: int
    spent: blame.Spent


class Shadow:
    """One candidate on one stream."""

    def __init__(
        self, stream: str, seat: Seat, every: int, bell: SimpleQueue[Shadow | None]
    ) -> None:
        self.stream = stream
        self.seat = seat
        self.every = every
        self.count = ShadowCount()
        self._bell = bell
        self._slot: deque[Looked] = deque(maxlen=1)
        self._rung = False

    def offer(self, looked: Looked | None) -> None:
        """From the lane, which never waits here. None: the level leaves no time for it."""
        self.count.offered += 1
        if looked is None:
            return
        self._slot.append(looked)
        if not self._rung:  # at most one in the queue, however long the shadow takes
            self._rung = True
            self._bell.put(self)

    def take(self) -> Looked | None:
        self._rung = False  # before the look: whoever came before it is seen
        try:
            return self._slot.popleft()
        except IndexError:
            return None

    @property
    def waiting(self) -> int:
        return len(self._slot)


class ShadowThread:
    """All shadows of one candidate. `watch` is called by whoever keeps time, again and again."""

    def __init__(
        self,
        model: str,
        sha: str,
        *,
        clock: Clock,
        is_idle: Callable[[], bool],
        realtime_wanted: bool,
    ) -> None:
        self.model = model
        self.sha = sha
        self._realtime_wanted = realtime_wanted
        self.shadows: dict[str, Shadow] = {}
        self._clock = clock
        self._is_idle = is_idle
        self._bell: SimpleQueue[Shadow | None] = SimpleQueue()  # None: look whether to stop
        self._stopped = threading.Event()
        self._stopped_us = 0
        self._found_hung = False
        self._busy: tuple[Shadow, Seat, int] | None = None  # with whom, since when
        self._glimpse: Glimpse | None = None
        self._thread = threading.Thread(target=self._body, name=f"shadow-{model}", daemon=True)

    def start(self, seats: Mapping[str, Seat], every: int) -> None:
        """seats: by stream, of this thread alone."""
        self.shadows = {name: Shadow(name, seat, every, self._bell) for name, seat in seats.items()}
        self._thread.start()

    def stop(self) -> None:
        """Returns at once; a run under way is asked to end."""
        self._stopped_us = self._clock.boot_us()
        self._stopped.set()
        self._bell.put(None)  # its memory is wanted back now
        busy = self._busy
        if busy is not None:
            busy[1].bound.cancel()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def is_stopped(self) -> bool:
        return self._stopped.is_set()

    def is_hung(self, now_us: int) -> bool:
        """It was asked to end a run, and has not come back from it though it had time to."""
        late = now_us - self._stopped_us > HANG_LEAST_US
        return self.is_stopped and self.is_alive and (self._found_hung or late)

    def watch(self, now_us: int) -> Shadow | None:
        """The shadow that has just been found to hang, once; the whole candidate is then let go."""
        busy = self._busy
        if busy is None or self._stopped.is_set():
            return None
        shadow, seat, since_us = busy
        glimpse = self._glimpse
        if glimpse is None or glimpse.since_us != since_us:
            self._glimpse = Glimpse(since_us, now_us, self._spent())
            return None
        budget_us = seat.loaded.manifest.latency_budget_ms * 1000
        limit_us = max(HANG_LEAST_US, HANG_BUDGETS * budget_us)
        elapsed_us = now_us - glimpse.at_us
        if elapsed_us <= limit_us or self._own_us(glimpse, elapsed_us) <= limit_us:
            return None
        shadow.count.hung = self._found_hung = True
        shadow.count.problem = f"no answer within {limit_us / 1e6:g} s"
        self.stop()
        return shadow

    def _own_us(self, glimpse: Glimpse, elapsed_us: int) -> float:
        """Of the time since then, what was the run's to use. Starved, its frames become late."""
        return self._spent().since(glimpse.spent).own_us(elapsed_us)

    def _spent(self) -> blame.Spent:
        """Of its thread alone; nothing of one that has ended."""
        task = Path(f"/proc/self/task/{self._thread.native_id}")
        try:
            schedstat = (task / "schedstat").read_text(encoding="ascii")
        except OSError:
            schedstat = ""
        try:
            stat = (task / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return blame.Spent()
        return blame.spent_of([(schedstat, stat)])

    # ── its own thread ────────────────────────────────────────────────────────────────────────

    def _body(self) -> None:
        realtime.go_background(realtime_wanted=self._realtime_wanted)
        for shadow in self.shadows.values():
            self._guard(shadow, shadow.seat.warm)
        while not self._stopped.is_set():
            try:
                rung = self._bell.get(timeout=IDLE_S)
            except Empty:
                continue
            if rung is not None:
                self._serve(rung)
        self._let_go()

    def _serve(self, shadow: Shadow) -> None:
        self._give_way()
        looked = shadow.take()
        if looked is not None and not self._stopped.is_set():
            shadow.count.taken += 1
            self._guard(shadow, lambda: look(shadow, looked))

    def _give_way(self) -> None:
        """A frame that waits for a lane goes first; a shadow that waits too long loses its own."""
        for _ in range(GIVE_WAY_TIMES):
            if self._is_idle() or self._stopped.is_set():
                return
            time.sleep(GIVE_WAY_S)

    def _guard(self, shadow: Shadow, work: Callable[[], None]) -> None:
        self._busy = (shadow, shadow.seat, self._clock.boot_us())
        try:
            work()
        except MemoryError:
            shadow.count.skip("out of memory")
            shadow.seat.failed(fresh=False)
        except BadFrame as bad:
            if self._stopped.is_set():
                return  # it was asked to end, and did
            shadow.seat.failed(fresh=False)
            if blame.is_of_memory(bad.what):
                shadow.count.skip(bad.what)
                return
            shadow.count.nan += isinstance(bad, NotFinite)
            shadow.count.errors += not isinstance(bad, NotFinite)
            shadow.count.problem = shadow.count.problem or bad.what
        finally:
            self._busy = None

    def _let_go(self) -> None:
        """The counts stay, the weights do not."""
        for shadow in self.shadows.values():
            del shadow.seat
        realtime.trim_memory()


def look(shadow: Shadow, looked: Looked) -> None:
    """Raises: BadFrame."""
    seat, frame = shadow.seat, looked.frame
    seat.begin(frame, looked.at_us)
    roi = seat.region(frame)
    try:
        seat.bound.fill(frame, roi)
    except BadFrame as bad:  # of the frame or its region, which are the stream's
        shadow.count.skip(bad.what)
        return
    now_ns = run_clock(seat)
    from_ns = now_ns()
    with realtime.heavy():
        outputs = seat.bound.run()
    took_us = (now_ns() - from_ns) / 1000
    found = seat.look(frame, outputs, roi, looked.at_us)
    shadow.count.book(
        frame, looked.every, live=looked.findings, shadow=found, live_us=looked.took_us,
        took_us=took_us,
    )  # fmt: skip


def run_clock(seat: Seat) -> Callable[[], int]:
    """What the cost of a run is told by, in ns: time on the core where a backend works there.

    A shadow of low priority is often made to wait; that is not the model's fault.
    """
    on_the_core = seat.loaded.session.backend in ON_THE_CORE
    return time.thread_time_ns if on_the_core else time.monotonic_ns
