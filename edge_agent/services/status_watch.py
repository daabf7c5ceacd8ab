"""Looks at the status twice a second: since when each problem stands, and one log line per change.

One that changes all the time is said a few times a minute and then counted: `logs` sees to that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import anyio

from edge_agent import logs
from edge_agent.core.clock_watch import ClockWatch
from edge_agent.core.problems import Problem, ProblemBook, ProblemChange
from edge_agent.ports import Clock

PERIOD_S: Final = 0.5

log = logs.get("status")


class StatusWatch:
    """states: of each stream, and of the agent as "". found: every problem that stands."""

    def __init__(
        self,
        *,
        clock: Clock,
        states: Callable[[], Mapping[str, str]],
        found: Callable[[], list[Problem]],
        book: ProblemBook,
    ) -> None:
        self._clock = clock
        self._wall = ClockWatch()
        self._states = states
        self._found = found
        self._book = book
        self._known: dict[str, str] = {}

    def problems(self) -> list[Problem]:
        """Of the wall clock."""
        return self._wall.problems(self._clock.boot_us())

    async def run(self, ready: Callable[[], None]) -> None:
        self.look()
        ready()
        while True:
            await anyio.sleep(PERIOD_S)
            self.look()

    def look(self) -> None:
        """One look; says what has changed."""
        now_us = self._clock.boot_us()
        offset_us, error_us = self._clock.utc_offset_us()
        self._wall.look(now_us, offset_us, is_synchronised=error_us is not None)
        for change in self._book.observe(self._found(), now_us):
            _say_problem(change)
        states = dict(self._states())
        for name, state in states.items():
            if self._known.get(name, state) != state:
                _say_state(name, self._known[name], state)
        self._known = states


def _say_problem(change: ProblemChange) -> None:
    """The code is in the message, so that repeats are counted by code."""
    problem = change.problem
    if change.is_raised:
        words = f"problem {problem.code}"
        say = log.info if problem.severity == "notice" else log.warning
        say(words, stream=problem.stream, what=problem.what, fix=problem.fix)
    else:
        words = f"problem {problem.code} is over"
        log.info(words, stream=problem.stream, stood_s=round(change.stood_us / 1e6, 1))


def _say_state(name: str, old: str, new: str) -> None:
    words = f"state: {old} -> {new}"
    log.info(words, stream=name)
