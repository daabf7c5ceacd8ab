"""What goes up and when: lanes, questions, patience. Decides all, does nothing.

Events come in (a record was appended, the spool's books changed, an ack came), decisions go out
(read this, publish that, delete these). Time is an argument in microseconds, chance a number in
[0, 1), nonces are given. Nothing of it outlives the process, and next to nothing the connection:
what there is to send is in the spool's books, what has arrived is in the answer to a probe. Into a
road that answers nothing go probes alone, ever more seldom; any answer wakes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal

import msgspec

from edge_agent.core import logbook
from edge_agent.core.backfill import Backfill, Want
from edge_agent.core.backoff import ProbeBackoff
from edge_agent.core.edgecore import Ack, NeedSaid
from edge_agent.core.frames import AnyRecord, RecordClass
from edge_agent.core.governor import Governor, Limits
from edge_agent.core.lanes import Cargo, Flight, Flights, LiveLane, Retry, Span
from edge_agent.core.ledger import Ledger
from edge_agent.core.logbook import Log, LogKey
from edge_agent.core.probe import MAX_LOGS, Probe
from edge_agent.core.receivers import Verdict
from edge_agent.core.road_size import RoadSize
from edge_agent.core.wire.bounds import MAX_BUNDLE_BYTES
from edge_agent.core.witness import Heard, Witness

STALL_US: Final = 2_000_000  # no ack for so long with data out: probes only; sooner where
STALL_LEAST_US: Final = 1_000_000  # round trips are short, but never before this
SILENT_US: Final = 5_000_000  # questions without an answer for so long: the cloud is away
PATIENCE_US: Final = 1_000_000  # with a publish, at least
PROBE_LEAST_US: Final = 1_000_000
PROBE_SPREAD_US: Final = 4_000_000
PROBE_PRESSED_US: Final = 500_000  # instead of it: a backlog drains, or no answer comes
KEYLESS_US: Final = 5_000_000  # until it is told again
SHARED_US: Final = 120_000_000  # after the receiver last spoke of another agent of this name
EVICTED_US: Final = 250_000  # evictions are told together
MAX_ASKED: Final = 64  # probes that went alone and whose size is remembered
MAX_LIVE_BYTES: Final = 120_000  # of one payload; leaves room for backlog and probe
OFFER_CHARS: Final = 120  # of payload, at most, in a probe; beside them, in a road that is narrow
PROBE_CHARS: Final = 350  # signed
KINDS: Final = {klass.value: klass for klass in RecordClass}


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A publish that may go now: encode these runs, then `load`. at_us: when its slot was free."""

    runs: list[list[AnyRecord]]
    at_us: int
    alarms_only: bool = False


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What one publish carries. flight: its number, 0 without records."""

    cargos: tuple[Cargo, ...] = ()
    probe: Probe | None = None
    flight: int = 0


class Outbox:
    """One per process. `limits` are never exceeded, `resends` counts envelopes."""

    def __init__(self, *, node: str, epoch: int, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self.ledger = Ledger(node, epoch)
        self.witness = Witness(self.ledger)
        self.governor = Governor(self._limits)
        self.live = LiveLane()
        self.flights = Flights()
        self.backfill = Backfill(
            ledger=self.ledger, flights=self.flights, governor=self.governor, limits=self._limits
        )
        self.size = RoadSize()
        self._head_chars = len(f"ea1 {node} ")
        self._asked: dict[str, tuple[int, int]] = {}  # probes that went alone: size, and when
        self._lowered = 0
        self._shared_us: int | None = None  # when the receiver last spoke of another agent
        self._yields = False  # the last publish had no room beside what is live
        self.is_up = False
        self.resends = 0
        self.heard_us: int | None = None  # the last word that told us something, on this connection
        self._probe_us: int | None = None  # when the next probe is due
        self._due_anyway_us = 0  # the same, whatever connection there is then
        self._probed_us = 0  # when the last one went
        self._usual_us = 0  # the pause after it, once it is answered
        self._backoff = ProbeBackoff()
        self._asked_us: int | None = None  # the first question since the last answer
        self._owed_us: int | None = None  # since when an ack of data is owed
        self._is_old = False  # the receiver; told once a connection
        self._keyless_us = -KEYLESS_US  # when a key was missing there, as was told last

    # ── events ────────────────────────────────────────────────────────────────────────────────

    def up(self, logs: Iterable[Log], now_us: int) -> None:
        """A new connection: nothing is on its way, everything is told anew."""
        self.down()
        self.is_up, self._is_old = True, False
        self.ledger.observe(logs)
        self.ledger.tell_all()
        is_asked = self._backoff.reconnected(now_us)
        self._probe_us = now_us if is_asked else max(now_us, self._due_anyway_us)

    def down(self) -> None:
        self.is_up = False
        self.live.clear()
        self.flights.clear()
        self.backfill.clear()
        self.heard_us = self._probe_us = self._asked_us = self._owed_us = None

    def appended(self, record: AnyRecord, now_us: int) -> None:
        """A record has its id; its commit is under way."""
        if self.is_up:
            self.live.add(record, now_us)

    def observe(self, logs: Iterable[Log], now_us: int) -> tuple[logbook.Ack, ...]:
        """The spool's books as committed; acks that may be applied now."""
        evicted = self.ledger.observe(logs)
        if self.is_up and evicted and self.cloud(now_us) != "down":
            soon_us = max(now_us + EVICTED_US, self._probed_us + PROBE_LEAST_US)
            self._probe_us = soon_us if self._probe_us is None else min(self._probe_us, soon_us)
        elif self.is_up and self.ledger.unsettled and self._probe_us is None:
            self._probe_us = now_us + PROBE_LEAST_US
        return () if self.witness.is_contested else self.ledger.applicable()

    def heard(self, ack: Ack, now_us: int) -> Heard:
        """An ack from outside, well formed."""
        heard = self.witness.hear(ack, now_us)
        if heard.answers:
            self._answered(now_us)
        else:
            self.sign_of_life(now_us)
        if not heard.is_trusted:
            return heard
        if any(not self.ledger.is_own(epoch) for epoch in ack.epochs):
            self._shared_us = now_us
        if heard.verdict is Verdict.REPLACED:
            self._probe_us = now_us
        arrived = self.flights.settle(self.ledger.known)
        self._measure(ack.echo, arrived, now_us)
        if heard.question is not None:
            self.governor.answered(now_us, now_us - heard.question.at_us)
            if not (self.ledger.unsettled or len(self.flights)):
                self._probe_us = None
        if self.is_up and (heard.question is not None or arrived):
            self.heard_us, self._asked_us = now_us, None
            self._backoff.answered()
            self._owed_us = now_us if len(self.flights) or self.flights.retries else None
        return msgspec.structs.replace(heard, arrived=tuple(arrived))

    def _measure(self, echo: str, arrived: Iterable[Flight], now_us: int) -> None:
        size, sent_us = self._asked.pop(echo, (0, 0))
        if size:
            self.size.arrived(size, sent_us, now_us)
        for flight in arrived:
            self.size.arrived(flight.size, flight.sent_us, now_us)

    def weighed(self, load: Load, size: int, now_us: int) -> None:
        """What was loaded became a payload of so many characters. now_us: as told to `load`."""
        self.size.sent(size, now_us)
        if load.flight:
            self.flights.weigh(load.flight, size)
        elif load.probe is not None:
            self._asked[load.probe.nonce] = (size, now_us)
            while len(self._asked) > MAX_ASKED:
                del self._asked[next(iter(self._asked))]

    def _answered(self, now_us: int) -> None:
        """A question was, however old: EdgeCore sends what it kept in the order in which it came.
        The next one goes when it would have gone without the silence.
        """
        self._backoff.answered()
        if self._probe_us is not None:
            usual_us = max(now_us, self._probed_us + self._usual_us)
            self._probe_us = min(self._probe_us, usual_us)

    def sign_of_life(self, now_us: int) -> None:
        """Something came from the cloud that answers no question: worth one, if it was silent."""
        if self.is_up and self.cloud(now_us) == "down" and self._backoff.sign(now_us):
            self._probe_us = max(now_us, self._probed_us + PROBE_LEAST_US)

    def needed(self, need: NeedSaid, now_us: int) -> bool:
        """Records could not be read there; True: they will go again, in another form."""
        self.sign_of_life(now_us)
        if need.why == "version" and not self._is_old:
            self._is_old = True
            what = need.name or need.kind or "what this agent sends"
            self.witness.find("receiver-too-old", f"the receiver cannot read {what}")
        if need.why == "key" and now_us - self._keyless_us >= KEYLESS_US:
            self._keyless_us = now_us
            what = "the hot tier does not have the keys of this node: it takes nothing"
            self.witness.find("receiver-lacks-key", what)
        stream, _, name = need.name.partition("/")
        klass = KINDS.get(name)
        if need.kind != "records" or klass is None:
            return False
        found = self.flights.touching(
            Span(LogKey(need.node, stream, klass, need.epoch), need.a, need.b)
        )
        _go_again(
            self.ledger,
            self.flights,
            found,
            lambda flight: (
                now_us + (PATIENCE_US << min(flight.attempt, 5) if flight.attempt else 0)
            ),
            plain=True,
        )
        return bool(found)

    # ── decisions ─────────────────────────────────────────────────────────────────────────────

    def cloud(self, now_us: int) -> Literal["up", "down", "unknown"]:
        """What can be said of the receiver from here."""
        silent_us = 0 if self._asked_us is None else now_us - self._asked_us
        if self.is_up and (silent_us >= SILENT_US or self._backoff.is_silent):
            return "down"
        return "unknown" if self.heard_us is None else "up"

    def is_shared(self, now_us: int) -> bool:
        """Whether another agent uses this node's name, as the receiver has it."""
        return self._shared_us is not None and now_us - self._shared_us < SHARED_US

    def next_probe_us(self) -> int | None:
        """When the next question goes; None: there is nothing to ask."""
        return self._probe_us

    def turn(self, now_us: int, chance: float) -> None:
        """What time alone changes. To be called before each `draft`."""
        self.live.expire(now_us)
        late = self.flights.late(now_us)
        for flight in late:
            self.size.late(flight.size, flight.sent_us, now_us)
        _go_again(
            self.ledger,
            self.flights,
            late,
            lambda flight: now_us + int(flight.attempt * 100_000 * chance),
        )
        if late and self._probe_us is None:
            self._probe_us = now_us
        if self._lowered != self.size.lowered:
            self._lowered = self.size.lowered
            in_vain = self.flights.larger(self.size.limit(now_us) or 0)
            _go_again(self.ledger, self.flights, in_vain, lambda _: now_us)
            self.flights.hurry(now_us)

    def due_us(self, now_us: int) -> int | None:
        """When there will be something to do; None: not before an event."""
        if not self.is_up:
            return None
        slot_us = self.governor.slot_us()
        times = [self.flights.due_us(now_us)]
        if self._probe_us is not None:
            times.append(max(self._probe_us, slot_us))
        if self._may_send(now_us):
            if self.live.has_alarms:
                times.append(self.governor.alarm_slot_us())
            if len(self.live):
                times.append(slot_us)
            if self.backfill.is_ready:
                times.append(max(slot_us, self.governor.room_us(now_us)))
        known = [time for time in times if time is not None]
        return max(now_us, min(known)) if known else None

    def draft(self, now_us: int) -> Draft | None:
        """A publish that may go now, if there is anything to say; followed by `load`."""
        if not self.is_up:
            return None
        may = self._may_send(now_us)
        if now_us >= self.governor.slot_us():
            asks = self._probe_us is not None and self._probe_us <= now_us
            ready = self.backfill.is_ready and self.governor.room_bytes(now_us) > 0
            if asks or (may and (ready or len(self.live))):
                # in a road that is narrow, live records, backlog and probe take turns
                alone = (asks or (ready and self._yields)) and self.room_bytes(now_us) is not None
                runs = self.live.take(alarms_only=False) if may and not alone else []
                return Draft(runs=runs, at_us=now_us)
        elif may and self.live.has_alarms and now_us >= self.governor.alarm_slot_us():
            runs = self.live.take(alarms_only=True)
            return Draft(runs=runs, at_us=now_us, alarms_only=True)
        return None

    def load(
        self, draft: Draft, live: Sequence[Cargo], *, now_us: int, chance: float, nonce: str
    ) -> Load:
        """Fills the publish and books it as sent. What of `live` does not fit is left to the spool.

        nonce: fresh for each call, not to be guessed.
        """
        self.governor.took_slot(draft.at_us)  # however long the encoding took
        hard_bytes = self.room_bytes(now_us)
        room = MAX_LIVE_BYTES if hard_bytes is None else min(hard_bytes, MAX_LIVE_BYTES)
        cargos = _fitting(live, room)
        number = len(cargos)
        probe = None
        if not draft.alarms_only and (hard_bytes is None or not cargos):
            probe = self._ask(now_us, chance, nonce)
        is_alone = hard_bytes is not None and probe is not None  # each of them needs the room
        if not (draft.alarms_only or is_alone) and self._may_send(now_us):
            cargos += self.backfill.take(now_us, hard_bytes, sum(one.size for one in cargos))
        self._yields = hard_bytes is not None and len(cargos) == number > 0
        if not cargos:
            return Load(probe=probe)
        for cargo in cargos:
            self.ledger.sent(*cargo.span)
            self.resends += cargo.attempt > 0
        patience_us = max(PATIENCE_US, 3 * self.governor.round_trip_us)
        flight = self.flights.add(cargos, number, now_us, int(patience_us * (1 + chance / 2)))
        self._owed_us = now_us if self._owed_us is None else self._owed_us
        self._probe_us = now_us + PROBE_LEAST_US if self._probe_us is None else self._probe_us
        return Load(cargos=tuple(cargos), probe=probe, flight=flight.number)

    def want(self, now_us: int) -> Want | None:
        """What of the backlog to read now; the answer goes to `backfill.fetched`."""
        if self.heard_us is None or not self._may_send(now_us):
            return None
        return self.backfill.want(now_us, self.live.spans(), self.room_bytes(now_us))

    def room_bytes(self, now_us: int) -> int | None:
        """For cargo in one payload, as the road takes it; None: nothing is known to be too much."""
        limit = self.size.limit(now_us)
        return None if limit is None else max(1, limit - self._head_chars)

    def _may_send(self, now_us: int) -> bool:
        """Data, not only probes."""
        if not self.is_up or self.cloud(now_us) == "down":
            return False
        stall_us = min(STALL_US, max(STALL_LEAST_US, 3 * self.governor.round_trip_us))
        stalled = self._owed_us is not None and now_us - self._owed_us >= stall_us
        full = len(self.flights) >= self._limits.inflight_bundles
        return not (stalled or full or self.witness.is_contested)

    def _ask(self, now_us: int, chance: float, nonce: str) -> Probe | None:
        """The probe, when it is due or soon would be, and when the next one is."""
        if self._probe_us is None or self._probe_us > now_us:
            return None
        offers, more = self.ledger.page(self._most_offers(now_us))
        self.witness.ask(nonce, now_us, offers)
        self._probed_us = now_us
        self._asked_us = now_us if self._asked_us is None else self._asked_us
        pressed = self.backfill.is_busy or self.heard_us is None or self._owed_us is not None
        spread_us = PROBE_PRESSED_US if pressed else PROBE_SPREAD_US
        self._usual_us = PROBE_LEAST_US + int(spread_us * chance)
        if more and self.cloud(now_us) != "down":
            self._probe_us = now_us  # the next page; all of them are one question
        else:  # at least until this one is answered
            self._probe_us = now_us + self._backoff.asked(chance, self._usual_us)
        self._due_anyway_us = self._probe_us
        return Probe(nonce=nonce, logs=offers, more=more)

    def _most_offers(self, now_us: int) -> int:
        """As many as the road takes; one alone where nothing is answered: its size may be why."""
        room = self.room_bytes(now_us)
        if self._backoff.is_silent:
            return 1
        return MAX_LOGS if room is None else max(1, (room - PROBE_CHARS) // OFFER_CHARS)


def _go_again(
    ledger: Ledger,
    book: Flights,
    flights: Iterable[Flight],
    due_us: Callable[[Flight], int],
    *,
    plain: bool = False,
) -> None:
    """What of these flights has not arrived is due again."""
    for flight in flights:
        for key, a, b in flight.spans:
            left = ledger.missing(key, a, b)
            due = due_us(flight)
            book.repeat(
                [Retry(key=key, left=left, attempt=flight.attempt + 1, due_us=due, plain=plain)]
            )


def _fitting(live: Sequence[Cargo], room: int = MAX_LIVE_BYTES) -> list[Cargo]:
    fitting: list[Cargo] = []
    weight = MAX_BUNDLE_BYTES // 2  # the other half is the backlog's
    for cargo in live:
        if cargo.size <= room and cargo.weight <= weight and len(fitting) < 40:
            fitting.append(cargo)
            room -= cargo.size
            weight -= cargo.weight
    return fitting
