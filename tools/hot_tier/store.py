"""The tables: books of logs, their records, what is void, what came twice with other content.

Everything is written inside a transaction of `Database`; nothing is decided here.
"""

from __future__ import annotations

import zlib
from collections import Counter, OrderedDict
from collections.abc import Sequence
from itertools import count
from typing import Any, Final, NamedTuple

import msgspec

from edge_agent.core.errors import Overloaded
from edge_agent.core.frames import RecordClass
from edge_agent.core.logbook import LogKey, Void
from edge_agent.core.ranges import Ranges
from tools.hot_tier.database import Database
from tools.hot_tier.receiver import Log, Reasons, without

SEQ_BITS: Final = 40
SEQ_MASK: Final = (1 << SEQ_BITS) - 1
MAX_LOGS: Final = 1 << 20
MAX_NODE_LOGS: Final = 1 << 17  # of one node: what one opens without end costs no other its logs
MAX_CACHED_LOGS: Final = 8192
MAX_ODD_ROWS: Final = 100_000  # quarantined; beyond they are counted only

_COLUMNS = (
    "id, node, stream, class, epoch, floor, next, closed, upto, have, held, evicted, corrupt, "
    "lost, other, duplicates, conflicts, bytes"
)
_PUT = f"""INSERT INTO log({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)
ON CONFLICT(id) DO UPDATE SET floor=excluded.floor, next=excluded.next, closed=excluded.closed,
upto=excluded.upto, have=excluded.have, held=excluded.held, evicted=excluded.evicted,
corrupt=excluded.corrupt, lost=excluded.lost, other=excluded.other,
duplicates=excluded.duplicates, conflicts=excluded.conflicts, bytes=excluded.bytes"""
_have = msgspec.msgpack.Decoder(Ranges)


class Total(NamedTuple):
    """The balance of all logs together."""

    logs: int = 0
    expected: int = 0  # the sum of next - 1
    held: int = 0
    evicted: int = 0
    corrupt: int = 0
    lost: int = 0
    other: int = 0
    duplicates: int = 0
    conflicts: int = 0
    bytes: int = 0

    def changed(self, before: Log | None, after: Log) -> Total:
        old = _numbers(before) if before else (0,) * len(self)
        return Total(*(n - a + b for n, a, b in zip(self, old, _numbers(after), strict=True)))


def _numbers(log: Log) -> tuple[int, ...]:
    return (1, log.next - 1, log.held, *log.voided, log.duplicates, log.conflicts, log.bytes)


