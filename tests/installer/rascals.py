"""Model packages that behave, and ones that do not: real ONNX files, with golden samples."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_agent.stores.installed import Installed
from edge_agent.stores.package import load_manifest, pack, sha_of

WIDTH, HEIGHT = 16, 12
LIMIT_BYTES = 64 << 20
MANIFEST = """schema = 1
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
name = "blob"
task = "{task}"
decoder = "mask_sigmoid"
outputs = ["y"]
labels = [{labels}]

[[variants]]
name = "fp32"
file = "model.onnx"
"""
LABEL = '{{ id = {id}, key = "{key}" }}'
make: Callable[..., Any] = helper.make_node

Graph = tuple[list[Any], dict[str, Any]]


def _plain() -> Graph:
    return [
        make("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        make("Transpose", ["f"], ["t"], perm=[0, 3, 1, 2]),
        make("Div", ["t", "slope"], ["y"]),
    ], {"slope": np.array(8, np.float32)}


def _nan() -> Graph:
    nodes, _ = _plain()
    return nodes, {"slope": np.array(np.nan, np.float32)}


def _greedy() -> Graph:
    """A plane of 64 GiB, whose size only a run tells."""
    nodes, consts = _plain()
    nodes = [
        *nodes[:2],
        make("ReduceMax", ["f"], ["most"], keepdims=0),
        make("Mul", ["most", "none"], ["nought"]),
        make("Cast", ["nought"], ["n"], to=TensorProto.INT64),
        make("Add", ["n", "side"], ["shape"]),
        make("ConstantOfShape", ["shape"], ["plane"]),
        make("ReduceMax", ["plane"], ["p"], keepdims=0),
        make("Add", ["t", "p"], ["z"]),
        make("Div", ["z", "slope"], ["y"]),
    ]
    side = np.array([1 << 17, 1 << 17], np.int64)
    return nodes, consts | {"none": np.array(0, np.float32), "side": side}


def _endless() -> Graph:
    """Counts to two to the sixtieth."""
    nodes, _ = _plain()
    body = helper.make_graph(
        [make("Identity", ["go"], ["on"]), make("Add", ["v", "one"], ["w"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, [1, 1, HEIGHT, WIDTH]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, [1, 1, HEIGHT, WIDTH]),
        ],
    )
    nodes = [*nodes[:2], make("Loop", ["trips", "true", "t"], ["y"], body=body)]
    more = {
        "trips": np.array(1 << 60, np.int64),
        "true": np.array(True),
        "one": np.array(1, np.float32),
    }
    return nodes, more


GRAPHS = {"": _plain, "nan": _nan, "greedy": _greedy, "endless": _endless}


def write(
    folder: Path,
    *,
    name: str = "tiny",
    version: str = "1.0.0",
    fault: str = "",
    keys: str = "a",
    task: str = "segmentation",
) -> Path:
    """fault: "" nan greedy endless drifted shape bomb none corrupt. Gives its folder."""
    folder.mkdir(parents=True)
    labels = ", ".join(LABEL.format(id=i, key=key) for i, key in enumerate(keys))
    manifest = MANIFEST.format(
        name=name, version=version, width=WIDTH, height=HEIGHT, labels=labels, task=task
    )
    (folder / "manifest.toml").write_text(manifest)
    nodes, consts = GRAPHS.get(fault, _plain)()
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, HEIGHT, WIDTH, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, HEIGHT, WIDTH])],
        [numpy_helper.from_array(array, key) for key, array in consts.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.checker.check_model(model)
    body = b"this is no onnx" if fault == "corrupt" else model.SerializeToString()
    (folder / "model.onnx").write_bytes(body)
    _golden(folder / "golden.npz", fault)
    return folder


def _golden(path: Path, fault: str) -> None:
    given = np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(1, HEIGHT, WIDTH, 1)
    expected = given.transpose(0, 3, 1, 2).astype(np.float32) / 8
    if fault == "drifted":
        expected = expected + 0.5
    if fault == "shape":
        expected = expected[..., 1:]
    if fault == "none":
        np.savez_compressed(path, output_y_0=expected)
        return
    np.savez_compressed(path, input_0=given, output_y_0=expected)
    if fault == "bomb":
        path.write_bytes(bomb())


def bomb() -> bytes:
    """A few bytes that say that they are 64 GiB; real ones of that kind take a while to make."""
    head, whole = io.BytesIO(), io.BytesIO()
    said = {"descr": "|u1", "fortran_order": False, "shape": (1, 1 << 18, 1 << 18, 1)}
    np.lib.format.write_array_header_1_0(head, said)
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("input_0.npy", head.getvalue() + bytes(64))
    return whole.getvalue()


def packed(folder: Path) -> tuple[Path, str]:
    """Its tar beside it, and its id."""
    manifest = load_manifest(folder / "manifest.toml", "test")
    tar = folder.with_name(f"{folder.name}.eam")
    tar.write_bytes(b"".join(pack(folder, manifest)))
    with tar.open("rb") as file:
        return tar, sha_of(file)


def install(store: Installed, folder: Path) -> str:
    """Packs a folder and admits it; its id."""
    tar, sha = packed(folder)
    store.reserve(sha, tar.stat().st_size)
    store.admit(tar, sha)
    return sha
