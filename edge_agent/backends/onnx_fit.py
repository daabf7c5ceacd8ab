"""Compares what a loaded ONNX graph has with what its manifest says. Pure: names, types, shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from edge_agent.core.decode import check_shapes
from edge_agent.core.errors import Rejected
from edge_agent.core.manifest import Manifest, StateSpec

DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}
RETYPE_HINT = "put the cast into the graph, or correct [input] in the manifest"


class Port(NamedTuple):
    """An input or output of a graph. shape: None where only a run tells."""

    name: str
    kind: str  # as ONNX Runtime says: tensor(float)
    shape: tuple[int | None, ...]


def ports_of(nodes: Sequence[Any]) -> list[Port]:
    """From the vendor's descriptions; symbolic sizes become None."""
    return [
        Port(
            node.name,
            node.type,
            tuple(size if isinstance(size, int) and size > 0 else None for size in node.shape),
        )
        for node in nodes
    ]


def check_fit(
    title: str, manifest: Manifest, inputs: Sequence[Port], outputs: Sequence[Port]
) -> None:
    """`title` begins each message.

    Raises: Rejected.
    """
    given = {port.name: port for port in inputs}
    wanted = {manifest.input.name, *(state.input for state in manifest.states)}
    if set(given) != wanted:
        raise Rejected(
            f"{title}: expected inputs {sorted(wanted)}, got {sorted(given)}",
            hint="correct input.name and [[states]] in the manifest",
        )
    _check_input(title, manifest, given[manifest.input.name])
    results = {port.name: port for port in outputs}
    for port in outputs:
        if port.kind not in DTYPES:
            raise Rejected(
                f"{title}: output {port.name}: expected one of {sorted(DTYPES)}, got {port.kind}",
                hint="cast the output to float in the graph",
            )
    for state in manifest.states:
        _check_state(title, state, given[state.input], results.get(state.output))
    shapes = {name: port.shape for name, port in results.items()}
    for head in manifest.heads:
        try:
            check_shapes(head, shapes, manifest.input.size)
        except Rejected as error:
            raise Rejected(f"{title}: {error.what}", hint=error.hint) from error


def _check_input(title: str, manifest: Manifest, port: Port) -> None:
    spec = manifest.input
    width, height = spec.size
    shape = (
        (1, spec.channels, height, width)
        if spec.layout == "nchw"
        else (1, height, width, spec.channels)
    )
    if port.kind != "tensor(uint8)":
        raise Rejected(
            f"{title}: input {port.name}: expected tensor(uint8), got {port.kind}",
            hint=RETYPE_HINT,
        )
    fits = len(port.shape) == 4 and all(
        has is None or has == want for has, want in zip(port.shape, shape, strict=True)
    )
    if not fits:
        raise Rejected(
            f"{title}: input {port.name}: manifest says {spec.layout} {_shown(shape)}, "
            f"the file has {_shown(port.shape)}",
            hint="correct input.size, channels or layout in the manifest",
        )


def _check_state(title: str, state: StateSpec, into: Port, out: Port | None) -> None:
    if out is None:
        raise Rejected(
            f"{title}: state {state.input}: expected output {state.output}, the file has none",
            hint="correct [[states]] in the manifest",
        )
    static = None not in into.shape
    if not static or into.kind not in DTYPES or (into.kind, into.shape) != (out.kind, out.shape):
        raise Rejected(
            f"{title}: state {state.input} {into.kind} {_shown(into.shape)}: expected output "
            f"{state.output} of the same type and fixed shape, got {out.kind} {_shown(out.shape)}",
            hint="export the model with fixed shapes",
        )


def _shown(shape: Sequence[int | None]) -> str:
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"
