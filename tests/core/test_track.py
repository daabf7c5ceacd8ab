from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core.track import Box, Tracker

FRAME_US = 33_333
boxes = st.tuples(
    st.integers(0, 200), st.integers(0, 200), st.integers(1, 80), st.integers(1, 80)
).map(lambda b: (float(b[0]), float(b[1]), float(b[0] + b[2]), float(b[1] + b[3])))
scenes = st.lists(
    st.lists(st.tuples(st.sampled_from("ab"), boxes), max_size=6), min_size=1, max_size=30
)


def box(x: float, y: float, side: float = 40.0) -> Box:
    return x, y, x + side, y + side


def follow(tracker: Tracker, *frames: list[Box], start: int = 0) -> list[list[int]]:
    return [
        tracker.update(["a"] * len(found), found, (start + number) * FRAME_US)
        for number, found in enumerate(frames)
    ]


def test_an_object_has_no_track_before_its_second_hit() -> None:
    assert follow(Tracker(), [box(0, 0)], [box(1, 0)], [box(2, 0)]) == [[0], [1], [1]]


@given(
    speed=st.tuples(st.floats(-8, 8), st.floats(-8, 8)),
    jitter=st.floats(0, 3),
    seed=st.integers(0, 1000),
)
def test_a_smoothly_moving_object_keeps_its_id(
    speed: tuple[float, float], jitter: float, seed: int
) -> None:
    shake = random.Random(seed)
    frames = [
        [
            box(
                400 + speed[0] * i + shake.uniform(-jitter, jitter),
                400 + speed[1] * i + shake.uniform(-jitter, jitter),
            )
        ]
        for i in range(40)
    ]
    assert follow(Tracker(), *frames)[1:] == [[1]] * 39


@given(order=st.lists(st.booleans(), min_size=40, max_size=40))
def test_objects_that_pass_each_other_apart_do_not_swap(order: list[bool]) -> None:
    tracker = Tracker()
    for i, flipped in enumerate(order):
        pair = [box(5.0 * i, 0), box(200 - 5.0 * i, 60)]
        found = follow(tracker, pair[::-1] if flipped else pair, start=i)[0]
        named = found[::-1] if flipped else found
        assert i == 0 or set(named) == {1, 2}
        if i == 1:
            first = named
        assert i < 2 or named == first


def test_an_object_that_is_hidden_for_a_while_comes_back_under_its_id() -> None:
    tracker = Tracker(max_age_us=10 * FRAME_US)
    follow(tracker, [box(0, 0)], [box(0, 0)], *[[]] * 8)
    assert follow(tracker, [box(0, 0)], start=10) == [[1]]


def test_an_object_that_was_away_too_long_is_a_new_one() -> None:
    tracker = Tracker(max_age_us=5 * FRAME_US)
    follow(tracker, [box(0, 0)], [box(0, 0)], *[[]] * 8)
    assert follow(tracker, [box(0, 0)], [box(0, 0)], start=10) == [[0], [2]]


def test_after_a_gap_in_the_frames_nothing_is_the_same_object() -> None:
    tracker = Tracker(max_age_us=5 * FRAME_US)
    follow(tracker, [box(0, 0)], [box(0, 0)])
    assert follow(tracker, [box(0, 0)], start=60) == [[0]]


def test_a_flash_is_forgotten_at_once() -> None:
    tracker = Tracker()
    follow(tracker, [box(0, 0)], [])
    assert len(tracker) == 0


def test_another_label_at_the_same_place_is_another_object() -> None:
    tracker = Tracker()
    for i in range(2):
        found = tracker.update(["a", "b"], [box(0, 0), box(0, 0)], i * FRAME_US)
    assert sorted(found) == [1, 2]


def test_the_closest_object_gets_the_track_whatever_the_order() -> None:
    tracker = Tracker()
    follow(tracker, [box(0, 0)], [box(0, 0)])
    assert follow(tracker, [box(10, 0), box(1, 0)], start=2) == [[0, 1]]


def test_a_reset_forgets_objects_and_never_their_ids() -> None:
    tracker = Tracker()
    follow(tracker, [box(0, 0)], [box(0, 0)])
    tracker.reset()
    assert follow(tracker, [box(0, 0)], [box(0, 0)], start=2) == [[0], [2]]


def test_a_crowd_is_followed_up_to_the_bound() -> None:
    tracker = Tracker(max_tracks=3)
    crowd = [box(100.0 * i, 0) for i in range(5)]
    assert follow(tracker, crowd, crowd)[1] == [1, 2, 3, 0, 0]
    assert len(tracker) == 3


@settings(max_examples=200)
@given(scene=scenes)
def test_ids_are_unique_in_a_frame_never_reused_and_of_one_label(
    scene: list[list[tuple[str, Box]]],
) -> None:
    tracker = Tracker(max_age_us=3 * FRAME_US, max_tracks=8)
    labels: dict[int, str] = {}
    last: dict[int, int] = {}
    for number, found in enumerate(scene):
        keys, places = [key for key, _ in found], [place for _, place in found]
        ids = tracker.update(keys, places, number * FRAME_US)
        real = [identity for identity in ids if identity]
        assert len(ids) == len(found)
        assert len(set(real)) == len(real)
        assert len(tracker) <= 8
        for key, identity in zip(keys, ids, strict=True):
            if identity:
                assert labels.setdefault(identity, key) == key
                assert number - last.get(identity, number) <= 3
                last[identity] = number
    assert sorted(labels) == list(range(1, len(labels) + 1))
