"""A detector of about 5 ms on one core, made on the spot with random weights: two findings a frame.

What it says does not depend on the picture, so every frame costs the same; the picture goes through
all of its layers all the same.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

NAME, VERSION = "bench-det", "1.0.0"
SIZE = 320
ROWS = 100  # candidates; two are over the threshold
LAYERS = ((3, 16, 2), (16, 32, 2), (32, 48, 2), (48, 64, 1), (64, 64, 1), (64, 96, 2), (96, 96, 1))

MANIFEST = f"""\
schema = 1
name = "{NAME}"
version = "{VERSION}"
licence = "Apache-2.0"
intended_use = "bench"

[input]
name = "image"
size = [{SIZE}, {SIZE}]
channels = 3
order = "bgr"
layout = "nhwc"
fit = "stretch"

[[heads]]
name = "finding"
task = "detection"
decoder = "boxes"
outputs = ["boxes", "scores", "classes"]
threshold = 0.5
nms_iou = 0.5
labels = [{{ id = 0, key = "polyp", name = "Polyp" }}]

[[variants]]
name = "fp32"
file = "model.onnx"
"""


def write_detector(root: Path) -> None:
    """<root>/bench-det/1.0.0, a whole package."""
    folder = root / NAME / VERSION
    folder.mkdir(parents=True)
    (folder / "manifest.toml").write_text(MANIFEST)
    (folder / "model.onnx").write_bytes(_network().SerializeToString())
    np.savez(folder / "golden.npz", input_0=np.zeros((1, SIZE, SIZE, 3), np.uint8))


BIG_NAME = "bench-big"
BIG_SIDE = 64
BIG_WIDTHS = (BIG_SIDE * BIG_SIDE, 2048, 2048, 1280)  # 1x1 products: 60 MB of weights, few sums


def write_big(root: Path, version: str, seed: int) -> Path:
    """<root>/bench-big/<version>: 60 MB of weights; versions differ in all of them."""
    folder = root / BIG_NAME / version
    folder.mkdir(parents=True)
    manifest = MANIFEST.replace(NAME, BIG_NAME).replace(VERSION, version)
    manifest = manifest.replace(f"[{SIZE}, {SIZE}]", f"[{BIG_SIDE}, {BIG_SIDE}]")
    manifest = manifest.replace("channels = 3", "channels = 1").replace('"bgr"', '"gray"')
    (folder / "manifest.toml").write_text(manifest)
    (folder / "model.onnx").write_bytes(_big_network(seed).SerializeToString())
    np.savez(folder / "golden.npz", input_0=np.zeros((1, BIG_SIDE, BIG_SIDE, 1), np.uint8))
    return folder


def _big_network(seed: int) -> Any:
    rng = np.random.default_rng(seed)
    shape = np.asarray([1, BIG_WIDTHS[0], 1, 1], np.int64)
    consts: dict[str, NDArray[Any]] = {"to_unit": np.float32(1 / 255), "column": shape}
    nodes = [
        helper.make_node("Cast", ["image"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["cast", "to_unit"], ["unit"]),
        helper.make_node("Reshape", ["unit", "column"], ["x0"]),
    ]
    for index, (before, after) in enumerate(pairwise(BIG_WIDTHS)):
        weights = rng.standard_normal((after, before, 1, 1), np.float32) * (2 / before) ** 0.5
        consts[f"w{index}"] = weights.astype(np.float32)
        nodes += [
            helper.make_node("Conv", [f"x{index}", f"w{index}"], [f"c{index}"]),
            helper.make_node("Relu", [f"c{index}"], [f"x{index + 1}"]),
        ]
    consts |= _answers(np.random.default_rng(7))
    nodes += _heads(f"x{len(BIG_WIDTHS) - 1}")
    return _model(nodes, consts, [1, BIG_SIDE, BIG_SIDE, 1])


def _network() -> Any:
    rng = np.random.default_rng(7)
    consts: dict[str, NDArray[Any]] = {"to_unit": np.float32(1 / 255)}
    nodes = [
        helper.make_node("Cast", ["image"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["cast"], ["chw"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["chw", "to_unit"], ["x0"]),
    ]
    for index, (before, after, stride) in enumerate(LAYERS):
        weights = rng.standard_normal((after, before, 3, 3)) * (2 / (before * 9)) ** 0.5
        consts[f"w{index}"] = weights.astype(np.float32)
        nodes += [
            helper.make_node(
                "Conv", [f"x{index}", f"w{index}"], [f"c{index}"],
                strides=[stride, stride], pads=[1, 1, 1, 1], kernel_shape=[3, 3],
            ),
            helper.make_node("Relu", [f"c{index}"], [f"x{index + 1}"]),
        ]  # fmt: skip
    consts |= _answers(rng)
    nodes += _heads(f"x{len(LAYERS)}")
    return _model(nodes, consts, [1, SIZE, SIZE, 3])


def _model(nodes: list[Any], consts: dict[str, NDArray[Any]], shape: list[int]) -> Any:
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, shape)],
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, ROWS, 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, ROWS]),
            helper.make_tensor_value_info("classes", TensorProto.FLOAT, [1, ROWS]),
        ],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in consts.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 10
    onnx.checker.check_model(model)
    return model


def _answers(rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    """What the heads say; the network's own answer is added a millionth strong."""
    scores = rng.uniform(0.0, 0.2, (1, ROWS))
    scores[0, :2] = 0.91, 0.83
    corners = rng.uniform(20, 140, (1, ROWS, 2))
    boxes = np.concatenate((corners, corners + 60), axis=2)
    boxes[0, 1] += 100
    return {
        "shape": np.asarray([1, 1, 1], np.int64),
        "flat": np.asarray([1, 1], np.int64),
        "whisper": np.float32(1e-6),
        "say_boxes": boxes.astype(np.float32),
        "say_scores": scores.astype(np.float32),
        "say_classes": np.zeros((1, ROWS), np.float32),
    }


def _heads(last: str) -> list[Any]:
    make = helper.make_node
    return [
        make("GlobalAveragePool", [last], ["pooled"]),
        make("ReduceMean", ["pooled"], ["mean"], keepdims=0),
        make("Mul", ["mean", "whisper"], ["low"]),
        make("Reshape", ["low", "shape"], ["low3"]),
        make("Reshape", ["low", "flat"], ["low2"]),
        make("Add", ["say_boxes", "low3"], ["boxes"]),
        make("Add", ["say_scores", "low2"], ["scores"]),
        make("Mul", ["say_classes", "low2"], ["classes"]),
    ]
