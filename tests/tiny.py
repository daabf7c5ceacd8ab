"""Tiny real model packages for tests: a dark-blob segmenter, and ones that misbehave.

The good one says `chamber` where the picture is darker than 60: logits = (60 - mean) / 8.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE = (64, 48)
OPSET = 17
IR = 10

Nodes = tuple[list[Any], list[Any]]


def write_package(
    root: Path,
    *,
    name: str = "tiny",
    version: str = "1.0.0",
    fault: str = "",
    size: tuple[int, int] = SIZE,
) -> Path:
    """fault: "" | nan | wrong-input | corrupt | bool-size. Returns <root>/<name>/<version>."""
    folder = root / name / version
    folder.mkdir(parents=True)
    width, height = size
    manifest = MANIFEST.format(name=name, version=version, width=width, height=height)
    (folder / "manifest.toml").write_text(manifest)
    shape = (width * 2, height) if fault == "wrong-input" else size
    model = _model(shape, nan=fault == "nan")
    body = b"this is no onnx" if fault == "corrupt" else model.SerializeToString()
    (folder / "model.onnx").write_bytes(body)
    np.savez(folder / "golden.npz", input_0=np.zeros((1, height, width, 1), np.uint8))
    return folder


def _model(size: tuple[int, int], *, nan: bool) -> Any:
    width, height = size
    make: Callable[..., Any] = helper.make_node
    zero = 0.0 if nan else 8.0
    consts = {"limit": 60.0, "slope": zero, "zero": 0.0}
    nodes = [
        make("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        make("Transpose", ["f"], ["t"], perm=[0, 3, 1, 2]),
        make("Sub", ["limit", "t"], ["d"]),
        make("Mul", ["d", "zero"], ["z"]) if nan else make("Identity", ["d"], ["z"]),
        make("Div", ["z", "slope"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, height, width, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, height, width])],
        [numpy_helper.from_array(np.float32(v), k) for k, v in consts.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR
    onnx.checker.check_model(model)
    return model


MANIFEST = """\
schema = 1
name = "{name}"
version = "{version}"
licence = "Apache-2.0"
intended_use = "tests"

[input]
name = "x"
size = [{width}, {height}]
channels = 1
order = "gray"
layout = "nhwc"
fit = "stretch"

[[heads]]
name = "dark"
task = "segmentation"
decoder = "mask_sigmoid"
outputs = ["y"]
min_area_px = 50
labels = [{{id = 0, key = "dark", name = "Dark"}}]

[[variants]]
name = "fp32"
file = "model.onnx"
"""
