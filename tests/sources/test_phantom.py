"""The phantom source: seeded pictures with known truth, paced, faulty on demand."""

from __future__ import annotations

import time

import numpy as np
import pytest

from edge_agent.config.structs import PhantomSource
from edge_agent.core.errors import SourceLost
from edge_agent.core.frames import Frame
from edge_agent.sources.phantom import PhantomFrames

SMALL = (160, 120)


class HandClock:
    """A clock that only moves when someone sleeps or the test says so."""

    def __init__(self) -> None:
        self.now_us = 5_000_000

    def boot_us(self) -> int:
        return self.now_us

    def utc_offset_us(self) -> tuple[int | None, int | None]:
        return None, None

    def sleep_us(self, duration_us: int) -> None:
        self.now_us += max(duration_us, 0)


def opened(clock: HandClock | None = None, **settings: object) -> PhantomFrames:
    fields = {"size": SMALL, "pace": "fast", **settings}
    source = PhantomFrames(PhantomSource(**fields), clock or HandClock())  # type: ignore[arg-type]
    source.open()
    return source


def frames(source: PhantomFrames, count: int) -> list[Frame]:
    got = [source.read(1.0) for _ in range(count)]
    assert all(frame is not None for frame in got)
    return [frame for frame in got if frame is not None]


@pytest.mark.parametrize("scene", ["ultrasound", "endoscope"])
def test_the_same_seed_and_number_give_the_same_picture(scene: str) -> None:
    first, again = (frames(opened(scene=scene, seed=7), 4) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one.pixels, other.pixels)
    foreign = frames(opened(scene=scene, seed=8), 1)[0]
    assert not np.array_equal(first[0].pixels, foreign.pixels)


@pytest.mark.parametrize(
    ("scene", "shape", "fps"),
    [("ultrasound", (120, 160), 30.0), ("endoscope", (120, 160, 3), 60.0)],
)
def test_frames_have_the_shape_and_facts_of_their_scene(
    scene: str, shape: tuple[int, ...], fps: float
) -> None:
    source = PhantomFrames(PhantomSource(scene=scene, size=SMALL), HandClock())  # type: ignore[arg-type]
    facts = source.open()
    assert (facts.expected_fps, facts.size, facts.live) == (fps, SMALL, True)
    frame = frames(source, 1)[0]
    assert frame.pixels.shape == shape
    assert frame.pixels.dtype == np.uint8
    assert frame.pixels.flags.c_contiguous
    assert frame.pixels.mean() > 10


@pytest.mark.parametrize("scene", ["ultrasound", "endoscope"])
def test_successive_frames_always_differ_even_a_beat_apart(scene: str) -> None:
    got = frames(opened(scene=scene), 120)
    seen = {frame.pixels.tobytes() for frame in got}
    assert len(seen) == len(got)


@pytest.mark.parametrize("scene", ["ultrasound", "endoscope"])
@pytest.mark.parametrize("size", [(1, 1), (17, 9), (333, 111), (64, 200)])
def test_any_size_can_be_drawn(scene: str, size: tuple[int, int]) -> None:
    frame = frames(opened(scene=scene, size=size), 2)[1]
    assert frame.size == size


def test_chambers_are_dark_lie_inside_the_sector_and_beat() -> None:
    source = opened(scene="ultrasound", size=(320, 240))
    areas = []
    for frame in frames(source, 27):
        mask = source.truth(frame.number).mask
        assert mask is not None
        x, y, width, height = frame.calibration.roi or (0, 0, 0, 0)
        outside = mask.copy()
        outside[y : y + height, x : x + width] = False
        assert not outside.any()
        around = frame.pixels[y : y + height, x : x + width]
        assert frame.pixels[mask].mean() < 0.5 * around[around > 8].mean()
        areas.append(int(mask.sum()))
    assert max(areas) > 1.05 * min(areas)
    assert min(areas) > 0.02 * 320 * 240


def test_polyp_boxes_lie_in_the_frame_move_and_come_and_go() -> None:
    source = opened(scene="endoscope", size=(320, 240), seed=1)
    boxes = [source.truth(number).boxes for number in range(1, 721, 6)]
    for x0, y0, x1, y1 in (box for found in boxes for box in found):
        assert 0 <= x0 < x1 <= 320
        assert 0 <= y0 < y1 <= 240
    assert len({found[0] for found in boxes if found}) > 20
    shown = sum(bool(found) for found in boxes) / len(boxes)
    assert 0.3 < shown < 1.0


