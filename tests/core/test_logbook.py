"""The books of a log against a plain set of seqs: exact at any moment, whatever comes."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edge_agent.core import logbook
from edge_agent.core.frames import RecordClass
from edge_agent.core.logbook import CORRUPT, EVICTED, LOST, MAX_RANGES, Ack, Log, LogKey
from edge_agent.core.ranges import Ranges, count, union

KEY = LogKey("n", "us0", RecordClass.RESULT, 7 << 32)
seqs = st.integers(1, 300)
spans = st.lists(st.tuples(seqs, st.integers(0, 9)).map(lambda s: (s[0], s[0] + s[1])), max_size=9)


def members(found: Ranges) -> set[int]:
    return {n for a, b in found for n in range(a, b + 1)}


class Books(RuleBasedStateMachine):
    """Each seq is in exactly one of four sets."""

    def __init__(self) -> None:
        super().__init__()
        self.log = Log(id=1, key=KEY)
        self.pending: set[int] = set()
        self.acked: set[int] = set()
        self.evicted: set[int] = set()
        self.corrupt: set[int] = set()
        self.told = 0  # the highest upto

    @rule(number=st.integers(1, 30), shed=st.sets(st.integers(0, 29), max_size=5))
    def append(self, number: int, shed: set[int]) -> None:
        first = self.log.next
        lost = {first + n for n in shed if n < number}
        ranges = tuple((n, n) for n in sorted(lost))
        self.log, gone = logbook.written(self.log, first + number - 1, 10 * number, ranges)
        self.pending |= set(range(first, first + number))
        self.book(gone, lost, self.evicted)

    @rule(upto=seqs, have=spans, limit=st.integers(1, 50))
    def acknowledge(self, upto: int, have: list[tuple[int, int]], limit: int) -> None:
        top = self.log.next - 1
        ack = Ack(KEY, min(upto, top), tuple((a, min(b, top)) for a, b in have if a <= top))
        claimed = set(range(1, ack.upto + 1)) | members(ack.have)
        while True:
            self.log, gone = logbook.acknowledged(self.log, ack, limit)
            assert count(gone) <= limit
            taken = members(gone)
            assert taken <= self.pending & claimed
            self.pending -= taken
            self.acked |= taken
            if not gone:
                break
        assert not self.pending & set(range(1, ack.upto + 1))
        assert self.log.upto >= min(ack.upto, self.log.floor - 1)
        assert logbook.acknowledged(self.log, ack, limit) == (self.log, ())

    @rule(bad=spans, why=st.sampled_from([EVICTED, CORRUPT]))
    def void(self, bad: list[tuple[int, int]], why: str) -> None:
        self.log, gone = logbook.voided(self.log, union(bad), why)
        asked = members(tuple(bad)) & self.pending
        self.book(gone, asked, self.corrupt if why == CORRUPT else self.evicted)

    @rule(n=st.integers(1, 90))
    def void_the_oldest(self, n: int) -> None:
        oldest = set(sorted(self.pending)[:n])
        self.log, gone = logbook.voided(self.log, union((s, s) for s in oldest), EVICTED)
        assert members(gone) == oldest
        self.book(gone, oldest, self.evicted)

    @rule(upto=seqs, have=spans)
    def replace_the_receiver(self, upto: int, have: list[tuple[int, int]]) -> None:
        before = self.log.sheet()
        self.log = logbook.forfeited(self.log, Ack(KEY, upto, union(have)))
        assert self.log.sheet() == before
        declared = {n for a, b, why in self.log.void if why == LOST for n in range(a, b + 1)}
        assert not declared & self.pending

    def book(self, gone: Ranges, asked: set[int], where: set[int]) -> None:
        """What went beyond what was asked for is evicted, and only by the bound of the list."""
        went = members(gone)
        assert asked <= went <= self.pending
        assert went == asked or len(self.log.void) >= MAX_RANGES - 1
        where |= asked
        self.evicted |= went - asked
        self.pending -= went

    @invariant()
    def the_sheet_is_exact(self) -> None:
        sheet = self.log.sheet()
        sets = (self.acked, self.evicted, self.corrupt, self.pending)
        assert (sheet.acked, sheet.evicted, sheet.corrupt, sheet.pending) == tuple(map(len, sets))
        assert sheet.appended == sum(map(len, sets)) == self.log.next - 1
        assert members(self.log.pending()) == self.pending

    @invariant()
    def the_receiver_waits_for_nothing_that_is_gone(self) -> None:
        log = self.log
        void = {n for a, b, _ in log.void for n in range(a, b + 1)}
        offered = set(range(log.floor, log.next)) - void - members(log.held)
        assert offered == self.pending
        assert (self.evicted | self.corrupt) <= void | set(range(1, log.floor))

    @invariant()
    def the_lists_are_bounded(self) -> None:
        assert len(self.log.void) <= MAX_RANGES
        assert len(self.log.held) <= MAX_RANGES + 1


TestBooks = Books.TestCase


def test_damage_all_over_a_log_gives_up_what_lies_between_at_last() -> None:
    log, _ = logbook.written(Log(id=1, key=KEY), 1000, 10_000, ())
    every_third = tuple((n, n) for n in range(3, 1001, 3))
    log, gone = logbook.voided(log, every_third, CORRUPT)
    assert len(log.void) == MAX_RANGES
    sheet = log.sheet()
    assert sheet.corrupt == 333
    assert count(gone) == sheet.corrupt + sheet.evicted == 1000 - sheet.pending


def test_eviction_in_the_wake_of_acks_is_one_range() -> None:
    log, _ = logbook.written(Log(id=1, key=KEY), 1000, 10_000, ())
    for start in range(10, 1000, 20):
        log, _ = logbook.acknowledged(log, Ack(KEY, 0, ((start, start + 4),)), 2000)
    log, _ = logbook.voided(log, ((1, 900),), EVICTED)
    assert log.void == ((1, 900, EVICTED),)
    assert log.floor == 901


def test_a_log_of_which_all_is_evicted_waits_for_the_receiver_to_know() -> None:
    log, _ = logbook.written(Log(id=1, key=KEY), 50, 500, ())
    log, _ = logbook.voided(log, ((1, 50),), EVICTED)
    assert (log.floor, log.next, log.bytes, log.is_settled) == (51, 51, 0, False)
    log, _ = logbook.acknowledged(log, Ack(KEY, 50), 2000)
    assert (log.void, log.is_settled) == ((), True)
