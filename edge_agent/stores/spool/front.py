"""What stands before the disk: ids are given here, records wait here, bounded, for their commit.

`append` never waits for a disk and never fails: a record that finds no room keeps its id, is
counted as evicted and declared void at the next commit. One lock guards all that the spool's thread
and the others share; it is held for microseconds.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from edge_agent.core.frames import Record, pack
from edge_agent.core.logbook import Ack, Log, LogKey
from edge_agent.core.ranges import union
from edge_agent.core.retention import rank
from edge_agent.core.shrunk import Shrinker
from edge_agent.stores.spool.books import Books
from edge_agent.stores.spool.limits import SpoolLimits
from edge_agent.stores.spool.queue import Batch, Queue, Waiting

MAX_BODY_BYTES = 64 << 10  # larger things are cut into parts by their producer
MAX_CLAIMED_RANGES = 256  # acknowledged, but not yet applied, per log
MAX_REQUESTS = 64
NEWEST = 256


class Open(msgspec.Struct):
    """A log of this epoch, as allocated: `next` runs ahead of what is committed."""

    id: int
    key: LogKey
    next: int = 1


class Due(NamedTuple):
    rows: bool
    requests: bool


class Front:
    """Shared between the appending threads and the one that writes; `lock` may be taken twice."""

    def __init__(self, limits: SpoolLimits, now_us: Callable[[], int]) -> None:
        self._commit_us, self._commit_rows = limits.commit_ms * 1000, limits.commit_rows
        self._now_us = now_us
        self.lock = threading.Condition(threading.RLock())
        self.books = Books()
        self.queue = Queue(limits.queue_rows, limits.queue_bytes)
        self.epoch = 0
        self.claims: dict[LogKey, Ack] = {}
        self.claims_fresh = False  # some may be applicable
        self.requests: deque[Callable[[], None]] = deque()
        self.newest: deque[Record] = deque(maxlen=NEWEST)
        self.closing = False
        self.oversize = 0
        self._shrinker = Shrinker()  # under the lock
        self._open_logs: dict[LogKey, Open] = {}
        self._hurry = False
        self._since_us = 0  # when the first of those that wait came

    # ── any thread ────────────────────────────────────────────────────────────────────────────

    def append(self, record: Record) -> Record:
        with self.lock:
            key = LogKey(record.node, record.stream, record.klass, self.epoch)
            log = self._open_logs.get(key)
            if log is None:
                log = self._open_logs[key] = Open(self.books.new_id(), key)
            stamped = msgspec.structs.replace(record, epoch=self.epoch, seq=log.next)
            body = pack(stamped)
            if len(body) > MAX_BODY_BYTES:
                body = b""
                self.oversize += 1
            body = self._shrinker.shrink(body)
            if self.queue.is_empty:
                self._since_us = self._now_us()
                self.lock.notify()
            self.queue.push(Waiting(log.id, log.next, rank(record.klass), record.at_us, body))
            if self.queue.waiting == self._commit_rows:
                self.lock.notify()
            log.next += 1
            self.newest.append(stamped)
            return stamped

    def ask(self, request: Callable[[], None]) -> bool:
        """Hands a request to the thread; False when too many wait."""
        with self.lock:
            if len(self.requests) >= MAX_REQUESTS or self.closing:
                return False
            self.requests.append(request)
            self.lock.notify()
            return True

    def claim(self, acks: list[Ack]) -> None:
        """Joins acks with those not yet applied."""
        with self.lock:
            for ack in acks:
                old = self.claims.get(ack.key, Ack(ack.key, 0))
                have = union(old.have, ack.have)[:MAX_CLAIMED_RANGES]
                upto, lost = max(old.upto, ack.upto), max(old.lost, ack.lost)
                self.claims[ack.key] = Ack(ack.key, upto, have, lost)
            self.claims_fresh = True
            self.lock.notify()

    def hurry(self) -> None:
        """The next commit does not wait for company."""
        with self.lock:
            self._hurry = True
            self.lock.notify()

    def close(self) -> None:
        with self.lock:
            self.closing = True
            self.lock.notify()

    def allocated(self, key: LogKey) -> int | None:
        """The next seq of a log of this epoch; None of any other. Under the lock."""
        log = self._open_logs.get(key)
        return None if log is None else log.next

    # ── the spool's thread ────────────────────────────────────────────────────────────────────

    def wait(self, idle_s: float) -> Due:
        """Until a commit is due, or something is asked; at most the commit's delay or `idle_s`."""
        with self.lock:
            quiet = False
            if not (self._is_due() or self.requests or self.claims_fresh):
                quiet = not self.lock.wait(idle_s if self.queue.is_empty else self._commit_us / 1e6)
            due = not self.queue.is_empty and (quiet or self._is_due())
            return Due(rows=due, requests=bool(self.requests))

    def take(self) -> Batch:
        with self.lock:
            batch = self.queue.take()
            self._hurry = self._hurry and self.queue.waiting > 0
            return batch

    def changed(self, logs: list[Log], batch: Batch | None = None) -> None:
        """The logs stand as given on the disk, with the batch."""
        with self.lock:
            if batch is not None:
                self.queue.done(batch)
                self.claims_fresh = bool(self.claims)
            for log in logs:
                self.books.put(log)

    def reloaded(self, logs: list[Log], batch: Batch | None) -> Batch | None:
        """After a reopening: the disk's word counts. What of the batch is still to be written."""
        with self.lock:
            self.books.load(logs)
            if batch is None:
                return None
            there = {log.id: log.next for log in logs}
            here = Batch([], {})
            left = Batch([], {})
            for row in batch.rows:
                (left if row.seq >= there.get(row.log, 1) else here).rows.append(row)
            for log, seqs in batch.shed.items():
                for seq in seqs:
                    part = left if seq >= there.get(log, 1) else here
                    part.shed.setdefault(log, []).append(seq)
            self.queue.done(here)
            return left

    def open_claims(self) -> list[Ack]:
        with self.lock:
            self.claims_fresh = False
            return list(self.claims.values())

    def settle_claim(self, ack: Ack) -> None:
        """All of it is applied, unless more was claimed meanwhile."""
        with self.lock:
            if self.claims.get(ack.key) is ack:
                del self.claims[ack.key]

    def key_of(self, log: int) -> LogKey:
        """Of a log of this epoch that may not be on the disk yet."""
        with self.lock:
            return next(found.key for found in self._open_logs.values() if found.id == log)

    def _is_due(self) -> bool:
        if self.queue.waiting >= self._commit_rows:
            return True
        if self.queue.is_empty:
            return False
        waited = self._now_us() - self._since_us >= self._commit_us
        return waited or self._hurry or self.closing
