"""The spool as the rest of the house sees it.

    append ──▶ Front (queue in memory) ──▶ Writer (the one thread) ──▶ Disk (SQLite) ──▶ Backlog
               ids are given here          commits, deletions, reads     pages for the uplink

Everything that touches the file happens in one thread with one connection. `append`, `stats`,
`newest`, `logs` and `acknowledge` never wait; what reads is awaited (`backlog`).
"""

from __future__ import annotations

import concurrent.futures
import fcntl
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from edge_agent.core.errors import Damaged, Rejected
from edge_agent.core.frames import Record
from edge_agent.core.logbook import Ack, Log, LogKey
from edge_agent.ports import Clock, SpoolStats
from edge_agent.stores.condition import explain
from edge_agent.stores.files import make_way
from edge_agent.stores.spool import opening, schema
from edge_agent.stores.spool.backlog import Backlog
from edge_agent.stores.spool.ballast import Ballast
from edge_agent.stores.spool.disk import Disk
from edge_agent.stores.spool.front import Front
from edge_agent.stores.spool.limits import SpoolLimits
from edge_agent.stores.spool.oldest import Oldest
from edge_agent.stores.spool.quota import Quota
from edge_agent.stores.spool.reader import Reader
from edge_agent.stores.spool.requests import Request
from edge_agent.stores.spool.schema import Connect
from edge_agent.stores.spool.voices import Voices
from edge_agent.stores.spool.writer import Writer

START_S = 30.0  # for a disk that is slow, not for work
WATCH_S = 0.5


class SpoolHealth(msgspec.Struct, frozen=True, kw_only=True):
    """What the balance does not say. trouble: why the last commit failed, "" when it did not.

    waiting: records that no commit has taken up yet; oversize: refused for their size (they count
    as evicted); lost: acknowledged once, gone at the receiver since.
    """

    commits: int
    failures: int
    trouble: str
    waiting: int
    oversize: int
    lost: int
    logs: int
    salvaging: bool
    ballast: bool


class DiskSpool:
    """Implements `ports.Spool` on a file. Made by `open_spool`."""

    def __init__(self, path: Path, *, node: str, clock: Clock, boot: str, limits: SpoolLimits,
                 connect: Connect) -> None:  # fmt: skip
        self._path, self._node, self._clock, self._limits = path, node, clock, limits
        self._front = Front(limits, clock.boot_us)
        self._disk = Disk(path, limits.limit_bytes, connect)
        self._ballast = Ballast(path.with_name("ballast"), limits.ballast_bytes)
        self.voices = Voices()
        tell = self.voices.change
        self._oldest = Oldest(self._disk, self._front, boot)
        self._writer = Writer(
            disk=self._disk,
            front=self._front,
            quota=Quota(disk=self._disk, front=self._front, ballast=self._ballast, node=node,
                        limit_bytes=limits.limit_bytes, on_change=tell,
                        on_notice=self.voices.notice),
            ballast=self._ballast,
            oldest=self._oldest,
            on_change=tell,
            on_notice=self.voices.notice,
        )  # fmt: skip
        reader = Reader(
            disk=self._disk, front=self._front, on_change=tell, on_notice=self.voices.notice
        )
        self.backlog = Backlog(
            disk=self._disk, front=self._front, reader=reader, voices=self.voices
        )
        self._thread: threading.Thread | None = None
        self._lock: int | None = None

    # ── life ──────────────────────────────────────────────────────────────────────────────────

    def start(self, random32: Callable[[], int]) -> None:
        """Takes the lock, opens the file, commits a new epoch. Blocks for as long as that takes.

        Raises: Damaged, Overloaded (DiskFull), Rejected (somebody else has it).
        """
        self._lock = take_lock(self._path.with_name(f"{self._path.name}.lock"))
        started: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread = threading.Thread(
            target=self._main, args=(started, random32), name="spool", daemon=True
        )
        self._thread.start()
        try:
            started.result(START_S)
        except concurrent.futures.TimeoutError as late:
            self.close()
            raise Damaged(f"open spool {self._path.name}: not ready in {START_S:.0f} s",
                          hint="check the disk: dmesg") from late  # fmt: skip
        except BaseException:
            self.close()
            raise

    def _main(self, started: concurrent.futures.Future[None], random32: Callable[[], int]) -> None:
        try:
            salvage = opening.prepare(
                self._disk, self._front, self._ballast,
                random32=random32, max_logs=self._limits.max_logs, tell=self.voices.notice,
            )  # fmt: skip
            self._writer.adopt(salvage)
        except BaseException as error:
            self._disk.close()
            started.set_exception(error)
            if isinstance(error, schema.ERRORS):
                return
            raise
        started.set_result(None)
        try:
            self._writer.run()
        finally:
            self._front.close()
            while self._front.requests:
                request = self._front.requests.popleft()
                assert isinstance(request, Request)
                request.refuse()

    async def run(self, ready: Callable[[], None]) -> None:
        """The room: ends with an error when the thread did.

        Raises: RuntimeError.
        """
        ready()
        while self._thread is not None and self._thread.is_alive():  # noqa: ASYNC110 - of a thread
            await anyio.sleep(WATCH_S)
        if not self._front.closing:
            raise RuntimeError("spool: its thread has ended")

    def close(self) -> None:
        """Commits what waits, for at most `grace_s`, and closes the file. Idempotent."""
        self._front.close()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(self._limits.grace_s)
        lock, self._lock = self._lock, None
        if lock is not None and (thread is None or not thread.is_alive()):
            os.close(lock)

    async def aclose(self) -> None:
        """`close` from a loop."""
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.close)

    # ── never waits ───────────────────────────────────────────────────────────────────────────

    @property
    def epoch(self) -> int:
        return self._front.epoch

    def append(self, record: Record) -> Record:
        return self._front.append(record)

    def stats(self) -> SpoolStats:
        """Exact at any moment: appended = acked + evicted + corrupt + records."""
        front = self._front
        with front.lock:
            total, queue = front.books.total, front.queue
            rows, size, shed, first_us = queue.rows, queue.bytes, queue.shed, queue.first_us()
        now_us, (offset_us, _) = self._clock.boot_us(), self._clock.utc_offset_us()
        age_s = self._oldest.age_s(now_us, offset_us) if total.pending else None
        if age_s is None and first_us is not None:
            age_s = max(0.0, (now_us - first_us) / 1e6)
        return SpoolStats(
            records=total.pending + rows,
            bytes=total.bytes + size,
            limit_bytes=self._limits.limit_bytes,
            oldest_s=age_s,
            appended=total.appended + rows + shed,
            acked=total.acked,
            evicted=total.evicted + shed,
            corrupt=total.corrupt,
        )

    def health(self) -> SpoolHealth:
        front, writer = self._front, self._writer
        with front.lock:
            lost = front.books.book.lost + sum(log.lost for log in front.books.logs.values())
            return SpoolHealth(
                commits=writer.commits, failures=writer.failures, trouble=writer.trouble,
                waiting=front.queue.rows, oversize=front.oversize, lost=lost,
                logs=len(front.books.logs), salvaging=writer.salvage is not None,
                ballast=self._ballast.is_there,
            )  # fmt: skip

    def newest(self, limit: int) -> list[Record]:
        """The newest records, newest first; of at most 256, kept in memory."""
        with self._front.lock:
            return list(self._front.newest)[::-1][: max(0, limit)]

    def logs(self) -> list[Log]:
        """All logs as last committed: floor, next, upto, held, void; closed if of another epoch."""
        with self._front.lock:
            return list(self._front.books.logs.values())

    def log(self, key: LogKey) -> Log | None:
        """One of them; None of one that is unknown or not yet committed."""
        with self._front.lock:
            return self._front.books.get(key)

    def acknowledge(self, acks: Iterable[Ack]) -> None:
        """Joins what the receiver has; the rows go soon, in the spool's thread.

        All or nothing. Of a closed log, what is above its `next` is ignored: it was sent and never
        committed, before a crash.

        Raises: Rejected for a log that is unknown, or for seqs that were never given.
        """
        front, given = self._front, list(acks)
        with front.lock:
            front.claim([checked(front, ack) for ack in given])

    def hurry(self) -> None:
        """The next commit does not wait for company; `voices.on_change` tells of it."""
        self._front.hurry()


