from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core.frames import Signal
from edge_agent.core.signal import Look, SignalWatch

LIT = 80.0
PERIOD_US = 33_333


def watch(**settings: float) -> SignalWatch:
    return SignalWatch(
        no_signal_after_us=int(settings.get("no_signal_after_us", 2_000_000)),
        frozen_after_us=int(settings.get("frozen_after_us", 500_000)),
        black_below=settings.get("black_below", 4.0),
    )


def played(on: SignalWatch, digests: list[int], *, mean: float = LIT, at: int = 0) -> list[Signal]:
    return [
        on.frame(at + number * PERIOD_US, digest, mean) for number, digest in enumerate(digests)
    ]


def test_a_source_is_starting_until_it_is_silent_too_long() -> None:
    on = watch()
    on.reopened(1_000_000)
    assert on.at(2_999_999) is Signal.STARTING
    assert on.at(3_000_000) is Signal.NO_SIGNAL


def test_a_source_that_was_never_opened_is_silent_too() -> None:
    on = watch()
    assert on.at(7_000_000) is Signal.STARTING
    assert on.at(9_000_000) is Signal.NO_SIGNAL


def test_silence_ends_with_the_first_frame() -> None:
    on = watch()
    assert on.frame(0, 1, LIT) is Signal.OK
    assert on.at(1_999_999) is Signal.OK
    assert on.at(2_000_000) is Signal.NO_SIGNAL
    assert on.frame(2_100_000, 2, LIT) is Signal.OK
    assert on.at(2_100_000) is Signal.OK


def test_equal_neighbours_and_the_seam_of_a_loop_are_not_frozen() -> None:
    clip = [1, 2, 2, 2, 3, 4, 5, 5, 5, 1]  # ends as it begins
    assert set(played(watch(), clip * 30)) == {Signal.OK}


def test_a_frozen_picture_is_told_after_half_a_second_and_over_at_the_first_other() -> None:
    on = watch()
    signals = played(on, [1, 2, *[3] * 30, 4])
    frozen = [number for number, signal in enumerate(signals) if signal is Signal.FROZEN]
    assert frozen == list(range(2 + 16, 32)), "16 periods are the first that last 0.5 s"
    assert on.frames_frozen == len(frozen)
    assert signals[-1] is Signal.OK


@given(st.floats(1.0, 240.0), st.floats(0.1, 3.0))
def test_frozen_is_a_matter_of_time_whatever_the_rate(fps: float, after_s: float) -> None:
    on = watch(frozen_after_us=round(after_s * 1e6), no_signal_after_us=1e12)
    for number in itertools.count():
        captured_us = round(number * 1e6 / fps)
        signal = on.frame(captured_us, 9, LIT)
        if number and captured_us >= round(after_s * 1e6):
            assert signal is Signal.FROZEN
            return
        assert signal is Signal.OK


def test_one_dark_frame_is_not_a_black_picture() -> None:
    on = watch()
    assert on.frame(0, 1, LIT) is Signal.OK
    assert on.frame(900_000, 2, 0.5) is Signal.OK
    assert on.frame(1_000_000, 3, LIT) is Signal.OK


def test_a_picture_is_black_after_half_a_second_with_noise_or_without() -> None:
    on = watch()
    noisy = played(on, list(range(20)), mean=1.0)
    assert noisy[:16] == [Signal.OK] * 16
    assert noisy[16:] == [Signal.BLACK] * 4
    assert on.frame(20 * PERIOD_US, 99, LIT) is Signal.OK
    assert played(watch(), [0] * 20, mean=0.0)[-1] is Signal.BLACK, "and not merely frozen"


def test_the_check_for_black_can_be_turned_off() -> None:
    assert set(played(watch(black_below=0.0), list(range(40)), mean=0.0)) == {Signal.OK}


def test_reopening_forgets_the_last_picture() -> None:
    on = watch()
    played(on, [5] * 20)
    on.reopened(1_000_000)
    assert on.at(1_000_000) is Signal.STARTING
    assert on.frame(1_100_000, 5, LIT) is Signal.OK


def test_a_clock_that_steps_back_does_no_harm() -> None:
    on = watch()
    on.frame(10_000_000, 1, LIT)
    assert on.frame(9_000_000, 1, LIT) is Signal.OK
    assert on.at(9_000_000) is Signal.OK


