"""The FP16 variant: weights and the long middle of the net in half, its two ends in single.

Half is what feeds a convolution or a matrix product, and of that only operators that bear it; the
input in front, everything after the last product (boxes in px, scores, masks) and operators whose
sums, exponents and quotients need range stay in single, with casts at the borders. Inputs, outputs
and states keep their types, so that both variants are fed and read alike. A value `x` is always
single, its half is `x_half`.

ONNX Runtime on a processor without half runs such a graph in single and rounds nothing between two
operators: 10^6 goes through it unharmed. So what half does is rehearsed in a graph of single, which
rounds every value to half and back in the open.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_agent.core.errors import Rejected
from tools.hot_tier.packing.outputs import reads
from tools.hot_tier.packing.reading import opset_of
from tools.hot_tier.packing.wrapping import PREFIX

PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
BEAR_HALF = PRODUCTS | {
    "Abs", "Add", "AveragePool", "BatchNormalization", "Clip", "Concat", "DepthToSpace", "Elu",
    "Erf", "Expand", "Flatten", "Gather", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu",
    "Max", "MaxPool", "Min", "Mul", "Neg", "Pad", "PRelu", "Relu", "Reshape", "Sigmoid", "Slice",
    "SpaceToDepth", "Split", "Squeeze", "Sub", "Tanh", "Tile", "Transpose", "Unsqueeze", "Where",
}  # fmt: skip
LARGEST = float(np.finfo(np.float16).max)  # 65504
SMALLEST = float(np.finfo(np.float16).tiny)  # 6.1e-5: a smaller epsilon would lose its meaning
HALF, FULL, CUT = "_half", "_full", "_cut"  # the latter two in a rehearsal


def halve(model: Any, *, rehearsal: bool = False) -> Any:
    """A copy with its middle in half; or the same in single, rounded wherever half would round.

    Raises: Rejected when there is nothing that half would make faster.
    """
    half = onnx.ModelProto()
    half.CopyFrom(model)
    graph = half.graph
    _lift_constants(graph)
    del graph.value_info[:]
    half = onnx.shape_inference.infer_shapes(half, data_prop=True)
    graph = half.graph
    floats = _floats(graph)
    weights = {
        one.name: numpy_helper.to_array(one) for one in graph.initializer if one.name in floats
    }
    chosen = _chosen(graph, floats, weights, opset_of(half))
    if not any(graph.node[index].op_type in PRODUCTS for index in chosen):
        raise Rejected(
            "make the fp16 variant: expected convolutions or matrix products in float32, got none",
            hint="leave it out: half would not make this model faster",
        )
    _Rewriter(
        graph, chosen, floats=floats, weights=weights, opset=opset_of(half), rehearsal=rehearsal
    ).rewrite()
    del graph.value_info[:]
    return half


def _lift_constants(graph: Any) -> None:
    """Constants become initialisers, which can be halved."""
    left = []
    for node in graph.node:
        values = [one.t for one in node.attribute if one.HasField("t")]
        if node.op_type == "Constant" and values:
            tensor = graph.initializer.add()
            tensor.CopyFrom(values[0])
            tensor.name = node.output[0]
        else:
            left.append(node)
    del graph.node[:]
    graph.node.extend(left)


def _floats(graph: Any) -> set[str]:
    """Names of all values that are float32."""
    values = [*graph.value_info, *graph.input, *graph.output]
    found = {v.name for v in values if v.type.tensor_type.elem_type == TensorProto.FLOAT}
    return found | {one.name for one in graph.initializer if one.data_type == TensorProto.FLOAT}


def _chosen(graph: Any, floats: set[str], weights: dict[str, NDArray[Any]], opset: int) -> set[int]:
    """Indices of the nodes that go into half."""
    needed: set[str] = set()
    chosen = set()
    for index in range(len(graph.node) - 1, -1, -1):
        node = graph.node[index]
        if node.op_type in PRODUCTS or needed & set(node.output):
            needed |= reads(node)
            if _bears(node, floats, weights, opset):
                chosen.add(index)
    return chosen


def _bears(node: Any, floats: set[str], weights: dict[str, NDArray[Any]], opset: int) -> bool:
    if node.op_type not in BEAR_HALF or node.name.startswith(PREFIX):
        return False
    if not any(_slots(node, floats, opset)):
        return False
    return all(_fits(weights[name]) for name in node.input if name in weights)


def _fits(weight: NDArray[Any]) -> bool:
    """Whether half can hold it; a lone tiny number is an epsilon, among others it is nothing."""
    if not weight.size:
        return True
    size = float(np.abs(weight).max())
    return size <= LARGEST and not (weight.size == 1 and 0 < size < SMALLEST)


def _slots(node: Any, floats: set[str], opset: int) -> list[bool]:
    """Of each input, then of each output: is it float32 now, and may it be half?"""
    schema = onnx.defs.get_schema(node.op_type, opset)
    allowed = {one.type_param_str: one.allowed_type_strs for one in schema.type_constraints}
    found = []
    for names, formals in ((node.input, schema.inputs), (node.output, schema.outputs)):
        for index, name in enumerate(names):
            formal = formals[min(index, len(formals) - 1)]
            found.append(name in floats and "tensor(float16)" in allowed.get(formal.type_str, ()))
    return found


class _Rewriter:
    """One pass over the nodes in their order, which is one in which they can run."""

    def __init__(
        self,
        graph: Any,
        chosen: set[int],
        *,
        floats: set[str],
        weights: dict[str, NDArray[Any]],
        opset: int,
        rehearsal: bool,
    ) -> None:
        self._graph = graph
        self._rehearsal = rehearsal
        self._opset = opset
        self._floats = floats
        self._weights = weights
        self._chosen = chosen
        self._nodes: list[Any] = []
        self._halved: set[str] = set()  # values whose half is there
        self._single: set[str] = {one.name for one in graph.output}
        for index, node in enumerate(graph.node):
            if index not in chosen:
                self._single |= reads(node)

    def rewrite(self) -> None:
        for index, node in enumerate(self._graph.node):
            if index in self._chosen:
                self._halve(node)
            else:
                self._nodes.append(node)
        nodes = self._nodes
        read = {name for node in nodes for name in reads(node)} | self._single
        weights = [one for one in self._graph.initializer if one.name in read]
        del self._graph.node[:]
        self._graph.node.extend(nodes)
        del self._graph.initializer[:]
        self._graph.initializer.extend(weights)

    def _halve(self, node: Any) -> None:
        changed = onnx.NodeProto()
        changed.CopyFrom(node)
        slots = _slots(node, self._floats, self._opset)
        for index, name in enumerate(node.input):
            if slots[index]:
                changed.input[index] = self._half_of(name)
        self._nodes.append(changed)
        for index, name in enumerate(node.output):
            if slots[len(node.input) + index]:
                changed.output[index] = name + (FULL if self._rehearsal else HALF)
                self._halved.add(name)
                self._round(name + FULL, name, made=True)
                if name in self._single:
                    self._nodes.append(_cast(name + HALF, name, TensorProto.FLOAT))

    def _half_of(self, name: str) -> str:
        half = name + HALF
        if name not in self._halved:
            self._halved.add(name)
            if name in self._weights:
                weight = self._weights[name].astype(np.float16)
                kept = weight.astype(np.float32) if self._rehearsal else weight
                self._graph.initializer.append(numpy_helper.from_array(kept, half))
            else:
                self._round(name, name, made=False)
        return half

    def _round(self, value: str, name: str, *, made: bool) -> None:
        """From `value` to the half of `name`; one that was made as half is there already."""
        if self._rehearsal:
            self._nodes.append(_cast(value, name + CUT, TensorProto.FLOAT16))
            self._nodes.append(_cast(name + CUT, name + HALF, TensorProto.FLOAT))
        elif not made:
            self._nodes.append(_cast(value, name + HALF, TensorProto.FLOAT16))


def _cast(name: str, result: str, to: int) -> Any:
    return helper.make_node("Cast", [name], [result], name=f"{result}_cast", to=to)
