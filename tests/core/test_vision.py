from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core.vision import (
    Fit,
    fit_region,
    overlaps,
    quantise_px,
    quantise_score,
    suppress,
)

Kind = Literal["stretch", "letterbox", "crop"]
sides = st.integers(1, 2000)
kinds: st.SearchStrategy[Kind] = st.sampled_from(["stretch", "letterbox", "crop"])
regions = st.tuples(st.integers(0, 500), st.integers(0, 500), sides, sides)
sizes = st.tuples(st.integers(8, 640), st.integers(8, 640))


@given(kind=kinds, region=regions, size=sizes, at=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_a_point_of_the_source_comes_back(
    kind: Kind, region: tuple[int, int, int, int], size: tuple[int, int], at: tuple[float, float]
) -> None:
    fit = fit_region(kind, region, size)
    point = np.asarray(fit.source[:2]) + np.asarray(at) * np.asarray(fit.source[2:])
    inside = fit.to_input(point)
    assert np.allclose(fit.to_frame(inside), point, atol=1e-6)
    low, high = np.asarray(fit.target[:2]), np.add(fit.target[:2], fit.target[2:])
    assert (inside >= low - 1e-6).all()
    assert (inside <= high + 1e-6).all()


@given(kind=kinds, region=regions, size=sizes)
def test_a_fit_stays_within_region_and_input(
    kind: Kind, region: tuple[int, int, int, int], size: tuple[int, int]
) -> None:
    fit = fit_region(kind, region, size)
    for inner, outer in ((fit.source, region), (fit.target, (0, 0, *size))):
        for axis in (0, 1):
            assert inner[axis] >= outer[axis]
            assert inner[axis] + inner[axis + 2] <= outer[axis] + outer[axis + 2]
            assert inner[axis + 2] >= 1


@given(region=regions, size=sizes)
def test_letterbox_keeps_the_aspect_within_a_pixel(
    region: tuple[int, int, int, int], size: tuple[int, int]
) -> None:
    fit = fit_region("letterbox", region, size)
    scale = min(size[0] / region[2], size[1] / region[3])
    for axis in (2, 3):
        assert abs(fit.target[axis] - region[axis] * scale) <= 1


@given(kind=kinds, region=regions, size=sizes, raster=st.sampled_from([1, 2, 4]))
def test_a_raster_lies_where_its_input_pixels_lie(
    kind: Kind, region: tuple[int, int, int, int], size: tuple[int, int], raster: int
) -> None:
    fit = fit_region(kind, region, size)
    width, height = max(1, size[0] // raster), max(1, size[1] // raster)
    grid = fit.grid(width, height)
    for point in ((0, 0), (width, height), (width / 3, height / 2)):
        by_input = fit.to_frame(np.asarray(point) * np.asarray(size) / (width, height))
        by_grid = np.asarray(point) * grid.scale + grid.offset
        assert np.allclose(by_input, by_grid, atol=1e-6)
    x0, y0, x1, y1 = grid.window
    assert 0 <= x0 < x1 <= width
    assert 0 <= y0 < y1 <= height


def test_letterbox_pads_both_sides() -> None:
    fit = fit_region("letterbox", (10, 20, 640, 480), (320, 320))
    assert fit == Fit((10, 20, 640, 480), (0, 40, 320, 240), (320, 320))


def test_crop_takes_the_middle() -> None:
    fit = fit_region("crop", (0, 0, 640, 480), (320, 320))
    assert fit == Fit((80, 0, 480, 480), (0, 0, 320, 320), (320, 320))


def test_an_empty_region_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="empty"):
        fit_region("stretch", (0, 0, 0, 5), (8, 8))


def test_boxes_are_clipped_to_what_the_model_saw() -> None:
    fit = fit_region("letterbox", (100, 0, 640, 480), (320, 320))
    assert fit.box_to_frame((-9.0, 0.0, 400.0, 300.0)) == (100.0, 0.0, 740.0, 480.0)


def test_overlap_of_equal_half_and_apart() -> None:
    box = np.asarray([0.0, 0.0, 2.0, 2.0])
    others = np.asarray([[0, 0, 2, 2], [0, 0, 2, 1], [5, 5, 6, 6], [1, 1, 1, 1]], np.float64)
    assert overlaps(box, others).tolist() == [1.0, 0.5, 0.0, 0.0]


def test_overlap_of_two_empty_boxes_is_none() -> None:
    empty = np.zeros((1, 4))
    assert overlaps(empty[0], empty).tolist() == [0.0]


def test_doubles_go_and_other_classes_stay() -> None:
    boxes = np.asarray([[0, 0, 10, 10], [1, 0, 11, 10], [0, 0, 10, 10], [50, 50, 60, 60]], float)
    scores, classes = np.asarray([0.5, 0.9, 0.8, 0.1]), np.asarray([0, 0, 1, 0])
    kept, cut = suppress(boxes, scores, classes, iou=0.5, keep=100)
    assert kept.tolist() == [1, 2, 3]
    assert not cut


@pytest.mark.parametrize(("count", "keep"), [(5, 3), (1500, 5000)])
def test_suppression_is_bounded_and_says_so(count: int, keep: int) -> None:
    corners = np.arange(count, dtype=float)[:, None] * 20
    boxes = np.concatenate([corners, corners, corners + 10, corners + 10], axis=1)
    kept, cut = suppress(boxes, np.linspace(1, 0, count), np.zeros(count, int), iou=0.5, keep=keep)
    assert kept.tolist() == list(range(min(keep, 1000)))
    assert cut


@given(
    boxes=st.lists(st.tuples(*[st.integers(0, 60)] * 4), max_size=40),
    iou=st.floats(0.1, 0.9),
)
def test_what_is_kept_does_not_overlap(boxes: list[tuple[int, int, int, int]], iou: float) -> None:
    corners = np.asarray([(x, y, x + w + 1, y + h + 1) for x, y, w, h in boxes], float)
    corners = corners.reshape(-1, 4)
    scores = np.linspace(1, 0.5, len(boxes))
    kept, _ = suppress(corners, scores, np.zeros(len(boxes), int), iou=iou, keep=100)
    for index, one in enumerate(kept):
        assert (overlaps(corners[one], corners[kept[:index]]) <= iou).all()
    assert bool(kept.size) == bool(boxes)


def test_quantising_leaves_no_minus_zero() -> None:
    assert str(quantise_px(-0.01)) == "0.0"
    assert quantise_px(12.3456) == 12.3
    assert quantise_score(0.123456) == 0.1235
    assert quantise_score(1.00001) == 1.0
