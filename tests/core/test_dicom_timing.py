"""Which element of a header says when a frame was taken, and what is refused in words."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core.dicom_timing import (
    DEFAULT_FPS,
    HIGHEST_FPS,
    LONGEST_GAP_MS,
    LOWEST_FPS,
    ORDER,
    ROUNDED,
    TAGS,
    Times,
    Timing,
    times,
)

FRAMES = 11
EVEN = (0.0, *[100.0] * 10)
UNEVEN = (0.0, 20.0, 20.0, 20.0, 20.0, 20.0, 200.0, 20.0, 20.0, 20.0, 20.0)
TAG_OF = {name: tag for tag, name in TAGS.items()}
VIEW_NUMBER = 0x0020_9128


def timing(*pointed: str, vector: tuple[float, ...] = (), **rates: float) -> Timing:
    """pointed: names that the pointer holds."""
    names = {
        "frame_time": "FrameTime",
        "cine": "CineRate",
        "display": "RecommendedDisplayFrameRate",
    }
    return Timing(
        pointers=tuple(TAG_OF[name] for name in pointed),
        rates={names[key]: value for key, value in rates.items()},
        frame_times_ms=vector,
    )


@pytest.mark.parametrize(
    ("said", "fps", "origin"),
    [
        (timing("FrameTimeVector", vector=EVEN, frame_time=33.33), 10, "FrameTimeVector"),
        (timing("FrameTime", vector=EVEN, frame_time=50), 20, "FrameTime"),
        (timing("CineRate", cine=25, frame_time=50), 25, "CineRate"),
        (timing("RecommendedDisplayFrameRate", display=12, cine=25), 12, "RecommendedDisplay"),
        (timing(), 30, "default"),
        (timing(frame_time=40, cine=60, display=60), 25, "FrameTime"),
        (timing(vector=EVEN, cine=60), 10, "FrameTimeVector"),
        (timing(cine=15, display=60), 15, "CineRate"),
        (timing(display=60), 60, "RecommendedDisplay"),
        (timing(frame_time=4.166), 240, "FrameTime"),
        (timing("FrameTimeVector", vector=EVEN[:4]), 10, "FrameTimeVector"),
        (timing("FrameTimeVector", vector=EVEN + EVEN[1:]), 10, "FrameTimeVector"),
    ],
)
def test_the_pointer_decides_and_then_the_order_of_the_standard(
    said: Timing, fps: float, origin: str
) -> None:
    found = times(said, FRAMES)
    assert found.fps == pytest.approx(fps, rel=1e-3)
    assert found.origin.startswith(origin)
    assert found.pts_us(FRAMES - 1) == pytest.approx(1e6 * (FRAMES - 1) / fps, rel=1e-3)
    assert f"from {found.origin}" in found.words()
    assert not found.is_guessed


def test_a_vector_gives_each_frame_its_own_stamp() -> None:
    found = times(timing("FrameTimeVector", vector=UNEVEN), FRAMES)
    stamps_ms = [found.pts_us(index) / 1000 for index in range(FRAMES)]
    assert stamps_ms == [0, 20, 40, 60, 80, 100, 300, 320, 340, 360, 380]
    assert found.fps == pytest.approx(10 / 0.38)
    assert "20 to 200 ms apart" in found.words()


@pytest.mark.parametrize(
    ("said", "frames", "fps", "origin", "told"),
    [
        (timing("FrameTime", frame_time=0, cine=15), 11, 15, "CineRate", "FrameTime 0 ms"),
        (
            timing("FrameTime", frame_time=0.0333),
            11,
            30,
            "default",
            "FrameTime 0.0333 ms (30030 fps)",
        ),
        (timing(frame_time=-40), 11, 30, "default", "FrameTime -40 ms"),
        (timing(frame_time=33_330), 11, 30, "default", "FrameTime 33330 ms (0.030003 fps)"),
        (timing(frame_time=1, cine=1000), 11, 30, "default", "CineRate 1000 fps"),
        (timing(cine=90_000, display=25), 11, 25, "RecommendedDisplay", "CineRate 90000 fps"),
        (timing(cine=241), 11, 30, "default", "CineRate 241 fps"),
        (timing(cine=0), 11, 30, "default", "CineRate 0 fps"),
        (
            timing("FrameTimeVector", frame_time=50),
            11,
            20,
            "FrameTime",
            "to FrameTimeVector, which is",
        ),
        (timing("FrameTimeVector", vector=UNEVEN), 12, 30, "default", "11 values for 12 frames"),
        (timing("FrameTimeVector", vector=UNEVEN, cine=9), 9, 9, "CineRate", "for 9 frames"),
        (timing(vector=(0.0,)), 11, 30, "default", "1 values for 11 frames"),
        (timing(vector=(0, 40, -40, 40)), 4, 30, "default", "with -40 ms at value 3"),
        (timing(vector=(0, 40, 0, 40)), 4, 30, "default", "with 0 ms at value 3"),
        (timing(vector=(0, 0.04, 0.04)), 3, 30, "default", "with 0.04 ms at value 2"),
        (timing(vector=(0, 40, math.nan)), 3, 30, "default", "with nan ms at value 3"),
        (timing(vector=(0, 0, 0)), 3, 30, "default", "with 0 ms at value 2"),
        (Timing(unread=("FrameTime",)), 3, 30, "default", "FrameTime, which is no number"),
        (Timing(unread=("FrameTimeVector",)), 3, 30, "default", "FrameTimeVector, which is not"),
        (Timing(pointers=(VIEW_NUMBER,)), 3, 30, "default", "FrameIncrementPointer to (0020,9128)"),
    ],
)
def test_what_cannot_be_is_told_and_not_played(
    said: Timing, frames: int, fps: float, origin: str, told: str
) -> None:
    found = times(said, frames)
    assert found.fps == pytest.approx(fps)
    assert found.origin.startswith(origin)
    assert told in found.words()
    assert found.is_guessed == (origin == "default")


def test_a_pointer_of_several_tags_decides_by_the_one_that_speaks_of_time() -> None:
    said = Timing(
        pointers=(VIEW_NUMBER, TAG_OF["CineRate"]), rates={"FrameTime": 40, "CineRate": 15}
    )
    assert times(said, FRAMES) == Times(fps=15, origin="CineRate")


def test_a_configured_rate_wins_over_all_and_the_stamps_follow_it() -> None:
    found = times(timing("FrameTimeVector", vector=UNEVEN, cine=60), FRAMES, 12.5)
    assert (found.fps, found.origin, found.pts_us(10)) == (12.5, "config", 800_000)


NUMBERS = st.one_of(
    st.floats(), st.sampled_from([0.0, 1.0, 0.0333, 33.33, 30, 60, 1000, 90_000, 240, 241])
)


@st.composite
def headers(draw: st.DrawFn) -> tuple[Timing, int]:
    frames = draw(st.integers(1, 30))
    size = draw(st.sampled_from([0, 1, frames - 1, frames, frames, frames, frames + 1]))
    gap = draw(st.sampled_from([NUMBERS, st.floats(1, 500), st.just(40.0)]))
    said: dict[str, Any] = {
        "pointers": tuple(draw(st.lists(st.sampled_from([*TAGS, VIEW_NUMBER]), max_size=2))),
        "rates": draw(st.dictionaries(st.sampled_from(["FrameTime", *ORDER[2:]]), NUMBERS)),
        "frame_times_ms": tuple(draw(st.lists(gap, min_size=size, max_size=size))),
        "unread": tuple(draw(st.lists(st.sampled_from(ORDER), max_size=1))),
    }
    return Timing(**said), frames


@given(headers())
def test_whatever_a_header_says_stamps_rise_at_a_plausible_rate_and_its_origin_is_told(
    header: tuple[Timing, int],
) -> None:
    said, frames = header
    found = times(said, frames)
    stamps = [found.pts_us(index) for index in range(frames)]
    assert stamps[0] == 0
    gaps = [later - sooner for sooner, later in pairwise(stamps)]
    assert all(
        1e6 / (HIGHEST_FPS * ROUNDED) - 1 <= gap <= 1000 * LONGEST_GAP_MS + 1 for gap in gaps
    )
    assert found.fps <= HIGHEST_FPS * ROUNDED * 1.001
    assert found.fps >= (LOWEST_FPS if found.origin != "FrameTimeVector" else 1e3 / LONGEST_GAP_MS)
    assert found.origin in (*ORDER, "default")
    assert f"from {found.origin}" in found.words()
    if found.origin == "default":
        assert found.fps == DEFAULT_FPS
        is_said = bool(said.rates or said.unread or said.pointers or said.frame_times_ms)
        assert found.is_guessed == is_said or frames == 1
    if found.stamps_us:
        wanted = [0.0]
        for gap_ms in said.frame_times_ms[1:]:
            wanted.append(wanted[-1] + gap_ms * 1000)
        assert stamps == pytest.approx(wanted, abs=1)
