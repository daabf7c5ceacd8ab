"""The broken file, read: whatever can be had out of it. It never raises for what stands there.

Its header is mended first; nothing else of it is ever written.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from edge_agent.core.frames import unpack
from edge_agent.core.logbook import Log, LogKey
from edge_agent.core.ranges import Ranges
from edge_agent.stores.spool import disk as on_disk
from edge_agent.stores.spool import schema
from edge_agent.stores.spool.disk import translated
from edge_agent.stores.spool.leaves import Leaves
from edge_agent.stores.spool.reader import is_sound
from edge_agent.stores.spool.schema import DiskFailing, DiskFull, FileBroken, Row

MAX_LOOKS = 64  # records tried to learn whose log it is
LAST_ROWS = "SELECT id, crc, body FROM r WHERE id BETWEEN ? AND ? ORDER BY id DESC LIMIT ?"
BOOKS_PAGE = 2  # of every file of ours, the first is 0; where many logs are, it only leads to them
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
                rows = self._query(schema.GET_ROWS, *bounds(log, a, b), -1)
            except (FileBroken, DiskFailing, DiskFull):
                rows = [row for seq in range(a, b + 1) for row in self._single(log, seq)]
            low, high = bounds(log, a, b)
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
                for log in _line(row):
                    known[log.id] = log
        known = {**self._bare_logs(), **known}
        with contextlib.suppress(FileBroken, DiskFailing, DiskFull):
            for log in self._found(known):
                known[log.id] = log
        return list(known.values())

    def _bare_logs(self) -> dict[int, Log]:
        """Out of the books' page as it is; of an old and a new line of one log the new one."""
        found: dict[int, Log] = {}
        with contextlib.suppress(OSError), contextlib.closing(Leaves(self._path)) as leaves:
            for identity, columns in leaves.page(BOOKS_PAGE):
                for log in _line((identity, *columns[1:])):
                    old = found.get(identity, log)
                    found[identity] = max(old, log, key=lambda one: (one.next, one.floor, one.upto))
        return found

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
        low, high = bounds(identity, 1, schema.MAX_SEQ)
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
            return self._query(schema.GET_ROWS, *bounds(log, seq, seq), -1)
        except (FileBroken, DiskFailing, DiskFull):
            return []

    def _query(self, sql: str, *values: int) -> list[Row]:
        return list(self._each(sql, *values))

    def _each(self, sql: str, *values: int) -> Iterator[Row]:
        if self._connection is None:
            raise FileBroken(f"salvage {self._path.name}: it can't be opened")
        with translated():
            yield from self._connection.execute(sql, values)


def _line(row: schema.LogRow) -> list[Log]:
    """None, when it is not as it was written."""
    with contextlib.suppress(FileBroken, msgspec.MsgspecError, ValueError):
        return [schema.read_log(row)]
    return []


def _text(raw: bytes) -> str:
    """One letter that flipped must not hide the lines after it; its own check tells of it."""
    return raw.decode(errors="replace")


def bounds(log: int, first: int, last: int) -> tuple[int, int]:
    return schema.row_id(log, first), schema.row_id(log, last)