def open_spool(
    path: Path,
    *,
    node: str,
    clock: Clock,
    random32: Callable[[], int],
    boot: str = "",
    limits: SpoolLimits | None = None,
    connect: Connect = schema.connect,
) -> DiskSpool:
    """Opens or makes the file and commits a new epoch. Blocks: on a loop, in a thread.

    A file that is broken or newer is set aside and a fresh one started; `voices.on_notice` says so.

    Raises: Damaged, Overloaded (no room even so), Rejected (another process has it).
    """
    spool = DiskSpool(path, node=node, clock=clock, boot=boot, limits=limits or SpoolLimits(),
                      connect=connect)  # fmt: skip
    spool.start(random32)
    return spool


def checked(front: Front, ack: Ack) -> Ack:
    """As far as it can be true. Raises: Rejected."""
    top = max((ack.upto, *(b for _, b in ack.have)))
    allocated = front.allocated(ack.key)
    log = front.books.get(ack.key)
    name = f"acknowledge {ack.key.stream or '-'}/{ack.key.klass.value}/{ack.key.epoch:x}"
    if allocated is None and log is None:
        raise Rejected(f"{name}: no such log")
    if ack.upto < 0 or any(not 1 <= a <= b for a, b in ack.have):
        raise Rejected(f"{name}: expected ranges [a, b] from 1, got {ack.have[:4]}")
    if allocated is not None and top >= allocated:
        raise Rejected(f"{name}: expected seqs below {allocated}, got {top}")
    if allocated is None and log is not None:
        have = tuple((a, min(b, log.next - 1)) for a, b in ack.have if a < log.next)
        return Ack(ack.key, min(ack.upto, log.next - 1), have, ack.lost)
    return ack


def take_lock(path: Path) -> int:
    """Raises: Rejected, Damaged."""
    try:
        make_way(path)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        told = explain(error, path.parent)
        raise Damaged(f"open spool: {path.name}: {told.what}", hint=told.fix) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise Rejected("open spool: another process has it",
                       hint="edge-agent status shows who runs") from error  # fmt: skip
    return fd
