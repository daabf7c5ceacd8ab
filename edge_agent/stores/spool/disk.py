"""The one connection: transactions that pass whole or not at all, and reads by range.

Used by the spool's thread alone. It decides nothing; SQLite's errors leave it as `DiskFull`,
`DiskFailing` or `FileBroken`.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from edge_agent.core.logbook import Log
from edge_agent.core.ranges import Ranges
from edge_agent.stores.condition import kind_of
from edge_agent.stores.files import sync_folder
from edge_agent.stores.spool import schema
from edge_agent.stores.spool.schema import Connect, FileBroken, FileNewer, Row

RESERVE_PAGES = 64  # beyond the quota, so that what frees space always has room for its own books
MIN_PAGES = 32
Step = tuple[Log, Ranges]  # a log as it will be, and the seqs whose rows go with that
SIDECARS = ("-wal", "-shm", "-journal")


@contextmanager
def translated() -> Iterator[None]:
    """Raises: DiskFull, DiskFailing, FileBroken."""
    try:
        yield
    except sqlite3.ProgrammingError:
        raise
    except sqlite3.Error as error:
        raise schema.meaning_of(error) from error
    except (UnicodeDecodeError, MemoryError) as error:  # lengths and texts out of damaged pages
        raise FileBroken(f"spool: {type(error).__name__} while reading", healable=True) from error


class Disk:
    """One database file, open."""

    def __init__(self, path: Path, limit_bytes: int, connect: Connect = schema.connect) -> None:
        self.path = path
        self._connect = connect
        self._max_pages = max(MIN_PAGES, limit_bytes // schema.PAGE_BYTES)
        self._connection: sqlite3.Connection | None = None

    @property
    def connection(self) -> sqlite3.Connection:
        if self._connection is None:
            self.open()
        assert self._connection is not None
        return self._connection

    def open(self) -> None:
        """Raises: DiskFull, DiskFailing, FileBroken, FileNewer."""
        self.close()
        if os.path.lexists(self.path) and not self.path.is_file():
            raise FileNewer(
                f"open spool: expected a file, got {kind_of(self.path)}",
                hint="look who made it; it is set aside",
            )
        is_new = not self.path.exists()
        with translated(), contextlib.ExitStack() as if_refused:
            connection = self._connect(self.path)
            if_refused.callback(connection.close)  # whatever it was: or nobody else could open it
            schema.configure(connection, self._max_pages + RESERVE_PAGES)
            schema.prepare(connection)
            connection.execute(f"PRAGMA max_page_count = {self._max_pages}").fetchall()
            if_refused.pop_all()
        self._connection = connection
        if is_new:
            with contextlib.suppress(OSError):  # SQLite has flushed the folder for its log already
                self.path.chmod(0o600)
                sync_folder(self.path.parent)

    def close(self) -> None:
        """Never raises: a file that cannot be closed well is opened anew."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def reopen(self) -> None:
        """After a failed flush: what the page cache holds is written again, and flushed.

        The kernel forgets that pages were not written once it has told so; only a new write helps.

        Raises: DiskFull, DiskFailing, FileBroken.
        """
        self.open()
        self.checkpoint()

    @contextmanager
    def transaction(self, *, frees: bool = False) -> Iterator[sqlite3.Connection]:
        """frees: may use the reserve beyond the quota.

        Raises: DiskFull, DiskFailing, FileBroken.
        """
        connection = self.connection
        with translated():
            if frees:
                self._quota(RESERVE_PAGES)
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    with contextlib.suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")
                if frees:
                    with contextlib.suppress(sqlite3.Error):
                        self._quota(0)

    def _quota(self, reserve: int) -> None:
        pages = self._max_pages + reserve
        self.connection.execute(f"PRAGMA max_page_count = {pages}").fetchall()

    def room_bytes(self) -> int:
        """What the quota leaves, in whole pages.

        Raises: DiskFailing, FileBroken.
        """
        with translated():
            used = schema.number(self.connection, "page_count")
            free = schema.number(self.connection, "freelist_count")
        return max(0, self._max_pages - used + free) * schema.PAGE_BYTES

    def free_bytes(self) -> int:
        """Pages inside the file that hold nothing. Raises: DiskFailing, FileBroken."""
        with translated():
            return schema.number(self.connection, "freelist_count") * schema.PAGE_BYTES

    def checkpoint(self) -> None:
        """Everything into the file itself. Raises: DiskFull, DiskFailing, FileBroken."""
        with translated():
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def logs(self) -> list[Log]:
        """Raises: FileBroken, DiskFailing."""
        with translated():  # read to its end: a cursor half-way would keep the file open and locked
            rows = self.connection.execute(schema.GET_LOGS).fetchall()
        return [schema.read_log(row) for row in rows]

    def rows(self, log: int, first: int, last: int, limit: int) -> list[Row]:
        """Not checked, only of the right types. Raises: FileBroken, DiskFailing."""
        with translated():
            found = self.cursor(log, first, last, limit).fetchall()
        return [row if isinstance(row[2], bytes) else (row[0], 0, b"") for row in found]

    def cursor(self, log: int, first: int, last: int, limit: int = -1) -> sqlite3.Cursor:
        bounds = schema.row_id(log, first), schema.row_id(log, min(last, schema.MAX_SEQ))
        return self.connection.execute(schema.GET_ROWS, (*bounds, limit))


def settle(connection: sqlite3.Connection, steps: Iterable[Step]) -> list[Log]:
    """Inside a transaction: rows go, books follow; the logs as they stand then."""
    logs = []
    for log, gone in steps:
        size = drop(connection, log.id, gone) if gone else 0
        logs.append(msgspec.structs.replace(log, bytes=max(0, log.bytes - size)))
    connection.executemany(schema.PUT_LOGS, (schema.log_row(log) for log in logs))
    return logs


def drop(connection: sqlite3.Connection, log: int, gone: Ranges) -> int:
    """Inside a transaction: deletes the rows; the bytes of their bodies."""
    size = 0
    for a, b in gone:
        bounds = schema.row_id(log, a), schema.row_id(log, b)
        size += int(connection.execute(schema.SIZE_OF_ROWS, bounds).fetchone()[1])
        connection.execute(schema.DROP_ROWS, bounds)
    return size


def set_aside(path: Path, suffix: str) -> Path:
    """Renames a file and its companions to the next free `NAME.SUFFIX-N`.

    Raises: DiskFailing.
    """
    taken = {p.name for p in path.parent.glob(f"{path.name}.{suffix}-*")}
    number = next(n for n in range(1, len(taken) + 2) if f"{path.name}.{suffix}-{n}" not in taken)
    aside = path.with_name(f"{path.name}.{suffix}-{number}")
    move(path, aside)
    return aside


def move(path: Path, to: Path) -> None:
    """With its companions, those first: a log without its file is ignored, not the other way.

    Raises: DiskFailing.
    """
    try:
        for sidecar in SIDECARS:
            if os.path.lexists(beside := path.with_name(path.name + sidecar)):
                beside.replace(to.with_name(to.name + sidecar))
        if os.path.lexists(path):
            path.replace(to)
        sync_folder(path.parent)
    except OSError as error:
        raise schema.DiskFailing(f"move {path.name}: {error.strerror}", healable=True) from error


def remove(path: Path) -> None:
    """With its companions. Raises: DiskFailing."""
    try:
        for name in (path.name, *(path.name + s for s in SIDECARS)):
            path.with_name(name).unlink(missing_ok=True)
    except OSError as error:
        raise schema.DiskFailing(f"remove {path.name}: {error.strerror}", healable=True) from error
