"""By what a recording is played, and when its frames are due."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core.stamps import LATE_US, MAX_FPS, Rate, Timeline, is_plausible, rate

BY_STAMPS = Rate(25.0, by_stamps=True, words="")


def due(timeline: Timeline, stamps: list[int | None]) -> list[int]:
    found = []
    for stamp in stamps:
        timeline.frame(stamp)
        found.append(timeline.due_us)
    return found


@pytest.mark.parametrize("fps", [0, 1000, 90_000, 243, -25, float("nan")])
def test_rates_that_no_camera_has_are_said_and_not_played(fps: float) -> None:
    assert not is_plausible(fps)
    without = rate([], configured=None, said=fps)
    assert (without.fps, without.by_stamps) == (30.0, False)
    assert "not plausible" in without.words
    assert "set source.fps" in without.words
    stamped = rate([0, 40_000, 80_000], configured=None, said=fps)
    assert stamped.by_stamps
    assert stamped.fps == 25.0
    assert "not plausible" in stamped.words


def test_stamps_go_before_the_header_and_what_is_configured_before_both() -> None:
    stamps = [0, 100_000, 200_000]
    assert rate(stamps, configured=None, said=25.0).by_stamps
    assert rate(stamps, configured=5.0, said=25.0) == Rate(
        5.0, by_stamps=False, words="5 fps (source.fps)"
    )
    for still in ([], [0], [7, 7, 7]):
        found = rate(still, configured=None, said=15.0)
        assert (found.fps, found.by_stamps) == (15.0, False)
        assert "time stamps" in found.words


def test_stamps_that_run_at_a_thousand_a_second_are_not_played() -> None:
    found = rate(list(range(0, 96_000, 1000)), configured=None, said=1000.0)
    assert (found.fps, found.by_stamps) == (30.0, False)
    assert "1000 fps" in found.words
    assert "set source.fps" in found.words
    assert rate(list(range(0, 96_000, 4166)), configured=None, said=MAX_FPS).by_stamps


def test_uneven_stamps_are_uneven_times() -> None:
    timeline = Timeline(BY_STAMPS, 1_000)
    assert due(timeline, [500, 1_500, 2_500, 69_200]) == [1_000, 2_000, 3_000, 69_700]


def test_a_frame_without_a_stamp_follows_a_period_on_and_one_that_steps_back_is_due_at_once() -> (
    None
):
    timeline = Timeline(BY_STAMPS, 0)
    assert due(timeline, [0, None, 80_000, 79_000, 120_000]) == [0, 40_000, 80_000, 80_000, 120_000]


@pytest.mark.parametrize("jump_us", [-95_443_717_688, 3_600_000_000, -2_000_000, -960_000])
def test_a_jump_from_one_recording_to_another_is_a_period(jump_us: int) -> None:
    timeline = Timeline(BY_STAMPS, 0)
    assert due(timeline, [0, 40_000, 40_000 + jump_us, 90_000 + jump_us])[2:] == [80_000, 130_000]
    assert timeline.jumps == 1


def test_a_recording_that_begins_again_goes_on_a_period_later() -> None:
    timeline = Timeline(BY_STAMPS, 0)
    first = due(timeline, [0, 40_000])
    timeline.rewind()
    assert first + due(timeline, [0, 40_000]) == [0, 40_000, 80_000, 120_000]


def test_a_rate_is_counted_so_that_rounding_never_adds_up() -> None:
    timeline = Timeline(Rate(30.0, by_stamps=False, words=""), 0)
    assert due(timeline, [0] * 31)[-1] == 1_000_000


def test_a_late_reader_moves_the_recording_and_loses_none_of_it() -> None:
    timeline = Timeline(BY_STAMPS, 0)
    timeline.frame(0)
    timeline.take(LATE_US // 2)
    timeline.frame(40_000)
    assert timeline.due_us == 40_000, "a little is caught up"
    timeline.take(5_000_000)
    timeline.frame(80_000)
    assert 5_000_000 - LATE_US <= timeline.due_us - 40_000 <= 5_000_000
    assert Timeline(BY_STAMPS, 0, "fast").wait(0, 1.0) == (0, True)


@given(st.lists(st.none() | st.integers(-(2**62), 2**62), max_size=50))
def test_due_times_never_go_back_whatever_the_stamps(stamps: list[int | None]) -> None:
    timeline = Timeline(BY_STAMPS, 7)
    found = due(timeline, stamps)
    assert all(later >= earlier for earlier, later in pairwise(found))
    assert all(later - earlier <= 60_040_000 for earlier, later in pairwise(found))


def test_a_frame_without_a_stamp_makes_even_stamps_no_slower() -> None:
    """NTSC at 29.97 was told as 29.44: one packet of sixty had none."""
    stamps_us = [round(number * 1001 / 30 * 1000) for number in range(60) if number != 17]
    found = rate(stamps_us, configured=None, said=29.97, whole=True)
    assert found.by_stamps
    assert found.fps == pytest.approx(29.97, abs=0.01)
    whole_ms = [round(number * 1001 / 30) * 1000 for number in range(60)]
    assert rate(whole_ms, configured=None, said=None, whole=True).fps == pytest.approx(29.97, 2e-3)
