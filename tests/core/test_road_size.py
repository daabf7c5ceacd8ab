"""A road that takes only so much: its size is found, told, and given up when it was mended."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core.road_size import LEAST_CHARS, RoadSize

SECOND_US = 1_000_000


class Road:
    """Publishes of an agent with a backlog, small ones between them, in virtual time."""

    def __init__(self, seed: int, takes: int, *, closes: bool = False, loss: float = 0.0) -> None:
        self.dice = random.Random(seed)
        self.takes, self.closes, self.loss = takes, closes, loss
        self.now_us = SECOND_US
        self.size = RoadSize()
        self.confirmed = 60  # presence
        self.reconnects = 0
        self.lost: list[tuple[int, int, int]] = []  # due, sent, size

    def publish(self, wished: int) -> None:
        """One of about so many characters, within the limit."""
        limit = self.size.limit(self.now_us)
        size = wished if limit is None else min(wished, limit - self.dice.randrange(limit // 8))
        self.size.sent(size, self.now_us)
        if size > self.takes and self.closes:
            self.size.closed(size, self.confirmed, self.now_us)
            self.confirmed, self.lost = 60, []
            self.reconnects += 1
            self.now_us += min(30, 1 << min(self.reconnects, 5)) * SECOND_US // 2
        elif size > self.takes or self.dice.random() < self.loss:
            self.lost.append((self.now_us + 1_200_000, self.now_us, size))
        else:
            self.confirmed = max(self.confirmed, size)
            self.size.arrived(size, self.now_us, self.now_us + 20_000)

    def run(self, seconds: float, *, large: bool = True) -> None:
        """Ten publishes a second; every fourth would be large."""
        until_us = self.now_us + round(seconds * SECOND_US)
        turn = 0
        while self.now_us < until_us:
            self.now_us += 100_000
            turn += 1
            for due in [one for one in self.lost if one[0] <= self.now_us]:
                self.lost.remove(due)
                self.size.late(due[2], due[1], self.now_us)
            is_large = large and turn % 4 == 0
            self.publish(self.dice.randint(4_000, 64_000) if is_large else 300 + turn % 50)


@settings(deadline=None, max_examples=20)
@given(
    seed=st.integers(0, 1 << 32),
    takes=st.integers(700, 3_900),
    closes=st.booleans(),
)
def test_the_size_is_told_within_a_minute_and_found_in_time(
    seed: int, takes: int, *, closes: bool
) -> None:
    road = Road(seed, takes, closes=closes)
    road.run(60)
    narrow = road.size.narrow()
    assert narrow is not None
    assert narrow.takes <= takes < narrow.refuses
    assert narrow.closes == closes
    road.run(900)
    narrow = road.size.narrow()
    assert narrow is not None
    assert narrow.takes <= takes < narrow.refuses <= 1.6 * takes
    assert road.reconnects <= 20
    limit = road.size.limit(road.now_us)
    assert limit is not None


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 1 << 32), closes=st.booleans())
def test_a_broker_that_was_mended_is_found_without_a_restart(seed: int, *, closes: bool) -> None:
    road = Road(seed, 2_000, closes=closes)
    road.run(300)
    assert road.size.narrow() is not None
    road.takes = 1 << 20
    road.run(1_300)
    assert road.size.narrow() is None
    assert road.size.limit(road.now_us) is None


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 1 << 32), loss=st.sampled_from((0.0, 0.02, 0.1, 0.3, 0.6)))
def test_bad_weather_is_no_size(seed: int, loss: float) -> None:
    road = Road(seed, 1 << 20, loss=loss)
    told = 0
    for _ in range(60):
        road.run(10)
        told += road.size.narrow() is not None
    assert told <= 6  # of 60 looks: what chance made of it is given up by the next trials


def test_closes_without_a_larger_one_on_its_way_say_nothing_and_chance_is_tried_at_once() -> None:
    size = RoadSize()
    for second in range(20):
        size.closed(0, 5_000, second * SECOND_US)
        size.closed(4_000, 5_000, second * SECOND_US)
    assert size.limit(20 * SECOND_US) is None
    size.closed(9_000, 5_000, 60 * SECOND_US)
    assert size.limit(61 * SECOND_US) == 5_000
    assert size.narrow() is None
    size.sent(9_500, 64 * SECOND_US)
    size.arrived(9_500, 64 * SECOND_US, 65 * SECOND_US)
    assert size.limit(65 * SECOND_US) is None, "the broker was only restarted"


def test_a_slow_hot_tier_hides_no_size() -> None:
    """What was sent soon after it had been acknowledged long before patience with it ended."""
    size, now_us = RoadSize(), 0
    for _ in range(8):
        size.sent(8_000, now_us)
        size.arrived(300, now_us + SECOND_US, now_us + 4 * SECOND_US)
        size.late(8_000, now_us, now_us + 9 * SECOND_US)
        now_us += 5 * SECOND_US
    assert size.limit(now_us) is not None


def test_the_limit_has_a_floor() -> None:
    size = RoadSize()
    for second in range(40):
        size.closed(500, 60, second * SECOND_US)
    assert size.limit(40 * SECOND_US) == LEAST_CHARS
    assert size.narrow() is None, "nothing has passed: it may be anything"
