"""A foreign model that really finds something: the box around everything that is bright."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from onnx import TensorProto

from tests.packing.foreign import Net, above

SIDE = 160
FAR = 10_000.0


def box_finder(side: int = SIDE) -> Any:
    """[1, 3, side, side] of 0 to 1 in; boxes [1, 1, 4] px, scores [1, 1], classes [1, 1]."""
    net = Net()
    bright = net.add("Greater", net.add("ReduceMin", "images", axes=[1]), net.const(0.6))
    bright = net.add("Cast", bright, to=TensorProto.FLOAT)
    steps = net.const(np.arange(side))
    edges: dict[str, list[str]] = {"low": [], "high": []}
    for axes in ([1, 2], [1, 3]):
        seen = net.add("ReduceMax", bright, axes=axes, keepdims=0)
        away = net.add("Mul", net.add("Sub", net.const(1.0), seen), net.const(FAR))
        low = net.add("ReduceMin", net.add("Add", steps, away), axes=[1], keepdims=1)
        high = net.add("ReduceMax", net.add("Sub", steps, away), axes=[1], keepdims=1)
        edges["low"].append(low)
        edges["high"].append(net.add("Add", high, net.const(1.0)))
    flat = net.add("Concat", *edges["low"], *edges["high"], axis=1)
    net.add("Clip", net.add("Reshape", flat, net.const([1, 1, 4], np.int64)),
            net.const(0.0), net.const(float(side)), out="boxes")  # fmt: skip
    found = net.add("ReduceMax", bright, axes=[1, 2, 3], keepdims=0)
    score = net.add("Mul", found, net.const(0.9))
    net.add("Reshape", score, net.const([1, 1], np.int64), out="scores")
    nothing = net.add("Mul", found, net.const(0.0))
    net.add("Reshape", nothing, net.const([1, 1], np.int64), out="classes")
    return net.model(
        [("images", TensorProto.FLOAT, [1, 3, side, side])],
        [
            ("boxes", TensorProto.FLOAT, [1, 1, 4]),
            ("scores", TensorProto.FLOAT, [1, 1]),
            ("classes", TensorProto.FLOAT, [1, 1]),
        ],
    )


def wanted(more: str = "", *, name: str = "finder") -> str:
    """Its pack manifest. more: of `[input]`."""
    return (
        above(name)
        + f'[input]\norder = "bgr"\n{more}[foreign]\nscale = "1/255"\n[[heads]]\nname = "spot"\n'
        + 'task = "detection"\ndecoder = "boxes"\noutputs = ["boxes", "scores", "classes"]\n'
        + 'labels = [{id = 0, key = "bright"}]\n'
    )


def draw(path: Path, size: tuple[int, int], box: tuple[int, int, int, int] | None) -> None:
    """A dark frame of [w, h] px with a bright box, or without."""
    picture = np.full((size[1], size[0], 3), 20, np.uint8)
    if box is not None:
        picture[box[1] : box[3], box[0] : box[2]] = 230
    assert cv2.imwrite(str(path), picture)
