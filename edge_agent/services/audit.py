"""Who did what, on its way to the audit log: the event loop never waits for the disk.

`record` returns when the entry is on the disk, or raises. `note` returns at once: its entry waits
in a queue of 1024, is written within moments, is tried again every few seconds while the disk
refuses, and what found no place is counted and becomes an entry `audit-gap` as soon as one can be
written. At shutdown the queue is written out, for as long as the house grants. Never loses an
entry without saying so, unless the process dies before the queue is empty: who must be sure,
records.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

import anyio
import anyio.to_thread

from edge_agent import logs
from edge_agent.core import audit
from edge_agent.core.audit import Draft, Head, Stamp
from edge_agent.core.errors import Damaged, EdgeAgentError, NoRoom, Overloaded
from edge_agent.ports import Clock

MAX_WAITING = 1024  # entries
MAX_BATCH = 128
AGAIN_S = 1.0
DRAIN_S = 2.0

log = logs.get("audit")


class Ledger(Protocol):
    """The log on disk. Blocks."""

    def open(self) -> Head: ...

    def append(self, entries: list[Draft]) -> Head: ...

    def close(self) -> None: ...


class _Waiting:
    """One entry in the queue, and whoever waits for it."""

    def __init__(self, draft: Draft, done: anyio.Event | None) -> None:
        self.draft = draft
        self.done = done
        self.head = Head()
        self.error: EdgeAgentError | None = None


class Trouble(NamedTuple):
    """What a person should do something about."""

    what: str
    fix: str


def stamper(clock: Clock, boot: str) -> Callable[[], Stamp]:
    """Now, for entries of this start of the machine."""

    def stamp() -> Stamp:
        boot_us, (offset_us, _) = clock.boot_us(), clock.utc_offset_us()
        return Stamp(boot_us, None if offset_us is None else boot_us + offset_us, boot)

    return stamp


class Auditor:
    """who: `agent`, `hot tier`, or a user of this machine as `uid 1000`."""

    def __init__(
        self, ledger: Ledger, *, stamp: Callable[[], Stamp], again_s: float = AGAIN_S
    ) -> None:
        self._ledger = ledger
        self._stamp = stamp
        self._again_s = again_s
        self._waiting: deque[_Waiting] = deque()
        self._wake = anyio.Event()
        self._turn = anyio.Semaphore(MAX_WAITING // 2)  # who waits leaves room for who can't
        self.head = Head()
        self.missed = 0  # entries that found no place, not yet told in the log
        self.is_told: Callable[[], bool] = lambda: False  # that the disk refuses, by who owns it
        self._trouble: Trouble | None = None
        self._is_disk = False

    @property
    def trouble(self) -> Trouble | None:
        """None also while somebody else tells of the disk that is at fault."""
        return None if self.waits() and self.is_told() else self._trouble

    def waits(self) -> bool:
        """Whether the disk refuses what is to be written; a log at its limit is another thing."""
        return self._trouble is not None and self._is_disk

    def note(self, who: str, what: str, obj: str = "", **detail: object) -> bool:
        """From the loop; at once. False: no place, counted."""
        return self._put(_Waiting(self._draft(who, what, obj, detail), None))

    async def record(self, who: str, what: str, obj: str = "", **detail: object) -> Head:
        """The head once it is on the disk. Raises: Damaged, Overloaded; then it is not kept."""
        async with self._turn:
            done = anyio.Event()
            one = _Waiting(self._draft(who, what, obj, detail), done)
            if not self._put(one):
                raise Overloaded("write audit log: too many entries wait", hint="check the disk")
            await done.wait()
        if one.error is not None:
            raise one.error
        return one.head

    async def run(self, ready: Callable[[], None]) -> None:
        """The room: writes until it is cancelled, then writes the rest."""
        try:
            await self._open()
            ready()
            while True:
                if not self._waiting:
                    await self._wake.wait()
                if not await self._write():
                    await anyio.sleep(self._again_s)
        finally:
            with anyio.move_on_after(DRAIN_S, shield=True):
                while self._waiting and await self._write():
                    pass
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._ledger.close)

    def _draft(self, who: str, what: str, obj: str, detail: dict[str, object]) -> Draft:
        return audit.draft(self._stamp(), who, what, obj, detail)

    def _put(self, one: _Waiting) -> bool:
        if len(self._waiting) >= MAX_WAITING:
            self.missed += 1
            return False
        self._waiting.append(one)
        self._wake.set()
        return True

    async def _open(self) -> None:
        try:
            self.head = await anyio.to_thread.run_sync(self._ledger.open)
        except EdgeAgentError as error:
            self._failed(error, [])

    async def _write(self) -> bool:
        """The next batch. False: it was refused, and who waited was told."""
        self._wake = anyio.Event()
        batch = [self._waiting.popleft() for _ in range(min(MAX_BATCH, len(self._waiting)))]
        missed = self.missed
        drafts = [one.draft for one in batch]
        if missed:
            drafts.append(self._draft("edge-agent", "audit-gap", "", {"entries": missed}))
        try:
            with anyio.CancelScope(shield=True):  # a thread can't be stopped half-way
                self.head = await anyio.to_thread.run_sync(self._ledger.append, drafts)
        except EdgeAgentError as error:
            self._failed(error, batch)
            return False
        self.missed -= missed
        if self._trouble is not None:
            log.info("audit log is written again")
        self._trouble = None
        for one in batch:
            one.head = self.head
            if one.done is not None:
                one.done.set()
        return True

    def _failed(self, error: EdgeAgentError, batch: list[_Waiting]) -> None:
        """Who waits is told; the others go back to the front of the queue, in their order."""
        if self._trouble is None:
            log.error("audit log is not written", why=error.what, fix=error.hint)
        self._trouble = Trouble(error.what, error.hint)
        self._is_disk = isinstance(error, Damaged | NoRoom)
        for one in reversed(batch):
            if one.done is None:
                self._waiting.appendleft(one)
            else:
                one.error = error
                one.done.set()
