"""Out of a broken file into a fresh one: the books at once, the records slice by slice.

While it lasts the broken file is `NAME.salvage`. The fresh one holds the books; what it does not
hold of the records that they say are pending is looked for in the broken one. So it may be cut off
anywhere and begins again at the next start. What can't be read any more is declared corrupt.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from edge_agent.core.frames import unpack
from edge_agent.core.logbook import CORRUPT, EVICTED, Log, LogKey, voided
from edge_agent.core.ranges import Ranges, clip, count, lowest, of, subtract
from edge_agent.core.retention import rank
from edge_agent.stores.spool import disk as on_disk
from edge_agent.stores.spool import schema
from edge_agent.stores.spool.disk import Disk, translated
from edge_agent.stores.spool.limits import Notice
from edge_agent.stores.spool.reader import is_sound
from edge_agent.stores.spool.schema import DiskFailing, DiskFull, FileBroken, Row

SLICE_ROWS = 256
MAX_SLICE_BYTES = 1 << 20
MAX_LOOKS = 64  # records tried to learn whose log it is
KEPT_ASIDE = 2  # broken files kept for a look, besides the one in work
LAST_ROWS = "SELECT id, crc, body FROM r WHERE id BETWEEN ? AND ? ORDER BY id DESC LIMIT ?"
PAGES_AT, CHANGES_AT, VALID_FOR_AT, FREE_AT = 28, 24, 92, slice(32, 40)


def mend_header(path: Path) -> None:
    """So that a hit there, or a torn end, costs no more than the pages that are gone."""
    with contextlib.suppress(OSError), path.open("r+b") as file:
        pages = os.fstat(file.fileno()).st_size // schema.PAGE_BYTES
        old = file.read(schema.PAGE_BYTES)
        if pages == 0:
            return
        header = bytearray(old)
        with contextlib.suppress(OSError, DiskFailing):  # as on a full disk: then as it is
            header[:] = first_page(path.with_name(f"{path.name}.blank"))
        header[CHANGES_AT : CHANGES_AT + 4] = old[CHANGES_AT : CHANGES_AT + 4]
        header[FREE_AT] = old[FREE_AT]
        header[PAGES_AT : PAGES_AT + 4] = pages.to_bytes(4, "big")
        header[VALID_FOR_AT : VALID_FOR_AT + 4] = header[CHANGES_AT : CHANGES_AT + 4]
        file.seek(0)
        file.write(header)


def first_page(beside: Path) -> bytes:
    """Of an empty file of ours: header and schema, the same in every one, compacted or not.

    beside: a name for a file that exists meanwhile. Raises: OSError, DiskFailing.
    """
    on_disk.remove(beside)
    try:
        with contextlib.closing(schema.connect(beside)) as connection:
            schema.configure(connection, on_disk.MIN_PAGES)
            schema.prepare(connection)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        with beside.open("rb") as file:
            return file.read(schema.PAGE_BYTES)
    except sqlite3.Error as error:
        raise DiskFailing(f"salvage {beside.name}: {error}", healable=True) from error
    finally:
        on_disk.remove(beside)


class Source:
    """The broken file: whatever can be read out of it. Never raises for its content."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        mend_header(path)
        with contextlib.suppress(sqlite3.Error):
            self._connection = schema.connect(path)
            self._connection.text_factory = _text
            for pragma in ("locking_mode = EXCLUSIVE", "query_only = ON", "wal_autocheckpoint = 0"):
                self._connection.execute(f"PRAGMA {pragma}").fetchall()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def rows(self, log: int, wanted: Ranges) -> dict[int, Row]:
        """The sound rows of those wanted, by seq."""
        found: dict[int, Row] = {}
        for a, b in wanted:
            try:
                rows = self._query(schema.GET_ROWS, *_bounds(log, a, b), -1)
            except (FileBroken, DiskFailing, DiskFull):
                rows = [row for seq in range(a, b + 1) for row in self._single(log, seq)]
            low, high = _bounds(log, a, b)
            found |= {
                row[0] & schema.MAX_SEQ: row
                for row in rows
                if is_sound(*row) and low <= row[0] <= high
            }
        return found

    def logs(self) -> list[Log]:
        """The books as far as they are sound, the rest by what the records say of themselves."""
        known: dict[int, Log] = {}
        with contextlib.suppress(FileBroken, DiskFailing, DiskFull):
            for row in self._each(schema.GET_LOGS):
                with contextlib.suppress(FileBroken, msgspec.MsgspecError):
                    log = schema.read_log(row)
                    known[log.id] = log
        with contextlib.suppress(FileBroken, DiskFailing, DiskFull):
            for log in self._found(known):
                known[log.id] = log
        return list(known.values())

    def _found(self, known: Mapping[int, Log]) -> Iterator[Log]:
        """Logs that have rows but no line in the books."""
        at = schema.row_id(1, 0)
        query = "SELECT id FROM r WHERE id >= ? ORDER BY id LIMIT 1"
        while (rows := self._query(query, at)) and rows[0][0] >= at:  # a broken tree leads back
            identity = rows[0][0] >> schema.SEQ_BITS
            if identity not in known:
                log = self._log_of(identity)
                if log is not None:
                    yield log
            if identity == schema.MAX_LOG_ID:
                return
            at = schema.row_id(identity + 1, 0)

    def _log_of(self, identity: int) -> Log | None:
        """Its name out of a sound record, its extent out of the outermost ones."""
        low, high = _bounds(identity, 1, schema.MAX_SEQ)
        found = [
            row
            for query in (schema.GET_ROWS, LAST_ROWS)
            for row in self._query(query, low, high, MAX_LOOKS)
            if low <= row[0] <= high and is_sound(*row)
        ]
        for row in found:
            with contextlib.suppress(msgspec.MsgspecError):
                record = unpack(row[2])
                key = LogKey(record.node, record.stream, record.klass, record.epoch)
                seqs = [row[0] & schema.MAX_SEQ for row in found]
                return Log(id=identity, key=key, floor=min(seqs), next=max(seqs) + 1)
        return None

    def _single(self, log: int, seq: int) -> list[Row]:
        try:
            return self._query(schema.GET_ROWS, *_bounds(log, seq, seq), -1)
        except (FileBroken, DiskFailing, DiskFull):
            return []

    def _query(self, sql: str, *values: int) -> list[Row]:
        return list(self._each(sql, *values))

    def _each(self, sql: str, *values: int) -> Iterator[Row]:
        if self._connection is None:
            raise FileBroken(f"salvage {self._path.name}: it can't be opened")
        with translated():
            yield from self._connection.execute(sql, values)


