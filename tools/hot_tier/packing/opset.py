"""An opset and an IR version that the oldest runtime of the agent loads.

`onnx.version_converter` does the work. It knows no way back for a few operators whose newer form
says nothing new as most exporters write it; those are put into the older form here, and hidden
from it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper, version_converter

from edge_agent.core.errors import Rejected
from tools.hot_tier.packing.reading import PLAIN, graphs, opset_of

OLDEST, NEWEST = 7, 17
LEAST_IR, MOST_IR = 8, 10
HIDDEN = "as-it-is"
HINT = f"export the model again with opset {NEWEST}"


def limit_ir(model: Any, did: list[str]) -> None:
    """What a newer IR version adds is no part of a graph of plain operators."""
    had = int(model.ir_version)
    model.ir_version = min(max(had, LEAST_IR), MOST_IR)
    if had != model.ir_version:
        did.append(f"IR {had} -> {model.ir_version}")


def lower(model: Any, did: list[str]) -> Any:
    """Raises: Rejected with the operator that has no older form."""
    had, ir = opset_of(model), int(model.ir_version)
    if not OLDEST <= had <= NEWEST:
        model = _converted(model, had)
        did.append(f"opset {had} -> {NEWEST}")
    model.ir_version = ir
    plain = [one for one in model.opset_import if one.domain in PLAIN]
    del model.opset_import[:]
    model.opset_import.extend(plain[:1])
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise Rejected(
            f"pack model: it is no valid ONNX at opset {opset_of(model)}: {_brief(error)}",
            hint="export the model again",
        ) from error
    return model


def _converted(model: Any, had: int) -> Any:
    """Raises: Rejected."""
    shapes = {
        one.name: [dim.dim_value for dim in one.type.tensor_type.shape.dim]
        for one in [*model.graph.value_info, *model.graph.input]
    }
    if had > NEWEST:
        for graph in graphs(model.graph):
            for node in [node for node in graph.node if node.op_type in _OLDER]:
                _OLDER[node.op_type](node, graph, shapes)
                node.domain = HIDDEN
        model.opset_import.append(onnx.helper.make_opsetid(HIDDEN, 1))
    try:
        model = version_converter.convert_version(model, NEWEST)
    except (RuntimeError, ValueError, version_converter.ConvertError) as error:
        raise Rejected(
            f"pack model: opset {had}: expected at most {NEWEST}, and there is no way back: "
            f"{_brief(error)}",
            hint=HINT,
        ) from error
    for graph in graphs(model.graph):
        for node in graph.node:
            if node.domain == HIDDEN:
                node.domain = ""
    return model


def _brief(error: Exception) -> str:
    """What the vendor says, without the place in its source."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rpartition("failed: ")[2][:200]


def _split(node: Any, graph: Any, shapes: dict[str, list[int]]) -> None:
    """18: `num_outputs`, the last part may be smaller. 13: equal parts, or their sizes."""
    if len(node.input) > 1 and node.input[1]:
        return
    axis = next((one.i for one in node.attribute if one.name == "axis"), 0)
    sizes_known = shapes.get(node.input[0], [])
    size = sizes_known[axis] if -len(sizes_known) <= axis < len(sizes_known) else 0
    parts = len(node.output)
    kept = [one for one in node.attribute if one.name != "num_outputs"]
    del node.attribute[:]
    node.attribute.extend(kept)
    if size <= 0:
        raise Rejected(f"pack model: Split {node.output[0]}: its size is not known", hint=HINT)
    if size % parts:
        step = -(-size // parts)
        sizes = [min(step, size - step * index) for index in range(parts)]
        name = f"{node.output[0]}_sizes"
        graph.initializer.append(numpy_helper.from_array(np.array(sizes, np.int64), name))
        del node.input[1:]
        node.input.append(name)


def _pad(node: Any, _graph: Any, _shapes: dict[str, list[int]]) -> None:
    """18 may name axes, 19 may wrap; else as 13."""
    mode = next((one.s for one in node.attribute if one.name == "mode"), b"constant")
    if (len(node.input) > 3 and node.input[3]) or mode == b"wrap":
        raise Rejected(
            f"pack model: Pad {node.output[0]}: its axes or mode are of opset 18", hint=HINT
        )


def _grid_sample(node: Any, _graph: Any, shapes: dict[str, list[int]]) -> None:
    """20 has other words for the same modes, and more axes."""
    if len(shapes.get(node.input[0], [0] * 4)) != 4:
        raise Rejected(f"pack model: GridSample {node.output[0]}: expected 4 axes", hint=HINT)
    words = {b"linear": b"bilinear", b"cubic": b"bicubic"}
    for attribute in node.attribute:
        if attribute.name == "mode":
            attribute.s = words.get(attribute.s, attribute.s)
            return
    node.attribute.append(onnx.helper.make_attribute("mode", "bilinear"))


_OLDER: dict[str, Callable[[Any, Any, dict[str, list[int]]], None]] = {
    "Split": _split,
    "Pad": _pad,
    "GridSample": _grid_sample,
}
