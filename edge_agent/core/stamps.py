"""By what a recording is played: the time stamps of its frames, or a rate.

Its own stamps are its time, whatever rate its header claims: frames that come unevenly are shown
unevenly. A rate counts only where it is configured, or where there are no stamps that rise. A rate
that no camera has (0, 1000 and 90000 are units of time that were written in its place) is said and
not played. Pure: times are arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, Literal, NamedTuple

from edge_agent.core.pacing import MICROSECONDS, Wait

MAX_FPS: Final = 240.0
DEFAULT_FPS: Final = 30.0
MAX_GAP_US: Final = 60 * MICROSECONDS  # what is longer is a jump from one recording to another
MAX_BACK_US: Final = 100_000  # so far stamps may be out of order; further back is a jump too
LATE_US: Final = 100_000  # so much is caught up, the rest moves the clock of the recording
SET_FPS: Final = "set source.fps if it is another"


class Rate(NamedTuple):
    """fps: expected, or played where not by_stamps. words: where it comes from, for a person."""

    fps: float
    by_stamps: bool
    words: str


UNEVEN, EVEN_SHARE = 0.25, 0.9  # of the usual gap; of all gaps


def is_plausible(fps: float | None) -> bool:
    return fps is not None and 0 < fps <= MAX_FPS * 1.01


def rate(
    stamps_us: Sequence[int],
    *,
    configured: float | None,
    said: float | None,
    average: float | None = None,
    whole: bool = False,
    assumed: bool = False,
) -> Rate:
    """By what to play.

    stamps_us: of the first frames, in any order. said: the rate in the header. average: of all
    frames, as the container has it. whole: the stamps are those of all frames. assumed: the header
    may say nothing, and the rate be a default.
    """
    if configured is not None:
        return Rate(configured, by_stamps=False, words=f"{configured:g} fps (source.fps)")
    claim = "" if said is None or is_plausible(said) else f"; it claims {said:g} fps, not plausible"
    span_us = max(stamps_us) - min(stamps_us) if stamps_us else 0
    known = next((fps for fps in (average, said) if is_plausible(fps)), None)
    if span_us > 0:
        seen = _seen(sorted(stamps_us))
        if is_plausible(seen):
            fps = seen if whole or known is None else known
            return Rate(fps, by_stamps=True, words=f"its time stamps, about {fps:.4g} fps{claim}")
        why = f"its time stamps say {seen:.4g} fps, which is not plausible{claim}"
    else:
        why = (
            "it has no time stamps" if len(stamps_us) < 2 else "its time stamps stand still"
        ) + claim
    if known is None:
        return Rate(DEFAULT_FPS, by_stamps=False, words=f"{DEFAULT_FPS:g} fps: {why}; {SET_FPS}")
    source = "assumed, or said by its header" if assumed else "said by its header"
    return Rate(known, by_stamps=False, words=f"{known:.4g} fps, {source}: {why}; {SET_FPS}")


def _seen(stamps_us: Sequence[int]) -> float:
    """Frames per second; stamps_us rises. Where a frame has no stamp the gap is twice as long: of
    even stamps the usual gap counts, of uneven ones all of them.
    """
    gaps_us = [there - here for here, there in pairwise(stamps_us)]
    middle_us = sorted(gaps_us)[len(gaps_us) // 2]
    usual_us = [gap for gap in gaps_us if abs(gap - middle_us) <= middle_us * UNEVEN]
    if middle_us > 0 and len(usual_us) >= EVEN_SHARE * len(gaps_us):
        gaps_us = usual_us
    return len(gaps_us) * MICROSECONDS / sum(gaps_us)


class Timeline:
    """When the frames of a recording are due. `fast` is always due."""

    def __init__(self, by: Rate, start_us: int, mode: Literal["real", "fast"] = "real") -> None:
        if not 0 < by.fps < float("inf"):
            raise ValueError(f"fps is positive, not {by.fps}")
        self._by = by
        self._start_us = start_us
        self._is_fast = mode == "fast"
        self._period_us = MICROSECONDS / by.fps
        self._ticks = 0
        self._due_us = 0  # of the newest frame, from the start
        self._before_us: int | None = None  # its stamp
        self._base_us = 0  # due time minus stamp
        self._is_first = True
        self.jumps = 0

    @property
    def due_us(self) -> int:
        """When the newest frame is due."""
        return self._start_us + self._due_us

    def frame(self, pts_us: int | None) -> None:
        """The next frame, in order. pts_us: its stamp; a frame without one follows a period on."""
        if self._by.by_stamps:
            self._due_us = self._by_stamp(pts_us)
        else:
            self._due_us = round(self._ticks * self._period_us)
        self._ticks += 1
        self._is_first = False

    def _by_stamp(self, pts_us: int | None) -> int:
        before, self._before_us = self._before_us, pts_us
        after_us = 0 if self._is_first else self._due_us + round(self._period_us)
        if pts_us is None:
            return after_us
        if before is not None and -MAX_BACK_US <= pts_us - before <= MAX_GAP_US:
            return max(self._due_us, self._base_us + pts_us)
        self.jumps += before is not None
        self._base_us = after_us - pts_us
        return after_us

    def rewind(self) -> None:
        """The recording begins again: its first frame follows a period on."""
        self._before_us = None

    def wait(self, now_us: int, timeout_s: float) -> Wait:
        """How long a reader sleeps, at most `timeout_s`, and whether the frame is due then."""
        if self._is_fast:
            return Wait(0, is_due=True)
        timeout_us = max(0, round(timeout_s * MICROSECONDS))
        left_us = max(0, self.due_us - now_us)
        return Wait(min(left_us, timeout_us), is_due=left_us <= timeout_us)

    def take(self, now_us: int) -> None:
        """Shows the frame. A reader that comes too late moves the whole recording: it loses none of
        it, and does not race to catch up.
        """
        if not self._is_fast:
            self._start_us += max(0, now_us - self.due_us - max(LATE_US, round(self._period_us)))
