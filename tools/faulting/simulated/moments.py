"""Events in the order of their time, microseconds. Nothing else makes the time go by."""

from __future__ import annotations

import heapq
from collections.abc import Callable


class Moments:
    """now_us: the time of the event that happens."""

    def __init__(self) -> None:
        self.now_us = 1_000_000
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._number = 0

    @property
    def now_s(self) -> float:
        return self.now_us / 1e6

    def at(self, at_us: int, then: Callable[[], None]) -> None:
        """Those of one time in the order in which they were asked for."""
        self._number += 1
        heapq.heappush(self._events, (max(at_us, self.now_us), self._number, then))

    def after(self, wait_us: int, then: Callable[[], None]) -> None:
        self.at(self.now_us + wait_us, then)

    def run(self, until_us: int, is_over: Callable[[], bool] = lambda: False) -> None:
        """Until then, or until it is over."""
        while self._events and self._events[0][0] <= until_us and not is_over():
            self.now_us, _, then = heapq.heappop(self._events)
            then()
        if not is_over():
            self.now_us = until_us


class Alarm:
    """Calls `then` at the earliest time that it was set to; a later one is forgotten."""

    def __init__(self, moments: Moments, then: Callable[[], None]) -> None:
        self._moments, self._then = moments, then
        self._due_us: int | None = None

    def set(self, at_us: int) -> None:
        at_us = max(at_us, self._moments.now_us)
        if self._due_us is None or at_us < self._due_us:
            self._due_us = at_us
            self._moments.at(at_us, lambda: self._rings(at_us))

    def _rings(self, at_us: int) -> None:
        if at_us == self._due_us:
            self._due_us = None
            self._then()
