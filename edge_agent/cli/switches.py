"""What a swap cost the stream that it happened on, told by the results alone.

A switch is where the model's content changes from one result to the next. Lost are the frames
between the two, by their capture numbers; added is what the first results after it waited longer
than the median of those before.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from statistics import median
from typing import Any, Final

from edge_agent.core.frames import Event, Record, Result

BEFORE: Final = 120  # results that a wait is compared with
AFTER: Final = 3  # results that the swap may have held up
OVER: Final = "rollout"  # the event that each rollout ends in
GONE_WRONG: Final = ("rejected", "rolled_back")


class Switches:
    """`hear` each record, in the order of their making."""

    def __init__(self) -> None:
        self._newest: dict[str, Result] = {}
        self._waits: dict[str, deque[int]] = {}
        self._watched: dict[str, tuple[int, float]] = {}  # results left to look at, usual wait
        self.swaps = self.lost = 0
        self.added_us = 0.0
        self.reports: list[dict[str, Any]] = []

    def hear(self, record: Record) -> None:
        if isinstance(record, Result):
            self._result(record)
        elif isinstance(record, Event) and record.name == OVER:
            self.reports.append(json.loads(record.what))

    def _result(self, result: Result) -> None:
        stream = result.stream
        before, self._newest[stream] = self._newest.get(stream), result
        waits = self._waits.setdefault(stream, deque(maxlen=BEFORE))
        if before is not None and before.model == result.model and before.sha != result.sha:
            self.swaps += 1
            self.lost += max(0, result.frame - before.frame - 1)
            self._watched[stream] = AFTER, median(waits)
        left, usual_us = self._watched.get(stream, (0, 0.0))
        if left:
            self.added_us = max(self.added_us, result.wait_us - usual_us)
            self._watched[stream] = left - 1, usual_us
        waits.append(result.wait_us)

    def sums(self) -> dict[str, Any]:
        """rollbacks: candidates that were refused, or live and taken back."""
        wrong = [one for one in self.reports if one.get("outcome") in GONE_WRONG]
        return {
            "swaps": self.swaps,
            "rollbacks": len(wrong),
            "frames_lost_in_swaps": self.lost,
            "max_added_wait_ms_in_swap": round(self.added_us / 1000, 3),
            "rollouts": self.reports,
        }


def words(report: Mapping[str, Any]) -> list[str]:
    """A line for each rollout that has ended."""
    lines = []
    for one in report.get("rollouts", ()):
        why = f", {one['reason']}" if one.get("reason") else ""
        lines.append(f"  model       {one['model']} {one['version']}: {one['outcome']}{why}")
    return lines
