"""How long the spool lasts without a network, at the rate at which this device fills it.

Known only once enough was seen; until then nothing is said. Pure: time is an argument.
"""

from __future__ import annotations

from typing import Final

TELLING_RECORDS: Final = 300  # that were seen in the spool: others to come have their mean size
TELLING_US: Final = 60_000_000  # of appending
FILE_OVER_BODIES: Final = 1.25  # of the file, as measured: ids, checks, pages not quite full
DAY_S: Final = 86_400.0
GIB: Final = 1 << 30


class Reserve:
    """began_us, appended: when the agent started, and how many records there had been by then."""

    def __init__(self, began_us: int, appended: int) -> None:
        self._began_us, self._appended = began_us, appended
        self._body_bytes: float | None = None
        self._seen_records = self._seen_bytes = 0  # of a nearly empty spool, look by look
        self._per_s: float | None = None

    def look(self, now_us: int, *, records: int, body_bytes: int, appended: int) -> None:
        """records, body_bytes: what lies in the spool now."""
        self._seen_records += records
        self._seen_bytes += body_bytes
        if self._seen_records >= TELLING_RECORDS:
            self._body_bytes = self._seen_bytes / self._seen_records
            self._seen_records = self._seen_bytes = 0
        lasted_us = now_us - self._began_us
        if lasted_us >= TELLING_US:
            self._per_s = (appended - self._appended) / (lasted_us / 1e6)

    @property
    def bytes_per_day(self) -> float | None:
        """Of the file; None while it is not known."""
        if self._body_bytes is None or not self._per_s:
            return None
        return self._body_bytes * FILE_OVER_BODIES * self._per_s * DAY_S

    def lasts_s(self, limit_bytes: int) -> float | None:
        """From empty to full; None while it is not known."""
        daily = self.bytes_per_day
        return None if daily is None else limit_bytes / daily * DAY_S


def enough_gib(bytes_per_day: float) -> int:
    """For a day and a half, whole GiB."""
    return max(1, -int(-1.5 * bytes_per_day // GIB))
