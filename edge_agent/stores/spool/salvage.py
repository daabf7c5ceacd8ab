"""Out of a broken file into a fresh one: the books at once, the records slice by slice.

While it lasts the broken file is `NAME.salvage`. The fresh one holds the books; what it does not
hold of the records that they say are pending is looked for in the broken one: by its tree, then,
where that does not lead to all of them, on its bare pages. So it may be cut off anywhere and begins
again at the next start. What can't be read any more is declared corrupt.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from edge_agent.core.frames import unpack
from edge_agent.core.logbook import CORRUPT, EVICTED, Log, LogKey, voided
from edge_agent.core.ranges import Ranges, clip, count, intersect, lowest, of, subtract
from edge_agent.core.retention import rank
from edge_agent.stores.spool import disk as on_disk
from edge_agent.stores.spool import schema
from edge_agent.stores.spool.disk import Disk
from edge_agent.stores.spool.leaves import Leaves
from edge_agent.stores.spool.limits import Notice
from edge_agent.stores.spool.reader import is_sound
from edge_agent.stores.spool.schema import DiskFailing, DiskFull, Row
from edge_agent.stores.spool.source import Source

SLICE_ROWS = 256
MAX_SLICE_BYTES = 1 << 20
ROW_COLUMNS = 3
KEPT_ASIDE = 2  # broken files kept for a look, besides the one in work
SLICE_PAGES = 64


class Salvage:
    """Used by the spool's thread alone, between its other work."""

    def __init__(self, disk: Disk, logs: Iterable[Log]) -> None:
        self._disk = disk
        self.path = salvage_path(disk.path)
        self._source = Source(self.path)
        own = [log for log in logs if log.id != schema.BOOK]
        own.sort(key=lambda log: (rank(log.key.klass), log.key.epoch, log.id), reverse=True)
        self._all = [(log.id, log.next - 1) for log in own]
        self._todo = list(self._all)
        self._next = 1
        self._leaves: Leaves | None = None
        self._absent = 0  # not found by the tree
        self._why = CORRUPT
        self._is_last = False  # what is not here now is lost
        self.saved = 0
        self.lost = 0

    @property
    def is_over(self) -> bool:
        return not self._todo and self._leaves is None

    def step(self, books: Mapping[int, Log]) -> list[Log]:
        """One slice; logs of which something was lost. Raises: DiskFailing, FileBroken."""
        if self._todo:
            changed = self._walk(books)
            if not self._todo and self._absent and not self._is_last:
                self._begin_leaves()
            return changed
        if self._leaves is not None:
            self._look_at(self._leaves, books)
        return []

    def _walk(self, books: Mapping[int, Log]) -> list[Log]:
        identity, last = self._todo[-1]
        log = books.get(identity)
        wanted = clip(log.pending(), self._next, last) if log is not None else ()
        wanted = lowest(wanted, SLICE_ROWS)
        if log is None or not wanted:
            self._todo.pop()
            self._next = 1
            return []
        absent = subtract(wanted, self._here(log.id, wanted))
        found = {} if self._is_last else self._source.rows(log.id, absent)
        lost, why = absent if self._is_last else (), self._why
        if not self._put(found):
            found, lost, why = {}, absent, EVICTED  # the highest class came first
        self._absent += count(absent) - len(found)
        self._next = wanted[-1][1] + 1
        return self._give_up(log, lost, why) if lost else []

    def _begin_leaves(self) -> None:
        with contextlib.suppress(OSError):  # its closing drops SQLite's locks: nobody else comes
            self._leaves = Leaves(self.path)
            return
        self._begin_last()

    def _begin_last(self) -> None:
        leaves, self._leaves = self._leaves, None
        if leaves is not None:
            leaves.close()
        self._is_last = True
        self._todo = list(self._all)

    def _look_at(self, leaves: Leaves, books: Mapping[int, Log]) -> None:
        """A slice of the bare pages: what is pending, and neither here nor of another log."""
        found: dict[int, dict[int, Row]] = {}
        for identity, columns in leaves.next(SLICE_PAGES):
            row = (identity, *columns[1:])
            log, seq = books.get(identity >> schema.SEQ_BITS), identity & schema.MAX_SEQ
            if len(columns) != ROW_COLUMNS or log is None or not is_sound(*row):
                continue
            if _is_of(log, seq, row):  # before it takes the place of another of the same number
                found.setdefault(log.id, {})[seq] = row
        for one, last in self._all:
            log, rows = books.get(one), found.get(one, {})
            if log is None or not rows:
                continue
            wanted = intersect(clip(log.pending(), 1, last), of(rows))
            absent = subtract(wanted, self._here(log.id, wanted))
            new = {seq: rows[seq] for a, b in absent for seq in range(a, b + 1)}
            if not self._put(new):
                self._why = EVICTED
        if leaves.is_over:
            self._begin_last()

    def _here(self, log: int, wanted: Ranges) -> Ranges:
        return of(
            row[0] & schema.MAX_SEQ for a, b in wanted for row in self._disk.rows(log, a, b, -1)
        )

    def _put(self, found: Mapping[int, Row]) -> bool:
        """False when there is no room."""
        try:
            self._insert(list(found.values()))
        except DiskFull:
            return False
        self.saved += len(found)
        return True

    def _insert(self, rows: list[Row]) -> None:
        while rows:
            size, number = 0, 0
            for _, _, body in rows:
                if number and size + len(body) > MAX_SLICE_BYTES:
                    break
                size, number = size + len(body), number + 1
            with self._disk.transaction(frees=True) as connection:
                connection.executemany(schema.PUT_ROWS, rows[:number])
            rows = rows[number:]

    def _give_up(self, log: Log, bad: Ranges, why: str) -> list[Log]:
        self.lost += count(bad)
        with self._disk.transaction(frees=True) as connection:
            return on_disk.settle(connection, [voided(log, bad, why)])

    def pause(self) -> None:
        """The next start goes on with it."""
        self._source.close()
        if self._leaves is not None:
            self._leaves.close()

    def finish(self) -> Notice:
        """The broken file is kept for a look, the last few of them."""
        self._source.close()
        with contextlib.suppress(DiskFailing):
            keep_few(self._disk.path)
            on_disk.move(self.path, next_aside(self._disk.path))
        return Notice(
            name="salvaged", records=self.lost,
            what=f"{self.saved} records saved out of the broken file, {self.lost} lost",
            fix="check the disk: dmesg, smartctl",
        )  # fmt: skip


