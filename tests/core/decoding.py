"""Runs a head's arrays through a real model and the real backend, so that decoders read what
ONNX Runtime gives and not what a test imagines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edge_agent import backends
from edge_agent.core.manifest import HeadSpec
from tests.backends import graphs


def run_through(
    folder: Path, head: dict[str, Any], *arrays: NDArray[Any]
) -> tuple[HeadSpec, dict[str, NDArray[Any]]]:
    """The parsed head, and the outputs of a model that says these arrays."""
    graphs.says(folder, dict(zip(head["outputs"], arrays, strict=True)))
    graphs.check(folder)
    manifest = graphs.manifest(head)
    bound = backends.make("auto").load(folder, manifest).bind()
    bound.fill(graphs.gray(), (0, 0, 32, 24))
    return manifest.heads[0], dict(bound.run())
