"""The books of a log: what was appended, acknowledged, evicted, damaged and is still pending.

A log is (node, stream, class, epoch); its seqs are dense from 1. Pure: a transition takes a `Log`
and gives a new one, together with the seqs whose rows go in the same transaction. Invariants:

- each seq below `next` is exactly one of pending, acknowledged, evicted or corrupt, so that
  appended = acked + evicted + corrupt + pending at any time;
- `floor` is the lowest pending seq, or `next`; it never goes back;
- `held` lies at or above `floor`; `void` is declared until the receiver's `upto` has passed it;
- neither list has more than `MAX_RANGES` entries.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from edge_agent.core.frames import RecordClass
from edge_agent.core.ranges import Range, Ranges, clip, count, intersect, lowest, subtract, union

MAX_RANGES = 64  # per list; a receiver reports the 32 lowest, so that more is not normal
EVICTED = "evicted"
CORRUPT = "corrupt"
LOST = "lost-at-receiver"

Void = tuple[int, int, str]


class LogKey(NamedTuple):
    """The identity of a log for everybody."""

    node: str
    stream: str
    klass: RecordClass
    epoch: int


class Sheet(NamedTuple):
    """One side of the balance; bytes: of the bodies pending."""

    appended: int = 0
    acked: int = 0
    evicted: int = 0
    corrupt: int = 0
    pending: int = 0
    bytes: int = 0

    def plus(self, other: Sheet, sign: int = 1) -> Sheet:
        return Sheet(*(a + sign * b for a, b in zip(self, other, strict=True)))


class Ack(NamedTuple):
    """What the receiver has of one log: everything up to `upto`, and the ranges `have`.

    lost: so many it acknowledged once, and has no more.
    """

    key: LogKey
    upto: int
    have: Ranges = ()
    lost: int = 0


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """One log. id: its number in the file; upto: the receiver's word, durable there or void.

    held: acknowledged above the floor. bytes: of the pending bodies. lost: acknowledged once, but
    no longer there nor here.
    """

    id: int
    key: LogKey
    floor: int = 1
    next: int = 1
    upto: int = 0
    held: Ranges = ()
    void: tuple[Void, ...] = ()
    bytes: int = 0
    evicted: int = 0
    corrupt: int = 0
    lost: int = 0

    def pending(self) -> Ranges:
        """The seqs whose rows are here."""
        void = ((a, b) for a, b, _ in self.void)
        return subtract(((self.floor, self.next - 1),), union(self.held, void))

    def sheet(self) -> Sheet:
        pending = count(self.pending())
        appended = self.next - 1
        acked = appended - self.evicted - self.corrupt - pending
        return Sheet(appended, acked, self.evicted, self.corrupt, pending, self.bytes)

    @property
    def is_settled(self) -> bool:
        """Nothing pending, and the receiver waits for nothing."""
        return self.upto >= self.next - 1


def written(log: Log, last: int, size: int, shed: Ranges) -> tuple[Log, Ranges]:
    """Rows up to `last` have come, of `size` bytes in all, but for those in `shed`.

    Also the ranges whose rows go (see `voided`); their bytes are the caller's to take off.
    """
    log = msgspec.structs.replace(log, next=max(log.next, last + 1), bytes=log.bytes + size)
    return voided(log, shed, EVICTED) if shed else (tidy(log), ())


def voided(log: Log, ranges: Ranges, why: str) -> tuple[Log, Ranges]:
    """Pending seqs are declared void; also the ranges whose rows go, which may be more.

    More, when the list of void ranges would outgrow its bound: then the pending seqs between two
    of them are given up too, as evicted.
    """
    gone = intersect(log.pending(), ranges)
    void = _merged((*log.void, *((a, b, why) for a, b in gone)), subtract(log.pending(), gone))
    log = _counted(log, count(gone), why)
    log = msgspec.structs.replace(log, void=void)
    while len(log.void) > MAX_RANGES:
        log, between = _narrowed(log)
        gone = union(gone, between)
    return tidy(log), gone


def acknowledged(log: Log, ack: Ack, limit: int) -> tuple[Log, Ranges]:
    """Applies what may be applied by the loss of at most `limit` rows; the ranges of these rows.

    Call it again with the same ack until it gives no ranges. Idempotent; older acks change nothing.
    """
    log, below = _taken(log, ((1, ack.upto),), limit)
    log, above = _taken(log, ack.have, limit - count(below))
    upto = max(log.upto, min(ack.upto, log.floor - 1))
    lost = max(log.lost, min(ack.lost, log.sheet().acked)) if ack.lost else log.lost
    return tidy(msgspec.structs.replace(log, upto=upto, lost=lost)), union(below, above)


def forfeited(log: Log, ack: Ack) -> Log:
    """The receiver's memory is another one: what neither it nor we hold is declared lost.

    Below the floor nothing needs declaring: there no receiver waits.
    """
    theirs = union(((1, ack.upto),), ack.have)
    void = tuple((a, b) for a, b, _ in log.void)
    gone = subtract(((1, log.next - 1),), union(log.pending(), void))
    lost = subtract(gone, theirs)
    declared = tuple((a, b, LOST) for a, b in clip(lost, log.floor, log.next - 1))
    number = min(count(lost), log.sheet().acked - log.lost)
    upto = min(log.upto, ack.upto)
    log = msgspec.structs.replace(log, upto=upto, lost=log.lost + max(0, number))
    return msgspec.structs.replace(log, void=_merged((*log.void, *declared), log.pending()))


def tidy(log: Log) -> Log:
    """The floor follows what is pending; what lies behind is forgotten."""
    pending = log.pending()
    floor = pending[0][0] if pending else log.next
    void = tuple(v for v in log.void if v[1] > log.upto)
    if len(void) > 1:
        void = _merged(void, pending)
    held = clip(log.held, floor, log.next) if log.held else ()
    size = log.bytes if pending else 0  # what was lost without a trace had a size too
    return msgspec.structs.replace(log, floor=floor, held=held, void=void, bytes=size)


def _taken(log: Log, claimed: Ranges, limit: int) -> tuple[Log, Ranges]:
    """Pending seqs that are claimed become held, as far as limit and bound allow."""
    gone = lowest(intersect(log.pending(), union(claimed)), limit)
    held = union(log.held, gone)
    if len(held) > MAX_RANGES + 1:  # one is about to fall below the floor
        held, gone = _fitting(log.held, gone)
    return tidy(msgspec.structs.replace(log, held=held)), gone


def _fitting(held: Ranges, more: Ranges) -> tuple[Ranges, Ranges]:
    """The lowest of `more` that leave the list within its bound; the rest is merely sent again."""
    kept: list[Range] = []
    for one in more:
        wider = union(held, (one,))
        if len(wider) <= max(MAX_RANGES, len(held)):
            held = wider
            kept.append(one)
    return held, tuple(kept)


def _merged(void: tuple[Void, ...], pending: Ranges) -> tuple[Void, ...]:
    """Sorted; neighbours of one reason with nothing pending between them are one."""
    merged: list[Void] = []
    for a, b, why in sorted(void):
        if merged and merged[-1][2] == why and not clip(pending, merged[-1][1] + 1, a - 1):
            merged[-1] = (merged[-1][0], max(b, merged[-1][1]), why)
        else:
            merged.append((a, b, why))
    return tuple(merged)


def _narrowed(log: Log) -> tuple[Log, Ranges]:
    """Two neighbouring void ranges become one, at the least cost in pending seqs between them."""
    pending, void = log.pending(), log.void
    gaps = [clip(pending, void[i][1] + 1, void[i + 1][0] - 1) for i in range(len(void) - 1)]
    i = min(range(len(gaps)), key=lambda n: count(gaps[n]))
    (a, b, why), (_, d, other) = void[i : i + 2]
    one = (a, max(b, d), why if why == other else EVICTED)
    log = _counted(log, count(gaps[i]), EVICTED)
    return msgspec.structs.replace(log, void=(*void[:i], one, *void[i + 2 :])), gaps[i]


def _counted(log: Log, number: int, why: str) -> Log:
    if why == CORRUPT:
        return msgspec.structs.replace(log, corrupt=log.corrupt + number)
    return msgspec.structs.replace(log, evicted=log.evicted + number)
