"""When a room that failed is started again, and when no more.

Time and chance are arguments. `LinkDown` is weather and costs nothing; any other error is a crash
and is paid from a budget.
"""

from __future__ import annotations

from collections import deque

from edge_agent.core.errors import LinkDenied, LinkDown

FIRST_DELAY_S = 0.25
LONGEST_DELAY_S = 30.0
SAY_AGAIN_S = 3600.0  # bad weather that goes on


class Budget:
    """Crashes allowed in a sliding window."""

    def __init__(self, crashes: int, window_s: float) -> None:
        self._window_s = window_s
        self._times: deque[float] = deque(maxlen=crashes + 1)
        self._crashes = crashes

    def allows(self, now_s: float) -> bool:
        """Books one crash; False: that was one too many."""
        self._times.append(now_s)
        while now_s - self._times[0] >= self._window_s:
            self._times.popleft()
        return len(self._times) <= self._crashes


class Backoff:
    """Doubling delays, jittered down to a half, that begin anew after a good run."""

    def __init__(self, first_s: float = FIRST_DELAY_S, longest_s: float = LONGEST_DELAY_S) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._next_s = first_s

    def delay_s(self, *, ran_s: float, chance: float) -> float:
        """ran_s: how long the room had been ready. chance: uniform in [0, 1)."""
        if ran_s >= self._longest_s:
            self._next_s = self._first_s
        delay_s = self._next_s * (0.5 + 0.5 * chance)
        self._next_s = min(self._next_s * 2, self._longest_s)
        return delay_s


class Hush:
    """Weather that goes on is said once, then every hour: a day offline is no reason to shout."""

    def __init__(self) -> None:
        self._what = ""
        self._said_s = 0.0

    def is_news(self, what: str, now_s: float) -> bool:
        """True counts as said."""
        if what == self._what and now_s - self._said_s < SAY_AGAIN_S:
            return False
        self._what, self._said_s = what, now_s
        return True


def leaves(error: BaseException) -> list[BaseException]:
    """The errors of a group, flattened; a plain error is its own leaf. Works on 3.10."""
    nested = getattr(error, "exceptions", None)
    if not isinstance(nested, tuple) or not nested:
        return [error]
    return [leaf for inner in nested for leaf in leaves(inner)]


def is_denied(error: BaseException) -> bool:
    """The other side is there, and refuses us."""
    return any(isinstance(leaf, LinkDenied) for leaf in leaves(error))


def is_weather(error: BaseException) -> bool:
    """Nothing but links that are down."""
    return all(isinstance(leaf, LinkDown) for leaf in leaves(error))