class Logs:
    """The books. Those used last are in memory, as of the last commit."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._cached: OrderedDict[LogKey, Log] = OrderedDict()
        sums = "count(*), " + ", ".join(
            f"coalesce(sum({column}), 0)"
            for column in ("next - 1", "held", "evicted", "corrupt", "lost", "other",
                           "duplicates", "conflicts", "bytes")
        )  # fmt: skip
        self.total = Total(*db.rows(f"SELECT {sums} FROM log")[0])
        ((newest,),) = db.rows("SELECT coalesce(max(id), 0) FROM log")
        self._next_id = newest + 1
        self._of_node: Counter[str] = Counter(
            dict(db.rows("SELECT node, count(*) FROM log GROUP BY node"))
        )

    def get(self, key: LogKey) -> Log | None:
        """As committed."""
        if key in self._cached:
            self._cached.move_to_end(key)
            return self._cached[key]
        found = self._db.rows(
            f"SELECT {_COLUMNS} FROM log WHERE node=? AND stream=? AND class=? AND epoch=?", *key
        )
        return self._kept(self._opened(found[0])) if found else None

    def recent(self, limit: int) -> list[Log]:
        """Those that wait for something first, then the newest."""
        order = "ORDER BY upto >= next - 1, id DESC LIMIT ?"
        found = self._db.rows(f"SELECT {_COLUMNS} FROM log {order}", limit)
        return [self._opened(row) for row in found]

    def blank(self, key: LogKey, staged: int) -> Log:
        """A new book, not written yet. staged: how many of them this transaction already has.

        Raises: Overloaded.
        """
        if self.total.logs + staged >= MAX_LOGS:
            raise Overloaded(f"open log of {key.node}: expected at most {MAX_LOGS} logs")
        if self._of_node[key.node] + staged >= MAX_NODE_LOGS:
            raise Overloaded(f"open log of {key.node}: expected at most {MAX_NODE_LOGS} of a node")
        return Log(id=self._next_id + staged, key=key)

    def put(self, log: Log) -> None:
        node, stream, klass, epoch = log.key
        self._db.write(
            _PUT, log.id, node, stream, klass.value, epoch, log.floor, log.next, log.end,
            log.upto, msgspec.msgpack.encode(log.have), log.held, *log.voided, log.duplicates,
            log.conflicts, log.bytes,
        )  # fmt: skip

    def committed(self, before: Log | None, log: Log) -> None:
        """The transaction that put it is durable."""
        self.total = self.total.changed(before, log)
        self._of_node[log.key.node] += before is None
        self._next_id = max(self._next_id, log.id + 1)
        self._kept(log)

    def key_of(self, log_id: int) -> LogKey:
        ((node, stream, klass, epoch),) = self._db.rows(
            "SELECT node, stream, class, epoch FROM log WHERE id = ?", log_id
        )
        return LogKey(node, stream, RecordClass(klass), epoch)

    def _kept(self, log: Log) -> Log:
        self._cached[log.key] = log
        self._cached.move_to_end(log.key)
        while len(self._cached) > MAX_CACHED_LOGS:
            self._cached.popitem(last=False)
        return log

    def _opened(self, row: tuple[Any, ...]) -> Log:
        id_, node, stream, klass, epoch, floor, next_, end, upto, have, held, *rest = row
        evicted, corrupt, lost, other, duplicates, conflicts, size = rest
        void = self._db.rows("SELECT a, b, why FROM void WHERE log=? AND b>? ORDER BY a", id_, upto)
        return Log(
            id=id_, key=LogKey(node, stream, RecordClass(klass), epoch), floor=floor, next=next_,
            end=end, upto=upto, have=_have.decode(have), void=tuple(void), held=held,
            voided=Reasons(evicted, corrupt, lost, other), duplicates=duplicates,
            conflicts=conflicts, bytes=size,
        )  # fmt: skip


class Rows:
    """Records held, in the order of their ids, and the order in which they came."""

    def __init__(self, db: Database) -> None:
        self._db = db
        ((self._odd,),) = db.rows("SELECT count(*) FROM odd")

    def held(self, log_id: int, first: int, last: int) -> dict[int, bytes]:
        """The bodies of the seqs that are here."""
        found = self._db.rows(
            "SELECT id, body FROM r WHERE id BETWEEN ? AND ?",
            row_id(log_id, first), row_id(log_id, last),
        )  # fmt: skip
        return {id_ & SEQ_MASK: body for id_, body in found}

    def put(self, log_id: int, first: int, bodies: Sequence[bytes], new: Ranges) -> None:
        """Those of the bodies first, first + 1, ... whose seqs are in `new`."""
        for a, b in new:
            some = bodies[a - first : b + 1 - first]
            rows = zip(count(row_id(log_id, a)), map(zlib.crc32, some), some, strict=False)
            self._db.write_many("INSERT INTO r VALUES (?, ?, ?)", rows)
        emitted = self.emitted(log_id)
        for a, b in new:
            ids = row_id(log_id, a), row_id(log_id, b)
            self._db.write("INSERT INTO came(a, b) VALUES (?, ?)", *ids)
            if a <= emitted:
                ids = ids[0], row_id(log_id, min(b, emitted))
                self._db.write("INSERT INTO late(a, b) VALUES (?, ?)", *ids)

    def emitted(self, log_id: int) -> int:
        """Up to where the ordered output has been given this log."""
        found = self._db.rows("SELECT emitted FROM log WHERE id = ?", log_id)
        return int(found[0][0]) if found else 0

    def quarantine(self, log_id: int, seq: int, body: bytes, carrier: str) -> bool:
        """Keeps a second content of an id; False when there is no room for more."""
        if self._odd >= MAX_ODD_ROWS:
            return False
        self._db.write(
            "INSERT OR IGNORE INTO odd VALUES (?, ?, ?, ?)",
            row_id(log_id, seq), zlib.crc32(body), body, carrier,
        )  # fmt: skip
        self._odd += 1
        return True


class Voids:
    """What never comes, and why."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def add(self, log_id: int, fresh: Sequence[Void]) -> None:
        rows = ((log_id, a, b, why) for a, b, why in fresh)
        self._db.write_many("INSERT INTO void VALUES (?, ?, ?, ?)", rows)

    def touching(self, log_id: int, first: int, last: int, *, limit: int = -1) -> tuple[Void, ...]:
        """Whole ranges that share a seq with first ... last, the lowest first."""
        before = self._db.rows(
            "SELECT a, b, why FROM void WHERE log=? AND a<? ORDER BY a DESC LIMIT 1", log_id, first
        )
        inside = self._db.rows(
            "SELECT a, b, why FROM void WHERE log=? AND a BETWEEN ? AND ? ORDER BY a LIMIT ?",
            log_id, first, last, limit,
        )  # fmt: skip
        return tuple(v for v in (*before, *inside) if v[1] >= first)

    def cut(self, log_id: int, touched: Sequence[Void], new: Ranges) -> None:
        """`new` came after all; touched: the ranges that they may be in."""
        for a, _, _ in touched:
            self._db.write("DELETE FROM void WHERE log=? AND a=?", log_id, a)
        self.add(log_id, without(tuple(touched), new))


class Shelf:
    """The last documents of each node and name, oldest first."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def names(self) -> list[tuple[str, str]]:
        return [tuple(row) for row in self._db.rows("SELECT DISTINCT node, name FROM doc")]

    def kept(self, node: str, name: str) -> list[tuple[int, int, bytes]]:
        """(epoch, number, document), oldest first."""
        found = self._db.rows(
            "SELECT epoch, number, body FROM doc WHERE node=? AND name=? ORDER BY n", node, name
        )
        return [tuple(row) for row in found]

    def put(self, node: str, name: str, *, number: tuple[int, int], body: bytes, keep: int) -> None:
        """As the newest of `keep`."""
        self._db.write("DELETE FROM doc WHERE node=? AND name=? AND body=?", node, name, body)
        self._db.write(
            "INSERT INTO doc(node, name, epoch, number, body) VALUES (?, ?, ?, ?, ?)",
            node, name, *number, body,
        )  # fmt: skip
        self._db.write(
            """DELETE FROM doc WHERE node=?1 AND name=?2 AND n NOT IN
            (SELECT n FROM doc WHERE node=?1 AND name=?2 ORDER BY n DESC LIMIT ?3)""",
            node, name, keep,
        )  # fmt: skip


def row_id(log_id: int, seq: int) -> int:
    return log_id << SEQ_BITS | seq
