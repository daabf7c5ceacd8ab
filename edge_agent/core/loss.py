"""How many of the frames that were asked for got no result, over the last minute. Pure.

Asked for is the configured rate; what was captured where that is more, or where none is configured.
What a level or the configuration sheds is no loss, and a moment in which the source gave no picture
is told as that. A loss stands once it is more than MAX_SHARE of a whole minute's frames (or 30 %
of the last two seconds'), and is over when the last ten seconds lost no more than that share of
theirs: it neither flickers nor outlives its cause for long.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from edge_agent.core.account import Totals
from edge_agent.core.frames import Drop

WINDOW_US: Final = 60_000_000
LATELY_US: Final = 10_000_000
NOW_US: Final = 2_000_000
END_US: Final = 4_000_000  # before a source or a side is known to be gone, it was going
HEAVY_SHARE: Final = 0.3  # so much of the last two seconds is told without waiting for a minute's
HEAVY_FRAMES: Final = 5
LONGEST_SLICE_US: Final = 5_000_000  # a look that came so late says nothing of a rate
MAX_SHARE: Final = 0.02
MAX_LATE_SHARE: Final = 0.5
MIN_RESULTS: Final = 60  # before a share of late ones is one
MAX_SLICES: Final = 128
NO_LOSS: Final = (Drop.SHED.value, Drop.THERMAL.value, Drop.PAUSED.value, Drop.SHUTDOWN.value)


class Slice(NamedTuple):
    """What happened between two looks. dropped: by reason, without what was shed on purpose."""

    at_us: int
    took_us: int
    asked: float
    captured: int
    inferred: int
    missed: int
    dropped: dict[str, int]


class FrameLoss(NamedTuple):
    """Of the last minute. dropped: by reason, the largest first; undelivered: never came."""

    asked: float
    lost: float
    undelivered: float
    dropped: tuple[tuple[str, int], ...]

    @property
    def share(self) -> float:
        return self.lost / self.asked if self.asked else 0.0

    @property
    def is_of_source(self) -> bool:
        """The source delivered too few, and the machine took what came: it had the time."""
        return self.undelivered > 10 * sum(count for _, count in self.dropped)


class LossWatch:
    """Of one stream, as of its last look. fps: as configured, None where the source decides.

    loss: of the last minute, None while it is within bounds. late_share: of the last minute's
    results, those after their deadline; None while that is little.
    """

    def __init__(self) -> None:
        self.fps: float | None = None
        self._slices: deque[Slice] = deque(maxlen=MAX_SLICES)
        self._last: tuple[int, Totals] | None = None
        self._is_lossy = False
        self.loss: FrameLoss | None = None
        self.late_share: float | None = None

    def look(self, now_us: int, totals: Totals, *, is_reading: bool, is_gone: bool = False) -> None:
        """About once a second. is_reading: the source gives a picture, and the engine works.
        is_gone: one of the two is gone, or was since the last look: what did not come just before
        was the beginning of that, which is told by itself.
        """
        last, self._last = self._last, ((now_us, totals) if is_reading else None)
        if is_gone:
            self._last = last = None
            self._forget_the_end(now_us)
        if last is not None and 0 < now_us - last[0] <= LONGEST_SLICE_US:
            self._slices.append(_slice(last, now_us, totals, self.fps))
        while self._slices and now_us - self._slices[0].at_us >= WINDOW_US:
            self._slices.popleft()
        self.loss, self.late_share = self._judged(now_us), self._late_share()

    def _forget_the_end(self, now_us: int) -> None:
        while self._slices and now_us - self._slices[-1].at_us < END_US:
            newest = self._slices[-1]
            if newest.captured >= newest.asked - 1:
                return
            self._slices.pop()

    def _judged(self, now_us: int) -> FrameLoss | None:
        whole = _sum(self._slices)
        lately = _sum([one for one in self._slices if now_us - one.at_us < LATELY_US])
        took_us = sum(one.took_us for one in self._slices)
        minute = whole.asked * WINDOW_US / took_us if took_us else 0.0
        bound = MAX_SHARE * max(minute, whole.asked)
        still = lately.lost > MAX_SHARE * lately.asked
        now = _sum([one for one in self._slices if now_us - one.at_us < NOW_US])
        is_heavy = now.lost > max(HEAVY_FRAMES, HEAVY_SHARE * now.asked)
        self._is_lossy = is_heavy or (whole.lost > max(1.0, bound) and still)
        return whole if self._is_lossy else None

    def _late_share(self) -> float | None:
        inferred = sum(one.inferred for one in self._slices)
        missed = sum(one.missed for one in self._slices)
        if inferred < MIN_RESULTS or missed <= MAX_LATE_SHARE * inferred:
            return None
        return missed / inferred


def _slice(last: tuple[int, Totals], now_us: int, totals: Totals, fps: float | None) -> Slice:
    then_us, then = last
    captured = max(0, totals.captured - then.captured)
    asked = fps * (now_us - then_us) / 1e6 if fps else float(captured)
    dropped = {
        why: count - then.dropped.get(why, 0)
        for why, count in totals.dropped.items()
        if why not in NO_LOSS and count > then.dropped.get(why, 0)
    }
    return Slice(
        now_us, now_us - then_us, asked, captured, max(0, totals.inferred - then.inferred),
        max(0, totals.missed - then.missed), dropped,
    )  # fmt: skip


def _sum(slices: deque[Slice] | list[Slice]) -> FrameLoss:
    asked = sum(one.asked for one in slices)
    captured = sum(one.captured for one in slices)
    asked = max(asked, captured)  # a source faster than configured: no more is lost than came
    undelivered = max(0.0, asked - captured - 1)  # one frame may be on its way
    dropped: dict[str, int] = {}
    for one in slices:
        for why, count in one.dropped.items():
            dropped[why] = dropped.get(why, 0) + count
    largest = tuple(sorted(dropped.items(), key=lambda item: -item[1]))
    return FrameLoss(asked, undelivered + sum(dropped.values()), undelivered, largest)
