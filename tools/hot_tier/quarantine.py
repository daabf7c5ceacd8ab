"""Payloads that nothing could be read of, kept to be looked at: `python -m tools.hot_tier
quarantine --db FILE [--out FOLDER] [--empty]`.

They are what came, as text, one bundle each: a bundle that could not be opened as it was, an
envelope with a bad body in a bundle of its own. The same one again is counted, not kept twice.
Bounded in number and bytes, the oldest goes first. Nothing of them is acknowledged.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import xxhash

from edge_agent.core.errors import ConfigError
from edge_agent.stores.files import write_atomic
from tools.hot_tier.database import Database, translated

MAX_ROWS: Final = 1000
MAX_BYTES: Final = 32 << 20
MAX_A_TRANSACTION: Final = 64
MAX_REASON_CHARS: Final = 300
_COLUMNS: Final = "n, first_s, last_s, times, carrier, reason, payload"


class Bad(NamedTuple):
    """A payload, and why nothing could be read of it."""

    payload: bytes
    reason: str


class Quarantine:
    """Written inside the transaction of whoever calls; `forget` after one that failed."""

    def __init__(self, db: Database, utc_s: Callable[[], float] = time.time) -> None:
        self._db = db
        self._utc_s = utc_s
        self.forget()

    def forget(self) -> None:
        """Only what the database has is known."""
        ((self._rows, self._bytes),) = self._db.rows(
            "SELECT count(*), coalesce(sum(length(payload)), 0) FROM bad"
        )

    def put(self, carrier: str, bad: Bad) -> int:
        """How many others had to go for it."""
        name = xxhash.xxh3_64_digest(bad.payload)
        now_s = int(self._utc_s())
        if self._db.rows("SELECT 1 FROM bad WHERE hash = ?", name):
            again = "UPDATE bad SET times = times + 1, last_s = ? WHERE hash = ?"
            self._db.write(again, now_s, name)
            return 0
        self._db.write(
            "INSERT INTO bad(hash, first_s, last_s, times, carrier, reason, payload) "
            "VALUES (?, ?, ?, 1, ?, ?, ?)",
            name, now_s, now_s, carrier, bad.reason[:MAX_REASON_CHARS], bad.payload,
        )  # fmt: skip
        self._rows += 1
        self._bytes += len(bad.payload)
        return self._cut()

    def _cut(self) -> int:
        gone = 0
        while self._rows > MAX_ROWS or self._bytes > MAX_BYTES:
            ((n, size),) = self._db.rows("SELECT n, length(payload) FROM bad ORDER BY n LIMIT 1")
            self._db.write("DELETE FROM bad WHERE n = ?", n)
            self._rows -= 1
            self._bytes -= size
            gone += 1
        return gone


def kept(path: Path) -> Iterator[tuple[dict[str, Any], bytes]]:
    """What is there, the oldest first, and the payload of each. Reads beside a receiver at work.

    Raises: ConfigError when it is no file of the hot tier; DiskFull, Damaged.
    """
    if not path.is_file():
        raise ConfigError("--db", f"{path.name}: expected a database, got no file")
    readable = f"{path.absolute().as_uri()}?mode=ro"
    with translated(path), closing(sqlite3.connect(readable, uri=True)) as db:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'bad'").fetchall():
            return
        for n, first_s, last_s, times, carrier, reason, payload in db.execute(
            f"SELECT {_COLUMNS} FROM bad ORDER BY n"
        ):
            told = {
                "n": n, "first": _utc(first_s), "last": _utc(last_s), "times": times,
                "carrier": carrier, "bytes": len(payload), "reason": reason,
            }  # fmt: skip
            yield told, payload


def _utc(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def add(verbs: Any) -> None:
    """The verb `quarantine`."""
    parser = verbs.add_parser("quarantine", help="list payloads that could not be read")
    parser.add_argument("--db", type=Path, required=True, metavar="FILE", help="the database")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write each into a file there")
    words = "forget them, and their counts; the receiver must not be at work"
    parser.add_argument("--empty", action="store_true", help=words)
    parser.set_defaults(run=command)


def command(options: argparse.Namespace) -> int:
    """One line of JSON for each, the oldest first. Exit code."""
    for told, payload in kept(options.db):
        if options.out is not None:
            told["file"] = f"{told['n']:06}.txt"
            _write(options.out, told["file"], payload)
        sys.stdout.write(msgspec.json.encode(told).decode() + "\n")
    if options.empty:
        _empty(options.db)
    return 0


def _empty(path: Path) -> None:
    with closing(Database(path, mint="")) as db, db.transaction():
        counts = db.get("counts") or {}
        db.write("DELETE FROM bad")
        db.put("counts", {**counts, "bad_kept": 0, "bad_dropped": 0})


def _write(folder: Path, name: str, payload: bytes) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / name, payload)
    except OSError as error:
        words = f"write {name}: {error.strerror or error}"
        raise ConfigError("--out", words, hint="make room, or name another folder") from error
