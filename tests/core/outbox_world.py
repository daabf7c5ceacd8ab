"""A world around the outbox, in virtual time: a spool, a road with faults, receivers.

Nothing here knows how the outbox decides.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from edge_agent.core.edgecore import Ack
from edge_agent.core.frames import RecordClass
from edge_agent.core.governor import Limits
from edge_agent.core.lanes import Cargo, Span, key_of
from edge_agent.core.logbook import LogKey
from edge_agent.core.outbox import Load, Outbox
from edge_agent.core.probe import Probe
from edge_agent.core.ranges import count, of
from tests.core.outbox_ends import NODE, Receiver, SpoolModel

COMMIT_US = 20_000
RECORD_BYTES = 120
ENVELOPE_BYTES = 90


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
