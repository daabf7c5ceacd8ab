"""Reading records back: each one is checked against its crc; what is damaged becomes void.

Used by the spool's thread alone.
"""

from __future__ import annotations

from collections.abc import Callable

from edge_agent.core.logbook import CORRUPT, Log, LogKey, voided
from edge_agent.core.ranges import Range, Ranges, clip, count, intersect, of, subtract
from edge_agent.stores.spool import disk as on_disk
from edge_agent.stores.spool import schema
from edge_agent.stores.spool.disk import Disk, translated
from edge_agent.stores.spool.front import Front
from edge_agent.stores.spool.limits import Change, Notice, Page
from edge_agent.stores.spool.queue import MAX_BYTES_PER_COMMIT, MAX_ROWS_PER_COMMIT
from edge_agent.stores.spool.schema import FileBroken


class Reader:
    """`read` may raise: DiskFailing, FileBroken; DiskFull when damage could not be booked."""

    def __init__(
        self,
        *,
        disk: Disk,
        front: Front,
        on_change: Callable[[Change], None],
        on_notice: Callable[[Notice], None],
    ) -> None:
        self._disk, self._front = disk, front
        self._on_change, self._on_notice = on_change, on_notice

    def read(self, key: LogKey, wanted: Ranges, max_rows: int, max_bytes: int) -> Page:
        """The lowest pending seqs of those wanted; at least one record, if there is any."""
        log = self._front.books.get(key)
        if log is None:
            return Page(key, [], wanted[-1][1] if wanted else 0, 0)
        wanted = intersect(log.pending(), wanted)
        max_rows = min(max_rows, MAX_ROWS_PER_COMMIT)
        max_bytes = min(max_bytes, MAX_BYTES_PER_COMMIT)
        found: list[tuple[int, bytes]] = []
        through = log.next - 1
        for one in wanted:
            through = self._collect(log, one, found, max_rows=max_rows, max_bytes=max_bytes)
            if through < one[1]:
                break
        else:
            through = wanted[-1][1] if wanted else log.next - 1
        bad = subtract(clip(wanted, 1, through), of(seq for seq, _ in found))
        if bad:
            self.condemn(log, bad)
        return Page(key, found, through, count(bad))

    def _collect(
        self,
        log: Log,
        one: Range,
        found: list[tuple[int, bytes]],
        *,
        max_rows: int,
        max_bytes: int,
    ) -> int:
        """Adds the sound records of a range; how far it got."""
        size = sum(len(body) for _, body in found)
        looked = one[0] - 1
        with translated():
            cursor = self._disk.cursor(log.id, *one)
            for identity, crc, body in cursor:
                if not schema.row_id(log.id, looked) < identity <= schema.row_id(log.id, one[1]):
                    cursor.close()
                    raise FileBroken("spool: rows out of order", healable=True)
                is_good = is_sound(identity, crc, body)
                more = len(body) if is_good else 0
                full = len(found) >= max_rows or (found and size + more > max_bytes)
                if full or looked - one[0] >= MAX_ROWS_PER_COMMIT:
                    cursor.close()
                    return looked
                looked = identity & schema.MAX_SEQ
                if is_good:
                    found.append((looked, body))
                    size += more
        return one[1]

    def condemn(self, log: Log, bad: Ranges) -> None:
        """Declares records damaged and removes what is left of them."""
        step = voided(log, bad, CORRUPT)
        with self._disk.transaction(frees=True) as connection:
            logs = on_disk.settle(connection, [step])
        self._front.changed(logs)
        self._on_change(Change(why="corrupt", logs=tuple(logs)))
        self._on_notice(
            Notice(
                name="corrupt",
                what=f"{count(bad)} records of {log.key.stream or 'the agent'} are damaged on disk",
                fix="check the disk: dmesg, smartctl",
                records=count(bad),
            )
        )


def is_sound(identity: int, crc: object, body: object) -> bool:
    return isinstance(body, bytes) and bool(body) and crc == schema.crc_of(identity, body)
