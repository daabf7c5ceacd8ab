"""Which axis of an output is which, and the outputs in the order that their decoder reads.

Exports differ in axes that mean nothing: channels last, a trailing 1x1, no batch. What the sizes
tell beyond doubt is turned inside the graph; what they contradict is refused with the way out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from edge_agent.core.decode import BESIDE, classes_named, features_first, grid_fault, shape_fault
from edge_agent.core.errors import Rejected
from edge_agent.core.manifest import HeadSpec
from tools.hot_tier.packing import sessions, ways_out
from tools.hot_tier.packing.shaping import Picture, rename
from tools.hot_tier.packing.wish import Wish

PREFIX = "edge_output_"
RANKS = {
    "boxes": (3, 2, 2),
    "yolo": (3,),
    "yolo_objectness": (3,),
    "yolox": (3,),
    "yolo_e2e": (3,),
    "detr": (3, 3),
    "probs": (2,),
    "mask_sigmoid": (4,),
    "mask_softmax": (4,),
    "mask_argmax": (3,),
    "heatmaps": (4,),
}
RASTERS = ("mask_sigmoid", "mask_softmax", "mask_argmax", "heatmaps")

NUMBERS = {
    getattr(TensorProto, name)
    for name in ("FLOAT", "FLOAT16", "DOUBLE", "BOOL", "INT8", "INT16", "INT32", "INT64")
} | {getattr(TensorProto, name) for name in ("UINT8", "UINT16", "UINT32", "UINT64")}

Shape = tuple[int, ...]


class Plan(NamedTuple):
    """What an output becomes. before, after: its shape. is_last: its channels come last.

    free: the axis of `after` whose size differs from run to run.
    """

    before: Shape
    after: Shape
    is_last: bool = False
    free: int | None = None


class Sizes(NamedTuple):
    """An output's shape, and which of its axes the file leaves open."""

    shape: Shape
    is_open: tuple[bool, ...]


def plan_outputs(model: Any, wish: Wish, picture: Picture) -> dict[str, Plan]:
    """For each output that a head reads.

    Raises: Rejected where the sizes contradict the decoder or the labels.
    """
    _refuse_no_numbers(model, wish)
    shapes = _shapes(model, wish, picture)
    fed_back = {state.output for state in wish.states}
    plans: dict[str, Plan] = {}
    for head in wish.heads:
        ranks = RANKS.get(head.decoder, ())
        for name, rank in zip(head.outputs, ranks, strict=False):
            if name not in fed_back and name not in plans:
                plans[name] = plan_one(head, name, shapes[name], rank, picture.spec.size)
    plans = {name: Plan(one.shape, one.shape) for name, one in shapes.items()} | plans
    for head in wish.heads:
        refuse_shapes(head, [plans[name].after for name in head.outputs], picture.spec.size)
    return plans


def _refuse_no_numbers(model: Any, wish: Wish) -> None:
    """Text, sequences and optionals, which no decoder reads.

    Raises: Rejected.
    """
    read = {name: head for head in wish.heads for name in head.outputs}
    for port in model.graph.output:
        kind = port.type.tensor_type.elem_type if port.type.HasField("tensor_type") else 0
        if port.name in read and kind not in NUMBERS:
            raise Rejected(
                f"look at the outputs: head {read[port.name].name}: output {port.name} is a "
                f"{port.type.WhichOneof('value') or 'value of no type'} and no tensor of numbers",
                hint="name an output that is a tensor; out of a sequence SequenceAt takes one in "
                "the graph, out of an optional OptionalGetElement",
            )


