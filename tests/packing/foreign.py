"""Foreign ONNX files as they come from elsewhere: float in, other layouts, orders, opsets, states.

Small, with real convolutions and seeded weights; what they find means nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SIZE = (96, 64)  # w, h px of every input
CLASSES = 3
QUERIES = 5

Port = tuple[str, int, Sequence[int | str | None]]


class Net:
    """A graph in the making; every method returns the name of what it adds."""

    def __init__(self, seed: int = 1) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.weights: dict[str, NDArray[Any]] = {}

    def add(self, kind: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        name = out or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def const(self, value: Any, kind: Any = np.float32) -> str:
        name = f"w{len(self.weights)}"
        self.weights[name] = np.asarray(value, kind)
        return name

    def random(self, *shape: int, scale: float = 1.0) -> str:
        return self.const(self.rng.normal(0, scale, shape))

    def conv(self, x: str, wide_in: int, wide_out: int, *, stride: int = 1, side: int = 3) -> str:
        weight = self.random(wide_out, wide_in, side, side, scale=(wide_in * side * side) ** -0.5)
        bias = self.random(wide_out, scale=0.1)
        pads = [side // 2] * 4
        return self.add("Conv", x, weight, bias, strides=[stride] * 2, pads=pads)

    def silu(self, x: str) -> str:
        return self.add("Mul", x, self.add("Sigmoid", x))

    def model(self, inputs: Sequence[Port], outputs: Sequence[Port], **more: Any) -> Any:
        return finish(self.nodes, inputs, outputs, self.weights, **more)


def finish(
    nodes: list[Any],
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    weights: Mapping[str, NDArray[Any]],
    *,
    opset: int = 17,
    ir: int = 9,
) -> Any:
    graph = helper.make_graph(
        nodes,
        "foreign",
        [helper.make_tensor_value_info(*port) for port in inputs],
        [helper.make_tensor_value_info(*port) for port in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = ir
    return model


def yolo() -> Any:
    """NCHW RGB, batch of any size; one output [b, 4 + C, N], boxes in px."""
    net = Net(3)
    wide, high = SIZE[0] // 8, SIZE[1] // 8
    x = net.silu(net.conv("images", 3, 8, stride=2))
    x = net.silu(net.conv(x, 8, 16, stride=2))
    x = net.silu(net.conv(x, 16, 16, stride=2))
    x = net.conv(x, 16, 4 + CLASSES, side=1)
    rows = net.add("Reshape", x, net.const([0, 4 + CLASSES, wide * high], np.int64))
    cuts = [(0, 2), (2, 4), (4, 4 + CLASSES)]
    centre, size, scores = (
        net.add("Slice", rows, *(net.const([one], np.int64) for one in (low, high_, 1)))
        for low, high_ in cuts
    )
    grid = np.stack(np.meshgrid(np.arange(wide), np.arange(high))).reshape(1, 2, -1)
    centre = net.add("Add", net.add("Sigmoid", centre), net.const(grid))
    centre = net.add("Mul", centre, net.const(8.0))
    size = net.add("Mul", net.add("Exp", size), net.const(16.0))
    scores = net.add("Sigmoid", net.add("Mul", scores, net.const(4.0)))
    net.add("Concat", centre, size, scores, out="output0", axis=1)
    return net.model(
        [("images", TensorProto.FLOAT, ["batch", 3, SIZE[1], SIZE[0]])],
        [("output0", TensorProto.FLOAT, ["batch", 4 + CLASSES, wide * high])],
    )


def detr() -> Any:
    """NHWC BGR, fixed batch, opset 18 with a Split; attention over cells; an output too many."""
    net = Net(4)
    x = net.add("Transpose", "pixels", perm=[0, 3, 1, 2])
    x = net.add("Relu", net.conv(x, 3, 8, stride=4))
    x = net.add("Relu", net.conv(x, 8, 16, stride=2))
    cells = net.add("Reshape", x, net.const([1, 16, -1], np.int64))
    cells = net.add("Transpose", cells, perm=[0, 2, 1])
    both = net.add("MatMul", cells, net.random(16, 32, scale=0.25))
    net.nodes.append(helper.make_node("Split", [both], ["keys", "values"], axis=2, num_outputs=2))
    keys = net.add("Transpose", "keys", perm=[0, 2, 1])
    weights = net.add("Softmax", net.add("MatMul", net.random(1, QUERIES, 16), keys), axis=-1)
    found = net.add("MatMul", weights, "values")
    net.add("MatMul", found, net.random(16, CLASSES, scale=2.0), out="logits")
    net.add("Sigmoid", net.add("MatMul", found, net.random(16, 4)), out="boxes")
    net.add("Identity", weights, out="attention")
    cell_count = SIZE[0] // 8 * SIZE[1] // 8
    return net.model(
        [("pixels", TensorProto.FLOAT, [1, SIZE[1], SIZE[0], 3])],
        [
            ("logits", TensorProto.FLOAT, [1, QUERIES, CLASSES]),
            ("boxes", TensorProto.FLOAT, [1, QUERIES, 4]),
            ("attention", TensorProto.FLOAT, [1, QUERIES, cell_count]),
        ],
        opset=18,
    )


def unet() -> Any:
    """NCHW gray, every size open, opset 20, a Pad and a Resize; logits [b, 1, h, w]."""
    net = Net(5)
    padded = net.add("Pad", "scan", net.const([0, 0, 1, 1, 0, 0, 1, 1], np.int64))
    top = net.add("Relu", net.conv(padded, 1, 8))
    edges = [net.const(one, np.int64) for one in ([1, 1], [-1, -1], [2, 3])]
    top = net.add("Slice", top, *edges)
    low = net.add("Relu", net.conv(top, 8, 16, stride=2))
    low = net.add("Relu", net.conv(low, 16, 8))
    up = net.add("Resize", low, "", net.const([1, 1, 2, 2]), mode="linear")
    x = net.add("Relu", net.conv(net.add("Concat", top, up, axis=1), 16, 8))
    x = net.conv(x, 8, 1, side=1)
    net.add("Mul", x, net.const(6.0), out="mask")
    return net.model(
        [("scan", TensorProto.FLOAT, ["n", 1, "h", "w"])],
        [("mask", TensorProto.FLOAT, ["n", 1, "h", "w"])],
        opset=20,
    )


def recurrent() -> Any:
    """NCHW RGB, two states, of different shapes; probabilities [1, C]."""
    net = Net(6)
    seen = net.conv("image", 3, 8, stride=8)
    fed = net.conv("h", 8, 8)
    net.add("Tanh", net.add("Add", seen, fed), out="h_next")
    mean = net.add("ReduceMean", "h_next", axes=[2, 3], keepdims=0)
    slow = net.add("Mul", "c", net.const(0.9))
    net.add("Add", slow, net.add("Mul", mean, net.const(0.1)), out="c_next")
    both = net.add("Concat", mean, "c_next", axis=1)
    scores = net.add("MatMul", both, net.random(16, CLASSES, scale=3.0))
    net.add("Softmax", scores, out="probs", axis=1)
    hidden: list[int | str | None] = ["b", 8, SIZE[1] // 8, SIZE[0] // 8]
    return net.model(
        [
            ("image", TensorProto.FLOAT, ["b", 3, SIZE[1], SIZE[0]]),
            ("h", TensorProto.FLOAT, hidden),
            ("c", TensorProto.FLOAT, ["b", 8]),
        ],
        [
            ("probs", TensorProto.FLOAT, ["b", CLASSES]),
            ("h_next", TensorProto.FLOAT, hidden),
            ("c_next", TensorProto.FLOAT, ["b", 8]),
        ],
    )


HEAD = """
[[heads]]
name = "h"
task = "{task}"
decoder = "{decoder}"
outputs = {outputs}
threshold = {threshold}
labels = [{labels}]
"""
ABOVE = """\
name = "{name}"
version = "1.0.0"
licence = "Apache-2.0"
intended_use = "tests"
"""
LABELS = ", ".join(f'{{id = {index}, key = "k{index}"}}' for index in range(CLASSES))


def head(decoder: str, *outputs: str, threshold: float = 0.5, labels: str = LABELS) -> str:
    tasks = {"probs": "classification", "mask_sigmoid": "segmentation"}
    names = "[" + ", ".join(f'"{name}"' for name in outputs) + "]"
    return HEAD.format(
        task=tasks.get(decoder, "detection"),
        decoder=decoder,
        outputs=names,
        threshold=threshold,
        labels=labels,
    )


def above(name: str) -> str:
    return ABOVE.format(name=name)


ONE_LABEL = '{id = 0, key = "k0"}'
MANIFESTS = {
    "yolo": above("yolo") + '[foreign]\nscale = "1/255"\n' + head("yolo", "output0", threshold=0.6),
    "detr": above("detr")
    + '[input]\nname = "image"\n[foreign]\nscale = 1.0\nmean = [103.9, 116.8, 123.7]\n'
    + 'std = [57.4, 57.1, 58.4]\norder = "bgr"\nlayout = "nhwc"\n'
    + head("detr", "logits", "boxes"),
    "unet": above("unet")
    + f'[input]\nsize = [{SIZE[0]}, {SIZE[1]}]\norder = "gray"\nfit = "stretch"\n'
    + '[foreign]\nscale = "2/255"\nmean = [1.0]\norder = "gray"\n'
    + head("mask_sigmoid", "mask", labels=ONE_LABEL),
    "recurrent": above("recurrent")
    + '[input]\norder = "bgr"\n[foreign]\nscale = "1/255"\nmean = [0.485, 0.456, 0.406]\n'
    + "std = [0.229, 0.224, 0.225]\n"
    + head("probs", "probs", threshold=0.3)
    + '[[states]]\ninput = "h"\noutput = "h_next"\n[[states]]\ninput = "c"\noutput = "c_next"\n',
}
MODELS = {"yolo": yolo, "detr": detr, "unet": unet, "recurrent": recurrent}


def write_frames(folder: Path, count: int = 6) -> Path:
    """Blobs that move over noise, in colour."""
    folder.mkdir()
    rng = np.random.default_rng(9)
    for index in range(count):
        picture = rng.integers(0, 60, (80, 120, 3)).astype(np.uint8)
        cv2.circle(picture, (30 + 8 * index, 40), 16, (200, 120 + 10 * index, 40), -1)
        cv2.imwrite(str(folder / f"frame{index}.png"), picture)
    return folder


def write(folder: Path, name: str) -> tuple[Path, Path]:
    """A file and its pack manifest."""
    model, manifest = folder / f"{name}.onnx", folder / f"{name}.toml"
    model.write_bytes(MODELS[name]().SerializeToString())
    manifest.write_text(MANIFESTS[name])
    return model, manifest
