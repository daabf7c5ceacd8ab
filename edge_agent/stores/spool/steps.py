"""What a commit and a deletion do to the books: rows and the line of their log, together.

Used by the spool's thread alone.
"""

from __future__ import annotations

from edge_agent.core.logbook import Log, acknowledged, written
from edge_agent.core.ranges import count, of
from edge_agent.stores.spool import disk as on_disk
from edge_agent.stores.spool.disk import Disk
from edge_agent.stores.spool.front import Front
from edge_agent.stores.spool.queue import MAX_ROWS_PER_COMMIT, Batch

MAX_BYTES_DELETED = 8 << 20  # per transaction: freeing large bodies reads them


def steps_of(front: Front, batch: Batch) -> list[on_disk.Step]:
    """The logs as they are after the batch."""
    last: dict[int, int] = {}
    size: dict[int, int] = {}
    for row in batch.rows:
        last[row.log] = max(last.get(row.log, 0), row.seq)
        size[row.log] = size.get(row.log, 0) + len(row.body)
    for log, seqs in batch.shed.items():
        last[log] = max(last.get(log, 0), *seqs)
    return [
        written(_log(front, log), end, size.get(log, 0), of(batch.shed.get(log, ())))
        for log, end in last.items()
    ]


def delete_acknowledged(disk: Disk, front: Front) -> list[Log]:
    """One slice of what is claimed; the logs that changed, claims that are done go.

    Raises: DiskFull, DiskFailing, FileBroken.
    """
    left = MAX_ROWS_PER_COMMIT
    steps: list[on_disk.Step] = []
    for ack in front.open_claims():
        log = front.books.get(ack.key)
        if log is None:
            continue  # of this epoch, and not written yet
        after, gone = acknowledged(log, ack, min(left, rows_at_once(log)))
        if after != log:
            steps.append((after, gone))
            left -= count(gone)
            front.claims_fresh = True
        elif ack.upto < log.next and all(b < log.next for _, b in ack.have):
            front.settle_claim(ack)
        if left <= 0:
            break
    if not steps:
        return []
    with disk.transaction(frees=True) as connection:
        logs = on_disk.settle(connection, steps)
    front.changed(logs)
    return logs


def rows_at_once(log: Log) -> int:
    """How many rows of it may go in one transaction."""
    pending = max(1, log.sheet().pending)
    return max(1, MAX_BYTES_DELETED * pending // max(1, log.bytes))


def _log(front: Front, identity: int) -> Log:
    known = front.books.logs.get(identity)
    return known or Log(id=identity, key=front.key_of(identity))
