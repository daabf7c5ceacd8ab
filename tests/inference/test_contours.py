from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_agent.core.frames import Mask
from edge_agent.core.vision import Fit, Grid, fit_region
from edge_agent.inference.contours import (
    MAX_RING_NUMBERS,
    Blob,
    blobs,
    coarser,
    outline,
    shape_of,
)

Bits = NDArray[np.uint8]
masks = st.integers(0, 2**32 - 1).map(
    lambda seed: (np.random.default_rng(seed).random((12, 14)) < 0.55).astype(np.uint8)
)


def bits(*rows: str) -> Bits:
    return np.asarray([[cell == "#" for cell in row] for row in rows], np.uint8)


def grid_of(mask: Bits, scale: int = 1) -> Grid:
    height, width = mask.shape
    return fit_region("stretch", (0, 0, width * scale, height * scale), (width, height)).grid(
        width, height
    )


def find(mask: Bits, grid: Grid | None = None, **more: Any) -> list[Blob]:
    bounds = {"least_pixels": 1, "limit": 100} | more
    return blobs(mask, grid or grid_of(mask), **bounds)[0]


def area_of(rings: tuple[tuple[int, ...], ...]) -> float:
    """px2: the outer ring without its holes."""
    areas = []
    for ring in rings:
        x, y = np.asarray(ring, float).reshape(-1, 2).T / 8
        areas.append(abs(float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))) / 2)
    return areas[0] - sum(areas[1:])


def painted(rings: tuple[tuple[int, ...], ...], shape: tuple[int, int]) -> Bits:
    """Even-odd at pixel centres: what a reader of the record would draw."""
    ys, xs = np.mgrid[: shape[0], : shape[1]] + 0.5
    inside = np.zeros(shape, bool)
    for ring in rings:
        points = np.asarray(ring, float).reshape(-1, 2) / 8
        for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
            if y0 != y1:
                crosses = (ys > min(y0, y1)) & (ys < max(y0, y1))
                inside ^= crosses & (x0 + (ys - y0) * (x1 - x0) / (y1 - y0) > xs)
    return inside.astype(np.uint8)


def test_touching_corners_are_one_area() -> None:
    assert len(find(bits("#..", ".#.", "..#"))) == 1


def test_areas_come_largest_first_without_the_small_ones() -> None:
    mask = bits("##.#", "....", "####")
    assert [blob.pixels for blob in find(mask)] == [4, 2, 1]
    assert [blob.pixels for blob in find(mask, least_pixels=2)] == [4, 2]
    kept, more = blobs(mask, grid_of(mask), least_pixels=1, limit=2)
    assert ([blob.pixels for blob in kept], more) == ([4, 2], True)


def test_what_lies_in_the_padding_is_not_seen() -> None:
    fit = fit_region("letterbox", (0, 0, 40, 20), (8, 8))
    mask = np.ones((8, 8), np.uint8)
    grid = fit.grid(8, 8)
    (blob,) = find(mask, grid)
    assert blob.pixels == 8 * 4
    rings, _ = outline(blob, grid)
    assert area_of(rings) == pytest.approx(40 * 20)


@pytest.mark.parametrize(
    "mask",
    [
        bits("#"),
        bits("###"),
        bits("...", ".#.", "..."),
        bits("####", "#..#", "####"),
        bits("##...", "##...", "#####"),
    ],
)
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_rings_of_simple_shapes_are_the_mask_itself(mask: Bits, scale: int) -> None:
    grid = grid_of(mask, scale)
    (blob,) = find(mask, grid)
    rings, exact = outline(blob, grid)
    whole = np.kron(mask, np.ones((scale, scale), np.uint8))
    assert exact
    assert (painted(rings, whole.shape) == whole).all()
    assert area_of(rings) == whole.sum()


