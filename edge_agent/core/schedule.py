"""Earliest deadline first over streams, in priority classes. Pure: `now` is an argument.

A job is one model on one stream. A higher class always goes first; within a class the job whose
frame has the earliest deadline; ties go to the older frame. A frame that waiting has made too late
is skipped and counted; a model that is slower than its whole deadline runs all the same (else it
would never run), and its results are counted as missed.
Method: Liu and Layland, "Scheduling algorithms for multiprogramming in a hard real-time
environment", 1973, non-preemptive, with skipping.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

CLASS_OF = {"high": 0, "normal": 2, "low": 4}
EXTRA_PENALTY = 1  # a second model of a stream goes one class below the stream's own
MIN_DEADLINE_US = 20_000
ESTIMATE_WEIGHT = 0.1  # of a new run in the moving estimate
DOUBT = 0.98  # what a skipped frame leaves of the estimate that skipped it

Verdict = Literal["run", "late"]


class Ready(NamedTuple):
    """A frame that waits for a lane. rank: priority class, lower goes first."""

    rank: int
    deadline_us: int
    captured_us: int
    key: int


def rank_of(priority: str, *, extra: bool) -> int:
    return CLASS_OF[priority] + (EXTRA_PENALTY if extra else 0)


def pick(ready: Iterable[Ready]) -> Ready | None:
    """The job to run now."""
    return min(ready, default=None)


def default_deadline_us(fps: float | None) -> int:
    """One frame period, at least 20 ms; 100 ms when the rate is unknown."""
    if not fps or fps <= 0:
        return 100_000
    return max(MIN_DEADLINE_US, round(1_000_000 / fps))


def judge(frame: Ready, now_us: int, estimate_us: float) -> Verdict:
    """`late` only when waiting caused it: run at once it would have met its deadline."""
    budget_us = frame.deadline_us - frame.captured_us
    if estimate_us > budget_us:
        return "run"
    return "late" if now_us + estimate_us > frame.deadline_us else "run"


def update_estimate(estimate_us: float, took_us: int) -> float:
    """A moving estimate of the run time; the first run counts whole."""
    if estimate_us <= 0:
        return float(took_us)
    return estimate_us + ESTIMATE_WEIGHT * (took_us - estimate_us)


def doubt(estimate_us: float) -> float:
    """After a skipped frame: nothing was measured, so the estimate is trusted a little less.

    Else one slow spell that ended just below the deadline would skip every frame for ever.
    """
    return estimate_us * DOUBT
