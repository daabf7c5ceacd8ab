"""Whatever scale, mean, deviation, order and layout a model wants: the graph does as numpy does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edge_agent.core.errors import Rejected
from tests.packing.foreign import finish
from tools.hot_tier.packing.opset import lower
from tools.hot_tier.packing.outputs import keep_outputs
from tools.hot_tier.packing.sessions import by_hand
from tools.hot_tier.packing.shaping import settle
from tools.hot_tier.packing.wish import Asked, read_wish
from tools.hot_tier.packing.wrapping import wrap

WIDE, HIGH = 7, 5
KINDS = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "float64": TensorProto.DOUBLE,
}
MANIFEST = """\
name = "echo"
version = "1.0.0"
licence = "Apache-2.0"
intended_use = "tests"
[input]
name = "{name}"
size = [{width}, {height}]
order = "{package_order}"
layout = "{package_layout}"
[foreign]
scale = {scale}
mean = {mean}
std = {std}
order = "{order}"
layout = "{layout}"
[[heads]]
name = "h"
task = "segmentation"
decoder = "mask_sigmoid"
outputs = ["y"]
"""
numbers = st.floats(-300, 300, allow_nan=False, width=32)
deviations = st.floats(1 / 64, 300, allow_nan=False, width=32)


@st.composite
def wishes(draw: st.DrawFn) -> dict[str, Any]:
    order = draw(st.sampled_from(["rgb", "bgr", "gray"]))
    channels = 1 if order == "gray" else 3
    package_order = draw(st.sampled_from(["rgb", "bgr", "gray"])) if channels == 3 else "gray"
    counts = st.sampled_from([1, channels])
    return {
        "order": order,
        "package_order": package_order,
        "layout": draw(st.sampled_from(["nchw", "nhwc"])),
        "package_layout": draw(st.sampled_from(["nchw", "nhwc"])),
        "scale": draw(st.sampled_from(['"1/255"', '"2/255"', "1.0", "0.0078125", "3.5"])),
        "mean": draw(counts.flatmap(lambda n: st.lists(numbers, min_size=n, max_size=n))),
        "std": draw(counts.flatmap(lambda n: st.lists(deviations, min_size=n, max_size=n))),
        "kind": draw(st.sampled_from(sorted(KINDS))),
        "name": draw(st.sampled_from(["x", "image"])),
        "opset": draw(st.sampled_from([9, 11, 13, 17, 19, 21])),
    }


def echo(wish: dict[str, Any]) -> Any:
    """Its output is its input, so that what the graph made of the pixels can be looked at."""
    channels: int = 1 if wish["order"] == "gray" else 3
    shape: list[int | str | None] = ["n", channels, HIGH, "w"]
    if wish["layout"] == "nhwc":
        shape = ["n", HIGH, "w", channels]
    kind = KINDS[wish["kind"]]
    return finish(
        [helper.make_node("Identity", ["x"], ["y"])],
        [("x", kind, shape)],
        [("y", kind, shape)],
        {},
        opset=wish["opset"],
    )


def asked(folder: Path, wish: dict[str, Any]) -> Asked:
    path = folder / "m.toml"
    path.write_text(MANIFEST.format(width=WIDE, height=HIGH, **wish))
    return read_wish(path)


def reference(picture: NDArray[np.uint8], wish: dict[str, Any]) -> NDArray[np.float64]:
    """picture: HxWx3 BGR, or HxW gray where the package takes gray. Slow, and in double."""
    scale = {'"1/255"': 1 / 255, '"2/255"': 2 / 255}.get(wish["scale"]) or float(wish["scale"])
    channels = 1 if wish["order"] == "gray" else 3
    result = np.zeros((channels, HIGH, WIDE))
    for channel in range(channels):
        if picture.ndim == 2:
            plane = picture
        else:
            plane = picture[..., channel if wish["order"] == "bgr" else 2 - channel]
        mean = wish["mean"][channel % len(wish["mean"])]
        std = wish["std"][channel % len(wish["std"])]
        result[channel] = (plane.astype(np.float64) * scale - mean) / std
    return result[None] if wish["layout"] == "nchw" else result.transpose(1, 2, 0)[None]


def as_fed(picture: NDArray[np.uint8], wish: dict[str, Any]) -> NDArray[np.uint8]:
    """As the agent fills the package's input."""
    planes: NDArray[Any] = picture[..., None] if picture.ndim == 2 else picture
    if wish["package_order"] == "rgb":
        planes = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
    turned = planes if wish["package_layout"] == "nhwc" else planes.transpose(2, 0, 1)
    return np.ascontiguousarray(turned[None])


@settings(max_examples=60, deadline=None)
@given(wish=wishes(), seed=st.integers(0, 1 << 30))
def test_the_graph_makes_of_pixels_what_numpy_makes_of_them(
    tmp_path_factory: pytest.TempPathFactory, wish: dict[str, Any], seed: int
) -> None:
    read = asked(tmp_path_factory.getbasetemp(), wish).wish
    model = echo(wish)
    picture = settle(model, read, [])
    keep_outputs(model, read, [])
    model = lower(model, [])
    wrap(model, picture, read.foreign, [])
    shape = (HIGH, WIDE) if wish["package_order"] == "gray" else (HIGH, WIDE, 3)
    pixels = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    fed = as_fed(pixels, wish)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options)
    (said,) = session.run(None, {wish["name"]: fed})
    wanted = reference(pixels, wish)
    assert said.shape == wanted.shape
    assert said.dtype == np.dtype(wish["kind"])
    size = max(1.0, float(np.abs(wanted).max()), 300 / min(wish["std"]))
    precision = 1e-3 if wish["kind"] == "float16" else 1e-6
    if size < 60_000:
        assert np.abs(said.astype(np.float64) - wanted).max() <= precision * size
        hand = by_hand(fed, picture, read.foreign)
        assert hand.dtype == said.dtype
        assert np.abs(hand.astype(np.float64) - wanted).max() <= precision * size


def test_the_picture_stays_one_byte_a_value_until_it_is_in_order(tmp_path: Path) -> None:
    wish: dict[str, Any] = {
        "order": "bgr", "package_order": "rgb", "layout": "nchw", "package_layout": "nhwc",
        "scale": "1.0", "mean": [0.0], "std": [1.0], "kind": "float32", "name": "x", "opset": 17,
    }  # fmt: skip
    read = asked(tmp_path, wish).wish
    model = echo(wish)
    picture = settle(model, read, [])
    did: list[str] = []
    wrap(model, picture, read.foreign, did)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds == ["Gather", "Transpose", "Cast", "Identity"], "no product by 1, no sum with 0"
    assert did == ["input x float32 nchw bgr -> x uint8 nhwc rgb, times 1 plus 0"]


@pytest.mark.parametrize("key", ["mean", "std"])
def test_two_numbers_for_three_channels_are_refused(tmp_path: Path, key: str) -> None:
    wish: dict[str, Any] = {
        "order": "rgb", "package_order": "rgb", "layout": "nchw", "package_layout": "nhwc",
        "scale": "1.0", "mean": [0.0], "std": [1.0], "name": "x",
    }  # fmt: skip
    with pytest.raises(Rejected, match=f"foreign.{key} — wrong value .*got 2"):
        asked(tmp_path, wish | {key: [1.0, 2.0]})
