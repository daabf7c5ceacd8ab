from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core.account import Totals
from edge_agent.core.loss import LossWatch

SECOND_US = 1_000_000


class Stream:
    """One whose frames a test counts, second by second."""

    def __init__(self, fps: float | None = 30.0) -> None:
        self.watch = LossWatch()
        self.watch.fps = fps
        self.now_us = 0
        self.captured = self.inferred = self.missed = 0
        self.dropped: dict[str, int] = {}
        self.look()

    def look(self, *, is_reading: bool = True, is_gone: bool = False) -> None:
        totals = Totals(
            captured=self.captured, inferred=self.inferred, missed=self.missed,
            dropped=dict(self.dropped),
        )  # fmt: skip
        self.watch.look(self.now_us, totals, is_reading=is_reading, is_gone=is_gone)

    def second(self, captured: int = 30, *, is_reading: bool = True, is_gone: bool = False,
               missed: int = 0, **dropped: int) -> None:  # fmt: skip
        self.now_us += SECOND_US
        self.captured += captured
        for why, count in dropped.items():
            self.dropped[why] = self.dropped.get(why, 0) + count
        self.inferred += captured - sum(dropped.values())
        self.missed += missed
        self.look(is_reading=is_reading, is_gone=is_gone)

    def lost(self) -> float | None:
        loss = self.watch.loss
        return loss.lost if loss else None


def test_all_is_well_without_a_loss() -> None:
    stream = Stream()
    for _ in range(120):
        stream.second()
        assert stream.lost() is None


def test_more_than_two_percent_of_a_minute_are_told_overwritten_included() -> None:
    stream = Stream()
    for _ in range(60):
        stream.second(overwritten=1)
    loss = stream.watch.loss
    assert loss is not None
    assert loss.dropped == (("overwritten", 60),)
    assert not loss.is_of_source


def test_less_than_two_percent_is_none() -> None:
    stream = Stream(fps=60.0)
    for _ in range(120):
        stream.second(captured=60, late=1)
        assert stream.lost() is None


def test_what_the_source_does_not_deliver_of_the_configured_rate_is_lost() -> None:
    stream = Stream(fps=30.0)
    for _ in range(60):
        stream.second(captured=25)
    loss = stream.watch.loss
    assert loss is not None
    assert loss.is_of_source
    assert 290 <= loss.undelivered <= 300


def test_without_a_configured_rate_what_comes_is_what_was_asked_for() -> None:
    stream = Stream(fps=None)
    for count in [5, 60, 0, 30] * 20:
        stream.second(captured=count)
        assert stream.lost() is None


def test_what_is_shed_on_purpose_is_no_loss() -> None:
    stream = Stream()
    for _ in range(60):
        stream.second(shed=15, thermal=5)
        assert stream.lost() is None


def test_a_heavy_loss_is_told_within_two_seconds_and_is_over_ten_seconds_after() -> None:
    stream = Stream(fps=30.0)
    for _ in range(30):
        stream.second()
    for _ in range(2):
        stream.second(late=12)
    lost = stream.lost()
    assert lost is not None
    assert lost < 0.02 * 60 * 30, "a minute's share would have been waited for"
    for _ in range(12):
        stream.second()
    assert stream.lost() is None


def test_a_moment_without_a_picture_is_told_elsewhere() -> None:
    stream = Stream()
    for _ in range(20):
        stream.second()
    for _ in range(20):
        stream.second(captured=0, is_reading=False)
    for _ in range(20):
        stream.second()
        assert stream.lost() is None


def test_a_source_that_goes_is_not_told_to_check_its_rate_as_well() -> None:
    """Until the picture was called lost, what did not come was a loss: two problems of a cause."""
    stream = Stream(fps=10.0)
    for _ in range(30):
        stream.second(captured=10)
    stream.second(captured=4)
    stream.second(captured=0)
    for _ in range(5):
        stream.second(captured=0, is_reading=False, is_gone=True)
        assert stream.lost() is None
    for _ in range(20):
        stream.second(captured=10)
        assert stream.lost() is None


def test_a_side_that_died_and_came_back_between_two_looks_is_no_loss_of_the_source() -> None:
    stream = Stream(fps=10.0)
    for _ in range(30):
        stream.second(captured=10)
    stream.second(captured=4, is_reading=False, is_gone=True)
    for _ in range(20):
        stream.second(captured=10)
        assert stream.lost() is None


def test_what_was_dropped_before_a_source_went_stays_a_loss() -> None:
    stream = Stream(fps=10.0)
    for _ in range(10):
        stream.second(captured=10, overwritten=4)
    stream.second(captured=0, is_reading=False, is_gone=True)
    assert stream.lost() is not None


def test_results_after_their_deadline_are_told_and_forgotten() -> None:
    stream = Stream()
    for _ in range(10):
        stream.second(missed=30)
    assert stream.watch.late_share == 1.0
    for _ in range(60):
        stream.second()
    assert stream.watch.late_share is None


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40), st.booleans()), max_size=150))
def test_a_loss_is_never_less_than_what_was_dropped_nor_more_than_was_asked(
    seconds: list[tuple[int, int, bool]],
) -> None:
    stream = Stream()
    for captured, late, is_reading in seconds:
        stream.second(captured=captured, late=min(late, captured), is_reading=is_reading)
        loss = stream.watch.loss
        if loss is not None:
            assert loss.lost >= sum(count for _, count in loss.dropped)
            assert loss.lost <= loss.asked + sum(count for _, count in loss.dropped)


def test_a_source_faster_than_configured_loses_no_more_than_came() -> None:
    stream = Stream(fps=5.0)
    for _ in range(5):
        stream.second(captured=200, overwritten=73)
    loss = stream.watch.loss
    assert loss is not None
    assert loss.asked == 1000
    assert loss.share == 365 / 1000, "1459 % of the frames can't be lost"
