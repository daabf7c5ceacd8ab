"""Records on their way to the disk, by class; bounded in rows and bytes.

Within a class what leaves, for a commit or for want of room, is always the oldest: so of each log
the queue holds the end, and what a commit takes is next to what it took before. Used under the
front's lock.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from edge_agent.core.frames import KEEP_ORDER

MAX_ROWS_PER_COMMIT = 2000
MAX_BYTES_PER_COMMIT = 1 << 20
ROW_BYTES = 64  # what a waiting row costs beside its body


class Waiting(NamedTuple):
    """A record on its way; an empty body is one that was too large."""

    log: int
    seq: int
    rank: int
    at_us: int
    body: bytes


class Batch(NamedTuple):
    """What one commit takes: rows, and the seqs that were shed, by log."""

    rows: list[Waiting]
    shed: dict[int, list[int]]

    @property
    def bytes(self) -> int:
        return sum(len(row.body) for row in self.rows)

    @property
    def shed_rows(self) -> int:
        return sum(map(len, self.shed.values()))


class Queue:
    """`rows`, `bytes` and `shed` count until the commit, with what a commit has taken."""

    def __init__(self, max_rows: int, max_bytes: int) -> None:
        self._max_rows, self._max_bytes = max_rows, max_bytes
        self._classes: tuple[deque[Waiting], ...] = tuple(deque() for _ in KEEP_ORDER)
        self._shed: dict[int, list[int]] = {}
        self.waiting = 0  # rows that no commit has taken
        self.rows = self.bytes = self.shed = 0

    @property
    def is_empty(self) -> bool:
        return self.waiting == 0 and not self._shed

    def push(self, row: Waiting) -> None:
        """What does not fit is shed: the lowest class, the oldest first."""
        self._classes[row.rank].append(row)
        self.waiting += 1
        self.rows += 1
        self.bytes += len(row.body)
        while self.waiting and self._is_over():
            self._shed_lowest()

    def take(self) -> Batch:
        """At most 2000 rows or 1 MiB, the highest class first; and all that was shed."""
        rows: list[Waiting] = []
        size = 0
        for queue in self._classes:
            while queue and len(rows) < MAX_ROWS_PER_COMMIT:
                if rows and size + len(queue[0].body) > MAX_BYTES_PER_COMMIT:
                    break
                row = queue.popleft()
                self.waiting -= 1
                size += len(row.body)
                if row.body:
                    rows.append(row)
                else:
                    self._book_shed(row, self._shed)
        shed, self._shed = self._shed, {}
        return Batch(rows, shed)

    def done(self, batch: Batch) -> None:
        """The batch, or so much of it, is on the disk."""
        self.rows -= len(batch.rows)
        self.bytes -= batch.bytes
        self.shed -= batch.shed_rows

    def give_up(self, batch: Batch, order: int, wanted_bytes: int) -> Batch:
        """The batch without its oldest rows of one class, which become shed."""
        rows: list[Waiting] = []
        size = 0
        for row in batch.rows:
            if row.rank == order and size < wanted_bytes:
                size += len(row.body) + ROW_BYTES
                self._book_shed(row, batch.shed)
            else:
                rows.append(row)
        return Batch(rows, batch.shed)

    def first_us(self) -> int | None:
        """When the oldest record that waits was made."""
        return min((queue[0].at_us for queue in self._classes if queue), default=None)

    def _is_over(self) -> bool:
        return self.rows > self._max_rows or self.bytes + ROW_BYTES * self.rows > self._max_bytes

    def _shed_lowest(self) -> None:
        queue = next(queue for queue in reversed(self._classes) if queue)
        self.waiting -= 1
        self._book_shed(queue.popleft(), self._shed)

    def _book_shed(self, row: Waiting, shed: dict[int, list[int]]) -> None:
        shed.setdefault(row.log, []).append(row.seq)
        self.rows -= 1
        self.bytes -= len(row.body)
        self.shed += 1
