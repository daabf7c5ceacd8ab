"""Detectors that see: squares of 32 px of the input, by their colour, with the heads of their kind.

Each cell of the grids of strides 8, 16 and 32 says how red and how green it is; only cells of
stride 32 are sure of it. What differs is the head: what a row is, and what the graph does with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from tests.packing.foreign import Net

SIDE = 320
STRIDES = (8, 16, 32)
CELLS = sum((SIDE // stride) ** 2 for stride in STRIDES)


def centres() -> NDArray[np.float32]:
    """[N, 4] cx cy w h in px of each cell."""
    rows = []
    for stride in STRIDES:
        for y in range(SIDE // stride):
            rows += [
                (x * stride + stride / 2, y * stride + stride / 2, stride, stride)
                for x in range(SIDE // stride)
            ]
    return np.array(rows, np.float32)


def surely() -> NDArray[np.float32]:
    """[1, 1, N]: how sure a cell is of its colour."""
    counts = [(SIDE // stride) ** 2 for stride in STRIDES]
    return np.repeat(np.array([0.1, 0.1, 1.0], np.float32), counts)[None, None]


def colours(net: Net) -> str:
    """[b, 2, N]: red and green of each cell, 0 to 1."""
    levels = []
    for stride in STRIDES:
        pooled = net.add("AveragePool", "x", kernel_shape=[stride] * 2, strides=[stride] * 2)
        levels.append(net.add("Reshape", pooled, net.const([0, 3, -1], np.int64)))
    both = net.add("Concat", *levels, axis=2)
    ends = [net.const([one], np.int64) for one in (0, 2, 1)]
    return net.add("Mul", net.add("Slice", both, *ends), net.const(surely()))


def turned(net: Net, rows: str, out: str = "") -> str:
    return net.add("Transpose", rows, perm=[0, 2, 1], out=out)


def boxes_of(net: Net, scores: str, boxes: NDArray[Any]) -> str:
    """[b, N, 4] of the batch that came."""
    none = net.add("Mul", turned(net, scores), net.const(0.0))
    first = net.add("Slice", none, *(net.const([one], np.int64) for one in (0, 1, 2)))
    return net.add("Add", net.const(boxes[None]), first)


def rows(net: Net, boxes: NDArray[Any], *, has_objectness: bool, times: int = 1) -> str:
    """[b, N * times, 4 or 5 + 2]; only the first of the anchors of a cell is sure."""
    scores = colours(net)
    places, classes = boxes_of(net, scores, boxes), turned(net, scores)
    if not has_objectness:
        return net.add("Concat", places, classes, axis=2)
    best = net.add("ReduceMax", classes, axes=[2], keepdims=1)
    sure = net.add("Add", best, net.const(1e-6))
    shares = net.add("Div", classes, sure)
    anchors = []
    for index in range(times):
        here = sure if index == 0 else net.add("Mul", sure, net.const(0.1))
        anchors.append(net.add("Concat", places, here, shares, axis=2))
    return anchors[0] if times == 1 else net.add("Concat", *anchors, axis=1)


def v8(net: Net) -> tuple[list[Any], str]:
    turned(net, rows(net, centres(), has_objectness=False), out="y")
    return ["b", 6, CELLS], "yolo"


def v5(net: Net) -> tuple[list[Any], str]:
    net.add("Identity", rows(net, centres(), has_objectness=True, times=3), out="y")
    return ["b", 3 * CELLS, 7], "yolo_objectness"


def yolox(net: Net) -> tuple[list[Any], str]:
    """In the middle of its cell, as large as it."""
    raw = np.tile(np.array([0.5, 0.5, 0, 0], np.float32), (CELLS, 1))
    net.add("Identity", rows(net, raw, has_objectness=True), out="y")
    return ["b", CELLS, 7], "yolox"


def corners() -> NDArray[np.float32]:
    middle = centres()
    return np.concatenate(
        (middle[:, :2] - middle[:, 2:] / 2, middle[:, :2] + middle[:, 2:] / 2), axis=1
    )


def v10(net: Net) -> tuple[list[Any], str]:
    """The best 300 of all, end to end."""
    scores = turned(net, colours(net))
    best = net.add("ReduceMax", scores, axes=[2], keepdims=0)
    kind = net.add("Cast", net.add("ArgMax", scores, axis=2, keepdims=0), to=TensorProto.FLOAT)
    names = ["top", "where"]
    net.nodes.append(helper.make_node("TopK", [best, net.const([300], np.int64)], names, axis=1))
    flat = net.add("Reshape", "where", net.const([-1], np.int64))
    places = net.add("Gather", net.const(corners()), flat, axis=0)
    places = net.add("Reshape", places, net.const([1, 300, 4], np.int64))
    chosen = net.add("GatherElements", kind, "where", axis=1)
    columns = [net.add("Unsqueeze", one, net.const([2], np.int64)) for one in ("top", chosen)]
    net.add("Concat", places, *columns, out="y", axis=2)
    return [1, 300, 6], "yolo_e2e"


def v7(net: Net) -> tuple[list[Any], str]:
    """Suppressed in the graph: as many rows as there are."""
    scores = colours(net)
    chosen = net.add(
        "NonMaxSuppression", net.const(corners()[None]), scores,
        net.const([20], np.int64), net.const([0.5]), net.const([0.2]),
    )  # fmt: skip
    along = net.const([1], np.int64)
    first, kind, where = (
        net.add("Slice", chosen, *(net.const([one], np.int64) for one in (at, at + 1, 1)))
        for at in range(3)
    )
    places = net.add("Gather", net.const(corners()), net.add("Squeeze", where, along), axis=0)
    sure = net.add("GatherND", scores, chosen)
    sure = net.add("Unsqueeze", sure, along)
    numbers = [net.add("Cast", one, to=TensorProto.FLOAT) for one in (first, kind)]
    net.add("Concat", numbers[0], places, numbers[1], sure, out="y", axis=1)
    return ["found", 7], "nms"


NETS: dict[str, Callable[[Net], tuple[list[Any], str]]] = {
    "v8": v8, "v5": v5, "yolox": yolox, "v10": v10, "v7": v7,
}  # fmt: skip


def make(name: str) -> tuple[Any, str]:
    """The file and the decoder that reads it."""
    net = Net(1)
    shape, decoder = NETS[name](net)
    batch = 1 if name in {"v10", "v7"} else "b"
    made = net.model(
        [("x", TensorProto.FLOAT, [batch, 3, SIDE, SIDE])], [("y", TensorProto.FLOAT, shape)]
    )
    return made, decoder
