"""An opset and an IR version that the oldest runtime of the agent loads.

Above it each operator is said in its older form by a rule of its own, `older`; what no rule knows
is refused with the ceiling and the way out. Below it `onnx.version_converter` does the work.
"""

from __future__ import annotations

from typing import Any

import onnx
from onnx import defs, helper, version_converter

from edge_agent.core.errors import Rejected
from tools.hot_tier.packing.known import Bench, Known
from tools.hot_tier.packing.older import RULES, SAME
from tools.hot_tier.packing.reading import PLAIN, graphs, opset_of

OLDEST, NEWEST = 7, 17
LEAST_IR, MOST_IR = 8, 10
HINT = (
    f"export the model again with opset {NEWEST}: torch.onnx.export(..., opset_version={NEWEST}, "
    f"dynamo=False), with Ultralytics export(format='onnx', opset={NEWEST})"
)


def limit_ir(model: Any, did: list[str]) -> None:
    """What a newer IR version adds is no part of a graph of plain operators."""
    had = int(model.ir_version)
    model.ir_version = min(max(had, LEAST_IR), MOST_IR)
    if had != model.ir_version:
        did.append(f"IR {had} -> {model.ir_version}")


def drop_notes(model: Any, did: list[str]) -> None:
    """Exporters note where model and operators came from: paths of the machine they ran on."""
    noted = int(bool(model.doc_string or model.metadata_props))
    model.ClearField("doc_string")
    model.ClearField("metadata_props")
    for graph in graphs(model.graph):
        values = [*graph.input, *graph.output, *graph.value_info, *graph.initializer]
        for one in [graph, *graph.node, *values]:
            noted += bool(one.doc_string or one.metadata_props)
            one.ClearField("doc_string")
            one.ClearField("metadata_props")
    if noted:
        did.append(f"notes of the exporter left out of {noted} places")


def lower(model: Any, did: list[str]) -> Any:
    """Raises: Rejected with the operator that has no older form."""
    had, ir = opset_of(model), int(model.ir_version)
    if had > NEWEST:
        _said_older(model, had)
        did.append(f"opset {had} -> {NEWEST}")
    elif had < OLDEST:
        model = _raised(model, had)
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


def _said_older(model: Any, had: int) -> None:
    """Raises: Rejected."""
    known = defs.onnx_opset_version()
    if had > known:
        raise _beyond(had, f"opsets above {known} are not known here")
    taken = {name for graph in graphs(model.graph) for name in _names(graph)}
    try:
        _graph_older(model.graph, had, taken, None)
    except Rejected as refused:
        raise _beyond(had, refused.what) from refused
    for one in model.opset_import:
        if one.domain in PLAIN:
            one.version = NEWEST
    try:
        onnx.shape_inference.infer_shapes(model, check_type=True)
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
        raise _beyond(had, _brief(error)) from error


def _beyond(had: int, why: str) -> Rejected:
    return Rejected(
        f"pack model: opset {had}: expected at most {NEWEST}, which the oldest runtime of an edge "
        f"loads, or what can be said in it: {why}",
        hint=HINT,
    )


def _names(graph: Any) -> set[str]:
    made = {name for node in graph.node for name in [node.name, *node.output]}
    return made | {one.name for one in [*graph.input, *graph.initializer]}


def _graph_older(graph: Any, had: int, taken: set[str], outer: Known | None) -> None:
    """Branches first: they stay inside their node. Raises: Rejected with the reason alone."""
    known = Known(graph, had, outer)
    nodes: list[Any] = []
    for node in graph.node:
        for one in node.attribute:
            for inner in [one.g] if one.HasField("g") else one.graphs:
                _graph_older(inner, had, taken, known)
        bench = Bench(node, graph, known, taken)
        _node_older(bench, had)
        nodes += bench.nodes
    del graph.node[:]
    graph.node.extend(nodes)


def _node_older(bench: Bench, had: int) -> None:
    """Raises: Rejected with the reason alone."""
    node = bench.node
    now = defs.get_schema(node.op_type, had)
    then = defs.get_schema(node.op_type, NEWEST) if defs.has(node.op_type, NEWEST) else None
    if then is not None and now.since_version == then.since_version:
        bench.keep()
        return
    rule = RULES.get(node.op_type)
    if rule is not None:
        rule(bench)
        _refuse_unread(bench, then)
    elif node.op_type in SAME and then is not None:
        _without_new(bench, now, then)
    else:
        raise bench.refuse(f"it came with opset {now.since_version}, and has no older form")


def _refuse_unread(bench: Bench, then: Any) -> None:
    """What a rule does not know of may change what its node says. Raises: Rejected."""
    node, kept = bench.node, bench.node in bench.nodes
    known = set(then.attributes) if kept and then is not None else bench.read
    unread = sorted({one.name for one in node.attribute} - known)
    most = then.max_input if kept and then is not None else len(node.input)
    if unread or len(node.input) > most:
        raise bench.refuse(f"{', '.join(unread) or 'an input'} has no older form")


def _without_new(bench: Bench, now: Any, then: Any) -> None:
    """Attributes that are new go where they say no more than their default.

    Raises: Rejected.
    """
    for one in list(bench.node.attribute):
        if one.name in then.attributes:
            continue
        known = now.attributes.get(one.name)
        default = helper.get_attribute_value(known.default_value) if _has(known) else None
        value = helper.get_attribute_value(one)
        if value != default and value not in (0, b""):
            raise bench.refuse(f"{one.name} = {value!r:.40} is of opset {now.since_version}")
        bench.unsay(one.name)
    if len(bench.node.input) > then.max_input:
        raise bench.refuse(f"it has inputs of opset {now.since_version}")
    bench.keep()


def _has(attribute: Any) -> bool:
    return attribute is not None and attribute.default_value.type != 0


def _raised(model: Any, had: int) -> Any:
    """Raises: Rejected."""
    try:
        return version_converter.convert_version(model, NEWEST)
    except (RuntimeError, ValueError, version_converter.ConvertError) as error:
        raise Rejected(
            f"pack model: opset {had}: expected at least {OLDEST}, and there is no way up: "
            f"{_brief(error)}",
            hint=HINT,
        ) from error


def _brief(error: Exception) -> str:
    """What the vendor says, without the place in its source."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rpartition("failed: ")[2][:200]