def _shapes(model: Any, wish: Wish, picture: Picture) -> dict[str, Sizes]:
    """As the file says them, and as a run on black does where it does not."""
    said: dict[str, Sizes] = {}
    for one in model.graph.output:
        kind = one.type.tensor_type
        sizes = tuple(dim.dim_value for dim in kind.shape.dim)
        if sizes:  # none: a lone number, or that nobody has said any
            said[one.name] = Sizes(sizes, tuple(not size for size in sizes))
    wanted = {name for head in wish.heads for name in head.outputs}
    if all(name in said and all(said[name].shape) for name in wanted):
        return said
    width, height = picture.spec.size
    deep = picture.spec.channels
    black = (1, height, width, deep) if picture.spec.layout == "nhwc" else (1, deep, height, width)
    fed = sessions.by_hand(np.zeros(black, np.uint8), picture, wish.foreign)
    run = sessions.Plain(model.SerializeToString(), wish.states).run(picture.name, fed)
    return {name: _measured(said.get(name), array.shape) for name, array in run.items()}


def _measured(said: Sizes | None, shape: Shape) -> Sizes:
    if said is None or len(said.shape) != len(shape):
        return Sizes(shape, (True,) * len(shape))
    return Sizes(shape, said.is_open)


def plan_one(head: HeadSpec, name: str, sizes: Sizes, rank: int, size: tuple[int, int]) -> Plan:
    """Raises: Rejected."""
    if head.decoder in RASTERS:
        return _raster(head, name, sizes.shape, rank, size)
    return _without_ones(sizes, rank)


def _without_ones(sizes: Sizes, rank: int) -> Plan:
    """Sizes of 1 that only fill axes go, last ones first; a batch that is missing comes."""
    left = list(zip(*sizes, strict=True))
    while len(left) > rank and left[-1][0] == 1:
        left.pop()
    while len(left) > rank and left[1][0] == 1:
        del left[1]
    if len(left) == rank - 1:
        left.insert(0, (1, False))
    if rank == 2 and len(left) == 2 and left[1][0] == 1 != left[0][0]:
        left.reverse()
    free = next((index for index, (_, is_open) in enumerate(left) if index and is_open), None)
    return Plan(sizes.shape, tuple(size for size, _ in left), free=free)


def _raster(head: HeadSpec, name: str, shape: Shape, rank: int, size: tuple[int, int]) -> Plan:
    """[1, C, H, W], whatever came. Raises: Rejected."""
    sizes = list(shape)
    while len(sizes) > 4 and sizes[-1] == 1:
        sizes.pop()
    if len(sizes) == rank - 1:
        sizes.insert(0, 1)
    given = tuple(sizes)
    if len(given) == 3:  # of mask_argmax
        _refuse_proportions(head, name, shape, [given[1:]], size)
        return Plan(shape, given)
    if len(given) != 4:
        return Plan(shape, given)
    first, last = given[2:], given[1:3]
    _refuse_proportions(head, name, shape, [first, last], size)
    fits = [_in_proportion(one, size) for one in (first, last)]
    if all(fits):
        wanted = 1 if head.decoder == "mask_argmax" else classes_named(head)
        if given[1] == given[3] == wanted > 1:
            raise Rejected(
                f"look at the outputs: head {head.name}: output {name} {list(shape)}: each axis "
                f"may be that of the {wanted} classes",
                hint="export or resize it to another H and W, so that the classes are told apart",
            )
        fits[1] = given[1] != wanted and given[3] == wanted
    if not fits[1]:
        return Plan(shape, given)
    return Plan(shape, (given[0], given[3], given[1], given[2]), is_last=True)


def _in_proportion(raster: Sequence[int], size: tuple[int, int]) -> bool:
    """[H, W] of the whole input, but for less than one pixel of rounding."""
    return abs(raster[0] * size[0] - raster[1] * size[1]) < max(size)


def _refuse_proportions(
    head: HeadSpec, name: str, shape: Shape, rasters: list[Shape], size: tuple[int, int]
) -> None:
    """Raises: Rejected."""
    if any(_in_proportion(one, size) for one in rasters):
        return
    raise Rejected(
        f"look at the outputs: head {head.name}: output {name} {list(shape)}: decoder "
        f"{head.decoder} expects H and W in proportion to the input's {size[1]} and {size[0]}",
        hint="export the axes as [1, C, H, W] or [1, H, W, C], for the whole input, or resize it "
        "in the graph",
    )