@given(mask=masks)
def test_exact_is_said_only_where_the_ring_paints_the_mask(mask: Bits) -> None:
    for blob in find(mask):
        rings, exact = outline(blob, grid_of(mask))
        rows, columns = blob.window
        whole = np.zeros_like(mask)
        whole[rows, columns] = blob.inside
        if exact:
            assert (painted(rings, mask.shape) == whole).all()
        assert sum(map(len, rings)) <= MAX_RING_NUMBERS
        points = np.concatenate([np.reshape(ring, (-1, 2)) for ring in rings]) / 8
        assert (points >= 0).all()
        assert (points <= (mask.shape[1], mask.shape[0])).all()


def disc(size: int, *, centre: tuple[float, float], axes: tuple[float, float]) -> Bits:
    ys, xs = np.mgrid[:size, :size] + 0.5
    inside = ((xs - centre[0]) / axes[0]) ** 2 + ((ys - centre[1]) / axes[1]) ** 2 <= 1
    mask: Bits = inside.astype(np.uint8)
    return mask


@pytest.mark.parametrize("scale", [1, 3])
def test_a_simplified_ring_keeps_the_area_and_the_place(scale: int) -> None:
    mask = disc(96, centre=(50, 40), axes=(30, 18))
    grid = grid_of(mask, scale)
    (blob,) = find(mask, grid)
    rings, exact = outline(blob, grid)
    assert not exact
    assert len(rings[0]) < 150
    assert area_of(rings) == pytest.approx(math.pi * 30 * 18 * scale**2, rel=0.01)
    whole = np.kron(mask, np.ones((scale, scale), np.uint8))
    drawn = painted(rings, whole.shape)
    dice = 2 * (drawn & whole).sum() / (drawn.sum() + whole.sum())
    assert dice > 0.98


def test_a_ragged_outline_is_simplified_to_its_bound() -> None:
    rng = np.random.default_rng(3)
    mask = (cv2.GaussianBlur(rng.random((200, 200)), (5, 5), 0) > 0.47).astype(np.uint8)
    blob = find(mask)[0]
    assert blob.pixels > 10_000
    rings, exact = outline(blob, grid_of(mask))
    assert sum(map(len, rings)) <= MAX_RING_NUMBERS
    assert not exact


def test_moments_are_those_of_the_ellipse() -> None:
    grid = fit_region("stretch", (0, 0, 400, 200), (200, 200)).grid(200, 200)
    (blob,) = find(disc(200, centre=(100, 90), axes=(60, 30)), grid)
    shape = shape_of(blob, grid)
    assert shape.area == pytest.approx(math.pi * 120 * 30, rel=0.01)
    assert shape.centre == pytest.approx((200, 90), abs=0.1)
    assert shape.spread == pytest.approx((120**2 / 4, 30**2 / 4, 0), rel=0.02, abs=1)


def test_one_pixel_has_the_moments_of_a_square() -> None:
    mask = bits("...", ".#.", "...")
    shape = shape_of(find(mask)[0], grid_of(mask))
    assert shape.centre == (1.5, 1.5)
    assert shape.spread == pytest.approx((1 / 12, 1 / 12, 0))


def test_rings_lie_in_the_whole_frame() -> None:
    fit = Fit((100, 50, 20, 10), (0, 0, 10, 10), (10, 10))
    grid = fit.grid(10, 10)
    (blob,) = find(np.ones((10, 10), np.uint8), grid)
    rings, _ = outline(blob, grid)
    points = np.reshape(rings[0], (-1, 2)) / 8
    assert points.min(axis=0).tolist() == [100, 50]
    assert points.max(axis=0).tolist() == [120, 60]


def test_a_coarser_mask_has_fewer_points_and_is_no_longer_exact() -> None:
    turns = np.linspace(0, 2 * math.pi, 100, endpoint=False)
    ring = np.rint(np.stack([np.cos(turns), np.sin(turns)], 1) * 400 + 800).astype(int)
    hole = (790, 790, 800, 790, 800, 800)
    mask = Mask(area_px=9, box=(0, 0, 9, 9), rings=(tuple(ring.ravel().tolist()), hole), exact=True)
    fewer = coarser(mask, 2.0)
    assert 6 <= len(fewer.rings[0]) < 60
    assert len(fewer.rings) == 1
    assert not fewer.exact
    assert (fewer.area_px, fewer.box) == (9, (0, 0, 9, 9))
