"""What a person should know or do: one problem per cause, since when it stands, what changed.

A problem is known by its code, its stream and its subject; its words may change while it stands.
`critical` and `warning` make the agent `degraded`; a `notice` is told and is no fault: somebody
wanted it so. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal, NamedTuple

Severity = Literal["critical", "warning", "notice"]
SEVERITIES: Final[tuple[Severity, ...]] = ("critical", "warning", "notice")
MAX_PROBLEMS: Final = 300  # remembered; a status shows no more

Key = tuple[str, str, str]


class Problem(NamedTuple):
    """code: for machines, never changes its meaning. stream: "" for the agent itself.

    subject: what else tells it from others of its code, as a model or a service.
    """

    code: str
    severity: Severity
    what: str
    fix: str
    stream: str = ""
    subject: str = ""

    @property
    def key(self) -> Key:
        return self.code, self.stream, self.subject

    def words(self, since_s: float) -> dict[str, Any]:
        """In the shape of the status."""
        return {
            "severity": self.severity,
            "code": self.code,
            "stream": self.stream,
            "subject": self.subject,
            "what": self.what,
            "fix": self.fix,
            "since_s": round(max(0.0, since_s), 1),
        }


class ProblemChange(NamedTuple):
    """A problem began, or is over. stood_us: how long it stood, 0 when it began."""

    problem: Problem
    is_raised: bool
    stood_us: int


class ProblemBook:
    """Which problems stand, and since when."""

    def __init__(self) -> None:
        self._standing: dict[Key, tuple[Problem, int]] = {}

    def observe(self, found: Iterable[Problem], now_us: int) -> list[ProblemChange]:
        """Takes what stands now; returns what began and what is over since the last look."""
        now = {problem.key: problem for problem in distinct(found)}
        over = [
            ProblemChange(problem, is_raised=False, stood_us=now_us - since_us)
            for key, (problem, since_us) in self._standing.items()
            if key not in now
        ]
        begun = [
            ProblemChange(problem, is_raised=True, stood_us=0)
            for key, problem in now.items()
            if key not in self._standing
        ]
        self._standing = {
            key: (problem, self._standing[key][1] if key in self._standing else now_us)
            for key, problem in now.items()
        }
        return over + begun

    def since_us(self, problem: Problem, now_us: int) -> int:
        """When it began; now, if it has not been observed yet."""
        known = self._standing.get(problem.key)
        return known[1] if known else now_us


def distinct(found: Iterable[Problem]) -> list[Problem]:
    """One of each key, the worst first, at most MAX_PROBLEMS."""
    by_key: dict[Key, Problem] = {}
    for problem in sorted(found, key=lambda one: SEVERITIES.index(one.severity)):
        by_key.setdefault(problem.key, problem)
    return list(by_key.values())[:MAX_PROBLEMS]


def is_fault(problem: Problem) -> bool:
    """Whether it makes the agent `degraded`."""
    return problem.severity != "notice"
