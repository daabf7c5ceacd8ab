"""The desk and its files in a thread of their own, seen from the event loop.

One thread has the only connection: SQLite can damage its write-ahead log when two connections
write and checkpoint at once. Whoever is cancelled while it works does not stop it; what it did is
then durable and not acknowledged, which is no harm.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import anyio

from edge_agent.core.errors import Overloaded
from edge_agent.core.wire import armour
from tools.hot_tier.carriers import Came, Foreign, may_carry
from tools.hot_tier.database import Database
from tools.hot_tier.desk import Desk, Opened, Outcome
from tools.hot_tier.gate import Gate
from tools.hot_tier.outputs import Form, Output
from tools.hot_tier.quarantine import Bad
from tools.hot_tier.sheet import MAX_SHOWN_LOGS
from tools.hot_tier.store import Total

MAX_TOLD_FOREIGN: Final = 8  # of one transaction
CLOSE_S: Final = 5.0  # for the files to catch up

T = TypeVar("T")


class Standing(NamedTuple):
    """The whole, as of a commit."""

    total: Total
    counts: Mapping[str, int]
    foreign: tuple[Foreign, ...] = ()  # since the one before, the first of them


Kept = tuple[Outcome, Standing]


class Parts:
    """The parts, made and used in the thread."""

    def __init__(
        self,
        path: Path,
        nodes: Sequence[str],
        files: Mapping[Form, Path | None],
        gate: Gate | None = None,
        *,
        hears: bool,
        relays: Collection[str] = (),
    ) -> None:
        self._relays = frozenset(relays)
        self._foreign: list[Foreign] = []
        self.db = Database(path, mint=secrets.token_hex(16))
        try:
            self.desk = Desk(self.db, nodes, gate, hears=hears)
            self.recent = list(reversed(self.desk.logs.recent(MAX_SHOWN_LOGS)))
        except BaseException:
            self.db.close()
            raise
        self.outputs = [
            Output(self.db, self.desk.logs, form, file)
            for form, file in files.items()
            if file is not None
        ]

    def standing(self) -> Standing:
        foreign, self._foreign = tuple(self._foreign), []
        return Standing(self.desk.logs.total, dict(self.desk.counts), foreign)

    def keep(self, opened: Sequence[Opened]) -> Kept:
        return self.desk.keep(opened), self.standing()

    def open(self, came: Iterable[Came]) -> list[Opened]:
        """What may be brought by who brings it; the rest is refused, counted and told."""
        return [
            opened if opened.carrier else opened._replace(carrier=node)  # of what names nobody
            for node, payload in came
            if self._may(node, carrier := armour.carrier_of(payload), carrier)  # before its cost
            for opened in self.desk.open([payload])
            if self._may(node, opened.carrier, _origin(opened))
        ]

    def _may(self, node: str, carrier: str, origin: str) -> bool:
        if may_carry(node, carrier, origin, relays=self._relays):
            return True
        self.desk.counts["foreign"] += 1
        if len(self._foreign) < MAX_TOLD_FOREIGN:
            self._foreign.append(Foreign(node, carrier, origin))
        return False

    def keep_small(
        self, came: Sequence[Came], records: int
    ) -> tuple[Kept | Overloaded, list[Opened]]:
        opened = self.open(came)
        small = [one for one in opened if one.records <= records]
        large = [one for one in opened if one.records > records]
        return self.keep_all(small), large

    def keep_all(self, opened: Sequence[Opened]) -> Kept | Overloaded:
        try:
            return self.keep(opened)
        except Overloaded as error:
            return error

    def close(self) -> None:
        try:
            self.desk.close()
        finally:
            self.db.close()


def _origin(opened: Opened) -> str:
    content, carrier = opened.content, opened.carrier
    return carrier if isinstance(content, Bad) else content.node or carrier


class DeskThread:
    """rx, opens, dicts: what acknowledgements say. opened, recent: as it was at the start."""

    def __init__(self, thread: ThreadPoolExecutor, parts: Parts) -> None:
        self._thread = thread
        self._parts = parts
        self.rx = parts.db.rx
        self.opens = parts.db.opens
        self.dicts = parts.desk.codecs.ids
        self.opened = parts.standing()
        self.recent = parts.recent

    async def take(self, payloads: Sequence[bytes]) -> Kept:
        """All of it, in one transaction. Raises: Overloaded, Damaged."""
        return await _in(self._thread, lambda: self._parts.keep(self._parts.desk.open(payloads)))

    async def keep_small(
        self, came: Sequence[Came], records: int
    ) -> tuple[Kept | Overloaded, list[Opened]]:
        """Keeps envelopes of at most so many records, in one transaction; and the larger ones,
        opened. Overloaded stands for what was not kept: the larger ones are not lost with it.

        Raises: Damaged.
        """
        return await _in(self._thread, lambda: self._parts.keep_small(came, records))

    async def keep(self, opened: Sequence[Opened]) -> Kept | Overloaded:
        """Raises: Damaged."""
        return await _in(self._thread, lambda: self._parts.keep_all(opened))

    async def document(self, node: str, name: str) -> bytes:
        return await _in(self._thread, lambda: self._parts.desk.papers.newest(node, name))

    async def catch_up(self) -> dict[Form, Overloaded]:
        """Until the files have all that the database has; those that could not be written, and
        why. One that cannot holds up no other. Raises: Damaged.
        """
        refused: dict[Form, Overloaded] = {}
        behind = list(self._parts.outputs)
        while behind:
            behind = [output for output in behind if await self._step(output, refused)]
        return refused

    async def _step(self, output: Output, refused: dict[Form, Overloaded]) -> bool:
        try:
            return await _in(self._thread, output.step)
        except Overloaded as error:
            refused[output.form] = error
            return False


@asynccontextmanager
async def at_desk(
    path: Path,
    *,
    nodes: Sequence[str] = (),
    files: Mapping[Form, Path | None],
    hears: bool = False,
    gate: Gate | None = None,
    relays: Collection[str] = (),
) -> AsyncIterator[DeskThread]:
    """hears: whether records are wanted in outcomes. relays: nodes that may bring others' records.

    Raises: ConfigError, Overloaded, Damaged.
    """
    thread = ThreadPoolExecutor(1, thread_name_prefix="hot-tier-desk")
    try:
        parts = await _in(
            thread, lambda: Parts(path, nodes, files, gate, hears=hears, relays=relays)
        )
        desk = DeskThread(thread, parts)
        try:
            yield desk
        finally:
            with anyio.move_on_after(CLOSE_S, shield=True):
                await desk.catch_up()
            with anyio.CancelScope(shield=True):
                await _in(thread, parts.close)
    finally:
        thread.shutdown()


async def _in(thread: ThreadPoolExecutor, act: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(thread, act)
