"""The picture as the agent has it becomes what the foreign model wants, inside the graph.

uint8 in: channels are put in order and axes turned while a pixel is one byte, then cast, then one
product and one sum: (pixel * scale - mean) / std = pixel * (scale / std) + (-mean / std).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_agent.core.errors import Rejected
from edge_agent.core.manifest import InputSpec
from tools.hot_tier.packing.reading import graphs
from tools.hot_tier.packing.shaping import Picture, rename
from tools.hot_tier.packing.wish import Foreign, scale_of

PREFIX = "edge_input_"  # of every node and value that is put in front
LAST = f"{PREFIX}ready"
CASTS = {"float16": TensorProto.FLOAT16, "float64": TensorProto.DOUBLE}


def affine(foreign: Foreign, channels: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Product and sum per channel.

    Raises: Rejected.
    """
    for key in ("mean", "std"):
        if len(getattr(foreign, key)) not in {1, channels}:
            raise Rejected(
                f"read pack manifest: foreign.{key}: expected 1 number or {channels}, one per "
                f"channel, got {len(getattr(foreign, key))}",
                hint="write one number for all channels, or one for each",
            )
    std = np.broadcast_to(np.asarray(foreign.std, np.float64), (channels,))
    mean = np.broadcast_to(np.asarray(foreign.mean, np.float64), (channels,))
    return (scale_of(foreign) / std).astype(np.float32), (0.0 - mean / std).astype(np.float32)


class _Chain:
    """Nodes one after the other, from the package's input."""

    def __init__(self, first: str) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._last = first

    def add(self, kind: str, *more: NDArray[Any], inputs: int = 1, **attributes: Any) -> None:
        """more: constants beside the value. inputs: how often the value itself is read."""
        name = f"{PREFIX}{len(self.nodes)}"
        constants = [f"{name}_{index}" for index in range(len(more))]
        self.weights += map(numpy_helper.from_array, more, constants)
        read = [*[self._last] * inputs, *constants]
        self.nodes.append(helper.make_node(kind, read, [name], name=name, **attributes))
        self._last = name

    def end(self, name: str) -> None:
        """Even a picture that is taken as it is gets a node: an input keeps its own name."""
        if not self.nodes:
            self.add("Identity")
        self.nodes[-1].output[0] = name


def wrap(model: Any, picture: Picture, foreign: Foreign, did: list[str]) -> None:
    """Puts the chain in front; the only picture input is then `picture.spec`.

    Raises: Rejected.
    """
    spec = picture.spec
    _refuse_taken(model, picture)
    chain = _Chain(spec.name)
    _channels(chain, picture)
    if spec.layout != picture.layout:
        chain.add("Transpose", perm=[0, 3, 1, 2] if spec.layout == "nhwc" else [0, 2, 3, 1])
    scaled = "as it is"
    if picture.kind != "uint8":
        scaled = _numbers(chain, picture, foreign)
    elif foreign != Foreign(order=foreign.order, layout=foreign.layout):
        raise Rejected(
            f"pack model: input {picture.name} takes uint8: expected no scale, mean and std "
            "under [foreign], got some",
            hint="leave them out: the file scales by itself",
        )
    chain.end(LAST)
    rename(model, picture.name, LAST)
    graph = model.graph
    for index, one in enumerate(graph.input):
        if one.name == picture.name:
            graph.input[index].CopyFrom(_port(spec))
    nodes = [*chain.nodes, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(chain.weights)
    did.append(
        f"input {picture.name} {picture.kind} {picture.layout} {picture.order} -> {spec.name} "
        f"uint8 {spec.layout} {spec.order}, {scaled}"
    )


def _refuse_taken(model: Any, picture: Picture) -> None:
    """Raises: Rejected."""
    taken = {name for g in graphs(model.graph) for node in g.node for name in node.output}
    taken |= {one.name for g in graphs(model.graph) for one in [*g.input, *g.initializer]}
    clash = {name for name in taken if name.startswith(PREFIX)}
    if picture.spec.name in taken - {picture.name}:
        clash.add(picture.spec.name)
    if clash:
        raise Rejected(
            f"pack model: expected names {sorted(clash)} to be free, the file has values of that "
            "name",
            hint="choose another name under [input], or rename the values of the file",
        )


def _port(spec: InputSpec) -> Any:
    width, height = spec.size
    shape = [1, height, width, spec.channels]
    if spec.layout == "nchw":
        shape = [1, spec.channels, height, width]
    return helper.make_tensor_value_info(spec.name, TensorProto.UINT8, shape)


def _channels(chain: _Chain, picture: Picture) -> None:
    """Raises: Rejected."""
    axis = 1 if picture.spec.layout == "nchw" else 3
    if picture.spec.channels == picture.channels:
        if picture.spec.order != picture.order:
            chain.add("Gather", np.array([2, 1, 0], np.int64), axis=axis)
    elif picture.channels == 3:
        chain.add("Concat", inputs=3, axis=axis)
    else:
        raise Rejected(
            f"pack model: input {picture.name} is gray, [input] says {picture.spec.order!r}",
            hint='write order = "gray" under [input]: the agent makes gray of colour',
        )


def _numbers(chain: _Chain, picture: Picture, foreign: Foreign) -> str:
    """Cast, product, sum; in words. Raises: Rejected."""
    factor, offset = affine(foreign, picture.channels)
    shape = (1, -1, 1, 1) if picture.layout == "nchw" else (1, 1, 1, -1)
    chain.add("Cast", to=TensorProto.FLOAT)
    if (factor != 1).any():
        chain.add("Mul", factor.reshape(shape))
    if offset.any():
        chain.add("Add", offset.reshape(shape))
    if picture.kind in CASTS:
        chain.add("Cast", to=CASTS[picture.kind])
    return f"times {_shown(factor)} plus {_shown(offset)}"


def _shown(numbers: NDArray[np.float32]) -> str:
    same = numbers[:1] if (numbers == numbers[0]).all() else numbers
    return ", ".join(f"{number:.6g}" for number in same.tolist())
