"""Whether acknowledgements keep up with what is appended, while the hot tier answers.

A road may answer each question and still lose what it is asked about. What counts is the spool's
own balance over a minute with the cloud up throughout; a backlog that drains gains, and an outage
is told by itself. Pure: time is an argument, microseconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final, NamedTuple

from edge_agent.core.logbook import Log, LogKey

SECOND_US: Final = 1_000_000
EVERY_US: Final = 5 * SECOND_US
WINDOW_US: Final = 60 * SECOND_US
OVER_US: Final = 15 * SECOND_US  # so long they kept up again: it is over
LEAST_RECORDS: Final = 20  # behind; so many are always on their way
LEAST_SHARE: Final = 0.05  # of what was appended


class Behind(NamedTuple):
    """Records of the last minute, and those that wait now."""

    appended: int
    acked: int
    waiting: int


class _Look(NamedTuple):
    at_us: int
    appended: int  # since the cloud is up
    acked: int
    waiting: int


class KeepingUp:
    """`look` now and then; `behind` is what a person has to be told, None: all is well."""

    def __init__(self) -> None:
        self.behind: Behind | None = None
        self._looks: deque[_Look] = deque(maxlen=WINDOW_US // EVERY_US + 1)
        self._seen: dict[LogKey, tuple[int, int]] = {}
        self._appended = self._acked = 0

    def is_due(self, now_us: int) -> bool:
        return not self._looks or now_us - self._looks[-1].at_us >= EVERY_US

    def look(self, logs: Iterable[Log], *, is_up: bool, left: int, now_us: int) -> None:
        """At the spool's books. left: records that wait for another reason, which is told."""
        waiting = self._count(logs) - left
        if not is_up:
            self.behind = None
            self._looks.clear()
            return
        self._looks.append(_Look(now_us, self._appended, self._acked, max(0, waiting)))
        self._judge(now_us)

    def _count(self, logs: Iterable[Log]) -> int:
        """Adds what is new; how many records wait."""
        waiting, seen = 0, {}
        for log in logs:
            sheet = log.sheet()
            before = self._seen.get(log.key, (sheet.appended, sheet.acked))
            self._appended += max(0, sheet.appended - before[0])
            self._acked += max(0, sheet.acked - before[1])
            waiting += sheet.pending
            seen[log.key] = (sheet.appended, sheet.acked)
        self._seen = seen
        return waiting

    def _judge(self, now_us: int) -> None:
        newest = self._looks[-1]
        if self.behind is not None:
            since = next(one for one in self._looks if now_us - one.at_us <= OVER_US)
            gained = newest.acked - since.acked
            keeps_up = gained > 0 and gained >= newest.appended - since.appended
            if newest.waiting == 0 or (keeps_up and now_us - since.at_us >= OVER_US - EVERY_US):
                self.behind = None
                self._looks.clear()
                return
        oldest = self._looks[0]
        if now_us - oldest.at_us < WINDOW_US - EVERY_US:
            return
        appended, acked = newest.appended - oldest.appended, newest.acked - oldest.acked
        short = appended - acked
        falls = short > max(LEAST_RECORDS, LEAST_SHARE * appended) and newest.waiting >= short
        stands = acked == 0 and all(one.waiting for one in self._looks)
        if falls or stands:
            self.behind = Behind(appended, acked, newest.waiting)
