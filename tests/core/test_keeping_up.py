"""Acks that fall behind are told, a backlog that drains and an outage are not."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core.frames import RecordClass
from edge_agent.core.keeping_up import KeepingUp
from edge_agent.core.logbook import Ack, Log, LogKey, acknowledged

SECOND_US = 1_000_000
KEY = LogKey("cart-1", "us", RecordClass.EVENT, 1 << 32 | 7)


class Books:
    """One log; so many records appended and acknowledged a second."""

    def __init__(self, backlog: int = 0) -> None:
        self.log = Log(id=1, key=KEY, next=1 + backlog)
        self.keeping = KeepingUp()
        self.now_us = 0
        self.acked = 0

    def run(
        self, seconds: int, appends: float, acks: float, *, is_up: bool = True, left: int = 0
    ) -> bool:
        """Whether it was told at any time."""
        told = False
        start, upto = self.log.next, self.acked
        for second in range(1, seconds + 1):
            self.now_us += SECOND_US
            self.log = self.log.__class__(**{
                **{name: getattr(self.log, name) for name in self.log.__struct_fields__},
                "next": start + int(appends * second),
            })  # fmt: skip
            self.acked = min(self.log.next - 1, upto + int(acks * second))
            self.log, _ = acknowledged(self.log, Ack(KEY, self.acked), 1 << 30)
            if self.keeping.is_due(self.now_us):
                self.keeping.look([self.log], is_up=is_up, left=left, now_us=self.now_us)
            told |= self.keeping.behind is not None
        return told


def test_acks_that_fall_behind_for_a_minute_are_told_and_over_when_they_keep_up() -> None:
    books = Books()
    assert not books.run(300, 30, 30)
    assert books.run(65, 30, 20)
    behind = books.keeping.behind
    assert behind is not None
    assert behind.appended > behind.acked
    assert behind.waiting > 500
    books.run(20, 30, 60)
    assert books.keeping.behind is None


def test_a_stop_of_all_acks_is_told_though_nothing_is_appended() -> None:
    books = Books(backlog=3)
    assert books.run(70, 0, 0)
    books.run(10, 0, 1)
    assert books.keeping.behind is None


@settings(deadline=None, max_examples=50)
@given(
    backlog=st.integers(0, 100_000),
    rates=st.lists(
        st.tuples(st.floats(0, 100), st.floats(1.01, 3), st.integers(20, 200)), max_size=6
    ),
)
def test_a_backlog_that_drains_is_no_trouble(
    backlog: int, rates: list[tuple[float, float, int]]
) -> None:
    books = Books(backlog)
    for appends, faster, seconds in rates:
        assert not books.run(seconds, appends, appends * faster + 1)


def test_an_outage_and_what_waits_for_another_reason_are_not_told_here() -> None:
    books = Books()
    assert not books.run(300, 30, 0, is_up=False)
    assert not books.run(50, 30, 60)
    waiting = books.log.sheet().pending
    assert not Books(backlog=5).run(200, 0, 0, left=5)
    assert waiting > 0
