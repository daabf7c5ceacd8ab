"""How old the oldest pending record is, as far as it can be told across boots."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from edge_agent.core.frames import plain
from edge_agent.core.logbook import Log
from edge_agent.stores.spool.disk import Disk
from edge_agent.stores.spool.front import Front


class Made(msgspec.Struct):
    """When a record was made: CLOCK_BOOTTIME of its boot, and UTC where the clock was set."""

    at_us: int = 0
    boot: str = ""
    utc_offset_us: int | None = None


class Head(NamedTuple):
    log: int
    floor: int


_made = msgspec.msgpack.Decoder(Made)


class Oldest:
    """`look` is for the spool's thread; `age_s` for any."""

    def __init__(self, disk: Disk, front: Front, boot: str) -> None:
        self._disk, self._front, self._boot = disk, front, boot
        self._seen: dict[Head, Made] = {}
        self._oldest: Made | None = None

    def look(self) -> None:
        """At the heads of the logs of the oldest epoch. Raises: DiskFailing, FileBroken."""
        seen: dict[Head, Made] = {}
        for log in self._candidates():
            head = Head(log.id, log.floor)
            seen[head] = self._seen.get(head) or self._read(head)
        self._seen = seen
        self._oldest = min(seen.values(), key=lambda made: made.at_us, default=None)

    def age_s(self, now_us: int, utc_offset_us: int | None) -> float | None:
        """None: nothing pending on the disk. Of an earlier boot without UTC: at least so old."""
        made = self._oldest
        if made is None:
            return None
        if made.boot == self._boot:
            age_us = now_us - made.at_us
        elif made.utc_offset_us is not None and utc_offset_us is not None:
            age_us = now_us + utc_offset_us - made.at_us - made.utc_offset_us
        else:
            age_us = now_us
        return max(0.0, age_us / 1e6)

    def _candidates(self) -> list[Log]:
        epoch: int | None = None
        found: list[Log] = []
        for log in self._front.books.logs.values():
            if log.floor == log.next or (epoch is not None and log.key.epoch > epoch):
                continue
            if epoch is None or log.key.epoch < epoch:
                epoch, found = log.key.epoch, []
            found.append(log)
        return found

    def _read(self, head: Head) -> Made:
        rows = self._disk.rows(head.log, head.floor, head.floor, 1)
        try:
            return _made.decode(plain(rows[0][2])) if rows else Made()
        except (msgspec.MsgspecError, UnicodeDecodeError, TypeError):  # not checked yet
            return Made()
