"""Who is let in, and who goes for whom."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.services.console.callers import (
    Caller,
    Callers,
    DoorBounds,
    Share,
    Stage,
    bounds_of,
    who_goes,
)


def bounds(loopback: int = 2, descriptors: int = 1024) -> DoorBounds:
    connections = {Share.LOOPBACK: loopback, Share.STRANGERS: 1, Share.OPERATORS: 2}
    return DoorBounds(connections, descriptors, dict.fromkeys(Share, 16))


def caller(stage: Stage, since_s: float, *, served: bool = False) -> Caller:
    one = Caller(Share.LOOPBACK, since_s)
    one.stage, one.served = stage, served
    return one


def test_whoever_fills_one_share_takes_nothing_from_the_others() -> None:
    callers = Callers(bounds())
    assert all(callers.admit(Share.LOOPBACK, 5, 0.0) for _ in range(2))
    assert callers.admit(Share.LOOPBACK, 5, 0.0) is None
    assert callers.admit(Share.STRANGERS, 5, 0.0)
    assert callers.admit(Share.STRANGERS, 5, 0.0) is None
    assert all(callers.admit(Share.OPERATORS, 5, 0.0) for _ in range(2))
    assert callers.refused[Share.LOOPBACK] == 1


def test_an_idle_one_goes_before_a_half_sent_one_and_an_answered_one_stays() -> None:
    idle = caller(Stage.WAITS, 8.0, served=True)
    half = caller(Stage.WAITS, 1.0)
    body = caller(Stage.SENDS, 2.0)
    answered = caller(Stage.ANSWERED, 0.0)
    everybody = [answered, body, half, idle]
    gone = []
    while (goes := who_goes(everybody, 10.0)) is not None:
        gone.append(goes)
        everybody.remove(goes)
    assert gone == [idle, half, body]
    answered.unread_s = 8.0  # it has asked, and does not read
    assert who_goes(everybody, 10.0) is answered


def test_who_has_just_come_has_the_time_to_ask() -> None:
    assert who_goes([caller(Stage.WAITS, 9.9)], 10.0) is None
    assert who_goes([caller(Stage.SENDS, 9.5)], 10.0) is None


def test_nobody_makes_room_twice() -> None:
    callers, gone = Callers(bounds(loopback=1)), []
    first = callers.admit(Share.LOOPBACK, 5, 0.0)
    assert first is not None
    first.abort = lambda: gone.append(first)
    assert callers.admit(Share.LOOPBACK, 5, 1.0)
    assert callers.admit(Share.LOOPBACK, 5, 1.0) is None  # the first is still being closed
    assert gone == [first]
    callers.left(first)


@pytest.mark.parametrize("share", [*Share])
def test_the_last_descriptors_are_for_the_agents_own_work(share: Share) -> None:
    callers = Callers(bounds(descriptors=64))
    assert callers.admit(share, 47, 0.0)
    assert callers.admit(share, 48, 0.1) is None


@given(descriptors=st.integers(24, 100_000), followers=st.integers(1, 1024))
def test_every_door_has_places_and_all_of_them_leave_the_reserve(
    descriptors: int, followers: int
) -> None:
    found = bounds_of(descriptors, followers)
    assert min(found.connections.values()) >= 1
    assert sum(found.connections.values()) <= max(6, descriptors - 24)
    assert all(0 < reserve < descriptors / 2 for reserve in found.reserve.values())


def test_a_request_that_does_not_come_has_a_limit_and_a_body_another() -> None:
    callers = Callers(bounds(loopback=9))
    stages = {}
    for stage in Stage:
        one = callers.admit(Share.LOOPBACK, 5, 0.0)
        assert one is not None
        one.stage = stage
        stages[stage] = one
    callers.dismiss_late(11.0, first_request_s=10.0, idle_s=17.0)
    assert [stage for stage, one in stages.items() if one.leaves] == [Stage.WAITS]
