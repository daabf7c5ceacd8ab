from __future__ import annotations

import tracemalloc
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_agent.backends.fill import Filler
from edge_agent.core.manifest import InputSpec
from edge_agent.core.vision import fit_region
from tests.backends import graphs

BGR = (10, 120, 230)
GRAY = 140  # of BGR, by the weights of BT.601
Order = Any


def filled(spec: InputSpec, pixels: NDArray[np.uint8], roi: Any = None) -> NDArray[np.uint8]:
    width, height = spec.size
    shape = (1, height, width, spec.channels)
    bound = np.full(shape if spec.layout == "nhwc" else (1, *shape[3:], *shape[1:3]), 99, np.uint8)
    roi = roi or (0, 0, pixels.shape[1], pixels.shape[0])
    Filler(spec, bound).fill(graphs.frame(pixels), roi)
    return bound


def spec_of(order: Order, layout: Any = "nhwc", **more: Any) -> InputSpec:
    fields = {"size": (16, 12), "fit": "stretch"} | more
    return InputSpec(
        name="x", channels=1 if order == "gray" else 3, order=order, layout=layout, **fields
    )


def colour(height: int = 24, width: int = 32) -> NDArray[np.uint8]:
    return np.full((height, width, 3), BGR, np.uint8)


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
@pytest.mark.parametrize(
    ("order", "expected"), [("bgr", BGR), ("rgb", BGR[::-1]), ("gray", (GRAY,))]
)
def test_colours_come_in_the_order_of_the_manifest(
    order: Order, expected: tuple[int, ...], layout: Any
) -> None:
    bound = filled(spec_of(order, layout), colour())
    planes = bound[0] if layout == "nchw" else bound[0].transpose(2, 0, 1)
    assert [set(plane.ravel().tolist()) for plane in planes] == [{v} for v in expected]


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
@pytest.mark.parametrize("order", ["bgr", "rgb", "gray"])
def test_a_gray_frame_fills_every_channel(order: Order, layout: Any) -> None:
    assert (filled(spec_of(order, layout), np.full((24, 32), 55, np.uint8)) == 55).all()


@pytest.mark.parametrize("order", ["bgr", "rgb", "gray"])
@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_letterbox_pads_above_and_below(order: Order, layout: Any) -> None:
    spec = spec_of(order, layout, size=(16, 16), fit="letterbox", pad=7)
    bound = filled(spec, np.full((20, 40), 200, np.uint8))
    rows = bound[0].min(axis=(0, 2) if layout == "nchw" else (1, 2))
    assert rows.tolist() == [7] * 4 + [200] * 8 + [7] * 4


def test_padding_is_written_again_when_the_geometry_changes() -> None:
    bound = np.zeros((1, 16, 16, 1), np.uint8)
    filler = Filler(spec_of("gray", size=(16, 16), fit="letterbox", pad=7), bound)
    for shape, padded in (((20, 40), 8 * 16), ((40, 20), 8 * 16), ((20, 20), 0), ((20, 40), 128)):
        filler.fill(graphs.frame(np.full(shape, 200, np.uint8)), (0, 0, shape[1], shape[0]))
        assert int((bound == 7).sum()) == padded
        assert int((bound == 200).sum()) == 256 - padded


def test_only_the_region_is_looked_at() -> None:
    pixels = np.zeros((24, 32), np.uint8)
    pixels[4:12, 8:24] = 255
    assert (filled(spec_of("gray"), pixels, (8, 4, 16, 8)) == 255).all()


def test_crop_takes_the_middle() -> None:
    pixels = np.zeros((24, 48), np.uint8)
    pixels[:, 12:36] = 255
    assert (filled(spec_of("gray", size=(12, 12), fit="crop"), pixels) == 255).all()


@pytest.mark.parametrize("size", [(192, 192), (320, 240), (100, 37), (700, 500)])
@pytest.mark.parametrize("shape", [(480, 640), (479, 639), (1080, 1920), (481, 640, 3)])
def test_shrinking_averages_like_an_area_filter(
    size: tuple[int, int], shape: tuple[int, ...]
) -> None:
    """Fine noise has to vanish as it shrinks, not turn into other noise."""
    pixels = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    order = "bgr" if len(shape) == 3 else "gray"
    ours = filled(spec_of(order, size=size), pixels)[0].astype(float)
    area = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(float)
    linear = cv2.resize(pixels, size).astype(float)
    assert abs(ours.mean() - area.mean()) < 1
    if size[0] * 2 < shape[1]:
        assert abs(ours.std() - area.std()) < 0.45 * (linear.std() - area.std())


def test_a_gradient_keeps_its_place_when_it_shrinks() -> None:
    ramp = np.tile(np.linspace(0, 255, 1000), (600, 1)).astype(np.uint8)
    bound = filled(spec_of("gray", size=(64, 48)), ramp)[0, :, :, 0].astype(float)
    expected = (np.arange(64) + 0.5) / 64 * 255
    assert np.abs(bound - expected).max() < 2


@given(
    shape=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    fit=st.sampled_from(["stretch", "letterbox", "crop"]),
    layout=st.sampled_from(["nhwc", "nchw"]),
    order=st.sampled_from(["gray", "rgb", "bgr"]),
)
def test_any_frame_fills_exactly_its_target(
    shape: tuple[int, int], size: tuple[int, int], fit: Any, layout: Any, order: Any
) -> None:
    bound = filled(spec_of(order, layout, size=size, fit=fit, pad=3), np.full(shape, 200, np.uint8))
    target = fit_region(fit, (0, 0, shape[1], shape[0]), size).target
    channels = 1 if order == "gray" else 3
    assert int((bound == 200).sum()) == target[2] * target[3] * channels
    assert int((bound == 3).sum()) == bound.size - target[2] * target[3] * channels


@pytest.mark.parametrize("order", ["bgr", "rgb", "gray"])
@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_a_frame_allocates_nothing_that_stays(order: Order, layout: Any) -> None:
    spec = spec_of(order, layout, size=(64, 48))
    bound = np.zeros((1, 48, 64, spec.channels), np.uint8)
    if layout == "nchw":
        bound = bound.transpose(0, 3, 1, 2).copy()
    filler, frame = Filler(spec, bound), graphs.frame(colour(480, 640))
    filler.fill(frame, (0, 0, 640, 480))
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _ in range(20):
            filler.fill(frame, (0, 0, 640, 480))
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert now - before < 2048
    assert peak - before < 4096  # views, no pixels
