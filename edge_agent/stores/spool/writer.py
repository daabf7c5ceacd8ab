"""The one thread: commits before deletions before reads, and what to do when the disk refuses.

A turn is: one commit of what waits, one slice of acknowledged rows, one request, a slice of a
salvage. A batch that failed is tried again with the same ids until it is on the disk, or until its
class has to make room. It never ends by an error of the disk.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Literal

from edge_agent.core.errors import Damaged, Overloaded
from edge_agent.stores.spool import disk as on_disk
from edge_agent.stores.spool import schema
from edge_agent.stores.spool.ballast import Ballast
from edge_agent.stores.spool.disk import Disk
from edge_agent.stores.spool.front import Front
from edge_agent.stores.spool.limits import Change, Notice
from edge_agent.stores.spool.oldest import Oldest
from edge_agent.stores.spool.queue import Batch, Waiting
from edge_agent.stores.spool.quota import Quota
from edge_agent.stores.spool.salvage import Salvage, begin_anew, move_aside
from edge_agent.stores.spool.schema import DiskFailing, DiskFull, FileBroken
from edge_agent.stores.spool.steps import delete_acknowledged, steps_of

IDLE_S = 1.0
MAX_RELIEFS = 64  # per commit; each gives up at least one record or the ballast
FIRST_PAUSE_S = 0.02
MAX_PAUSE_S = 2.0
BALLAST_EVERY_TURNS = 64
OLDEST_EVERY_TURNS = 16
LAST_TRIES = 3  # of a commit that fails while closing


class Writer:
    """`run` is the thread's function, from the first commit to the last."""

    def __init__(
        self,
        *,
        disk: Disk,
        front: Front,
        quota: Quota,
        ballast: Ballast,
        oldest: Oldest,
        on_change: Callable[[Change], None],
        on_notice: Callable[[Notice], None],
    ) -> None:
        self._disk, self._front, self._quota, self._ballast = disk, front, quota, ballast
        self._oldest, self._on_change, self._on_notice = oldest, on_change, on_notice
        self._batch: Batch | None = None
        self.salvage: Salvage | None = None
        self._broken: FileBroken | None = None  # it lies aside, its books are in no other file yet
        self.commits = 0
        self.failures = 0  # in a row
        self.trouble = ""
        self._turns = 0

    def adopt(self, salvage: Salvage | None) -> None:
        """What the opening found unfinished."""
        self.salvage = salvage
        self._quota.salvaging = salvage is not None

    def run(self) -> None:
        with contextlib.suppress(*schema.ERRORS):  # the first turn meets them again
            self._oldest.look()
        while not (self._front.closing and self._is_done()):
            self._turn()
        if self.salvage is not None:
            self.salvage.pause()
        self._disk.close()  # the last connection writes the log back into the file

    def _is_done(self) -> bool:
        with self._front.lock:
            empty = self._front.queue.is_empty and not self._front.requests
        return (self._batch is None and empty) or self.failures >= LAST_TRIES

    def _turn(self) -> None:
        try:
            self._work()
        except DiskFull as full:
            self._failed("full", full)
            self._ballast.release()  # what frees space needs a little, too
        except DiskFailing as failing:
            self._failed("failing", failing)
            if self._broken is None:
                self._reopen()
        except FileBroken as broken:
            self._failed("failing", broken)
            self._rescue(broken)
        if self.failures:
            pause_s = min(MAX_PAUSE_S, FIRST_PAUSE_S * 2 ** (self.failures - 1))
            with self._front.lock:
                if not self._front.closing:
                    self._front.lock.wait(pause_s)

    def _work(self) -> None:
        if self._broken is not None:
            self._begin_anew(self._broken)
        busy = self.salvage is not None or self._batch is not None
        due = self._front.wait(0.0 if busy else IDLE_S)
        if due.rows or self._batch is not None:
            self._write()
        if self._front.claims:
            logs = delete_acknowledged(self._disk, self._front)
            if logs:
                self._on_change(Change(why="acked", logs=tuple(logs)))
        if self.salvage is not None:
            self._go_on_salvaging()
        elif due.requests:
            self._serve()
        self._keep_house(is_quiet=not due.rows)
        if self.failures and self._batch is None:
            self.failures, self.trouble = 0, ""
            self._on_notice(Notice(name="well", what="the spool writes again"))

    def _keep_house(self, *, is_quiet: bool) -> None:
        self._turns += 1
        if self._turns % BALLAST_EVERY_TURNS == 0:
            self._ballast.restore()
        if is_quiet or self._turns % OLDEST_EVERY_TURNS == 0:
            self._oldest.look()

    # ── commits ───────────────────────────────────────────────────────────────────────────────

    def _write(self) -> None:
        if self._batch is None:
            self._batch = self._front.take()
        self._batch = self._quota.before(self._batch)
        for _ in range(MAX_RELIEFS):
            try:
                return self._commit(self._batch)
            except DiskFull:
                self._batch = self._quota.relieve(self._batch)
        raise DiskFull(f"spool: {len(self._batch.rows)} records did not fit in {MAX_RELIEFS} tries")

    def _commit(self, batch: Batch) -> None:
        steps = steps_of(self._front, batch)
        with self._disk.transaction() as connection:
            connection.executemany(schema.PUT_ROWS, map(_row_of, batch.rows))
            logs = on_disk.settle(connection, steps)
        self._front.changed(logs, batch)
        self._batch = None
        self.commits += 1
        self._on_change(Change(why="written", logs=tuple(logs)))
        if batch.shed:
            what = "records found no room and were given up"
            self._on_notice(Notice(name="shed", what=what, records=batch.shed_rows))

    # ── requests ──────────────────────────────────────────────────────────────────────────────

    def _serve(self) -> None:
        """A request answers its asker by itself; an error of the disk is told to us too."""
        with self._front.lock:
            request = self._front.requests.popleft()
        request()

    # ── trouble ───────────────────────────────────────────────────────────────────────────────

    def _failed(self, name: Literal["full", "failing"], error: Damaged | Overloaded) -> None:
        self.failures += 1
        self.trouble = error.what
        if self.failures == 1:
            self._on_notice(Notice(name=name, what=error.what, fix=error.hint))

    def _reopen(self) -> None:
        """What was committed is read back: a commit that told of an error may have passed."""
        try:
            self._disk.reopen()
            self._batch = self._front.reloaded(self._disk.logs(), self._batch)
        except FileBroken as broken:
            self._rescue(broken)
        except (DiskFailing, DiskFull):
            self._disk.close()  # the next turn tries again

    def _rescue(self, broken: FileBroken) -> None:
        """A fresh file with the books of the old one; its records follow slice by slice."""
        try:
            if self._broken is None:
                move_aside(self._disk, self.salvage)
                self.salvage, self._broken, self._quota.salvaging = None, broken, True
            self._begin_anew(broken)
        except (Damaged, Overloaded):
            self._disk.close()  # the next turn tries again

    def _begin_anew(self, broken: FileBroken) -> None:
        """Until it has passed whole, nothing else is done: who opened a file without these books
        would take what lies aside for lost. Raises: DiskFailing, DiskFull, FileBroken.
        """
        if self.salvage is not None:
            self.salvage.pause()
        self.salvage = begin_anew(
            self._disk, [self._front.books.book, *self._front.books.logs.values()]
        )
        self._batch = self._front.reloaded(self._disk.logs(), self._batch)
        self._broken = None
        self._on_notice(Notice(name="set-aside", what=f"{broken.what}; a fresh file was started",
                               fix=broken.hint))  # fmt: skip

    def _go_on_salvaging(self) -> None:
        assert self.salvage is not None
        changed = self.salvage.step(self._front.books.logs)
        if changed:
            self._front.changed(changed)
            self._on_change(Change(why="corrupt", logs=tuple(changed)))
        if self.salvage.is_over:
            self._on_notice(self.salvage.finish())
            self.salvage = None
            self._quota.salvaging = False


def _row_of(row: Waiting) -> tuple[int, int, bytes]:
    identity = schema.row_id(row.log, row.seq)
    return identity, schema.crc_of(identity, row.body), row.body