def test_the_picture_has_no_scale_unless_the_operator_gives_one() -> None:
    bare = frames(opened(scene="ultrasound"), 1)[0].calibration
    assert bare.roi is not None
    assert bare.spacing_mm is None
    assert (bare.spacing_from, bare.reason) == ("", "synthetic picture: no physical scale")
    known = frames(opened(scene="ultrasound", spacing_mm=(0.4, 0.5)), 1)[0].calibration
    assert (known.spacing_mm, known.spacing_from) == ((0.4, 0.5), "config")
    cropped = frames(opened(scene="ultrasound", roi=(8, 8, 64, 64)), 1)[0].calibration
    assert cropped.roi == (8, 8, 64, 64)


def test_it_keeps_its_pace_and_stamps_frames_when_they_are_due() -> None:
    clock = HandClock()
    start = clock.now_us
    got = frames(opened(clock, pace="real", fps=50.0), 5)
    assert [frame.captured_us - start for frame in got] == [0, 20000, 40000, 60000, 80000]
    assert [frame.pts_us for frame in got] == [0, 20000, 40000, 60000, 80000]
    assert [frame.number for frame in got] == [1, 2, 3, 4, 5]


def test_a_reader_that_comes_late_joins_the_present_without_number_gaps() -> None:
    clock = HandClock()
    source = opened(clock, pace="real", fps=50.0)
    frames(source, 2)
    clock.now_us += 205_000
    late, after = frames(source, 2)
    assert (late.number, after.number) == (3, 4)
    assert late.pts_us == 220_000
    assert after.captured_us - late.captured_us <= 20_000


def test_a_read_that_is_not_due_in_time_returns_none() -> None:
    clock = HandClock()
    source = opened(clock, pace="real", fps=1.0)
    frames(source, 1)
    before = clock.now_us
    assert source.read(0.2) is None
    assert clock.now_us - before == 200_000
    frame = source.read(5.0)
    assert frame is not None
    assert (frame.number, frame.pts_us) == (2, 1_000_000)


def test_a_frozen_phantom_repeats_its_picture_and_then_goes_on() -> None:
    got = frames(opened(fault="freeze", fault_after_frames=3, fault_frames=4), 9)
    same = [np.array_equal(one.pixels, got[2].pixels) for one in got]
    assert same == [False, False, True, True, True, True, True, False, False]
    assert len({id(frame.pixels) for frame in got}) == 9
    from_the_first = frames(opened(fault="freeze"), 3)
    assert np.array_equal(from_the_first[0].pixels, from_the_first[2].pixels)


def test_a_black_phantom_is_black_for_as_long_as_asked() -> None:
    got = frames(opened(fault="black", fault_after_frames=2, fault_frames=3), 7)
    dark = [bool(frame.pixels.max() == 0) for frame in got]
    assert dark == [False, False, True, True, True, False, False]


def test_a_vanished_phantom_fails_to_open_until_it_is_back_once() -> None:
    clock = HandClock()
    source = opened(clock, fps=50.0, fault="vanish", fault_after_frames=3, fault_frames=10)
    frames(source, 3)
    with pytest.raises(SourceLost, match="vanished after 3 frames"):
        source.read(1.0)
    with pytest.raises(SourceLost):
        source.open()
    clock.now_us += 10 * 20_000
    source.open()
    assert [frame.number for frame in frames(source, 20)] == list(range(4, 24))


@pytest.mark.parametrize("fault", ["vanish", "end"])
def test_a_phantom_that_is_gone_for_good_stays_gone(fault: str) -> None:
    clock = HandClock()
    source = opened(clock, fault=fault, fault_after_frames=2)
    frames(source, 2)
    clock.now_us += 3_600_000_000
    for attempt in (lambda: source.read(1.0), source.open):
        with pytest.raises(SourceLost, match="after 2 frames") as caught:
            attempt()
        assert caught.value.hint


def test_reading_before_opening_and_closing_twice_are_harmless() -> None:
    source = PhantomFrames(PhantomSource(size=SMALL), HandClock())
    with pytest.raises(SourceLost, match="not open"):
        source.read(0.0)
    source.close()
    source.close()


@pytest.mark.parametrize(("scene", "copies"), [("ultrasound", 80), ("endoscope", 80)])
def test_a_frame_costs_no_more_cpu_than_a_few_copies(scene: str, copies: int) -> None:
    source = opened(scene=scene, size=(640, 480))
    got = frames(source, 30)
    target = np.empty_like(got[0].pixels)

    def cost(times: int, copying: bool) -> float:
        before = time.thread_time()
        for frame in got[:times]:
            if copying:
                np.copyto(target, frame.pixels)
            else:
                source.read(1.0)
        return time.thread_time() - before

    copy_s = min(cost(30, copying=True) for _ in range(5))
    read_s = min(cost(30, copying=False) for _ in range(5))
    assert read_s < copies * copy_s
