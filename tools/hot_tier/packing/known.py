"""What is known of the values of a graph before it runs, and a place for new nodes beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edge_agent.core.errors import Rejected

MAX_FOLDED = 64  # nodes that lead to one constant
MAX_ELEMENTS = 4096  # of each of them: they are axes, sizes and pads
FOLDED = frozenset({
    "Add", "Cast", "Concat", "ConstantOfShape", "Div", "Equal", "Flatten", "Floor", "Gather",
    "Identity", "Mul", "Neg", "Range", "Reshape", "Shape", "Slice", "Squeeze", "Sub",
    "Transpose", "Unsqueeze", "Where",
})  # fmt: skip

Array = NDArray[Any]
Sizes = tuple[int, ...]


class Known:
    """Constants, sizes and types by name; those of the graph around it where it has none."""

    def __init__(self, graph: Any, opset: int, outer: Known | None = None) -> None:
        self._outer, self._opset = outer, opset
        self._weights = {one.name: one for one in graph.initializer}
        self._makers = {name: node for node in graph.node for name in node.output if name}
        values = [*graph.value_info, *graph.input, *graph.output]
        self._types = {one.name: one.type.tensor_type for one in values}

    def constant(self, name: str) -> Array | None:
        """Folded from others where need be; None: only a run tells, or it is large."""
        return self.folded(name, [MAX_FOLDED])

    def sizes(self, name: str) -> Sizes | None:
        """None unless all of them are known."""
        found = self.raw_sizes(name)
        return None if found is None or min(found, default=1) <= 0 else found

    def rank(self, name: str) -> int | None:
        """How many axes it has."""
        found = self.raw_sizes(name)
        return None if found is None else len(found)

    def kind(self, name: str) -> int:
        """TensorProto's number of its type; 0: not known."""
        if name in self._weights:
            return int(self._weights[name].data_type)
        if name in self._types:
            return int(self._types[name].elem_type)
        return self._outer.kind(name) if self._outer is not None else 0

    def raw_sizes(self, name: str) -> Sizes | None:
        """0 where one is not known."""
        if name in self._weights:
            return tuple(self._weights[name].dims)
        kind = self._types.get(name)
        if kind is not None:
            return tuple(d.dim_value for d in kind.shape.dim) if kind.HasField("shape") else None
        return self._outer.raw_sizes(name) if self._outer is not None else None

    def folded(self, name: str, left: list[int]) -> Array | None:
        """left: how many nodes may still be looked at."""
        if name in self._weights:
            return _small(self._weights[name])
        node = self._makers.get(name)
        if node is not None:
            left[0] -= 1
            return self._made(node, left) if left[0] >= 0 else None
        if name in self._types or self._outer is None:
            return None
        return self._outer.folded(name, left)

    def _made(self, node: Any, left: list[int]) -> Array | None:
        if node.op_type == "Constant":
            return _stated(node)
        if node.op_type == "Shape" and not node.attribute:
            found = self.sizes(node.input[0])
            return None if found is None else np.array(found, np.int64)
        if node.op_type == "Size":
            found = self.sizes(node.input[0])
            return None if found is None else np.array(math.prod(found), np.int64)
        if node.op_type not in FOLDED or len(node.output) != 1:
            return None
        fed: dict[str, Array] = {}
        for name in filter(None, node.input):
            array = self.folded(name, left)
            if array is None:
                return None
            fed[name] = array
        return _run(node, fed, self._opset)


def _small(tensor: Any) -> Array | None:
    if int(np.prod(tensor.dims, dtype=np.int64)) > MAX_ELEMENTS:
        return None
    return numpy_helper.to_array(tensor)


def _stated(node: Any) -> Array | None:
    for one in node.attribute:
        if one.name == "value":
            return _small(one.t)
        if one.name in {"value_int", "value_ints", "value_float", "value_floats"}:
            kind = np.int64 if "int" in one.name else np.float32
            return np.asarray(helper.get_attribute_value(one), kind)
    return None


def _run(node: Any, fed: Mapping[str, Array], opset: int) -> Array | None:
    """One node on constants; None where that does not work or grows."""
    ports = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), None)
        for name, array in fed.items()
    ]
    out = helper.make_tensor_value_info(node.output[0], TensorProto.UNDEFINED, None)
    graph = helper.make_graph([node], "fold", ports, [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    if node.op_type in {"ConstantOfShape", "Range"} and _grows(node, fed):
        return None
    try:
        (found,) = ReferenceEvaluator(model).run(None, dict(fed))
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        return None
    array = np.asarray(found)
    return array if array.size <= MAX_ELEMENTS else None


def _grows(node: Any, fed: Mapping[str, Array]) -> bool:
    """Whether it would make more than a constant of ours holds."""
    first = [np.asarray(fed[name], np.float64) for name in node.input if name]
    if node.op_type == "ConstantOfShape":
        return bool(np.prod(first[0]) > MAX_ELEMENTS)
    start, end, step = (float(one.reshape(-1)[0]) for one in first)
    return not step or abs((end - start) / step) > MAX_ELEMENTS


class Bench:
    """New nodes in place of one, with names that nothing has yet."""

    def __init__(self, node: Any, graph: Any, known: Known, taken: set[str]) -> None:
        self.node, self.known = node, known
        self.nodes: list[Any] = []
        self.read: set[str] = set()  # attributes that a rule has looked at
        self._graph, self._taken = graph, taken

    def given(self, index: int) -> str:
        """Name of an input; "" where it is left out."""
        return self.node.input[index] if index < len(self.node.input) else ""

    def said(self, name: str, default: Any = None) -> Any:
        """Value of an attribute; text as text."""
        self.read.add(name)
        for one in self.node.attribute:
            if one.name == name:
                value = helper.get_attribute_value(one)
                return value.decode() if isinstance(value, bytes) else value
        return default

    def unsay(self, *names: str) -> None:
        kept = [one for one in self.node.attribute if one.name not in names]
        del self.node.attribute[:]
        self.node.attribute.extend(kept)

    def say(self, name: str, value: Any) -> None:
        self.unsay(name)
        self.node.attribute.append(helper.make_attribute(name, value))

    def const(self, value: Any, kind: Any) -> str:
        """A new initialiser."""
        name = self._fresh()
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(value, kind), name))
        return name

    def add(self, kind: str, *inputs: str, last: bool = False, **attributes: Any) -> str:
        """A new node; the last one makes what the old node made."""
        name = self.node.output[0] if last else self._fresh()
        made = onnx.helper.make_node(kind, list(inputs), [name], name=self._fresh(), **attributes)
        self.nodes.append(made)
        return name

    def keep(self) -> None:
        """The node itself, as it was changed."""
        self.nodes.append(self.node)

    def refuse(self, why: str) -> Rejected:
        title = next((name for name in self.node.output if name), self.node.name)
        return Rejected(f"{self.node.op_type} {title}: {why}")

    def _fresh(self) -> str:
        base = next((name for name in self.node.output if name), "older")
        name = next(
            name for count in range(len(self._taken) + 1)
            if (name := f"{base}_older_{count}") not in self._taken
        )  # fmt: skip
        self._taken.add(name)
        return name
