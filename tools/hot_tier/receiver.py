"""What the hot tier accepts and what it may acknowledge: the receiver's book of one log. Pure.

A log is (node, stream, class, epoch): the origin's, whoever carried it. Invariants, always:

- each seq below `next` is exactly one of held, void or waiting: held + void + waiting = next - 1;
- everything up to `upto` is held or void, and `upto + 1` is neither: that is what is acknowledged;
- `have` are the ranges held above `upto`, `void` those void above it; they share no number;
- what is held stays held, and `upto`, `next` and `floor` never go back.

A node that says a log is over has no seq from its end on: what did not come by then is gone, and
counted as void. That is no word to acknowledge: it moves no `upto`, and the next word of a node
that still writes the log takes it back. So neither a crash before a commit nor a state folder that
is lost keeps anybody waiting, and a clone costs the other one nothing.

A void seq that comes after all is held from then on. One that is here with other content is a
conflict: never dropped, never counted as a duplicate.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from edge_agent.core.errors import Rejected
from edge_agent.core.logbook import CORRUPT, EVICTED, LOST, LogKey, Void
from edge_agent.core.probe import Offer
from edge_agent.core.ranges import Ranges, clip, count, of, subtract, union

MAX_SEQ: Final = (1 << 40) - 1  # what an acknowledgement can say
MAX_HOLES: Final = 4096  # of one log, above `upto`; the sender offers its lowest seqs first
OTHER: Final = "other"
REASONS: Final = (EVICTED, CORRUPT, LOST, OTHER)  # what the balance sheet tells apart


class Reasons(NamedTuple):
    """How many seqs are void, by why; in the order of `REASONS`."""

    evicted: int = 0
    corrupt: int = 0
    lost: int = 0
    other: int = 0

    def plus(self, why: str, number: int) -> Reasons:
        at = REASONS.index(why if why in REASONS else OTHER)
        return Reasons(*(n + number * (i == at) for i, n in enumerate(self)))


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """One log. id: its number in the database; bytes: of the bodies held.

    floor: the lowest seq that is still offered, as far as we were told. end: the `next` of a log
    that is over; 0 while it is written. emitted: up to where the ordered output was written.
    """

    id: int
    key: LogKey
    floor: int = 1
    next: int = 1
    end: int = 0
    upto: int = 0
    have: Ranges = ()
    void: tuple[Void, ...] = ()
    held: int = 0
    voided: Reasons = Reasons()
    duplicates: int = 0
    conflicts: int = 0
    bytes: int = 0
    emitted: int = 0

    @property
    def waiting(self) -> int:
        return self.next - 1 - self.held - sum(self.voided)

    @property
    def gone(self) -> int:
        """Seqs that did not come, of a part that its node does not have."""
        if not self.end:
            return 0
        tail = ((max(self.end, self.upto + 1), self.next - 1),)
        return count(subtract(tail, self.settled()))

    def settled(self) -> Ranges:
        """Held or void: nobody waits for these."""
        return union(((1, self.upto),), self.have, ((a, b) for a, b, _ in self.void))


class Incoming(enum.Enum):
    """What becomes of one record."""

    NEW = "new"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"  # this id is here with other content


class Verdicts(NamedTuple):
    """Of one batch. new: ranges that are held from now on; conflicts: seqs; freed: those of the new
    ones that were void.
    """

    new: Ranges
    conflicts: tuple[int, ...]
    freed: tuple[Void, ...]


def offered(log: Log, offer: Offer) -> tuple[Log, tuple[Void, ...]]:
    """The node says what it still offers; also the seqs that are void from now on, with reasons.

    What lies below the floor, is not here and has no reason was acknowledged once, by us before a
    restore or by another receiver: it is lost.
    Raises: Rejected for numbers that no acknowledgement could answer.
    """
    if offer.next - 1 > MAX_SEQ:
        raise Rejected(f"probe of {log.key}: expected seqs up to {MAX_SEQ}, got {offer.next - 1}")
    open_seqs = subtract(((1, offer.next - 1),), log.settled())
    fresh: list[Void] = []
    below = ((1, offer.floor - 1, LOST),)
    for low, high, why in (*offer.void, *below):
        gone = clip(open_seqs, low, high)
        fresh += [(a, b, why) for a, b in gone]
        open_seqs = subtract(open_seqs, gone)
    if len(log.have) + len(log.void) + len(fresh) > MAX_HOLES:
        fresh = fresh[: max(0, MAX_HOLES - len(log.have) - len(log.void))]  # the rest next time
    voided = log.voided
    for a, b, why in fresh:
        voided = voided.plus(why, b - a + 1)
    after = msgspec.structs.replace(
        log,
        floor=max(log.floor, offer.floor),
        next=max(log.next, offer.next),
        end=_end(log, offer),
        void=merged((*log.void, *fresh)),
        voided=voided,
    )
    return _counted(log, _advanced(after)), tuple(fresh)


def taken(
    log: Log, first: int, verdicts: Sequence[Incoming], voids: tuple[Void, ...]
) -> tuple[Log, Verdicts]:
    """Records first, first + 1, ... have come, each with what the database says of its id.

    voids: all void ranges of this log that touch these seqs, wherever `upto` is.
    Raises: Rejected, with nothing taken, when it would leave too many holes: the sender repeats
    lower seqs first.
    """
    last = first + len(verdicts) - 1
    if last > MAX_SEQ:
        raise Rejected(f"take {log.key}: expected seqs up to {MAX_SEQ}, got {last}")
    new: Ranges = ((first, last),)
    if not verdicts or verdicts.count(Incoming.NEW) < len(verdicts):
        new = of(first + i for i, verdict in enumerate(verdicts) if verdict is Incoming.NEW)
    have = union(log.have, clip(new, log.upto + 1, MAX_SEQ))
    if len(have) + len(log.void) > max(MAX_HOLES, len(log.have) + len(log.void)):
        raise Rejected(f"take {log.key} {first}: expected at most {MAX_HOLES} holes, got more")
    freed = tuple((a, b, why) for c, d, why in voids for a, b in clip(new, c, d))
    voided = log.voided
    for a, b, why in freed:
        voided = voided.plus(why, a - b - 1)
    after = msgspec.structs.replace(
        log,
        next=max(log.next, last + 1),
        have=have,
        void=without(log.void, new) if freed else log.void,
        held=log.held + count(new),
        voided=voided,
        duplicates=log.duplicates + verdicts.count(Incoming.DUPLICATE),
        conflicts=log.conflicts + verdicts.count(Incoming.CONFLICT),
    )
    conflicts = tuple(first + i for i, one in enumerate(verdicts) if one is Incoming.CONFLICT)
    return _counted(log, _advanced(after)), Verdicts(new, conflicts, freed)


def may_be_here(log: Log, first: int, last: int) -> bool:
    """Whether the database has to be asked for any of these seqs."""
    return first <= log.upto or bool(clip(log.have, first, last))


def without(void: tuple[Void, ...], new: Ranges) -> tuple[Void, ...]:
    """Void ranges without the seqs that came."""
    return tuple((a, b, why) for c, d, why in void for a, b in subtract(((c, d),), new))


def _advanced(log: Log) -> Log:
    """`upto` follows what is settled; what lies behind it is forgotten here."""
    settled = log.settled()
    if not settled or settled[0][0] > 1 or settled[0][1] <= log.upto:
        return log
    upto = settled[0][1]
    return msgspec.structs.replace(
        log,
        upto=upto,
        have=clip(log.have, upto + 1, MAX_SEQ),
        void=tuple(v for v in log.void if v[1] > upto),
    )


def _end(log: Log, offer: Offer) -> int:
    """After this word; one that was overtaken on its way takes nothing back."""
    if offer.closed:
        return max(log.end, offer.next)
    return log.end if offer.next <= log.end else 0


def _counted(before: Log, after: Log) -> Log:
    """With what is gone among what is void."""
    more = after.gone - before.gone
    return msgspec.structs.replace(after, voided=after.voided.plus(OTHER, more)) if more else after


def merged(void: tuple[Void, ...]) -> tuple[Void, ...]:
    """Sorted; neighbours of one reason are one."""
    merged: list[Void] = []
    for a, b, why in sorted(void):
        if merged and merged[-1][2] == why and merged[-1][1] + 1 == a:
            merged[-1] = (merged[-1][0], b, why)
        else:
            merged.append((a, b, why))
    return tuple(merged)
