"""Making room: the lowest class and the oldest first, the ballast when the file system is full.

Never gives up a record for one of a lower class: then it is the newcomer that goes.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator

import msgspec

from edge_agent.core.frames import plain
from edge_agent.core.logbook import CORRUPT, EVICTED, Log, voided
from edge_agent.core.ranges import clip, of, subtract
from edge_agent.core.retention import rank, victims
from edge_agent.stores.spool import disk as on_disk
from edge_agent.stores.spool import schema
from edge_agent.stores.spool.ballast import Ballast
from edge_agent.stores.spool.disk import Disk
from edge_agent.stores.spool.front import Front
from edge_agent.stores.spool.limits import Change, Notice
from edge_agent.stores.spool.queue import MAX_ROWS_PER_COMMIT, Batch
from edge_agent.stores.spool.schema import DiskFull

SLACK_BYTES = 16 << 10
GUEST = 1 << 10  # ranks below every class of our own
CHUNK_ROWS = 32
STEP_SHARE = 256  # an eviction frees at least so small a part of the quota,
MAX_STEP_BYTES = 1 << 20  # and needs to free no more than this


class At(msgspec.Struct):
    """The one field of a record that eviction looks at."""

    at_us: int = 0


_when = msgspec.msgpack.Decoder(At)
Victim = tuple[int, int, int, int]  # at_us, log, seq, bytes


class Quota:
    """Used by the spool's thread alone."""

    def __init__(
        self,
        *,
        disk: Disk,
        front: Front,
        ballast: Ballast,
        node: str,
        limit_bytes: int,
        on_change: Callable[[Change], None],
        on_notice: Callable[[Notice], None],
    ) -> None:
        self._disk, self._front, self._ballast, self._node = disk, front, ballast, node
        self._on_notice = on_notice
        self._step_bytes = min(MAX_STEP_BYTES, limit_bytes // STEP_SHARE)
        self._on_change = on_change
        self.salvaging = False  # rows that are not here may still come

    def before(self, batch: Batch) -> Batch:
        """Evicts ahead of a commit that would not fit; what of the batch is left."""
        while batch.rows and self._disk.room_bytes() < need_of(batch):
            left = self._give_up_lowest(batch)
            if left is None:
                break  # the commit itself will tell
            batch = left
        return batch

    def relieve(self, batch: Batch) -> Batch:
        """After a commit that found no room. Raises: DiskFull when nothing more can be done."""
        if self._disk.room_bytes() < 2 * need_of(batch):  # whole pages are hard to foretell
            left = self._give_up_lowest(batch)
        elif self._ballast.release():
            left = batch
        elif self._disk.free_bytes() < need_of(batch):  # free pages need no growth of the file
            left = self._give_up_lowest(batch)
        else:
            left = None
        if left is None:
            raise DiskFull(
                f"spool: no room for {len(batch.rows)} records, nothing left to give up",
                hint="make room on the file system of state_dir",
            )
        return left

    def _give_up_lowest(self, batch: Batch) -> Batch | None:
        """None when there is nothing to give up."""
        group = victims(list(self._front.books.logs.values()), self._node)
        ours = max((row.rank for row in batch.rows), default=-1)
        theirs = rank_of(group[0], self._node) if group else -1
        wanted = max(need_of(batch) - self._disk.room_bytes(), self._step_bytes)
        if ours > theirs:
            with self._front.lock:
                return self._front.queue.give_up(batch, ours, wanted)
        if not group:
            return None
        try:
            self._evict(group, wanted)
        except DiskFull:
            if not self._ballast.release():
                raise
            self._evict(group, wanted)
        return batch

    def _evict(self, group: list[Log], wanted_bytes: int) -> None:
        """The oldest of a group, by age across its logs, in one transaction."""
        picked: dict[int, list[int]] = {}
        size = rows = 0
        for _, identity, seq, length in heapq.merge(*map(self._oldest_first, group)):
            picked.setdefault(identity, []).append(seq)
            size, rows = size + length, rows + 1
            if size >= wanted_bytes or rows >= MAX_ROWS_PER_COMMIT:
                break
        with self._disk.transaction(frees=True) as connection:
            steps = [
                self._without(log, picked.get(log.id, []), is_empty=not picked) for log in group
            ]
            logs = on_disk.settle(connection, steps)
        self._front.changed(logs)
        self._on_change(Change(why="evicted", logs=tuple(logs)))
        what = f"{group[0].key.klass.value} records were evicted for want of room"
        self._on_notice(
            Notice(name="evicted", what=what, fix="raise spool.limit_bytes", records=rows)
        )

    def _without(self, log: Log, seqs: list[int], *, is_empty: bool) -> on_disk.Step:
        """The seqs are evicted; what should be below them and is not is damaged."""
        last = log.next - 1 if is_empty else max(seqs, default=0)
        evicted = of(seqs)
        missing = subtract(clip(log.pending(), 1, last), evicted)
        log, gone = voided(log, evicted, EVICTED)
        if not missing:
            return log, gone
        log, more = voided(log, missing, EVICTED if self.salvaging else CORRUPT)
        return log, (*gone, *more)

    def _oldest_first(self, log: Log) -> Iterator[Victim]:
        first = log.floor
        while rows := self._disk.rows(log.id, first, log.next - 1, CHUNK_ROWS):
            for identity, _, body in rows:
                yield when(body), log.id, identity & schema.MAX_SEQ, len(body)
            first = (rows[-1][0] & schema.MAX_SEQ) + 1


def need_of(batch: Batch) -> int:
    """Pages for the rows and for the books, generously."""
    return batch.bytes + batch.bytes // 4 + 32 * len(batch.rows) + SLACK_BYTES


def rank_of(log: Log, node: str) -> int:
    return rank(log.key.klass) if log.key.node == node else GUEST


def when(body: bytes) -> int:
    """When the record was made; 0 if it can't be told."""
    try:
        return _when.decode(plain(body)).at_us
    except (msgspec.MsgspecError, UnicodeDecodeError, TypeError):  # not checked yet
        return 0
