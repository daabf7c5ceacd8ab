"""What of each log the receiver is known to hold, next to what the spool's books say.

The spool deletes a row only by what is joined here: acks come late, twice and out of order, and a
maximum and a union do not mind. An ack may also come before the row is committed, since live
records are sent from memory; it is kept until the books show the row. What claims more than was
ever sent is refused whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from edge_agent.core import logbook
from edge_agent.core.edgecore import MAX_RANGES, MAX_SEQ, LogAck
from edge_agent.core.logbook import Log, LogKey
from edge_agent.core.probe import MAX_LOGS, MAX_PAGE_VOIDS, Offer, offer_of
from edge_agent.core.ranges import Ranges, clip, count, intersect, subtract, union
from edge_agent.core.retention import rank

UNCOMMITTED: Final = 4096  # seqs that may have been sent live, but died with the agent
OPENS_SHIFT: Final = 32  # of an epoch: above it, how often the spool has been opened
MAX_CLAIMED: Final = 64
MAX_SENT: Final = 256
MAX_FORGOTTEN: Final = 1024
MAX_DISOWNED: Final = 1024


class Entry:
    """One log. sent: ranges sent in this life, when the log is of this life."""

    def __init__(self, key: LogKey) -> None:
        self.key = key
        self.log: Log | None = None  # as committed; None: nothing yet
        self.claimed: Ranges = ()
        self.sent: Ranges = ()
        self.told: Offer | None = None  # what the receiver is known to have been told last
        self.forfeits = False  # the books are about to take a step back
        self.lost = 0  # so many the receiver says to have lost

    @property
    def next(self) -> int:
        return self.log.next if self.log else 1

    def pending(self) -> Ranges:
        """Committed, held by the spool, and not known to be at the receiver."""
        return subtract(self.log.pending(), self.claimed) if self.log else ()

    def applicable(self) -> logbook.Ack | None:
        """What the books do not show yet of what the receiver holds."""
        if self.log is None or not self.claimed or self.forfeits:
            return None
        upto = self.upto()
        lost = min(self.lost, self.log.sheet().acked) if self.lost else 0
        news = min(upto, self.log.floor - 1) > self.log.upto or lost > self.log.lost
        if not news and not intersect(self.log.pending(), self.claimed):
            return None
        above = tuple(r for r in self.claimed if r[0] > upto)
        return logbook.Ack(self.key, upto, above, self.lost)

    def upto(self) -> int:
        return self.claimed[0][1] if self.claimed and self.claimed[0][0] <= 1 else 0

    def known(self) -> Ranges:
        """All that a receiver ever acknowledged, this one or in an earlier life."""
        if self.log is None:
            return self.claimed
        return union(self.claimed, ((1, self.log.upto),), self.log.held)


class Books:
    """All logs as the spool's books and the receiver's acks have them."""

    def __init__(self, node: str, epoch: int) -> None:
        self._node = node
        self._epoch = epoch
        self._entries: dict[LogKey, Entry] = {}
        self._forgotten: dict[LogKey, Offer] = {}  # settled once, and gone from the books
        self._doubted: set[LogKey] = set()  # of these, to be told again
        self._mourned: dict[LogKey, int] = {}  # of forgotten ones, lost at the receiver
        self._disowned: dict[LogKey, Offer] = {}  # asked for, and not here; on this connection
        self._round: list[LogKey] = []  # to be told in the probes that follow
        self._lives: dict[int, int] = {}  # ours of which a log was seen: opening, epoch
        self.unsettled = False

    def observe(self, logs: Iterable[Log]) -> bool:
        """The books as committed; whether more is void than before."""
        present = set()
        evicted = False
        for log in logs:
            present.add(log.key)
            entry = self.entry(log.key)
            before = entry.log
            evicted |= before is not None and log.void != before.void and bool(log.void)
            entry.log, entry.forfeits = log, False
        for key in [key for key in self._entries if key not in present]:
            self._gone(key)
        self._count_news()
        return evicted

    def _gone(self, key: LogKey) -> None:
        log = self._entries[key].log
        if log is None and key.epoch == self._epoch:
            return  # its first commit is yet to come
        del self._entries[key]
        if log is not None and key.node == self._node:
            over = msgspec.structs.replace(log, floor=log.next, void=())
            self._forgotten[key] = offer_of(over, closed=True)
            while len(self._forgotten) > MAX_FORGOTTEN:
                oldest = next(iter(self._forgotten))
                del self._forgotten[oldest]
                self._mourned.pop(oldest, None)

    def applicable(self) -> tuple[logbook.Ack, ...]:
        """Acks for the spool, from everything that is known."""
        found = (entry.applicable() for entry in self._entries.values())
        return tuple(ack for ack in found if ack is not None)

    def entry(self, key: LogKey) -> Entry:
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = Entry(key)
            if key.node == self._node:
                self._lives[key.epoch >> OPENS_SHIFT] = key.epoch
        return entry

    def logs(self) -> list[Log]:
        return [entry.log for entry in self._entries.values() if entry.log is not None]

    def known(self, key: LogKey) -> Ranges:
        """What is at the receiver, or was in an earlier life of ours."""
        entry = self._entries.get(key)
        if entry is not None:
            return entry.known()
        over = self._forgotten.get(key)
        return ((1, over.next - 1),) if over else ()

    def pending(self, key: LogKey) -> Ranges:
        entry = self._entries.get(key)
        return entry.pending() if entry else ()

    def settled(self, keys: Iterable[LogKey]) -> tuple[LogKey, ...]:
        """Those that are over: closed, and nothing is to be sent or told."""
        found = ((key, self._entries.get(key)) for key in keys)
        return tuple(
            key for key, e in found
            if e and e.log and e.log.is_settled and e.log.floor == e.log.next
            and key.epoch != self._epoch
        )  # fmt: skip

    def skips(self) -> dict[LogKey, Ranges]:
        """What need not be read: the receiver holds it, though the books do not show it yet."""
        return {key: e.claimed for key, e in self._entries.items() if e.claimed}

    def tell_all(self) -> None:
        """A new connection: nobody was told anything."""
        self._round = []
        self._doubted -= self._disowned.keys()
        self._disowned = {}
        for entry in self._entries.values():
            entry.told = None
        self._count_news()

    def _count_news(self) -> None:
        told = bool(self._round or self._doubted)
        self.unsettled = told or any(map(self._has_news, self._entries.values()))

    def _has_news(self, entry: Entry) -> bool:
        """Not settled; or settled, and the receiver still repeats itself as it was not told."""
        if entry.log is None or entry.key.node != self._node:
            return False
        if not entry.log.is_settled or entry.told is None:
            return True
        return entry.told.floor != entry.log.floor or entry.told.void != entry.log.void


class Ledger(Books):
    """All logs. `unsettled`: something is to be sent, acknowledged or told."""

    def sent(self, key: LogKey, a: int, b: int) -> None:
        if key.epoch != self._epoch:
            return
        entry = self.entry(key)
        entry.sent = union(entry.sent, ((a, b),))
        while len(entry.sent) > MAX_SENT:
            entry.sent = ((entry.sent[0][0], entry.sent[1][1]), *entry.sent[2:])

    def missing(self, key: LogKey, a: int, b: int) -> Ranges:
        """What of a … b still has to reach the receiver, as far as we know."""
        entry = self._entries.get(key)
        if entry is None:
            return ()
        uncommitted = ((max(a, entry.next), b),) if b >= entry.next else ()
        here = union(clip(entry.pending(), a, b), uncommitted)
        return subtract(here, entry.claimed)

    def fault(self, ack: LogAck, *, echoed: bool) -> str:
        """Why it has to be refused, in words; "" when it may be believed."""
        key = key_of(ack)
        entry = self._entries.get(key)
        if entry is None:
            return "" if key in self._forgotten else "a log that is known here"
        claims = claims_of(ack)
        above = ((entry.next, MAX_SEQ),)
        if key.epoch != self._epoch:
            beyond = 0 if echoed else count(intersect(claims, above))
            return f"at most seq {entry.next - 1}" if beyond > UNCOMMITTED else ""
        here = entry.log.pending() if entry.log else ()
        unsent = subtract(intersect(claims, union(here, above)), entry.sent)
        return f"nothing that was never sent, like seq {unsent[0][0]}" if unsent else ""

    def is_unborn(self, ack: LogAck) -> bool:
        """Whether it may be of a log of an earlier life of ours that died before its first commit:
        then it is no forgery, and nothing here is any less for it.

        What such a life sent is gone with it. Its epoch says how often this spool had been opened,
        less often than now; where another log of that opening is known, it must be the same.
        """
        key = key_of(ack)
        opens = key.epoch >> OPENS_SHIFT
        if key.node != self._node or not 1 <= opens < self._epoch >> OPENS_SHIFT:
            return False
        known = key in self._entries or key in self._forgotten
        if known or count(claims_of(ack)) > UNCOMMITTED:
            return False
        return self._lives.get(opens, key.epoch) == key.epoch

    def is_own(self, epoch: int) -> bool:
        """Whether it is this life's, or that of an earlier one whose logs were here."""
        return epoch == self._epoch or self._lives.get(epoch >> OPENS_SHIFT) == epoch

    def disown(self, key: LogKey) -> None:
        """A receiver waits for a log of ours that is not here, after a reset or a restore: it is
        told so, once on each connection. Of this life nothing is ever disowned.
        """
        ours = key.node == self._node and key.epoch != self._epoch and key not in self._entries
        if ours and key not in self._disowned and len(self._disowned) < MAX_DISOWNED:
            self._disowned[key] = offer_of(Log(id=0, key=key), closed=True)
            self._doubted.add(key)

    def join(self, ack: LogAck) -> None:
        """What it says is added. Less than is known may be old, or a loss: worth a question."""
        key = key_of(ack)
        entry = self._entries.get(key)
        less = bool(less_than(self.known(key), ack))
        if entry is not None:
            entry.told = None if less else entry.told
            entry.claimed = union(entry.claimed, claims_of(ack))[:MAX_CLAIMED]
        elif less:
            self._doubted.add(key)

    def mourn(self, ack: LogAck) -> int:
        """How many more it has lost than was known."""
        key = key_of(ack)
        entry = self._entries.get(key)
        if entry is None:
            more = ack.lost - self._mourned.get(key, 0) if key in self._forgotten else 0
            if more > 0:
                self._mourned[key] = ack.lost
            return max(0, more)
        before = max(entry.lost, entry.log.lost if entry.log else 0)
        entry.lost = max(before, ack.lost)
        return entry.lost - before

    def answered(self, offers: Iterable[Offer]) -> None:
        """These have reached the receiver, before it said what was joined after."""
        for offer in offers:
            self._doubted.discard(offer.key)
            entry = self._entries.get(offer.key)
            if entry is not None:
                entry.told = offer

    def heard(self) -> None:
        """An ack has been taken in."""
        self._count_news()

    def replace(self, ack: LogAck, more: Ranges, lost: int) -> logbook.Ack | None:
        """The receiver holds this and `more`, nothing else; None: the books know already.

        lost: what of it was acknowledged before.
        """
        entry = self._entries.get(key_of(ack))
        if entry is None or entry.forfeits:
            return None
        entry.claimed = union(claims_of(ack), more)[:MAX_CLAIMED]
        entry.forfeits = entry.log is not None
        entry.lost = max(entry.lost, lost + (entry.log.lost if entry.log else 0))
        above = clip(entry.claimed, ack.upto + 1, MAX_SEQ)
        return logbook.Ack(entry.key, ack.upto, above) if entry.log else None

    def distrust(self) -> None:
        """What was claimed, another database claimed."""
        for entry in self._entries.values():
            entry.claimed = ()
            entry.told = None

    def page(self, most: int = MAX_LOGS) -> tuple[tuple[Offer, ...], bool]:
        """The next page of at most so many offers, and whether more pages follow."""
        if not self._round:
            news = [key for key, entry in self._entries.items() if self._has_news(entry)]
            self._round = sorted(
                [*news, *self._doubted], key=lambda k: (rank(k.klass), k.epoch, k.stream)
            )
        offers: list[Offer] = []
        voids = 0
        while self._round and len(offers) < most and voids < MAX_PAGE_VOIDS:
            offer = self._offer(self._round.pop(0))
            if offer is not None:
                offers.append(offer)
                voids += len(offer.void)
        return tuple(offers), bool(self._round)

    def _offer(self, key: LogKey) -> Offer | None:
        entry = self._entries.get(key)
        if entry is not None and entry.log is not None:
            return offer_of(entry.log, closed=key.epoch != self._epoch)
        return self._forgotten.get(key) or self._disowned.get(key)


def key_of(ack: LogAck) -> LogKey:
    return LogKey(ack.node, ack.stream, ack.klass, ack.epoch)


def less_than(known: Ranges, ack: LogAck) -> Ranges:
    """What is known and not in this ack; nothing beyond its last range when it is full."""
    top = MAX_SEQ if len(ack.have) < MAX_RANGES else ack.have[-1][1]
    return clip(subtract(known, claims_of(ack)), 1, top)


def claims_of(ack: LogAck) -> Ranges:
    return union(((1, ack.upto),), ack.have)