def refuse_shapes(head: HeadSpec, shapes: list[Shape], size: tuple[int, int]) -> None:
    """Raises: Rejected: a shape that the decoder does not read, classes that are not the labels."""
    fault = shape_fault(head, dict(zip(head.outputs, shapes, strict=True)))
    if not fault:
        _refuse_unknown_order(head)
    if not fault and head.decoder == "yolox":
        first = features_first(head, shapes[0])
        fault = grid_fault(head, shapes[0][2 if first else 1], size)
    if fault:
        raise Rejected(fault, hint=ways_out.of_shape(head, shapes, size))
    count = class_count(head, {head.outputs[0]: shapes[0]})
    if count == 1 and head.decoder == "mask_softmax":
        raise Rejected(
            f"look at the outputs: head {head.name}: decoder mask_softmax expects a channel per "
            f"class, the background too, got one in {list(shapes[0])}",
            hint='one channel of logits is decoder = "mask_sigmoid"',
        )
    if count and head.labels and count != classes_named(head):
        raise Rejected(
            f"look at the outputs: head {head.name}: decoder {head.decoder} reads {count} classes "
            f"from {list(shapes[0])}, its labels name {classes_named(head)}",
            hint=ways_out.of_classes(head, count, shapes, size),
        )


def _refuse_unknown_order(head: HeadSpec) -> None:
    """Corners look alike in either order, so the name that TensorFlow gives has to tell it.

    Raises: Rejected.
    """
    if head.decoder != "boxes" or head.columns or not ways_out.of_tensorflow(head.outputs):
        return
    raise Rejected(
        f"look at the outputs: head {head.name}: decoder boxes expects x0 y0 x1 y1, output "
        f"{head.outputs[0]} is named as TensorFlow names its y0 x0 y1 x1",
        hint=ways_out.TENSORFLOW,
    )


def class_count(head: HeadSpec, shapes: Mapping[str, Sequence[int]]) -> int:
    """How many classes the outputs have; 0 where their shape does not tell."""
    shape = shapes[head.outputs[0]]
    if head.decoder in BESIDE:
        return int(shape[1 if features_first(head, shape) else 2]) - BESIDE[head.decoder]
    if head.decoder == "detr":
        return int(shape[2])
    of_channels = {"mask_sigmoid", "mask_softmax", "probs", "heatmaps"}
    return int(shape[1]) if head.decoder in of_channels else 0


def put_behind(model: Any, plans: Mapping[str, Plan], did: list[str]) -> None:
    """Turns and shapes in the graph what is not yet as its decoder reads it."""
    for name, plan in plans.items():
        if plan.before != plan.after:
            _put_behind(model, name, plan)
            turned = "channels last -> first, " if plan.is_last else ""
            did.append(f"output {name}: {turned}{list(plan.before)} -> {list(plan.after)}")


def _put_behind(model: Any, name: str, plan: Plan) -> None:
    graph, inner = model.graph, f"{PREFIX}{name}"
    (port,) = [one for one in graph.output if one.name == name]
    rename(model, name, inner)
    port.name = name
    last = inner
    if plan.is_last:
        shape = (plan.after[0], *plan.after[2:], plan.after[1])
        last = _shaped(graph, last, shape, f"{inner}_rows") if shape != plan.before else last
        graph.node.append(helper.make_node("Transpose", [last], [name], perm=[0, 3, 1, 2]))
    else:
        _shaped(graph, last, plan.after, name, plan.free)
    kind = port.type.tensor_type
    kind.shape.Clear()
    for axis, size in enumerate(plan.after):
        dim = kind.shape.dim.add()
        if axis != plan.free:
            dim.dim_value = size


def _shaped(graph: Any, name: str, shape: Shape, out: str, free: int | None = None) -> str:
    """free: an axis that is left to the runtime."""
    wanted = [-1 if axis == free else size for axis, size in enumerate(shape)]
    constant = f"{PREFIX}{len(graph.node)}_shape"
    graph.initializer.append(numpy_helper.from_array(np.array(wanted, np.int64), constant))
    graph.node.append(helper.make_node("Reshape", [name, constant], [out]))
    return out
