"""From a file in whatever state to books in memory and a fresh epoch on the disk. Bounded work.

A file of a newer agent, or of another program, is set aside whole. A broken one is set aside and
salvaged while the agent already works. Nothing here counts or scans records.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import msgspec

from edge_agent.core.frames import RecordClass, unpack
from edge_agent.core.logbook import EVICTED, Log, LogKey, voided
from edge_agent.core.ranges import Ranges
from edge_agent.core.retention import rank
from edge_agent.stores.spool import disk as on_disk
from edge_agent.stores.spool.ballast import Ballast
from edge_agent.stores.spool.books import absorbed
from edge_agent.stores.spool.disk import Disk
from edge_agent.stores.spool.front import NEWEST, Front
from edge_agent.stores.spool.limits import Notice
from edge_agent.stores.spool.queue import MAX_ROWS_PER_COMMIT
from edge_agent.stores.spool.reader import is_sound
from edge_agent.stores.spool.salvage import Salvage, begin_anew, begin_salvage, salvage_path
from edge_agent.stores.spool.schema import ERRORS, DiskFailing, DiskFull, FileBroken, FileNewer

Tell = Callable[[Notice], None]
OPEN_TRIES = 5
OPEN_PAUSE_S = 0.1
MAX_OPENS = (1 << 31) - 1
NEWEST_PER_LOG = 32


def prepare(
    disk: Disk,
    front: Front,
    ballast: Ballast,
    *,
    random32: Callable[[], int],
    max_logs: int,
    tell: Tell,
) -> Salvage | None:
    """Opens the file and commits a fresh epoch; the salvage that is to go on, if any.

    Raises: DiskFull, DiskFailing, FileBroken.
    """
    tries = 0
    while True:
        tries += 1
        try:
            salvage = open_books(disk, front, tell)
            salvage = _mint_or_salvage(disk, front, random32, salvage=salvage, tell=tell)
            break
        except DiskFull:
            if not ballast.release():
                raise
        except DiskFailing:
            if tries == OPEN_TRIES:
                raise
            with front.lock:
                front.lock.wait(OPEN_PAUSE_S)
    with contextlib.suppress(*ERRORS):  # none of it is needed to work
        if cost := trim(disk, front, max_logs):
            tell(Notice(name="evicted", what=f"{cost} records of old logs went", records=cost))
        remember_newest(disk, front)
    ballast.restore()
    return salvage


def _mint_or_salvage(
    disk: Disk,
    front: Front,
    random32: Callable[[], int],
    *,
    salvage: Salvage | None,
    tell: Tell,
) -> Salvage | None:
    """Where the books could be read, and can't be written: they begin anew in a fresh file.

    Raises: DiskFull, DiskFailing, FileBroken.
    """
    try:
        mint(disk, front, random32)
    except FileBroken as broken:
        salvage = begin_salvage(disk, salvage, [front.books.book, *front.books.logs.values()])
        _told(tell, broken)
        front.books.load(disk.logs())
        mint(disk, front, random32)
    return salvage


def _told(tell: Tell, broken: FileBroken) -> None:
    what = f"{broken.what}; a fresh file was started"
    tell(Notice(name="set-aside", what=what, fix=broken.hint))


def open_books(disk: Disk, front: Front, tell: Tell) -> Salvage | None:
    """Loads the books; the salvage that is to go on, if any.

    Raises: DiskFull, DiskFailing, FileBroken.
    """
    salvage: Salvage | None = None
    try:
        logs = _logs_of(disk, tell)
    except FileBroken as broken:
        salvage = begin_salvage(disk, None, [])
        _told(tell, broken)
        logs = disk.logs()
    else:
        if salvage_path(disk.path).exists() and logs:
            salvage = Salvage(disk, logs)
        elif salvage_path(disk.path).exists():  # cut off before its books were in this file
            salvage = begin_anew(disk, [])
            logs = disk.logs()
    front.books.load(logs)
    return salvage


def _logs_of(disk: Disk, tell: Tell) -> list[Log]:
    try:
        disk.open()
    except FileNewer as newer:
        aside = on_disk.set_aside(disk.path, "newer")
        tell(Notice(name="set-aside", what=f"{newer.what}; kept as {aside.name}, a fresh file"
                    " was started", fix=newer.hint))  # fmt: skip
        disk.open()
    return disk.logs()


def mint(disk: Disk, front: Front, random32: Callable[[], int]) -> None:
    """A new epoch, committed before the first record gets it.

    Raises: DiskFull, DiskFailing, FileBroken.
    """
    books = front.books
    known = [books.book.key.epoch, *(log.key.epoch for log in books.logs.values())]
    opens = (max(known) >> 32) + 1
    if opens > MAX_OPENS:  # only a damaged or foreign file says so
        opens = 1
    epoch = opens << 32 | (random32() & 0xFFFFFFFF)
    key = LogKey("", "", RecordClass.ALARM, epoch)
    book = msgspec.structs.replace(books.book, key=key)
    with disk.transaction(frees=True) as connection:
        on_disk.settle(connection, [(book, ())])
    front.changed([book])
    front.epoch = epoch


def trim(disk: Disk, front: Front, max_logs: int) -> int:
    """Forgets the logs beyond the bound: settled ones, then small ones of the lowest class.

    How many records that cost. Raises: DiskFull, DiskFailing, FileBroken.
    """
    books = front.books
    excess = len(books.logs) - max_logs
    if excess <= 0:
        return 0
    small = [log for log in books.logs.values() if log.sheet().pending <= MAX_ROWS_PER_COMMIT]
    small.sort(key=lambda log: (not log.is_settled, -rank(log.key.klass), log.key.epoch))
    cost = 0
    for log in small[:excess]:
        cost += log.sheet().pending
        given_up, gone = voided(log, ((log.floor, log.next - 1),), EVICTED)
        forget(disk, front, given_up, gone)
    return cost


def forget(disk: Disk, front: Front, log: Log, gone: Ranges = ()) -> None:
    """Takes a log off the books, its sheet goes to the book.

    Raises: DiskFull, DiskFailing, FileBroken.
    """
    with disk.transaction(frees=True) as connection:
        on_disk.drop(connection, log.id, gone)
        connection.execute("DELETE FROM log WHERE id = ?", (log.id,))
        on_disk.settle(connection, [(absorbed(front.books.book, log), ())])
    with front.lock:
        front.books.put(log)
        front.books.forget(log)


def remember_newest(disk: Disk, front: Front) -> None:
    """The end of the youngest logs, for whoever asks what was last.

    Raises: DiskFailing, FileBroken.
    """
    youngest = sorted(front.books.logs.values(), key=lambda log: log.key.epoch)[-16:]
    found = []
    for log in youngest:
        first = max(1, log.next - NEWEST_PER_LOG)
        for row in disk.rows(log.id, first, log.next - 1, NEWEST_PER_LOG):
            if is_sound(*row):
                with contextlib.suppress(msgspec.MsgspecError):
                    found.append(unpack(row[2]))
    found.sort(key=lambda record: (record.epoch, record.at_us))
    front.newest.extend(found[-NEWEST:])
