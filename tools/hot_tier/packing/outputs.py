"""Which outputs stay, and in the form that their decoder reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_agent.core.errors import Rejected
from tools.hot_tier.packing.arranging import Plan
from tools.hot_tier.packing.certainty import COUNTED, may_count
from tools.hot_tier.packing.shaping import rename
from tools.hot_tier.packing.wish import Wish

# Decoders that take logits, and the operator that would have been applied to them already.
SQUASHED = {"mask_sigmoid": "Sigmoid", "mask_softmax": "Softmax", "detr": "Sigmoid"}


def keep_outputs(model: Any, wish: Wish, did: list[str], *, counts: bool = False) -> None:
    """Leaves out what no head and no state reads, and the nodes that only it needs.

    counts: what may say how many rows there are stays, to be held against them.

    Raises: Rejected when an output is missing.
    """
    wanted = {name for head in wish.heads for name in head.outputs}
    wanted |= {state.output for state in wish.states}
    there = [one.name for one in model.graph.output]
    missing = sorted(wanted - set(there))
    if missing:
        raise Rejected(
            f"pack model: expected outputs {missing}, the file has {there}",
            hint="correct outputs of [[heads]] in the pack manifest",
        )
    if counts and any(head.decoder in COUNTED for head in wish.heads):
        wanted |= {name for name in there if may_count(name)}
    kept = [one for one in model.graph.output if one.name in wanted]
    left_out = [name for name in there if name not in wanted]
    if left_out:
        del model.graph.output[:]
        model.graph.output.extend(kept)
        did.append(f"outputs that no head reads left out: {', '.join(left_out)}")
    _drop_dead(model.graph)


def reads(node: Any) -> set[str]:
    """Everything that a node needs, also inside its branches."""
    names = {name for name in node.input if name}
    for attribute in node.attribute:
        inner = [attribute.g] if attribute.HasField("g") else []
        for graph in [*inner, *attribute.graphs]:
            made = {name for inside in graph.node for name in inside.output}
            made |= {one.name for one in [*graph.input, *graph.initializer]}
            wanted = {name for inside in graph.node for name in reads(inside)}
            wanted |= {one.name for one in graph.output}
            names |= wanted - made
    return names


def _drop_dead(graph: Any) -> None:
    needed = {one.name for one in graph.output}
    alive = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            alive.append(node)
            needed |= reads(node)
    replace(graph.node, list(reversed(alive)))
    replace(graph.initializer, [one for one in graph.initializer if one.name in needed])


def replace(field: Any, kept: list[Any]) -> None:
    """The content of a repeated field by another."""
    del field[:]
    field.extend(kept)


def unsquash(model: Any, wish: Wish, plans: Mapping[str, Plan], did: list[str]) -> None:
    """A last sigmoid or softmax goes where the decoder takes it by itself: logits come out."""
    graph = model.graph
    for head in wish.heads:
        name = head.outputs[0] if head.outputs else ""
        kind = SQUASHED.get(head.decoder)
        found = [one for one in graph.node if name in one.output and one.op_type == kind]
        if not found or any(name in reads(node) for node in graph.node) or _feeds(wish, name):
            continue
        (node,) = found
        inner = node.input[0]
        if not _over_classes(node, plans[name]) or inner in {one.name for one in graph.input}:
            continue
        replace(graph.node, [one for one in graph.node if one is not node])
        rename(model, inner, name)
        did.append(f"last {kind} of output {name} left out: decoder {head.decoder} takes logits")


def _feeds(wish: Wish, name: str) -> bool:
    return any(state.output == name for state in wish.states)


def _over_classes(node: Any, plan: Plan) -> bool:
    """A softmax over anything else is no probability of classes."""
    axis = next((one.i for one in node.attribute if one.name == "axis"), -1)
    rank = len(plan.before)
    channels = rank - 1 if plan.is_last else rank - 3
    return node.op_type != "Softmax" or axis % rank == channels
