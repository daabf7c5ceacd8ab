"""What is refused at the doors, on its way to the audit log: counted, so that nobody fills it.

Of one caller and one reason the first are written as they come (`singles`: one over loopback, where
nobody has a name; sixty a minute of one user of the socket); what follows is counted and written
once a minute. What a caller chose, such as a path, has no place in an entry: the keys are few.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

WINDOW_S = 60.0
MAX_KEPT = 64  # callers and reasons that are counted apart
LOOPBACK_SINGLES = 1
SOCKET_SINGLES = 60
MANY = "others"


class DoorRefusal(NamedTuple):
    """who: `loopback` or `uid N`. verb: of the request that began the count. reason: our word."""

    who: str
    verb: str
    reason: str
    allowed: bool = False  # True: no refusal, something that is audited whoever does it


class _Count:
    def __init__(self, first: DoorRefusal, now_s: float) -> None:
        self.first = first
        self.since_s = now_s
        self.singles = 0
        self.waiting = 0


Write = Callable[[DoorRefusal, int], None]  # and how many of them


class Refusals:
    """write: makes one entry."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._counts: dict[tuple[str, str], _Count] = {}

    def tell(self, one: DoorRefusal, now_s: float, *, number: int = 1) -> None:
        self.write_due(now_s)
        if (one.who, one.reason) not in self._counts and len(self._counts) >= MAX_KEPT:
            one = DoorRefusal(MANY, MANY, MANY)
        count = self._counts.setdefault((one.who, one.reason), _Count(one, now_s))
        singles = SOCKET_SINGLES if one.who.startswith("uid ") else LOOPBACK_SINGLES
        if count.singles < singles:
            count.singles += 1
            self._write(one, number)
        else:
            count.waiting += number

    def write_due(self, now_s: float) -> None:
        """Counts that are a minute old; call it every few seconds."""
        due = [key for key, one in self._counts.items() if now_s - one.since_s >= WINDOW_S]
        for key in due:
            count = self._counts[key]
            if count.waiting:
                self._write(count.first, count.waiting)
                count.since_s, count.waiting = now_s, 0
            else:
                del self._counts[key]

    def write_all(self) -> None:
        """The console ends: nothing that was counted is lost."""
        for count in self._counts.values():
            if count.waiting:
                self._write(count.first, count.waiting)
        self._counts.clear()
