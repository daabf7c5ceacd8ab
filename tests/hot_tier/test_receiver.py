"""The book of one log against a model that keeps every seq."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core.errors import Rejected
from edge_agent.core.frames import RecordClass
from edge_agent.core.logbook import LogKey, Void
from edge_agent.core.ranges import clip, holds
from tests.hot_tier.wire import offer
from tools.hot_tier import receiver
from tools.hot_tier.receiver import Incoming, Log, Reasons

KEY = LogKey("a", "s", RecordClass.EVENT, 7)
MOST = 40
WHY = {0: "evicted", 1: "corrupt", 2: "lost-at-receiver", 3: "worn-out"}


class Model:
    """Every seq by itself; what is held and void stands in sets, as the database has it."""

    def __init__(self) -> None:
        self.log = Log(id=1, key=KEY)
        self.held: set[int] = set()
        self.void: dict[int, str] = {}
        self.next = 1
        self.end = 0

    def come(self, first: int, count: int, odd: set[int]) -> None:
        seqs = range(first, first + count)
        verdicts = [
            Incoming.NEW if n not in self.held
            else Incoming.CONFLICT if n in odd else Incoming.DUPLICATE
            for n in seqs
        ]  # fmt: skip
        if not receiver.may_be_here(self.log, first, first + count - 1):
            assert not self.held & set(seqs), "it would not have asked the database"
        voids: tuple[Void, ...] = tuple((n, n, self.void[n]) for n in seqs if n in self.void)
        before = set(self.held)
        self.log, said = receiver.taken(self.log, first, verdicts, voids)
        self.held.update(seqs)
        for n in seqs:
            self.void.pop(n, None)
            assert holds(said.new, n) == (n not in before)
            assert (n in said.conflicts) == (n in before and n in odd)
        self.next = max(self.next, first + count)

    def told(
        self, floor: int, following: int, void: tuple[Void, ...], *, closed: bool = False
    ) -> None:
        said = offer(floor, following, void=void, closed=closed)
        if closed:
            self.end = max(self.end, following)
        elif following > self.end:
            self.end = 0
        self.log, fresh = receiver.offered(self.log, said)
        for n in range(1, following):
            why = next((why for a, b, why in void if a <= n <= b), "")
            why = why or ("lost-at-receiver" if n < floor else "")
            if why and n not in self.held and n not in self.void:
                self.void[n] = why
        assert {n for a, b, _ in fresh for n in range(a, b + 1)} <= set(self.void)
        self.next = max(self.next, following)

    def check(self) -> None:
        log, every = self.log, range(1, self.next)
        settled = self.held | set(self.void)
        upto = next((n - 1 for n in every if n not in settled), self.next - 1)
        assert (log.upto, log.next) == (upto, self.next)
        assert log.held == len(self.held)
        reasons = Reasons()
        for why in self.void.values():
            reasons = reasons.plus(why, 1)
        open_seqs = [n for n in every if n not in settled]
        gone = [n for n in open_seqs if self.end and n >= self.end]
        assert log.voided == reasons.plus("other", len(gone))
        assert log.waiting == len(open_seqs) - len(gone)
        above = {n for n in self.held if n > upto}
        assert {n for a, b in log.have for n in range(a, b + 1)} == above
        assert all(log.have[i][1] + 1 < log.have[i + 1][0] for i in range(len(log.have) - 1))


batches = st.tuples(st.integers(1, MOST), st.integers(1, 12), st.sets(st.integers(1, MOST)))
voids = st.lists(st.tuples(st.integers(1, MOST), st.integers(0, 9), st.integers(0, 3)), max_size=4)
probes = st.tuples(st.integers(1, MOST), st.integers(0, MOST), voids)


@given(st.lists(batches | probes, max_size=30), st.sets(st.integers(0, 29)))
def test_each_seq_is_held_void_or_waiting_whatever_comes_in_which_order(
    steps: list[tuple[int, int, set[int] | list[tuple[int, int, int]]]], closed: set[int]
) -> None:
    model = Model()
    for number, (one, other, third) in enumerate(steps):
        if isinstance(third, set):
            model.come(one, other, third)
        else:
            following = one + other
            given = ((a, a + width, WHY[why]) for a, width, why in third)
            void = tuple((a, b, w) for a, b, w in given if b < following)
            model.told(one, following, void, closed=number in closed)
        model.check()


def test_a_void_seq_that_comes_after_all_is_held() -> None:
    log, _ = receiver.offered(Log(id=1, key=KEY), offer(1, 11, void=((3, 5, "evicted"),)))
    log, said = receiver.taken(log, 4, [Incoming.NEW], ((3, 5, "evicted"),))
    assert said.freed == ((4, 4, "evicted"),)
    assert (log.held, log.voided.evicted, log.waiting) == (1, 2, 7)


def test_what_lies_below_the_floor_without_a_reason_was_lost_here() -> None:
    log, fresh = receiver.offered(Log(id=1, key=KEY), offer(500, 600, void=((7, 9, "evicted"),)))
    assert log.upto == 499
    assert log.voided == Reasons(evicted=3, lost=496)
    assert (7, 9, "evicted") in fresh


def test_what_was_sent_and_never_committed_is_waited_for_until_the_log_is_over() -> None:
    log, _ = receiver.offered(Log(id=1, key=KEY), offer(1, 4))
    log, _ = receiver.taken(log, 1, [Incoming.NEW] * 3, ())
    log, _ = receiver.taken(log, 6, [Incoming.NEW], ())  # 4 and 5 were lost on the road
    assert (log.upto, log.waiting) == (3, 2)
    log, _ = receiver.offered(log, offer(4, 4, closed=True))  # and died with the agent
    assert (log.upto, log.waiting, log.voided.other) == (3, 0, 2)
    log, _ = receiver.taken(log, 4, [Incoming.NEW], ())
    assert (log.upto, log.waiting, log.voided.other) == (4, 0, 1)


def test_a_log_that_is_denied_by_one_and_written_by_another_is_waited_for() -> None:
    log, _ = receiver.offered(Log(id=1, key=KEY), offer(1, 9))
    log, _ = receiver.offered(log, offer(1, 1, closed=True))
    assert (log.upto, log.waiting, log.voided.other) == (0, 0, 8)
    log, _ = receiver.offered(log, offer(1, 9))
    assert (log.upto, log.waiting, log.voided.other) == (0, 8, 0)


def test_words_of_an_older_probe_take_nothing_back() -> None:
    log, _ = receiver.offered(Log(id=1, key=KEY), offer(10, 20))
    again, fresh = receiver.offered(log, offer(1, 5))
    assert (again, fresh) == (log, ())


def test_more_holes_than_bounded_are_refused_and_lower_seqs_still_come_in() -> None:
    have = tuple((3 + 2 * n, 3 + 2 * n) for n in range(receiver.MAX_HOLES))
    log = Log(id=1, key=KEY, next=have[-1][1] + 1, have=have, held=len(have))
    with pytest.raises(Rejected):
        receiver.taken(log, 3 + 2 * receiver.MAX_HOLES, [Incoming.NEW], ())
    log, _ = receiver.taken(log, 1, [Incoming.NEW, Incoming.NEW], ())
    assert log.upto == 3
    assert clip(log.have, 4, 6) == ((5, 5),)


def test_numbers_that_no_ack_can_say_are_refused() -> None:
    with pytest.raises(Rejected):
        receiver.offered(Log(id=1, key=KEY), offer(1, receiver.MAX_SEQ + 2))
    with pytest.raises(Rejected):
        receiver.taken(Log(id=1, key=KEY), receiver.MAX_SEQ, [Incoming.NEW] * 2, ())
