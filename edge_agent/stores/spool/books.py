"""All logs of the file as last committed, by number and by key, and the balance over all of them.

Changed by the spool's thread after a commit, read by any thread: always under the front's lock.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from edge_agent.core.frames import RecordClass
from edge_agent.core.logbook import Log, LogKey, Sheet
from edge_agent.stores.spool.schema import BOOK, MAX_LOG_ID


class Books:
    """`book` is log 0: the last minted epoch, and the sum of the logs that were forgotten."""

    def __init__(self) -> None:
        self._last_id = 0
        self.load(())

    def load(self, logs: Iterable[Log]) -> None:
        """As on the disk. Numbers already given to logs not yet written stay given."""
        self.logs: dict[int, Log] = {}
        self.by_key: dict[LogKey, int] = {}
        self.book = Log(id=BOOK, key=LogKey("", "", RecordClass.ALARM, 0))
        self.total = Sheet()
        for log in logs:
            self.put(log)

    def put(self, log: Log) -> None:
        old = self.book if log.id == BOOK else self.logs.get(log.id)
        if old is not None:
            self.total = self.total.plus(old.sheet(), -1)
        self.total = self.total.plus(log.sheet())
        if log.id == BOOK:
            self.book = log
        else:
            self.logs[log.id] = log
            self.by_key[log.key] = log.id
            self._last_id = max(self._last_id, log.id)

    def forget(self, log: Log) -> Log:
        """Its sheet goes to the book, which is given back; nothing of it may be pending."""
        sheet = log.sheet()
        assert sheet.pending == 0, f"log {log.id} has {sheet.pending} records"
        self.logs.pop(log.id)
        self.by_key.pop(log.key)
        self.total = self.total.plus(sheet, -1)
        self.put(absorbed(self.book, log))
        return self.book

    def get(self, key: LogKey) -> Log | None:
        identity = self.by_key.get(key)
        return None if identity is None else self.logs[identity]

    def new_id(self) -> int:
        """A number that no log of this file has."""
        if self._last_id < MAX_LOG_ID:
            self._last_id += 1
            return self._last_id
        return next(n for n in range(1, MAX_LOG_ID + 1) if n not in self.logs)


def absorbed(book: Log, log: Log) -> Log:
    """The book with a log's sheet in it."""
    upto = book.next - 1 + log.next - 1
    return msgspec.structs.replace(
        book, next=upto + 1, floor=upto + 1, upto=upto, lost=book.lost + log.lost,
        evicted=book.evicted + log.evicted, corrupt=book.corrupt + log.corrupt,
    )  # fmt: skip
