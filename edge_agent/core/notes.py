"""Problems that somebody told, bounded: kept for ten seconds after they were last told, those of a
stream that can't start until it is ordered anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from edge_agent.core.problems import Severity

KEPT_US = 10_000_000
MAX_NOTES = 200
MAX_WORDS = 500
OF_SIDE = "stream-rejected"  # the inference side could not begin it; that may pass
STUCK = (OF_SIDE, "config", "model-rejected")  # the stream can't start
OF_MODEL = ("model-rejected", "model-damaged")
OF_SOURCE = ("source-lost", "source-rejected")  # true until there is a picture again
ENDED = "source-ended"  # and stays so
MISFIT = "roi-misfit"  # true until it is told to be over
STICKY = (*STUCK, "model-damaged", "realtime-refused", ENDED, MISFIT, *OF_SOURCE)  # else: anew
CRITICAL = (*STUCK, "model-damaged", MISFIT, *OF_SOURCE)
NOTICES = (ENDED, "realtime-refused")  # no fault of anybody
KEPT_AT_RELOAD = ("realtime-refused",)  # said once, by a side that goes on


class Note(NamedTuple):
    """told_us: CLOCK_BOOTTIME."""

    severity: Severity
    what: str
    fix: str
    told_us: int
    sticky: bool


class Notes:
    """By stream and code; the newest words win. `stream` is "" for the agent itself."""

    def __init__(self, now_us: Callable[[], int]) -> None:
        self._now_us = now_us
        self._notes: dict[tuple[str, str], Note] = {}

    def tell(self, stream: str, code: str, what: str, fix: str) -> bool:
        """Returns whether it is news: nobody said just that of late."""
        old = self.standing().get((stream, code))
        self._notes.pop((stream, code), None)
        if code in OF_SOURCE:  # what else kept the picture away is no longer so
            for other in OF_SOURCE:
                self._notes.pop((stream, other), None)
        if code == ENDED:  # so it was there, if only for a moment
            self.is_back(stream)
        while len(self._notes) >= MAX_NOTES:
            self._notes.pop(self._least())
        severity: Severity = "critical" if code in CRITICAL else "warning"
        severity = "notice" if code in NOTICES else severity
        note = Note(severity, what[:MAX_WORDS], fix[:MAX_WORDS], self._now_us(), code in STICKY)
        self._notes[stream, code] = note
        return old is None or old.what != note.what

    def rejected(self) -> list[str]:
        """Streams that the inference side could not begin."""
        return [stream for stream, code in self._notes if code == OF_SIDE]

    def has_begun(self, stream: str) -> None:
        """The inference side has begun it after all."""
        self._notes.pop((stream, OF_SIDE), None)

    def is_back(self, stream: str) -> None:
        """There is a picture again: what kept it away is over."""
        for code in (*OF_SOURCE, ENDED):
            self._notes.pop((stream, code), None)

    def over(self, stream: str, code: str) -> None:
        """Whoever told it says that it is over."""
        self._notes.pop((stream, code), None)

    def _least(self) -> tuple[str, str]:
        """The oldest note that passes by itself, else the oldest."""
        passing = (key for key, note in self._notes.items() if not note.sticky)
        return next(passing, next(iter(self._notes)))

    def forget(self, stream: str) -> None:
        """The stream is ordered anew."""
        for key in [key for key in self._notes if key[0] == stream]:
            if key[1] not in KEPT_AT_RELOAD:
                del self._notes[key]

    def standing(self) -> dict[tuple[str, str], Note]:
        now_us = self._now_us()
        return {
            key: note
            for key, note in self._notes.items()
            if note.sticky or now_us - note.told_us < KEPT_US
        }

    def is_stuck(self, stream: str) -> bool:
        """A note says that the stream can't start as it is ordered."""
        return any((stream, code) in self._notes for code in STUCK)

    def of(self, stream: str) -> str:
        """The newest words about a stream, "" when there are none."""
        found = [note for (name, _), note in self.standing().items() if name == stream]
        return max(found, key=lambda note: note.told_us).what if found else ""
