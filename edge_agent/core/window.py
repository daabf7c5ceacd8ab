"""Bounded memories of recent numbers: quantiles over the last results, rates over seconds."""

from __future__ import annotations

from collections import deque

import numpy as np

WINDOW = 1024
RATE_SPAN_US = 3_000_000


class Window:
    """The last 1024 numbers."""

    def __init__(self) -> None:
        self._values = np.zeros(WINDOW, np.float64)
        self._n = 0

    def add(self, value: float) -> None:
        self._values[self._n % WINDOW] = value
        self._n += 1

    def quantiles(self, *shares: float) -> tuple[float | None, ...]:
        """None while there is nothing."""
        if self._n == 0:
            return (None,) * len(shares)
        held = self._values[: min(self._n, WINDOW)]
        return tuple(float(q) for q in np.quantile(held, shares))


class Rate:
    """How fast a counter grows, over about three seconds."""

    def __init__(self) -> None:
        self._points: deque[tuple[int, int]] = deque(maxlen=64)

    def add(self, now_us: int, count: int) -> None:
        if self._points and count < self._points[-1][1]:
            self._points.clear()  # the stream was ordered anew, its counter with it
        self._points.append((now_us, count))
        while len(self._points) > 2 and now_us - self._points[0][0] > RATE_SPAN_US:
            self._points.popleft()

    def per_s(self) -> float:
        if len(self._points) < 2:
            return 0.0
        (t0, n0), (t1, n1) = self._points[0], self._points[-1]
        return (n1 - n0) * 1e6 / (t1 - t0) if t1 > t0 else 0.0
