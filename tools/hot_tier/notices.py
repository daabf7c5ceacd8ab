"""What the hot tier has to tell whoever runs it: in the sheet while it holds, in the log once.

The sheet cannot be read where the sheet itself is what fails; so each notice is a line of the log
when it begins and when it is over, and the sheet's problem in between. Used on the loop alone.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, NamedTuple

from edge_agent import logs
from edge_agent.host import SystemClock
from edge_agent.ports import Clock

MAX_OF_A_CODE: Final = 16
HOLDS_S: Final = 60.0  # of what is an event, not a state: until it has not happened for so long

log = logs.get("hot_tier")


class Notice(NamedTuple):
    """until_us: CLOCK_BOOTTIME when it is over by itself; None: when somebody says so."""

    code: str
    what: str
    fix: str
    until_us: int | None


class Notices:
    """counts: of what the roads refused, by the names of the sheet's `wire`."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.counts: Counter[str] = Counter()
        self._clock = clock or SystemClock()
        self._now: dict[tuple[str, str], Notice] = {}

    def tell(
        self, code: str, what: str, fix: str, *, about: str = "", for_s: float | None = None
    ) -> None:
        """A problem that begins, or goes on with other words.

        about: tells two of one code apart. for_s: how long it holds without being told again.
        """
        key = (code, about)
        until_us = None if for_s is None else self._clock.boot_us() + int(for_s * 1e6)
        self._sweep()
        if key not in self._now:
            if sum(known == code for known, _ in self._now) >= MAX_OF_A_CODE:
                return
            log.warning(what, code=code, hint=fix)
        self._now[key] = Notice(code, what, fix, until_us)

    def over(self, code: str, *, about: str = "") -> None:
        """It holds no more; nothing happens when it was never told."""
        gone = self._now.pop((code, about), None)
        if gone is not None:
            log.warning("over", code=code, was=gone.what)

    def problems(self) -> list[dict[str, str]]:
        """`{"code","what","fix"}` of all that holds."""
        self._sweep()
        return [{"code": one.code, "what": one.what, "fix": one.fix} for one in self._now.values()]

    def _sweep(self) -> None:
        now_us = self._clock.boot_us()
        for (code, about), one in list(self._now.items()):
            if one.until_us is not None and one.until_us <= now_us:
                self.over(code, about=about)