class Model:
    """The rule in its simplest words: looks at the whole past each time."""

    def __init__(self) -> None:
        self.past: list[tuple[int, int, float]] = []

    def frame(self, captured_us: int, digest: int, mean: float) -> Signal:
        self.past.append((captured_us, digest, mean))
        dark = list(itertools.takewhile(lambda one: one[2] < 4.0, reversed(self.past)))
        equal = list(itertools.takewhile(lambda one: one[1] == digest, reversed(self.past)))
        if dark and captured_us - dark[-1][0] >= 500_000:
            return Signal.BLACK
        if captured_us - equal[-1][0] >= 500_000:
            return Signal.FROZEN
        return Signal.OK


STEPS = st.tuples(
    st.integers(1, 400_000), st.integers(0, 2), st.sampled_from([0.0, 3.9, 4.0, 90.0])
)


@given(st.lists(STEPS, max_size=80))
def test_the_watch_equals_its_model(steps: list[tuple[int, int, float]]) -> None:
    on, model, now_us, frozen = watch(), Model(), 0, 0
    for delay_us, digest, mean in steps:
        now_us += delay_us
        signal = model.frame(now_us, digest, mean)
        assert on.frame(now_us, digest, mean) is signal
        assert on.at(now_us + 1_999_999) is signal
        assert on.at(now_us + 2_000_000) is Signal.NO_SIGNAL
        frozen += signal is Signal.FROZEN
    assert on.frames_frozen >= frozen


@pytest.mark.parametrize(
    "shape", [(480, 640), (480, 640, 3), (1080, 1920), (1080, 1920, 3), (1, 1)]
)
def test_equal_pictures_have_equal_digests_and_noise_differs(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    one, other = (rng.integers(0, 256, shape, dtype=np.uint8) for _ in range(2))
    look = Look()
    first = look.at(one)
    assert look.at(one.copy()) == first
    assert look.at(other)[0] != first[0]
    assert first[1] == pytest.approx(float(one.mean()), abs=6.0)


@pytest.mark.parametrize("row", [0, 500, 1079])
def test_one_pixel_anywhere_is_enough_to_move(row: int) -> None:
    picture = np.zeros((1080, 1920, 3), np.uint8)
    changed = picture.copy()
    changed[row, 1001] = 1
    look = Look()
    assert look.at(picture)[0] != look.at(changed)[0]


def test_a_picture_turned_by_its_shape_has_another_digest() -> None:
    look = Look()
    turned = np.zeros((20, 10), np.uint8)
    assert look.at(np.zeros((10, 20), np.uint8))[0] != look.at(turned)[0]


def test_views_and_read_only_pictures_are_measured() -> None:
    picture = np.arange(480 * 640 * 3, dtype=np.uint8).reshape(480, 640, 3)
    picture.flags.writeable = False
    look = Look()
    assert look.at(picture[::2, ::2]) == look.at(picture[::2, ::2].copy())


@pytest.mark.parametrize("shape", [(1080, 1920), (1080, 1920, 3), (480, 640, 3)])
def test_a_bright_band_between_the_sampled_rows_is_no_black_picture(shape: tuple[int, ...]) -> None:
    """Found with an ultrasound screen that was dark but for one bright strip."""
    picture = np.zeros(shape, np.uint8)
    for top in range(0, shape[0] - 80, 40):
        picture[:] = 0
        picture[top : top + 23, 7:] = 255
        assert Look().at(picture)[1] == pytest.approx(float(picture.mean()))
        picture[:] = 3
        assert Look().at(picture)[1] == pytest.approx(3.0)


@pytest.mark.parametrize("row", range(0, 60, 7))
def test_one_bright_line_is_a_black_picture_wherever_it_lies(row: int) -> None:
    picture = np.zeros((1080, 1920, 3), np.uint8)
    picture[row] = 255
    picture[row + 93] = 255
    assert Look().at(picture)[1] == pytest.approx(255 * 2 / 1080)


@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 255), st.data())
def test_black_is_judged_on_every_pixel(
    height: int, width: int, level: int, data: st.DataObject
) -> None:
    picture = np.zeros((height, width), np.uint8)
    y, x = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    picture[y:, x:] = level
    told = Look().at(picture)[1]
    if told < 4.0:
        assert told == pytest.approx(float(picture.mean()))
