"""Which input is the picture, how large it is, and an opset that every runtime loads.

Changes a model in place, and says what it changed. What stays open is refused with the reason.
"""

from __future__ import annotations

from typing import Any

import msgspec
import onnx
from onnx import TensorProto

from edge_agent.core.errors import Rejected
from edge_agent.core.manifest import InputSpec
from tools.hot_tier.packing.reading import graphs
from tools.hot_tier.packing.wish import Order, Wish

KINDS = {
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float16",
    TensorProto.DOUBLE: "float64",
    TensorProto.UINT8: "uint8",
}


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """The foreign input. name: in the file. spec: what the package's input will be."""

    name: str
    kind: str
    channels: int
    order: Order
    layout: str
    spec: InputSpec


def settle(model: Any, wish: Wish, did: list[str]) -> Picture:
    """Finds the picture among the inputs and makes every size that follows from it fixed.

    Raises: Rejected.
    """
    _own_inputs(model)
    value = _picture(model, wish)
    kind = value.type.tensor_type.elem_type
    if kind not in KINDS:
        given = TensorProto.DataType.Name(kind).lower()
        raise Rejected(
            f"pack model: input {value.name}: expected one of {sorted(KINDS.values())}, "
            f"got {given}",
            hint="export the model with a float input",
        )
    sizes = dict(zip(wish.foreign.layout, _axes(value), strict=True))
    order = wish.foreign.order or ("gray" if sizes["c"].dim_value == 1 else "rgb")
    channels = 1 if order == "gray" else 3
    width, height = wish.input.size or (sizes["w"].dim_value, sizes["h"].dim_value)
    if not (width > 0 and height > 0):
        raise Rejected(
            f"pack model: input {value.name}: its width and height are not fixed in the file",
            hint="write size = [width, height] under [input]",
        )
    _fix(model, value, wish, {"n": 1, "c": channels, "h": height, "w": width}, did)
    _fix_states(model, wish, did)
    _infer(model)
    spec = InputSpec(
        name=wish.input.name or value.name,
        size=(width, height),
        channels=wish.input.channels or (1 if wish.input.order == "gray" else 3),
        order=wish.input.order,
        layout=wish.input.layout,
        fit=wish.input.fit,
        pad=wish.input.pad,
        place=wish.input.place,
        resample=wish.input.resample,
        region=wish.input.region,
    )
    return Picture(
        name=value.name,
        kind=KINDS[kind],
        channels=channels,
        order=order,
        layout=wish.foreign.layout,
        spec=spec,
    )


def written_input(spec: InputSpec) -> dict[str, Any]:
    """`[input]` of a package. What says nothing new to an older agent is left out."""
    fields: dict[str, Any] = msgspec.to_builtins(spec)
    for key in ("place", "resample"):
        if fields[key] == getattr(InputSpec(name="x", size=(1, 1)), key):
            del fields[key]
    return fields


def _own_inputs(model: Any) -> None:
    """Old files list their weights among the inputs."""
    weights = {one.name for one in model.graph.initializer}
    inputs = [one for one in model.graph.input if one.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(inputs)


def _picture(model: Any, wish: Wish) -> Any:
    """Raises: Rejected."""
    given = {one.name: one for one in model.graph.input}
    results = {one.name for one in model.graph.output}
    for state in wish.states:
        if state.input not in given or state.output not in results:
            raise Rejected(
                f"pack model: state {state.input} -> {state.output}: expected an input and an "
                f"output of the file, got inputs {sorted(given)} and outputs {sorted(results)}",
                hint="correct [[states]] in the pack manifest",
            )
    left = [name for name in given if name not in {state.input for state in wish.states}]
    if len(left) != 1:
        raise Rejected(
            f"pack model: expected one input beside {len(wish.states)} states, got {left}",
            hint="name what is fed back under [[states]]; an agent has nothing else to feed",
        )
    return given[left[0]]


def _axes(value: Any) -> list[Any]:
    """Raises: Rejected."""
    axes = list(value.type.tensor_type.shape.dim)
    if len(axes) != 4:
        raise Rejected(
            f"pack model: input {value.name}: expected 4 axes (a batch of one picture), "
            f"got {len(axes)}",
            hint="export the model for single pictures",
        )
    return axes


def _fix(model: Any, value: Any, wish: Wish, wanted: dict[str, int], did: list[str]) -> None:
    """Raises: Rejected."""
    hints = {
        "n": "export the model with a batch of 1 or of any size",
        "c": 'write order = "gray", "rgb" or "bgr" under [foreign], and check its layout',
        "h": "correct size under [input], and layout under [foreign]",
    }
    words = {"n": "batch", "c": "channels", "h": "height", "w": "width"}
    bound: dict[str, int] = {}
    for axis, dim in zip(wish.foreign.layout, _axes(value), strict=True):
        size = wanted[axis]
        if dim.dim_value > 0 and dim.dim_value != size:
            raise Rejected(
                f"pack model: input {value.name} ({wish.foreign.layout}): expected {words[axis]} "
                f"{size}, the file has {dim.dim_value}",
                hint=hints.get(axis, hints["h"]),
            )
        if dim.dim_value <= 0:
            did.append(f"{words[axis]} of input {value.name} fixed to {size}")
            if dim.dim_param:
                bound[dim.dim_param] = size
            dim.dim_value = size
    _bind(model, bound)


def _bind(model: Any, bound: dict[str, int]) -> None:
    """Puts numbers where inputs and outputs have names for sizes."""
    for value in [*model.graph.input, *model.graph.output]:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in bound:
                dim.dim_value = bound[dim.dim_param]


def _fix_states(model: Any, wish: Wish, did: list[str]) -> None:
    """A batch of states is one, as that of pictures. Raises: Rejected."""
    values = {one.name: one for one in [*model.graph.input, *model.graph.output]}
    for state in wish.states:
        into, out = values[state.input].type.tensor_type, values[state.output].type.tensor_type
        dims = into.shape.dim
        if len(dims) > 1 and dims[0].dim_value <= 0:
            dims[0].dim_value = 1
            did.append(f"batch of state {state.input} fixed to 1")
        if any(dim.dim_value <= 0 for dim in dims):
            raise Rejected(
                f"pack model: state {state.input}: its size is not fixed in the file",
                hint="export the model with fixed sizes",
            )
        out.shape.CopyFrom(into.shape)


def _infer(model: Any) -> None:
    """Sizes of everything between, as far as they can be told."""
    del model.graph.value_info[:]
    for value in model.graph.output:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_value <= 0:
                dim.Clear()
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
        raise Rejected(
            f"pack model: its shapes contradict each other: {str(error)[:200]}",
            hint="export the model again",
        ) from error
    model.CopyFrom(inferred)


def rename(model: Any, old: str, new: str) -> None:
    """Wherever a value is read or made."""
    for graph in graphs(model.graph):
        for names in [names for node in graph.node for names in (node.input, node.output)]:
            for index in [index for index, name in enumerate(names) if name == old]:
                names[index] = new
        for one in [*graph.value_info, *graph.output, *graph.initializer]:
            if one.name == old:
                one.name = new
