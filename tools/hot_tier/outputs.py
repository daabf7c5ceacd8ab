"""JSON Lines out of the database: `live` as it comes, `ordered` per log up to `upto`.

Both are derived: the database knows how many bytes of each file are good and what is in them. After
a crash the rest is cut off and written again, so that each record stands in a file once. A file
that is gone, shorter, or another one is written anew from the first record. Lines of `ordered` that
are no records: `{"kind":"void",...,"first","last","why"}` where a log has a gap for good. A record
whose node had given it up, and that came after all, follows later, with `"late":true`.

Used by the thread of the database.
"""

from __future__ import annotations

import errno
import math
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import msgspec

from edge_agent.core.errors import Overloaded
from edge_agent.core.frames import to_json, unpack
from edge_agent.core.logbook import LogKey
from tools.hot_tier.database import Database
from tools.hot_tier.receiver import merged
from tools.hot_tier.store import SEQ_BITS, SEQ_MASK, Logs, Voids, row_id

Form = Literal["live", "ordered"]
MAX_ROWS_A_STEP: Final = 1000
MAX_LOGS_A_STEP: Final = 64

Place = dict[str, Any]  # {"path", "size", "n"}; n: of `came`, the last that is written


class Batch(NamedTuple):
    """lines to append, what to write in the transaction after it, and the new `n`."""

    lines: list[bytes]
    sql: list[tuple[Any, ...]]
    n: int


class Output:
    """One file."""

    def __init__(self, db: Database, logs: Logs, form: Form, path: Path) -> None:
        self._db = db
        self._logs = logs
        self._voids = Voids(db)
        self.form: Form = form
        self._path = path.absolute()
        self._is_new = True

    def step(self) -> bool:
        """Writes some more; False when there is nothing left to write.

        Raises: Overloaded when the file cannot be written; DiskFull, Damaged. What else there is
        to write stays as it was.
        """
        place = self._begin() if self._is_new or self._is_cut() else self._place()
        batch = self._live(place["n"]) if self.form == "live" else self._ordered(place["n"])
        if not batch.sql and batch.n == place["n"]:
            return False
        place["n"] = batch.n
        place["size"] = _append(self._path, self.form, place["size"], b"".join(batch.lines))
        with self._db.transaction():
            for statement, *values in batch.sql:
                self._db.write(statement, *values)
            self._db.put(self.form, place)
        return True

    def _place(self) -> Place:
        place: Place = self._db.get(self.form)
        return place

    def _is_cut(self) -> bool:
        """Somebody took it away, or made it shorter, while we wrote it."""
        written: int = self._place()["size"]
        return _size(self._path, self.form) < written

    def _begin(self) -> Place:
        """Where the file is continued, or its start. Raises: Overloaded, DiskFull, Damaged."""
        place: Place = self._db.get(self.form) or {}
        size = _size(self._path, self.form)
        if place.get("path") != str(self._path) or size < place["size"]:
            place = {"path": str(self._path), "size": 0, "n": 0}
            with self._db.transaction():
                self._db.put(self.form, place)
                if self.form == "ordered":
                    self._db.write("UPDATE log SET emitted = 0 WHERE emitted > 0")
                    self._db.write("DELETE FROM late")
        _append(self._path, self.form, place["size"], b"")
        self._is_new = False
        return place

    def _live(self, after: int) -> Batch:
        batch = Batch([], [], after)
        found = self._db.rows(
            "SELECT n, a, b FROM came WHERE n > ? ORDER BY n LIMIT ?", after, MAX_ROWS_A_STEP
        )
        for n, a, b in found:
            if len(batch.lines) >= MAX_ROWS_A_STEP:
                break
            batch.lines.extend(self._records(a, b))
            batch = batch._replace(n=n)
        return batch

    def _ordered(self, n: int) -> Batch:
        batch = Batch([], [], n)
        late = self._db.rows("SELECT n, a, b FROM late ORDER BY n LIMIT ?", MAX_LOGS_A_STEP)
        for number, a, b in late:
            batch.lines.extend(self._records(a, b, late=True))
            batch.sql.append(("DELETE FROM late WHERE n = ?", number))
        behind = self._db.rows(
            "SELECT id, emitted, upto FROM log WHERE emitted < upto LIMIT ?", MAX_LOGS_A_STEP
        )
        for id_, emitted, upto in behind:
            if len(batch.lines) >= MAX_ROWS_A_STEP:
                break
            last, lines = self._one_log(id_, emitted, upto)
            batch.lines.extend(lines)
            batch.sql.append(("UPDATE log SET emitted = ? WHERE id = ?", last, id_))
        return batch

    def _one_log(self, id_: int, emitted: int, upto: int) -> tuple[int, list[bytes]]:
        """Some of what lies in (emitted, upto], and where it ends."""
        first, last = emitted + 1, upto
        found = self._db.rows(
            "SELECT id, crc, body FROM r WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?",
            row_id(id_, first), row_id(id_, last), MAX_ROWS_A_STEP,
        )  # fmt: skip
        if len(found) == MAX_ROWS_A_STEP:
            last = found[-1][0] & SEQ_MASK
        voids = self._voids.touching(id_, first, last, limit=MAX_ROWS_A_STEP)
        if len(voids) >= MAX_ROWS_A_STEP:
            last = min(last, voids[-1][1])
        key = self._logs.key_of(id_)
        within = tuple((max(a, first), min(b, last), why) for a, b, why in voids if a <= last)
        spans = [(a, _void_line(key, a, b, why)) for a, b, why in merged(within)]
        for row, crc, body in found:
            if row & SEQ_MASK <= last:
                spans.append((row & SEQ_MASK, self._line(row, crc, body, late=False)))
        return last, [line for _, line in sorted(spans)]

    def _records(self, a: int, b: int, *, late: bool = False) -> Iterator[bytes]:
        for id_, crc, body in self._db.rows(
            "SELECT id, crc, body FROM r WHERE id BETWEEN ? AND ?", a, b
        ):
            yield self._line(id_, crc, body, late=late)

    def _line(self, id_: int, crc: int, body: bytes, *, late: bool) -> bytes:
        """What our own disk has damaged is told, never made up; so is a number that JSON would
        show as null, which an older receiver may have taken.
        """
        try:
            if zlib.crc32(body) != crc:
                raise msgspec.DecodeError("crc")
            record = unpack(body)
            if _MAY_BE_ODD.search(body) and not _is_finite(msgspec.to_builtins(record)):
                raise msgspec.DecodeError("not finite")
            line = to_json(record)
        except msgspec.DecodeError:
            key, seq = self._logs.key_of(id_ >> SEQ_BITS), id_ & SEQ_MASK
            return _json({"kind": "damaged", **_names(key), "seq": seq}) + b"\n"
        return (line[:-1] + b',"late":true}' if late else line) + b"\n"


