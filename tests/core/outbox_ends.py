"""The two ends of the world around the outbox: a spool that keeps its books by `core.logbook`, as
the one on disk does, and the shortest receiver that keeps its side of the contract.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec

from edge_agent.core import logbook
from edge_agent.core.edgecore import MAX_RANGES, Ack, LogAck
from edge_agent.core.frames import Alarm, AnyRecord, Event, RecordClass, Tally
from edge_agent.core.lanes import Span, key_of
from edge_agent.core.logbook import Log, LogKey
from edge_agent.core.probe import Offer, Probe
from edge_agent.core.ranges import Ranges, count, intersect, subtract, union
from edge_agent.core.retention import victims

NODE = "cart-1"
MAKERS: dict[RecordClass, Callable[..., AnyRecord]] = {
    RecordClass.ALARM: Alarm,
    RecordClass.EVENT: Event,
    RecordClass.TELEMETRY: Tally,
}


class SpoolModel:
    """What is committed survives `crash`; what waits for its commit does not."""

    def __init__(self) -> None:
        self.logs: dict[LogKey, Log] = {}
        self.rows: dict[LogKey, set[int]] = {}
        self.waiting: list[AnyRecord] = []
        self.given: dict[tuple[str, RecordClass], int] = {}
        self.opens = 0
        self.epoch = 0
        self.finished = logbook.Sheet()

    def open(self, dice: random.Random) -> None:
        self.opens += 1
        self.epoch = self.opens << 32 | dice.getrandbits(32)
        self.waiting, self.given = [], {}

    def append(self, stream: str, klass: RecordClass, now_us: int) -> AnyRecord:
        seq = self.given.get((stream, klass), 0) + 1
        self.given[stream, klass] = seq
        record = MAKERS[klass](node=NODE, stream=stream, epoch=self.epoch, seq=seq, at_us=now_us)
        self.waiting.append(record)
        return record

    def commit(self) -> None:
        for record in self.waiting:
            key = key_of(record)
            log = self.logs.get(key) or Log(id=len(self.logs) + 1, key=key)
            self.rows.setdefault(key, set()).add(record.seq)
            self.logs[key] = logbook.written(log, record.seq, 1, ())[0]
        self.waiting = []

    def evict(self, number: int) -> None:
        for log in victims(self.logs.values(), NODE):
            low, high = log.pending()[0][0], log.pending()[0][1]
            step, gone = logbook.voided(log, ((low, min(high, low + number)),), logbook.EVICTED)
            self._drop(step, gone)

    def acknowledge(self, acks: tuple[logbook.Ack, ...]) -> None:
        for ack in acks:
            if ack.key.epoch == self.epoch:
                top = max((ack.upto, *(b for _, b in ack.have)))
                assert top <= self.given[ack.key.stream, ack.key.klass]
            while True:
                log, gone = logbook.acknowledged(self.logs[ack.key], ack, 100)
                self._drop(log, gone)
                if not gone:
                    break

    def forfeit(self, acks: tuple[logbook.Ack, ...]) -> None:
        for ack in acks:
            self.logs[ack.key] = logbook.forfeited(self.logs[ack.key], ack)

    def forget(self, keys: tuple[LogKey, ...]) -> None:
        for key in keys:
            log = self.logs.pop(key, None)
            if log is not None:
                assert log.sheet().pending == 0
                assert key.epoch != self.epoch
                self.finished = self.finished.plus(log.sheet())

    def sheet(self) -> logbook.Sheet:
        total = self.finished
        for log in self.logs.values():
            total = total.plus(log.sheet())
        return total

    def _drop(self, log: Log, gone: Ranges) -> None:
        self.logs[log.key] = log
        for a, b in gone:
            self.rows[log.key].difference_update(range(a, b + 1))


class Shelf(msgspec.Struct):
    """One log at a receiver."""

    key: LogKey
    held: Ranges = ()
    void: Ranges = ()
    next: int = 1

    def upto(self) -> int:
        there = union(self.held, self.void)
        return there[0][1] if there and there[0][0] == 1 else 0

    def waiting(self) -> Ranges:
        return subtract(((1, self.next - 1),), union(self.held, self.void))


class Receiver:
    """Durable at once; counts every record that comes a second time."""

    def __init__(self, rx: str) -> None:
        self.rx = rx
        self.n = 0
        self.shelves: dict[LogKey, Shelf] = {}
        self.again = 0

    def copy(self) -> Receiver:
        twin = Receiver(self.rx)
        twin.n = self.n
        twin.shelves = {key: msgspec.structs.replace(s) for key, s in self.shelves.items()}
        return twin

    def take(self, spans: list[Span], probe: Probe | None) -> Ack | None:
        touched = [span.key for span in spans]
        for key, a, b in spans:
            shelf = self.shelves.setdefault(key, Shelf(key))
            self.again += count(intersect(((a, b),), shelf.held))
            shelf.held = union(shelf.held, ((a, b),))
            shelf.next = max(shelf.next, b + 1)
        for offer in probe.logs if probe else ():
            self._offered(offer)
            touched.append(offer.key)
        return self.ack(touched, probe.nonce if probe else "")

    def _offered(self, offer: Offer) -> None:
        shelf = self.shelves.setdefault(offer.key, Shelf(offer.key))
        shelf.next = max(shelf.next, offer.next)
        void = union(shelf.void, ((1, offer.floor - 1),), ((a, b) for a, b, _ in offer.void))
        shelf.void = subtract(void, shelf.held)

    def ack(self, keys: list[LogKey], echo: str) -> Ack:
        self.n += 1
        acks = []
        for key in list(dict.fromkeys(keys))[:64]:
            shelf = self.shelves[key]
            upto = shelf.upto()
            have = tuple(r for r in shelf.held if r[0] > upto)[:MAX_RANGES]
            acks.append(
                LogAck(node=key.node, stream=key.stream, klass=key.klass, epoch=key.epoch,
                       upto=upto, have=have)
            )  # fmt: skip
        return Ack(schema=1, node=NODE, rx=self.rx, n=self.n, echo=echo, acks=tuple(acks))