def begin_salvage(disk: Disk, running: Salvage | None, logs: list[Log]) -> Salvage:
    """Sets the broken file aside and writes the books into a fresh one.

    logs: the books in memory; when they are empty those of the broken file are read.

    Raises: DiskFailing, DiskFull, FileBroken.
    """
    move_aside(disk, running)
    return begin_anew(disk, logs)


def move_aside(disk: Disk, running: Salvage | None) -> None:
    """Raises: DiskFailing."""
    disk.close()
    aside = salvage_path(disk.path)
    if running is not None:
        running.pause()
    if aside.exists():  # cut off before: what it still held is lost, and will be counted
        keep_few(disk.path)
        on_disk.move(aside, next_aside(disk.path))
    on_disk.move(disk.path, aside)


def begin_anew(disk: Disk, logs: list[Log]) -> Salvage:
    """Writes the books into a fresh file beside the one that lies aside. What a try that failed had
    begun goes: it held no record.

    Raises: DiskFailing, DiskFull, FileBroken.
    """
    aside = salvage_path(disk.path)
    disk.close()
    on_disk.remove(disk.path)
    if all(log.id == schema.BOOK for log in logs):
        source = Source(aside)
        logs = source.logs()
        source.close()
    disk.open()
    with disk.transaction(frees=True) as connection:
        on_disk.settle(connection, [(log, ()) for log in logs])
    return Salvage(disk, logs)


def _is_of(log: Log, seq: int, row: Row) -> bool:
    """A number is given again once its log is forgotten, and pages that are free keep what was."""
    with contextlib.suppress(msgspec.MsgspecError):
        record = unpack(row[2])
        key = LogKey(record.node, record.stream, record.klass, record.epoch)
        return (key, record.seq) == (log.key, seq)
    return False


def salvage_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.salvage")


def asides(path: Path) -> list[tuple[int, Path]]:
    """The broken files kept, oldest first."""
    found = []
    for beside in path.parent.glob(f"{path.name}.damaged-*"):
        number = beside.name.rpartition("-")[2]
        if number.isdigit():
            found.append((int(number), beside))
    return sorted(found)


def next_aside(path: Path) -> Path:
    kept = asides(path)
    return path.with_name(f"{path.name}.damaged-{kept[-1][0] + 1 if kept else 1}")


def keep_few(path: Path) -> None:
    """Raises: DiskFailing."""
    for _, old in asides(path)[: -(KEPT_ASIDE - 1) or None]:
        on_disk.remove(old)
