"""The hot tier's file: one SQLite connection in one thread, durable at each commit.

WAL with synchronous=FULL: what a transaction wrote is on the disk when its block ends, or nothing
of it is. `rx`, the identity that nodes know us by, is minted with the file; `opens` counts how
often it was opened, so that acknowledgements of one `rx` keep rising.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from edge_agent.core.errors import ConfigError, Damaged, Overloaded

APPLICATION_ID: Final = 0x45414854  # "EAHT"
SCHEMA_VERSION: Final = 1
PAGE_BYTES: Final = 4096
WAL_PAGES: Final = 1000  # checkpointed when the write-ahead log has so many
WAL_BYTES: Final = 8 << 20  # what it is cut back to
CACHE_KIB: Final = 8192

TABLES: Final = (
    # id = log << 40 | seq; crc = crc32 of the body; body = MessagePack of the record
    "CREATE TABLE r(id INTEGER PRIMARY KEY, crc INTEGER NOT NULL, body BLOB NOT NULL)",
    """CREATE TABLE log(id INTEGER PRIMARY KEY, node TEXT NOT NULL, stream TEXT NOT NULL,
    class TEXT NOT NULL, epoch INTEGER NOT NULL, floor INTEGER NOT NULL, next INTEGER NOT NULL,
    closed INTEGER NOT NULL, upto INTEGER NOT NULL, have BLOB NOT NULL, held INTEGER NOT NULL,
    evicted INTEGER NOT NULL, corrupt INTEGER NOT NULL, lost INTEGER NOT NULL,
    other INTEGER NOT NULL, duplicates INTEGER NOT NULL, conflicts INTEGER NOT NULL,
    bytes INTEGER NOT NULL, emitted INTEGER NOT NULL DEFAULT 0,
    UNIQUE(node, stream, class, epoch))""",
    "CREATE INDEX behind ON log(id) WHERE emitted < upto",
    """CREATE TABLE void(log INTEGER, a INTEGER, b INTEGER NOT NULL, why TEXT NOT NULL,
    PRIMARY KEY(log, a)) WITHOUT ROWID""",
    # ids a ... b of r, in the order of their coming
    "CREATE TABLE came(n INTEGER PRIMARY KEY, a INTEGER NOT NULL, b INTEGER NOT NULL)",
    # the same, below what the ordered output had already been given
    "CREATE TABLE late(n INTEGER PRIMARY KEY, a INTEGER NOT NULL, b INTEGER NOT NULL)",
    # same id as a row of r, other content
    """CREATE TABLE odd(id INTEGER, crc INTEGER, body BLOB NOT NULL, carrier TEXT NOT NULL,
    PRIMARY KEY(id, crc))""",
    """CREATE TABLE doc(n INTEGER PRIMARY KEY, node TEXT NOT NULL, name TEXT NOT NULL,
    epoch INTEGER NOT NULL, number INTEGER NOT NULL, body BLOB NOT NULL)""",
    "CREATE INDEX doc_of ON doc(node, name, n)",
    "CREATE TABLE meta(name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
)


# Made where it is not there yet: a file of an older receiver stays a file of ours.
ADDED: Final = (
    # payloads that nothing could be read of; hash = xxh3_64 of the payload
    """CREATE TABLE IF NOT EXISTS bad(n INTEGER PRIMARY KEY AUTOINCREMENT,
    hash BLOB UNIQUE NOT NULL, first_s INTEGER NOT NULL, last_s INTEGER NOT NULL,
    times INTEGER NOT NULL, carrier TEXT NOT NULL, reason TEXT NOT NULL, payload BLOB NOT NULL)""",
)


class DiskFull(Overloaded):
    """Nothing is lost: what could not be written is not acknowledged."""


class Database:
    """Used by one thread, the one that made it. Raises DiskFull and Damaged, never SQLite's."""

    def __init__(self, path: Path, *, mint: str, max_bytes: int = 1 << 40) -> None:
        """mint: the `rx` of a file that does not exist yet.

        Raises: ConfigError when it is no file of ours, or in use; DiskFull, Damaged.
        """
        self.path = path
        try:
            self._lock = os.open(f"{path}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            hint = "make its folder, and let this user write there"
            raise ConfigError("--db", f"cannot be opened: {error.strerror}", hint=hint) from error
        try:
            self._exclude()
            with translated(path):
                self._db = sqlite3.connect(path, isolation_level=None)
                try:
                    self._open(mint, max_bytes)
                except BaseException:
                    self._db.close()
                    raise
        except BaseException:
            os.close(self._lock)
            raise

    def _exclude(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                "--db", f"{self.path} is in use by another receiver", hint="stop it first"
            ) from None

    def _open(self, mint: str, max_bytes: int) -> None:
        for pragma in (
            f"page_size={PAGE_BYTES}",
            "journal_mode=WAL",
            "synchronous=FULL",
            f"wal_autocheckpoint={WAL_PAGES}",
            f"journal_size_limit={WAL_BYTES}",
            f"cache_size=-{CACHE_KIB}",
            f"max_page_count={max(16, max_bytes // PAGE_BYTES)}",
        ):
            self._db.execute(f"PRAGMA {pragma}").fetchall()
        with self.transaction():
            ((application,),) = self.rows("PRAGMA application_id")
            ((tables,),) = self.rows("SELECT count(*) FROM sqlite_master")
            if not tables:
                self._create(mint)
            elif application != APPLICATION_ID:
                raise ConfigError("--db", f"{self.path} is no file of the hot tier")
            if self.get("schema") != SCHEMA_VERSION:
                raise ConfigError(
                    "--db", f"{self.path}: expected schema {SCHEMA_VERSION}, got another"
                )
            for table in ADDED:
                self._db.execute(table)
            self.put("opens", self.get("opens") + 1)
        self.rx: str = self.get("rx")
        self.opens: int = self.get("opens")

    def _create(self, mint: str) -> None:
        self._db.execute(f"PRAGMA application_id={APPLICATION_ID}")
        for table in TABLES:
            self._db.execute(table)
        self.put("schema", SCHEMA_VERSION)
        self.put("rx", mint)
        self.put("opens", 0)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All of the block durable when it ends, or nothing of it.

        Raises: DiskFull, Damaged.
        """
        with translated(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # a full disk rolls back by itself
                    self._db.execute("ROLLBACK")
                raise

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with translated(self.path):
            return self._db.execute(sql, values).fetchall()

    def write(self, sql: str, *values: Any) -> None:
        self._db.execute(sql, values)

    def write_many(self, sql: str, rows: Iterator[tuple[Any, ...]]) -> None:
        self._db.executemany(sql, rows)

    def get(self, name: str) -> Any:
        """A value of `meta`; None when there is none."""
        found = self.rows("SELECT value FROM meta WHERE name = ?", name)
        return msgspec.json.decode(found[0][0]) if found else None

    def put(self, name: str, value: Any) -> None:
        self.write("INSERT OR REPLACE INTO meta VALUES (?, ?)", name, msgspec.json.encode(value))

    def close(self) -> None:
        with translated(self.path):
            self._db.close()
        os.close(self._lock)


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """SQLite's complaints in the words of the house."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "full" in str(error):
            raise DiskFull(f"write {path.name}: {error}", hint="make room on its disk") from error
        raise Damaged(f"use {path.name}: {error}", hint="check its disk") from error
    except sqlite3.DatabaseError as error:
        raise Damaged(
            f"use {path.name}: {error}", hint="start with another --db; nodes send again"
        ) from error
