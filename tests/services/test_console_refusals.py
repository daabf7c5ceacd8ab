"""Refusals are counted, so that nobody fills the audit log; none is lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.services.console.refusals import MAX_KEPT, WINDOW_S, DoorRefusal, Refusals

WRITE = DoorRefusal("loopback", "POST /v1/reload", "a write over loopback")


def test_a_flood_is_two_entries_in_the_first_minute_and_one_in_each_further() -> None:
    written: list[tuple[str, int]] = []
    refusals = Refusals(lambda one, number: written.append((one.reason, number)))
    for number in range(180_000):
        refusals.tell(WRITE, number / 1000)
    refusals.write_all()
    assert [reason for reason, _ in written] == [WRITE.reason] * 4
    assert sum(number for _, number in written) == 180_000
    assert written[0] == (WRITE.reason, 1)  # the first is told at once


def test_those_of_a_user_are_written_one_by_one_until_they_are_a_flood() -> None:
    written: list[int] = []
    refusals = Refusals(lambda _one, number: written.append(number))
    for number in range(500):
        refusals.tell(
            DoorRefusal("uid 1000", "POST /v1/reload", "a write without rights"), number / 100
        )
    refusals.write_due(WINDOW_S + 1)
    assert written == [1] * 60 + [440]


def test_a_minute_of_peace_and_the_next_one_is_told_at_once() -> None:
    written: list[int] = []
    refusals = Refusals(lambda _one, number: written.append(number))
    refusals.tell(WRITE, 0.0)
    refusals.write_due(61.0)
    refusals.tell(WRITE, 62.0)
    assert written == [1, 1]


@given(st.lists(st.tuples(st.integers(0, 200), st.floats(0, 300)), max_size=300))
def test_nothing_is_lost_and_the_keys_are_few(told: list[tuple[int, float]]) -> None:
    written: list[int] = []
    refusals = Refusals(lambda _one, number: written.append(number))
    for who, now_s in sorted(told, key=lambda one: one[1]):
        refusals.tell(DoorRefusal(f"uid {who}", "POST /v1/reload", "x"), now_s)
        assert len(refusals._counts) <= MAX_KEPT + 1
    refusals.write_all()
    assert sum(written) == len(told)
