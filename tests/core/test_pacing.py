from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core.pacing import Backoff, FpsMeter, GapPace, MediaTime, Pace

RATES = st.floats(0.1, 1000.0)


@given(RATES, st.integers(0, 10**12), st.integers(1, 5000))
def test_a_prompt_reader_never_drifts(fps: float, start_us: int, frames: int) -> None:
    pace = Pace(fps, start_us)
    for _ in range(frames):
        assert pace.take(pace.due_us) == 0
    assert abs(pace.due_us - (start_us + frames * 1e6 / fps)) <= 1


@given(RATES, st.lists(st.integers(0, 3_000_000), min_size=1, max_size=50))
def test_each_tick_is_taken_or_skipped_once(fps: float, delays_us: list[int]) -> None:
    pace, now_us, passed = Pace(fps, 0), 0, 0
    for delay_us in delays_us:
        now_us = max(now_us + delay_us, pace.due_us)
        due_us = pace.due_us
        passed += 1 + pace.take(now_us)
        assert pace.due_us == round(passed * 1e6 / fps)
        assert pace.due_us >= now_us, "what was missed is not made up for"
        assert pace.due_us - due_us <= (now_us - due_us) + 1e6 / fps + 2, "and no more is skipped"


def test_a_reader_that_is_less_than_a_period_late_skips_nothing() -> None:
    pace = Pace(10.0, 0)
    assert pace.take(99_000) == 0
    assert pace.due_us == 100_000
    assert pace.take(350_000) == 2
    assert pace.due_us == 400_000


def test_a_wait_ends_at_the_frame_or_at_the_time_out() -> None:
    pace = Pace(10.0, 0)
    assert pace.wait(0, 1.0) == (0, True)
    pace.take(0)
    assert pace.wait(30_000, 1.0) == (70_000, True)
    assert pace.wait(30_000, 0.02) == (20_000, False)
    assert pace.wait(180_000, 0.0) == (0, True)


def test_fast_is_always_due() -> None:
    pace = Pace(1.0, 0, "fast")
    for _ in range(3):
        assert pace.wait(0, 0.0) == (0, True)
        assert pace.take(0) == 0


@given(st.integers(0, 10**12), st.lists(st.integers(0, 10**8), max_size=200))
def test_a_prompt_reader_gets_each_frame_at_its_own_stamp(
    start_us: int, gaps_us: list[int]
) -> None:
    pace = GapPace(start_us)
    for number, gap_us in enumerate([7, *gaps_us]):  # nothing stands before the first frame
        pace.aim(gap_us)
        pace.aim(gap_us)  # asked again, as after a time-out
        assert pace.due_us == start_us + sum(gaps_us[:number])
        assert pace.wait(pace.due_us - 5, 1.0) == (5, True)
        pace.take(pace.due_us)


@given(st.lists(st.tuples(st.integers(1, 10**6), st.integers(0, 3_000_000)), max_size=50))
def test_what_a_late_reader_missed_is_not_made_up_for(steps: list[tuple[int, int]]) -> None:
    pace, now_us = GapPace(0), 0
    for gap_us, delay_us in steps:
        pace.aim(gap_us)
        now_us = max(now_us, pace.due_us) + delay_us
        due_us = pace.due_us
        pace.take(now_us)
        pace.aim(gap_us)
        assert pace.due_us >= now_us
        on_time = pace.due_us == due_us + gap_us
        assert on_time or (delay_us > gap_us and pace.due_us == now_us + gap_us)
        pace.take(pace.due_us)
        now_us = pace.due_us


def test_stamps_are_waited_for_and_fast_is_always_due() -> None:
    pace = GapPace(1_000_000)
    assert pace.wait(900_000, 0.05) == (50_000, False)
    assert GapPace(1_000_000, "fast").wait(0, 0.0) == (0, True)


def test_the_time_of_a_recording_goes_on_over_clips_and_where_stamps_lack() -> None:
    media = MediaTime()
    stamps = [(0, 40), (20, 40), (220, 40), (0, 50), (50, 50), (None, 50), (7, 50), (7, 10)]
    times = [media.at(pts, period) for pts, period in stamps]
    assert times == [0, 20, 220, 270, 320, 370, 420, 430]


@given(st.lists(st.tuples(st.none() | st.integers(-(10**9), 10**9), st.integers(0, 10**6))))
def test_the_time_of_a_recording_never_goes_back(stamps: list[tuple[int | None, int]]) -> None:
    media = MediaTime()
    times = [media.at(pts, period) for pts, period in stamps]
    assert times == sorted(times)


@pytest.mark.parametrize("fps", [0.0, -1.0, float("inf"), float("nan")])
def test_a_rate_that_is_none_is_a_mistake_of_the_caller(fps: float) -> None:
    with pytest.raises(ValueError, match="fps is positive"):
        Pace(fps, 0)


def test_the_meter_shows_the_real_rate_beside_the_expected_one() -> None:
    meter = FpsMeter(expected_fps=30.0)
    assert meter.fps(0) == 0.0
    for number in range(60):
        meter.frame(number * 40_000)
    assert meter.expected_fps == 30.0
    assert meter.fps(59 * 40_000) == pytest.approx(25.0)


def test_the_meter_falls_while_nothing_comes() -> None:
    meter = FpsMeter()
    for number in range(31):
        meter.frame(number * 33_333)
    rates = [meter.fps(1_000_000 + silence_us) for silence_us in (0, 500_000, 1_500_000, 5_000_000)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == pytest.approx(30.0, rel=0.01)
    assert rates[-1] == 0.0


def test_the_meter_holds_a_bounded_number_of_stamps() -> None:
    meter = FpsMeter()
    for number in range(100_000):
        meter.frame(number * 100)
    assert meter.fps(100_000 * 100) == pytest.approx(10_000, rel=0.01)
    assert len(meter._stamps_us) <= 512


@given(st.floats(0.01, 100.0), st.lists(st.floats(0, 1, exclude_max=True), max_size=30))
def test_back_off_stays_within_its_bounds(max_s: float, chances: list[float]) -> None:
    backoff = Backoff(max_s=max_s)
    for chance in chances:
        assert min(0.25, max_s) * 0.5 <= backoff.next_s(chance) <= max_s


def test_back_off_doubles_and_begins_anew() -> None:
    backoff = Backoff(max_s=2.0)
    assert [backoff.next_s(0.999999) for _ in range(5)] == pytest.approx([0.25, 0.5, 1, 2, 2], 1e-3)
    backoff.reset()
    assert backoff.next_s(0.0) == 0.125
