"""The books of one stream: captured = inferred + the sum of dropped, exactly, at the end.

A stream lives through several incarnations of the inference side, each with counters of its own
(`core.ring`). The books add them up; what an incarnation took with it is booked when it closes:
as `crash`, or as `shutdown` when it was told to stop.
"""

from __future__ import annotations

from collections import Counter

import msgspec

from edge_agent.core.frames import DROPS, Drop
from edge_agent.core.ring import Header, Word

OWN = {
    "frozen": Word.FROZEN,
    "reopened": Word.REOPENED,
    "missed": Word.MISSED,
    "extra_runs": Word.EXTRA_RUNS,
    "extra_shed": Word.EXTRA_SHED,
}


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Since the agent's start. missed: results after their deadline. extra: second models."""

    captured: int = 0
    inferred: int = 0
    dropped: dict[str, int] = {}
    frozen: int = 0
    reopened: int = 0
    missed: int = 0
    extra_runs: int = 0
    extra_shed: int = 0

    @property
    def errors(self) -> int:
        return self.dropped.get(Drop.ERROR.value, 0) + self.dropped.get(Drop.CRASH.value, 0)

    @property
    def in_flight(self) -> int:
        return self.captured - self.inferred - sum(self.dropped.values())


class Account:
    """`inferred` is counted as results arrive; the rest is read from the present header."""

    def __init__(self) -> None:
        self.inferred = 0
        self._captured = 0
        self._dropped: Counter[Drop] = Counter()
        self._own: Counter[str] = Counter()

    def totals(self, header: Header | None, overrun: int) -> Totals:
        """The books so far. overrun: results of this incarnation that were overwritten unread."""
        dropped = Counter(self._dropped)
        own = Counter(self._own)
        captured = self._captured
        if header is not None:
            captured += header[Word.CAPTURED]
            dropped.update(header.dropped())
            own.update({name: header[word] for name, word in OWN.items()})
        dropped[Drop.OVERRUN] += overrun
        return Totals(
            captured=captured,
            inferred=self.inferred,
            dropped={why.value: dropped[why] for why in DROPS},
            **{name: own[name] for name in OWN},
        )

    def close(self, header: Header, overrun: int, *, clean: bool) -> int:
        """The incarnation has ended and its ring is read out; returns how many it took with it.

        header: one that stands still. A frame whose drop was copied before its capture counts too.
        """
        took = header.in_flight()
        self._captured += header[Word.CAPTURED] - min(0, took)
        self._dropped.update(header.dropped())
        self._dropped[Drop.OVERRUN] += overrun
        self._dropped[Drop.SHUTDOWN if clean else Drop.CRASH] += max(0, took)
        self._own.update({name: header[word] for name, word in OWN.items()})
        return took
