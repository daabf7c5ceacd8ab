"""A foreign ONNX file, read with its bounds: no custom operators, no data from elsewhere.

Nothing here runs the model. What is read is in memory whole, external data included.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from onnx import external_data_helper, inliner

from edge_agent.core.errors import Rejected

MAX_NODES = 200_000
PLAIN = ("", "ai.onnx")  # domains of operators that every runtime has


def read_model(path: Path, limit_bytes: int) -> Any:
    """The model, its local functions inlined.

    Raises: Rejected.
    """
    _check_size(path.name, _size(path), limit_bytes)
    try:
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, OSError, ValueError) as error:
        raise Rejected(
            f"read model {path.name}: expected an ONNX file, got {str(error)[:200]}",
            hint="export it again",
        ) from error
    if not model.graph.node or not model.opset_import:
        raise Rejected(
            f"read model {path.name}: expected a graph with operators, got none",
            hint="export it again",
        )
    if not all(isinstance(name, str) for name in _names(model)):
        raise Rejected(
            f"read model {path.name}: expected names in UTF-8, got others",
            hint="the file is damaged: export it again",
        )
    _take_external(model, path, limit_bytes)
    if model.functions:
        model = _inlined(path.name, model)
    _check_operators(path.name, model)
    return model


def graphs(graph: Any) -> Iterator[Any]:
    """The graph and every graph inside it, of branches and loops."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            inner = [attribute.g] if attribute.HasField("g") else []
            for one in [*inner, *attribute.graphs]:
                yield from graphs(one)


def _names(model: Any) -> Iterator[Any]:
    """Every name that is read below; such as are no text come as bytes."""
    for graph in graphs(model.graph):
        for node in graph.node:
            yield from (node.op_type, node.domain, node.name, *node.input, *node.output)
            yield from (one.name for one in node.attribute)
        for one in [*graph.input, *graph.output, *graph.initializer, *graph.value_info]:
            yield one.name
    yield from (one.domain for one in model.opset_import)


def _inlined(name: str, model: Any) -> Any:
    """Raises: Rejected."""
    try:
        return inliner.inline_local_functions(model)
    except (RuntimeError, ValueError) as error:
        raise Rejected(
            f"read model {name}: its functions: {str(error)[:200]}",
            hint="export the model without functions",
        ) from error


def _tensors(model: Any) -> Iterator[Any]:
    for graph in graphs(model.graph):
        yield from graph.initializer
        for node in graph.node:
            for attribute in node.attribute:
                yield from [attribute.t] if attribute.HasField("t") else []
                yield from attribute.tensors


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise Rejected(f"read model {path.name}: {error.strerror}") from error


def _check_size(name: str, size_bytes: int, limit_bytes: int) -> None:
    if size_bytes > limit_bytes:
        raise Rejected(
            f"read model {name}: expected at most {limit_bytes} bytes, got {size_bytes}",
            hint="export a smaller model, or raise --limit-mb",
        )


def _take_external(model: Any, path: Path, limit_bytes: int) -> None:
    """Loads tensors that lie in files beside the model. Raises: Rejected."""
    folder = path.parent.resolve()
    outside = [tensor for tensor in _tensors(model) if tensor.data_location == tensor.EXTERNAL]
    files = set()
    for tensor in outside:
        place = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        file = (folder / place).resolve()
        if not place or not file.is_relative_to(folder) or file == folder:
            raise Rejected(
                f"read model {path.name}: tensor {tensor.name}: its data lies in {place!r}, "
                "expected a file in the folder of the model",
                hint="export the model as one file, or put its data beside it",
            )
        files.add(file)
    _check_size(path.name, _size(path) + sum(_size(file) for file in files), limit_bytes)
    if outside:
        try:
            external_data_helper.load_external_data_for_model(model, str(folder))
        except (onnx.checker.ValidationError, OSError, ValueError) as error:
            raise Rejected(
                f"read model {path.name}: its external data: {str(error)[:200]}",
                hint="export the model again as one file",
            ) from error


def _check_operators(name: str, model: Any) -> None:
    """Raises: Rejected."""
    opset = min(opset_of(model), onnx.defs.onnx_opset_version())
    custom = set()
    count = 0
    for graph in graphs(model.graph):
        count += len(graph.node)
        for node in graph.node:
            if node.domain not in PLAIN:
                custom.add(f"{node.domain}::{node.op_type}")
            elif not onnx.defs.has(node.op_type, opset):
                custom.add(node.op_type)
    if custom:
        raise Rejected(
            f"read model {name}: expected operators of ONNX alone, got {sorted(custom)[:8]}",
            hint="export it without custom operators; what they do goes into plain ones",
        )
    if count > MAX_NODES:
        raise Rejected(f"read model {name}: expected at most {MAX_NODES} nodes, got {count}")


def opset_of(model: Any) -> int:
    """Of ONNX's own operators."""
    return max((int(one.version) for one in model.opset_import if one.domain in PLAIN), default=1)
