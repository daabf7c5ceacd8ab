"""Packages for tests: real tars with real ONNX files of random weights, small."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Weights = dict[str, NDArray[Any]]


def weights(seed: int = 1, *, dtype: str = "f4", layers: int = 6, width: int = 24) -> Weights:
    """Convolutions, biases and a scalar, as a trainer names them."""
    chance = np.random.default_rng(seed)
    found: Weights = {}
    for layer in range(layers):
        kernel = chance.standard_normal((width, width, 3, 3)) * np.sqrt(2 / (9 * width))
        found[f"block.{layer}.weight"] = kernel.astype(dtype)
        found[f"block.{layer}.bias"] = (chance.standard_normal(width) * 0.01).astype(dtype)
    found["shape"] = np.array([1, -1], np.int64)
    return found


def tuned(given: Weights, *, step: float = 1e-3, seed: int = 2) -> Weights:
    """All floats moved a little."""
    chance = np.random.default_rng(seed)
    return {
        name: (array + step * chance.standard_normal(array.shape)).astype(array.dtype)
        if array.dtype.kind == "f"
        else array
        for name, array in given.items()
    }


def onnx_file(given: Mapping[str, NDArray[Any]], *, producer: str = "a trainer") -> bytes:
    """Initializers, and one constant inside a node."""
    ports = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])]
    value = numpy_helper.from_array(np.arange(64, dtype=np.float32), "ramp")
    nodes = [
        helper.make_node("Identity", ["x"], ["y"]),
        helper.make_node("Constant", [], ["c"], value=value),
    ]
    ports_out = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])]
    initializers = [numpy_helper.from_array(array, name) for name, array in given.items()]
    graph = helper.make_graph(nodes, "net", ports, ports_out, initializers)
    model = helper.make_model(graph, producer_name=producer)
    return bytes(model.SerializeToString())


def package(files: Mapping[str, bytes]) -> bytes:
    """A canonical tar."""
    room = io.BytesIO()
    with tarfile.open(fileobj=room, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return room.getvalue()


def model(given: Weights, *, version: str = "1.0.0", **more: bytes) -> bytes:
    """A package as it is published: manifest and one network."""
    manifest = f'schema = 1\nname = "tiny"\nversion = "{version}"\n'.encode()
    return package({"manifest.toml": manifest, "model.onnx": onnx_file(given)} | more)
