"""A world around the outbox, in virtual time: a spool, a road with faults, receivers.

The spool keeps its books by `core.logbook`, as the one on disk does; the receiver is the shortest
one that keeps its side of the contract. Nothing here knows how the outbox decides.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from edge_agent.core import logbook
from edge_agent.core.edgecore import MAX_RANGES, Ack, LogAck
from edge_agent.core.frames import Alarm, AnyRecord, Event, RecordClass, Tally
from edge_agent.core.governor import Limits
from edge_agent.core.lanes import Cargo, Span, key_of
from edge_agent.core.logbook import Log, LogKey
from edge_agent.core.outbox import Load, Outbox
from edge_agent.core.probe import Offer, Probe
from edge_agent.core.ranges import Ranges, count, intersect, of, subtract, union
from edge_agent.core.retention import victims

NODE = "cart-1"
COMMIT_US = 20_000
RECORD_BYTES = 120
ENVELOPE_BYTES = 90
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


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """Of the road, either way. delay_us: uniform between these two, so that order is lost."""

    loss: float = 0.0
    twice: float = 0.0
    delay_us: tuple[int, int] = (2_000, 10_000)


class Published(NamedTuple):
    at_us: int
    alarms_only: bool
    backfill_bytes: int


class World:
    """Everything together; `at` schedules, `run` lets the time go by."""

    def __init__(self, seed: int, faults: Faults, limits: Limits | None = None) -> None:
        self.dice = random.Random(seed)
        self.faults = faults
        self.limits = limits or Limits()
        self.now_us = 1_000_000
        self.spool = SpoolModel()
        self.receivers = [Receiver("rx-a")]
        self.is_cut = False
        self.published: list[Published] = []
        self.earlier: list[list[Published]] = []  # of lives before this one
        self.most_flights = self.most_backfill_bytes = 0
        self.acks_sent: deque[Ack] = deque(maxlen=500)
        self.findings: list[str] = []
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._number = 0
        self._line = 0
        self.start()

    # ── time ──────────────────────────────────────────────────────────────────────────────────

    def at(self, at_us: int, then: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, (max(at_us, self.now_us), self._number, then))

    def run(self, until_us: int) -> None:
        self._outbox_turn()
        while self._events and self._events[0][0] <= until_us:
            self.now_us, _, then = heapq.heappop(self._events)
            then()
            self._outbox_turn()
        self.now_us = until_us

    # ── the agent ─────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        self.spool.open(self.dice)
        self.outbox = Outbox(node=NODE, epoch=self.spool.epoch, limits=self.limits)
        self._line += 1
        self.outbox.up(list(self.spool.logs.values()), self.now_us)
        self._wake_us: int | None = None

    def crash(self) -> None:
        """kill -9, and a new start."""
        self.earlier.append(self.published)
        self.published = []
        self.start()

    def reconnect(self) -> None:
        self._line += 1
        self.outbox.down()
        self.outbox.up(list(self.spool.logs.values()), self.now_us)

    def append(self, stream: str, klass: RecordClass) -> None:
        was_empty = not self.spool.waiting
        self.outbox.appended(self.spool.append(stream, klass, self.now_us), self.now_us)
        if was_empty:
            self.at(self.now_us + COMMIT_US, self._commit)

    def _commit(self) -> None:
        self.spool.commit()
        self._observe()

    def evict(self, number: int) -> None:
        self.spool.evict(number)
        self._observe()

    def _observe(self) -> None:
        for _ in range(2):
            logs = list(self.spool.logs.values())
            self.spool.acknowledge(self.outbox.observe(logs, self.now_us))

    def _outbox_turn(self) -> None:
        box, dice = self.outbox, self.dice
        box.turn(self.now_us, dice.random())
        while (draft := box.draft(self.now_us)) is not None:
            live = [self._cargo(key_of(run[0]), run[0].seq, run[-1].seq) for run in draft.runs]
            load = box.load(
                draft, live, now_us=self.now_us, chance=dice.random(),
                nonce=f"n{dice.getrandbits(64):x}",
            )  # fmt: skip
            self._book(load, len(live), alarms_only=draft.alarms_only)
        want = box.want(self.now_us)
        if want is not None:
            rows = self.spool.rows.get(want.key, set())
            there = of(s for a, b in want.wanted for s in range(a, b + 1) if s in rows)
            cargos = [self._cargo(want.key, a, b) for a, b in there]
            self.at(self.now_us + 1000, lambda: box.backfill.fetched(want, cargos))
        self.findings += [finding.code for finding in box.witness.findings]
        box.witness.findings.clear()
        due_us = box.due_us(self.now_us)
        if due_us is not None and due_us != self._wake_us:
            self._wake_us = due_us
            self.at(due_us, lambda: None)

    def _cargo(self, key: LogKey, a: int, b: int) -> Cargo:
        return Cargo(
            Span(key, a, b), ENVELOPE_BYTES + RECORD_BYTES * (b - a + 1), b"", 0, self.now_us
        )

    def _book(self, load: Load, live: int, *, alarms_only: bool) -> None:
        if not load.cargos and load.probe is None:
            return
        backfill = sum(cargo.size for cargo in load.cargos[live:])
        self.published.append(Published(self.now_us, alarms_only, backfill))
        flights = self.outbox.flights
        self.most_flights = max(self.most_flights, len(flights))
        self.most_backfill_bytes = max(self.most_backfill_bytes, flights.backfill_bytes)
        spans, probe = [cargo.span for cargo in load.cargos], load.probe
        for receiver in list(self.receivers):
            self._send(lambda r=receiver: self._arrive(r, spans, probe))  # type: ignore[misc]

    # ── the road ──────────────────────────────────────────────────────────────────────────────

    def _send(self, then: Callable[[], None]) -> None:
        times = 2 if self.dice.random() < self.faults.twice else 1
        for _ in range(times):
            if self.is_cut or self.dice.random() < self.faults.loss:
                continue
            self.at(self.now_us + self.dice.randint(*self.faults.delay_us), then)

    def _arrive(self, receiver: Receiver, spans: list[Span], probe: Probe | None) -> None:
        if receiver not in self.receivers:
            return
        ack = receiver.take(spans, probe)
        if ack is not None:
            self.acks_sent.append(ack)
            self._send(lambda: self.hear(ack))

    def hear(self, ack: Ack) -> None:
        heard = self.outbox.heard(ack, self.now_us)
        self.spool.acknowledge(heard.apply)
        self.spool.forfeit(heard.forfeit)
        self._observe()
        self.spool.forget(heard.forget)
        self._observe()

    # ── what must hold ────────────────────────────────────────────────────────────────────────

    def check_bounds(self) -> None:
        for life in (*self.earlier, self.published):
            self._check_life(life)
        assert self.most_flights <= self.limits.inflight_bundles
        assert self.most_backfill_bytes <= self.limits.inflight_backfill_bytes

    def _check_life(self, life: list[Published]) -> None:
        ordinary = [p.at_us for p in life if not p.alarms_only]
        alarms = [p.at_us for p in life if p.alarms_only]
        assert all(b - a >= 50_000 for a, b in itertools.pairwise(ordinary))
        per_s = self.limits.alarms_per_s
        assert all(b - a >= 1_000_000 for a, b in zip(alarms, alarms[per_s:], strict=False))
        assert all(p.backfill_bytes <= self.limits.backfill_publish_bytes for p in life)
        total = sum(p.backfill_bytes for p in life)
        span_s = (life[-1].at_us - life[0].at_us) / 1e6 if life else 0.0
        spare = 2 * self.limits.backfill_publish_bytes
        assert total <= self.limits.backfill_bytes_per_s * span_s + spare

    def check_settled(self) -> None:
        """The channel is well and time has passed: both sheets are exact, nobody waits."""
        sheet = self.spool.sheet()
        assert sheet.appended == sheet.acked + sheet.evicted + sheet.corrupt + sheet.pending
        assert sheet.pending == 0
        (receiver,) = self.receivers
        for shelf in receiver.shelves.values():
            held, void, waiting = count(shelf.held), count(shelf.void), count(shelf.waiting())
            assert held + void + waiting == shelf.next - 1
            assert waiting == 0, (shelf.key, shelf.waiting())
