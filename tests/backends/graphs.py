"""Tiny real ONNX files, and the manifests that go with them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_agent.core.frames import Frame
from edge_agent.core.manifest import Manifest, parse_manifest

OPSET = 17
IR = 10
SIZE = (16, 12)


def head(decoder: str, *outputs: str, keys: str = "a", **more: Any) -> dict[str, Any]:
    """keys: one letter per label, ids from 0."""
    labels = [{"id": index, "key": key} for index, key in enumerate(keys)]
    fields = {"name": "h", "task": "detection", "decoder": decoder, "outputs": list(outputs)}
    return fields | {"labels": labels} | more


def manifest(*heads: dict[str, Any], **more: Any) -> Manifest:
    """`input` is merged into a gray one of `SIZE`; other fields replace."""
    size = {"name": "x", "size": list(SIZE), "channels": 1, "order": "gray", "fit": "stretch"}
    fields: dict[str, Any] = {
        "schema": 1,
        "name": "tiny",
        "version": "1.0.0",
        "licence": "Apache-2.0",
        "intended_use": "tests",
        "heads": list(heads or [head("mask_sigmoid", "y")]),
        "variants": [{"name": "fp32", "file": "model.onnx"}],
    }
    return parse_manifest(fields | more | {"input": size | more.get("input", {})})


def save(
    folder: Path,
    nodes: list[Any],
    inputs: Mapping[str, tuple[int, list[Any]]],
    outputs: Mapping[str, tuple[int, list[Any]]],
    consts: Mapping[str, NDArray[Any]] | None = None,
    *,
    opset: int = OPSET,
    ir: int = IR,
) -> Path:
    """Writes model.onnx. Inputs and outputs: name to (TensorProto type, shape)."""
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(n, t, s) for n, (t, s) in inputs.items()],
        [helper.make_tensor_value_info(n, t, s) for n, (t, s) in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in (consts or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = ir
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder


def says(folder: Path, outputs: Mapping[str, NDArray[Any]]) -> Path:
    """A model that says the same whatever it is shown: each output is a constant plus 0 * input."""
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["f"], ["m"], keepdims=0),
        helper.make_node("Mul", ["m", "nought"], ["z"]),
    ]
    consts: dict[str, NDArray[Any]] = {"nought": np.float32(0).reshape(())}
    ports = {}
    for name, array in outputs.items():
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        consts[f"{name}_is"] = array
        nodes += [
            helper.make_node("Cast", ["z"], [f"{name}_z"], to=kind),
            helper.make_node("Add", [f"{name}_is", f"{name}_z"], [name]),
        ]
        ports[name] = (kind, list(array.shape))
    shape = [1, SIZE[1], SIZE[0], 1]
    return save(folder, nodes, {"x": (TensorProto.UINT8, shape)}, ports, consts)


def echoes(folder: Path, shape: list[Any], result: list[Any] | None = None, **more: Any) -> Path:
    """A model whose output `y` is its input as float32, reshaped to `result` where given."""
    nodes = [helper.make_node("Cast", ["x"], ["f" if result else "y"], to=TensorProto.FLOAT)]
    consts = {}
    if result:
        consts["to"] = np.asarray([s if isinstance(s, int) else -1 for s in result], np.int64)
        nodes.append(helper.make_node("Reshape", ["f", "to"], ["y"]))
    return save(
        folder,
        nodes,
        {"x": (TensorProto.UINT8, shape)},
        {"y": (TensorProto.FLOAT, result or shape)},
        consts,
        **more,
    )


def frame(pixels: NDArray[np.uint8], number: int = 0) -> Frame:
    return Frame(number=number, captured_us=number * 33_333, pixels=pixels)


def gray(width: int = 32, height: int = 24, level: int = 7) -> Frame:
    return frame(np.full((height, width), level, np.uint8))


def check(folder: Path) -> None:
    onnx.checker.check_model(onnx.load(folder / "model.onnx"))
