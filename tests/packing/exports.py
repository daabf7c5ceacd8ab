"""Exports of detectors as their projects write them, made to say what a test wants them to say.

Each is an array worked out here from boxes in px; the graph around it says the same whatever it is
shown, so that shapes, axes and columns are all that differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.packing.desk import SCALED
from tests.packing.foreign import above

SIDE = 320
CELLS = 40 * 40 + 20 * 20 + 10 * 10
TASKS = {"probs": "classification", "heatmaps": "keypoints"}


class Found(NamedTuple):
    """A box in px of the input, its score, its class."""

    box: tuple[float, float, float, float]
    score: float
    kind: int


TWO = (Found((60, 80, 140, 200), 0.9, 0), Found((210, 220, 260, 300), 0.7, 1))
ONE = (Found((60, 80, 140, 200), 0.9, 0), Found((210, 220, 260, 300), 0.7, 0))


def centred(box: Sequence[float]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = box
    return (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0


def background(rows: int, columns: int, seed: int = 5) -> NDArray[np.float32]:
    """Boxes all over the picture that nothing is sure of, as a trained net says them."""
    rng = np.random.default_rng(seed)
    table = np.zeros((rows, columns), np.float32)
    table[:, :2] = rng.uniform(0, SIDE, (rows, 2))
    table[:, 2:4] = rng.uniform(4, 120, (rows, 2))
    table[:, 4:] = rng.uniform(0, 0.02, (rows, columns - 4))
    return table


def yolo(found: Sequence[Found], classes: int, rows: int = CELLS) -> NDArray[np.float32]:
    """[1, 4 + C, N]: Ultralytics v8, nms=False."""
    table = background(rows, 4 + classes)
    for index, (box, score, kind) in enumerate(found):
        table[7 + 40 * index, :4] = centred(box)
        table[7 + 40 * index, 4 + kind] = score
    return np.ascontiguousarray(table.T[None])


def objectness(found: Sequence[Found], classes: int, rows: int = 3 * CELLS) -> NDArray[np.float32]:
    """[1, N, 5 + C]: YOLOv5."""
    table = background(rows, 5 + classes)
    table[:, 5:] = np.random.default_rng(6).uniform(0, 1, (rows, classes))  # of no object: anything
    for index, (box, score, kind) in enumerate(found):
        row = table[7 + 40 * index]
        row[:4], row[4], row[5:], row[5 + kind] = centred(box), 0.95, 0.02, score / 0.95
    return table[None]


def yolox(found: Sequence[Found], classes: int) -> NDArray[np.float32]:
    """[1, N, 5 + C] in cells of strides 8, 16, 32, as its head is written."""
    rng = np.random.default_rng(8)
    table = rng.normal(0.5, 0.6, (CELLS, 5 + classes)).astype(np.float32)
    table[:, 4:] = rng.uniform(0, 0.05, (CELLS, 1 + classes))
    start = 0
    for index, stride in enumerate((8, 16, 32)):
        wide = SIDE // stride
        if index < len(found):
            box, score, kind = found[index]
            x, y, width, height = centred(box)
            column, line = int(x // stride), int(y // stride)
            row = table[start + line * wide + column]
            row[:2] = x / stride - column, y / stride - line
            row[2:4] = np.log(width / stride), np.log(height / stride)
            row[4], row[5 + kind] = 0.95, score / 0.95
        start += wide * wide
    return table[None]


def end_to_end(
    found: Sequence[Found], rows: int = 300, filling: float = 0.0
) -> NDArray[np.float32]:
    """[1, N, 6]: x0 y0 x1 y1 score class, best first."""
    table = np.full((rows, 6), filling, np.float32)
    ranked = sorted(found, key=lambda one: -one.score)
    for index, (box, score, kind) in enumerate(ranked):
        table[index] = (*box, score, kind)
    return table[None]


ORDERS = {
    "yolov7": ("batch", "x0", "y0", "x1", "y1", "class", "score"),
    "paddle": ("class", "score", "x0", "y0", "x1", "y1"),
    "ssd": ("batch", "class", "score", "x0", "y0", "x1", "y1"),
    "torch": ("x0", "y0", "x1", "y1", "class", "score"),
}


def suppressed(found: Sequence[Found], order: str = "yolov7") -> NDArray[np.float32]:
    """[N, 6 or 7] in the order of its project."""
    rows = []
    for box, score, kind in found:
        values = {"batch": 0.0, "score": score, "class": float(kind)}
        values |= dict(zip(("x0", "y0", "x1", "y1"), box, strict=True))
        rows.append([values[one] for one in ORDERS[order]])
    return np.array(rows, np.float32)


def model(*arrays: NDArray[Any], names: Sequence[str] = ("y", "y2", "y3")) -> Any:
    """Says these, with nothing of the picture but 0 times its mean."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "nought"], ["none"]),
    ]
    weights = [numpy_helper.from_array(np.float32(0), "nought")]
    ports = []
    for name, array in zip(names, arrays, strict=False):
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        weights.append(numpy_helper.from_array(array, f"{name}_is"))
        nodes.append(helper.make_node("Cast", ["none"], [f"{name}_none"], to=kind))
        nodes.append(helper.make_node("Add", [f"{name}_is", f"{name}_none"], [name]))
        ports.append(helper.make_tensor_value_info(name, kind, array.shape))
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", 3, SIDE, SIDE])
    graph = helper.make_graph(nodes, "export", [given], ports, weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 9
    return made


def manifest(decoder: str, labels: int = 2, outputs: int = 1, more: str = "") -> str:
    names = ", ".join(f'"{name}"' for name in ("y", "y2", "y3")[:outputs])
    keys = ", ".join(f'{{ id = {index}, key = "k{index}" }}' for index in range(labels))
    task = TASKS.get(decoder, "segmentation" if decoder.startswith("mask") else "detection")
    return (
        above("export") + SCALED + f'[[heads]]\nname = "h"\ntask = "{task}"\ndecoder = "{decoder}"'
        f"\noutputs = [{names}]\nthreshold = 0.25\nlabels = [{keys}]\n{more}"
    )


def flat_frame(folder: Path) -> Path:
    folder.mkdir()
    cv2.imwrite(str(folder / "0.png"), np.full((SIDE, SIDE, 3), 160, np.uint8))
    return folder
