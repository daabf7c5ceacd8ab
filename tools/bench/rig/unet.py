"""A U-Net of 1.1 million parameters as ONNX, from weights that are given: fp32, fp16 or int8.

Its graph is real and shape-checked; its weights are drawn, so it finds nothing.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, load_model_from_string, numpy_helper

Weights = dict[str, NDArray[np.float32]]

WIDTHS: Final = (24, 48, 96, 192)
SIDE: Final = 128


def weights(seed: int = 1) -> Weights:
    """He's deviation for kernels, small biases."""
    chance = np.random.default_rng(seed)
    found: Weights = {}

    def conv(name: str, outputs: int, inputs: int, side: int = 3) -> None:
        shape = (inputs, outputs, side, side) if name.startswith("up") else (
            outputs, inputs, side, side,
        )  # fmt: skip
        kernel = chance.standard_normal(shape, np.float32)
        found[f"{name}.weight"] = kernel * np.float32(np.sqrt(2 / (inputs * side * side)))
        found[f"{name}.bias"] = chance.standard_normal(outputs, np.float32) * np.float32(0.02)

    before = 1
    for level, width in enumerate(WIDTHS):
        conv(f"enc{level}.0", width, before)
        conv(f"enc{level}.1", width, width)
        before = width
    for level, width in reversed(list(enumerate(WIDTHS[:-1]))):
        conv(f"up{level}", width, before, 2)
        conv(f"dec{level}.0", width, 2 * width)
        conv(f"dec{level}.1", width, width)
        before = width
    conv("head", 1, before, 1)
    return found


def _nodes() -> list[Any]:
    made: list[Any] = []

    def conv(name: str, into: str, side: int = 3) -> str:
        feeds = [into, f"{name}.weight", f"{name}.bias"]
        pads = [side // 2] * 4
        made.append(helper.make_node("Conv", feeds, [f"{name}.y"], name=name, pads=pads))
        made.append(helper.make_node("Relu", [f"{name}.y"], [f"{name}.relu"]))
        return f"{name}.relu"

    at, skips = "x", []
    for level in range(len(WIDTHS)):
        at = conv(f"enc{level}.1", conv(f"enc{level}.0", at))
        skips.append(at)
        if level < len(WIDTHS) - 1:
            pooled = f"pool{level}"
            made.append(
                helper.make_node("MaxPool", [at], [pooled], kernel_shape=[2, 2], strides=[2, 2])
            )
            at = pooled
    for level in reversed(range(len(WIDTHS) - 1)):
        feeds = [at, f"up{level}.weight", f"up{level}.bias"]
        made.append(helper.make_node("ConvTranspose", feeds, [f"up{level}.y"], strides=[2, 2]))
        made.append(
            helper.make_node("Concat", [f"up{level}.y", skips[level]], [f"cat{level}"], axis=1)
        )
        at = conv(f"dec{level}.1", conv(f"dec{level}.0", f"cat{level}"))
    made.append(helper.make_node("Conv", [at, "head.weight", "head.bias"], ["logits"], name="head"))
    return made


def _quantised(name: str, array: NDArray[np.float32]) -> tuple[list[Any], list[Any]]:
    """Initializers and the node that brings them back to floats: one scale, no zero point."""
    scale = np.float32(np.abs(array).max() / 127 or 1)
    whole = np.rint(array / scale).astype(np.int8)
    tensors = [
        numpy_helper.from_array(whole, f"{name}.q"),
        numpy_helper.from_array(np.asarray(scale), f"{name}.scale"),
    ]
    return tensors, [helper.make_node("DequantizeLinear", [f"{name}.q", f"{name}.scale"], [name])]


def _onnx(given: Weights, variant: str) -> bytes:
    kind = TensorProto.FLOAT16 if variant == "fp16" else TensorProto.FLOAT
    tensors, nodes = [], _nodes()
    for name, array in given.items():
        if variant == "int8" and array.ndim > 1:
            mine, before = _quantised(name, array)
            tensors += mine
            nodes = before + nodes
        else:
            dtype = np.float16 if variant == "fp16" else np.float32
            tensors.append(numpy_helper.from_array(array.astype(dtype), name))
    ports = [
        [helper.make_tensor_value_info(name, kind, [1, 1, SIDE, SIDE])] for name in ("x", "logits")
    ]
    graph = helper.make_graph(nodes, "unet", ports[0], ports[1], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 10
    return bytes(model.SerializeToString())


def tarred(files: Mapping[str, bytes]) -> bytes:
    """As packages are hashed and sent: sorted, without times and owners."""
    room = io.BytesIO()
    with tarfile.open(fileobj=room, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return room.getvalue()


def packed(content: bytes, variant: str, version: str) -> bytes:
    manifest = f'schema = 1\nname = "unet"\nversion = "{version}"\nlicence = "Apache-2.0"\n'
    manifest += f'\n[[variants]]\nname = "{variant}"\nfile = "unet.onnx"\n'
    return tarred({"manifest.toml": manifest.encode(), "unet.onnx": content})


def package(given: Weights, variant: str, version: str) -> bytes:
    return packed(_onnx(given, variant), variant, version)


def network(whole: bytes) -> bytes:
    """The ONNX file of a package."""
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        file = tar.extractfile("unet.onnx")
        assert file
        return file.read()


def numbers(whole: bytes) -> NDArray[np.float64]:
    """All its weights in a row."""

    found = load_model_from_string(network(whole)).graph.initializer
    return np.concatenate([numpy_helper.to_array(each).astype("f8").reshape(-1) for each in found])
