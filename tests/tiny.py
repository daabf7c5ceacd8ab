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
SLOW_SIDE = 512

Nodes = tuple[list[Any], list[Any]]


def write_package(
    root: Path,
    *,
    name: str = "tiny",
    version: str = "1.0.0",
    fault: str = "",
    size: tuple[int, int] = SIZE,
) -> Path:
    """fault: "" | nan | wrong-input | corrupt | blind | slow | states | forever | always | labels |
    nan-live. Returns its folder.

    blind: sees nothing. slow: some milliseconds a run. states: NaN at the fifth run after a reset.
    forever: never returns from a picture that is not black; always: from none. labels: says other
    words. nan-live: NaN for a picture that is not black.
    """
    folder = root / name / version
    folder.mkdir(parents=True)
    width, height = size
    manifest = MANIFEST.format(name=name, version=version, width=width, height=height)
    if fault == "labels":
        manifest = manifest.replace('key = "dark"', 'key = "shade"')
    (folder / "manifest.toml").write_text(manifest)
    shape = (width * 2, height) if fault == "wrong-input" else size
    if fault == "states":
        (folder / "manifest.toml").write_text(manifest + STATES)
    model = GRAPHS.get(fault, _model)(shape, fault)
    body = b"this is no onnx" if fault == "corrupt" else model.SerializeToString()
    (folder / "model.onnx").write_bytes(body)
    np.savez(folder / "golden.npz", input_0=np.zeros((1, height, width, 1), np.uint8))
    return folder


def _model(size: tuple[int, int], fault: str) -> Any:
    make: Callable[..., Any] = helper.make_node
    nan = fault == "nan"
    limit = -1000.0 if fault == "blind" else 60.0
    consts = {"limit": limit, "slope": 0.0 if nan else 8.0, "zero": 0.0}
    nodes = [
        make("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        make("Transpose", ["f"], ["t"], perm=[0, 3, 1, 2]),
        make("Sub", ["limit", "t"], ["d"]),
        make("Mul", ["d", "zero"], ["z"]) if nan else make("Identity", ["d"], ["z"]),
        make("Div", ["z", "slope"], ["y"]),
    ]
    return _finish(nodes, consts, size)


def _slow(size: tuple[int, int], _: str) -> Any:
    """The mean of the picture goes through a large product, so that nothing folds away."""
    make: Callable[..., Any] = helper.make_node
    consts = {"limit": 60.0, "slope": 8.0, "zero": 0.0}
    nodes = [
        make("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        make("Transpose", ["f"], ["t"], perm=[0, 3, 1, 2]),
        make("ReduceMean", ["t"], ["mean"], axes=[1, 2, 3], keepdims=0),
        make("ConstantOfShape", ["side"], ["plane"]),
        make("Add", ["plane", "mean"], ["a"]),
        make("MatMul", ["a", "a"], ["b"]),
        make("ReduceMean", ["b"], ["c"], keepdims=0),
        make("Mul", ["c", "zero"], ["nothing"]),
        make("Sub", ["limit", "t"], ["d"]),
        make("Add", ["d", "nothing"], ["e"]),
        make("Div", ["e", "slope"], ["y"]),
    ]
    return _finish(nodes, consts, size, side=np.array([SLOW_SIDE, SLOW_SIDE], np.int64))


def _forever(size: tuple[int, int], fault: str) -> Any:
    """A loop whose condition is that there is light in the picture, or nothing at all."""
    make: Callable[..., Any] = helper.make_node
    value: Callable[..., Any] = helper.make_tensor_value_info
    body = helper.make_graph(
        [make("Identity", ["c"], ["c_next"]), make("Identity", ["v"], ["v_next"])],
        "body",
        [value("i", TensorProto.INT64, []), value("c", TensorProto.BOOL, []),
         value("v", TensorProto.FLOAT, [])],
        [value("c_next", TensorProto.BOOL, []), value("v_next", TensorProto.FLOAT, [])],
    )  # fmt: skip
    consts = {"limit": 60.0, "slope": 8.0, "least": -1.0 if fault == "always" else 0.0}
    nodes = [
        make("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        make("Transpose", ["f"], ["t"], perm=[0, 3, 1, 2]),
        make("ReduceMean", ["t"], ["mean"], axes=[0, 1, 2, 3], keepdims=0),
        make("Greater", ["mean", "least"], ["lit"]),
        make("Loop", ["times", "lit", "mean"], ["end"], body=body),
        make("Sub", ["end", "mean"], ["nothing"]),
        make("Sub", ["limit", "t"], ["d"]),
        make("Add", ["d", "nothing"], ["e"]),
        make("Div", ["e", "slope"], ["y"]),
    ]
    return _finish(nodes, consts, size, times=np.array(1 << 62, np.int64))


def _nan_live(size: tuple[int, int], _: str) -> Any:
    """0 / 0 where there is light in the picture."""
    make: Callable[..., Any] = helper.make_node
    consts = {"limit": 60.0, "slope": 8.0, "zero": 0.0}
    nodes = [
        make("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        make("Transpose", ["f"], ["t"], perm=[0, 3, 1, 2]),
        make("Greater", ["t", "zero"], ["lit"]),
        make("Cast", ["lit"], ["n"], to=TensorProto.FLOAT),
        make("Sub", ["slope", "n"], ["a"]),
        make("Sub", ["a", "slope"], ["b"]),  # -1 where there is light, else 0
        make("Sqrt", ["b"], ["root"]),
        make("Sub", ["limit", "t"], ["d"]),
        make("Add", ["d", "root"], ["e"]),
        make("Div", ["e", "slope"], ["y"]),
    ]
    return _finish(nodes, consts, size)


def _recurrent(size: tuple[int, int], _: str) -> Any:
    """y = sqrt(3 - s) everywhere, s + 1 fed back."""
    make: Callable[..., Any] = helper.make_node
    consts = {"three": 3.0, "one": 1.0, "zero": 0.0}
    nodes = [
        make("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        make("Transpose", ["f"], ["t"], perm=[0, 3, 1, 2]),
        make("Mul", ["t", "zero"], ["n"]),
        make("Sub", ["three", "s"], ["left"]),
        make("Sqrt", ["left"], ["root"]),
        make("Add", ["n", "root"], ["y"]),
        make("Add", ["s", "one"], ["s_next"]),
    ]
    return _finish(nodes, consts, size, state=True)


def _finish(
    nodes: list[Any],
    consts: dict[str, float],
    size: tuple[int, int],
    *,
    state: bool = False,
    **more: Any,
) -> Any:
    width, height = size
    make_value: Callable[..., Any] = helper.make_tensor_value_info
    inputs = [make_value("x", TensorProto.UINT8, [1, height, width, 1])]
    outputs = [make_value("y", TensorProto.FLOAT, [1, 1, height, width])]
    if state:
        inputs.append(make_value("s", TensorProto.FLOAT, [1]))
        outputs.append(make_value("s_next", TensorProto.FLOAT, [1]))
    arrays = {name: np.float32(value) for name, value in consts.items()} | more
    graph = helper.make_graph(
        nodes, "tiny", inputs, outputs,
        [numpy_helper.from_array(np.asarray(value), name) for name, value in arrays.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR
    onnx.checker.check_model(model)
    return model


GRAPHS: dict[str, Callable[[tuple[int, int], str], Any]] = {
    "slow": _slow,
    "states": _recurrent,
    "forever": _forever,
    "always": _forever,
    "nan-live": _nan_live,
}
STATES = """
[[states]]
input = "s"
output = "s_next"
"""
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
