"""Whether the wall clock has jumped, or was never set. Pure: times are arguments.

Ages and deadlines live in CLOCK_BOOTTIME and do not care; what does is whatever is compared with
the world: certificates, the expiry of signed metadata, times in records.
"""

from __future__ import annotations

from typing import Final

from edge_agent.core.problems import Problem

STEP_US: Final = 500_000
TOLD_US: Final = 600_000_000
SYNC_FIX: Final = "check time synchronisation: timedatectl, chronyc tracking"


class ClockWatch:
    """Looks at the offset between UTC and CLOCK_BOOTTIME, about once a second."""

    def __init__(self) -> None:
        self._offset_us: int | None = None
        self._was_synchronised = False
        self._jumped_us = 0
        self._at_us = 0

    def look(self, now_us: int, offset_us: int | None, *, is_synchronised: bool) -> None:
        """offset_us None: the clock was never set. A clock that NTP has just set did not jump."""
        old, was = self._offset_us, self._was_synchronised
        self._offset_us, self._was_synchronised = offset_us, is_synchronised
        if old is None or offset_us is None or abs(offset_us - old) < STEP_US:
            return
        if is_synchronised and not was:
            self._jumped_us = 0
            return
        self._jumped_us += offset_us - old
        self._at_us = now_us

    def problems(self, now_us: int) -> list[Problem]:
        """A jump stands until the clock is back, has been set by NTP, or for ten minutes."""
        if self._offset_us is None:
            what = "the wall clock was never set: times and expiry dates can't be trusted"
            return [Problem("clock-unset", "warning", what, SYNC_FIX)]
        is_old = now_us - self._at_us >= TOLD_US
        if abs(self._jumped_us) < STEP_US or is_old:
            return []
        what = f"the wall clock jumped by {self._jumped_us / 1e6:+.1f} s"
        return [Problem("clock-jumped", "warning", what, f"{SYNC_FIX}; told for ten minutes")]
