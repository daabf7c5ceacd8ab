"""What waits to be sent, and what was sent and waits for its ack.

Live records go from memory, in parallel with their commit, while they are young; everything else is
read from the spool. Nothing in here is a promise: whatever is dropped from a lane is still pending
in the spool's books and is read from there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from edge_agent.core.frames import AnyRecord, RecordClass
from edge_agent.core.logbook import LogKey
from edge_agent.core.ranges import Ranges, clip, count, subtract, union
from edge_agent.core.retention import rank

LIVE_US: Final = 2_000_000
MAX_LIVE_RECORDS: Final = 2000
MAX_RUNS: Final = 40
MAX_RUN_RECORDS: Final = 300
MAX_TAKEN: Final = 600
RETRY_FIRST_US: Final = 1_000_000
RETRY_LONGEST_US: Final = 30_000_000
MAX_RETRIES: Final = 256


class Span(NamedTuple):
    """Consecutive seqs a … b of one log."""

    key: LogKey
    a: int
    b: int

    @property
    def records(self) -> int:
        return self.b - self.a + 1


class Cargo(msgspec.Struct, frozen=True):
    """One encoded envelope of records. size: bytes of payload, armour included. weight: bytes that
    its records are at most, decoded (`wire.bounds`).
    """

    span: Span
    size: int
    envelope: bytes
    attempt: int = 0
    oldest_us: int = 0  # CLOCK_BOOTTIME when its oldest record was made
    weight: int = 0


def key_of(record: AnyRecord) -> LogKey:
    return LogKey(record.node, record.stream, record.klass, record.epoch)


class LiveLane:
    """Records appended since the link came up, younger than two seconds."""

    def __init__(self) -> None:
        self._logs: dict[LogKey, deque[tuple[int, AnyRecord]]] = {}
        self._records = 0
        self._alarms = 0

    def __len__(self) -> int:
        return self._records

    @property
    def has_alarms(self) -> bool:
        return self._alarms > 0

    def add(self, record: AnyRecord, now_us: int) -> None:
        self._logs.setdefault(key_of(record), deque()).append((now_us, record))
        self._count(record.klass, 1)
        if self._records > MAX_LIVE_RECORDS:
            fullest = max(self._logs, key=lambda key: (rank(key.klass), len(self._logs[key])))
            self._drop(fullest)

    def expire(self, now_us: int) -> None:
        """What has grown old is left to the spool."""
        for key in list(self._logs):
            while key in self._logs and self._logs[key][0][0] <= now_us - LIVE_US:
                self._drop(key)

    def clear(self) -> None:
        self._logs.clear()
        self._records = self._alarms = 0

    def spans(self) -> Iterator[Span]:
        """At most one per run of consecutive seqs."""
        for key, waiting in self._logs.items():
            for a, b in _runs([record.seq for _, record in waiting]):
                yield Span(key, a, b)

    def take(self, *, alarms_only: bool) -> list[list[AnyRecord]]:
        """Runs of consecutive seqs, the highest class first; what does not fit stays."""
        taken: list[list[AnyRecord]] = []
        room = MAX_TAKEN
        for key in sorted(self._logs, key=lambda key: (rank(key.klass), key.stream, key.epoch)):
            if alarms_only and key.klass is not RecordClass.ALARM:
                continue
            while key in self._logs and room > 0 and len(taken) < MAX_RUNS:
                run = self._run(key, min(room, MAX_RUN_RECORDS))
                room -= len(run)
                taken.append(run)
        return taken

    def _run(self, key: LogKey, most: int) -> list[AnyRecord]:
        run = [self._drop(key)]
        while key in self._logs and len(run) < most:
            if self._logs[key][0][1].seq != run[-1].seq + 1:
                break
            run.append(self._drop(key))
        return run

    def _drop(self, key: LogKey) -> AnyRecord:
        waiting = self._logs[key]
        _, record = waiting.popleft()
        if not waiting:
            del self._logs[key]
        self._count(record.klass, -1)
        return record

    def _count(self, klass: RecordClass, by: int) -> None:
        self._records += by
        self._alarms += by * (klass is RecordClass.ALARM)


def _runs(seqs: Sequence[int]) -> Iterator[tuple[int, int]]:
    start = 0
    for at in range(1, len(seqs) + 1):
        if at == len(seqs) or seqs[at] != seqs[at - 1] + 1:
            yield seqs[start], seqs[at - 1]
            start = at


class Flight(msgspec.Struct):
    """One publish with records in it. backfill_bytes: of payload; attempt 0 is the first. size:
    characters of the whole payload.
    """

    number: int
    sent_us: int
    due_us: int
    attempt: int
    spans: tuple[Span, ...]
    backfill_bytes: int = 0
    live_us: int | None = None  # CLOCK_BOOTTIME of its oldest live record
    size: int = 0


class Retry(msgspec.Struct):
    """Seqs that were sent and not acknowledged; `due_us` is when they may be read again."""

    key: LogKey
    left: Ranges
    attempt: int
    due_us: int
    plain: bool = False  # the receiver lacks our dictionary


class Flights:
    """Publishes in flight, and what has to be repeated."""

    def __init__(self) -> None:
        self._flights: dict[int, Flight] = {}
        self._numbers = 0
        self.retries: list[Retry] = []

    def __len__(self) -> int:
        return len(self._flights)

    @property
    def backfill_bytes(self) -> int:
        return sum(flight.backfill_bytes for flight in self._flights.values())

    @property
    def oldest_us(self) -> int | None:
        return min((flight.sent_us for flight in self._flights.values()), default=None)

    def clear(self) -> None:
        self._flights.clear()
        self.retries.clear()

    def add(self, cargos: Sequence[Cargo], live: int, now_us: int, first_us: int) -> Flight:
        """The first `live` of these are live. first_us: patience with the first attempt."""
        attempt = max((cargo.attempt for cargo in cargos), default=0)
        self._numbers += 1
        flight = Flight(
            number=self._numbers,
            sent_us=now_us,
            due_us=now_us + min(first_us << min(attempt, 16), RETRY_LONGEST_US),
            attempt=attempt,
            spans=tuple(cargo.span for cargo in cargos),
            backfill_bytes=sum(cargo.size for cargo in cargos[live:]),
            live_us=min((cargo.oldest_us for cargo in cargos[:live]), default=None),
            size=sum(cargo.size for cargo in cargos),
        )
        self._flights[flight.number] = flight
        return flight

    def weigh(self, number: int, size: int) -> None:
        """Its payload has so many characters."""
        if number in self._flights:
            self._flights[number].size = size

    def spans(self) -> Iterator[Span]:
        for flight in self._flights.values():
            yield from flight.spans
        for retry in self.retries:
            for a, b in retry.left:
                yield Span(retry.key, a, b)

    def settle(self, claimed: Callable[[LogKey], Ranges]) -> list[Flight]:
        """Those that have arrived whole, taken out."""
        arrived = [
            flight
            for flight in self._flights.values()
            if all(_within(span, claimed(span.key)) for span in flight.spans)
        ]
        for flight in arrived:
            del self._flights[flight.number]
        for retry in self.retries:
            retry.left = subtract(retry.left, claimed(retry.key))
        self.retries = [retry for retry in self.retries if retry.left]
        return arrived

    def late(self, now_us: int) -> list[Flight]:
        """Those whose time is over, taken out."""
        found = [flight for flight in self._flights.values() if flight.due_us <= now_us]
        for flight in found:
            del self._flights[flight.number]
        return found

    def larger(self, size: int) -> list[Flight]:
        """Those whose payload has more characters, taken out."""
        found = [flight for flight in self._flights.values() if flight.size > size]
        for flight in found:
            del self._flights[flight.number]
        return found

    def hurry(self, now_us: int) -> None:
        """Why they were sent in vain is known now: all are due, as if for the first time."""
        for retry in self.retries:
            retry.attempt, retry.due_us = 0, min(retry.due_us, now_us)

    def touching(self, span: Span) -> list[Flight]:
        """Those that carry a part of it, taken out."""
        found = [f for f in self._flights.values() if any(_meet(span, one) for one in f.spans)]
        for flight in found:
            del self._flights[flight.number]
        return found

    def repeat(self, retries: Iterable[Retry]) -> None:
        """Beyond the bound the memory of their attempts is lost, no more."""
        self.retries.extend(retry for retry in retries if retry.left)
        del self.retries[:-MAX_RETRIES]

    def next_retry(self, now_us: int) -> Retry | None:
        """The most important log with some that are due: all of these, taken out."""
        due = [retry for retry in self.retries if retry.due_us <= now_us]
        if not due:
            return None
        first = min(due, key=lambda retry: (rank(retry.key.klass), retry.key.epoch, retry.left))
        alike = [r for r in due if r.key == first.key and r.plain == first.plain]
        self.retries = [retry for retry in self.retries if retry not in alike]
        left = union(*(retry.left for retry in alike))
        attempt = max(retry.attempt for retry in alike)
        return Retry(
            key=first.key, left=left, attempt=attempt, due_us=first.due_us, plain=first.plain
        )

    def put_back(self, retry: Retry, taken: Ranges) -> None:
        """A part of it was taken, the rest waits on."""
        retry.left = subtract(retry.left, taken)
        self.repeat([retry])

    def due_us(self, now_us: int) -> int | None:
        """When the next flight is late, or the next retry will be due."""
        flights = (flight.due_us for flight in self._flights.values())
        retries = (retry.due_us for retry in self.retries if retry.due_us > now_us)
        return min((*flights, *retries), default=None)


def ranges_by_log(spans: Iterable[Span]) -> dict[LogKey, Ranges]:
    found: dict[LogKey, list[tuple[int, int]]] = {}
    for key, a, b in spans:
        found.setdefault(key, []).append((a, b))
    return {key: union(ranges) for key, ranges in found.items()}


def _within(span: Span, claimed: Ranges) -> bool:
    return count(clip(claimed, span.a, span.b)) == span.b - span.a + 1


def _meet(one: Span, other: Span) -> bool:
    return one.key == other.key and one.a <= other.b and other.a <= one.b
