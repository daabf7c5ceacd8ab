"""The backlog lane: what to read from the spool next, and what was read and waits for its publish.

Reading and encoding run ahead of the publishes, by little, so that no live record ever waits for
a disk. The highest class first, in it the oldest epoch, its logs in turn, each from its lowest seq.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from edge_agent.core.frames import RecordClass
from edge_agent.core.governor import Governor, Limits
from edge_agent.core.lanes import Cargo, Flights, Span, ranges_by_log
from edge_agent.core.ledger import Ledger
from edge_agent.core.logbook import LogKey
from edge_agent.core.ranges import Ranges, count, intersect, lowest, of, subtract, union
from edge_agent.core.retention import Position, next_offer
from edge_agent.core.wire.bounds import MAX_BUNDLE_BYTES

MAX_BATCH_RECORDS: Final = 300
MAX_BATCH_RANGES: Final = 16  # each becomes an envelope of its own
MAX_ENVELOPES: Final = 20  # of backlog in one publish
MAX_PAYLOAD_BYTES: Final = 1 << 20
MAX_UNFIT_RANGES: Final = 256  # of one log; others are met, and left, again
MAX_WIDE_RANGES: Final = 1024  # of one log; beyond, what lies between is left with them
FIRST_RECORD_BYTES: Final = 150  # a guess, until some were encoded


class Want(msgspec.Struct, frozen=True, kw_only=True):
    """Read these seqs of a log and encode them, within `max_bytes` of payload if possible."""

    key: LogKey
    wanted: Ranges
    max_bytes: int
    attempt: int = 0
    plain: bool = False  # without a dictionary
    line: int = 0  # the connection that it is for
    hard_bytes: int | None = None  # of payload: more than so much the road does not take


class Backfill:
    """`loans`: what a peer carries, by number."""

    def __init__(
        self, *, ledger: Ledger, flights: Flights, governor: Governor, limits: Limits
    ) -> None:
        self._ledger, self._flights = ledger, flights
        self._governor, self._limits = governor, limits
        self._ready: list[Cargo] = []
        self._wanted: Want | None = None
        self._line = 0
        self._last: LogKey | None = None  # whose backlog was read last
        self._sizes: dict[tuple[str, RecordClass], float] = {}  # payload bytes of a record
        self._loans: dict[int, Span] = {}
        self._unfit: dict[LogKey, Ranges] = {}  # nobody can send these; for as long as we live
        self._wide: dict[LogKey, tuple[int, Ranges]] = {}  # too large for the road; the least
        self._numbers = 0

    def clear(self) -> None:
        """The connection came or went."""
        self._ready, self._wanted = [], None
        self._line += 1
        self._loans.clear()

    @property
    def is_ready(self) -> bool:
        return bool(self._ready)

    @property
    def is_busy(self) -> bool:
        """There is a backlog."""
        return bool(self._ready) or self._wanted is not None

    def wide_records(self) -> int:
        """So many are each too large for the road, as far as they were met."""
        return sum(count(ranges) for _, ranges in self._wide.values())

    def unfit_records(self) -> int:
        """So many can be said in no envelope."""
        return sum(map(count, self._unfit.values()))

    # ── reading ahead ─────────────────────────────────────────────────────────────────────────

    def want(self, now_us: int, live: Iterable[Span], hard_bytes: int | None = None) -> Want | None:
        """The next to read; one at a time, each answered by `fetched`.

        hard_bytes: what the road takes in one payload; a larger record waits until it takes more.
        """
        for key, (least, _) in list(self._wide.items()):
            if hard_bytes is None or least <= hard_bytes:
                del self._wide[key]
        budget = min(self._governor.batch_bytes(), hard_bytes or MAX_PAYLOAD_BYTES)
        waiting = sum(cargo.size for cargo in self._ready)
        room = self._limits.inflight_backfill_bytes - self._flights.backfill_bytes - waiting
        # no more than the next publishes take: packing goes on between them, not beside them
        ahead = sum(cargo.span.records for cargo in self._ready) >= 2 * MAX_BATCH_RECORDS
        if self._wanted is not None or ahead or waiting >= 2 * budget or room < budget / 2:
            return None
        most_bytes = min(budget, room)
        wanted = self._repeat(now_us, most_bytes) or self._next(live, most_bytes)
        if wanted is not None:
            wanted = msgspec.structs.replace(wanted, hard_bytes=hard_bytes)
        self._wanted = wanted
        return wanted

    def fetched(
        self,
        want: Want,
        cargos: Sequence[Cargo],
        unfit: Iterable[int] = (),
        wide: Sequence[tuple[int, int]] = (),
    ) -> None:
        """The answer to a `Want`: without cargos, when the records are no longer there.

        unfit: seqs that are there and that no envelope can hold. They are not asked for again.
        wide: seqs, and bytes of payload, of those that the road takes none of alone.
        """
        if wide:
            least, ranges = self._wide.get(want.key, (MAX_PAYLOAD_BYTES, ()))
            least = min(least, *(size for _, size in wide))
            ranges = union(ranges, of(seq for seq, _ in wide))
            if len(ranges) > MAX_WIDE_RANGES:
                ranges = union(((ranges[0][0], ranges[len(ranges) // 2][1]),), ranges)
            self._wide[want.key] = (least, ranges)
        if bad := of(unfit):
            known = union(self._unfit.get(want.key, ()), bad)
            self._unfit[want.key] = known[:MAX_UNFIT_RANGES]
        if want.line != self._line:
            return
        self._wanted = None
        for cargo in cargos:
            name = (cargo.span.key.stream, cargo.span.key.klass)
            each = cargo.size / (cargo.span.b - cargo.span.a + 1)
            before = self._sizes.get(name, each)
            self._sizes[name] = before + (each - before) / 4
            self._ready.append(msgspec.structs.replace(cargo, attempt=want.attempt))

    def take(self, now_us: int, hard_bytes: int | None = None, beside: int = 0) -> list[Cargo]:
        """What goes with a publish now, beside so many bytes of payload. One larger than the room
        goes alone, and is paid off; what the road no longer takes at all is left to the spool.
        """
        if hard_bytes is not None:
            self._ready = [cargo for cargo in self._ready if cargo.size <= hard_bytes]
        left = MAX_PAYLOAD_BYTES if hard_bytes is None else hard_bytes - beside
        room = self._governor.room_bytes(now_us)
        flying = self._flights.backfill_bytes
        room = min(room, self._limits.inflight_backfill_bytes - flying)
        taken: list[Cargo] = []
        records = MAX_BATCH_RECORDS  # however small they are, the receiver has to write them
        weight = MAX_BUNDLE_BYTES // 2  # the other half belongs to what is live
        while self._ready and room > 0 and len(taken) < MAX_ENVELOPES:
            size, number = self._ready[0].size, self._ready[0].span.records
            weight -= self._ready[0].weight
            if weight < 0 or ((size > room or number > records) and (taken or flying)):
                break
            if size > left:
                break
            left -= size
            room -= size
            records -= number
            self._governor.spent(size)
            taken.append(self._ready.pop(0))
        return taken

    def _cut(self, key: LogKey, wanted: Ranges, most_bytes: int) -> Ranges:
        """As many of the lowest as should fit."""
        each = self._sizes.get((key.stream, key.klass), FIRST_RECORD_BYTES)
        most = min(MAX_BATCH_RECORDS, max(1, int(most_bytes / max(1.0, each))))
        return lowest(wanted, most)[:MAX_BATCH_RANGES]

    def _repeat(self, now_us: int, most_bytes: int) -> Want | None:
        """What was sent in vain. Not yet committed: the spool's books will show it."""
        while (retry := self._flights.next_retry(now_us)) is not None:
            wanted = intersect(self._ledger.pending(retry.key), retry.left)
            wanted = subtract(wanted, self._unfit.get(retry.key, ()))
            wanted = subtract(wanted, self._wide.get(retry.key, (0, ()))[1])
            if wanted:
                wanted = self._cut(retry.key, wanted, most_bytes)
                self._flights.put_back(retry, wanted)
                return Want(
                    key=retry.key,
                    wanted=wanted,
                    max_bytes=most_bytes,
                    attempt=retry.attempt,
                    plain=retry.plain,
                    line=self._line,
                )
        return None

    def _next(self, live: Iterable[Span], most_bytes: int) -> Want | None:
        busy = self._busy(live)
        found = next_offer(self._ledger.logs(), Position(last=self._last), busy)
        if found is None:
            return None
        self._last = found.log.key
        wanted = self._cut(found.log.key, found.wanted, most_bytes)
        return Want(key=found.log.key, wanted=wanted, max_bytes=most_bytes, line=self._line)

    def _busy(self, live: Iterable[Span]) -> dict[LogKey, Ranges]:
        """What is on its way, or known to have arrived."""
        wanted = self._wanted
        reading = [Span(wanted.key, a, b) for a, b in wanted.wanted] if wanted else []
        ready = (cargo.span for cargo in self._ready)
        spans = [*live, *self._flights.spans(), *ready, *reading, *self._loans.values()]
        busy = ranges_by_log(spans)
        if self._unfit or self._wide:
            logs = {log.key for log in self._ledger.logs()}
            self._unfit = {key: unfit for key, unfit in self._unfit.items() if key in logs}
            self._wide = {key: wide for key, wide in self._wide.items() if key in logs}
        wide = {key: ranges for key, (_, ranges) in self._wide.items()}
        for some in (self._ledger.skips(), self._unfit, wide):
            for key, claimed in some.items():
                busy[key] = union(busy.get(key, ()), claimed)
        return busy

    # ── records that a peer carries ───────────────────────────────────────────────────────────

    def hand_over(self, most: int = MAX_BATCH_RECORDS) -> tuple[int, Span] | None:
        """The next seqs for a peer to carry, and a number to take them back by; None: no more.

        It moves nothing: they leave the spool by the receiver's ack alone, and only we declare
        them void. Until they are taken back, or our own connection comes or goes, we send others.
        """
        found = next_offer(self._ledger.logs(), Position(last=self._last), self._busy(()))
        if found is None:
            return None
        self._last = found.log.key
        self._numbers += 1
        a, b = lowest(found.wanted, most)[0]
        self._loans[self._numbers] = Span(found.log.key, a, b)
        return self._numbers, self._loans[self._numbers]

    def take_back(self, loan: int) -> None:
        """Unknown numbers are passed over."""
        self._loans.pop(loan, None)
