"""When the next frame is due, how fast frames really come, and how long to stay away.

Pure: `now_us` and chance are arguments. A recorded source is paced by its own stamps (`GapPace`) or
as start + n periods (`Pace`), so that rounding never adds up; a reader that comes too late loses
ticks of the clock, never frames of the recording.
"""

from __future__ import annotations

from collections import deque
from typing import Literal, NamedTuple

MICROSECONDS = 1_000_000
FIRST_BACKOFF_S = 0.25
FPS_WINDOW_US = 2 * MICROSECONDS
MAX_FPS_STAMPS = 512  # at higher rates the window only gets shorter


class Wait(NamedTuple):
    """sleep_us: before the next look. is_due: a frame is due after that sleep."""

    sleep_us: int
    is_due: bool


class Pace:
    """Ticks of a rate. `fast` is always due and never skips."""

    def __init__(self, fps: float, start_us: int, mode: Literal["real", "fast"] = "real") -> None:
        if not 0 < fps < float("inf"):
            raise ValueError(f"fps is positive, not {fps}")
        self.fps = fps
        self._start_us = start_us
        self._tick = 0
        self._is_fast = mode == "fast"

    @property
    def due_us(self) -> int:
        """When the next frame is due."""
        return self._at(self._tick)

    def wait(self, now_us: int, timeout_s: float) -> Wait:
        """How long a reader sleeps, at most `timeout_s`, and whether a frame is due then."""
        if self._is_fast:
            return Wait(0, is_due=True)
        return _wait(self.due_us - now_us, timeout_s)

    def take(self, now_us: int) -> int:
        """Passes the due tick. Returns how many more had gone by: more than a period is lost."""
        if self._is_fast:
            return 0
        skipped = max(0, int((now_us - self._start_us) * self.fps / MICROSECONDS) - self._tick)
        while skipped and self._at(self._tick + skipped) >= now_us:
            skipped -= 1  # a tick that is due this very moment is not late
        self._tick += 1 + skipped
        return skipped

    def _at(self, tick: int) -> int:
        return self._start_us + round(tick * MICROSECONDS / self.fps)


class GapPace:
    """Each frame is due a gap of its own after the one before it: the difference of their stamps.

    Gaps of whole us add up to the stamps, so nothing drifts. Who comes so late that the next frame
    was due as well goes on from then: the gaps stay true, and what was missed is not made up for.
    `fast` is always due.
    """

    def __init__(self, start_us: int, mode: Literal["real", "fast"] = "real") -> None:
        """The first frame is due at `start_us`."""
        self.due_us = start_us
        self._taken_us: int | None = None
        self._is_fast = mode == "fast"

    def aim(self, gap_us: int) -> None:
        """Names the gap between the frame that was taken last and the next one, before a wait.

        Nothing before a first frame was taken, and nothing twice.
        """
        if self._taken_us is None:
            return
        due_us = self.due_us + max(0, gap_us)
        self.due_us = due_us if due_us >= self._taken_us else self._taken_us + max(0, gap_us)
        self._taken_us = None

    def wait(self, now_us: int, timeout_s: float) -> Wait:
        """How long a reader sleeps, at most `timeout_s`, and whether a frame is due then."""
        if self._is_fast:
            return Wait(0, is_due=True)
        return _wait(self.due_us - now_us, timeout_s)

    def take(self, now_us: int) -> None:
        """Passes the frame that was due."""
        self._taken_us = now_us


class MediaTime:
    """The time that the frames of a recording live in: their stamps, strung together.

    Where stamps begin anew (the next clip, a loop) or there are none, a frame comes one period
    after the one before it. It never goes back, whatever the frames are taken at.
    """

    def __init__(self) -> None:
        self._now_us = 0
        self._pts_us: int | None = None
        self._is_first = True

    def at(self, pts_us: int | None, period_us: int) -> int:
        """Of the next frame, from 0."""
        last_us, self._pts_us = self._pts_us, pts_us
        if self._is_first:
            self._is_first = False
        elif pts_us is not None and last_us is not None and pts_us > last_us:
            self._now_us += pts_us - last_us
        else:
            self._now_us += max(0, period_us)
        return self._now_us


def _wait(left_us: int, timeout_s: float) -> Wait:
    timeout_us = max(0, round(timeout_s * MICROSECONDS))
    left_us = max(0, left_us)
    return Wait(min(left_us, timeout_us), is_due=left_us <= timeout_us)


class FpsMeter:
    """The real rate over a sliding window, beside the expected one."""

    def __init__(self, expected_fps: float | None = None, window_us: int = FPS_WINDOW_US) -> None:
        self.expected_fps = expected_fps
        self._window_us = window_us
        self._stamps_us: deque[int] = deque(maxlen=MAX_FPS_STAMPS)

    def frame(self, captured_us: int) -> None:
        self._stamps_us.append(captured_us)

    def fps(self, now_us: int) -> float:
        """0.0 until two frames are in the window. A frame that is overdue pulls the rate down."""
        stamps = self._stamps_us
        while stamps and now_us - stamps[0] > self._window_us:
            stamps.popleft()
        gaps = len(stamps) - 1
        if gaps < 1 or stamps[-1] <= stamps[0]:
            return 0.0
        span_us = stamps[-1] - stamps[0]
        overdue_us = now_us - stamps[-1] - span_us / gaps
        return gaps * MICROSECONDS / (span_us + max(0.0, overdue_us))


class Backoff:
    """Delays between two tries, doubling up to `max_s`, jittered down to a half."""

    def __init__(self, max_s: float, first_s: float = FIRST_BACKOFF_S) -> None:
        self._first_s = min(first_s, max_s)
        self._max_s = max_s
        self._base_s = self._first_s

    def next_s(self, chance: float) -> float:
        """chance: uniform in [0, 1)."""
        delay_s = self._base_s * (0.5 + 0.5 * chance)
        self._base_s = min(self._base_s * 2, self._max_s)
        return delay_s

    def reset(self) -> None:
        """After a try that went well."""
        self._base_s = self._first_s