class Salvage:
    """Used by the spool's thread alone, between its other work."""

    def __init__(self, disk: Disk, logs: Iterable[Log]) -> None:
        self._disk = disk
        self.path = salvage_path(disk.path)
        self._source = Source(self.path)
        own = [log for log in logs if log.id != schema.BOOK]
        own.sort(key=lambda log: (rank(log.key.klass), log.key.epoch, log.id), reverse=True)
        self._todo = [(log.id, log.next - 1) for log in own]
        self._next = 1
        self.saved = 0
        self.lost = 0

    @property
    def is_over(self) -> bool:
        return not self._todo

    def step(self, books: Mapping[int, Log]) -> list[Log]:
        """One slice; logs of which something was lost. Raises: DiskFailing, FileBroken."""
        if self.is_over:
            return []
        identity, last = self._todo[-1]
        log = books.get(identity)
        wanted = clip(log.pending(), self._next, last) if log is not None else ()
        wanted = lowest(wanted, SLICE_ROWS)
        if log is None or not wanted:
            self._todo.pop()
            self._next = 1
            return []
        here = {
            row[0] & schema.MAX_SEQ for a, b in wanted for row in self._disk.rows(log.id, a, b, -1)
        }
        absent = subtract(wanted, of(here))
        found = self._source.rows(log.id, absent)
        why, changed = CORRUPT, []
        try:
            self._insert(list(found.values()))
        except DiskFull:
            found, why = {}, EVICTED  # the highest class came first: the rest has no room
        bad = subtract(absent, of(found))
        if bad:
            changed = self._give_up(log, bad, why)
        self.saved += len(found)
        self._next = wanted[-1][1] + 1
        return changed

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
    disk.close()
    aside = salvage_path(disk.path)
    if running is not None:
        running.pause()
    if aside.exists():  # cut off before: what it still held is lost, and will be counted
        keep_few(disk.path)
        on_disk.move(aside, next_aside(disk.path))
    on_disk.move(disk.path, aside)
    if all(log.id == schema.BOOK for log in logs):
        source = Source(aside)
        logs = source.logs()
        source.close()
    disk.open()
    with disk.transaction(frees=True) as connection:
        on_disk.settle(connection, [(log, ()) for log in logs])
    return Salvage(disk, logs)


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


def _text(raw: bytes) -> str:
    """One letter that flipped must not hide the lines after it; its own check tells of it."""
    return raw.decode(errors="replace")


def _bounds(log: int, first: int, last: int) -> tuple[int, int]:
    return schema.row_id(log, first), schema.row_id(log, last)