_MAY_BE_ODD: Final = re.compile(
    rb"\xcb[\x7f\xff][\xf0-\xff]"
)  # a NaN or an infinity in MessagePack


def _is_finite(value: Any) -> bool:
    """Of a record's own depth."""
    if isinstance(value, float):
        return math.isfinite(value)
    inner = value.values() if isinstance(value, dict) else value
    return not isinstance(value, dict | list | tuple) or all(map(_is_finite, inner))


def _void_line(key: LogKey, a: int, b: int, why: str) -> bytes:
    return _json({"kind": "void", **_names(key), "first": a, "last": b, "why": why}) + b"\n"


def _names(key: LogKey) -> dict[str, Any]:
    return {"node": key.node, "stream": key.stream, "class": key.klass.value, "epoch": key.epoch}


_json = msgspec.json.Encoder().encode


def way_out(error: OSError) -> str:
    """What to do about a report file that cannot be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "make room on its disk"
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return "make the folder that it shall be in"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "let this user write there, or name another place"
    if error.errno in (errno.EISDIR, errno.ENXIO, errno.EINVAL, errno.ENOTEMPTY):
        return "name a plain file"
    return "check its disk"


def _size(path: Path, form: Form) -> int:
    """-1 when it is not there. Raises: Overloaded."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1
    except OSError as error:
        raise _refused(form, error) from error


def _refused(form: Form, error: OSError) -> Overloaded:
    return Overloaded(f"write --{form}: {error.strerror or error}", hint=way_out(error))


def _append(path: Path, form: Form, size: int, content: bytes) -> int:
    """The file is its first `size` bytes and this, durable; its new size.

    Raises: Overloaded.
    """
    flags = os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe is refused, not waited
    try:
        descriptor = os.open(path, flags, 0o600)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            file.truncate(size)
            file.seek(size)
            view = memoryview(content)
            while view:
                view = view[file.write(view) :]
            os.fsync(file.fileno())
    except OSError as error:
        raise _refused(form, error) from error
    return size + len(content)
