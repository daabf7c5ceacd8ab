"""What is read back from the spool, and the rarer changes of its books; all awaited on a loop.

Served by the spool's thread after commits and deletions; while a broken file is being salvaged it
waits for that.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping

import anyio
import msgspec

from edge_agent.core.logbook import Ack, Log, LogKey, forfeited
from edge_agent.core.ranges import Ranges
from edge_agent.core.retention import Position, next_offer, offer_order
from edge_agent.stores.spool import disk as on_disk
from edge_agent.stores.spool import opening
from edge_agent.stores.spool.disk import Disk
from edge_agent.stores.spool.front import Front
from edge_agent.stores.spool.limits import Change, Page
from edge_agent.stores.spool.reader import Reader
from edge_agent.stores.spool.requests import asked
from edge_agent.stores.spool.voices import Voices

VERIFY_ROWS = 1000
VERIFY_BYTES = 1 << 20
APPLIED_EVERY_S = 0.02


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """records: sound ones; corrupt: found damaged now, and void since."""

    records: int
    corrupt: int


class Backlog:
    """Each method may raise: Overloaded (too many ask), Damaged (the disk refused five times)."""

    def __init__(self, *, disk: Disk, front: Front, reader: Reader, voices: Voices) -> None:
        self._disk, self._front, self._reader, self._voices = disk, front, reader, voices

    async def read(
        self, key: LogKey, wanted: Ranges, *, max_rows: int = 300, max_bytes: int = 1 << 16
    ) -> Page:
        """The lowest pending records among the seqs wanted, of one log."""
        return await asked(self._front, lambda: self._reader.read(key, wanted, max_rows, max_bytes))

    async def next(
        self,
        position: Position,
        skip: Mapping[LogKey, Ranges],
        *,
        max_rows: int = 300,
        max_bytes: int = 1 << 16,
    ) -> tuple[Page | None, Position]:
        """The next page of a walk: highest class, oldest epoch, its logs in turn; None at the end.

        skip: seqs not wanted now (in flight, reported as held). A fresh `Position` starts over.
        """

        def work() -> tuple[Page | None, Position]:
            offer = next_offer(self._front.books.logs.values(), position, skip)
            if offer is None:
                return None, position
            key = offer.log.key
            page = self._reader.read(key, offer.wanted, max_rows, max_bytes)
            at = {**position.at, key: page.through + 1}
            return page, Position(at=at, last=key)

        return await asked(self._front, work)

    async def pages(self, keys: Iterable[LogKey] | None = None) -> AsyncIterator[Page]:
        """Everything pending, log by log, the highest class first: for export and for a look."""
        if keys is None:
            with self._front.lock:
                held = list(self._front.books.logs.values())
            keys = [log.key for log in sorted(held, key=offer_order)]
        for key in keys:
            first = 1
            while (log := self._log(key)) is not None and first < log.next:
                page = await self.read(
                    key, ((first, log.next - 1),), max_rows=VERIFY_ROWS, max_bytes=VERIFY_BYTES
                )
                first = page.through + 1
                yield page

    async def verify(self) -> Verified:
        """Reads everything pending; what is damaged is void afterwards."""
        records = corrupt = 0
        async for page in self.pages():
            records += len(page.rows)
            corrupt += page.corrupt
        return Verified(records=records, corrupt=corrupt)

    async def forfeit(self, acks: Iterable[Ack]) -> int:
        """A receiver with another memory: what it does not claim and we no longer hold is lost.

        The acks of logs it did not name count as nothing held. How many records that concerns.
        """
        said = {ack.key: ack for ack in acks}

        def work() -> int:
            before = list(self._front.books.logs.values())
            after = [forfeited(log, said.get(log.key, Ack(log.key, 0))) for log in before]
            steps = [(log, ()) for log, old in zip(after, before, strict=True) if log != old]
            with self._disk.transaction(frees=True) as connection:
                logs = on_disk.settle(connection, steps)
            self._front.changed(logs)
            if logs:
                self._voices.change(Change(why="lost", logs=tuple(logs)))
            return sum(log.lost for log in after) - sum(log.lost for log in before)

        return await asked(self._front, work)

    async def forget(self, keys: Iterable[LogKey]) -> int:
        """Closes the books of logs of earlier epochs that are settled; how many there were.

        To be called when the receiver has seen that their floor is past its `upto`.
        """
        wanted = tuple(keys)

        def work() -> int:
            logs = [log for key in wanted if (log := self._front.books.get(key)) is not None]
            gone = [log for log in logs if self.may_forget(log)]
            for log in gone:
                opening.forget(self._disk, self._front, log)
            return len(gone)

        return await asked(self._front, work)

    async def applied(self) -> None:
        """Until all acknowledgements so far are worked off."""
        while await asked(self._front, lambda: bool(self._front.claims)):  # noqa: ASYNC110 - of a thread
            await anyio.sleep(APPLIED_EVERY_S)

    def may_forget(self, log: Log) -> bool:
        """Closed, nothing pending, and the receiver waits for nothing."""
        return log.is_settled and log.floor == log.next and log.key.epoch != self._front.epoch

    def _log(self, key: LogKey) -> Log | None:
        with self._front.lock:
            return self._front.books.get(key)
