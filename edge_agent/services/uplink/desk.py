"""What the two halves of the uplink share: the outbox, the spool's books, the counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import anyio

from edge_agent import logs
from edge_agent.core.errors import Rejected
from edge_agent.core.logbook import Ack
from edge_agent.core.outbox import Outbox
from edge_agent.core.window import Window
from edge_agent.core.wire.envelope import Envelope
from edge_agent.core.wire.sealing import RoadKeys
from edge_agent.ports import Clock
from edge_agent.services.uplink.neighbours import Shelf, Words
from edge_agent.services.uplink.papers import Document, Twin

log = logs.get("uplink")


class Rooms(NamedTuple):
    """Whom the uplink works with."""

    shelf: Shelf
    clock: Clock
    words: Words
    chance: Callable[[], float]


class Desk:
    """Used on the loop alone. dicts, codings: what the receiver announced last. keys: of this
    connection.
    """

    def __init__(self, rooms: Rooms, outbox: Outbox, document: Document, twin: Twin) -> None:
        self.rooms, self.outbox, self.document, self.twin = rooms, outbox, document, twin
        self.news, self.room = anyio.Event(), anyio.Event()
        self.dicts: tuple[str, ...] = ()
        self.keys = RoadKeys()
        self.codings: tuple[int, ...] = ()
        self.last_ack_us: int | None = None
        self.latency_us = Window()
        self.counts = dict.fromkeys(("sent_bytes", "raw_bytes", "publishes", "refused", "unfit"), 0)
        self._changed = False

    def now_us(self) -> int:
        return self.rooms.clock.boot_us()

    def encoded(self, envelope: Envelope) -> bytes:
        """Sealed and signed as the keys say; also from a worker thread. Raises: Overloaded."""
        return self.keys.protection.encode(envelope)

    def changed(self) -> None:
        """The spool's books have changed."""
        self._changed = True
        if self.outbox.is_up:
            self.news.set()

    def look(self) -> None:
        """At the books, when they have changed; and tells what was found."""
        if self._changed:
            self._changed = False
            self.apply(self.outbox.observe(self.rooms.shelf.logs(), self.now_us()))
        findings = self.outbox.witness.findings
        for finding in findings:
            log.warning(finding.what, code=finding.code, records=finding.records)
            self.rooms.words.on_finding(finding)
        findings.clear()

    def apply(self, acks: tuple[Ack, ...]) -> None:
        for ack in acks:
            try:
                self.rooms.shelf.acknowledge([ack])
            except Rejected as wrong:
                self.counts["refused"] += 1
                log.warning("ack refused by the spool", error=wrong.what)
