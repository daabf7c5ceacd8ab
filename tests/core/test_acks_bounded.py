"""A million evictions while a backlog drains: no acknowledgement outgrows its bound, ever.

The books of the spool, the probes of the agent, the books and answers of the receiver: all of them
the real, pure ones. Rows are only numbers here.
"""

from __future__ import annotations

import random
from collections import Counter

import pytest

from edge_agent.core import logbook
from edge_agent.core.edgecore import MAX_DOWN_BYTES, Ack, Topics, read
from edge_agent.core.errors import Rejected
from edge_agent.core.frames import RecordClass
from edge_agent.core.ledger import Ledger
from edge_agent.core.logbook import Log, LogKey
from edge_agent.core.ranges import Ranges, count, holds
from edge_agent.core.retention import victims
from tools.hot_tier import receiver
from tools.hot_tier.answers import Answers
from tools.hot_tier.desk import Asked, Outcome
from tools.hot_tier.receiver import Incoming

NODE = "cart-1"
TOPICS = Topics.of("default", NODE)
EVICTIONS = 1_000_000
STREAMS = [f"stream-{n}" for n in range(16)]
EPOCHS = (1 << 32 | 5, 2 << 32 | 7, 3 << 32 | 9)
CHUNK = 5000  # rows of a log that come at once
QUOTA = 400_000  # rows that have room
SECOND_US = 1_000_000


class Sides:
    """The agent's books and ledger, the receiver's books and answers; no road between them."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.logs: dict[LogKey, Log] = {}
        self.ledger = Ledger(NODE, EPOCHS[-1])
        self.there: dict[LogKey, receiver.Log] = {}
        self.answers = Answers("rx", n=0, dicts=())
        self.now_us = SECOND_US
        self.widest = self.letters = self.evicted = 0

    def append(self, key: LogKey, number: int) -> None:
        log = self.logs.get(key) or Log(id=len(self.logs) + 1, key=key)
        self.logs[key] = logbook.written(log, log.next - 1 + number, number, ())[0]

    def make_room(self) -> None:
        """As the spool does: the lowest class, the oldest epoch, from the lowest pending seq."""
        while sum(count(log.pending()) for log in self.logs.values()) > QUOTA:
            for log in victims(self.logs.values(), NODE)[:8]:
                (a, b), *_ = log.pending()
                last = min(b, a + self.dice.randint(50, 4000))
                self._void(log, ((a, last),))

    def rot(self) -> None:
        """Here and there a record is damaged: voids that never join."""
        log = self.dice.choice(list(self.logs.values()))
        pending = log.pending()
        if pending:
            a, b = self.dice.choice(pending)
            seq = self.dice.randint(a, b)
            self.logs[log.key] = logbook.voided(log, ((seq, seq),), logbook.CORRUPT)[0]

    def _void(self, log: Log, ranges: Ranges) -> None:
        before = log.evicted
        self.logs[log.key] = after = logbook.voided(log, ranges, logbook.EVICTED)[0]
        self.evicted += after.evicted - before

    def send(self) -> None:
        """A publish of backlog: small batches out of the middle of logs, so that holes remain."""
        pending = [log for log in self.logs.values() if log.floor < log.next]
        for log in self.dice.sample(pending, min(24, len(pending))):
            one = self._there(log.key)
            a, b = self.dice.choice(log.pending())
            first = max(self.dice.randint(a, b), one.upto + 1)
            seqs = range(first, min(first + 12, b + 1))
            verdicts = [
                Incoming.DUPLICATE if holds(one.have, seq) else Incoming.NEW for seq in seqs
            ]
            try:
                one, _ = receiver.taken(one, first, verdicts, one.void)
            except Rejected:
                continue
            self.there[log.key] = one
            self.answers.took(Outcome(logs={log.key: one}, touched={NODE: {log.key: None}}))

    def probe(self) -> None:
        self.ledger.observe(self.logs.values())
        offers, _ = self.ledger.page()
        for offer in offers:
            self.there[offer.key], _ = receiver.offered(self._there(offer.key), offer)
        self.ledger.answered(offers)
        keys = tuple(offer.key for offer in offers)
        asked = Asked(NODE, NODE, f"n{self.now_us}", keys, frozenset())
        logs = {key: self.there[key] for key in keys}
        self.answers.took(Outcome(logs=logs, touched={NODE: dict.fromkeys(keys)}, asked=[asked]))

    def hear(self) -> None:
        self.now_us += SECOND_US // 4
        for letter in self.answers.due(self.now_us):
            self.letters += 1
            self.widest = max(self.widest, len(letter.payload))
            said = read(TOPICS, TOPICS.down("ack"), letter.payload)
            assert isinstance(said, Ack)
            for one in said.acks:
                self._apply(LogKey(one.node, one.stream, one.klass, one.epoch), one.upto, one.have)

    def _apply(self, key: LogKey, upto: int, have: Ranges) -> None:
        log, ack = self.logs[key], logbook.Ack(key, upto, have)
        self.logs[key], _ = logbook.acknowledged(log, ack, 1 << 30)

    def _there(self, key: LogKey) -> receiver.Log:
        return self.there.get(key) or receiver.Log(id=len(self.there) + 1, key=key)

    def check(self) -> None:
        for log in self.logs.values():
            s = log.sheet()
            assert s.appended == s.acked + s.evicted + s.corrupt + s.pending
            assert len(log.void) <= logbook.MAX_RANGES
        for one in self.there.values():
            assert one.held + sum(one.voided) + one.waiting == one.next - 1
            assert one.waiting >= 0


@pytest.mark.slow
def test_a_million_evictions_of_mixed_classes_leave_every_ack_within_its_bound() -> None:
    sides = Sides(seed=4)
    keys = [LogKey(NODE, s, k, e) for s in STREAMS for k in RecordClass for e in EPOCHS]
    while sides.evicted < EVICTIONS:
        for key in sides.dice.sample(keys, 8):
            sides.append(key, sides.dice.randint(1, CHUNK))
        sides.make_room()
        for _ in range(4):
            sides.rot()
            sides.send()
        sides.probe()
        sides.hear()
    sides.check()
    evicted: Counter[RecordClass] = Counter()
    for log in sides.logs.values():
        evicted[log.key.klass] += log.evicted
    assert evicted.pop(RecordClass.ALARM) == 0, "there was enough else"
    assert min(evicted.values()) > 100_000, evicted
    assert sides.letters > 80
    assert 20_000 < sides.widest <= MAX_DOWN_BYTES, sides.widest
