"""The file: its tables, its settings, its rows, and what SQLite's complaints mean.

    r    id INTEGER PRIMARY KEY = log << 40 | seq · crc = crc32(id as 8 bytes LE, body) · body
    log  id · node · stream · class · epoch · floor · next · acked · void

`acked` is MessagePack [upto, [[a, b], ...]]. `void` is MessagePack [bytes, evicted, corrupt, lost,
[[a, b, why], ...]] and then a check of 8 bytes (xxh3_64, LE) over the whole row before it. Log 0 is
the book: its epoch is the last one minted, `next` - 1 and its counters are those of all logs that
were forgotten. `docs/spool.md` is the same in words and pictures.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import xxhash

from edge_agent.core.errors import Damaged, Overloaded
from edge_agent.core.frames import RecordClass
from edge_agent.core.logbook import Log, LogKey
from edge_agent.core.ranges import Ranges

APPLICATION_ID = 0x45415350  # "EASP"
SCHEMA_VERSION = 1
PAGE_BYTES = 4096
WAL_PAGES = 256  # checkpointed when the write-ahead log has so many
WAL_BYTES = 1 << 20  # what a write-ahead log is cut back to once it is empty
CACHE_KIB = 2048
SEQ_BITS = 40
MAX_SEQ = (1 << SEQ_BITS) - 1
MAX_LOG_ID = (1 << 23) - 1  # id is a signed number of 64 bits
BOOK = 0
CHECK_BYTES = 8

TABLES = (
    "CREATE TABLE r(id INTEGER PRIMARY KEY, crc INTEGER NOT NULL, body BLOB NOT NULL)",
    # one per (node, stream, class, epoch)
    """CREATE TABLE log(id INTEGER PRIMARY KEY, node TEXT NOT NULL, stream TEXT NOT NULL,
    class TEXT NOT NULL, epoch INTEGER NOT NULL, floor INTEGER NOT NULL, next INTEGER NOT NULL,
    acked BLOB NOT NULL, void BLOB NOT NULL)""",
)
# From this version to the next. Each must change what a table is made with, by more than bits can
# flip: a file that says to be newer, and has the tables of an older one, is a damaged one of ours.
MIGRATIONS: Mapping[int, tuple[str, ...]] = {}
MAX_FLIPPED_BITS = 64

PUT_ROWS = "INSERT OR REPLACE INTO r VALUES (?, ?, ?)"
PUT_LOGS = "INSERT OR REPLACE INTO log VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
GET_LOGS = "SELECT id, node, stream, class, epoch, floor, next, acked, void FROM log"
GET_ROWS = "SELECT id, crc, body FROM r WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?"
SIZE_OF_ROWS = "SELECT count(*), coalesce(sum(length(body)), 0) FROM r WHERE id BETWEEN ? AND ?"
DROP_ROWS = "DELETE FROM r WHERE id BETWEEN ? AND ?"

ASIDE = "the file is set aside; check the disk"
Connect = Callable[[Path], sqlite3.Connection]
Row = tuple[int, int, bytes]
LogRow = tuple[Any, ...]


class DiskFull(Overloaded):
    """The quota or the file system has no room."""


class DiskFailing(Damaged):
    """The disk refused; the same may pass a second time."""


class FileBroken(Damaged):
    """The file is no longer a sound database."""


class FileNewer(Damaged):
    """Made by a newer agent, or by somebody else: nothing that we may touch."""


ERRORS = (DiskFull, DiskFailing, FileBroken)  # what a disk may answer


def connect(path: Path) -> sqlite3.Connection:
    """The one connection; used by one thread, though not the one that made it."""
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0.5)


def meaning_of(error: sqlite3.Error) -> DiskFull | DiskFailing | FileBroken:
    """Whose fault it is. Codes are there from Python 3.11 on only, so the words are read."""
    words = str(error)
    if "is full" in words:
        return DiskFull(f"spool: {words}", hint="make room on the file system of state_dir")
    weather = ("I/O error", "unable to open", "readonly", "locked", "interrupted", "protocol")
    if any(word in words for word in weather):
        return DiskFailing(f"spool: {words}", hint="check the disk: dmesg, smartctl", healable=True)
    return FileBroken(f"spool: {words}", hint=ASIDE, healable=True)


def configure(connection: sqlite3.Connection, max_pages: int) -> None:
    """What must hold at every open. WAL without shared memory: nobody else may look in.

    Raises: sqlite3.Error.
    """
    for pragma in (
        "locking_mode = EXCLUSIVE",
        f"page_size = {PAGE_BYTES}",
        "journal_mode = WAL",
        "synchronous = FULL",
        f"wal_autocheckpoint = {WAL_PAGES}",
        f"journal_size_limit = {WAL_BYTES}",
        f"max_page_count = {max_pages}",
        f"cache_size = -{CACHE_KIB}",
        "mmap_size = 0",
        "secure_delete = FAST",  # records hold no name; zeroing what goes would double the writes
        "cell_size_check = ON",
        "trusted_schema = OFF",
        "temp_store = MEMORY",
    ):
        connection.execute(f"PRAGMA {pragma}").fetchall()


def prepare(
    connection: sqlite3.Connection,
    version: int = SCHEMA_VERSION,
    migrations: Mapping[int, tuple[str, ...]] = MIGRATIONS,
) -> None:
    """Makes the tables, or brings older ones up to date, in one transaction.

    Raises: FileNewer, FileBroken, sqlite3.Error.
    """
    found = number(connection, "user_version")
    owner = number(connection, "application_id")
    empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    if empty and number(connection, "page_count") > 1:
        raise FileBroken("open spool: expected tables, got none", hint=ASIDE, healable=True)
    if not empty and (owner != APPLICATION_ID or not 1 <= found <= version):
        if _flipped_bits(connection) <= MAX_FLIPPED_BITS:
            raise FileBroken("open spool: the mark that says whose it is has been damaged",
                             hint=ASIDE, healable=True)  # fmt: skip
        made_by = f"schema {found}" if owner == APPLICATION_ID else "another program"
        raise FileNewer(
            f"open spool: expected schema 1 to {version}, got {made_by}",
            hint="it is set aside; the agent that made it can still read it",
        )
    steps = TABLES if empty else [s for v in range(found, version) for s in migrations[v]]
    if not steps:
        if version == SCHEMA_VERSION and _flipped_bits(connection):  # no key, and no row is found
            raise FileBroken("open spool: its tables are not as they were made",
                             hint=ASIDE, healable=True)  # fmt: skip
        return
    connection.execute("BEGIN IMMEDIATE")
    for step in steps:
        connection.execute(step)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {version}")
    connection.execute("COMMIT")


def _flipped_bits(connection: sqlite3.Connection) -> int:
    """In how many bits its tables differ from ours."""
    found = connection.execute("SELECT sql FROM sqlite_master ORDER BY rootpage").fetchall()
    there, ours = "\n".join(str(sql) for (sql,) in found).encode(), "\n".join(TABLES).encode()
    if len(there) != len(ours):
        return 8 * max(len(there), len(ours))
    return (int.from_bytes(there, "big") ^ int.from_bytes(ours, "big")).bit_count()


def number(connection: sqlite3.Connection, pragma: str) -> int:
    """Raises: sqlite3.Error."""
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])


def row_id(log: int, seq: int) -> int:
    return log << SEQ_BITS | seq


def crc_of(identity: int, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(identity.to_bytes(8, "little")))


def log_row(log: Log) -> LogRow:
    """As it stands in the table."""
    acked = msgspec.msgpack.encode((log.upto, log.held))
    void = msgspec.msgpack.encode((log.bytes, log.evicted, log.corrupt, log.lost, log.void))
    node, stream, klass, epoch = log.key
    name = "" if log.id == BOOK else klass.value
    head = (log.id, node, stream, name, epoch, log.floor, log.next, acked)
    return (*head, void + _check(head, void))


def read_log(row: LogRow) -> Log:
    """Raises: FileBroken when the row is not as it was written."""
    *head, sealed = row
    if not isinstance(sealed, bytes) or not isinstance(head[-1], bytes):
        raise FileBroken(f"spool: log {row[0]} is damaged: expected bytes")
    void, check = sealed[:-CHECK_BYTES], sealed[-CHECK_BYTES:]
    if _check(tuple(head), void) != check:
        raise FileBroken(f"spool: log {row[0]} is damaged: its check does not fit")
    identity, node, stream, klass, epoch, floor, following, acked = head
    upto, held = msgspec.msgpack.decode(acked, type=tuple[int, Ranges])
    size, evicted, corrupt, lost, voids = msgspec.msgpack.decode(
        void, type=tuple[int, int, int, int, tuple[tuple[int, int, str], ...]]
    )
    key = LogKey(node, stream, RecordClass(klass or "alarm"), epoch)
    return Log(id=identity, key=key, floor=floor, next=following, upto=upto, held=held, void=voids,
               bytes=size, evicted=evicted, corrupt=corrupt, lost=lost)  # fmt: skip


def _check(head: tuple[Any, ...], void: bytes) -> bytes:
    try:
        content = msgspec.msgpack.encode((*head, void))
    except (OverflowError, UnicodeEncodeError):  # a damaged text
        return b""
    return xxhash.xxh3_64_intdigest(content).to_bytes(CHECK_BYTES, "little")
